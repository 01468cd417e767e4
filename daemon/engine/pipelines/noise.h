/*
 * Where a pipeline's random numbers come from. diffusers takes one generator for the whole batch (every draw is one tensor
 * of all images) or a list with one per image (so that a batch equals single pictures); tests replay recorded draws.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/rng.h"

struct sde_error;

struct sde_noise {
	struct sde_rng *rngs; /* borrowed: one for all, or one per image */
	int n_rngs;
	const float
		*stream; /* when not NULL: recorded draws, one behind the other, instead of rngs */
	size_t stream_left; /* floats */
	/*
	 * With one generator: every draw lies between one of it and one of this, so that the pictures of two seeds pass into each
	 * other whatever a sampler draws. Borrowed, NULL = it alone.
	 */
	struct sde_rng *other;
	double share;  /* of the other, 0..1 */
	bool straight; /* lerp in place of slerp */
};

/*
 * One draw of n_images x per_image standard normals. -EINVAL when a list of generators is shorter than the batch, -ENODATA
 * when a recorded stream ends, -ENOMEM.
 */
int sde_noise_draw(struct sde_noise *noise, float *ret_values, size_t n_images, size_t per_image,
		   struct sde_error *error);
