/*
 * Making, viewing and freeing pictures: see image.h. Every size that can come from a peer is checked here once, so that
 * the code behind may multiply coordinates without looking again.
 */
#include "daemon/engine/pixels/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t sde_pixel_type_size(enum sde_pixel_type type)
{
	switch (type) {
	case SDE_PIXEL_U8:
		return 1;
	case SDE_PIXEL_U16:
	case SDE_PIXEL_F16:
		return 2;
	case SDE_PIXEL_F32:
		return 4;
	}
	return 0;
}

size_t sde_image_pixel_size(const struct sde_image *image)
{
	return sde_pixel_type_size(image->type) * image->channels;
}

static int check_shape(uint32_t width, uint32_t height, uint32_t channels, enum sde_pixel_type type,
		       const char *what, struct sde_error *ret_error)
{
	if (width == 0 || height == 0)
		return sde_error_set(ret_error, -EINVAL,
				     "%s is %u x %u pixels: both sides must be at least 1", what,
				     width, height);
	if (width > SDE_IMAGE_MAX_SIDE || height > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(ret_error, -EINVAL,
				     "%s is %u x %u pixels: a side may be at most %u", what, width,
				     height, SDE_IMAGE_MAX_SIDE);
	if (channels < 1 || channels > 4)
		return sde_error_set(ret_error, -EINVAL,
				     "%s has %u channels: 1 (grey) to 4 (RGBA) are possible", what,
				     channels);
	if (sde_pixel_type_size(type) == 0)
		return sde_error_set(
			ret_error, -EINVAL,
			"%s has an unknown pixel type %d: u8, u16, f16 and f32 are possible", what,
			(int)type);
	return 0;
}

int sde_image_new(uint32_t width, uint32_t height, uint32_t channels, enum sde_pixel_type type,
		  struct sde_image *ret_image, struct sde_error *ret_error)
{
	size_t stride, size;
	void *data;
	int r;

	r = check_shape(width, height, channels, type, "the new image", ret_error);
	if (r < 0)
		return r;
	stride = (size_t)width * channels * sde_pixel_type_size(type);
	if (__builtin_mul_overflow(stride, (size_t)height, &size))
		return sde_error_set(ret_error, -EOVERFLOW,
				     "an image of %u x %u pixels does not fit in memory", width,
				     height);
	data = calloc(1, size);
	if (!data)
		return sde_error_set(ret_error, -ENOMEM,
				     "no memory for an image of %u x %u pixels (%zu bytes)", width,
				     height, size);
	*ret_image = (struct sde_image){
		.width = width,
		.height = height,
		.channels = channels,
		.type = type,
		.stride = stride,
		.data = data,
		.owned = data,
	};
	return 0;
}

int sde_image_check(const struct sde_image *image, const char *what, struct sde_error *ret_error)
{
	size_t element, packed, rest;
	int r;

	r = check_shape(image->width, image->height, image->channels, image->type, what, ret_error);
	if (r < 0)
		return r;
	element = sde_pixel_type_size(image->type);
	packed = image->width * sde_image_pixel_size(image);
	if (!image->data)
		return sde_error_set(ret_error, -EINVAL, "%s has no pixels (NULL)", what);
	if (image->stride < packed || image->stride % element != 0)
		return sde_error_set(
			ret_error, -EINVAL,
			"%s has rows %zu bytes apart: a multiple of %zu, at least %zu, is needed",
			what, image->stride, element, packed);
	if ((uintptr_t)image->data % element != 0)
		return sde_error_set(ret_error, -EINVAL,
				     "the pixels of %s must begin at a multiple of %zu bytes", what,
				     element);
	if (__builtin_mul_overflow(image->stride, (size_t)image->height, &rest))
		return sde_error_set(ret_error, -EOVERFLOW, "%s does not fit in memory", what);
	return 0;
}

int sde_image_view(void *data, size_t size, uint32_t width, uint32_t height, uint32_t channels,
		   enum sde_pixel_type type, size_t stride, struct sde_image *ret_image,
		   struct sde_error *ret_error)
{
	struct sde_image image = {
		.width = width,
		.height = height,
		.channels = channels,
		.type = type,
		.stride = stride,
		.data = data,
	};
	size_t packed, needed;
	int r;

	r = check_shape(width, height, channels, type, "the image", ret_error);
	if (r < 0)
		return r;
	packed = width * sde_image_pixel_size(&image);
	if (stride == 0)
		image.stride = packed;
	r = sde_image_check(&image, "the image", ret_error);
	if (r < 0)
		return r;
	needed = image.stride * (height - 1) + packed;
	if (size < needed)
		return sde_error_set(ret_error, -EINVAL,
				     "%zu bytes are too few for %u x %u pixels: %zu are needed",
				     size, width, height, needed);
	*ret_image = image;
	return 0;
}

int sde_image_subview(const struct sde_image *image, struct sde_rect rect,
		      struct sde_image *ret_image, struct sde_error *ret_error)
{
	if (rect.x < 0 || rect.y < 0 || rect.width < 1 || rect.height < 1 ||
	    (int64_t)rect.x + rect.width > image->width ||
	    (int64_t)rect.y + rect.height > image->height)
		return sde_error_set(ret_error, -EINVAL,
				     "the rectangle %d,%d %d x %d does not lie inside %u x %u",
				     rect.x, rect.y, rect.width, rect.height, image->width,
				     image->height);
	*ret_image = (struct sde_image){
		.width = (uint32_t)rect.width,
		.height = (uint32_t)rect.height,
		.channels = image->channels,
		.type = image->type,
		.linear = image->linear,
		.stride = image->stride,
		.data = (char *)sde_image_row(image, (uint32_t)rect.y) +
			(size_t)rect.x * sde_image_pixel_size(image),
	};
	return 0;
}

int sde_image_copy(const struct sde_image *image, struct sde_image *ret_image,
		   struct sde_error *ret_error)
{
	struct sde_image copy;
	int r;

	r = sde_image_new(image->width, image->height, image->channels, image->type, &copy,
			  ret_error);
	if (r < 0)
		return r;
	copy.linear = image->linear;
	for (uint32_t y = 0; y < image->height; y++)
		memcpy(sde_image_row(&copy, y), sde_image_row(image, y), copy.stride);
	*ret_image = copy;
	return 0;
}

void sde_image_clear(struct sde_image *image)
{
	if (!image)
		return;
	free(image->owned);
	*image = (struct sde_image){0};
}
