/*
 * diffusers' inpaint image handling with Pillow's integer arithmetic: see diffusers.h. The odd parts are theirs and
 * are kept, such as margins filled from an empty box and the order in which a region is shifted back into the picture.
 */
#include "daemon/engine/geometry/diffusers.h"

#include <errno.h>
#include <string.h>

#include "daemon/engine/geometry/selection.h"
#include "daemon/engine/pixels/resample.h"

static int need_u8(const struct sde_image *image, uint32_t channels, const char *what,
		   struct sde_error *ret_error)
{
	int r;

	r = sde_image_check(image, what, ret_error);
	if (r < 0)
		return r;
	if (image->type != SDE_PIXEL_U8 || image->channels != channels)
		return sde_error_set(ret_error, -EINVAL, "%s must be 8-bit with %u channel%s", what,
				     channels, channels == 1 ? "" : "s");
	return 0;
}

/* Grow [*from, *to) by `grow`, the smaller half first, and push it back into 0..limit the way diffusers does. */
static void grow_span(int64_t *from, int64_t *to, int64_t grow, int64_t limit)
{
	*from -= grow / 2;
	*to += grow - grow / 2;
	if (*to >= limit) {
		*from -= *to - limit;
		*to = limit;
	}
	if (*from < 0) {
		*to -= *from;
		*from = 0;
	}
	if (*to >= limit)
		*to = limit;
}

int sde_crop_region(const struct sde_image *mask, uint32_t width, uint32_t height, uint32_t pad,
		    struct sde_rect *ret_region, struct sde_error *ret_error)
{
	struct sde_rect bounds;
	int64_t x1, y1, x2, y2;
	double aspect;
	int r;

	if (width == 0 || height == 0)
		return sde_error_set(ret_error, -EINVAL, "a target of %u x %u pixels is empty",
				     width, height);
	r = need_u8(mask, 1, "the mask", ret_error);
	if (r < 0)
		return r;
	r = sde_selection_bounds(mask, &bounds, ret_error);
	if (r < 0)
		return r;
	x1 = bounds.x - (int64_t)pad > 0 ? bounds.x - (int64_t)pad : 0;
	y1 = bounds.y - (int64_t)pad > 0 ? bounds.y - (int64_t)pad : 0;
	x2 = (int64_t)bounds.x + bounds.width + pad;
	y2 = (int64_t)bounds.y + bounds.height + pad;
	if (x2 > mask->width)
		x2 = mask->width;
	if (y2 > mask->height)
		y2 = mask->height;
	aspect = (double)width / height;
	if ((double)(x2 - x1) / (double)(y2 - y1) > aspect)
		grow_span(&y1, &y2, (int64_t)((double)(x2 - x1) / aspect - (double)(y2 - y1)),
			  mask->height);
	else
		grow_span(&x1, &x2, (int64_t)((double)(y2 - y1) * aspect - (double)(x2 - x1)),
			  mask->width);
	*ret_region =
		(struct sde_rect){(int32_t)x1, (int32_t)y1, (int32_t)(x2 - x1), (int32_t)(y2 - y1)};
	return 0;
}

/* Copy `from` into `to` at x, y, cutting what sticks out. Same channels. */
static void paste(struct sde_image *to, const struct sde_image *from, int64_t x, int64_t y)
{
	const int64_t left = x < 0 ? -x : 0;
	int64_t right = from->width;

	if (x + right > to->width)
		right = (int64_t)to->width - x;
	if (right <= left)
		return;
	for (int64_t row = 0; row < from->height; row++) {
		if (y + row < 0 || y + row >= to->height)
			continue;
		memcpy((char *)sde_image_row(to, (uint32_t)(y + row)) + (x + left) * to->channels,
		       (char *)sde_image_row(from, (uint32_t)row) + left * to->channels,
		       (size_t)(right - left) * to->channels);
	}
}

/* A margin of one side: the edge line of `resized`, spread by Pillow's bicubic over an empty box. */
static int fill_margin(struct sde_image *to, const struct sde_image *resized, struct sde_box edge,
		       uint32_t width, uint32_t height, int64_t x, int64_t y,
		       struct sde_error *ret_error)
{
	struct sde_image margin;
	int r;

	r = sde_resize_u8(resized, width, height, SDE_FILTER_BICUBIC, &edge, &margin, ret_error);
	if (r < 0)
		return r;
	paste(to, &margin, x, y);
	sde_image_clear(&margin);
	return 0;
}

static int fill_margins(struct sde_image *to, const struct sde_image *resized,
			struct sde_error *ret_error)
{
	const double rw = resized->width, rh = resized->height;
	const uint32_t above = to->height / 2 - resized->height / 2;
	const uint32_t beside = to->width / 2 - resized->width / 2;
	int r = 0;

	if (above > 0) {
		r = fill_margin(to, resized, (struct sde_box){0, 0, rw, 0}, to->width, above, 0, 0,
				ret_error);
		if (r == 0)
			r = fill_margin(to, resized, (struct sde_box){0, rh, rw, rh}, to->width,
					above, 0, (int64_t)above + resized->height, ret_error);
	} else if (beside > 0) {
		r = fill_margin(to, resized, (struct sde_box){0, 0, 0, rh}, beside, to->height, 0,
				0, ret_error);
		if (r == 0)
			r = fill_margin(to, resized, (struct sde_box){rw, 0, rw, rh}, beside,
					to->height, (int64_t)beside + resized->width, 0, ret_error);
	}
	return r;
}

int sde_diffusers_resize(const struct sde_image *image, uint32_t width, uint32_t height,
			 enum sde_resize_mode mode, struct sde_image *ret_image,
			 struct sde_error *ret_error)
{
	const double ratio = (double)width / height;
	const double source = (double)image->width / image->height;
	const bool fill = mode == SDE_RESIZE_FILL;
	struct sde_image resized, result;
	uint64_t w = width, h = height;
	int r;

	r = sde_image_check(image, "the image", ret_error);
	if (r < 0)
		return r;
	if (width == 0 || height == 0)
		return sde_error_set(ret_error, -EINVAL, "a target of %u x %u pixels is empty",
				     width, height);
	if (mode == SDE_RESIZE_DEFAULT)
		return sde_resize_u8(image, width, height, SDE_FILTER_LANCZOS, NULL, ret_image,
				     ret_error);
	if (fill ? ratio >= source : ratio <= source)
		w = (uint64_t)image->width * height / image->height;
	if (fill ? ratio < source : ratio > source)
		h = (uint64_t)image->height * width / image->width;
	if (w == 0 || h == 0 || w > SDE_IMAGE_MAX_SIDE || h > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(ret_error, -EINVAL,
				     "%u x %u pixels cannot keep their aspect within %u x %u",
				     image->width, image->height, width, height);
	r = sde_resize_u8(image, (uint32_t)w, (uint32_t)h, SDE_FILTER_LANCZOS, NULL, &resized,
			  ret_error);
	if (r < 0)
		return r;
	r = sde_image_new(width, height, image->channels, SDE_PIXEL_U8, &result, ret_error);
	if (r == 0) {
		paste(&result, &resized, (int64_t)(width / 2) - (int64_t)(w / 2),
		      (int64_t)(height / 2) - (int64_t)(h / 2));
		if (mode == SDE_RESIZE_FILL)
			r = fill_margins(&result, &resized, ret_error);
		if (r < 0)
			sde_image_clear(&result);
		else
			*ret_image = result;
	}
	sde_image_clear(&resized);
	return r;
}

/* Pillow's rounding a * b / 255. */
static uint32_t mul_div_255(uint32_t a, uint32_t b)
{
	const uint32_t t = a * b + 128;

	return ((t >> 8) + t) >> 8;
}

/* One channel of Image.alpha_composite over an opaque pixel: colour s of alpha a over d, with Pillow's 7 extra bits. */
static uint8_t composite_over_opaque(uint32_t s, uint32_t d, uint32_t a)
{
	const uint32_t coefficient = a << 7;
	const uint32_t t = s * coefficient + d * (255 * (1 << 7) - coefficient) + (0x80 << 7);

	return (uint8_t)(((t >> 8) + t) >> 8 >> 7);
}

int sde_apply_overlay(const struct sde_image *mask, const struct sde_image *original,
		      const struct sde_image *generated, const struct sde_rect *region,
		      struct sde_image *ret_image, struct sde_error *ret_error)
{
	struct sde_image base, placed;
	int r;

	r = need_u8(mask, 1, "the mask", ret_error);
	if (r == 0)
		r = need_u8(original, 3, "the original", ret_error);
	if (r == 0)
		r = need_u8(generated, 3, "the generated picture", ret_error);
	if (r < 0)
		return r;
	if (mask->width != original->width || mask->height != original->height)
		return sde_error_set(
			ret_error, -EINVAL,
			"the mask is %u x %u pixels, the original %u x %u: they must be equal",
			mask->width, mask->height, original->width, original->height);
	if (!region &&
	    (generated->width != original->width || generated->height != original->height))
		return sde_error_set(
			ret_error, -EINVAL,
			"the generated picture is %u x %u pixels, the original %u x %u",
			generated->width, generated->height, original->width, original->height);
	if (region) {
		if (region->width < 1 || region->height < 1)
			return sde_error_set(ret_error, -EINVAL, "the region to paste is empty");
		r = sde_image_new(original->width, original->height, 3, SDE_PIXEL_U8, &base,
				  ret_error);
		if (r < 0)
			return r;
		r = sde_diffusers_resize(generated, (uint32_t)region->width,
					 (uint32_t)region->height, SDE_RESIZE_CROP, &placed,
					 ret_error);
		if (r < 0) {
			sde_image_clear(&base);
			return r;
		}
		paste(&base, &placed, region->x, region->y);
		sde_image_clear(&placed);
	} else {
		r = sde_image_copy(generated, &base, ret_error);
		if (r < 0)
			return r;
	}
	for (uint32_t y = 0; y < base.height; y++) {
		const uint8_t *m = sde_image_row(mask, y), *o = sde_image_row(original, y);
		uint8_t *b = sde_image_row(&base, y);

		for (uint32_t x = 0; x < base.width; x++, o += 3, b += 3) {
			const uint32_t alpha = 255 - m[x];

			for (int c = 0; c < 3; c++) {
				/* pasted premultiplied, then brought back to straight alpha */
				uint32_t color = mul_div_255(o[c], alpha);

				if (alpha != 0 && alpha != 255)
					color = 255 * color / alpha;
				if (color > 255)
					color = 255;
				b[c] = alpha == 0 ? b[c]
						  : composite_over_opaque(color, b[c], alpha);
			}
		}
	}
	*ret_image = base;
	return 0;
}
