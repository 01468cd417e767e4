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

#include "daemon/engine/geometry/enlarge.h"
#include "daemon/engine/pipelines/apg.h"
#include "tests/unit/engine-fixture.h"

static int setup(void **state)
{
	*state = fixture_with_small();
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
		results[i] = run(f->model, &job);
		job.seed += UINT64_C(1) << 32;
		far = run(f->model, &job);
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
		job.guidance_scale = i == 0 ? 2 : 13;
		job.guidance_rescale = i <= 1 ? 0 : i == 2 ? 0.5 : 1;
		results[i] = run(f->small, &job);
		found[i] = distance(&results[0], &results[i]);
	}
	print_message(
		"from guidance 2: 13 is %.1f of 255 away, rescaled by half %.1f, wholly %.1f\n",
		found[1], found[2], found[3]);
	assert_true(found[2] < found[1] - 1 && found[3] < found[1] - 1);
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
	const int native = sde_model_info(f->model)->native_size;
	struct sde_job job = text_job();
	struct sde_result whole, tiled, off;

	job.width = 2 * native;
	job.height = 2 * native;
	whole = run(f->model, &job);
	assert_true(warns_of(&whole, "give hires_scale"));
	assert_false(warns_of(&whole, "in tiles"));
	job.tiles = SDE_TILES_ON;
	tiled = run(f->model, &job);
	assert_true(warns_of(&tiled, "in tiles"));
	assert_false(warns_of(&tiled, "give hires_scale"));
	assert_false(same(&tiled, &whole));
	job.tiles = SDE_TILES_OFF;
	off = run(f->model, &job);
	assert_true(same(&off, &whole));
	sde_result_clear(&whole);
	sde_result_clear(&tiled);
	sde_result_clear(&off);
	/* at the native size there is nothing to cut */
	job.width = job.height = native;
	off = run(f->model, &job);
	job.tiles = SDE_TILES_ON;
	tiled = run(f->model, &job);
	assert_true(same(&off, &tiled));
	sde_result_clear(&tiled);
	sde_result_clear(&off);
}

/* Image to image begins within the model's range; with tiles there is one pass at the picture's own size. */
static void test_tiles_of_a_picture(void **state)
{
	const struct fixture *f = *state;
	const int native = sde_model_info(f->model)->native_size;
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
	result = run(f->model, &job);
	assert_true(result.first_width < native * 2);
	assert_true(warns_of(&result, "in tiles")); /* the refining pass */
	sde_result_clear(&result);
	job.tiles = SDE_TILES_OFF;
	result = run(f->model, &job);
	assert_false(warns_of(&result, "in tiles"));
	sde_result_clear(&result);
	job.tiles = SDE_TILES_ON;
	result = run(f->model, &job);
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
	const uint32_t native = (uint32_t)sde_model_info(f->model)->native_size;
	const uint32_t side = (uint32_t)lrint(native * 1.7);
	struct sde_result first, plain, painted;
	struct sde_job job = text_job();
	struct sde_error error = {0};
	struct sde_image wanted;

	first = run(f->model, &job);
	assert_int_equal(sde_enlarge(&first.layers[0].image, side, side, 1, &wanted, &error), 0);
	job.hires_scale = 1.7;
	plain = run(f->model, &job);
	assert_int_equal(plain.layers[0].image.width, side);
	assert_memory_equal(plain.layers[0].image.data, wanted.data, wanted.stride * side);
	assert_int_equal(plain.steps_run, 2);
	job.hires_strength = 0.6;
	painted = run(f->model, &job);
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
		assert_int_equal(sde_job_run(f->model, &job, NULL, &result, &error), -EINVAL);
		assert_non_null(strstr(error.message, cases[i].message));
	}
}

/* [a|b] paints something else than a or b; one that changes at no step is its only form, and weights inside stay. */
static void test_prompts_that_change(void **state)
{
	static const char *const prompts[] = {
		"a red house", "a blue fish", "[a red house:a blue boat:2]",
		"[a red house|a blue boat]", "[a red house:a blue boat:99]"};
	const struct fixture *f = *state;
	struct sde_job job = text_job();
	struct sde_result results[5];

	job.steps = 4;
	for (size_t i = 0; i < 5; i++) {
		job.prompt = prompts[i];
		results[i] = run(f->model, &job);
	}
	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < i; k++)
			assert_false(same(&results[i], &results[k]));
	assert_true(same(&results[4], &results[0]));
	assert_int_equal(results[2].prompt_tokens, results[0].prompt_tokens);
	for (size_t i = 0; i < 5; i++)
		sde_result_clear(&results[i]);
	/* the negative prompt too, and forms of different length */
	job.prompt = "a house";
	job.negative_prompt =
		"[red:x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, "
		"x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x:0.5]";
	results[0] = run(f->model, &job);
	job.negative_prompt = "red";
	results[1] = run(f->model, &job);
	assert_int_equal(results[0].chunks, 2);
	assert_false(same(&results[0], &results[1]));
	sde_result_clear(&results[0]);
	sde_result_clear(&results[1]);
}

struct kept {
	int step, stop;
	void *data;
	size_t size;
	atomic_int yield;
};

static void keep(void *userdata, const void *data, size_t size)
{
	struct kept *kept = userdata;

	if (++kept->step != kept->stop)
		return;
	kept->data = malloc(size);
	memcpy(kept->data, data, size);
	kept->size = size;
	atomic_store(&kept->yield, 1);
}

/* Interrupted behind each step, a job with all of it ends in the same bytes. */
static void test_all_of_it_resumes(void **state)
{
	const struct sde_region regions[] = {
		{.prompt = "[a boat:a bird:2]", .x = 16, .width = 30, .height = 64, .weight = 0.7}};
	const struct fixture *f = *state;
	struct sde_job job = text_job();
	struct sde_error error = {0};
	struct sde_result whole, rest;

	job.prompt = "[a house|a tree] in snow";
	job.steps = 4;
	job.guider = SDE_GUIDER_APG;
	job.apg_momentum = -0.5;
	job.apg_norm = 3;
	job.rng = SDE_RNG_PHILOX;
	job.sampler = "Euler a";
	job.tiles = SDE_TILES_ON;
	job.width = 96;
	job.regions = regions;
	job.n_regions = 1;
	job.hires_scale = 1.3;
	job.hires_strength = 0.5;
	whole = run(f->model, &job);
	assert_int_equal(whole.steps_run, 6);
	for (int stop = 1; stop <= 5; stop++) {
		struct kept kept = {.stop = stop};
		const struct sde_hooks hooks = {
			.checkpoint = keep, .yield = &kept.yield, .userdata = &kept};

		job.resume = NULL;
		assert_int_equal(sde_job_run(f->model, &job, &hooks, &rest, &error), -EINTR);
		job.resume = kept.data;
		job.resume_size = kept.size;
		rest = run(f->model, &job);
		assert_int_equal(rest.steps_run, 6 - stop);
		assert_true(same(&rest, &whole));
		sde_result_clear(&rest);
		free(kept.data);
	}
	sde_result_clear(&whole);
}

/* How much redder than blue one half of a picture is. */
static double redness(const struct sde_result *result, bool right)
{
	const struct sde_image *image = &result->layers[0].image;
	const uint32_t half = image->width / 2;
	double sum = 0;

	for (uint32_t y = 0; y < image->height; y++) {
		const uint8_t *row = (uint8_t *)sde_image_row(image, y) + (right ? 4 * half : 0);

		for (uint32_t i = 0; i < 4 * half; i++)
			sum += i % 4 == 0 ? row[i] : i % 4 == 2 ? -row[i] : 0;
	}
	return sum / (1.0 * half * image->height);
}

/* The half that asks for red is the redder one, by rectangle or by mask; weight 0 is no region, one over all its prompt alone. */
static void test_regions(void **state)
{
	const struct fixture *f = *state;
	const int side = sde_model_info(f->small)->native_size;
	struct sde_job job = text_job();
	struct sde_region region;
	struct sde_error error = {0};
	struct sde_result results[2], blue, red, found;
	double tilt[2], nowhere;
	struct sde_image mask;

	job.prompt = "a blue fish";
	job.steps = 6;
	blue = run(f->small, &job);
	job.prompt = "a red mushroom";
	red = run(f->small, &job);
	job.prompt = "a blue fish";
	job.regions = &region;
	job.n_regions = 1;
	for (int right = 0; right < 2; right++) {
		region = (struct sde_region){.prompt = "a red mushroom",
					     .x = right * side / 2,
					     .width = side / 2,
					     .height = side,
					     .weight = 1};
		results[right] = run(f->small, &job);
		tilt[right] = redness(&results[right], true) - redness(&results[right], false);
	}
	nowhere = redness(&blue, true) - redness(&blue, false);
	print_message(
		"right less left: red on the left %.1f of 255, on the right %.1f, nowhere %.1f\n",
		tilt[0], tilt[1], nowhere);
	assert_true(tilt[0] < nowhere - 20 && tilt[1] > nowhere + 20);
	/* a mask of another size lies over the whole picture */
	assert_int_equal(sde_image_new(64, 64, 1, SDE_PIXEL_U8, &mask, &error), 0);
	for (uint32_t y = 0; y < 64; y++)
		memset((uint8_t *)sde_image_row(&mask, y) + 32, 255, 32);
	region = (struct sde_region){.prompt = "a red mushroom", .mask = &mask, .weight = 1};
	found = run(f->small, &job);
	assert_true(distance(&found, &results[1]) < distance(&found, &blue) / 3);
	sde_result_clear(&found);
	region.weight = 0;
	found = run(f->small, &job);
	assert_true(distance(&found, &blue) < 1);
	sde_result_clear(&found);
	region = (struct sde_region){
		.prompt = "a red mushroom", .width = side, .height = side, .weight = 1};
	found = run(f->small, &job);
	assert_true(distance(&found, &red) < 1);
	sde_result_clear(&found);
	sde_image_clear(&mask);
	sde_result_clear(&blue);
	sde_result_clear(&red);
	sde_result_clear(&results[0]);
	sde_result_clear(&results[1]);
}

/* Change of samples across the seam between the last and the first column (or row), beside the largest between any two others. */
static double seam(const struct sde_result *result, bool rows)
{
	const struct sde_image *image = &result->layers[0].image;
	const uint32_t lines = rows ? image->height : image->width;
	const uint32_t length = rows ? image->width : image->height;
	double change = 0, most = 0;

	for (uint32_t line = 0; line < lines; line++) {
		const uint32_t next = (line + 1) % lines;

		change = 0;
		for (uint32_t i = 0; i < length; i++) {
			const uint8_t *a = (uint8_t *)sde_image_row(image, rows ? line : i) +
					   4 * (rows ? i : line);
			const uint8_t *b = (uint8_t *)sde_image_row(image, rows ? next : i) +
					   4 * (rows ? i : next);

			for (int c = 0; c < 3; c++)
				change += abs(a[c] - b[c]);
		}
		if (next != 0)
			most = fmax(most, change);
	}
	return change / most;
}

/* A picture set beside itself shows no seam on the sides that wrap, and one on those that do not. */
static void test_tiling(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = text_job();

	job.prompt = "two red flowers and a tree";
	job.steps = 6;
	for (int tiling = 0; tiling < 4; tiling++) {
		struct sde_result result;
		double columns, rows;

		job.tiling = (enum sde_tiling)tiling;
		result = run(f->small, &job);
		columns = seam(&result, false);
		rows = seam(&result, true);
		print_message(
			"tiling %d: the seam of columns is %.2f times the largest other change, "
			"that of rows %.2f\n",
			tiling, columns, rows);
		sde_result_clear(&result);
		assert_true(tiling & SDE_TILING_X ? columns < 0.6 : columns > 0.8);
		assert_true(tiling & SDE_TILING_Y ? rows < 0.6 : rows > 1.5);
	}
}

/* Where a picture is not seen at once it cannot wrap: said, and left off for this and the next job. */
static void test_tiling_that_cannot_be(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = text_job();
	struct sde_result tiled, plain;

	job.width = job.height = 2 * sde_model_info(f->model)->native_size;
	job.tiles = SDE_TILES_ON;
	plain = run(f->model, &job);
	job.tiling = SDE_TILING_BOTH;
	tiled = run(f->model, &job);
	assert_true(warns_of(&tiled, "tiling was left off"));
	assert_true(same(&tiled, &plain));
	sde_result_clear(&tiled);
	sde_result_clear(&plain);
	job.tiles = SDE_TILES_OFF;
	tiled = run(f->model, &job);
	assert_false(warns_of(&tiled, "tiling was left off"));
	job.tiling = SDE_TILING_NONE;
	plain = run(f->model, &job);
	assert_false(same(&tiled, &plain));
	sde_result_clear(&tiled);
	sde_result_clear(&plain);
}

/* Numbers of diffusers 0.42.1, guiders/adaptive_projected_guidance.py: two steps with momentum -0.5. */
static void test_apg_equals_diffusers(void **state)
{
	enum { N = 6 };
	/* two steps of a batch of two: negative predictions, then positive ones */
	static const float pairs[2][4 * N] = {
		{0.803276062f,	 0.174833387f, 0.0889780968f, -0.613718033f, 0.0461824499f,
		 -1.36825919f,	 0.337495089f, 1.01111591f,   -1.43517935f,  0.977431774f,
		 0.522049963f,	 1.23791671f,  -0.864635587f, 0.298960835f,  0.419218659f,
		 -0.0798543245f, 0.926410854f, 0.815677524f,  0.495189011f,  -0.164316982f,
		 -0.677962184f,	 -1.05910742f, 0.747696638f,  0.23891741f},
		{-0.392150223f, 0.151914895f,  -1.18373322f,  0.534360707f, -1.45102274f,
		 -0.629374027f, 0.154415101f,  -0.247990161f, 0.453501165f, 0.0120910909f,
		 1.34203553f,	1.46200371f,   0.436160982f,  1.01701355f,  -2.19252682f,
		 0.212330669f,	-0.939496815f, -0.323578268f, -1.05471087f, 0.823772728f,
		 -0.527050197f, 0.810725868f,  -0.804592609f, -1.05006421f},
	};
	static const struct {
		struct sde_apg apg;
		double scale;
		float wanted[2][2 * N];
	} cases[] = {
		{{0, -0.5, 1.5},
		 7.0,
		 {{-1.62361276f, -0.816725373f, -0.669674993f, 1.94474185f, -1.02176976f,
		   3.39056873f, -0.217742264f, -3.70097542f, 3.56742525f, -5.24320507f,
		   -0.37063086f, -3.71694422f},
		  {5.70413351f, 1.77314377f, -1.73202026f, -2.46808219f, 1.41268206f, -2.55485487f,
		   0.602162361f, 0.889206469f, -1.18764806f, 1.25729132f, -2.19700742f,
		   -0.919674754f}}},
		{{1, 0.0, 0.0},
		 7.0,
		 {{-10.8721056f, 1.04372549f, 2.40066195f, 3.12332797f, 6.20778084f, 13.9192972f,
		   1.44135261f, -7.21691465f, 3.86534119f, -13.2783422f, 2.10157681f, -5.75507832f},
		  {5.40602827f, 6.20760536f, -8.24528885f, -1.71984947f, 2.12965894f, 1.51119614f,
		   -8.30946732f, 7.25435019f, -6.41035843f, 5.60253477f, -13.6843605f,
		   -16.1224709f}}},
		{{0.3, -0.75, 2.0},
		 3.0,
		 {{-1.77794051f, 0.0022546947f, 0.214530677f, 0.76677078f, 0.677686334f,
		   2.50344133f, 0.3440274f, -1.79114783f, 0.982021689f, -3.27309752f, 0.500851393f,
		   -1.43929839f},
		  {2.95396495f, 1.39663696f, -2.46151423f, -0.898742318f, -0.529710054f,
		   -1.90805984f, -0.860267162f, 1.45613408f, -1.18721795f, 1.77842426f,
		   -1.77131951f, -1.23402703f}}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		float average[2 * N] = {0};

		for (int step = 0; step < 2; step++) {
			float pair[4 * N];

			memcpy(pair, pairs[step], sizeof(pair));
			sde_apg_guide(&cases[i].apg, pair, average, 2, N, cases[i].scale);
			for (int k = 0; k < 2 * N; k++)
				assert_float_equal(pair[k], cases[i].wanted[step][k], 1e-5);
		}
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
		cmocka_unit_test(test_prompts_that_change),
		cmocka_unit_test(test_all_of_it_resumes),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_tiling),
		cmocka_unit_test(test_tiling_that_cannot_be),
		cmocka_unit_test(test_apg_equals_diffusers),
		cmocka_unit_test(test_bad_values),
	};

	return cmocka_run_group_tests_name("guidance", tests, setup, fixture_free);
}
