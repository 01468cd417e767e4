/*
 * Regional prompts: where on a run's latents which prompt counts. The predictions of the prompts are blended (MultiDiffusion's
 * region control, Bar-Tal et al. 2023; ComfyUI's masked conditioning), not their attention: so every architecture takes
 * them, and a region's words cannot reach beyond it. The price is a call of the denoiser a region and step.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"

/* A part of the source, in its pixels. */
struct part {
	double x, y, width, height;
};

int sde_job_regions_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;

	if (job->n_regions > SDE_REGIONS_MAX)
		return sde_error_set(run->error, -EINVAL, "at most %d regions, not %zu",
				     SDE_REGIONS_MAX, job->n_regions);
	for (size_t i = 0; i < job->n_regions; i++) {
		const struct sde_region *region = &job->regions[i];

		if (!region->prompt)
			return sde_error_set(run->error, -EINVAL, "region %zu has no prompt", i);
		if (!(region->weight >= 0 && region->weight <= 1))
			return sde_error_set(run->error, -EINVAL,
					     "region %zu: weight must be 0 to 1, not %g", i,
					     region->weight);
		if (!region->mask && (region->width < 1 || region->height < 1))
			return sde_error_set(run->error, -EINVAL,
					     "region %zu is empty: it needs a mask or a rectangle",
					     i);
		if (region->mask && job->image &&
		    (region->mask->width != job->image->width ||
		     region->mask->height != job->image->height))
			return sde_error_set(run->error, -EINVAL,
					     "region %zu: its mask is %u x %u, the canvas %u x %u; "
					     "they must be of one size",
					     i, region->mask->width, region->mask->height,
					     job->image->width, job->image->height);
	}
	return job->n_regions == 0 || job->kind != SDE_OUTPAINT
		       ? 0
		       : sde_error_set(run->error, -EINVAL,
				       "outpaint jobs take no regions: the canvas grows in steps "
				       "of its own");
}

/* How much of the cell from `at` on, one wide, lies between from and end. */
static double covered(double from, double end, double at)
{
	return fmax(fmin(end, at + 1) - fmax(from, at), 0);
}

static void lay_rectangle(const struct sde_job *job, const struct sde_region *region,
			  const struct part *part, int h, int w, float *ret_weights)
{
	/* the source may be a piece of the canvas */
	const int from_x = region->x - (job->has_canvas ? job->canvas_x : 0);
	const int from_y = region->y - (job->has_canvas ? job->canvas_y : 0);
	const double sx = w / part->width, sy = h / part->height;
	const double x = (from_x - part->x) * sx, y = (from_y - part->y) * sy;
	const double right = x + region->width * sx, bottom = y + region->height * sy;

	for (int i = 0; i < h; i++)
		for (int k = 0; k < w; k++)
			*ret_weights++ = (float)(covered(y, bottom, i) * covered(x, right, k));
}

/* As a selection reads it: luma times alpha. */
static void read_mask_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct sde_image *mask = userdata;
	float rgba[4];

	for (uint32_t x = 0; x < mask->width; x++) {
		sde_row_to_rgba(mask, x, y, 1, rgba);
		ret_row[x] = (0.299f * rgba[0] + 0.587f * rgba[1] + 0.114f * rgba[2]) * rgba[3];
	}
}

static int lay_mask(struct sde_job_run *run, const struct sde_image *mask, const struct part *part,
		    int h, int w, float *ret_weights)
{
	/* without a canvas, all of a mask lies over all of the picture */
	const double sx = run->job->image ? 1 : mask->width / run->canvas_width;
	const double sy = run->job->image ? 1 : mask->height / run->canvas_height;
	const struct sde_box box = {
		fmin(fmax(part->x * sx, 0), mask->width - 1.0),
		fmin(fmax(part->y * sy, 0), mask->height - 1.0),
		fmin((part->x + part->width) * sx, mask->width),
		fmin((part->y + part->height) * sy, mask->height),
	};

	return sde_resize_rows(read_mask_row, (void *)mask, mask->width, mask->height, 1, &box,
			       (uint32_t)w, (uint32_t)h, SDE_FILTER_BILINEAR, ret_weights,
			       run->error);
}

int sde_job_regions(struct sde_job_run *run, const struct sde_rect *context, int h, int w,
		    float *ret_weights)
{
	const size_t cells = (size_t)h * (size_t)w, n = run->job->n_regions;
	struct part part = {0, 0, run->canvas_width, run->canvas_height};
	int r = 0;

	if (context)
		part = (struct part){context->x / run->canvas_scale, context->y / run->canvas_scale,
				     context->width / run->canvas_scale,
				     context->height / run->canvas_scale};
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const struct sde_region *region = &run->job->regions[i];
		float *weights = ret_weights + (i + 1) * cells;

		if (region->mask)
			r = lay_mask(run, region->mask, &part, h, w, weights);
		else
			lay_rectangle(run->job, region, &part, h, w, weights);
		for (size_t k = 0; k < cells; k++)
			weights[k] *= (float)region->weight;
	}
	/* the prompt has what regions leave; where they want more than there is, they share it */
	for (size_t k = 0; r >= 0 && k < cells; k++) {
		float sum = 0;

		for (size_t i = 1; i <= n; i++)
			sum += ret_weights[i * cells + k];
		ret_weights[k] = fmaxf(1 - sum, 0);
		for (size_t i = 1; sum > 1 && i <= n; i++)
			ret_weights[i * cells + k] /= sum;
	}
	return r;
}
