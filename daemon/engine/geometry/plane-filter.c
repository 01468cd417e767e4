/*
 * Separable filters: see plane-filter.h. Each knows only how to treat one line; the plane is transposed between the
 * two directions, which keeps memory access in rows for pictures of any height.
 */
#include "daemon/engine/geometry/plane-filter.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TILE 32

struct line_filter {
	void (*run)(const struct line_filter *filter, float *line, uint32_t count);
	uint32_t radius;
	bool erode;
	float *weights; /* Gaussian */
	float *padded;	/* a line with its border, and room beside it */
	double *sums;
	uint32_t *queue;
};

static void transpose(const float *from, uint32_t width, uint32_t height, float *to)
{
	for (uint32_t by = 0; by < height; by += TILE)
		for (uint32_t bx = 0; bx < width; bx += TILE)
			for (uint32_t y = by; y < height && y < by + TILE; y++)
				for (uint32_t x = bx; x < width && x < bx + TILE; x++)
					to[(size_t)x * height + y] = from[(size_t)y * width + x];
}

/* Sliding extreme by a queue of falling candidates (Lemire 2006); windows are cut at the ends of the line. */
static void line_extreme(const struct line_filter *filter, float *line, uint32_t count)
{
	const uint32_t radius = filter->radius;
	const float sign = filter->erode ? -1.0f : 1.0f;
	uint32_t head = 0, tail = 0, next = 0;

	memcpy(filter->padded, line, count * sizeof(*line));
	for (uint32_t i = 0; i < count; i++) {
		for (; next < count && next <= (uint64_t)i + radius; next++) {
			while (tail > head && sign * filter->padded[filter->queue[tail - 1]] <=
						      sign * filter->padded[next])
				tail--;
			filter->queue[tail++] = next;
		}
		while ((uint64_t)filter->queue[head] + radius < i)
			head++;
		line[i] = filter->padded[filter->queue[head]];
	}
}

static void pad_line(const struct line_filter *filter, const float *line, uint32_t count)
{
	const uint32_t radius = filter->radius;

	for (uint32_t i = 0; i < radius; i++) {
		filter->padded[i] = line[0];
		filter->padded[radius + count + i] = line[count - 1];
	}
	memcpy(filter->padded + radius, line, count * sizeof(*line));
}

/* Two running means of radius + 1 values make the triangle of 2 * radius + 1. */
static void line_triangular(const struct line_filter *filter, float *line, uint32_t count)
{
	const uint32_t box = filter->radius + 1, once = count + filter->radius;
	double sum = 0.0;

	pad_line(filter, line, count);
	for (uint32_t i = 0; i < once + filter->radius; i++) {
		sum += filter->padded[i];
		if (i >= filter->radius) {
			filter->sums[i - filter->radius] = sum;
			sum -= filter->padded[i - filter->radius];
		}
	}
	sum = 0.0;
	for (uint32_t i = 0; i < once; i++) {
		sum += filter->sums[i];
		if (i >= filter->radius) {
			line[i - filter->radius] = (float)(sum / ((double)box * box));
			sum -= filter->sums[i - filter->radius];
		}
	}
}

static void line_gaussian(const struct line_filter *filter, float *line, uint32_t count)
{
	pad_line(filter, line, count);
	for (uint32_t i = 0; i < count; i++) {
		float sum = 0.0f;

		for (uint32_t k = 0; k <= 2 * filter->radius; k++)
			sum += filter->weights[k] * filter->padded[i + k];
		line[i] = sum;
	}
}

static int run_both_ways(struct line_filter *filter, float *plane, uint32_t width, uint32_t height,
			 struct sde_error *ret_error)
{
	const size_t longest = (width > height ? width : height) + 2 * (size_t)filter->radius;
	float *turned = calloc((size_t)width * height, sizeof(*turned));
	int r = 0;

	filter->padded = calloc(longest, sizeof(*filter->padded));
	filter->sums = calloc(longest, sizeof(*filter->sums));
	filter->queue = calloc(longest, sizeof(*filter->queue));
	if (!turned || !filter->padded || !filter->sums || !filter->queue) {
		r = sde_error_set(ret_error, -ENOMEM, "no memory for a mask of %u x %u pixels",
				  width, height);
	} else {
		for (uint32_t y = 0; y < height; y++)
			filter->run(filter, plane + (size_t)y * width, width);
		transpose(plane, width, height, turned);
		for (uint32_t x = 0; x < width; x++)
			filter->run(filter, turned + (size_t)x * height, height);
		transpose(turned, height, width, plane);
	}
	free(turned);
	free(filter->padded);
	free(filter->sums);
	free(filter->queue);
	return r;
}

int sde_plane_dilate(float *plane, uint32_t width, uint32_t height, uint32_t radius,
		     struct sde_error *ret_error)
{
	struct line_filter filter = {.run = line_extreme, .radius = radius};

	return radius ? run_both_ways(&filter, plane, width, height, ret_error) : 0;
}

int sde_plane_erode(float *plane, uint32_t width, uint32_t height, uint32_t radius,
		    struct sde_error *ret_error)
{
	struct line_filter filter = {.run = line_extreme, .radius = radius, .erode = true};

	return radius ? run_both_ways(&filter, plane, width, height, ret_error) : 0;
}

int sde_plane_blur_triangular(float *plane, uint32_t width, uint32_t height, uint32_t half,
			      struct sde_error *ret_error)
{
	struct line_filter filter = {.run = line_triangular, .radius = half};

	return half ? run_both_ways(&filter, plane, width, height, ret_error) : 0;
}

int sde_plane_blur_gaussian(float *plane, uint32_t width, uint32_t height, uint32_t half,
			    double sigma, struct sde_error *ret_error)
{
	struct line_filter filter = {.run = line_gaussian, .radius = half};
	const size_t taps = 2 * (size_t)half + 1;
	double sum = 0.0;
	int r;

	if (half == 0)
		return 0;
	filter.weights = calloc(taps, sizeof(*filter.weights));
	if (!filter.weights)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a blur of %zu pixels",
				     taps);
	for (size_t k = 0; k < taps; k++) {
		const double x = ((double)k - half) / sigma;

		filter.weights[k] = (float)exp(-0.5 * x * x);
		sum += filter.weights[k];
	}
	for (size_t k = 0; k < taps; k++)
		filter.weights[k] = (float)(filter.weights[k] / sum);
	r = run_both_ways(&filter, plane, width, height, ret_error);
	free(filter.weights);
	return r;
}
