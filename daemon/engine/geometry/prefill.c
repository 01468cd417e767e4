/*
 * Pre-filling a hole: see prefill.h. The membrane is solved coarse to fine: a pyramid halves the picture, averaging
 * only known pixels; each finer level starts from the coarser solution and is relaxed a few times, which is enough
 * because the coarse levels have already settled everything that is wide.
 */
#include "daemon/engine/geometry/prefill.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/plane-filter.h"

#define SWEEPS	   24
#define LEVELS_MAX 20
#define BLUR_SIZE  65.0 /* at 512 px */
#define BLUR_SIGMA 20.0
#define BLUR_FLOOR 0.02f /* weight of the membrane beside the blur */

struct level {
	uint32_t width, height;
	float *rgb;    /* x 3 */
	float *weight; /* known share, 0..1 */
};

static void level_clear(struct level *level)
{
	free(level->rgb);
	free(level->weight);
	*level = (struct level){0};
}

static int level_init(struct level *level, uint32_t width, uint32_t height)
{
	const size_t count = (size_t)width * height;

	*level = (struct level){.width = width, .height = height};
	level->rgb = calloc(count, 3 * sizeof(float));
	level->weight = calloc(count, sizeof(float));
	if (level->rgb && level->weight)
		return 0;
	level_clear(level);
	return -ENOMEM;
}

static void halve(const struct level *fine, struct level *coarse)
{
	for (uint32_t y = 0; y < coarse->height; y++)
		for (uint32_t x = 0; x < coarse->width; x++) {
			const size_t to = (size_t)y * coarse->width + x;
			float sum[3] = {0}, weight = 0.0f, cells = 0.0f;

			for (uint32_t fy = 2 * y; fy < 2 * y + 2 && fy < fine->height; fy++)
				for (uint32_t fx = 2 * x; fx < 2 * x + 2 && fx < fine->width;
				     fx++) {
					const size_t from = (size_t)fy * fine->width + fx;

					for (int c = 0; c < 3; c++)
						sum[c] += fine->weight[from] *
							  fine->rgb[from * 3 + c];
					weight += fine->weight[from];
					cells += 1.0f;
				}
			for (int c = 0; c < 3 && weight > 0.0f; c++)
				coarse->rgb[to * 3 + c] = sum[c] / weight;
			coarse->weight[to] = weight / cells;
		}
}

static bool is_known(const struct level *level, size_t at, bool coarsest)
{
	return coarsest ? level->weight[at] > 0.0f : level->weight[at] >= 0.5f;
}

/* Start the unknown pixels of a level from the solution one level coarser. */
static void start_from(struct level *fine, const struct level *coarse)
{
	for (uint32_t y = 0; y < fine->height; y++)
		for (uint32_t x = 0; x < fine->width; x++) {
			const size_t at = (size_t)y * fine->width + x;

			if (!is_known(fine, at, false))
				memcpy(fine->rgb + at * 3,
				       coarse->rgb + ((size_t)(y / 2) * coarse->width + x / 2) * 3,
				       3 * sizeof(float));
		}
}

static void relax(struct level *level)
{
	const uint32_t w = level->width, h = level->height;

	for (int sweep = 0; sweep < SWEEPS; sweep++)
		for (uint32_t i = 0; i < h; i++) {
			const uint32_t y = sweep & 1 ? h - 1 - i : i; /* both ways: no drift */

			for (uint32_t j = 0; j < w; j++) {
				const uint32_t x = sweep & 1 ? w - 1 - j : j;
				const size_t at = (size_t)y * w + x;
				const size_t near[4] = {
					x > 0 ? at - 1 : at, x + 1 < w ? at + 1 : at,
					y > 0 ? at - w : at, y + 1 < h ? at + w : at};

				if (is_known(level, at, false))
					continue;
				for (int c = 0; c < 3; c++)
					level->rgb[at * 3 + c] =
						0.25f * (level->rgb[near[0] * 3 + c] +
							 level->rgb[near[1] * 3 + c] +
							 level->rgb[near[2] * 3 + c] +
							 level->rgb[near[3] * 3 + c]);
			}
		}
}

int sde_membrane_fill(float *rgb, const float *weight, uint32_t width, uint32_t height,
		      struct sde_error *ret_error)
{
	struct level levels[LEVELS_MAX] = {0};
	const size_t count = (size_t)width * height;
	int n = 0, r = level_init(&levels[0], width, height);

	if (r == 0) {
		memcpy(levels[0].rgb, rgb, count * 3 * sizeof(*rgb));
		memcpy(levels[0].weight, weight, count * sizeof(*weight));
		for (n = 1; n < LEVELS_MAX && r == 0 &&
			    (levels[n - 1].width > 1 || levels[n - 1].height > 1);
		     n++) {
			r = level_init(&levels[n], (levels[n - 1].width + 1) / 2,
				       (levels[n - 1].height + 1) / 2);
			if (r == 0)
				halve(&levels[n - 1], &levels[n]);
		}
	}
	if (r == 0 && is_known(&levels[n - 1], 0, true)) {
		for (int i = n - 2; i >= 0; i--) {
			start_from(&levels[i], &levels[i + 1]);
			relax(&levels[i]);
		}
		memcpy(rgb, levels[0].rgb, count * 3 * sizeof(*rgb));
		r = 1;
	}
	for (int i = 0; i < LEVELS_MAX; i++)
		level_clear(&levels[i]);
	if (r < 0)
		return sde_error_set(ret_error, r, "no memory to fill %u x %u pixels", width,
				     height);
	return r;
}

/* filling = blur(known * rgb) / blur(known), falling back to the membrane that `filling` holds on entry. */
static int blur_known(float *filling, const float *rgb, const float *hole, uint32_t width,
		      uint32_t height, struct sde_error *ret_error)
{
	const double scale = (width < height ? width : height) / 512.0;
	const uint32_t half = (uint32_t)fmax(1.0, rint(BLUR_SIZE / 2 * scale));
	const double sigma = fmax(0.5, BLUR_SIGMA * scale);
	const size_t count = (size_t)width * height;
	float *planes = calloc(count, 4 * sizeof(*planes));
	int r = 0;

	if (!planes)
		return sde_error_set(ret_error, -ENOMEM, "no memory to fill %u x %u pixels", width,
				     height);
	for (size_t i = 0; i < count; i++) {
		const float known = 1.0f - hole[i];

		for (int c = 0; c < 3; c++)
			planes[c * count + i] = known * rgb[i * 3 + c];
		planes[3 * count + i] = known;
	}
	for (int p = 0; p < 4 && r == 0; p++)
		r = sde_plane_blur_gaussian(planes + p * count, width, height, half, sigma,
					    ret_error);
	for (size_t i = 0; i < count && r == 0; i++)
		for (int c = 0; c < 3; c++)
			filling[i * 3 + c] =
				(planes[c * count + i] + BLUR_FLOOR * filling[i * 3 + c]) /
				(planes[3 * count + i] + BLUR_FLOOR);
	free(planes);
	return r;
}

int sde_prefill(enum sde_fill fill, float *rgb, const float *hole, uint32_t width, uint32_t height,
		struct sde_error *ret_error)
{
	const size_t count = (size_t)width * height;
	float *filling, *known;
	int r = 0;

	if (fill == SDE_FILL_ORIGINAL)
		return 0;
	filling = calloc(count, 3 * sizeof(*filling));
	known = calloc(count, sizeof(*known));
	if (!filling || !known) {
		free(filling);
		free(known);
		return sde_error_set(ret_error, -ENOMEM, "no memory to fill %u x %u pixels", width,
				     height);
	}
	memcpy(filling, rgb, count * 3 * sizeof(*rgb));
	for (size_t i = 0; i < count; i++)
		known[i] = 1.0f - hole[i];
	if (fill != SDE_FILL_NEUTRAL)
		r = sde_membrane_fill(filling, known, width, height, ret_error);
	if (r == 0)
		for (size_t i = 0; i < count * 3; i++)
			filling[i] = 0.5f;
	else if (r > 0 && fill == SDE_FILL_BLUR)
		r = blur_known(filling, rgb, hole, width, height, ret_error);
	for (size_t i = 0; i < count && r >= 0; i++)
		for (int c = 0; c < 3; c++)
			rgb[i * 3 + c] =
				(1.0f - hole[i]) * rgb[i * 3 + c] + hole[i] * filling[i * 3 + c];
	free(filling);
	free(known);
	return r < 0 ? r : 0;
}
