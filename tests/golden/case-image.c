/*
 * How pictures enter and leave a model: kinds op_image (8 bits to floats and back), op_resize_lanczos (Pillow's bytes),
 * op_crop_region (padding_mask_crop) and op_nearest (torch's interpolation).
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/diffusers.h"
#include "daemon/engine/geometry/latent-mask.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"
#include "tests/golden/golden.h"

/* A view of a (height, width[, channels]) tensor of bytes. */
static int view(struct golden_case *c, const struct golden_tensor *t, struct sde_image *ret_image)
{
	struct sde_error error;
	int r;

	if (t->rank != 2 && t->rank != 3)
		return golden_fail(c, "%s is not a picture", t->name);
	r = sde_image_view((void *)t->u8, t->count, (uint32_t)t->shape[1], (uint32_t)t->shape[0],
			   t->rank == 3 ? (uint32_t)t->shape[2] : 1, SDE_PIXEL_U8, 0, ret_image,
			   &error);
	return r < 0 ? golden_fail_error(c, t->name, &error) : GOLDEN_PASS;
}

int golden_image(struct golden_case *c)
{
	const struct golden_tensor *image = golden_input_u8(c, "image");
	const struct golden_tensor *decoded = golden_input_f32(c, "decoded");
	struct sde_image pixels;
	struct sde_error error;
	float *pre;
	int r;

	if (!image || !decoded || decoded->rank != 4 || decoded->shape[0] != 1)
		return golden_fail(c, "image or decoded is missing or misshapen");
	r = view(c, image, &pixels);
	if (r != GOLDEN_PASS)
		return r;
	pre = golden_floats(image->count);
	sde_image_to_float(&pixels, SDE_PLANAR, 2.0f, -1.0f, pre);
	golden_expect_f32(c, "pre", pre,
			  GOLDEN_SHAPE(1, pixels.channels, pixels.height, pixels.width));
	free(pre);
	r = sde_image_new((uint32_t)decoded->shape[3], (uint32_t)decoded->shape[2],
			  (uint32_t)decoded->shape[1], SDE_PIXEL_U8, &pixels, &error);
	if (r < 0)
		return golden_fail_error(c, "decoded", &error);
	sde_image_from_float(decoded->f32, SDE_PLANAR, 0.5f, 0.5f, &pixels);
	golden_expect_u8(c, "post", pixels.data,
			 GOLDEN_SHAPE(1, pixels.height, pixels.width, pixels.channels));
	sde_image_clear(&pixels);
	return GOLDEN_PASS;
}

int golden_resize_lanczos(struct golden_case *c)
{
	static const struct {
		const char *name;
		enum sde_resize_mode mode;
	} modes[] = {{"default", SDE_RESIZE_DEFAULT}, {"fill", SDE_RESIZE_FILL}};
	const struct golden_tensor *image = golden_input_u8(c, "image");
	const struct golden_tensor *mask = golden_input_u8(c, "mask");
	const json_t *out = golden_param(c, "out");
	const uint32_t height = (uint32_t)json_integer_value(json_array_get(out, 0));
	const uint32_t width = (uint32_t)json_integer_value(json_array_get(out, 1));
	struct sde_image picture, grey, result;
	struct sde_error error;
	float *binary;
	int r;

	if (!image || !mask || view(c, image, &picture) != GOLDEN_PASS ||
	    view(c, mask, &grey) != GOLDEN_PASS)
		return GOLDEN_FAIL;
	for (size_t i = 0; i < 2; i++) {
		r = sde_diffusers_resize(&picture, width, height, modes[i].mode, &result, &error);
		if (r < 0)
			return golden_fail_error(c, modes[i].name, &error);
		golden_expect_u8(c, modes[i].name, result.data, GOLDEN_SHAPE(height, width, 3));
		sde_image_clear(&result);
	}
	r = sde_diffusers_resize(&grey, width, height, SDE_RESIZE_DEFAULT, &result, &error);
	if (r < 0)
		return golden_fail_error(c, "mask", &error);
	binary = golden_floats((size_t)width * height);
	sde_image_to_float(&result, SDE_PLANAR, 1.0f, 0.0f, binary);
	sde_mask_binarise(binary, (uint64_t)width * height);
	golden_expect_f32(c, "mask_binarized", binary, GOLDEN_SHAPE(1, 1, height, width));
	free(binary);
	sde_image_clear(&result);
	return GOLDEN_PASS;
}

int golden_crop_region(struct golden_case *c)
{
	const struct golden_tensor *want = golden_input_i32(c, "rows");
	int32_t *rows;

	if (!want || want->rank != 2 || want->shape[1] != 7)
		return golden_fail(c, "rows must have seven columns");
	rows = calloc(want->count, sizeof(*rows));
	if (!rows)
		abort(); /* in a child process: a FAIL of this case */
	memcpy(rows, want->i32, want->count * sizeof(*rows));
	for (int64_t k = 0; k < want->shape[0]; k++) {
		const struct golden_tensor *mask;
		int32_t *row = rows + k * 7;
		struct sde_image image;
		struct sde_rect region;
		struct sde_error error;
		char name[32];

		snprintf(name, sizeof(name), "mask_%d", (int)k);
		mask = golden_input_u8(c, name);
		if (!mask || view(c, mask, &image) != GOLDEN_PASS)
			break;
		if (sde_crop_region(&image, (uint32_t)row[0], (uint32_t)row[1], (uint32_t)row[2],
				    &region, &error) < 0) {
			golden_fail_error(c, name, &error);
			break;
		}
		row[3] = region.x;
		row[4] = region.y;
		row[5] = region.x + region.width;
		row[6] = region.y + region.height;
	}
	golden_expect_i32(c, "rows", rows, want->rank, want->shape);
	free(rows);
	return GOLDEN_PASS;
}

int golden_nearest(struct golden_case *c)
{
	const struct golden_tensor *x = golden_input_f32(c, "x");
	const json_t *out = golden_param(c, "out");
	const int64_t height = json_integer_value(json_array_get(out, 0));
	const int64_t width = json_integer_value(json_array_get(out, 1));
	float *y;

	if (!x || x->rank != 4 || height < 1 || width < 1)
		return golden_fail(c, "x must have four dimensions and out two");
	y = golden_floats((size_t)(x->shape[0] * x->shape[1] * height * width));
	sde_resize_nearest(x->f32, (uint32_t)(x->shape[0] * x->shape[1]), (uint32_t)x->shape[3],
			   (uint32_t)x->shape[2], (uint32_t)width, (uint32_t)height, y);
	golden_expect_f32(c, "y", y, GOLDEN_SHAPE(x->shape[0], x->shape[1], height, width));
	free(y);
	return GOLDEN_PASS;
}
