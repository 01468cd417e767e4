/*
 * Preparing guiding pictures; see preprocess.h.
 */
#include "daemon/engine/adapters/preprocess.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"

#define TANGENT_22 13573 /* tan(22.5 degrees), 15 bits behind the point */

struct gradient {
	int x, y, norm;
};

static int clamp(int value, int max)
{
	return value < 0 ? 0 : value > max ? max : value;
}

/* Sobel, edges replicated; of the channel in which it is steepest. */
static struct gradient gradient_at(const uint8_t *rgb, int width, int height, int x, int y)
{
	struct gradient best = {0, 0, -1};

	for (int c = 0; c < 3; c++) {
		int p[3][3], dx, dy;

		for (int i = 0; i < 9; i++)
			p[i / 3][i % 3] =
				rgb[((size_t)clamp(y + i / 3 - 1, height - 1) * (size_t)width +
				     (size_t)clamp(x + i % 3 - 1, width - 1)) *
					    3 +
				    (size_t)c];
		dx = p[0][2] - p[0][0] + 2 * (p[1][2] - p[1][0]) + p[2][2] - p[2][0];
		dy = p[2][0] - p[0][0] + 2 * (p[2][1] - p[0][1]) + p[2][2] - p[0][2];
		if (abs(dx) + abs(dy) > best.norm)
			best = (struct gradient){dx, dy, abs(dx) + abs(dy)};
	}
	return best;
}

/* Steeper than its neighbours along the gradient? norms has a border of zeros. */
static bool is_ridge(struct gradient g, const int *norm, size_t row)
{
	const long x = labs(g.x), y = labs(g.y) << 15, flat = x * TANGENT_22;
	long side;

	if (y < flat)
		return g.norm > norm[-1] && g.norm >= norm[1];
	if (y > flat + (x << 16))
		return g.norm > *(norm - row) && g.norm >= norm[row];
	side = (g.x ^ g.y) < 0 ? -1 : 1;
	return g.norm > *(norm - row - side) && g.norm > norm[(long)row + side];
}

/* Weak pixels (1) that touch an edge (255) become edges. */
static void follow(uint8_t *edges, int width, int height, size_t *stack, size_t n)
{
	while (n > 0) {
		const size_t at = stack[--n];
		const int x = (int)(at % (size_t)width), y = (int)(at / (size_t)width);

		for (int i = 0; i < 9; i++) {
			const int nx = x + i % 3 - 1, ny = y + i / 3 - 1;
			const size_t next = (size_t)ny * (size_t)width + (size_t)nx;

			if (nx < 0 || ny < 0 || nx >= width || ny >= height || edges[next] != 1)
				continue;
			edges[next] = 255;
			stack[n++] = next;
		}
	}
}

int sde_canny(const uint8_t *rgb, int width, int height, int low, int high, uint8_t *ret_edges)
{
	const size_t n = (size_t)width * (size_t)height, row = (size_t)width + 2;
	_cleanup_free_ struct gradient *gradients = calloc(n, sizeof(*gradients));
	_cleanup_free_ int *norms = calloc(row * ((size_t)height + 2), sizeof(*norms));
	_cleanup_free_ size_t *stack = calloc(n, sizeof(*stack));
	size_t found = 0;

	if (!gradients || !norms || !stack)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const int x = (int)(i % (size_t)width), y = (int)(i / (size_t)width);

		gradients[i] = gradient_at(rgb, width, height, x, y);
		norms[((size_t)y + 1) * row + (size_t)x + 1] = gradients[i].norm;
	}
	for (size_t i = 0; i < n; i++) {
		const int *norm = norms + (i / (size_t)width + 1) * row + i % (size_t)width + 1;

		ret_edges[i] = 0;
		if (gradients[i].norm <= low || !is_ridge(gradients[i], norm, row))
			continue;
		ret_edges[i] = gradients[i].norm > high ? 255 : 1;
		if (ret_edges[i] == 255)
			stack[found++] = i;
	}
	follow(ret_edges, width, height, stack, found);
	for (size_t i = 0; i < n; i++)
		ret_edges[i] = ret_edges[i] == 255 ? 255 : 0;
	return 0;
}

static int make_edges(float *values, int width, int height)
{
	const size_t n = (size_t)width * (size_t)height;
	_cleanup_free_ uint8_t *rgb = malloc(3 * n), *edges = malloc(n);
	int r;

	if (!rgb || !edges)
		return -ENOMEM;
	for (size_t i = 0; i < 3 * n; i++)
		rgb[i] = (uint8_t)rintf(values[i] * 255);
	r = sde_canny(rgb, width, height, SDE_CANNY_LOW, SDE_CANNY_HIGH, edges);
	for (size_t i = 0; r >= 0 && i < 3 * n; i++)
		values[i] = (float)edges[i / 3] / 255;
	return r;
}

/* Dark lines on light paper are turned round; then a pixel is a line or it is not. */
static void make_lines(float *values, size_t n)
{
	double sum = 0;
	bool dark_on_light;

	for (size_t i = 0; i < 3 * n; i++)
		sum += values[i];
	dark_on_light = sum > 1.5 * (double)n;
	for (size_t i = 0; i < n; i++) {
		const float grey = 0.299f * values[3 * i] + 0.587f * values[3 * i + 1] +
				   0.114f * values[3 * i + 2];
		const float line = (dark_on_light ? grey < 0.5f : grey > 0.5f) ? 1 : 0;

		values[3 * i] = values[3 * i + 1] = values[3 * i + 2] = line;
	}
}

struct rows {
	const struct sde_image *image;
	float *rgba; /* of one row */
};

static void read_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct rows *rows = userdata;

	sde_row_to_rgba(rows->image, 0, y, rows->image->width, rows->rgba);
	for (size_t x = 0; x < rows->image->width; x++) {
		const float alpha = rows->rgba[4 * x + 3];

		for (size_t c = 0; c < 3; c++)
			ret_row[3 * x + c] = rows->rgba[4 * x + c] * alpha + 1 - alpha;
	}
}

int sde_preprocess(const struct sde_image *image, const struct sde_rect *rect,
		   enum sde_preprocess how, int width, int height, float *ret_picture,
		   struct sde_error *error)
{
	const size_t n = (size_t)width * (size_t)height;
	_cleanup_free_ float *values = malloc(3 * n * sizeof(*values));
	_cleanup_free_ float *rgba = malloc(4 * (size_t)image->width * sizeof(*rgba));
	struct sde_image part = *image;
	struct rows rows = {&part, rgba};
	int r = 0;

	if (!values || !rgba)
		return sde_error_set(error, -ENOMEM, "no memory for a guiding picture");
	if (rect)
		r = sde_image_subview(image, *rect, &part, error);
	if (r >= 0)
		r = sde_resize_rows(read_row, &rows, part.width, part.height, 3, NULL,
				    (uint32_t)width, (uint32_t)height, SDE_FILTER_LANCZOS, values,
				    error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < 3 * n; i++)
		values[i] = fminf(fmaxf(values[i], 0), 1);
	if (how == SDE_PREPROCESS_CANNY && make_edges(values, width, height) < 0)
		return sde_error_set(error, -ENOMEM, "no memory for edges");
	if (how == SDE_PREPROCESS_SCRIBBLE)
		make_lines(values, n);
	for (size_t i = 0; i < 3 * n; i++)
		ret_picture[i % 3 * n + i / 3] = values[i];
	return 0;
}
