/*
 * Upscaling: a picture is resampled, then painted over at a low strength, so that the model adds the detail that a larger
 * picture lacks. A result beyond what the model works at is sampled in tiles of its native size (pipelines/tiles.h).
 */
#include <errno.h>
#include <math.h>

#include "daemon/engine/error.h"
#include "daemon/engine/geometry/enlarge.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"

#define SCALE_MAX  4.0
#define SIDE_MAX   16384		/* what plans can hold */
#define PIXELS_MAX (UINT64_C(32) << 20) /* of a result: about 3 GB while it is made */

static uint32_t scaled(uint32_t side, double scale)
{
	return (uint32_t)fmax(rint(side * scale), 1);
}

int sde_job_upscale_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	uint64_t width, height;

	if (!(job->scale >= 1 && job->scale <= SCALE_MAX))
		return sde_error_set(run->error, -EINVAL, "scale must be 1 to %g, not %g",
				     SCALE_MAX, job->scale);
	width = scaled(job->image->width, job->scale);
	height = scaled(job->image->height, job->scale);
	if (width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "scale %g makes a picture of %llu x %llu: at most %llu pixels "
				     "and %d a side can be made",
				     job->scale, (unsigned long long)width,
				     (unsigned long long)height, (unsigned long long)PIXELS_MAX,
				     SIDE_MAX);
	return 0;
}

/* The whole picture, at its own size where that is more than the model works at in one piece: then in tiles. */
static int plan_whole(struct sde_job_run *run, const struct sde_image *picture, double strength,
		      struct sde_inpaint_plan *ret_plan)
{
	const struct sde_selection all = {
		.rect = {0, 0, (int32_t)picture->width, (int32_t)picture->height}};
	struct sde_model_range range = sde_job_range(run->model);
	struct sde_inpaint_options options;

	sde_inpaint_options_init(&options);
	options.strength = strength;
	options.feather = 0;
	options.context = SDE_CONTEXT_IMAGE;
	options.fill = SDE_FILL_ORIGINAL;
	options.color_match = false;
	options.two_pass = false;
	run->tile = 0;
	if ((uint64_t)picture->width * picture->height > range.max_pixels ||
	    picture->width > range.max_side || picture->height > range.max_side) {
		range.min_side = range.multiple;
		range.min_pixels = 1;
		range.max_side = SIDE_MAX;
		range.max_pixels = UINT64_MAX;
		run->tile = run->model->info.native_size;
	}
	return sde_inpaint_plan_init(ret_plan, picture->width, picture->height, &all, &options,
				     &range, run->error);
}

int sde_job_upscale(struct sde_job_run *run, struct sde_layer *ret_layer)
{
	const struct sde_job *job = run->job;
	const uint32_t width = scaled(job->image->width, job->scale);
	const uint32_t height = scaled(job->image->height, job->scale);
	const bool paint = job->strength > 0;
	struct sde_layer painted = {0}, result = {0};
	struct sde_inpaint_plan plan;
	struct sde_image plain;
	int r;

	r = sde_enlarge(job->image, width, height,
			paint ? (uint32_t)sde_model_grain(run->model) : 1, &plain, run->error);
	if (r < 0)
		return r;
	if (!paint) {
		ret_layer->image = plain;
		return 0;
	}
	r = plan_whole(run, &plain, job->strength, &plan);
	if (r >= 0)
		r = sde_job_repaint(run, &plan, &plain, &painted);
	if (r >= 0)
		r = sde_enlarge_finish(&plain, &painted.image, width, height, &result.image,
				       run->error);
	sde_image_clear(&painted.image);
	sde_image_clear(&plain);
	if (r >= 0)
		*ret_layer = result;
	return r;
}
