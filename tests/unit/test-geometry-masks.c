/*
 * Filters against their plain definitions, and what the denoise and composite masks promise for any selection: full where
 * it is full, never below it, equal to it without a transition, nothing shown that was not denoised, nothing cut off.
 */
#include "tests/unit/pixels-util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/latent-mask.h"
#include "daemon/engine/geometry/masks.h"
#include "daemon/engine/geometry/plane-filter.h"
#include "daemon/engine/geometry/selection.h"

static int32_t clamp_index(int32_t i, int32_t count)
{
	return i < 0 ? 0 : i >= count ? count - 1 : i;
}

/* One direction at a time is enough: the other is the same code on the transposed plane. */
static void test_filters_are_their_definitions(void **state)
{
	uint32_t random = 3;

	for (int round = 0; round < 60; round++) {
		const int32_t w = 1 + (int32_t)random_below(&random, 40);
		const int32_t radius = (int32_t)random_below(&random, 50);
		float line[40], dilated[40], eroded[40], smooth[40], bell[40];
		const double sigma = 0.3 * (2 * radius) + 0.8;

		for (int32_t i = 0; i < w; i++)
			line[i] = (float)next_random(&random) / 255;
		memcpy(dilated, line, sizeof(line));
		memcpy(eroded, line, sizeof(line));
		memcpy(smooth, line, sizeof(line));
		memcpy(bell, line, sizeof(line));
		if (round & 1) { /* as a column */
			sde_plane_dilate(dilated, 1, (uint32_t)w, (uint32_t)radius, NULL);
			sde_plane_erode(eroded, 1, (uint32_t)w, (uint32_t)radius, NULL);
			sde_plane_blur_triangular(smooth, 1, (uint32_t)w, (uint32_t)radius, NULL);
			sde_plane_blur_gaussian(bell, 1, (uint32_t)w, (uint32_t)radius, sigma,
						NULL);
		} else {
			sde_plane_dilate(dilated, (uint32_t)w, 1, (uint32_t)radius, NULL);
			sde_plane_erode(eroded, (uint32_t)w, 1, (uint32_t)radius, NULL);
			sde_plane_blur_triangular(smooth, (uint32_t)w, 1, (uint32_t)radius, NULL);
			sde_plane_blur_gaussian(bell, (uint32_t)w, 1, (uint32_t)radius, sigma,
						NULL);
		}
		for (int32_t i = 0; i < w; i++) {
			double most = 0, least = 1, sum = 0, weights = 0, bells = 0, heights = 0;

			for (int32_t k = -radius; k <= radius; k++) {
				const float v = line[clamp_index(i + k, w)];
				const double g = exp(-0.5 * k * k / (sigma * sigma));

				if (i + k >= 0 && i + k < w) {
					most = fmax(most, v);
					least = fmin(least, v);
				}
				sum += (radius + 1 - abs(k)) * (double)v;
				weights += radius + 1 - abs(k);
				bells += g * v;
				heights += g;
			}
			assert_true(dilated[i] == (float)most);
			assert_true(eroded[i] == (float)least);
			assert_float_equal(smooth[i], sum / weights, 1e-6);
			assert_float_equal(bell[i], bells / heights, 2e-6);
		}
	}
}

static void test_square_dilation(void **state)
{
	float plane[9 * 7] = {0};

	plane[3 * 9 + 4] = 1;
	sde_plane_dilate(plane, 9, 7, 2, NULL);
	for (int y = 0; y < 7; y++)
		for (int x = 0; x < 9; x++)
			assert_true(plane[y * 9 + x] ==
				    (abs(x - 4) <= 2 && abs(y - 3) <= 2 ? 1.0f : 0.0f));
}

/* All the promises, for one mask image. */
static void check_masks(const struct sde_image *mask, double strength, double feather,
			bool exact_expected)
{
	const struct sde_model_range range = sde_model_range(128, 128, 192);
	const struct sde_selection selection = {mask, {0, 0, 0, 0}};
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	float *selected, *denoise, *show, *scaled;
	size_t count, work;

	sde_inpaint_options_init(&options);
	options.strength = strength;
	options.feather = feather;
	options.min_transition = 8;
	assert_int_equal(sde_inpaint_plan_init(&plan, mask->width, mask->height, &selection,
					       &options, &range, NULL),
			 0);
	count = (size_t)plan.result.width * (size_t)plan.result.height;
	work = (size_t)plan.work_width * plan.work_height;
	selected = calloc(count, sizeof(float));
	denoise = calloc(count, sizeof(float));
	show = calloc(count, sizeof(float));
	scaled = calloc(work, sizeof(float));
	sde_selection_plane(&plan.selection, plan.result, selected);
	assert_int_equal(sde_denoise_mask(&plan, denoise, NULL), 0);
	assert_int_equal(sde_composite_mask(&plan, show, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		const int32_t x = (int32_t)(i % (size_t)plan.result.width) + plan.result.x;
		const int32_t y = (int32_t)(i / (size_t)plan.result.width) + plan.result.y;
		const bool inner_edge = (x == plan.result.x && x > 0) ||
					(y == plan.result.y && y > 0) ||
					(x == plan.result.x + plan.result.width - 1 &&
					 x + 1 < (int32_t)mask->width) ||
					(y == plan.result.y + plan.result.height - 1 &&
					 y + 1 < (int32_t)mask->height);

		assert_true(denoise[i] >= selected[i] && denoise[i] <= 1);
		assert_true(show[i] >= selected[i] && show[i] <= 1);
		if (show[i] > 0)
			assert_true(denoise[i] > 0);
		if (exact_expected) {
			assert_true(denoise[i] == selected[i]);
			assert_true(show[i] == selected[i]);
		} else if (inner_edge) {
			assert_true(show[i] <
				    0.5f); /* the tail ends inside, give or take a pixel */
		}
	}
	assert_int_equal(
		sde_denoise_mask_scaled(&plan, plan.work_width, plan.work_height, scaled, NULL), 0);
	for (size_t i = 0; i < work; i++)
		assert_true(scaled[i] >= 0 && scaled[i] <= 1 &&
			    (scaled[i] <= 0.99f || scaled[i] == 1));
	free(selected);
	free(denoise);
	free(show);
	free(scaled);
}

static void test_promises_hold_everywhere(void **state)
{
	uint32_t random = 17;

	for (int round = 0; round < 80; round++) {
		const uint32_t w = 1 + random_below(&random, 150);
		const uint32_t h = 1 + random_below(&random, 150);
		struct sde_image mask = grey_image(w, h);
		const uint32_t blobs = 1 + random_below(&random, 3);

		for (uint32_t b = 0; b < blobs; b++) {
			const uint32_t x0 = random_below(&random, w), y0 = random_below(&random, h);
			const uint32_t bw = 1 + random_below(&random, 40);
			const uint32_t bh = 1 + random_below(&random, 40);
			const uint8_t value = random_below(&random, 2)
						      ? 255
						      : (uint8_t)(1 + next_random(&random) % 254);

			for (uint32_t y = y0; y < h && y < y0 + bh; y++)
				memset((uint8_t *)sde_image_row(&mask, y) + x0, value,
				       bw < w - x0 ? bw : w - x0);
		}
		check_masks(&mask, random_below(&random, 5) / 4.0,
			    round % 3 ? 0.05 * (1 + random_below(&random, 5)) : 0.0,
			    round % 3 == 0);
		sde_image_clear(&mask);
	}
}

static void test_corners_edges_and_single_pixels(void **state)
{
	static const int places[][2] = {{0, 0},	 {99, 0},  {0, 79},  {99, 79}, {50, 0},
					{0, 40}, {99, 40}, {50, 79}, {50, 40}};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct sde_image mask = grey_image(100, 80);

		((uint8_t *)sde_image_row(&mask, (uint32_t)places[i][1]))[places[i][0]] = 255;
		check_masks(&mask, 1.0, 0.1, false);
		check_masks(&mask, 0.0, 0.1, false);
		check_masks(&mask, 1.0, 0.0, true);
		sde_image_clear(&mask);
	}
}

/* Well inside an area selected to 40 %, both masks are 40 %. */
static void test_soft_selection_keeps_its_value(void **state)
{
	struct sde_image mask = grey_image(200, 200);
	const struct sde_selection selection = {&mask, {0, 0, 0, 0}};
	const struct sde_model_range range = sde_model_range(128, 0, 0);
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	float denoise[200 * 200], show[200 * 200];

	for (uint32_t y = 60; y < 140; y++)
		memset((uint8_t *)sde_image_row(&mask, y) + 60, 102, 80);
	sde_inpaint_options_init(&options);
	assert_int_equal(sde_inpaint_plan_init(&plan, 200, 200, &selection, &options, &range, NULL),
			 0);
	assert_int_equal(sde_denoise_mask(&plan, denoise, NULL), 0);
	assert_int_equal(sde_composite_mask(&plan, show, NULL), 0);
	for (int32_t y = 60; y < 140; y++)
		for (int32_t x = 60; x < 140; x++) {
			const size_t at = (size_t)(y - plan.result.y) * (size_t)plan.result.width +
					  (size_t)(x - plan.result.x);

			assert_float_equal(denoise[at], 0.4, 1e-5);
			assert_float_equal(show[at], 0.4, 1e-5);
		}
	sde_image_clear(&mask);
}

static void test_latent_masks(void **state)
{
	float mask[16 * 8] = {0}, out[2], area[2], most[2];

	mask[0] = 1;
	mask[3 * 16 + 12] = 0.5f;
	sde_mask_reduce(mask, 16, 8, 8, SDE_MASK_NEAREST, out);
	sde_mask_reduce(mask, 16, 8, 8, SDE_MASK_AREA, area);
	sde_mask_reduce(mask, 16, 8, 8, SDE_MASK_MAX, most);
	assert_true(out[0] == 1 && out[1] == 0);
	assert_float_equal(area[0], 1.0 / 64, 1e-7);
	assert_float_equal(area[1], 0.5 / 64, 1e-7);
	assert_true(most[0] == 1 && most[1] == 0.5f);
	mask[1] = 0.49999997f;
	mask[2] = 0.5f;
	sde_mask_binarise(mask, 3);
	assert_true(mask[0] == 1 && mask[1] == 0 && mask[2] == 1);
}

static void test_masked_image_is_mid_grey_in_the_hole(void **state)
{
	const float image[6] = {-1, 0.5f, 1, 0.25f, -0.25f, 0.75f}, mask[2] = {0.4f, 0.5f};
	float out[6];

	sde_masked_image(image, mask, 2, out);
	assert_memory_equal(out, image, 3 * sizeof(float));
	assert_true(out[3] == 0 && out[4] == 0 && out[5] == 0);
}

/* Fully selected is repainted at every step, not selected never, between: the more, the earlier. */
static void test_differential_steps(void **state)
{
	const float mask[4] = {0, 0.3f, 0.6f, 1};
	float last[4] = {0}, now[4];

	assert_float_equal(sde_differential_threshold_sigma(14.6, 0.03, 14.6), 1, 0);
	assert_float_equal(sde_differential_threshold_sigma(0.03, 0.03, 14.6), 0, 0);
	assert_float_equal(sde_differential_threshold_sigma(0.0, 0.03, 14.6), 0, 0);
	assert_float_equal(sde_differential_threshold_sigma(5, 0, 20), 0.25, 1e-12);
	assert_float_equal(sde_differential_threshold_timestep(981, 981, 1), 1, 0);
	assert_float_equal(sde_differential_threshold_timestep(491, 981, 1), 0.5, 1e-12);
	assert_float_equal(sde_differential_threshold_timestep(1, 981, 1), 0, 0);
	assert_float_equal(sde_differential_threshold_timestep(5, 5, 5), 1, 0); /* one step */
	for (int t = 10; t >= 0; t--) {
		sde_differential_mask(mask, 4, t / 10.0, now);
		assert_true(now[0] == 0 && now[3] == 1);
		for (int i = 0; i < 4; i++)
			assert_true(now[i] >= last[i]);
		memcpy(last, now, sizeof(now));
	}
	assert_true(now[1] == 1 && now[2] == 1);
	sde_differential_mask(mask, 4, 0.5, now);
	assert_true(now[1] == 0 && now[2] == 1);
}

/*
 * Profile of a wide selection: denoise is half at G beyond it, composite at G + F/2 - B/2, and the scaled mask lies where
 * the unscaled one does.
 */
static void test_profile_and_place(void **state)
{
	const struct sde_model_range range = sde_model_range(256, 256, 384);
	const struct sde_selection selection = {NULL, {100, 140, 70, 60}};
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	float *denoise, *show, *scaled;
	size_t width, row;
	int32_t edge;

	sde_inpaint_options_init(&options);
	options.context = SDE_CONTEXT_IMAGE;
	options.min_transition = 16;
	assert_int_equal(sde_inpaint_plan_init(&plan, 320, 256, &selection, &options, &range, NULL),
			 0);
	assert_int_equal(plan.feather, 16);
	assert_int_equal(plan.grow, 12);
	assert_int_equal(plan.blend, 20);
	assert_int_equal(plan.work_width, 320);
	assert_int_equal(plan.work_height, 256);
	width = (size_t)plan.result.width;
	denoise = calloc(width * (size_t)plan.result.height, sizeof(float));
	show = calloc(width * (size_t)plan.result.height, sizeof(float));
	scaled = calloc(320 * 256, sizeof(float));
	assert_int_equal(sde_denoise_mask(&plan, denoise, NULL), 0);
	assert_int_equal(sde_composite_mask(&plan, show, NULL), 0);
	assert_int_equal(sde_denoise_mask_scaled(&plan, 320, 256, scaled, NULL), 0);
	row = (size_t)(170 - plan.result.y) * width;
	edge = 170 - plan.result.x; /* first pixel right of the selection */
	assert_true(denoise[row + (size_t)edge + 11] > 0.5f);
	assert_true(denoise[row + (size_t)edge + 12] < 0.5f);
	assert_true(denoise[row + (size_t)edge + 19] > 0 && denoise[row + (size_t)edge + 20] == 0);
	assert_true(show[row + (size_t)edge + 9] > 0.5f);
	assert_true(show[row + (size_t)edge + 10] < 0.5f);
	for (int32_t y = 0; y < 256; y++)
		for (int32_t x = 0; x < 320; x++) {
			const int32_t rx = x - plan.result.x, ry = y - plan.result.y;
			const float got = scaled[y * 320 + x];
			float want = 0;

			if (rx >= 0 && ry >= 0 && rx < plan.result.width && ry < plan.result.height)
				want = denoise[(size_t)ry * width + (size_t)rx];
			assert_float_equal(got, want > 0.99f ? 1.0f : want, 1e-6);
		}
	free(denoise);
	free(show);
	free(scaled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters_are_their_definitions),
		cmocka_unit_test(test_square_dilation),
		cmocka_unit_test(test_promises_hold_everywhere),
		cmocka_unit_test(test_corners_edges_and_single_pixels),
		cmocka_unit_test(test_soft_selection_keeps_its_value),
		cmocka_unit_test(test_latent_masks),
		cmocka_unit_test(test_masked_image_is_mid_grey_in_the_hole),
		cmocka_unit_test(test_differential_steps),
		cmocka_unit_test(test_profile_and_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
