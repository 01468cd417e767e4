/*
 * Enlarging whole pictures: see enlarge.h.
 */
#include "daemon/engine/geometry/enlarge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"

struct rows {
	const struct sde_image *image;
	float *row; /* as stored */
	bool premultiplied;
};

/* A row as RGBA in the document's encoding. */
static void read_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct rows *rows = userdata;
	const struct sde_image *image = rows->image;
	const size_t channels = image->channels;

	sde_row_to_float(image, 0, y, image->width, rows->row);
	for (size_t x = 0; x < image->width; x++) {
		const float *from = rows->row + x * channels;
		const float alpha = sde_image_has_alpha(image) ? from[channels - 1] : 1.0f;

		for (size_t c = 0; c < 3; c++)
			ret_row[4 * x + c] =
				from[channels >= 3 ? c : 0] * (rows->premultiplied ? alpha : 1.0f);
		ret_row[4 * x + 3] = alpha;
	}
}

static void divide_by_alpha(float *rgba, uint32_t count)
{
	for (size_t i = 0; i < count; i++, rgba += 4) {
		rgba[3] = rgba[3] > 1.0f ? 1.0f : rgba[3] > 0.0f ? rgba[3] : 0.0f;
		for (int c = 0; c < 3 && rgba[3] > 0; c++)
			rgba[c] /= rgba[3];
	}
}

/* The last pixel of a row again and again, then the last row. */
static void extend(struct sde_image *image, uint32_t width, uint32_t height)
{
	const size_t pixel = sde_image_pixel_size(image);

	for (uint32_t y = 0; y < height; y++) {
		char *row = sde_image_row(image, y);

		for (uint32_t x = width; x < image->width; x++)
			memcpy(row + x * pixel, row + (size_t)(width - 1) * pixel, pixel);
	}
	for (uint32_t y = height; y < image->height; y++)
		memcpy(sde_image_row(image, y), sde_image_row(image, height - 1),
		       image->width * pixel);
}

static uint32_t round_up(uint32_t side, uint32_t multiple)
{
	return (side + multiple - 1) / multiple * multiple;
}

int sde_enlarge(const struct sde_image *source, uint32_t width, uint32_t height, uint32_t multiple,
		struct sde_image *ret_image, struct sde_error *ret_error)
{
	const bool same = source->width == width && source->height == height;
	struct rows rows = {source, NULL, !same};
	_cleanup_free_ float *row = NULL, *rgba = NULL;
	struct sde_image image;
	int r;

	r = sde_image_check(source, "the picture", ret_error);
	if (r < 0)
		return r;
	if (width < 1 || height < 1 || multiple < 1 || width > SDE_IMAGE_MAX_SIDE ||
	    height > SDE_IMAGE_MAX_SIDE || multiple > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(ret_error, -EINVAL, "a picture of %u x %u is none", width,
				     height);
	rows.row = row = calloc(source->width, source->channels * sizeof(float));
	rgba = calloc(same ? width : (size_t)width * height, 4 * sizeof(float));
	if (!row || !rgba)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a picture of %u x %u",
				     width, height);
	r = sde_image_new(round_up(width, multiple), round_up(height, multiple), 4, source->type,
			  &image, ret_error);
	if (r < 0)
		return r;
	image.linear = source->linear;
	if (!same)
		r = sde_resize_rows(read_row, &rows, source->width, source->height, 4, NULL, width,
				    height, SDE_FILTER_LANCZOS, rgba, ret_error);
	if (r < 0) {
		sde_image_clear(&image);
		return r;
	}
	for (uint32_t y = 0; y < height; y++) {
		float *at = same ? rgba : rgba + (size_t)y * width * 4;

		if (same)
			read_row(&rows, y, at);
		else
			divide_by_alpha(at, width);
		sde_row_from_float(&image, 0, y, width, at);
	}
	extend(&image, width, height);
	*ret_image = image;
	return 0;
}

int sde_enlarge_finish(const struct sde_image *plain, const struct sde_image *painted,
		       uint32_t width, uint32_t height, struct sde_image *ret_image,
		       struct sde_error *ret_error)
{
	const size_t element = sde_pixel_type_size(plain->type);
	static const char zero[4];
	struct sde_image image;
	int r;

	if (plain->channels != 4 || painted->channels != 4 || plain->type != painted->type ||
	    painted->width < width || painted->height < height || plain->width < width ||
	    plain->height < height)
		return sde_error_set(ret_error, -EINVAL,
				     "the pictures to join differ in type or extent");
	r = sde_image_new(width, height, 4, plain->type, &image, ret_error);
	if (r < 0)
		return r;
	image.linear = plain->linear;
	for (uint32_t y = 0; y < height; y++) {
		const char *keep = sde_image_row(plain, y), *paint = sde_image_row(painted, y);
		char *to = sde_image_row(&image, y);

		for (uint32_t x = 0; x < width;
		     x++, keep += 4 * element, paint += 4 * element, to += 4 * element) {
			const bool clear = memcmp(keep + 3 * element, zero, element) == 0;

			memcpy(to, clear ? keep : paint, 3 * element);
			memcpy(to + 3 * element, keep + 3 * element, element);
		}
	}
	*ret_image = image;
	return 0;
}
