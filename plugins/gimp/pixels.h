/*
 * Pixels between GEGL and the protocol's buffers, for both GIMPs. GEGL converts depth, curve, colour space (the document's
 * ICC profile is part of a GIMP buffer's format) and colour model; nothing is converted by hand.
 */
#pragma once

#include <gegl.h>

#include "plugins/common/host.h"

/* Packed RGBA of `type` in sRGB from the buffer's area; outside the buffer transparent. */
void sdg_read_rgba(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels);
/* Packed single channel of SDC_U8 or SDC_F32, the buffer's values as they are; outside the buffer 0. */
void sdg_read_mask(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels);
/* A picture into the buffer's top left corner. */
void sdg_write_rgba(GeglBuffer *buffer, const sdc_image *image);
