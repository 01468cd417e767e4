/*
 * Gathering of attention maps; see maps.h. Layers are enlarged bilinearly, pixel centres on pixel centres, so that shares still sum to one.
 */
#include "daemon/engine/attention/maps.h"

#include <errno.h>
#include <stdlib.h>

/* Where a pixel of a side of n lies on one of m: two places and how much the second counts. */
struct between {
	size_t low, high;
	float part;
};

static struct between between(size_t i, int n, int m)
{
	const float at = ((float)i + 0.5f) * (float)m / (float)n - 0.5f;
	struct between place = {0, 0, 0};

	if (at <= 0)
		return place;
	place.low = (size_t)at;
	if (place.low + 1 >= (size_t)m) {
		place.low = place.high = (size_t)m - 1;
		return place;
	}
	place.high = place.low + 1;
	place.part = at - (float)place.low;
	return place;
}

static void add_row(float *to, const float *from, float part, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] += part * from[i];
}

int sde_maps_sides(int height, int width, size_t queries, int *ret_height, int *ret_width)
{
	while ((size_t)height * (size_t)width > queries && height * width > 1) {
		height = (height + 1) / 2;
		width = (width + 1) / 2;
	}
	if ((size_t)height * (size_t)width != queries)
		return -EINVAL;
	*ret_height = height;
	*ret_width = width;
	return 0;
}

int sde_maps_add(struct sde_maps *maps, size_t queries, size_t tokens, const float *map)
{
	int h, w;

	if (sde_maps_sides(maps->height, maps->width, queries, &h, &w) < 0 ||
	    (maps->tokens > 0 && maps->tokens != tokens))
		return -EINVAL;
	if (!maps->sum) {
		maps->sum = calloc((size_t)maps->height * (size_t)maps->width,
				   tokens * sizeof(*maps->sum));
		if (!maps->sum)
			return -ENOMEM;
		maps->tokens = tokens;
	}
	for (size_t y = 0; y < (size_t)maps->height; y++) {
		const struct between v = between(y, maps->height, h);

		for (size_t x = 0; x < (size_t)maps->width; x++) {
			const struct between u = between(x, maps->width, w);
			const float *upper = map + v.low * (size_t)w * tokens;
			const float *lower = map + v.high * (size_t)w * tokens;
			float *to = maps->sum + (y * (size_t)maps->width + x) * tokens;

			add_row(to, upper + u.low * tokens, (1 - v.part) * (1 - u.part), tokens);
			add_row(to, upper + u.high * tokens, (1 - v.part) * u.part, tokens);
			add_row(to, lower + u.low * tokens, v.part * (1 - u.part), tokens);
			add_row(to, lower + u.high * tokens, v.part * u.part, tokens);
		}
	}
	maps->layers++;
	return 0;
}

void sde_maps_token(const struct sde_maps *maps, size_t token, float *ret_map)
{
	const size_t pixels = (size_t)maps->height * (size_t)maps->width;

	for (size_t i = 0; i < pixels; i++)
		ret_map[i] = token < maps->tokens
				     ? maps->sum[i * maps->tokens + token] / (float)maps->layers
				     : 0;
}

void sde_maps_clear(struct sde_maps *maps)
{
	free(maps->sum);
	maps->sum = NULL;
	maps->tokens = maps->layers = 0;
}
