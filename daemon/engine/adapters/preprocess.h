/*
 * Guiding pictures as ControlNets want them: scaled to the work size, and for some kinds made into edges or lines.
 */
#pragma once

#include "daemon/engine/pixels/image.h"

enum sde_preprocess {
	SDE_PREPROCESS_NONE,
	SDE_PREPROCESS_CANNY, /* edges (Canny 1986), with the numbers of OpenCV's Canny at 100 and 200 */
	SDE_PREPROCESS_SCRIBBLE /* the lines of a drawing, light on black whichever way it was drawn */
};

#define SDE_CANNY_LOW  100
#define SDE_CANNY_HIGH 200

/*
 * The part rect of image (NULL: all of it), over white where it is transparent, scaled to width x height and preprocessed:
 * ret_picture (3, height, width), 0..1.
 */
int sde_preprocess(const struct sde_image *image, const struct sde_rect *rect,
		   enum sde_preprocess how, int width, int height, float *ret_picture,
		   struct sde_error *error);

/*
 * Edges of rgb (height x width x 3, interleaved): 255 or 0 a pixel, as OpenCV's Canny with aperture 3 and L1 norm. 0 or -ENOMEM.
 */
int sde_canny(const uint8_t *rgb, int width, int height, int low, int high, uint8_t *ret_edges);
