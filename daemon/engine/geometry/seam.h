/*
 * What mean and deviation cannot mend (color-match.h): beside the hole an answer differs from the original a little
 * and differently at every place, and that is what shows as a line. The differences along the hole's border are
 * continued into it as a membrane and added (Pérez et al. 2003, as an offset; Farbman et al. 2009), so that colour
 * runs through the border unbroken and the correction fades towards the middle. One of the line's own height dies out
 * within a few pixels, since the membrane follows Laplace's equation.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/error.h"

/*
 * generated and original: height x width x 3, sRGB 0..1; hole: height x width, 0 = known. generated is changed in place
 * and stays 0..1: known pixels become the original where they are within SDE_SEAM_MOST of it. A larger difference is
 * other content, not a shift of colour, and is taken for one of SDE_SEAM_MOST. Nothing known: unchanged. 0 or -ENOMEM.
 */
int sde_seam_match(float *generated, const float *original, const float *hole, uint32_t width,
		   uint32_t height, struct sde_error *ret_error);

#define SDE_SEAM_MOST 0.16f
