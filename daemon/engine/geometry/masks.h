/*
 * The two masks of an inpaint job at canvas resolution. The denoise mask says how much the model may change a pixel,
 * the composite mask how much of its answer is shown. Both are 1 wherever the selection is, never below it anywhere,
 * and equal to it when the plan has no transition (F = G = B = 0). What is shown has always been denoised.
 */
#pragma once

#include "daemon/engine/geometry/plan.h"

/* plan->result.height x plan->result.width floats, the caller's; outside plan->result both masks are 0. */
int sde_denoise_mask(const struct sde_inpaint_plan *plan, float *ret_mask,
		     struct sde_error *ret_error);
int sde_composite_mask(const struct sde_inpaint_plan *plan, float *ret_mask,
		       struct sde_error *ret_error);

/* The denoise mask of the context scaled bilinearly to width x height; above 0.99 becomes 1. */
int sde_denoise_mask_scaled(const struct sde_inpaint_plan *plan, uint32_t width, uint32_t height,
			    float *ret_mask, struct sde_error *ret_error);
