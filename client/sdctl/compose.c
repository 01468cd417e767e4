/*
 * Layer over picture; see compose.h. Arithmetic is straight alpha in the document's own values, as editors do in
 * "legacy" mode; the daemon has already matched colours.
 */
#include "client/sdctl/compose.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t pixel_index(const struct picture *picture, int x, int y)
{
	return ((size_t)y * (size_t)picture->width + (size_t)x) * (size_t)picture->channels;
}

/* Copy a pixel between pictures of one type, widening grey to colour and adding full alpha where needed. */
static void pixel_copy(struct picture *out, size_t to, const struct picture *in, size_t from)
{
	const size_t size = picture_type_size(in->type);
	const int colors_in = in->channels >= 3 ? 3 : 1, colors_out = out->channels >= 3 ? 3 : 1;
	const bool alpha_in = in->channels % 2 == 0, alpha_out = out->channels % 2 == 0;

	for (int c = 0; c < colors_out; c++)
		memcpy(out->data + (to + (size_t)c) * size,
		       in->data + (from + (size_t)(c < colors_in ? c : colors_in - 1)) * size,
		       size);
	if (alpha_out && alpha_in)
		memcpy(out->data + (to + (size_t)colors_out) * size,
		       in->data + (from + (size_t)colors_in) * size, size);
	else if (alpha_out)
		picture_set_sample(out, to + (size_t)colors_out, 1.0f);
}

static bool layer_is_grey(const struct picture *layer)
{
	const size_t n = (size_t)layer->width * (size_t)layer->height;

	for (size_t i = 0; i < n; i++) {
		const float red = picture_sample(layer, i * 4);

		if (picture_sample(layer, i * 4 + 3) > 0.0f &&
		    (picture_sample(layer, i * 4 + 1) != red ||
		     picture_sample(layer, i * 4 + 2) != red))
			return false;
	}
	return true;
}

static void pixel_over(struct picture *out, size_t to, const struct picture *layer, size_t from)
{
	const int colors = out->channels >= 3 ? 3 : 1;
	const float above = picture_sample(layer, from + 3);
	const float below =
		out->channels % 2 == 0 ? picture_sample(out, to + (size_t)colors) : 1.0f;
	const float alpha = above + below * (1.0f - above);

	for (int c = 0; c < colors; c++) {
		const float top = picture_sample(layer, from + (size_t)c);
		const float bottom = picture_sample(out, to + (size_t)c);

		picture_set_sample(out, to + (size_t)c,
				   (top * above + bottom * below * (1.0f - above)) / alpha);
	}
	if (out->channels % 2 == 0)
		picture_set_sample(out, to + (size_t)colors, alpha);
}

static int min_int(int a, int b)
{
	return a < b ? a : b;
}

static int max_int(int a, int b)
{
	return a > b ? a : b;
}

int compose_layer(const struct picture *base, const struct picture *layer, int x, int y,
		  struct picture *ret)
{
	const int left = min_int(0, x), top = min_int(0, y);
	const int width = max_int(base->width, x + layer->width) - left;
	const int height = max_int(base->height, y + layer->height) - top;
	int channels = base->channels;
	struct picture out;
	int r;

	if (base->type != layer->type || layer->channels != 4)
		return -EINVAL;
	if (channels <= 2 && !layer_is_grey(layer))
		channels += 2;
	r = picture_new(width, height, channels, base->type, &out);
	if (r < 0)
		return r;
	if (base->icc) {
		out.icc = malloc(base->icc_size);
		if (!out.icc) {
			picture_clear(&out);
			return -ENOMEM;
		}
		memcpy(out.icc, base->icc, base->icc_size);
		out.icc_size = base->icc_size;
	}
	for (int row = 0; row < base->height; row++)
		for (int column = 0; column < base->width; column++)
			pixel_copy(&out, pixel_index(&out, column - left, row - top), base,
				   pixel_index(base, column, row));
	for (int row = 0; row < layer->height; row++) {
		for (int column = 0; column < layer->width; column++) {
			const size_t from = pixel_index(layer, column, row);
			const size_t to = pixel_index(&out, x - left + column, y - top + row);
			const int bx = x + column, by = y + row;
			const bool inside =
				bx >= 0 && by >= 0 && bx < base->width && by < base->height;

			if (!inside)
				pixel_copy(&out, to, layer, from);
			else if (picture_sample(layer, from + 3) > 0.0f)
				pixel_over(&out, to, layer, from);
		}
	}
	*ret = out;
	return 0;
}

static void paste_rgb8(struct picture *out, const struct picture *in, int x)
{
	for (int row = 0; row < in->height; row++) {
		for (int column = 0; column < in->width; column++) {
			const size_t from = pixel_index(in, column, row);
			const float alpha =
				in->channels % 2 == 0
					? picture_sample(in, from + (size_t)in->channels - 1)
					: 1.0f;

			for (int c = 0; c < 3; c++) {
				const float value = picture_sample(
					in, from + (size_t)(in->channels >= 3 ? c : 0));

				picture_set_sample(out,
						   pixel_index(out, x + column, row) + (size_t)c,
						   value * alpha + 1.0f - alpha);
			}
		}
	}
}

int compose_side_by_side(const struct picture *left, const struct picture *right, int gap,
			 struct picture *ret)
{
	struct picture out;
	int r;

	r = picture_new(left->width + gap + right->width, max_int(left->height, right->height), 3,
			PICTURE_U8, &out);
	if (r < 0)
		return r;
	memset(out.data, 255, (size_t)out.width * (size_t)out.height * 3);
	paste_rgb8(&out, left, 0);
	paste_rgb8(&out, right, left->width + gap);
	*ret = out;
	return 0;
}
