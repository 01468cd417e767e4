/*
 * Pixels between GEGL and the protocol's buffers, for both GIMPs. GEGL converts depth, curve, colour space (the document's
 * ICC profile is part of a GIMP buffer's format) and colour model; nothing is converted by hand.
 */
#pragma once

#include <gdk-pixbuf/gdk-pixbuf.h>
#include <gegl.h>

#include "plugins/common/host.h"

/* Packed RGBA of `type` in sRGB from the buffer's area; outside the buffer transparent. */
void sdg_read_rgba(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels);
/* Packed single channel of SDC_U8 or SDC_F32, the buffer's values as they are; outside the buffer 0. */
void sdg_read_mask(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels);
/* A picture into the buffer's top left corner. */
void sdg_write_rgba(GeglBuffer *buffer, const sdc_image *image);

/* A packed copy; its data is g_free'd by the caller. */
sdc_image sdg_copy_rgba(const sdc_image *image);
/* RGB of 8 bits or RGBA of any type for the screen, at most side x side pixels, over squares where it is transparent. */
GdkPixbuf *sdg_picture(const sdc_image *image, int side);
