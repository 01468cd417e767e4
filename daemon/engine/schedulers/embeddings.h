/*
 * Sinusoidal embeddings of scalars that go into a denoiser: the timestep (Ho et al. 2020, in
 * diffusers' layout) and, for LCM, the guidance scale. float32 throughout except the final sine,
 * whose argument reaches 1000.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * out[i*dim .. (i+1)*dim) = embedding of timesteps[i]: with half = dim/2, frequencies
 * exp(-ln(max_period) * k / (half - shift)), laid out [cos | sin] when flip_sin_to_cos, else [sin |
 * cos]; an odd dim ends in a zero. shift: downscale_freq_shift.
 */
void sde_timestep_embedding(const float *timesteps, size_t n, size_t dim, bool flip_sin_to_cos,
			    double shift, double max_period, float *out);

/*
 * LCM's embedding of w = guidance_scale - 1: frequencies exp(-ln(10000) * k / (half - 1)) times
 * scale * w (scale: 1000), [sin | cos], an odd dim ends in a zero.
 */
void sde_guidance_embedding(const float *w, size_t n, size_t dim, double scale, float *out);
