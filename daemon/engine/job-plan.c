/*
 * What a job does to a canvas, from its numbers alone: the way from a request's fields to the geometry engine's plans. Used
 * when the job runs, and before, by clients that want to send no more of a canvas than the job will look at.
 */
#include <errno.h>

#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/geometry/selection.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"

#define TRANSITIONS_PER_SIDE 16 /* 32 pixels of 512 */

/*
 * The least width of a transition suits models of 512 pixels and more; one of 128 would spend a quarter of its side on it.
 */
struct sde_inpaint_options sde_job_options(const struct sde_model *model, const struct sde_job *job)
{
	const uint32_t native = (uint32_t)model->info.native_size;
	struct sde_inpaint_options options;

	sde_inpaint_options_init(&options);
	if (options.min_transition > native / TRANSITIONS_PER_SIDE)
		options.min_transition = native / TRANSITIONS_PER_SIDE;
	options.strength = job->strength;
	if (job->feather >= 0)
		options.feather = job->feather;
	if (job->padding >= 0)
		options.padding = job->padding;
	if (job->grow >= 0)
		options.grow = (uint32_t)job->grow;
	options.color_match = job->color_match;
	options.context = job->context;
	options.rect = (struct sde_rect){job->context_x, job->context_y, job->context_width,
					 job->context_height};
	options.fill = job->fill;
	return options;
}

struct sde_model_range sde_job_range(const struct sde_model *model)
{
	struct sde_model_range range =
		sde_model_range((uint32_t)model->info.native_size, (uint32_t)model->info.min_side,
				(uint32_t)model->info.max_side);

	if ((uint32_t)sde_model_grain(model) > range.multiple)
		range.multiple = (uint32_t)sde_model_grain(model);
	return range;
}

/* For a repainted part, which tiles let be worked on at any size. */
static struct sde_model_range repaint_range(const struct sde_model *model,
					    const struct sde_job *job)
{
	return job->tiles == SDE_TILES_ON ? sde_job_any_range(model) : sde_job_range(model);
}

/* Where the job's picture lies, and how large the canvas is that it is of. */
static struct sde_rect area_of(const struct sde_job *job)
{
	return (struct sde_rect){job->has_canvas ? job->canvas_x : 0,
				 job->has_canvas ? job->canvas_y : 0, (int32_t)job->image->width,
				 (int32_t)job->image->height};
}

static void canvas_of(const struct sde_job *job, uint32_t *ret_width, uint32_t *ret_height)
{
	*ret_width = job->has_canvas ? (uint32_t)job->canvas_width : job->image->width;
	*ret_height = job->has_canvas ? (uint32_t)job->canvas_height : job->image->height;
}

static struct sde_rect select_of(const struct sde_job *job)
{
	return (struct sde_rect){job->select_x, job->select_y, job->select_width,
				 job->select_height};
}

/* The bounds of a mask that is as large as the job's picture, on the canvas. */
static int mask_bounds(const struct sde_job *job, struct sde_rect *ret_bounds,
		       struct sde_error *error)
{
	const struct sde_rect area = area_of(job);
	int r;

	r = sde_image_check(job->mask, "the mask", error);
	if (r < 0)
		return r;
	if (job->mask->width != job->image->width || job->mask->height != job->image->height)
		return sde_error_set(error, -EINVAL,
				     "the mask is %u x %u pixels and the image %u x %u: they must "
				     "be equal",
				     job->mask->width, job->mask->height, job->image->width,
				     job->image->height);
	r = sde_selection_bounds(job->mask, ret_bounds, error);
	ret_bounds->x += area.x;
	ret_bounds->y += area.y;
	return r;
}

int sde_job_plan_repaint(const struct sde_model *model, const struct sde_job *job,
			 struct sde_inpaint_plan *ret_plan, struct sde_error *error)
{
	const struct sde_model_range range = repaint_range(model, job);
	struct sde_inpaint_options options = sde_job_options(model, job);
	struct sde_selection selection = {.rect = select_of(job)};
	uint32_t width, height;
	int r = 0;

	canvas_of(job, &width, &height);
	if (job->kind == SDE_IMG2IMG) {
		/* the whole picture, without a transition to anything */
		selection.rect = (struct sde_rect){0, 0, (int32_t)width, (int32_t)height};
		options.feather = 0;
		options.context = SDE_CONTEXT_IMAGE;
		options.fill = SDE_FILL_ORIGINAL;
		options.color_match = false;
	} else if (job->mask) {
		r = mask_bounds(job, &selection.rect, error);
	} else if (!job->has_select) {
		return sde_error_set(error, -EINVAL,
				     "nothing is selected: give a mask or a rectangle");
	}
	if (r >= 0)
		r = sde_inpaint_plan_init(ret_plan, width, height, &selection, &options, &range,
					  error);
	if (r < 0)
		return r;
	ret_plan->selection.mask = job->kind == SDE_INPAINT ? job->mask : NULL;
	return sde_inpaint_plan_crop(ret_plan, area_of(job), error);
}

static int plan_growth(const struct sde_model *model, const struct sde_job *job, uint32_t width,
		       uint32_t height, struct sde_outpaint *ret_outpaint, struct sde_error *error)
{
	const struct sde_model_range range = sde_job_range(model);
	struct sde_outpaint_options grow = {0};

	if (job->left < 0 || job->right < 0 || job->top < 0 || job->bottom < 0)
		return sde_error_set(error, -EINVAL,
				     "left, right, top and bottom must not be negative");
	grow.left = (uint32_t)job->left;
	grow.right = (uint32_t)job->right;
	grow.top = (uint32_t)job->top;
	grow.bottom = (uint32_t)job->bottom;
	return sde_outpaint_init(ret_outpaint, width, height, &grow, &range, error);
}

int sde_job_plan_outpaint(const struct sde_model *model, const struct sde_job *job,
			  struct sde_outpaint *ret_outpaint, struct sde_image *ret_source,
			  struct sde_error *error)
{
	const struct sde_rect area = area_of(job);
	struct sde_outpaint outpaint;
	struct sde_rect needed;
	uint32_t width, height;
	int r;

	canvas_of(job, &width, &height);
	r = plan_growth(model, job, width, height, &outpaint, error);
	if (r < 0)
		return r;
	needed = outpaint.source;
	if (!sde_rect_contains(area, needed))
		r = sde_error_set(error, -EINVAL,
				  "the job needs the canvas' part %d,%d %d x %d, but the picture "
				  "holds only %d,%d %d x %d; job.plan says what is needed",
				  needed.x, needed.y, needed.width, needed.height, area.x, area.y,
				  area.width, area.height);
	needed.x -= area.x;
	needed.y -= area.y;
	if (r >= 0)
		r = sde_image_subview(job->image, needed, ret_source, error);
	if (r < 0) {
		sde_outpaint_clear(&outpaint);
		return r;
	}
	*ret_outpaint = outpaint;
	return 0;
}

static int area_of_repaint(const struct sde_model *model, const struct sde_job *job,
			   struct sde_job_area *ret_area, struct sde_error *error)
{
	const struct sde_model_range range = repaint_range(model, job);
	const struct sde_inpaint_options options = sde_job_options(model, job);
	const struct sde_selection selection = {.rect = select_of(job)};
	struct sde_inpaint_plan plan;
	int r;

	r = sde_inpaint_plan_init(&plan, (uint32_t)job->canvas_width, (uint32_t)job->canvas_height,
				  &selection, &options, &range, error);
	if (r < 0)
		return r;
	*ret_area = (struct sde_job_area){plan.context, plan.result, (int)plan.work_width,
					  (int)plan.work_height};
	return 0;
}

static int area_of_growth(const struct sde_model *model, const struct sde_job *job,
			  struct sde_job_area *ret_area, struct sde_error *error)
{
	const struct sde_model_range range = sde_job_range(model);
	const struct sde_inpaint_options options = sde_job_options(model, job);
	struct sde_outpaint outpaint;
	struct sde_inpaint_plan plan;
	int r;

	r = plan_growth(model, job, (uint32_t)job->canvas_width, (uint32_t)job->canvas_height,
			&outpaint, error);
	if (r < 0)
		return r;
	r = sde_outpaint_step_plan(&outpaint, 0, &options, &range, &plan, error);
	if (r >= 0) {
		*ret_area = (struct sde_job_area){outpaint.source, outpaint.box,
						  (int)plan.work_width, (int)plan.work_height};
		ret_area->result.x -= (int32_t)outpaint.left;
		ret_area->result.y -= (int32_t)outpaint.top;
	}
	sde_outpaint_clear(&outpaint);
	return r;
}

int sde_job_area(const char *path, const struct sde_job *job, struct sde_job_area *ret_area,
		 struct sde_error *ret_error)
{
	struct sde_model *model;
	int r;

	if (job->kind != SDE_INPAINT && job->kind != SDE_OUTPAINT)
		return sde_error_set(ret_error, -EINVAL,
				     "only inpaint and outpaint look at a part of the canvas");
	if (!(job->strength >= 0 && job->strength <= 1))
		return sde_error_set(ret_error, -EINVAL, "strength must be 0 to 1, not %g",
				     job->strength);
	r = sde_model_peek(path, &model, ret_error);
	if (r < 0)
		return r;
	r = job->kind == SDE_INPAINT ? area_of_repaint(model, job, ret_area, ret_error)
				     : area_of_growth(model, job, ret_area, ret_error);
	sde_model_unref(model);
	return r;
}
