/*
 * A picture in memory, as a document has it: any of four pixel types, one to four channels, rows a stride apart. It is
 * either owned (freed by sde_image_clear) or a view of somebody else's memory, such as a sealed memfd of a client;
 * views are how an 8000x6000 document is worked on while only the pixels around a selection are ever touched.
 *
 * Channels: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA; interleaved; alpha straight (not premultiplied), opaque = maximum.
 * Range: u8 0..255, u16 0..65535 (native endian), f16 and f32 nominally 0..1 (values outside are kept where a pixel is
 * not repainted). Colours are taken as sRGB-encoded unless `linear` says that they are linear light.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"

#define SDE_IMAGE_MAX_SIDE (1u << 18) /* pixels; keeps every coordinate sum inside int32_t */

enum sde_pixel_type { SDE_PIXEL_U8, SDE_PIXEL_U16, SDE_PIXEL_F16, SDE_PIXEL_F32 };

struct sde_image {
	uint32_t width, height; /* pixels, 1..SDE_IMAGE_MAX_SIDE */
	uint32_t channels;	/* 1..4 */
	enum sde_pixel_type type;
	bool linear;   /* linear light instead of sRGB encoding */
	size_t stride; /* bytes from a row to the next, >= width * pixel size */
	void *data;    /* first row; never written through a const struct sde_image */
	void *owned;   /* what sde_image_clear frees, NULL for a view */
};

/* A rectangle in pixels. x and y may be negative (canvas extension); width and height are never negative. */
struct sde_rect {
	int32_t x, y, width, height;
};

/* Bytes of one channel (1, 2, 2, 4) and of one pixel. */
size_t sde_pixel_type_size(enum sde_pixel_type type);
size_t sde_image_pixel_size(const struct sde_image *image);
static inline bool sde_image_has_alpha(const struct sde_image *image)
{
	return image->channels == 2 || image->channels == 4;
}
/* Address of row y; the caller keeps y < height. */
static inline void *sde_image_row(const struct sde_image *image, uint32_t y)
{
	return (char *)image->data + (size_t)y * image->stride;
}

/*
 * A zeroed (transparent black) image owned by *ret_image; rows are packed. -EINVAL on a size of 0, beyond
 * SDE_IMAGE_MAX_SIDE, wrong channels or type; -EOVERFLOW when the bytes do not fit size_t; -ENOMEM.
 */
int sde_image_new(uint32_t width, uint32_t height, uint32_t channels, enum sde_pixel_type type,
		  struct sde_image *ret_image, struct sde_error *ret_error);

/*
 * A view of `size` bytes of foreign memory, which must outlive it. stride 0 means packed rows. -EINVAL as above, on a
 * stride that is too small or not a multiple of the channel size, on memory that is not aligned to the channel size,
 * and when `size` is smaller than the picture (the message says how many bytes are needed).
 */
int sde_image_view(void *data, size_t size, uint32_t width, uint32_t height, uint32_t channels,
		   enum sde_pixel_type type, size_t stride, struct sde_image *ret_image,
		   struct sde_error *ret_error);

/* A view of the part of `image` inside rect, which must lie inside it (-EINVAL). Nothing is copied. */
int sde_image_subview(const struct sde_image *image, struct sde_rect rect,
		      struct sde_image *ret_image, struct sde_error *ret_error);

/* An owned, packed copy. */
int sde_image_copy(const struct sde_image *image, struct sde_image *ret_image,
		   struct sde_error *ret_error);

/* The checks of sde_image_new and sde_image_view on a struct filled by hand; `what` names it in the message. */
int sde_image_check(const struct sde_image *image, const char *what, struct sde_error *ret_error);

/* Frees what is owned and zeroes the struct; fine on a zeroed struct and on NULL. */
void sde_image_clear(struct sde_image *image);
