/*
 * AutoencoderTiny on host arrays, float32 NCHW, whole and in tiles; and its latents as bytes.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/autoencoders/tiny.h"
#include "daemon/engine/runner.h"

/* Tile sides and the faded part of one; diffusers' tile_sample_min_size, tile_latent_min_size, tile_overlap_factor. */
struct sde_tiny_tiling {
	int sample_size, latent_size; /* sample_size = latent_size * factor */
	double overlap;
};

/*
 * image (batch, in_channels, height, width) -> latents (batch, latent_channels, height / f, width / f), unscaled. tiling
 * NULL: whole. The cancel flag is polled between tiles.
 */
int sde_tiny_encode(struct sde_runner *runner, const struct sde_tiny *tiny,
		    const struct sde_tiny_tiling *tiling, const float *image, int batch, int height,
		    int width, float *ret_latents, struct sde_error *error);
/* latents (batch, latent_channels, height, width), unscaled -> image (batch, out_channels, height * f, width * f). */
int sde_tiny_decode(struct sde_runner *runner, const struct sde_tiny *tiny,
		    const struct sde_tiny_tiling *tiling, const float *latents, int batch,
		    int height, int width, float *ret_image, struct sde_error *error);

/* Latents as the published files keep them in bytes: to 0..1, clamped, and back. In place. */
void sde_tiny_latents_to_unit(const struct sde_tiny_config *config, float *latents, size_t n);
void sde_tiny_latents_from_unit(const struct sde_tiny_config *config, float *latents, size_t n);
