/*
 * For tests of pictures: reproducible random bytes (a linear congruential generator, so that a reference program can make
 * the same), a checksum, and images made of them.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/engine/pixels/convert.h"

static inline uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 24;
}

static inline uint32_t random_below(uint32_t *state, uint32_t limit)
{
	const uint32_t high = next_random(state) << 16;
	const uint32_t mid = next_random(state) << 8;

	return (high | mid | next_random(state)) % limit;
}

static inline uint64_t fnv1a(const void *data, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3ull;
	return hash;
}

/* Random values 0..1 in any type; for u8 exactly the generator's bytes. */
static inline struct sde_image random_image(uint32_t seed, uint32_t width, uint32_t height,
					    uint32_t channels, enum sde_pixel_type type)
{
	struct sde_image image;

	assert_int_equal(sde_image_new(width, height, channels, type, &image, NULL), 0);
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			float pixel[4];

			for (uint32_t c = 0; c < channels; c++)
				pixel[c] = (float)next_random(&seed) / 255.0f;
			sde_row_from_float(&image, x, y, 1, pixel);
		}
	return image;
}

static inline struct sde_image grey_image(uint32_t width, uint32_t height)
{
	struct sde_image image;

	assert_int_equal(sde_image_new(width, height, 1, SDE_PIXEL_U8, &image, NULL), 0);
	return image;
}
