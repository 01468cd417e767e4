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

static int check_size(const struct sde_job_run *run, const char *field, double scale,
		      uint32_t width, uint32_t height)
{
	const uint64_t to_width = scaled(width, scale), to_height = scaled(height, scale);

	if (to_width > SIDE_MAX || to_height > SIDE_MAX || to_width * to_height > PIXELS_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "%s %g makes a picture of %llu x %llu: at most %llu pixels "
				     "and %d a side can be made",
				     field, scale, (unsigned long long)to_width,
				     (unsigned long long)to_height, (unsigned long long)PIXELS_MAX,
				     SIDE_MAX);
	return 0;
}

int sde_job_upscale_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;

	if (!(job->scale >= 1 && job->scale <= SCALE_MAX))
		return sde_error_set(run->error, -EINVAL, "scale must be 1 to %g, not %g",
				     SCALE_MAX, job->scale);
	return check_size(run, "scale", job->scale, job->image->width, job->image->height);
}

int sde_job_hires_check(const struct sde_job_run *run)
{
	const int native = run->model->info.native_size;
	const struct sde_job *job = run->job;

	if (!(job->hires_scale <= SCALE_MAX))
		return sde_error_set(run->error, -EINVAL, "hires_scale must be 1 to %g, not %g",
				     SCALE_MAX, job->hires_scale);
	if (job->hires_scale <= 1)
		return 0;
	if (!(job->hires_strength >= 0 && job->hires_strength <= 1))
		return sde_error_set(run->error, -EINVAL, "hires_strength must be 0 to 1, not %g",
				     job->hires_strength);
	return check_size(run, "hires_scale", job->hires_scale,
			  (uint32_t)(job->width > 0 ? job->width : native),
			  (uint32_t)(job->height > 0 ? job->height : native));
}

struct sde_model_range sde_job_any_range(const struct sde_model *model)
{
	struct sde_model_range range = sde_job_range(model);

	range.max_side = SIDE_MAX;
	range.max_pixels = PIXELS_MAX * 2; /* with what padding adds */
	return range;
}

/* The whole picture, at its own size where that is more than the model works at in one piece. */
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
	run->whole_size = (uint64_t)picture->width * picture->height > range.max_pixels ||
			  picture->width > range.max_side || picture->height > range.max_side;
	if (run->whole_size) {
		range = sde_job_any_range(run->model);
		range.min_side = range.multiple;
		range.min_pixels = 1;
	}
	return sde_inpaint_plan_init(ret_plan, picture->width, picture->height, &all, &options,
				     &range, run->error);
}

static int enlarge(struct sde_job_run *run, const struct sde_image *picture, double scale,
		   double strength, struct sde_image *ret_image)
{
	const uint32_t width = scaled(picture->width, scale);
	const uint32_t height = scaled(picture->height, scale);
	const uint32_t grain = strength > 0 ? (uint32_t)sde_model_grain(run->model) : 1;
	struct sde_layer painted = {0};
	struct sde_inpaint_plan plan;
	struct sde_image plain;
	int r;

	r = sde_enlarge(picture, width, height, grain, &plain, run->error);
	if (r < 0)
		return r;
	if (strength <= 0) {
		*ret_image = plain;
		return 0;
	}
	run->canvas_scale = scale;
	r = plan_whole(run, &plain, strength, &plan);
	if (r >= 0)
		r = sde_job_repaint(run, &plan, &plain, &painted);
	if (r >= 0)
		r = sde_enlarge_finish(&plain, &painted.image, width, height, ret_image,
				       run->error);
	run->whole_size = false;
	run->canvas_scale = 1;
	sde_image_clear(&painted.image);
	sde_image_clear(&plain);
	return r;
}

int sde_job_upscale(struct sde_job_run *run, struct sde_layer *ret_layer)
{
	return enlarge(run, run->job->image, run->job->scale, run->job->strength,
		       &ret_layer->image);
}

int sde_job_hires(struct sde_job_run *run, struct sde_layer *layer)
{
	struct sde_image small = layer->image;
	int r;

	layer->image = (struct sde_image){0};
	r = enlarge(run, &small, run->job->hires_scale, run->job->hires_strength, &layer->image);
	sde_image_clear(&small);
	return r;
}
