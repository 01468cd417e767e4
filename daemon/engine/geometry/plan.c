/*
 * From a selection to rectangles and sizes: see plan.h. Only arithmetic, apart from reading the mask once to find its
 * bounds. Every constant of krita-ai-diffusion that is a share of SD 1.5's 512 px is written as a share of the model's
 * own side, so that a model of another size gets the same picture in proportion.
 */
#include "daemon/engine/geometry/plan.h"

#include <errno.h>
#include <math.h>

#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/geometry/selection.h"

#define REFINE_STRENGTH	 0.4
#define REFINE_MIN_SCALE 1.25 /* a second pass for less is not worth its time */
#define REFINE_MAX_SCALE 2.0  /* beyond, memory and time grow out of proportion */

struct sde_model_range sde_model_range(uint32_t native, uint32_t min_side, uint32_t max_side)
{
	const uint32_t most = max_side ? max_side : native + native / 2;

	return (struct sde_model_range){
		.min_side = min_side ? min_side : native,
		.max_side = most,
		.min_pixels = (uint64_t)native * native,
		.max_pixels = (uint64_t)native * (most > native ? most : native),
		.multiple = 8,
	};
}

void sde_inpaint_options_init(struct sde_inpaint_options *options)
{
	*options = (struct sde_inpaint_options){
		.strength = 1.0,
		.feather = 0.10,
		.padding = 0.06,
		.min_transition = 32,
		.grow = 4,
		.blend = 25,
		.color_match = true,
		.two_pass = true,
	};
}

static int check_options(const struct sde_inpaint_options *o, const struct sde_model_range *range,
			 struct sde_error *ret_error)
{
	if (!(o->strength >= 0 && o->strength <= 1))
		return sde_error_set(ret_error, -EINVAL, "strength is %g: it must be 0 to 1",
				     o->strength);
	if (!(o->feather >= 0 && o->feather <= 1) || !(o->padding >= 0 && o->padding <= 1))
		return sde_error_set(ret_error, -EINVAL,
				     "feather is %g and padding %g: both must be 0 to 1",
				     o->feather, o->padding);
	if (o->grow > 4096 || o->min_transition > 4096 || o->blend > 4096)
		return sde_error_set(ret_error, -EINVAL,
				     "grow, transition and blend may be at most 4096 pixels");
	if (o->context < SDE_CONTEXT_AUTO || o->context > SDE_CONTEXT_RECT)
		return sde_error_set(ret_error, -EINVAL, "there is no context mode %d",
				     (int)o->context);
	if (o->fill < SDE_FILL_AUTO || o->fill > SDE_FILL_ORIGINAL)
		return sde_error_set(ret_error, -EINVAL, "there is no fill mode %d", (int)o->fill);
	if (range->multiple == 0 || range->min_side < range->multiple ||
	    range->max_side < range->min_side || range->max_side > 16384 ||
	    range->max_pixels < range->min_pixels ||
	    range->max_pixels < (uint64_t)range->multiple * range->multiple)
		return sde_error_set(
			ret_error, -EINVAL,
			"a model range of %u to %u pixels in steps of %u is not possible",
			range->min_side, range->max_side, range->multiple);
	return 0;
}

/* Fill plan->selection; its rect becomes the bounds of what is selected inside the canvas. */
static int find_selection(struct sde_inpaint_plan *plan, const struct sde_selection *selection,
			  struct sde_error *ret_error)
{
	const struct sde_rect canvas = {0, 0, (int32_t)plan->canvas_width,
					(int32_t)plan->canvas_height};
	int r;

	plan->selection = *selection;
	if (selection->mask) {
		r = sde_image_check(selection->mask, "the mask", ret_error);
		if (r < 0)
			return r;
		if (selection->mask->width != plan->canvas_width ||
		    selection->mask->height != plan->canvas_height)
			return sde_error_set(ret_error, -EINVAL,
					     "the mask is %u x %u pixels and the canvas %u x %u: "
					     "they must be equal",
					     selection->mask->width, selection->mask->height,
					     plan->canvas_width, plan->canvas_height);
		return sde_selection_bounds(selection->mask, &plan->selection.rect, ret_error);
	}
	if (sde_rect_empty(selection->rect))
		return sde_error_set(
			ret_error, -EINVAL,
			"nothing is selected: the rectangle is %d x %d pixels, both sides "
			"must be at least 1",
			selection->rect.width, selection->rect.height);
	plan->selection.rect = sde_rect_intersect(selection->rect, canvas);
	if (sde_rect_empty(plan->selection.rect))
		return sde_error_set(ret_error, -EINVAL,
				     "nothing is selected: the rectangle %d,%d %d x %d lies wholly "
				     "outside the canvas of %u x %u pixels",
				     selection->rect.x, selection->rect.y, selection->rect.width,
				     selection->rect.height, plan->canvas_width,
				     plan->canvas_height);
	return 0;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* F, G, B and the bounds of the mask, from the formulas. */
static struct sde_rect find_transition(struct sde_inpaint_plan *plan,
				       const struct sde_inpaint_options *o,
				       const struct sde_model_range *range)
{
	const struct sde_rect sel = plan->selection.rect;
	const double diagonal = hypot(sel.width, sel.height);
	const uint32_t feather = max_u32((uint32_t)(o->feather * o->strength * diagonal),
					 (uint32_t)rint(o->min_transition * o->strength));
	const uint32_t pad = feather + o->grow + (uint32_t)(o->padding * diagonal);
	const uint32_t least = o->live ? range->min_side : range->min_side / 2;

	if (o->feather > 0) {
		plan->feather = feather;
		plan->grow = o->grow + feather / 2;
		plan->blend = min_u32(o->blend, plan->grow + feather / 2);
	}
	return sde_rect_clamp(sde_rect_pad(sel, (int32_t)pad, (int32_t)pad, (int32_t)least, 16),
			      plan->canvas_width, plan->canvas_height);
}

/*
 * What the model sees around the mask bounds when it invents everything (strength 1). The share of the canvas' side is
 * limited to the model's own side: else a small model would see a small selection on a huge canvas as a speck.
 */
static struct sde_rect surroundings(const struct sde_inpaint_plan *plan, struct sde_rect bounds,
				    const struct sde_model_range *range)
{
	const int32_t share = (int32_t)min_u32(
		max_u32(plan->canvas_width, plan->canvas_height) / 16, range->min_side);
	const int32_t average = (bounds.width + bounds.height) / 2;
	const int32_t pad = share > average / 2 ? share : average / 2;
	int32_t pad_x = pad, pad_y = pad;

	if (bounds.width > bounds.height) {
		pad_x = pad - (bounds.width - bounds.height) / 2;
		pad_x = pad_x > pad / 2 ? pad_x : pad / 2;
	} else {
		pad_y = pad - (bounds.height - bounds.width) / 2;
		pad_y = pad_y > pad / 2 ? pad_y : pad / 2;
	}
	return sde_rect_clamp(sde_rect_pad(bounds, pad_x, pad_y, (int32_t)range->min_side,
					   (int32_t)range->multiple),
			      plan->canvas_width, plan->canvas_height);
}

static int find_context(struct sde_inpaint_plan *plan, struct sde_rect bounds,
			const struct sde_inpaint_options *o, const struct sde_model_range *range,
			struct sde_error *ret_error)
{
	const struct sde_rect canvas = {0, 0, (int32_t)plan->canvas_width,
					(int32_t)plan->canvas_height};
	const struct sde_rect sel = plan->selection.rect;

	switch (o->context) {
	case SDE_CONTEXT_AUTO:
		plan->context = o->strength < 1 ? bounds : surroundings(plan, bounds, range);
		break;
	case SDE_CONTEXT_SELECTION:
		plan->context = bounds;
		break;
	case SDE_CONTEXT_IMAGE:
		plan->context = canvas;
		break;
	case SDE_CONTEXT_RECT:
		plan->context = sde_rect_intersect(o->rect, canvas);
		if (sde_rect_empty(plan->context) || !sde_rect_contains(plan->context, sel))
			return sde_error_set(ret_error, -EINVAL,
					     "the context rectangle %d,%d %d x %d does not hold "
					     "the selection: it "
					     "must contain %d,%d %d x %d",
					     o->rect.x, o->rect.y, o->rect.width, o->rect.height,
					     sel.x, sel.y, sel.width, sel.height);
		break;
	}
	plan->result = sde_rect_intersect(bounds, plan->context);
	if (sde_rect_empty(o->limit))
		return 0;
	if (!sde_rect_contains(o->limit, sel))
		return sde_error_set(
			ret_error, -EINVAL,
			"the limit %d,%d %d x %d does not hold the selection %d,%d %d x %d",
			o->limit.x, o->limit.y, o->limit.width, o->limit.height, sel.x, sel.y,
			sel.width, sel.height);
	plan->result = sde_rect_intersect(plan->result, o->limit);
	return 0;
}

/* Pixels between the selection and the sides of the result, but for sides where the canvas or a touched limit ends. */
static uint32_t room(const struct sde_inpaint_plan *plan, struct sde_rect limit)
{
	const struct sde_rect sel = plan->selection.rect, box = plan->result;
	const int32_t sel_right = sel.x + sel.width, sel_bottom = sel.y + sel.height;
	const int32_t right = box.x + box.width, bottom = box.y + box.height;
	const bool limited = !sde_rect_empty(limit);
	uint32_t least = UINT32_MAX;

	if (box.x > 0 && !(limited && limit.x == sel.x))
		least = min_u32(least, (uint32_t)(sel.x - box.x));
	if (box.y > 0 && !(limited && limit.y == sel.y))
		least = min_u32(least, (uint32_t)(sel.y - box.y));
	if (right < (int32_t)plan->canvas_width && !(limited && limit.x + limit.width == sel_right))
		least = min_u32(least, (uint32_t)(right - sel_right));
	if (bottom < (int32_t)plan->canvas_height &&
	    !(limited && limit.y + limit.height == sel_bottom))
		least = min_u32(least, (uint32_t)(bottom - sel_bottom));
	return least;
}

/*
 * Shrink the transition until G + F/2 fits and leaves a pixel, for the erosion must find the end of what was dilated;
 * the masks' invariants need F/2 <= G and B <= G + F/2.
 */
static void fit_transition(struct sde_inpaint_plan *plan, struct sde_rect limit)
{
	const uint32_t beside = room(plan, limit);
	const uint32_t available = beside > 0 ? beside - 1 : 0;

	if (plan->grow + plan->feather / 2 <= available)
		return;
	plan->feather = min_u32(plan->feather, available);
	plan->grow = min_u32(plan->grow, available - plan->feather / 2);
	plan->blend = min_u32(plan->blend, plan->grow + plan->feather / 2);
}

static uint32_t round_side(double side, uint32_t least, uint32_t most, uint32_t multiple)
{
	const uint32_t low = (least + multiple - 1) / multiple, high = most / multiple;
	const double rounded = rint(side / multiple);

	if (rounded >= high)
		return high * multiple;
	return max_u32((uint32_t)rounded, low) * multiple;
}

/* The context at the model's resolution; sides below half its range are stretched. */
static void find_work_size(struct sde_inpaint_plan *plan, const struct sde_model_range *range,
			   bool two_pass)
{
	const double w = plan->context.width, h = plan->context.height, pixels = w * h;
	const double least =
		fmax(range->min_side / fmin(w, h), sqrt((double)range->min_pixels / pixels));
	const double most =
		fmin(range->max_side / fmax(w, h), sqrt((double)range->max_pixels / pixels));
	const double scale = most < 1 ? most : least > 1 ? fmin(least, most) : 1.0;
	const uint32_t floor_side = max_u32(range->min_side / 2, range->multiple);
	double again;

	plan->work_width = round_side(w * scale, floor_side, range->max_side, range->multiple);
	plan->work_height = round_side(h * scale, floor_side, range->max_side, range->multiple);
	while ((uint64_t)plan->work_width * plan->work_height > range->max_pixels) {
		uint32_t *longer = plan->work_width >= plan->work_height ? &plan->work_width
									 : &plan->work_height;

		if (*longer <= range->multiple)
			break;
		*longer -= range->multiple;
	}
	if (!two_pass || scale * REFINE_MIN_SCALE > 1)
		return;
	again = fmin(scale * REFINE_MAX_SCALE, 1.0);
	plan->refine_width =
		round_side(w * again, floor_side, 2 * range->max_side, range->multiple);
	plan->refine_height =
		round_side(h * again, floor_side, 2 * range->max_side, range->multiple);
	plan->refine_strength = REFINE_STRENGTH;
}

static enum sde_fill choose_fill(const struct sde_inpaint_plan *plan)
{
	const struct sde_rect sel = plan->selection.rect;

	if (plan->strength < 1)
		return SDE_FILL_ORIGINAL;
	if (sel.width == (int32_t)plan->canvas_width || sel.height == (int32_t)plan->canvas_height)
		return SDE_FILL_EDGE;
	return SDE_FILL_BLUR;
}

int sde_inpaint_plan_init(struct sde_inpaint_plan *ret_plan, uint32_t canvas_width,
			  uint32_t canvas_height, const struct sde_selection *selection,
			  const struct sde_inpaint_options *options,
			  const struct sde_model_range *range, struct sde_error *ret_error)
{
	struct sde_inpaint_plan plan = {
		.canvas_width = canvas_width,
		.canvas_height = canvas_height,
		.strength = options->strength,
		.color_match = options->color_match,
		.fill = options->fill,
	};
	struct sde_rect bounds;
	int r;

	if (canvas_width == 0 || canvas_height == 0 || canvas_width > SDE_IMAGE_MAX_SIDE ||
	    canvas_height > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(ret_error, -EINVAL,
				     "the canvas is %u x %u pixels: each side must be 1 to %u",
				     canvas_width, canvas_height, SDE_IMAGE_MAX_SIDE);
	r = check_options(options, range, ret_error);
	if (r < 0)
		return r;
	r = find_selection(&plan, selection, ret_error);
	if (r < 0)
		return r;
	bounds = find_transition(&plan, options, range);
	r = find_context(&plan, bounds, options, range, ret_error);
	if (r < 0)
		return r;
	fit_transition(&plan, options->limit);
	find_work_size(&plan, range, options->two_pass);
	if (plan.fill == SDE_FILL_AUTO)
		plan.fill = choose_fill(&plan);
	*ret_plan = plan;
	return 0;
}

int sde_inpaint_plan_crop(struct sde_inpaint_plan *plan, struct sde_rect area,
			  struct sde_error *ret_error)
{
	const struct sde_rect canvas = {0, 0, (int32_t)plan->canvas_width,
					(int32_t)plan->canvas_height};
	struct sde_rect *const all[] = {&plan->selection.rect, &plan->context, &plan->result};
	const struct sde_rect needed = plan->context;

	if (sde_rect_empty(area) || !sde_rect_contains(canvas, area))
		return sde_error_set(ret_error, -EINVAL,
				     "the picture of %d x %d pixels at %d,%d does not lie on the "
				     "canvas of %d x %d",
				     area.width, area.height, area.x, area.y, canvas.width,
				     canvas.height);
	if (!sde_rect_contains(area, needed))
		return sde_error_set(
			ret_error, -EINVAL,
			"the job needs the canvas' part %d,%d %d x %d, but the "
			"picture holds only %d,%d %d x %d; job.plan says what is needed",
			needed.x, needed.y, needed.width, needed.height, area.x, area.y, area.width,
			area.height);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		all[i]->x -= area.x;
		all[i]->y -= area.y;
	}
	plan->canvas_width = (uint32_t)area.width;
	plan->canvas_height = (uint32_t)area.height;
	return 0;
}
