/*
 * Scaling. Filters, their supports and their handling of edges are Pillow's (Resample.c: the filter is widened when
 * shrinking, weights are cut off and renormalised at the border), in two versions: on u8 with Pillow's 22-bit fixed
 * point, which gives its bytes exactly, and on floats for everything deeper.
 */
#pragma once

#include "daemon/engine/pixels/image.h"

enum sde_filter { SDE_FILTER_BOX, SDE_FILTER_BILINEAR, SDE_FILTER_BICUBIC, SDE_FILTER_LANCZOS };

/* Part of a source, in pixels, half open, may be fractional or (one side) empty, as Pillow's `box`. */
struct sde_box {
	double x0, y0, x1, y1;
};

/* Pillow's Image.resize on a u8 image of 1, 3 or 4 channels (treated alike). box NULL = all of it. Owned result. */
int sde_resize_u8(const struct sde_image *image, uint32_t width, uint32_t height,
		  enum sde_filter filter, const struct sde_box *box, struct sde_image *ret_image,
		  struct sde_error *ret_error);

/*
 * Gives source row y, `count` of them, one after another in rising order, as width * channels floats. Lets a huge source
 * stay where it is.
 */
typedef void (*sde_row_reader)(void *userdata, uint32_t y, float *ret_row);

/*
 * Float version, interleaved, from rows. ret_values: out_height x out_width x channels, the caller's. Memory used: one
 * source row and source height x out_width x channels floats. -EINVAL on empty sizes or a box outside; -ENOMEM.
 */
int sde_resize_rows(sde_row_reader reader, void *userdata, uint32_t width, uint32_t height,
		    uint32_t channels, const struct sde_box *box, uint32_t out_width,
		    uint32_t out_height, enum sde_filter filter, float *ret_values,
		    struct sde_error *ret_error);
/* The same from memory. */
int sde_resize_float(const float *values, uint32_t width, uint32_t height, uint32_t channels,
		     const struct sde_box *box, uint32_t out_width, uint32_t out_height,
		     enum sde_filter filter, float *ret_values, struct sde_error *ret_error);

/* torch's nearest: source index floor(i * in / out). Planar, `planes` of them. */
void sde_resize_nearest(const float *values, uint32_t planes, uint32_t width, uint32_t height,
			uint32_t out_width, uint32_t out_height, float *ret_values);
