/*
 * What a selection says about a pixel, whatever a client sent: a mask of any type and channel count or a rectangle.
 * Values up to 1/512 count as not selected, so that the endless tail of a blurred float mask does not select the canvas.
 */
#pragma once

#include "daemon/engine/geometry/plan.h"

#define SDE_SELECTED (1.0f / 512) /* above it a pixel belongs to the selection */

/* Values 0..1 of `count` mask pixels from x, y: luma (Rec. 601, as PIL's L) times alpha; not selected = exactly 0. */
void sde_mask_row(const struct sde_image *mask, uint32_t x, uint32_t y, uint32_t count,
		  float *ret_row);

/* Smallest rectangle around the selected pixels of a mask. -EINVAL when there are none, -ENOMEM. */
int sde_selection_bounds(const struct sde_image *mask, struct sde_rect *ret_bounds,
			 struct sde_error *ret_error);

/* The selection inside area (canvas coordinates, inside the canvas) as area.height x area.width floats. */
void sde_selection_plane(const struct sde_selection *selection, struct sde_rect area,
			 float *ret_plane);
