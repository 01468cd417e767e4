/*
 * The mask of a local blend; see blend.h. On latents of 64 x 64 it is that of the paper's code, which takes the largest of 3 x 3 places of
 * 16 x 16 and enlarges to the nearest.
 */
#include "daemon/engine/attention/blend.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/attention/maps.h"

#define PLACES_MIN 64 /* 8 x 8: fewer say too little of where */
#define HALVED	   4  /* sides, at most */
#define AROUND                                                                                     \
	16 /* this part of the shorter side: one place of 16 x 16, whatever the layers' size */

/* Odd sides are rounded up where they are halved, so that a small one has a few places more than its part. */
static bool fits(const struct sde_blend *blend, size_t queries)
{
	const size_t area = (size_t)blend->height * (size_t)blend->width;

	return queries >= PLACES_MIN && queries * HALVED * HALVED >= area;
}

/* Of sizes that fit the coarsest, of others the finest. */
static bool is_better(const struct sde_blend *blend, size_t queries)
{
	if (blend->queries == 0 || fits(blend, queries) != fits(blend, blend->queries))
		return blend->queries == 0 || fits(blend, queries);
	return fits(blend, queries) ? queries < blend->queries : queries > blend->queries;
}

bool sde_blend_wants(const struct sde_blend *blend, enum sde_blend_side side, size_t queries)
{
	return blend->marks[side] && (queries == blend->queries || is_better(blend, queries));
}

static int begin_with(struct sde_blend *blend, size_t queries, int rows, int columns)
{
	for (int side = 0; side < 2; side++) {
		free(blend->sums[side]);
		blend->sums[side] = calloc(queries, sizeof(float));
	}
	if (!blend->sums[0] || !blend->sums[1])
		return -ENOMEM;
	blend->queries = queries;
	blend->rows = rows;
	blend->columns = columns;
	return 0;
}

int sde_blend_add(struct sde_blend *blend, enum sde_blend_side side, size_t queries, size_t tokens,
		  const float *map)
{
	const bool *marks = blend->marks[side];
	int h, w;

	if (sde_maps_sides(blend->height, blend->width, queries, &h, &w) < 0 ||
	    tokens != blend->tokens)
		return -EINVAL;
	if (queries != blend->queries && begin_with(blend, queries, h, w) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < queries; i++)
		for (size_t t = 0; t < tokens; t++)
			blend->sums[side][i] += marks[t] ? map[i * tokens + t] : 0;
	return 0;
}

bool sde_blend_at(const struct sde_blend *blend, size_t step, size_t steps)
{
	return blend->queries > 0 && (double)step >= floor(blend->start * (double)steps + 1e-9);
}

/* Where the latents begin that are nearest to place i of n, of so many in all. */
static int begins(int i, int n, int latents)
{
	return (i * latents + n - 1) / n;
}

/* A place, as large as it is among the latents, and the latents around it. */
static void mark_place(struct sde_blend *blend, int row, int column, int around)
{
	const int top = begins(row, blend->rows, blend->height) - around;
	const int bottom = begins(row + 1, blend->rows, blend->height) + around;
	const int left = begins(column, blend->columns, blend->width) - around;
	const int right = begins(column + 1, blend->columns, blend->width) + around;

	for (int y = top > 0 ? top : 0; y < bottom && y < blend->height; y++)
		for (int x = left > 0 ? left : 0; x < right && x < blend->width; x++)
			blend->mask[y * blend->width + x] = true;
}

static void add_side(struct sde_blend *blend, const float *sums)
{
	const int shorter = blend->height < blend->width ? blend->height : blend->width;
	float most = 0;

	for (size_t i = 0; i < blend->queries; i++)
		most = fmaxf(most, sums[i]);
	for (size_t i = 0; i < blend->queries; i++)
		if (sums[i] > blend->threshold * most)
			mark_place(blend, (int)i / blend->columns, (int)i % blend->columns,
				   (shorter + AROUND / 2) / AROUND);
}

void sde_blend_apply(struct sde_blend *blend, size_t channels, float *latents)
{
	const size_t places = (size_t)blend->height * (size_t)blend->width, n = channels * places;

	memset(blend->mask, 0, places * sizeof(*blend->mask));
	for (int side = 0; side < 2; side++)
		if (blend->marks[side])
			add_side(blend, blend->sums[side]);
	for (size_t i = 0; i < n; i++)
		if (!blend->mask[i % places])
			latents[n + i] = latents[i];
}

static void forget(struct sde_blend *blend)
{
	for (int side = 0; side < 2; side++) {
		free(blend->sums[side]);
		blend->sums[side] = NULL;
	}
	free(blend->mask);
	blend->mask = NULL;
	blend->queries = 0;
}

int sde_blend_restart(struct sde_blend *blend, int height, int width)
{
	forget(blend);
	blend->height = height;
	blend->width = width;
	blend->mask = calloc((size_t)height * (size_t)width, sizeof(*blend->mask));
	return blend->mask ? 0 : -ENOMEM;
}

void sde_blend_clear(struct sde_blend *blend)
{
	forget(blend);
	for (int side = 0; side < 2; side++) {
		free(blend->marks[side]);
		blend->marks[side] = NULL;
	}
}
