/*
 * Denoise and composite mask: see masks.h. For a binary selection these are krita-ai-diffusion's: dilation by G and a
 * triangular blur of F; (denoise > 0), eroded by B/2 and blurred by a Gaussian of B. Grey dilation and erosion do the
 * same to every level of a soft selection, and the blurs average the levels; so 40 % selected stays 40 % changed.
 */
#include "daemon/engine/geometry/masks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/plane-filter.h"
#include "daemon/engine/geometry/selection.h"
#include "daemon/engine/pixels/resample.h"

#define OPAQUE	(1.0f - 1e-4f) /* rounding of the blurs' sums; far below one step of 8 bits */
#define RESIDUE 1e-12f	       /* what running sums leave of 0; the blur's own tail is kept */

/* Undo rounding, and hold the invariant that no mask is below the selection it came from. */
static int settle(const struct sde_inpaint_plan *plan, float *mask, float nothing,
		  struct sde_error *ret_error)
{
	const size_t count = (size_t)plan->result.width * (size_t)plan->result.height;
	float *selected = calloc(count, sizeof(*selected));

	if (!selected)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a mask of %d x %d pixels",
				     plan->result.width, plan->result.height);
	sde_selection_plane(&plan->selection, plan->result, selected);
	for (size_t i = 0; i < count; i++) {
		if (mask[i] < selected[i])
			mask[i] = selected[i];
		if (mask[i] > OPAQUE)
			mask[i] = 1.0f;
		else if (mask[i] <= nothing)
			mask[i] = 0.0f;
	}
	free(selected);
	return 0;
}

int sde_denoise_mask(const struct sde_inpaint_plan *plan, float *ret_mask,
		     struct sde_error *ret_error)
{
	const uint32_t width = (uint32_t)plan->result.width, height = (uint32_t)plan->result.height;
	int r;

	sde_selection_plane(&plan->selection, plan->result, ret_mask);
	if (plan->grow == 0 && plan->feather == 0)
		return 0;
	r = sde_plane_dilate(ret_mask, width, height, plan->grow, ret_error);
	if (r < 0)
		return r;
	r = sde_plane_blur_triangular(ret_mask, width, height, plan->feather / 2, ret_error);
	if (r < 0)
		return r;
	return settle(plan, ret_mask, RESIDUE, ret_error);
}

int sde_composite_mask(const struct sde_inpaint_plan *plan, float *ret_mask,
		       struct sde_error *ret_error)
{
	const uint32_t width = (uint32_t)plan->result.width, height = (uint32_t)plan->result.height;
	int r;

	sde_selection_plane(&plan->selection, plan->result, ret_mask);
	if (plan->grow == 0 && plan->feather == 0)
		return 0;
	r = sde_plane_dilate(ret_mask, width, height, plan->grow + plan->feather / 2, ret_error);
	if (r < 0)
		return r;
	r = sde_plane_erode(ret_mask, width, height, plan->blend / 2, ret_error);
	if (r < 0)
		return r;
	r = sde_plane_blur_gaussian(ret_mask, width, height, plan->blend / 2,
				    0.3 * ((double)plan->blend - 1) + 0.8, ret_error);
	if (r < 0)
		return r;
	return settle(plan, ret_mask, SDE_SELECTED, ret_error);
}

struct context_rows {
	const struct sde_inpaint_plan *plan;
	const float *mask;
};

/* A row of the context: the mask inside the result, 0 around it. */
static void read_context_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct context_rows *rows = userdata;
	const struct sde_rect context = rows->plan->context, result = rows->plan->result;
	const int32_t line = (int32_t)y + context.y - result.y;

	memset(ret_row, 0, (size_t)context.width * sizeof(*ret_row));
	if (line < 0 || line >= result.height)
		return;
	memcpy(ret_row + (result.x - context.x), rows->mask + (size_t)line * (size_t)result.width,
	       (size_t)result.width * sizeof(*ret_row));
}

int sde_denoise_mask_scaled(const struct sde_inpaint_plan *plan, uint32_t width, uint32_t height,
			    float *ret_mask, struct sde_error *ret_error)
{
	float *mask =
		calloc((size_t)plan->result.width * (size_t)plan->result.height, sizeof(*mask));
	struct context_rows rows = {plan, mask};
	int r;

	if (!mask)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a mask of %d x %d pixels",
				     plan->result.width, plan->result.height);
	r = sde_denoise_mask(plan, mask, ret_error);
	if (r == 0)
		r = sde_resize_rows(read_context_row, &rows, (uint32_t)plan->context.width,
				    (uint32_t)plan->context.height, 1, NULL, width, height,
				    SDE_FILTER_BILINEAR, ret_mask, ret_error);
	free(mask);
	for (size_t i = 0; r == 0 && i < (size_t)width * height; i++)
		if (ret_mask[i] > 0.99f)
			ret_mask[i] = 1.0f;
	return r;
}
