/*
 * A selection as text, so that a layer's stored parameters are enough to make it again after the selection is gone:
 * "x,y,width,height" for a hard rectangle, else with ":" and runs of equal values in its rows, "count*value" in
 * hexadecimal, values in 1/255.
 */
#pragma once

#include "plugins/common/host.h"

#define SDH_SELECTION_MAX 262144 /* bytes; what is more intricate is not stored */

/*
 * pixels: the selection inside area (canvas pixels), samples of SDC_U8 or SDC_F32. malloc'd; NULL when nothing is selected or it
 * would be too long.
 */
char *sdh_selection_text(const void *pixels, struct sdh_rect area, int type);
/* Bounds of what is selected of such pixels, as the daemon finds them: of values above 1/512. width 0: nothing. */
struct sdh_rect sdh_selection_find(const void *pixels, struct sdh_rect area, int type);
/* Its bounds; false when the text is no selection. */
bool sdh_selection_bounds(const char *text, struct sdh_rect *ret_bounds);
/* Paint it into the samples of area, which are set to 0 first. The text must have passed sdh_selection_bounds. */
void sdh_selection_paint(const char *text, struct sdh_rect area, int type, void *ret_pixels);
