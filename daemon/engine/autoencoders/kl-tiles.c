/*
 * The autoencoder piecewise, for pictures whose activations would not fit into memory: overlapping tiles, each run alone,
 * their seams cross-faded. Positions and blending are diffusers' (AutoencoderKL.tiled_encode, tiled_decode): tiles are
 * blended in place, row by row, with neighbours that are already blended.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/forward.h"

/* A tile's output, (channels, h, w). */
struct tile {
	float *values; /* owned */
	int h, w;
};

struct tiles {
	struct sde_runner *runner;
	const struct sde_kl *kl;
	bool decode;
	int size, stride; /* of a tile in the input; from a tile to the next */
	int blend, limit; /* in the output: cross-faded lines; lines kept of a tile */
	int in_channels, out_channels, factor;
	int height, width, out_height, out_width;
	struct sde_error *error;
};

static int out_side(const struct tiles *tiles, int side)
{
	return tiles->decode ? side * tiles->factor : side / tiles->factor;
}

static int min(int a, int b)
{
	return a < b ? a : b;
}

static int run_tile(const struct tiles *tiles, const float *in, int y, int x, struct tile *ret_tile)
{
	const int h = min(tiles->size, tiles->height - y), w = min(tiles->size, tiles->width - x);
	struct tile tile = {.h = out_side(tiles, h), .w = out_side(tiles, w)};
	_cleanup_free_ float *part = NULL;
	int r;

	part = malloc((size_t)tiles->in_channels * (size_t)h * (size_t)w * sizeof(float) + 1);
	tile.values = malloc(
		(size_t)tiles->out_channels * (size_t)tile.h * (size_t)tile.w * sizeof(float) + 1);
	if (!part || !tile.values) {
		free(tile.values);
		return sde_error_set(tiles->error, -ENOMEM, "no memory for a tile of %d x %d", w,
				     h);
	}
	for (int c = 0; c < tiles->in_channels; c++)
		for (int row = 0; row < h; row++)
			memcpy(part + ((size_t)c * (size_t)h + (size_t)row) * (size_t)w,
			       in +
				       ((size_t)c * (size_t)tiles->height + (size_t)(y + row)) *
					       (size_t)tiles->width +
				       x,
			       (size_t)w * sizeof(float));
	r = tiles->decode ? sde_kl_decode(tiles->runner, tiles->kl, part, 1, h, w, tile.values,
					  tiles->error)
			  : sde_kl_encode(tiles->runner, tiles->kl, part, 1, h, w, tile.values,
					  tiles->error);
	if (r < 0) {
		free(tile.values);
		return r;
	}
	*ret_tile = tile;
	return 0;
}

/* Fade from the last lines of the tile above into the first of this one. */
static void blend_above(const struct tiles *tiles, const struct tile *above, struct tile *tile)
{
	const int extent = min(min(above->h, tile->h), tiles->blend);

	for (int c = 0; c < tiles->out_channels; c++)
		for (int y = 0; y < extent; y++) {
			const float t = (float)y / (float)extent;
			const float *from = above->values + ((size_t)c * (size_t)above->h +
							     (size_t)(above->h - extent + y)) *
								    (size_t)above->w;
			float *to = tile->values +
				    ((size_t)c * (size_t)tile->h + (size_t)y) * (size_t)tile->w;

			for (int x = 0; x < tile->w; x++)
				to[x] = from[x] * (1 - t) + to[x] * t;
		}
}

static void blend_left(const struct tiles *tiles, const struct tile *left, struct tile *tile)
{
	const int extent = min(min(left->w, tile->w), tiles->blend);

	for (int row = 0; row < tiles->out_channels * tile->h; row++) {
		const float *from = left->values + (size_t)row * (size_t)left->w + left->w - extent;
		float *to = tile->values + (size_t)row * (size_t)tile->w;

		for (int x = 0; x < extent; x++) {
			const float t = (float)x / (float)extent;

			to[x] = from[x] * (1 - t) + to[x] * t;
		}
	}
}

/* Copy what is kept of a tile to its place; y and x are in the output. */
static void place(const struct tiles *tiles, const struct tile *tile, int y, int x, float *out)
{
	const int h = min(min(tile->h, tiles->limit), tiles->out_height - y);
	const int w = min(min(tile->w, tiles->limit), tiles->out_width - x);

	for (int c = 0; h > 0 && w > 0 && c < tiles->out_channels; c++)
		for (int row = 0; row < h; row++)
			memcpy(out +
				       ((size_t)c * (size_t)tiles->out_height + (size_t)(y + row)) *
					       (size_t)tiles->out_width +
				       x,
			       tile->values + ((size_t)c * (size_t)tile->h + (size_t)row) *
						      (size_t)tile->w,
			       (size_t)w * sizeof(float));
}

static void row_clear(struct tile *row, int n)
{
	for (int i = 0; i < n; i++)
		free(row[i].values);
	memset(row, 0, sizeof(*row) * (size_t)n);
}

/* One image. above and row: arrays of `columns` tiles, all empty. */
static int run_image(const struct tiles *tiles, const float *in, float *out, struct tile *above,
		     struct tile *row, int columns)
{
	int r = 0, oy = 0;

	for (int y = 0; r >= 0 && y < tiles->height; y += tiles->stride, oy += tiles->limit) {
		int ox = 0;

		for (int i = 0; r >= 0 && i < columns; i++, ox += tiles->limit) {
			r = sde_runner_check_cancel(tiles->runner, tiles->error);
			if (r >= 0)
				r = run_tile(tiles, in, y, i * tiles->stride, &row[i]);
			if (r < 0)
				break;
			if (y > 0)
				blend_above(tiles, &above[i], &row[i]);
			if (i > 0)
				blend_left(tiles, &row[i - 1], &row[i]);
			place(tiles, &row[i], oy, ox, out);
		}
		row_clear(above, columns);
		memcpy(above, row, sizeof(*row) * (size_t)columns);
		memset(row, 0, sizeof(*row) * (size_t)columns);
	}
	row_clear(above, columns);
	return r;
}

static int run_images(struct tiles *tiles, const float *in, int batch, float *out)
{
	const int columns = (tiles->width + tiles->stride - 1) / tiles->stride;
	_cleanup_free_ struct tile *above = calloc((size_t)columns, sizeof(*above));
	_cleanup_free_ struct tile *row = calloc((size_t)columns, sizeof(*row));
	int r = 0;

	if (!above || !row)
		return sde_error_set(tiles->error, -ENOMEM, "no memory for tiles");
	tiles->out_height = out_side(tiles, tiles->height);
	tiles->out_width = out_side(tiles, tiles->width);
	for (size_t b = 0; r >= 0 && b < (size_t)batch; b++)
		r = run_image(tiles,
			      in + b * (size_t)tiles->in_channels * (size_t)tiles->height *
					      (size_t)tiles->width,
			      out + b * (size_t)tiles->out_channels * (size_t)tiles->out_height *
					      (size_t)tiles->out_width,
			      above, row, columns);
	return r;
}

int sde_kl_encode_tiled(struct sde_runner *runner, const struct sde_kl *kl,
			const struct sde_kl_tiling *tiling, const float *image, int batch,
			int height, int width, float *ret_moments, struct sde_error *error)
{
	struct tiles tiles = {.runner = runner,
			      .kl = kl,
			      .size = tiling->sample_size,
			      .stride = (int)(tiling->sample_size * (1 - tiling->overlap)),
			      .blend = (int)(tiling->latent_size * tiling->overlap),
			      .in_channels = kl->config.in_channels,
			      .out_channels = sde_kl_config_moments(&kl->config),
			      .factor = sde_kl_config_factor(&kl->config),
			      .height = height,
			      .width = width,
			      .error = error};

	if (height <= tiles.size && width <= tiles.size)
		return sde_kl_encode(runner, kl, image, batch, height, width, ret_moments, error);
	tiles.limit = tiling->latent_size - tiles.blend;
	if (tiles.stride < 1 || tiles.limit < 1)
		return sde_error_set(error, -EINVAL, "tiles of %d do not advance", tiles.size);
	return run_images(&tiles, image, batch, ret_moments);
}

int sde_kl_decode_tiled(struct sde_runner *runner, const struct sde_kl *kl,
			const struct sde_kl_tiling *tiling, const float *z, int batch, int height,
			int width, float *ret_image, struct sde_error *error)
{
	struct tiles tiles = {.runner = runner,
			      .kl = kl,
			      .decode = true,
			      .size = tiling->latent_size,
			      .stride = (int)(tiling->latent_size * (1 - tiling->overlap)),
			      .blend = (int)(tiling->sample_size * tiling->overlap),
			      .in_channels = kl->config.latent_channels,
			      .out_channels = kl->config.out_channels,
			      .factor = sde_kl_config_factor(&kl->config),
			      .height = height,
			      .width = width,
			      .error = error};

	if (height <= tiles.size && width <= tiles.size)
		return sde_kl_decode(runner, kl, z, batch, height, width, ret_image, error);
	tiles.limit = tiling->sample_size - tiles.blend;
	if (tiles.stride < 1 || tiles.limit < 1)
		return sde_error_set(error, -EINVAL, "tiles of %d do not advance", tiles.size);
	return run_images(&tiles, z, batch, ret_image);
}
