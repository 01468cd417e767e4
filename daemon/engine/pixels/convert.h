/*
 * Between document pixels and floats. Integers are divided by their maximum and come back rounded half to even; so
 * u8 and u16 survive the round trip unchanged. NaN reads as 0. Layouts: interleaved (height x width x channels, what
 * NHWC backends take) or planar (channels x height x width, what torch has).
 */
#pragma once

#include "daemon/engine/pixels/image.h"

enum sde_layout { SDE_INTERLEAVED, SDE_PLANAR };

float sde_half_to_float(uint16_t half);
uint16_t sde_half_from_float(float value); /* nearest even; overflow gives infinity */

/* One row of `count` pixels from pixel x, as stored (no linear-light change), to count * channels floats. */
void sde_row_to_float(const struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
		      float *ret_row);
/* The reverse; integers clamped to 0..1, floats stored as they are. */
void sde_row_from_float(struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
			const float *row);

/* As sde_row_to_float, but always sRGB-encoded RGBA with straight alpha: grey replicated, missing alpha 1, 0..1. */
void sde_row_to_rgba(const struct sde_image *image, uint32_t x, uint32_t y, uint32_t count,
		     float *ret_rgba);

/* The sRGB transfer curve, IEC 61966-2-1. */
float sde_srgb_encode(float linear);
float sde_srgb_decode(float encoded);

/* out = value * scale + bias for a whole image: scale 2, bias -1 is diffusers' preprocess. */
void sde_image_to_float(const struct sde_image *image, enum sde_layout layout, float scale,
			float bias, float *ret_values);
/* image = clamp(value * scale + bias, 0, 1): scale 0.5, bias 0.5 is diffusers' postprocess. */
void sde_image_from_float(const float *values, enum sde_layout layout, float scale, float bias,
			  struct sde_image *image);
