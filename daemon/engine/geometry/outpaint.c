/*
 * Growing a canvas in steps: see outpaint.h. The finished part is always a rectangle; each round adds at most one strip
 * to each side, and a strip is made window by window, so no window ever sees a pixel that nobody has made yet.
 */
#include "daemon/engine/geometry/outpaint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/rect.h"

#define STEP_MAX 128u

static int32_t min_i32(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

struct grower {
	struct sde_outpaint_step *steps; /* NULL while counting */
	uint32_t count;
	struct sde_rect known;
	int32_t window, overlap;
};

/* One window of a strip: hole `from`..`to` along the strip, context as square as what is finished allows. */
static void add_window(struct grower *g, struct sde_rect strip, bool vertical, int32_t from,
		       int32_t to)
{
	struct sde_rect hole = strip, context;
	const int32_t begin = vertical ? strip.y : strip.x;
	const int32_t context_from = to - g->window > begin ? to - g->window : begin;
	int32_t depth = g->window;
	struct sde_outpaint_step step;

	/* Along the strip the window ends with the hole; across it reaches back into the finished part. */
	context = strip;
	if (vertical) {
		hole.y = from;
		hole.height = to - from;
		context.y = context_from;
		context.height = to - context_from;
		depth = min_i32(depth, strip.width + g->known.width);
		context.x = strip.x < g->known.x ? strip.x : strip.x + strip.width - depth;
		context.width = depth;
	} else {
		hole.x = from;
		hole.width = to - from;
		context.x = context_from;
		context.width = to - context_from;
		depth = min_i32(depth, strip.height + g->known.height);
		context.y = strip.y < g->known.y ? strip.y : strip.y + strip.height - depth;
		context.height = depth;
	}
	step = (struct sde_outpaint_step){
		.hole = hole,
		.mask = sde_rect_intersect(sde_rect_pad(hole, g->overlap, g->overlap, 0, 1),
					   context),
		.context = context,
	};
	if (g->steps)
		g->steps[g->count] = step;
	g->count++;
}

/* Make a strip beside the finished part; it then belongs to it. */
static void add_strip(struct grower *g, struct sde_rect strip, bool vertical)
{
	const int32_t begin = vertical ? strip.y : strip.x;
	const int32_t end = begin + (vertical ? strip.height : strip.width);
	int32_t from = begin;

	while (from < end) {
		/* the first window is all new; later ones keep a quarter of what is made as context */
		const int32_t fresh = from == begin ? g->window : g->window - g->window / 4;
		const int32_t to = end - from <= fresh ? end : from + fresh;

		add_window(g, strip, vertical, from, to);
		from = to;
	}
	if (vertical) {
		g->known.x = strip.x < g->known.x ? strip.x : g->known.x;
		g->known.width += strip.width;
	} else {
		g->known.y = strip.y < g->known.y ? strip.y : g->known.y;
		g->known.height += strip.height;
	}
}

static void grow_all(struct grower *g, const struct sde_outpaint *o, int32_t step)
{
	for (;;) {
		const struct sde_rect k = g->known;
		const int32_t left = min_i32(step, k.x);
		const int32_t right = min_i32(step, (int32_t)o->width - k.x - k.width);
		const int32_t top = min_i32(step, k.y);
		const int32_t bottom = min_i32(step, (int32_t)o->height - k.y - k.height);

		if (left + right + top + bottom == 0)
			return;
		if (left > 0)
			add_strip(g, (struct sde_rect){k.x - left, k.y, left, k.height}, true);
		if (right > 0)
			add_strip(g, (struct sde_rect){k.x + k.width, k.y, right, k.height}, true);
		if (top > 0)
			add_strip(g, (struct sde_rect){g->known.x, k.y - top, g->known.width, top},
				  false);
		if (bottom > 0)
			add_strip(g,
				  (struct sde_rect){g->known.x, k.y + k.height, g->known.width,
						    bottom},
				  false);
	}
}

static struct sde_rect join(struct sde_rect a, struct sde_rect b)
{
	const int32_t x = min_i32(a.x, b.x), y = min_i32(a.y, b.y);
	const int32_t right = -min_i32(-a.x - a.width, -b.x - b.width);
	const int32_t bottom = -min_i32(-a.y - a.height, -b.y - b.height);

	return sde_rect_empty(a) ? b : (struct sde_rect){x, y, right - x, bottom - y};
}

static void find_box(struct sde_outpaint *o)
{
	const struct sde_rect original = {(int32_t)o->left, (int32_t)o->top, (int32_t)o->old_width,
					  (int32_t)o->old_height};

	for (uint32_t i = 0; i < o->count; i++)
		o->box = join(o->box, o->steps[i].context);
	o->source = sde_rect_intersect(o->box, original);
	o->source.x -= original.x;
	o->source.y -= original.y;
}

int sde_outpaint_init(struct sde_outpaint *ret_outpaint, uint32_t canvas_width,
		      uint32_t canvas_height, const struct sde_outpaint_options *options,
		      const struct sde_model_range *range, struct sde_error *ret_error)
{
	const uint64_t width = (uint64_t)canvas_width + options->left + options->right;
	const uint64_t height = (uint64_t)canvas_height + options->top + options->bottom;
	const uint32_t natural = range->min_side / 4 < STEP_MAX ? range->min_side / 4 : STEP_MAX;
	const uint32_t asked = options->step ? options->step : natural;
	const uint32_t step = asked < range->min_side / 2 ? asked : range->min_side / 2;
	struct sde_outpaint o = {
		.width = (uint32_t)width,
		.height = (uint32_t)height,
		.left = options->left,
		.top = options->top,
		.old_width = canvas_width,
		.old_height = canvas_height,
	};
	struct grower g;

	if (canvas_width == 0 || canvas_height == 0)
		return sde_error_set(ret_error, -EINVAL,
				     "the canvas is %u x %u pixels: both sides must be at least 1",
				     canvas_width, canvas_height);
	if (width > SDE_IMAGE_MAX_SIDE || height > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(
			ret_error, -EINVAL,
			"the grown canvas would be %llu x %llu pixels: a side may be at "
			"most %u",
			(unsigned long long)width, (unsigned long long)height, SDE_IMAGE_MAX_SIDE);
	if (width == canvas_width && height == canvas_height)
		return sde_error_set(ret_error, -EINVAL,
				     "nothing to grow: give left, right, top or bottom in pixels");
	if (step == 0)
		return sde_error_set(ret_error, -EINVAL, "a model range of %u pixels is too small",
				     range->min_side);
	o.overlap = options->overlap ? options->overlap : step / 4;
	if (o.overlap > range->min_side / 2)
		return sde_error_set(ret_error, -EINVAL,
				     "an overlap of %u pixels leaves no context: at most %u",
				     o.overlap, range->min_side / 2);
	g = (struct grower){
		.known = {(int32_t)o.left, (int32_t)o.top, (int32_t)canvas_width,
			  (int32_t)canvas_height},
		.window = (int32_t)range->min_side,
		.overlap = (int32_t)o.overlap,
	};
	for (int pass = 0; pass < 2; pass++) {
		struct grower run = g;

		run.steps = o.steps;
		grow_all(&run, &o, (int32_t)step);
		o.count = run.count;
		if (pass == 0)
			o.steps = calloc(o.count, sizeof(*o.steps));
		if (!o.steps)
			return sde_error_set(ret_error, -ENOMEM, "no memory for %u steps", o.count);
	}
	find_box(&o);
	*ret_outpaint = o;
	return 0;
}

void sde_outpaint_clear(struct sde_outpaint *outpaint)
{
	if (!outpaint)
		return;
	free(outpaint->steps);
	*outpaint = (struct sde_outpaint){0};
}

/* Alpha = most, at the address of one channel. */
static void set_opaque(void *channel, enum sde_pixel_type type)
{
	const uint16_t full = UINT16_MAX, half_one = 0x3c00;
	const float one = 1.0f;

	switch (type) {
	case SDE_PIXEL_U8:
		*(uint8_t *)channel = UINT8_MAX;
		break;
	case SDE_PIXEL_U16:
		memcpy(channel, &full, sizeof(full));
		break;
	case SDE_PIXEL_F16:
		memcpy(channel, &half_one, sizeof(half_one));
		break;
	case SDE_PIXEL_F32:
		memcpy(channel, &one, sizeof(one));
		break;
	}
}

static bool is_source(const struct sde_outpaint *o, const struct sde_image *canvas)
{
	return canvas->width == (uint32_t)o->source.width &&
	       canvas->height == (uint32_t)o->source.height;
}

struct place {
	uint32_t x, y;
};

/* Where the part of the original begins in the box. */
static struct place place_of_source(const struct sde_outpaint *o)
{
	return (struct place){(uint32_t)(o->source.x + (int32_t)o->left - o->box.x),
			      (uint32_t)(o->source.y + (int32_t)o->top - o->box.y)};
}

int sde_outpaint_extend(const struct sde_outpaint *outpaint, const struct sde_image *canvas,
			struct sde_image *ret_extended, struct sde_error *ret_error)
{
	const bool has_alpha = sde_image_has_alpha(canvas);
	const struct place at = place_of_source(outpaint);
	struct sde_image extended;
	size_t from_pixel, to_pixel, element;
	int r;

	r = sde_image_check(canvas, "the canvas", ret_error);
	if (r < 0)
		return r;
	if (!is_source(outpaint, canvas))
		return sde_error_set(ret_error, -EINVAL,
				     "the canvas is %u x %u pixels, but the growth needs %d x %d "
				     "of it",
				     canvas->width, canvas->height, outpaint->source.width,
				     outpaint->source.height);
	r = sde_image_new((uint32_t)outpaint->box.width, (uint32_t)outpaint->box.height,
			  canvas->channels + !has_alpha, canvas->type, &extended, ret_error);
	if (r < 0)
		return r;
	extended.linear = canvas->linear;
	element = sde_pixel_type_size(canvas->type);
	from_pixel = sde_image_pixel_size(canvas);
	to_pixel = sde_image_pixel_size(&extended);
	for (uint32_t y = 0; y < canvas->height; y++) {
		const char *from = sde_image_row(canvas, y);
		char *to = (char *)sde_image_row(&extended, at.y + y) + at.x * to_pixel;

		for (uint32_t x = 0; x < canvas->width; x++, from += from_pixel, to += to_pixel) {
			memcpy(to, from, from_pixel);
			if (!has_alpha)
				set_opaque(to + to_pixel - element, canvas->type);
		}
	}
	*ret_extended = extended;
	return 0;
}

int sde_outpaint_step_plan(const struct sde_outpaint *outpaint, uint32_t i,
			   const struct sde_inpaint_options *options,
			   const struct sde_model_range *range, struct sde_inpaint_plan *ret_plan,
			   struct sde_error *ret_error)
{
	struct sde_inpaint_options step_options = *options;
	struct sde_selection selection = {0};
	int r;

	if (i >= outpaint->count)
		return sde_error_set(ret_error, -EINVAL, "there is no step %u of %u", i,
				     outpaint->count);
	selection.rect = outpaint->steps[i].hole;
	step_options.limit = outpaint->steps[i].mask;
	step_options.context = SDE_CONTEXT_RECT;
	step_options.rect = outpaint->steps[i].context;
	if (step_options.fill == SDE_FILL_AUTO)
		step_options.fill = SDE_FILL_EDGE;
	r = sde_inpaint_plan_init(ret_plan, outpaint->width, outpaint->height, &selection,
				  &step_options, range, ret_error);
	return r < 0 ? r : sde_inpaint_plan_crop(ret_plan, outpaint->box, ret_error);
}

int sde_outpaint_layer(const struct sde_outpaint *outpaint, const struct sde_image *extended,
		       const struct sde_image *canvas, struct sde_layer *ret_layer,
		       struct sde_error *ret_error)
{
	struct sde_layer layer = {.x = outpaint->box.x - (int)outpaint->left,
				  .y = outpaint->box.y - (int)outpaint->top};
	const struct place at = place_of_source(outpaint);
	const size_t element = sde_pixel_type_size(canvas->type);
	const size_t old_pixel = sde_image_pixel_size(canvas);
	const size_t pixel = sde_image_pixel_size(extended);
	const uint32_t colors = extended->channels - 1;
	int r;

	if (extended->width != (uint32_t)outpaint->box.width ||
	    extended->height != (uint32_t)outpaint->box.height || !sde_image_has_alpha(extended) ||
	    extended->type != canvas->type || !is_source(outpaint, canvas) ||
	    canvas->channels < colors || canvas->channels > extended->channels)
		return sde_error_set(
			ret_error, -EINVAL,
			"these are not the canvas and the extended canvas of this growth");
	r = sde_image_new(extended->width, extended->height, 4, canvas->type, &layer.image,
			  ret_error);
	if (r < 0)
		return r;
	layer.image.linear = canvas->linear;
	for (uint32_t y = 0; y < extended->height; y++) {
		const char *from = sde_image_row(extended, y);
		char *to = sde_image_row(&layer.image, y);

		for (uint32_t x = 0; x < extended->width; x++, from += pixel, to += 4 * element) {
			const uint32_t old_x = x - at.x, old_y = y - at.y;

			for (uint32_t c = 0; c < 3; c++)
				memcpy(to + c * element, from + (colors == 3 ? c * element : 0),
				       element);
			if (old_x < canvas->width && old_y < canvas->height &&
			    memcmp(from, (char *)sde_image_row(canvas, old_y) + old_x * old_pixel,
				   old_pixel) == 0)
				continue;
			memcpy(to + 3 * element, from + colors * element, element);
		}
	}
	*ret_layer = layer;
	return 0;
}
