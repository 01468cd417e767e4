/*
 * Rectangles the way painters' tools move them about: padded, squared, shifted into the canvas before they are cut.
 * Coordinates are int32 and sides at most SDE_IMAGE_MAX_SIDE, so that sums cannot overflow.
 */
#pragma once

#include "daemon/engine/pixels/image.h"

static inline bool sde_rect_empty(struct sde_rect rect)
{
	return rect.width <= 0 || rect.height <= 0;
}

/* The common part; width or height is 0 when there is none. Safe for any int32 input. */
struct sde_rect sde_rect_intersect(struct sde_rect a, struct sde_rect b);
bool sde_rect_contains(struct sde_rect outer, struct sde_rect inner);

/*
 * Grow by pad_x and pad_y on each side, to at least min_side, sides rounded up to a multiple; the extra goes evenly to
 * both sides.
 */
struct sde_rect sde_rect_pad(struct sde_rect rect, int32_t pad_x, int32_t pad_y, int32_t min_side,
			     int32_t multiple);

/* Shift into 0,0 .. width,height; shrink only what is larger. */
struct sde_rect sde_rect_clamp(struct sde_rect rect, uint32_t width, uint32_t height);
