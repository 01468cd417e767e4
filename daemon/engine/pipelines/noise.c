/*
 * Draws in torch's order: a batch from one generator is one randn, a batch from a list is one randn per image.
 */
#include "daemon/engine/pipelines/noise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/schedulers/steps.h"

static int draw_between(struct sde_noise *noise, float *ret_values, size_t n,
			struct sde_error *error)
{
	float *from = malloc(n * sizeof(*from) + 1);

	if (!from)
		return sde_error_set(error, -ENOMEM, "no memory for %zu random numbers", n);
	sde_rng_randn(noise->rngs, from, n);
	sde_rng_randn(noise->other, ret_values, n);
	(noise->straight ? sde_lerp : sde_slerp)(from, ret_values, ret_values, n, noise->share);
	free(from);
	return 0;
}

int sde_noise_draw(struct sde_noise *noise, float *ret_values, size_t n_images, size_t per_image,
		   struct sde_error *error)
{
	const size_t n = n_images * per_image;

	if (noise->stream) {
		if (noise->stream_left < n)
			return sde_error_set(error, -ENODATA,
					     "the recorded noise ends %zu numbers too early",
					     n - noise->stream_left);
		memcpy(ret_values, noise->stream, n * sizeof(float));
		noise->stream += n;
		noise->stream_left -= n;
		return 0;
	}
	if (noise->n_rngs == 1 && noise->other)
		return draw_between(noise, ret_values, n, error);
	if (noise->n_rngs == 1) {
		sde_rng_randn(noise->rngs, ret_values, n);
		return 0;
	}
	if ((size_t)noise->n_rngs < n_images)
		return sde_error_set(error, -EINVAL, "%d generators for %zu images", noise->n_rngs,
				     n_images);
	for (size_t i = 0; i < n_images; i++)
		sde_rng_randn(&noise->rngs[i], ret_values + i * per_image, per_image);
	return 0;
}
