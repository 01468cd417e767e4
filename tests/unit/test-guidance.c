/*
 * How a job steers sampling beyond its prompt: whose random numbers, guidance rescale, tiles, the second pass. Each is shown by what
 * it changes, on the small model that ships where a figure of the picture is needed, else on the tiny one.
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

#include "daemon/engine/engine.h"
#include "daemon/engine/geometry/enlarge.h"

struct fixture {
	struct sde_engine *engine;
	struct sde_model *tiny, *small;
};

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct sde_error error = {0};
	char path[4096];

	assert_non_null(f);
	assert_int_equal(sde_engine_new(&options, &f->engine, &error), 0);
	snprintf(path, sizeof(path), "%s/models/sd15", getenv("SDD_GOLDEN_DATA"));
	if (sde_model_load(f->engine, path, &f->tiny, &error) < 0 ||
	    sde_model_load(f->engine, getenv("SDD_SMALL_MODEL"), &f->small, &error) < 0)
		fail_msg("%s", error.message);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sde_model_unref(f->tiny);
	sde_model_unref(f->small);
	sde_engine_free(f->engine);
	free(f);
	return 0;
}

static struct sde_job text_job(void)
{
	return (struct sde_job){
		.kind = SDE_TXT2IMG,
		.prompt = "a red house",
		.seed = 7,
		.steps = 2,
		.guidance_scale = 5,
		.count = 1,
		.hires_scale = 1,
	};
}

static struct sde_result run(struct sde_model *model, const struct sde_job *job)
{
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

static bool same(const struct sde_result *a, const struct sde_result *b)
{
	const struct sde_image *left = &a->layers[0].image, *right = &b->layers[0].image;

	return left->width == right->width && left->height == right->height &&
	       memcmp(left->data, right->data, left->stride * left->height) == 0;
}

/* torch's CPU generator takes the low 32 bits of a seed, CUDA's all 64: which of them is at work shows in the picture. */
static void test_rng(void **state)
{
	static const enum sde_rng_kind kinds[] = {SDE_RNG_TORCH_CPU, SDE_RNG_PHILOX};
	const struct fixture *f = *state;
	struct sde_result results[2];

	for (size_t i = 0; i < 2; i++) {
		struct sde_job job = text_job();
		struct sde_result far;

		job.rng = kinds[i];
		results[i] = run(f->tiny, &job);
		job.seed += UINT64_C(1) << 32;
		far = run(f->tiny, &job);
		assert_int_equal(same(&results[i], &far), kinds[i] == SDE_RNG_TORCH_CPU);
		sde_result_clear(&far);
	}
	assert_false(same(&results[0], &results[1]));
	sde_result_clear(&results[0]);
	sde_result_clear(&results[1]);
}

/* Mean difference of the samples of two pictures. */
static double distance(const struct sde_result *a, const struct sde_result *b)
{
	const struct sde_image *left = &a->layers[0].image, *right = &b->layers[0].image;
	double sum = 0;

	for (uint32_t y = 0; y < left->height; y++) {
		const uint8_t *l = sde_image_row(left, y), *r = sde_image_row(right, y);

		for (uint32_t i = 0; i < left->width * 4; i++)
			sum += abs(l[i] - r[i]);
	}
	return sum / (3.0 * left->width * left->height);
}

/* Strong guidance drives a picture far from the prompt's own; rescaling takes part of that back. */
static void test_guidance_rescale(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = text_job();
	struct sde_result results[4];
	double found[4];

	job.steps = 8;
	for (int i = 0; i < 4; i++) {
		job.guidance_scale = i == 0 ? 2 : 20;
		job.guidance_rescale = i <= 1 ? 0 : i == 2 ? 0.5 : 1;
		results[i] = run(f->small, &job);
		found[i] = distance(&results[0], &results[i]);
	}
	print_message(
		"from guidance 2: 20 is %.1f of 255 away, rescaled by half %.1f, wholly %.1f\n",
		found[1], found[2], found[3]);
	assert_true(found[1] > 1);
	assert_true(found[2] < found[1] && found[3] < found[2]);
	for (int i = 0; i < 4; i++)
		sde_result_clear(&results[i]);
}

static bool warns_of(const struct sde_result *result, const char *what)
{
	for (int i = 0; i < result->n_warnings; i++)
		if (strstr(result->warnings[i], what))
			return true;
	return false;
}

/* Text above the native size: in tiles when asked, and then the reply says so; else it is warned of what may come. */
static void test_tiles_of_a_text(void **state)
{
	const struct fixture *f = *state;
	const int native = sde_model_info(f->tiny)->native_size;
	struct sde_job job = text_job();
	struct sde_result whole, tiled, off;

	job.width = 2 * native;
	job.height = 2 * native;
	whole = run(f->tiny, &job);
	assert_true(warns_of(&whole, "give hires_scale"));
	assert_false(warns_of(&whole, "in tiles"));
	job.tiles = SDE_TILES_ON;
	tiled = run(f->tiny, &job);
	assert_true(warns_of(&tiled, "in tiles"));
	assert_false(warns_of(&tiled, "give hires_scale"));
	assert_false(same(&tiled, &whole));
	job.tiles = SDE_TILES_OFF;
	off = run(f->tiny, &job);
	assert_true(same(&off, &whole));
	sde_result_clear(&whole);
	sde_result_clear(&tiled);
	sde_result_clear(&off);
	/* at the native size there is nothing to cut */
	job.width = job.height = native;
	off = run(f->tiny, &job);
	job.tiles = SDE_TILES_ON;
	tiled = run(f->tiny, &job);
	assert_true(same(&off, &tiled));
	sde_result_clear(&tiled);
	sde_result_clear(&off);
}

/* Image to image begins within the model's range; with tiles there is one pass at the picture's own size. */
static void test_tiles_of_a_picture(void **state)
{
	const struct fixture *f = *state;
	const int native = sde_model_info(f->tiny)->native_size;
	struct sde_job job = text_job();
	struct sde_error error = {0};
	struct sde_result result;
	struct sde_image image;

	assert_int_equal(sde_image_new((uint32_t)native * 3, (uint32_t)native * 2, 3, SDE_PIXEL_U8,
				       &image, &error),
			 0);
	job.kind = SDE_IMG2IMG;
	job.image = &image;
	job.strength = 0.5;
	result = run(f->tiny, &job);
	assert_true(result.first_width < native * 2);
	assert_true(warns_of(&result, "in tiles")); /* the refining pass */
	sde_result_clear(&result);
	job.tiles = SDE_TILES_OFF;
	result = run(f->tiny, &job);
	assert_false(warns_of(&result, "in tiles"));
	sde_result_clear(&result);
	job.tiles = SDE_TILES_ON;
	result = run(f->tiny, &job);
	assert_int_equal(result.first_width, native * 3);
	assert_int_equal(result.first_height, native * 2);
	assert_true(warns_of(&result, "in tiles"));
	sde_result_clear(&result);
	sde_image_clear(&image);
}

/* The second pass begins at the first one's picture: at strength 0 it is that picture resampled. */
static void test_hires(void **state)
{
	const struct fixture *f = *state;
	const uint32_t native = (uint32_t)sde_model_info(f->tiny)->native_size;
	const uint32_t side = (uint32_t)lrint(native * 1.7);
	struct sde_result first, plain, painted;
	struct sde_job job = text_job();
	struct sde_error error = {0};
	struct sde_image wanted;

	first = run(f->tiny, &job);
	assert_int_equal(sde_enlarge(&first.layers[0].image, side, side, 1, &wanted, &error), 0);
	job.hires_scale = 1.7;
	plain = run(f->tiny, &job);
	assert_int_equal(plain.layers[0].image.width, side);
	assert_memory_equal(plain.layers[0].image.data, wanted.data, wanted.stride * side);
	assert_int_equal(plain.steps_run, 2);
	job.hires_strength = 0.6;
	painted = run(f->tiny, &job);
	assert_int_equal(painted.layers[0].image.width, side);
	assert_false(same(&painted, &plain));
	assert_int_equal(painted.steps_run, 3);
	/* what a replay must ask for is the first pass's size */
	assert_int_equal(painted.first_width, native);
	assert_true(painted.work_width > (int)native);
	sde_image_clear(&wanted);
	sde_result_clear(&first);
	sde_result_clear(&plain);
	sde_result_clear(&painted);
}

static void test_bad_values(void **state)
{
	const struct fixture *f = *state;
	const struct {
		double rescale, scale, strength;
		int rng;
		const char *message;
	} cases[] = {
		{1.01, 1, 0, 0, "guidance_rescale must be 0 to 1"},
		{NAN, 1, 0, 0, "guidance_rescale must be 0 to 1"},
		{0, 4.5, 0.5, 0, "hires_scale must be 1 to 4"},
		{0, NAN, 0.5, 0, "hires_scale must be 1 to 4"},
		{0, 2, 1.5, 0, "hires_strength must be 0 to 1"},
		{0, 1, 0, 2, "no random generator 2"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_job job = text_job();
		struct sde_error error = {0};
		struct sde_result result;

		job.guidance_rescale = cases[i].rescale;
		job.hires_scale = cases[i].scale;
		job.hires_strength = cases[i].strength;
		job.rng = (enum sde_rng_kind)cases[i].rng;
		assert_int_equal(sde_job_run(f->tiny, &job, NULL, &result, &error), -EINVAL);
		assert_non_null(strstr(error.message, cases[i].message));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_guidance_rescale),
		cmocka_unit_test(test_tiles_of_a_text),
		cmocka_unit_test(test_tiles_of_a_picture),
		cmocka_unit_test(test_hires),
		cmocka_unit_test(test_bad_values),
	};

	return cmocka_run_group_tests_name("guidance", tests, setup, teardown);
}
