/*
 * Masks at the latent's resolution, and how a soft mask becomes one binary mask per step (differential diffusion,
 * Levin and Fried 2023): a pixel of value v joins the repainted set when v reaches a threshold that falls from 1 at
 * the first step to 0 at the last, so weakly selected places keep the original's noise longest.
 */
#pragma once

#include <stdint.h>

enum sde_mask_reduction {
	SDE_MASK_NEAREST, /* top-left pixel of each cell, as torch's nearest: what diffusers does */
	SDE_MASK_AREA,	  /* mean of the cell: keeps soft edges */
	SDE_MASK_MAX	  /* most of the cell: the repainted set covers the whole selection */
};

/* (height x width) -> (height/factor x width/factor); sides must be multiples of factor. */
void sde_mask_reduce(const float *mask, uint32_t width, uint32_t height, uint32_t factor,
		     enum sde_mask_reduction reduction, float *ret_latent);

/* diffusers' mask processor: in place, value >= 0.5 -> 1, else 0. */
void sde_mask_binarise(float *mask, uint64_t count);

/* diffusers' masked_image for 9-channel U-Nets: image (count x 3 interleaved) * (mask < 0.5), i.e. mid-grey in the hole. */
void sde_masked_image(const float *image, const float *mask, uint64_t count, float *ret_masked);

/* Threshold from a sigma in [sigma_min, sigma_max] (sigma-space samplers); clamped to 0..1. */
double sde_differential_threshold_sigma(double sigma, double sigma_min, double sigma_max);
/* Threshold from a timestep (VP samplers) between the first and the last of this job; clamped to 0..1. */
double sde_differential_threshold_timestep(double timestep, double first, double last);
/* ret[i] = 1 where mask[i] > 0 and mask[i] >= threshold, else 0. mask 1 is always repainted, mask 0 never. */
void sde_differential_mask(const float *mask, uint64_t count, double threshold, float *ret_mask);
