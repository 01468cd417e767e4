/*
 * Upscaling: tiles cover a canvas and leave no seam, strength 0 is the plain resample, alpha and types are the source's. Seams are
 * judged on the small model that ships: by how much what it added changes from one column to the next where a tile
 * begins or ends, beside all other columns.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/geometry/enlarge.h"
#include "daemon/engine/pipelines/tiles.h"
#include "daemon/engine/pixels/convert.h"
#include "tests/unit/engine-fixture.h"

#define FACTOR 8
#define SIDE                                                                                       \
	140 /* of the picture whose seams are judged: tiles then begin off the grid of the U-Net */

static int setup(void **state)
{
	*state = fixture_with_small();
	return 0;
}

static struct sde_job job_of(const struct sde_image *image)
{
	return (struct sde_job){
		.kind = SDE_UPSCALE,
		.prompt = "a red house",
		.seed = 7,
		.steps = 4,
		.guidance_scale = 4,
		.strength = 0.5,
		.scale = 2,
		.count = 1,
		.image = image,
	};
}

static struct sde_layer run(struct sde_model *model, const struct sde_job *job)
{
	struct sde_error error = {0};
	struct sde_result result;
	struct sde_layer layer;

	if (sde_job_run(model, job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	layer = result.layers[0];
	result.layers[0].image = (struct sde_image){0};
	sde_result_clear(&result);
	return layer;
}

/* Every cell of a canvas of ones comes back as one, whatever the sides; the weights fade to the tiles' edges. */
static void test_tiles_sum_to_one(void **state)
{
	static const int sides[][4] = {{64, 64, 64, 16}, {65, 100, 64, 16}, {31, 200, 32, 8},
				       {96, 97, 33, 20}, {40, 40, 16, 0},   {5, 6, 8, 2}};

	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
		const int h = sides[i][0], w = sides[i][1];
		const size_t area = (size_t)h * (size_t)w;
		float *canvas = calloc(2 * area, sizeof(*canvas));
		float *sums = calloc(2 * area, sizeof(*sums)), *tile;
		struct sde_tiles tiles;

		assert_true(canvas && sums);
		for (size_t k = 0; k < 2 * area; k++)
			canvas[k] = (float)k;
		assert_int_equal(sde_tiles_init(&tiles, h, w, sides[i][2], sides[i][3], NULL), 0);
		tile = calloc((size_t)tiles.tile_height * (size_t)tiles.tile_width,
			      2 * sizeof(*tile));
		assert_non_null(tile);
		for (int k = 0; k < sde_tiles_count(&tiles); k++) {
			sde_tiles_cut(&tiles, k, canvas, 2, 1, tile);
			sde_tiles_add(&tiles, k, tile, 2, sums);
		}
		for (size_t k = 0; k < 2 * area; k++)
			assert_float_equal(sums[k], canvas[k], 1e-3 + 1e-5 * (double)k);
		for (int k = 1; k < tiles.columns; k++)
			assert_true(tiles.xs[k - 1] + tiles.tile_width - tiles.xs[k] >=
				    sides[i][3]);
		if (tiles.columns > 1 && sides[i][3] > 0)
			assert_true(tiles.x_weights[0] < 0.02f);
		sde_tiles_clear(&tiles);
		free(canvas);
		free(sums);
		free(tile);
	}
}

static void test_tiles_that_do_not_cover_are_refused(void **state)
{
	struct sde_tiles tiles;
	struct sde_error error = {0};

	assert_int_equal(sde_tiles_init(&tiles, 64, 64, 32, 32, &error), -EINVAL);
	assert_int_equal(sde_tiles_init(&tiles, 64, 64, 0, 0, &error), -EINVAL);
	assert_int_equal(sde_tiles_init(&tiles, 64, 0, 32, 8, &error), -EINVAL);
	assert_non_null(strstr(error.message, "32"));
}

static struct sde_image picture_of(uint32_t width, uint32_t height, uint32_t channels,
				   enum sde_pixel_type type)
{
	struct sde_error error = {0};
	struct sde_image image;
	float row[4 * 64];

	assert_true(width <= 64);
	assert_int_equal(sde_image_new(width, height, channels, type, &image, &error), 0);
	for (uint32_t y = 0; y < height; y++) {
		for (uint32_t i = 0; i < width * channels; i++)
			row[i] = (float)((i * 37 + y * 11) % 256) / 255.0f;
		sde_row_from_float(&image, 0, y, width, row);
	}
	return image;
}

static void test_scale_1_and_strength_0_are_the_source(void **state)
{
	static const enum sde_pixel_type types[] = {SDE_PIXEL_U8, SDE_PIXEL_U16, SDE_PIXEL_F16,
						    SDE_PIXEL_F32};
	const struct fixture *f = *state;

	for (size_t t = 0; t < 4; t++)
		for (uint32_t channels = 1; channels <= 4; channels++) {
			struct sde_image image = picture_of(37, 22, channels, types[t]);
			const size_t element = sde_pixel_type_size(types[t]);
			struct sde_job job = job_of(&image);
			struct sde_layer layer;

			job.scale = 1;
			job.strength = 0;
			layer = run(f->model, &job);
			assert_int_equal(layer.image.width, 37);
			assert_int_equal(layer.image.height, 22);
			assert_int_equal(layer.image.type, types[t]);
			for (uint32_t y = 0; y < 22; y++)
				for (uint32_t x = 0; x < 37; x++) {
					const char *to = sde_image_row(&layer.image, y);
					const char *from = sde_image_row(&image, y);

					to += 4 * element * x;
					from += channels * element * x;
					for (uint32_t c = 0; c < 3; c++)
						assert_memory_equal(to + c * element,
								    from + (channels > 2 ? c : 0) *
										    element,
								    element);
					if (channels % 2 == 0)
						assert_memory_equal(to + 3 * element,
								    from + (channels - 1) * element,
								    element);
				}
			sde_image_clear(&layer.image);
			sde_image_clear(&image);
		}
}

/* Painted or not: the size is round(side * scale), the alpha that of the resampled source. */
static void test_size_and_alpha(void **state)
{
	static const double scales[] = {1, 1.3, 2.5, 4};
	const struct fixture *f = *state;
	struct sde_image image = picture_of(37, 22, 4, SDE_PIXEL_U8);
	uint8_t *pixel;

	for (uint32_t y = 0; y < 22; y++) /* half of it is opaque */
		for (uint32_t x = 18; x < 37; x++)
			((uint8_t *)sde_image_row(&image, y))[4 * x + 3] = 255;
	for (size_t i = 0; i < 4; i++) {
		struct sde_job job = job_of(&image);
		struct sde_layer painted, plain;
		size_t changed = 0;

		job.scale = scales[i];
		painted = run(f->model, &job);
		job.strength = 0;
		plain = run(f->model, &job);
		assert_int_equal(painted.image.width, lrint(37 * scales[i]));
		assert_int_equal(painted.image.height, lrint(22 * scales[i]));
		assert_int_equal(painted.x, 0);
		assert_int_equal(painted.y, 0);
		for (uint32_t y = 0; y < plain.image.height; y++)
			for (uint32_t x = 0; x < plain.image.width; x++) {
				const uint8_t *want = sde_image_row(&plain.image, y);

				pixel = sde_image_row(&painted.image, y);
				assert_int_equal(pixel[4 * x + 3], want[4 * x + 3]);
				changed += memcmp(pixel + 4 * x, want + 4 * x, 3) != 0;
			}
		assert_true(changed > plain.image.width * plain.image.height / 2);
		sde_image_clear(&painted.image);
		sde_image_clear(&plain.image);
	}
	sde_image_clear(&image);
}

/* A clear pixel's colour does not bleed into its neighbours. */
static void test_clear_pixels_do_not_bleed(void **state)
{
	struct sde_error error = {0};
	struct sde_image image, larger;

	assert_int_equal(sde_image_new(8, 8, 4, SDE_PIXEL_U8, &image, &error), 0);
	for (uint32_t y = 0; y < 8; y++)
		for (uint32_t x = 0; x < 8; x++)
			memcpy((uint8_t *)sde_image_row(&image, y) + 4 * x,
			       x < 4 ? "\xff\x00\x00\x00" : "\x00\x40\x00\xff", 4);
	assert_int_equal(sde_enlarge(&image, 20, 20, 8, &larger, &error), 0);
	assert_int_equal(larger.width, 24);
	for (uint32_t x = 0; x < 24; x++) {
		const uint8_t *pixel = (uint8_t *)sde_image_row(&larger, 10) + 4 * x;

		if (pixel[3] > 0)
			assert_int_equal(pixel[0], 0);
	}
	/* what lies beyond goes on as the last column and row */
	assert_memory_equal((uint8_t *)sde_image_row(&larger, 23) + 4 * 23,
			    (uint8_t *)sde_image_row(&larger, 19) + 4 * 19, 4);
	sde_image_clear(&image);
	sde_image_clear(&larger);
}

/* Mean change of what was added from one line to the next: from column x - 1 to x, or from row to row. */
static double change_at(const struct sde_image *painted, const struct sde_image *plain, uint32_t at,
			bool row)
{
	const uint32_t n = row ? plain->width : plain->height;
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t x = row ? i : at, y = row ? at : i;
		const uint32_t before_x = row ? i : at - 1, before_y = row ? at - 1 : i;
		const uint8_t *a = sde_image_row(painted, y), *b = sde_image_row(plain, y);
		const uint8_t *c = sde_image_row(painted, before_y);
		const uint8_t *d = sde_image_row(plain, before_y);

		for (uint32_t k = 0; k < 3; k++)
			sum += abs((a[4 * x + k] - b[4 * x + k]) -
				   (c[4 * before_x + k] - d[4 * before_x + k]));
	}
	return sum / (3.0 * n);
}

/* A source without edges of its own, so that every line is like any other but for the tiles. */
static struct sde_image slope(uint32_t side)
{
	struct sde_error error = {0};
	struct sde_image image;

	assert_int_equal(sde_image_new(side, side, 3, SDE_PIXEL_U8, &image, &error), 0);
	for (uint32_t y = 0; y < side; y++)
		for (uint32_t x = 0; x < side * 3; x++)
			((uint8_t *)sde_image_row(&image, y))[x] =
				(uint8_t)(60 + x / 3 * 60 / side + y * 80 / side);
	return image;
}

/*
 * Only lines where a latent begins are compared, as the decoder itself changes more there than inside; and none outside the first
 * and last border, as less happens towards the picture's own edge.
 */
static void test_no_seam_on_the_small_model(void **state)
{
	const struct fixture *f = *state;
	const int native = sde_model_info(f->small)->native_size / FACTOR;
	struct sde_image source = slope(SIDE);
	struct sde_job job = job_of(&source);
	struct sde_error error = {0};
	double others = 0, borders = 0;
	struct sde_result result;
	struct sde_layer plain;
	struct sde_tiles tiles;
	int n = 0, n_borders = 0;

	job.strength = 0;
	plain = run(f->small, &job);
	job.strength = 0.5;
	job.count = 8;
	assert_int_equal(sde_job_run(f->small, &job, NULL, &result, &error), 0);
	assert_int_equal(sde_tiles_init(&tiles, 2 * SIDE / FACTOR, 2 * SIDE / FACTOR, native,
					native / 2, NULL),
			 0);
	assert_int_equal(tiles.columns, 4);
	for (uint32_t at = (uint32_t)tiles.xs[1] * FACTOR;
	     at <= (uint32_t)(tiles.xs[2] + native) * FACTOR; at += FACTOR)
		for (int i = 0; i < 2 * job.count; i++) {
			const double change =
				change_at(&result.layers[i / 2].image, &plain.image, at, i % 2);
			bool border = false;

			for (int k = 0; k < tiles.columns; k++)
				border = border || at == (uint32_t)tiles.xs[k] * FACTOR ||
					 at == (uint32_t)(tiles.xs[k] + native) * FACTOR;
			*(border ? &borders : &others) += change;
			*(border ? &n_borders : &n) += 1;
		}
	others /= n;
	borders /= n_borders;
	print_message(
		"change from line to line: %.3f of 255, %.3f at borders of tiles (ratio %.3f)\n",
		others, borders, borders / others);
	assert_true(others > 0.1); /* something was painted */
	assert_true(borders < 1.05 * others);
	sde_tiles_clear(&tiles);
	sde_result_clear(&result);
	sde_image_clear(&source);
	sde_image_clear(&plain.image);
}

static void test_bad_requests(void **state)
{
	static const double scales[] = {0.99, 4.01, NAN};
	const struct fixture *f = *state;
	struct sde_image image = picture_of(16, 16, 3, SDE_PIXEL_U8), huge;
	struct sde_job job = job_of(&image);
	struct sde_error error = {0};
	struct sde_result result;

	for (size_t i = 0; i < 3; i++) {
		job.scale = scales[i];
		assert_int_equal(sde_job_run(f->model, &job, NULL, &result, &error), -EINVAL);
		assert_non_null(strstr(error.message, "scale must be 1 to 4"));
	}
	job = job_of(NULL);
	assert_int_equal(sde_job_run(f->model, &job, NULL, &result, &error), -EINVAL);
	assert_non_null(strstr(error.message, "needs an image"));
	/* too large a result is refused before anything is made; the rows of this view are one */
	assert_int_equal(sde_image_view(image.data, image.stride * 16, 16, 16, 3, SDE_PIXEL_U8, 0,
					&huge, &error),
			 0);
	huge.width = 3;
	huge.height = 5000;
	job = job_of(&huge);
	job.scale = 4;
	assert_int_equal(sde_job_run(f->model, &job, NULL, &result, &error), -EINVAL);
	assert_non_null(strstr(error.message, "12 x 20000"));
	sde_image_clear(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiles_sum_to_one),
		cmocka_unit_test(test_tiles_that_do_not_cover_are_refused),
		cmocka_unit_test(test_scale_1_and_strength_0_are_the_source),
		cmocka_unit_test(test_size_and_alpha),
		cmocka_unit_test(test_clear_pixels_do_not_bleed),
		cmocka_unit_test(test_no_seam_on_the_small_model),
		cmocka_unit_test(test_bad_requests),
	};

	return cmocka_run_group_tests_name("upscale", tests, setup, fixture_free);
}
