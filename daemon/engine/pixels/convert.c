/*
 * Document pixels to floats and back: see convert.h. Rounding is rintf's, half to even, the default mode everywhere in
 * this program; float16 is converted by hand because not every compiler of Debian 12 has _Float16 for plain x86-64.
 */
#include "daemon/engine/pixels/convert.h"

#include <math.h>
#include <string.h>

float sde_half_to_float(uint16_t half)
{
	const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
	const uint32_t exponent = (half >> 10) & 0x1f, mantissa = half & 0x3ffu;
	uint32_t bits;
	float value;

	if (exponent == 0) {
		value = ldexpf((float)mantissa, -24);
		return sign ? -value : value;
	}
	if (exponent == 0x1f)
		bits = sign | 0x7f800000u | (mantissa << 13);
	else
		bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

uint16_t sde_half_from_float(float value)
{
	uint32_t bits, magnitude, sign, lost, half;

	memcpy(&bits, &value, sizeof(bits));
	sign = (bits >> 16) & 0x8000u;
	magnitude = bits & 0x7fffffffu;
	if (magnitude > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u);
	if (magnitude >= 0x477ff000u) /* 65520: halfway to the first value that is too large */
		return (uint16_t)(sign | 0x7c00u);
	if (magnitude < 0x38800000u) /* below 2^-14: subnormal, in units of 2^-24 */
		return (uint16_t)(sign | (uint32_t)lrintf(ldexpf(fabsf(value), 24)));
	half = (magnitude - 0x38000000u) >> 13;
	lost = magnitude & 0x1fffu;
	if (lost > 0x1000u || (lost == 0x1000u && (half & 1)))
		half++;
	return (uint16_t)(sign | half);
}

static float sane(float value)
{
	return isnan(value) ? 0.0f : value;
}

static float clamp01(float value)
{
	return value > 1.0f ? 1.0f : value > 0.0f ? value : 0.0f;
}

void sde_row_to_float(const struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
		      float *ret_row)
{
	const char *from =
		(const char *)sde_image_row(image, y) + (size_t)x * sde_image_pixel_size(image);
	const size_t n = (size_t)count * image->channels;

	switch (image->type) {
	case SDE_PIXEL_U8:
		for (size_t i = 0; i < n; i++)
			ret_row[i] = (float)((const uint8_t *)from)[i] / 255.0f;
		break;
	case SDE_PIXEL_U16:
		for (size_t i = 0; i < n; i++)
			ret_row[i] = (float)((const uint16_t *)from)[i] / 65535.0f;
		break;
	case SDE_PIXEL_F16:
		for (size_t i = 0; i < n; i++)
			ret_row[i] = sane(sde_half_to_float(((const uint16_t *)from)[i]));
		break;
	case SDE_PIXEL_F32:
		for (size_t i = 0; i < n; i++)
			ret_row[i] = sane(((const float *)from)[i]);
		break;
	}
}

void sde_row_from_float(struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
			const float *row)
{
	char *to = (char *)sde_image_row(image, y) + (size_t)x * sde_image_pixel_size(image);
	const size_t n = (size_t)count * image->channels;

	switch (image->type) {
	case SDE_PIXEL_U8:
		for (size_t i = 0; i < n; i++)
			((uint8_t *)to)[i] = (uint8_t)rintf(clamp01(row[i]) * 255.0f);
		break;
	case SDE_PIXEL_U16:
		for (size_t i = 0; i < n; i++)
			((uint16_t *)to)[i] = (uint16_t)rintf(clamp01(row[i]) * 65535.0f);
		break;
	case SDE_PIXEL_F16:
		for (size_t i = 0; i < n; i++)
			((uint16_t *)to)[i] = sde_half_from_float(row[i]);
		break;
	case SDE_PIXEL_F32:
		memcpy(to, row, n * sizeof(float));
		break;
	}
}

float sde_srgb_encode(float linear)
{
	if (linear <= 0.0031308f)
		return 12.92f * linear;
	return 1.055f * powf(linear, 1.0f / 2.4f) - 0.055f;
}

float sde_srgb_decode(float encoded)
{
	if (encoded <= 0.04045f)
		return encoded / 12.92f;
	return powf((encoded + 0.055f) / 1.055f, 2.4f);
}

void sde_row_to_rgba(const struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
		     float *ret_rgba)
{
	const uint32_t channels = image->channels;
	float *packed = ret_rgba + (size_t)count * (4 - channels);

	/* The stored channels go to the end of the buffer and are spread from its start: no pixel overtakes. */
	sde_row_to_float(image, x, y, count, packed);
	for (uint32_t i = 0; i < count; i++) {
		const float *from = packed + (size_t)i * channels;
		const float red = from[0];
		const float green = channels >= 3 ? from[1] : red;
		const float blue = channels >= 3 ? from[2] : red;
		const float alpha = sde_image_has_alpha(image) ? from[channels - 1] : 1.0f;
		float *to = ret_rgba + (size_t)i * 4;

		to[0] = clamp01(red);
		to[1] = clamp01(green);
		to[2] = clamp01(blue);
		to[3] = clamp01(alpha);
		if (image->linear)
			for (int c = 0; c < 3; c++)
				to[c] = sde_srgb_encode(to[c]);
	}
}

void sde_image_to_float(const struct sde_image *image, enum sde_layout layout, float scale,
			float bias, float *ret_values)
{
	const size_t plane = (size_t)image->width * image->height;
	const uint32_t channels = image->channels;

	for (uint32_t y = 0; y < image->height; y++) {
		for (uint32_t x = 0; x < image->width; x++) {
			float pixel[4];
			size_t at = (size_t)y * image->width + x;

			sde_row_to_float(image, x, y, 1, pixel);
			for (uint32_t c = 0; c < channels; c++)
				ret_values[layout == SDE_PLANAR ? c * plane + at
								: at * channels + c] =
					pixel[c] * scale + bias;
		}
	}
}

void sde_image_from_float(const float *values, enum sde_layout layout, float scale, float bias,
			  struct sde_image *image)
{
	const size_t plane = (size_t)image->width * image->height;
	const uint32_t channels = image->channels;

	for (uint32_t y = 0; y < image->height; y++) {
		for (uint32_t x = 0; x < image->width; x++) {
			float pixel[4];
			size_t at = (size_t)y * image->width + x;

			for (uint32_t c = 0; c < channels; c++)
				pixel[c] =
					clamp01(values[layout == SDE_PLANAR ? c * plane + at
									    : at * channels + c] *
							scale +
						bias);
			sde_row_from_float(image, x, y, 1, pixel);
		}
	}
}
