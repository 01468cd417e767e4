/*
 * From canvas to work image and from the model's answer to a layer: see plan.h. A canvas is read through rows of floats
 * on their way into the scaler, and an answer is enlarged in bands on its way out; so beside the masks nothing of canvas
 * size is held but the layer itself.
 */
#include "daemon/engine/geometry/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/color-match.h"
#include "daemon/engine/geometry/masks.h"
#include "daemon/engine/geometry/prefill.h"
#include "daemon/engine/geometry/seam.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"

#define BAND 128 /* rows of the layer enlarged at a time */

void sde_inpaint_work_clear(struct sde_inpaint_work *work)
{
	if (!work)
		return;
	free(work->image);
	free(work->original);
	free(work->denoise);
	*work = (struct sde_inpaint_work){0};
}

static int work_init(struct sde_inpaint_work *work, uint32_t width, uint32_t height,
		     struct sde_error *ret_error)
{
	const size_t count = (size_t)width * height;

	*work = (struct sde_inpaint_work){.width = width, .height = height};
	work->image = calloc(count, 3 * sizeof(float));
	work->original = calloc(count, 3 * sizeof(float));
	work->denoise = calloc(count, sizeof(float));
	if (work->image && work->original && work->denoise)
		return 0;
	sde_inpaint_work_clear(work);
	return sde_error_set(ret_error, -ENOMEM, "no memory for a work image of %u x %u pixels",
			     width, height);
}

static int check_canvas(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			struct sde_error *ret_error)
{
	int r;

	r = sde_image_check(canvas, "the canvas", ret_error);
	if (r < 0)
		return r;
	if (canvas->width != plan->canvas_width || canvas->height != plan->canvas_height)
		return sde_error_set(
			ret_error, -EINVAL,
			"the canvas is %u x %u pixels, but the plan was made for %u x %u",
			canvas->width, canvas->height, plan->canvas_width, plan->canvas_height);
	return 0;
}

struct canvas_rows {
	const struct sde_image *canvas;
	struct sde_rect context;
};

/* A row of the context as premultiplied RGBA: only then does scaling not bleed the colour of transparent pixels. */
static void read_canvas_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct canvas_rows *rows = userdata;
	const uint32_t width = (uint32_t)rows->context.width;

	sde_row_to_rgba(rows->canvas, (uint32_t)rows->context.x, (uint32_t)rows->context.y + y,
			width, ret_row);
	for (uint32_t x = 0; x < width; x++)
		for (int c = 0; c < 3; c++)
			ret_row[x * 4 + c] *= ret_row[x * 4 + 3];
}

static float clamp01(float value)
{
	return value > 1.0f ? 1.0f : value > 0.0f ? value : 0.0f;
}

/* Premultiplied RGBA over the continuation of its own opaque parts, as RGB. */
static int flatten(const float *rgba, uint32_t width, uint32_t height, float *ret_rgb,
		   struct sde_error *ret_error)
{
	const size_t count = (size_t)width * height;
	bool opaque = true;
	float *alpha, *behind;
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		for (int c = 0; c < 3; c++)
			ret_rgb[i * 3 + c] = clamp01(rgba[i * 4 + c]);
		opaque = opaque && rgba[i * 4 + 3] > 0.9999f;
	}
	if (opaque)
		return 0;
	alpha = calloc(count, sizeof(*alpha));
	behind = calloc(count, 3 * sizeof(*behind));
	if (!alpha || !behind) {
		r = sde_error_set(ret_error, -ENOMEM,
				  "no memory for a work image of %u x %u pixels", width, height);
	} else {
		for (size_t i = 0; i < count; i++) {
			alpha[i] = clamp01(rgba[i * 4 + 3]);
			for (int c = 0; c < 3; c++)
				behind[i * 3 + c] =
					alpha[i] > 0 ? clamp01(rgba[i * 4 + c] / alpha[i]) : 0.5f;
		}
		r = sde_membrane_fill(behind, alpha, width, height, ret_error);
		if (r == 0)
			for (size_t i = 0; i < count * 3; i++)
				behind[i] = 0.5f;
		for (size_t i = 0; i < count && r >= 0; i++)
			for (int c = 0; c < 3; c++)
				ret_rgb[i * 3 + c] = clamp01(rgba[i * 4 + c] +
							     (1.0f - alpha[i]) * behind[i * 3 + c]);
	}
	free(alpha);
	free(behind);
	return r < 0 ? r : 0;
}

/* The context at width x height as RGB 0..1. */
static int read_context(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			uint32_t width, uint32_t height, float *ret_rgb,
			struct sde_error *ret_error)
{
	struct canvas_rows rows = {canvas, plan->context};
	float *rgba = calloc((size_t)width * height, 4 * sizeof(*rgba));
	int r;

	if (!rgba)
		return sde_error_set(ret_error, -ENOMEM,
				     "no memory for a work image of %u x %u pixels", width, height);
	r = sde_resize_rows(read_canvas_row, &rows, (uint32_t)plan->context.width,
			    (uint32_t)plan->context.height, 4, NULL, width, height,
			    SDE_FILTER_LANCZOS, rgba, ret_error);
	if (r == 0)
		r = flatten(rgba, width, height, ret_rgb, ret_error);
	free(rgba);
	return r;
}

static void to_signed(float *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		values[i] = values[i] * 2.0f - 1.0f;
}

int sde_inpaint_prepare(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			struct sde_inpaint_work *ret_work, struct sde_error *ret_error)
{
	const uint32_t width = plan->work_width, height = plan->work_height;
	const size_t values = (size_t)width * height * 3;
	struct sde_inpaint_work work;
	int r;

	r = check_canvas(plan, canvas, ret_error);
	if (r < 0)
		return r;
	r = work_init(&work, width, height, ret_error);
	if (r < 0)
		return r;
	r = read_context(plan, canvas, width, height, work.original, ret_error);
	if (r == 0)
		r = sde_denoise_mask_scaled(plan, width, height, work.denoise, ret_error);
	if (r == 0) {
		memcpy(work.image, work.original, values * sizeof(float));
		r = sde_prefill(plan->fill, work.image, work.denoise, width, height, ret_error);
	}
	if (r < 0) {
		sde_inpaint_work_clear(&work);
		return r;
	}
	to_signed(work.image, values);
	to_signed(work.original, values);
	*ret_work = work;
	return 0;
}

int sde_inpaint_upscale(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			const struct sde_inpaint_work *work, const float *generated,
			struct sde_inpaint_work *ret_work, struct sde_error *ret_error)
{
	const uint32_t width = plan->refine_width, height = plan->refine_height;
	const size_t values = (size_t)width * height * 3;
	struct sde_inpaint_work fine;
	int r;

	if (width == 0 || height == 0)
		return sde_error_set(ret_error, -EINVAL, "this plan has no second pass");
	r = check_canvas(plan, canvas, ret_error);
	if (r < 0)
		return r;
	r = work_init(&fine, width, height, ret_error);
	if (r < 0)
		return r;
	r = read_context(plan, canvas, width, height, fine.original, ret_error);
	if (r == 0)
		r = sde_denoise_mask_scaled(plan, width, height, fine.denoise, ret_error);
	if (r == 0)
		r = sde_resize_float(generated, work->width, work->height, 3, NULL, width, height,
				     SDE_FILTER_LANCZOS, fine.image, ret_error);
	if (r < 0) {
		sde_inpaint_work_clear(&fine);
		return r;
	}
	to_signed(fine.original, values);
	for (size_t i = 0; i < values; i++) {
		const float mask = fine.denoise[i / 3];
		const float answer = clamp01(fine.image[i] * 0.5f + 0.5f) * 2.0f - 1.0f;

		fine.image[i] = mask * answer + (1.0f - mask) * fine.original[i];
	}
	*ret_work = fine;
	return 0;
}

/* One row of the layer: the answer where alpha is not 0, else the canvas' own bytes with alpha 0. */
static void write_layer_row(const struct sde_image *canvas, struct sde_rect at, uint32_t y,
			    const float *answer, const float *mask, float *scratch,
			    struct sde_image *layer)
{
	const size_t element = sde_pixel_type_size(layer->type);
	const size_t pixel = sde_image_pixel_size(canvas);
	const char *from =
		(const char *)sde_image_row(canvas, (uint32_t)at.y + y) + (size_t)at.x * pixel;
	char *to = sde_image_row(layer, y);

	for (uint32_t x = 0; x < layer->width; x++) {
		float *rgba = scratch + (size_t)x * 4;

		for (int c = 0; c < 3; c++)
			rgba[c] = clamp01(answer[x * 3 + c]);
		if (canvas->channels <= 2)
			rgba[0] = rgba[1] = rgba[2] =
				0.299f * rgba[0] + 0.587f * rgba[1] + 0.114f * rgba[2];
		for (int c = 0; c < 3 && canvas->linear; c++)
			rgba[c] = sde_srgb_decode(rgba[c]);
		rgba[3] = mask[x];
	}
	sde_row_from_float(layer, 0, y, layer->width, scratch);
	for (uint32_t x = 0; x < layer->width; x++, from += pixel, to += 4 * element) {
		static const char zero[4];

		if (memcmp(to + 3 * element, zero, element) != 0)
			continue;
		for (size_t c = 0; c < 3; c++)
			memcpy(to + c * element, from + (canvas->channels >= 3 ? c * element : 0),
			       element);
	}
}

/* Enlarge `colors` (work size, 0..1) band by band into the layer. */
static int write_layer(const struct sde_inpaint_plan *plan, const struct sde_inpaint_work *work,
		       const float *colors, const float *mask, const struct sde_image *canvas,
		       struct sde_image *layer, struct sde_error *ret_error)
{
	const struct sde_rect context = plan->context, result = plan->result;
	const double step_x = (double)work->width / context.width;
	const double step_y = (double)work->height / context.height;
	const size_t width = (size_t)result.width;
	float *band = calloc(width * BAND, 3 * sizeof(*band));
	float *scratch = calloc(width, 4 * sizeof(*scratch));
	int r = 0;

	if (!band || !scratch)
		r = sde_error_set(ret_error, -ENOMEM, "no memory for a layer of %d x %d pixels",
				  result.width, result.height);
	for (int32_t y = 0; y < result.height && r == 0; y += BAND) {
		const int32_t rows = result.height - y < BAND ? result.height - y : BAND;
		const int32_t left = result.x - context.x, top = result.y - context.y + y;
		struct sde_box box = {left * step_x, top * step_y, (left + result.width) * step_x,
				      (top + rows) * step_y};

		if (box.x1 > work->width)
			box.x1 = work->width;
		if (box.y1 > work->height)
			box.y1 = work->height;
		r = sde_resize_float(colors, work->width, work->height, 3, &box,
				     (uint32_t)result.width, (uint32_t)rows, SDE_FILTER_LANCZOS,
				     band, ret_error);
		for (int32_t i = 0; i < rows && r == 0; i++)
			write_layer_row(canvas, result, (uint32_t)(y + i), band + i * width * 3,
					mask + (size_t)(y + i) * width, scratch, layer);
	}
	free(band);
	free(scratch);
	return r;
}

int sde_inpaint_finish(const struct sde_inpaint_plan *plan, const struct sde_inpaint_work *work,
		       const float *generated, const struct sde_image *canvas,
		       struct sde_layer *ret_layer, struct sde_error *ret_error)
{
	const size_t pixels = (size_t)work->width * work->height;
	const size_t area = (size_t)plan->result.width * (size_t)plan->result.height;
	struct sde_layer layer = {.x = plan->result.x, .y = plan->result.y};
	float *colors, *original, *mask;
	int r;

	r = check_canvas(plan, canvas, ret_error);
	if (r < 0)
		return r;
	r = sde_image_new((uint32_t)plan->result.width, (uint32_t)plan->result.height, 4,
			  canvas->type, &layer.image, ret_error);
	if (r < 0)
		return r;
	layer.image.linear = canvas->linear;
	colors = calloc(pixels, 3 * sizeof(*colors));
	original = calloc(pixels, 3 * sizeof(*original));
	mask = calloc(area, sizeof(*mask));
	if (!colors || !original || !mask)
		r = sde_error_set(ret_error, -ENOMEM, "no memory for a layer of %d x %d pixels",
				  plan->result.width, plan->result.height);
	if (r == 0 && plan->strength > 0)
		r = sde_composite_mask(plan, mask, ret_error);
	if (r == 0) {
		for (size_t i = 0; i < pixels * 3; i++) {
			colors[i] = clamp01(generated[i] * 0.5f + 0.5f);
			original[i] = work->original[i] * 0.5f + 0.5f;
		}
		if (plan->color_match) {
			sde_color_match(colors, original, work->denoise, pixels);
			r = sde_seam_match(colors, original, work->denoise, work->width,
					   work->height, ret_error);
		}
	}
	if (r == 0) {
		r = write_layer(plan, work, colors, mask, canvas, &layer.image, ret_error);
	}
	free(colors);
	free(original);
	free(mask);
	if (r < 0) {
		sde_image_clear(&layer.image);
		return r;
	}
	*ret_layer = layer;
	return 0;
}
