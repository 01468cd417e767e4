/* Masks at latent resolution and per step: see latent-mask.h. */
#include "daemon/engine/geometry/latent-mask.h"

#include <stddef.h>

static float reduce_cell(const float *cell, uint32_t width, uint32_t factor,
			 enum sde_mask_reduction reduction)
{
	float sum = 0.0f, most = 0.0f;

	if (reduction == SDE_MASK_NEAREST)
		return cell[0];
	for (uint32_t y = 0; y < factor; y++)
		for (uint32_t x = 0; x < factor; x++) {
			const float value = cell[(size_t)y * width + x];

			sum += value;
			most = value > most ? value : most;
		}
	return reduction == SDE_MASK_MAX ? most : sum / ((float)factor * (float)factor);
}

void sde_mask_reduce(const float *mask, uint32_t width, uint32_t height, uint32_t factor,
		     enum sde_mask_reduction reduction, float *ret_latent)
{
	for (uint32_t y = 0; y < height / factor; y++)
		for (uint32_t x = 0; x < width / factor; x++)
			*ret_latent++ = reduce_cell(mask + ((size_t)y * width + x) * factor, width,
						    factor, reduction);
}

void sde_mask_binarise(float *mask, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		mask[i] = mask[i] >= 0.5f ? 1.0f : 0.0f;
}

void sde_masked_image(const float *image, const float *mask, uint64_t count, float *ret_masked)
{
	for (uint64_t i = 0; i < count; i++)
		for (int c = 0; c < 3; c++)
			ret_masked[i * 3 + c] = mask[i] < 0.5f ? image[i * 3 + c] : 0.0f;
}

static double share(double value, double from, double to)
{
	if (!(to > from))
		return value >= to ? 1.0 : 0.0;
	value = (value - from) / (to - from);
	return value < 0 ? 0.0 : value > 1 ? 1.0 : value;
}

double sde_differential_threshold_sigma(double sigma, double sigma_min, double sigma_max)
{
	return share(sigma, sigma_min, sigma_max);
}

double sde_differential_threshold_timestep(double timestep, double first, double last)
{
	return share(timestep, last, first);
}

void sde_differential_mask(const float *mask, uint64_t count, double threshold, float *ret_mask)
{
	for (uint64_t i = 0; i < count; i++)
		ret_mask[i] = mask[i] > 0.0f && (double)mask[i] >= threshold ? 1.0f : 0.0f;
}
