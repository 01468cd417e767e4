/*
 * Putting a returned layer over the picture it was made from. Where the layer's alpha is zero the picture's bytes are
 * copied, never recomputed: that is the promise of the whole project, kept here for people without an editor.
 */
#pragma once

#include "client/sdctl/picture.h"

/*
 * Lay RGBA layer at (x, y) over base and return the union as a new picture: base's size, or larger when the layer
 * reaches beyond it (outpainting; the new area is the layer's). Type of both must be equal. The result has base's
 * channels, made to carry colour or alpha only when the layer needs it (a grey base stays grey if every covered pixel
 * is grey). base's profile is copied. 0, -EINVAL (types differ), -ENOMEM.
 */
int compose_layer(const struct picture *base, const struct picture *layer, int x, int y,
		  struct picture *ret);

/* Both pictures side by side on white with a gap, 8 bit RGB, for before/after sheets. 0 or -ENOMEM. */
int compose_side_by_side(const struct picture *left, const struct picture *right, int gap,
			 struct picture *ret);
