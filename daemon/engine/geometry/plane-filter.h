/*
 * Separable filters on one plane of floats, all linear in the number of pixels but the Gaussian: square dilation and
 * erosion, triangular and Gaussian blur. Beyond the border a blur sees the border's value again and a dilation or
 * erosion sees nothing, so that a mask that touches the canvas' edge stays full there.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/error.h"

/* All work in place on height x width floats and return 0 or -ENOMEM. radius, half 0: nothing happens. */
int sde_plane_dilate(float *plane, uint32_t width, uint32_t height, uint32_t radius,
		     struct sde_error *ret_error);
int sde_plane_erode(float *plane, uint32_t width, uint32_t height, uint32_t radius,
		    struct sde_error *ret_error);
/* Weights 1, 2, .. half + 1, .. 2, 1 over their sum. */
int sde_plane_blur_triangular(float *plane, uint32_t width, uint32_t height, uint32_t half,
			      struct sde_error *ret_error);
/* 2 * half + 1 weights. */
int sde_plane_blur_gaussian(float *plane, uint32_t width, uint32_t height, uint32_t half,
			    double sigma, struct sde_error *ret_error);
