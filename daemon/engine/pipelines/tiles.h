/*
 * Multi-diffusion (Bar-Tal et al. 2023): a canvas larger than the denoiser was trained at is predicted window by window, each
 * of the native size, and where windows overlap their predictions are averaged with weights that fade towards the windows'
 * edges, at every step. All windows see one canvas of latents, so its noise is drawn once. A sampler's step is
 * affine in the prediction, so this average is that of the stepped latents, while there is one sampler history.
 *
 * Arrays are float32, planar: (planes, height, width).
 */
#pragma once

#include <stddef.h>

struct sde_error;

struct sde_tiles {
	int height, width;	     /* of the canvas, latents */
	int tile_height, tile_width; /* of every tile */
	int rows, columns;
	int *ys, *xs;		      /* owned: rows, columns; where tiles begin */
	float *y_weights, *x_weights; /* owned: tile_height, tile_width; above 0 */
	float *y_sums, *x_sums;	      /* owned: height, width; of the weights laid there */
};

/*
 * Tiles of `side` (or the canvas's own side, where that is shorter) that share at least `overlap` latents with the next one
 * and begin evenly spread. -EINVAL unless 0 <= overlap < side; -ENOMEM. Zero-filled on failure.
 */
int sde_tiles_init(struct sde_tiles *tiles, int height, int width, int side, int overlap,
		   struct sde_error *error);
void sde_tiles_clear(struct sde_tiles *tiles);

static inline int sde_tiles_count(const struct sde_tiles *tiles)
{
	return tiles->rows * tiles->columns;
}

/* Tile i of the canvas: (planes, tile_height, tile_width). scale: cells of the arrays per latent, for pictures; 1 for latents. */
void sde_tiles_cut(const struct sde_tiles *tiles, int i, const float *canvas, size_t planes,
		   int scale, float *ret_tile);
/* Add tile i, weighted, to sums (planes, height, width); all of them make the average, as the weights are normalised. */
void sde_tiles_add(const struct sde_tiles *tiles, int i, const float *tile, size_t planes,
		   float *sums);
