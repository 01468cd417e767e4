/*
 * Sinusoidal embeddings: see embeddings.h.
 */
#include "daemon/engine/schedulers/embeddings.h"

#include <math.h>

static void sinusoid(float value, size_t dim, bool cos_first, double shift, double max_period,
		     float *out)
{
	size_t half = dim / 2;
	float *cosines = cos_first ? out : out + half;
	float *sines = cos_first ? out + half : out;

	for (size_t k = 0; k < half; k++) {
		float exponent = (float)-log(max_period) * (float)k / (float)((double)half - shift);
		float angle = value * expf(exponent);

		cosines[k] = (float)cos(angle);
		sines[k] = (float)sin(angle);
	}
	if (dim % 2)
		out[dim - 1] = 0;
}

void sde_timestep_embedding(const float *timesteps, size_t n, size_t dim, bool flip_sin_to_cos,
			    double shift, double max_period, float *out)
{
	for (size_t i = 0; i < n; i++)
		sinusoid(timesteps[i], dim, flip_sin_to_cos, shift, max_period, out + i * dim);
}

void sde_guidance_embedding(const float *w, size_t n, size_t dim, double scale, float *out)
{
	for (size_t i = 0; i < n; i++)
		sinusoid(w[i] * (float)scale, dim, false, 1, 10000, out + i * dim);
}
