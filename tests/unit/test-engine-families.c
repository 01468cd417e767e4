/*
 * Jobs through the engine's boundary on the families with a transformer (SD3, SD3.5, FLUX.1 schnell and fill): every kind of job,
 * what the defaults are, what guidance and negative prompts do in each, sizes, and which parts a folder may leave out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/engine.h"

#define CANVAS_WIDTH  90
#define CANVAS_HEIGHT 70

struct fixture {
	struct sde_engine *engine;
	struct sde_image canvas;
};

static const struct family {
	const char *folder, *name;
	int native_size, in_channels, steps, multiple;
	double guidance_scale;
} families[] = {
	{"sd3", "sd3", 128, 16, 28, 16, 7},
	{"sd35", "sd3.5", 128, 16, 28, 16, 4.5},
	{"flux_schnell", "flux-schnell", 64, 16, 4, 16, 0},
	{"flux_fill", "flux-fill", 64, 96, 28, 16, 30},
};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

static struct sde_model *load(const struct fixture *f, const char *name)
{
	struct sde_error error = {0};
	struct sde_model *model;
	char path[4096];

	snprintf(path, sizeof(path), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), name);
	if (sde_model_load(f->engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

static void paint_canvas(struct sde_image *canvas)
{
	for (uint32_t y = 0; y < canvas->height; y++)
		for (uint32_t x = 0; x < canvas->width * 3; x++)
			((uint8_t *)sde_image_row(canvas, y))[x] = (uint8_t)(x * 5 + y * 3);
}

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct sde_error error = {0};

	assert_non_null(f);
	assert_int_equal(sde_engine_new(&options, &f->engine, &error), 0);
	assert_int_equal(
		sde_image_new(CANVAS_WIDTH, CANVAS_HEIGHT, 3, SDE_PIXEL_U8, &f->canvas, &error), 0);
	paint_canvas(&f->canvas);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sde_image_clear(&f->canvas);
	sde_engine_free(f->engine);
	free(f);
	return 0;
}

static struct sde_job job_of(const struct fixture *f, enum sde_job_kind kind)
{
	return (struct sde_job){
		.kind = kind,
		.prompt = "a cat on a sofa",
		.seed = 7,
		.steps = 2,
		.guidance_scale = -1,
		.strength = 1,
		.count = 1,
		.image = kind == SDE_TXT2IMG ? NULL : &f->canvas,
		.has_select = true,
		.select_x = 30,
		.select_y = 25,
		.select_width = 21,
		.select_height = 17,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.right = 16,
		.scale = 2.5,
	};
}

static void run(struct sde_model *model, const struct sde_job *job, struct sde_result *ret_result)
{
	struct sde_error error = {0};

	if (sde_job_run(model, job, NULL, ret_result, &error) < 0)
		fail_msg("%s", error.message);
}

static void refused(struct sde_model *model, const struct sde_job *job, const char *words)
{
	struct sde_error error = {0};
	struct sde_result result;

	assert_true(sde_job_run(model, job, NULL, &result, &error) < 0);
	if (!strstr(error.message, words))
		fail_msg("'%s' does not say '%s'", error.message, words);
}

/* Whether two jobs give the same picture. */
static bool same(struct sde_model *model, const struct sde_job *a, const struct sde_job *b)
{
	struct sde_result first, second;
	bool equal;

	run(model, a, &first);
	run(model, b, &second);
	assert_int_equal(first.layers[0].image.height, second.layers[0].image.height);
	equal = memcmp(first.layers[0].image.data, second.layers[0].image.data,
		       first.layers[0].image.stride * first.layers[0].image.height) == 0;
	sde_result_clear(&first);
	sde_result_clear(&second);
	return equal;
}

static void test_every_kind_on_every_family(void **state)
{
	const struct fixture *f = *state;

	for (size_t i = 0; i < N_FAMILIES; i++) {
		const struct family *family = &families[i];
		struct sde_model *model = load(f, family->folder);
		const struct sde_model_info *info = sde_model_info(model);

		assert_string_equal(info->family, family->name);
		assert_string_equal(info->default_sampler, "Euler");
		assert_int_equal(info->native_size, family->native_size);
		assert_int_equal(info->in_channels, family->in_channels);
		assert_int_equal(info->default_steps, family->steps);
		assert_float_equal(info->default_guidance, family->guidance_scale, 0);
		for (int kind = SDE_TXT2IMG; kind <= SDE_UPSCALE; kind++) {
			struct sde_job job = job_of(f, (enum sde_job_kind)kind);
			struct sde_result result;

			if (kind == SDE_IMG2IMG)
				job.strength = 0.6;
			run(model, &job, &result);
			assert_int_equal(result.layers[0].image.channels, 4);
			assert_true(result.steps_run > 0);
			assert_true(result.prompt_tokens > 0);
			assert_int_equal(result.work_width % family->multiple, 0);
			assert_int_equal(result.work_height % family->multiple, 0);
			sde_result_clear(&result);
		}
		sde_model_unref(model);
	}
}

/* SD3 is guided by two passes; FLUX is told its guidance or, like schnell, has none, and hears no negative prompt. */
static void test_guidance_is_the_familys(void **state)
{
	static const struct {
		const char *folder;
		bool hears_negative, hears_guidance;
	} cases[] = {
		{"sd3", true, true}, {"flux_schnell", false, false}, {"flux_fill", false, true}};
	const struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_model *model = load(f, cases[i].folder);
		const struct sde_job job = job_of(f, SDE_TXT2IMG);
		struct sde_job negative = job, guided = job;

		negative.negative_prompt = "blurry, low quality";
		guided.guidance_scale = 2;
		assert_int_equal(!same(model, &job, &negative), cases[i].hears_negative);
		assert_int_equal(!same(model, &job, &guided), cases[i].hears_guidance);
		sde_model_unref(model);
	}
}

/* The fill model sees the picture around the hole, a text to image model does not. */
static void test_fill_looks_at_the_surroundings(void **state)
{
	struct fixture *f = *state;
	struct sde_model *model = load(f, "flux_fill");
	const struct sde_job job = job_of(f, SDE_INPAINT);
	struct sde_result before, after;
	uint8_t *row;
	const uint8_t *left, *right;
	bool differs = false;
	int y = job.select_y + 5;

	run(model, &job, &before);
	for (uint32_t i = 0; i < CANVAS_HEIGHT; i++) {
		row = sde_image_row(&f->canvas, i);
		memset(row, 200, 3 * 20);
	}
	run(model, &job, &after);
	left = sde_image_row(&before.layers[0].image, (uint32_t)(y - before.layers[0].y));
	right = sde_image_row(&after.layers[0].image, (uint32_t)(y - after.layers[0].y));
	left += 4 * (job.select_x + 5 - before.layers[0].x);
	right += 4 * (job.select_x + 5 - after.layers[0].x);
	for (int i = 0; i < 4 * 8; i++)
		differs = differs || left[i] != right[i];
	assert_true(differs);
	paint_canvas(&f->canvas);
	sde_result_clear(&before);
	sde_result_clear(&after);
	sde_model_unref(model);
}

/* T5 reads the whole text, with weights, without the syntax being read aloud. */
static void test_t5_reads_prompts(void **state)
{
	const struct fixture *f = *state;
	struct sde_model *model = load(f, "flux_schnell");
	struct sde_job plain = job_of(f, SDE_TXT2IMG), weighted = plain, one = plain;
	struct sde_result result;
	char text[4096] = "";

	weighted.prompt = "a (cat:1.4) on a sofa";
	assert_false(same(model, &plain, &weighted));
	one.prompt = "a (cat:1.0) on a sofa";
	assert_true(same(model, &plain, &one));
	/* longer than it reads: the count is of all, and it paints */
	while (strlen(text) < 2000)
		strcat(text, "many small words ");
	plain.prompt = text;
	run(model, &plain, &result);
	assert_true(result.prompt_tokens > 256);
	assert_int_equal(result.n_warnings, 1);
	assert_non_null(strstr(result.warnings[0], "tokens of prompt fell out: T5 reads 255"));
	sde_result_clear(&result);
	sde_model_unref(model);
}

static void test_sizes(void **state)
{
	const struct fixture *f = *state;
	struct sde_model *model = load(f, "flux_schnell");
	struct sde_job job = job_of(f, SDE_TXT2IMG);

	job.width = job.height = 72;
	refused(model, &job, "multiples of 16 up to 4096");
	sde_model_unref(model);
	/* SD3 has learnt positions for so much and no more: 24 patches of 16 pixels */
	model = load(f, "sd3");
	job.width = job.height = 400;
	refused(model, &job, "multiples of 16 up to 384");
	job.sampler = "DDIM";
	job.width = job.height = 64;
	refused(model, &job, "cannot sample a flow model");
	job.sampler = "DPM++ 2M";
	assert_true(same(model, &job, &job));
	sde_model_unref(model);
}

/* Load a folder of links to a model's parts but for one, with an index that does not name it (NULL: that does). */
static int load_without(const struct fixture *f, const char *name, const char *part, bool named,
			struct sde_model **ret_model, struct sde_error *ret_error)
{
	static const char *const parts[] = {
		"transformer", "vae",	      "scheduler",   "text_encoder", "text_encoder_2",
		"tokenizer",   "tokenizer_2", "tokenizer_3", "sdd.json",     "text_encoder_3",
	};
	char folder[] = "/tmp/sdd-family-XXXXXX", from[4096], to[96], command[64];
	int r;

	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(from, sizeof(from), "%s/models/%s/%s", getenv("SDD_GOLDEN_DATA"), name,
			 parts[i]);
		snprintf(to, sizeof(to), "%s/%s", folder, parts[i]);
		if (strcmp(parts[i], part) != 0 && access(from, F_OK) == 0)
			assert_int_equal(symlink(from, to), 0);
	}
	if (named) {
		snprintf(from, sizeof(from), "%s/models/%s/model_index.json",
			 getenv("SDD_GOLDEN_DATA"), name);
		snprintf(to, sizeof(to), "%s/model_index.json", folder);
		assert_int_equal(symlink(from, to), 0);
	}
	r = sde_model_load(f->engine, folder, ret_model, ret_error);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	return r;
}

static void test_parts_that_may_be_missing(void **state)
{
	static const struct {
		const char *model, *part, *words;
	} needed[] = {
		{"sd3", "text_encoder_2", "text_encoder_2"},
		{"sd3", "tokenizer_3", "tokenizer_3"},
		{"flux_schnell", "text_encoder_2", "text_encoder_2"},
		{"flux_schnell", "text_encoder", "text_encoder"},
		{"flux_schnell", "transformer", "unet"},
	};
	const struct fixture *f = *state;
	const struct sde_job job = job_of(f, SDE_TXT2IMG);
	struct sde_error error = {0};
	struct sde_result result;
	struct sde_model *model;

	/* SD3 paints without its T5, which is larger than all the rest; no scheduler means rectified flow */
	assert_int_equal(load_without(f, "sd3", "text_encoder_3", false, &model, &error), 0);
	run(model, &job, &result);
	sde_result_clear(&result);
	sde_model_unref(model);
	assert_int_equal(load_without(f, "sd3", "scheduler", false, &model, &error), 0);
	run(model, &job, &result);
	assert_string_equal(result.sampler, "Euler");
	sde_result_clear(&result);
	sde_model_unref(model);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		assert_true(load_without(f, needed[i].model, needed[i].part, false, &model,
					 &error) < 0);
		if (!strstr(error.message, needed[i].words))
			fail_msg("'%s' does not name %s", error.message, needed[i].words);
	}
	assert_true(load_without(f, "sd3", "text_encoder_3", true, &model, &error) < 0);
}

static void test_warnings(void **state)
{
	static const struct {
		const char *folder, *negative;
		double guidance_scale;
		int side, count;
		const char *words;
	} cases[] = {
		{"sd3", NULL, -1, 0, 0, ""},
		{"sd3", "blurry", 4, 128, 0, ""},
		{"sd3", NULL, 12, 0, 1, "guidance_scale 12 is high"},
		{"sd3", "blurry", 1, 0, 1, "negative_prompt is not heard at guidance_scale 1"},
		{"sd3", NULL, -1, 48, 1, "48 x 48 is much less than the 128 x 128"},
		{"sd35", NULL, -1, 192, 1, "192 x 192 is much more than the 128 x 128"},
		{"flux_schnell", "blurry", 5, 0, 1, "hears no negative_prompt"},
		{"flux_fill", NULL, 30, 0, 0, ""},
	};
	const struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_model *model = load(f, cases[i].folder);
		struct sde_job job = job_of(f, SDE_TXT2IMG);
		struct sde_result result;

		job.steps = 1;
		job.negative_prompt = cases[i].negative;
		job.guidance_scale = cases[i].guidance_scale;
		job.width = job.height = cases[i].side;
		run(model, &job, &result);
		assert_int_equal(result.n_warnings, cases[i].count);
		if (!strstr(result.warnings[0], cases[i].words))
			fail_msg("'%s' does not say '%s'", result.warnings[0], cases[i].words);
		sde_result_clear(&result);
		sde_model_unref(model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_on_every_family),
		cmocka_unit_test(test_guidance_is_the_familys),
		cmocka_unit_test(test_fill_looks_at_the_surroundings),
		cmocka_unit_test(test_t5_reads_prompts),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_parts_that_may_be_missing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
