/* Reading selections: see selection.h. */
#include "daemon/engine/geometry/selection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/pixels/convert.h"

#define CHUNK 256 /* pixels converted at a time, so that reading a row needs no memory of its own */

static float mask_value(const float *pixel, uint32_t channels)
{
	float value = pixel[0];

	if (channels >= 3)
		value = 0.299f * pixel[0] + 0.587f * pixel[1] + 0.114f * pixel[2];
	if (channels == 2 || channels == 4)
		value *= pixel[channels - 1];
	if (value <= SDE_SELECTED)
		return 0.0f;
	return value < 1.0f ? value : 1.0f;
}

void sde_mask_row(const struct sde_image *mask, uint32_t x, uint32_t y, uint32_t count,
		  float *ret_row)
{
	float chunk[CHUNK * 4];

	while (count > 0) {
		const uint32_t n = count < CHUNK ? count : CHUNK;

		sde_row_to_float(mask, x, y, n, chunk);
		for (uint32_t i = 0; i < n; i++)
			ret_row[i] = mask_value(chunk + (size_t)i * mask->channels, mask->channels);
		x += n;
		count -= n;
		ret_row += n;
	}
}

int sde_selection_bounds(const struct sde_image *mask, struct sde_rect *ret_bounds,
			 struct sde_error *ret_error)
{
	uint32_t left = mask->width, right = 0, top = mask->height, bottom = 0;
	float *row;

	row = calloc(mask->width, sizeof(*row));
	if (!row)
		return sde_error_set(ret_error, -ENOMEM,
				     "no memory to read a mask row of %u pixels", mask->width);
	for (uint32_t y = 0; y < mask->height; y++) {
		uint32_t first = 0, last = mask->width;

		sde_mask_row(mask, 0, y, mask->width, row);
		while (first < last && row[first] == 0.0f)
			first++;
		if (first == last)
			continue;
		while (row[last - 1] == 0.0f)
			last--;
		left = first < left ? first : left;
		right = last > right ? last : right;
		top = y < top ? y : top;
		bottom = y + 1;
	}
	free(row);
	if (right <= left)
		return sde_error_set(ret_error, -EINVAL,
				     "nothing is selected: every pixel of the %u x %u mask is 0; "
				     "give a mask with "
				     "at least one pixel above 0, or a rectangle",
				     mask->width, mask->height);
	*ret_bounds = (struct sde_rect){(int32_t)left, (int32_t)top, (int32_t)(right - left),
					(int32_t)(bottom - top)};
	return 0;
}

void sde_selection_plane(const struct sde_selection *selection, struct sde_rect area,
			 float *ret_plane)
{
	const size_t width = (size_t)area.width;

	for (int32_t y = 0; y < area.height; y++) {
		float *row = ret_plane + (size_t)y * width;
		const struct sde_rect line = {area.x, area.y + y, area.width, 1};
		const struct sde_rect hit = sde_rect_intersect(line, selection->rect);

		memset(row, 0, width * sizeof(*row));
		if (sde_rect_empty(hit))
			continue;
		row += hit.x - area.x;
		if (selection->mask)
			sde_mask_row(selection->mask, (uint32_t)hit.x, (uint32_t)hit.y,
				     (uint32_t)hit.width, row);
		else
			for (int32_t x = 0; x < hit.width; x++)
				row[x] = 1.0f;
	}
}
