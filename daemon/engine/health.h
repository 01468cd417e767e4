/*
 * Whether a checkpoint's autoencoder and its scaling factor belong together: test pictures go through the encoder and back,
 * and what the latents look like says the rest. A wrong factor is the quiet fault of converted checkpoints: everything
 * loads, and pictures come out grey, burnt or noisy. A denoiser is trained on latents of standard deviation 1 (Rombach et
 * al. 2022, appendix G), so the right factor is 1 / std of the autoencoder's own latents.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A picture with the statistics of natural ones: discs of all sizes that cover each other ("dead leaves"; Matheron 1968; Lee,
 * Mumford and Huang 2001), radii distributed as r^-3. planes: (3, side, side), values in -0.9..0.9, the same for a number on
 * every machine.
 */
void sde_test_picture(uint32_t number, int side, float *ret_planes);

/* Mean and standard deviation over all that is finite, and how many are not. */
struct sde_spread {
	double mean, std;
	size_t n_bad;
};

struct sde_spread sde_spread_of(const float *values, size_t n);
