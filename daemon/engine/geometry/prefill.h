/*
 * What the model finds in the hole before it starts. A hole that still shows the old content pulls the answer back to
 * it, so at full strength it is replaced by something calm that continues the surroundings.
 */
#pragma once

#include "daemon/engine/geometry/plan.h"

/*
 * Membrane fill: colours (height x width x 3) where weight (height x width) is below 0.5 become the smoothest
 * continuation of the rest (Laplace's equation, edges extended at the border), in place. Returns 1 when filled, 0 when
 * nothing is known (left unchanged), -ENOMEM.
 */
int sde_membrane_fill(float *rgb, const float *weight, uint32_t width, uint32_t height,
		      struct sde_error *ret_error);

/*
 * rgb (0..1) in place: rgb = (1 - hole) * rgb + hole * filling, the filling made only of pixels in proportion to
 * 1 - hole. SDE_FILL_EDGE: membrane. SDE_FILL_BLUR: Gaussian of size 65, sigma 20 at 512 px and in proportion at other
 * sizes, membrane where it reaches nothing known. SDE_FILL_NEUTRAL: 50 % grey, also when nothing is known.
 * SDE_FILL_ORIGINAL: unchanged. Not SDE_FILL_AUTO. 0 or -ENOMEM.
 */
int sde_prefill(enum sde_fill fill, float *rgb, const float *hole, uint32_t width, uint32_t height,
		struct sde_error *ret_error);
