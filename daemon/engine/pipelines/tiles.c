/*
 * Windows over a canvas: see tiles.h. Weights are separable: a raised cosine over the overlap on both sides, divided by
 * what lies at a place, so that they sum to one also at the canvas's border.
 */
#include "daemon/engine/pipelines/tiles.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

static int axis_init(int length, int side, int overlap, int *ret_side, int *ret_count,
		     int **ret_begins, float **ret_weights, float **ret_sums)
{
	const int tile = side < length ? side : length;
	const int stride = side - overlap;
	const int count = length > tile ? (length - overlap + stride - 1) / stride : 1;
	const int fade = count > 1 ? overlap : 0;

	*ret_side = tile;
	*ret_count = count;
	*ret_begins = calloc((size_t)count, sizeof(**ret_begins));
	*ret_weights = calloc((size_t)tile, sizeof(**ret_weights));
	*ret_sums = calloc((size_t)length, sizeof(**ret_sums));
	if (!*ret_begins || !*ret_weights || !*ret_sums)
		return -ENOMEM;
	for (int i = 0; i < tile; i++) {
		const int edge = i < tile - 1 - i ? i : tile - 1 - i;
		const double at = edge < fade ? sin(M_PI * (edge + 0.5) / (2.0 * fade)) : 1.0;

		(*ret_weights)[i] = (float)(at * at);
	}
	for (int i = 0; i < count; i++) {
		(*ret_begins)[i] =
			count > 1 ? (int)((int64_t)i * (length - tile) / (count - 1)) : 0;
		for (int k = 0; k < tile; k++)
			(*ret_sums)[(*ret_begins)[i] + k] += (*ret_weights)[k];
	}
	return 0;
}

int sde_tiles_init(struct sde_tiles *tiles, int height, int width, int side, int overlap,
		   struct sde_error *error)
{
	int r;

	*tiles = (struct sde_tiles){.height = height, .width = width};
	if (height < 1 || width < 1 || overlap < 0 || overlap >= side)
		return sde_error_set(error, -EINVAL,
				     "tiles of %d latents that share %d do not cover %d x %d", side,
				     overlap, width, height);
	r = axis_init(height, side, overlap, &tiles->tile_height, &tiles->rows, &tiles->ys,
		      &tiles->y_weights, &tiles->y_sums);
	if (r >= 0)
		r = axis_init(width, side, overlap, &tiles->tile_width, &tiles->columns, &tiles->xs,
			      &tiles->x_weights, &tiles->x_sums);
	if (r < 0) {
		sde_tiles_clear(tiles);
		return sde_error_set(error, r, "no memory for tiles of %d x %d latents", width,
				     height);
	}
	return 0;
}

void sde_tiles_clear(struct sde_tiles *tiles)
{
	free(tiles->ys);
	free(tiles->xs);
	free(tiles->y_weights);
	free(tiles->x_weights);
	free(tiles->y_sums);
	free(tiles->x_sums);
	*tiles = (struct sde_tiles){0};
}

void sde_tiles_cut(const struct sde_tiles *tiles, int i, const float *canvas, size_t planes,
		   int scale, float *ret_tile)
{
	const size_t cells = (size_t)scale, h = (size_t)tiles->tile_height * cells,
		     w = (size_t)tiles->tile_width * cells;
	const size_t y = (size_t)tiles->ys[i / tiles->columns] * cells,
		     x = (size_t)tiles->xs[i % tiles->columns] * cells;

	for (size_t p = 0; p < planes; p++)
		for (size_t row = 0; row < h; row++)
			memcpy(ret_tile + (p * h + row) * w,
			       canvas +
				       (p * (size_t)tiles->height * cells + y + row) *
					       (size_t)tiles->width * cells +
				       x,
			       w * sizeof(float));
}

void sde_tiles_add(const struct sde_tiles *tiles, int i, const float *tile, size_t planes,
		   float *sums)
{
	const size_t h = (size_t)tiles->tile_height, w = (size_t)tiles->tile_width;
	const size_t y = (size_t)tiles->ys[i / tiles->columns],
		     x = (size_t)tiles->xs[i % tiles->columns];

	for (size_t p = 0; p < planes; p++)
		for (size_t row = 0; row < h; row++) {
			const float share = tiles->y_weights[row] / tiles->y_sums[y + row];
			const float *from = tile + (p * h + row) * w;
			float *to = sums +
				    (p * (size_t)tiles->height + y + row) * (size_t)tiles->width +
				    x;

			for (size_t k = 0; k < w; k++)
				to[k] += share * tiles->x_weights[k] / tiles->x_sums[x + k] *
					 from[k];
		}
}
