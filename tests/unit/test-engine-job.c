/*
 * Jobs through the engine's boundary on the tiny models of the golden data: seeds, strength 0, cancellation, a U-Net made
 * for inpainting, and errors that name the field or the tensor.
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

#include "tests/unit/engine-fixture.h"

static int setup(void **state)
{
	*state = fixture_new("ref", true, 61, 47);
	return 0;
}

static struct sde_job job_of(const struct fixture *f, enum sde_job_kind kind)
{
	return (struct sde_job){
		.kind = kind,
		.prompt = "a (cat:1.3) on a sofa",
		.seed = 7,
		.steps = 2,
		.guidance_scale = 5,
		.strength = 1,
		.count = 1,
		.image = kind == SDE_TXT2IMG ? NULL : &f->canvas,
		.has_select = true,
		.select_x = 20,
		.select_y = 15,
		.select_width = 11,
		.select_height = 9,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.color_match = true,
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

static size_t bytes_of(const struct sde_image *image)
{
	return image->stride * image->height;
}

static void test_picture_i_has_seed_plus_i(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_TXT2IMG);
	struct sde_result two, one;

	job.count = 2;
	run(f->model, &job, &two);
	job.count = 1;
	job.seed = 8;
	run(f->model, &job, &one);
	assert_int_equal(two.count, 2);
	assert_int_equal(two.layers[1].seed, 8);
	assert_int_equal(two.layers[0].image.width, sde_model_info(f->model)->native_size);
	assert_memory_equal(two.layers[1].image.data, one.layers[0].image.data,
			    bytes_of(&one.layers[0].image));
	assert_memory_not_equal(two.layers[0].image.data, one.layers[0].image.data,
				bytes_of(&one.layers[0].image));
	assert_int_equal(one.chunks, 1);
	assert_int_equal(one.steps_run, 2);
	sde_result_clear(&two);
	sde_result_clear(&one);
}

/* Each tensor is headway: a load of any length is told from one that hangs. */
static void test_loading_shows_headway(void **state)
{
	static atomic_ulong pulse;
	const struct sde_engine_options options = {
		.backend = "ref", .dtype = "f32", .threads = 1, .pulse = &pulse};
	struct sde_error error = {0};
	struct sde_engine *engine;
	struct sde_model *model;

	assert_int_equal(sde_engine_new(&options, &engine, &error), 0);
	assert_int_equal(atomic_load(&pulse), 0);
	model = fixture_load(engine, "sd15");
	assert_true(atomic_load(&pulse) > 200); /* the U-Net alone has as many */
	sde_model_unref(model);
	sde_engine_free(engine);
}

static void test_every_kind_on_both_unets(void **state)
{
	const struct fixture *f = *state;
	struct sde_model *const models[] = {f->model, f->inpaint};

	for (size_t m = 0; m < 2; m++)
		for (int kind = SDE_TXT2IMG; kind <= SDE_UPSCALE; kind++) {
			const struct sde_job job = job_of(f, (enum sde_job_kind)kind);
			struct sde_result result;

			run(models[m], &job, &result);
			assert_int_equal(result.layers[0].image.channels, 4);
			assert_true(result.steps_run > 0);
			sde_result_clear(&result);
		}
}

static void test_selection_is_opaque_and_strength_0_changes_nothing(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_INPAINT);
	struct sde_result result;
	const struct sde_layer *layer;
	const uint8_t *pixel;

	run(f->model, &job, &result);
	layer = &result.layers[0];
	for (int y = 15; y < 24; y++)
		for (int x = 20; x < 31; x++) {
			pixel = sde_image_row(&layer->image, (uint32_t)(y - layer->y));
			assert_int_equal(pixel[4 * (x - layer->x) + 3], 255);
		}
	sde_result_clear(&result);
	job.strength = 0;
	run(f->model, &job, &result);
	assert_int_equal(result.steps_run, 0);
	for (uint32_t y = 0; y < result.layers[0].image.height; y++)
		for (uint32_t x = 0; x < result.layers[0].image.width; x++) {
			pixel = sde_image_row(&result.layers[0].image, y);
			assert_int_equal(pixel[4 * x + 3], 0);
		}
	sde_result_clear(&result);
}

/* 32 pixels of transition are for models of 512; with them the layer would be 96 pixels wide, not 32. */
static void test_transition_suits_the_model(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_INPAINT);
	struct sde_result result;
	struct sde_error error = {0};
	struct sde_image canvas;

	assert_int_equal(sde_model_info(f->model)->native_size, 64);
	assert_int_equal(sde_image_new(160, 160, 3, SDE_PIXEL_U8, &canvas, &error), 0);
	job.image = &canvas;
	job.select_x = job.select_y = 70;
	run(f->model, &job, &result);
	assert_int_equal(result.layers[0].image.width, 32);
	sde_result_clear(&result);
	sde_image_clear(&canvas);
}

/* SDXL was trained with zeros in place of an absent negative prompt, which an empty one is not. */
static void test_sdxl(void **state)
{
	static const enum sde_job_kind kinds[] = {SDE_TXT2IMG, SDE_INPAINT};
	const struct fixture *f = *state;
	struct sde_model *model = fixture_load(f->engine, "sdxl");
	struct sde_result absent, empty;
	struct sde_job job;

	assert_string_equal(sde_model_info(model)->family, "sdxl");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		job = job_of(f, kinds[i]);
		job.steps = 1;
		if (kinds[i] == SDE_TXT2IMG)
			job.width = job.height = 64;
		run(model, &job, &absent);
		job.negative_prompt = "";
		run(model, &job, &empty);
		assert_memory_not_equal(absent.layers[0].image.data, empty.layers[0].image.data,
					bytes_of(&empty.layers[0].image));
		assert_int_equal(absent.prompt_tokens, empty.prompt_tokens);
		sde_result_clear(&absent);
		sde_result_clear(&empty);
	}
	sde_model_unref(model);
	model = fixture_load(f->engine, "sdxl_refiner");
	assert_string_equal(sde_model_info(model)->family, "sdxl-refiner");
	job = job_of(f, SDE_IMG2IMG);
	job.steps = 1;
	run(model, &job, &absent);
	sde_result_clear(&absent);
	sde_model_unref(model);
}

static void raise_flag(void *userdata, const struct sde_progress *progress)
{
	if (progress->step == 1)
		atomic_store((atomic_int *)userdata, 1);
}

static void test_cancel_stops_behind_the_step(void **state)
{
	const struct fixture *f = *state;
	const struct sde_job job = job_of(f, SDE_INPAINT);
	struct sde_error error = {0};
	struct sde_result result;
	atomic_int cancel = 0;
	const struct sde_hooks hooks = {
		.progress = raise_flag, .userdata = &cancel, .cancel = &cancel};

	assert_int_equal(sde_job_run(f->model, &job, &hooks, &result, &error), -ECANCELED);
	assert_int_equal(error.code, -ECANCELED);
}

struct gallery {
	struct sde_image last;
	int count, steps[8];
};

static void keep_preview(void *userdata, int step, const struct sde_image *image)
{
	struct gallery *gallery = userdata;
	struct sde_error error;

	assert_true(gallery->count < 8);
	gallery->steps[gallery->count++] = step;
	sde_image_clear(&gallery->last);
	assert_int_equal(sde_image_copy(image, &gallery->last, &error), 0);
}

static void preview(struct sde_model *model, const struct sde_job *job, struct gallery *gallery,
		    struct sde_result *ret_result)
{
	const struct sde_hooks hooks = {.preview = keep_preview, .userdata = gallery};
	struct sde_error error = {0};

	*gallery = (struct gallery){0};
	if (sde_job_run(model, job, &hooks, ret_result, &error) < 0)
		fail_msg("%s", error.message);
}

/* A model folder of links to the parts of sd15, and to another decoder if given. */
static struct sde_model *load_linked(const struct fixture *f, const char *taesd, const char *json,
				     struct sde_error *ret_error)
{
	static const char *const parts[] = {"model_index.json", "unet", "text_encoder",
					    "tokenizer",	"vae",	"scheduler"};
	char folder[] = "/tmp/sdd-preview-XXXXXX", from[4096], to[96], command[64];
	struct sde_model *model = NULL;
	FILE *file;

	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(from, sizeof(from), "%s/models/sd15/%s", getenv("SDD_GOLDEN_DATA"),
			 parts[i]);
		snprintf(to, sizeof(to), "%s/%s", folder, parts[i]);
		assert_int_equal(symlink(from, to), 0);
	}
	if (taesd) {
		snprintf(from, sizeof(from), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), taesd);
		snprintf(to, sizeof(to), "%s/taesd", folder);
		assert_int_equal(symlink(from, to), 0);
	}
	if (json) {
		snprintf(to, sizeof(to), "%s/sdd.json", folder);
		file = fopen(to, "w");
		assert_non_null(file);
		fputs(json, file);
		fclose(file);
	}
	if (sde_model_load(f->engine, folder, &model, ret_error) < 0)
		model = NULL;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	return model;
}

/* Euler ends at the clean sample, so its last preview is the picture itself where the decoder is the model's own. */
static void test_previews_show_what_will_be(void **state)
{
	const struct fixture *f = *state;
	struct sde_model *model = fixture_load(f->engine, "sd15_taesd");
	struct sde_job job = job_of(f, SDE_TXT2IMG);
	struct sde_result result, plain;
	struct gallery gallery;

	job.sampler = "Euler";
	job.steps = 5;
	job.preview_every = 2;
	preview(model, &job, &gallery, &result);
	assert_int_equal(gallery.count, 2);
	assert_int_equal(gallery.steps[0], 2);
	assert_int_equal(gallery.steps[1], 4);
	sde_result_clear(&result);
	job.preview_every = 5;
	sde_image_clear(&gallery.last);
	preview(model, &job, &gallery, &result);
	assert_int_equal(gallery.count, 1);
	assert_int_equal(gallery.last.channels, 3);
	assert_int_equal(gallery.last.width, result.layers[0].image.width);
	for (uint32_t y = 0; y < gallery.last.height; y++)
		for (uint32_t x = 0; x < gallery.last.width * 3; x++) {
			const uint8_t *sketch = sde_image_row(&gallery.last, y);
			const uint8_t *picture = sde_image_row(&result.layers[0].image, y);

			assert_in_range(sketch[x] - picture[x / 3 * 4 + x % 3] + 1, 0, 2);
		}
	run(model, &job, &plain);
	assert_memory_equal(plain.layers[0].image.data, result.layers[0].image.data,
			    bytes_of(&plain.layers[0].image));
	sde_result_clear(&plain);
	sde_result_clear(&result);
	sde_image_clear(&gallery.last);
	sde_model_unref(model);
}

static void test_previews_use_what_the_folder_has(void **state)
{
	const struct fixture *f = *state;
	const char *json = "{\"latent_rgb\": [[0,0,0],[0,0,0],[0,0,0],[0,0,0],[-1,0,1]]}";
	struct sde_job job = job_of(f, SDE_INPAINT);
	struct sde_error error = {0};
	struct sde_result result;
	struct gallery gallery;
	struct sde_model *model;
	const uint8_t *pixel;

	job.preview_every = 1;
	preview(f->model, &job, &gallery, &result);
	assert_int_equal(gallery.count, 0); /* nothing is invented for a model without a decoder */
	assert_false(sde_model_info(f->model)->previews);
	sde_result_clear(&result);
	model = load_linked(f, "taesd/vae", NULL, &error);
	assert_non_null(model);
	assert_true(sde_model_info(model)->previews);
	preview(model, &job, &gallery, &result);
	assert_int_equal(gallery.count, 2);
	assert_int_equal(gallery.last.width, result.work_width);
	sde_image_clear(&gallery.last);
	sde_result_clear(&result);
	sde_model_unref(model);
	model = load_linked(f, NULL, json, &error);
	assert_non_null(model);
	preview(model, &job, &gallery, &result);
	assert_int_equal(gallery.count, 2);
	assert_int_equal(gallery.last.width, result.work_width / 8);
	pixel = sde_image_row(&gallery.last, 0);
	assert_int_equal(pixel[0], 0);
	assert_int_equal(pixel[1], 128);
	assert_int_equal(pixel[2], 255);
	sde_image_clear(&gallery.last);
	sde_result_clear(&result);
	sde_model_unref(model);
	assert_null(load_linked(f, NULL, "{\"latent_rgb\": [[0,0,0]]}", &error));
	assert_non_null(strstr(error.message, "latent_rgb"));
	assert_null(load_linked(f, "sd15/vae", NULL, &error));
	assert_non_null(strstr(error.message, "AutoencoderTiny"));
}

/* The part of the canvas that a job says it needs, and nothing else, gives the same layer as the whole canvas. */
static void test_a_part_of_the_canvas_is_enough(void **state)
{
	const struct fixture *f = *state;
	struct sde_error error = {0};
	struct sde_image canvas;
	char path[4096];

	snprintf(path, sizeof(path), "%s/models/sd15", getenv("SDD_GOLDEN_DATA"));
	assert_int_equal(sde_image_new(300, 260, 4, SDE_PIXEL_U8, &canvas, &error), 0);
	for (uint32_t y = 0; y < 260; y++)
		for (uint32_t x = 0; x < 300 * 4; x++)
			((uint8_t *)sde_image_row(&canvas, y))[x] = (uint8_t)(x * 5 ^ y * 3);
	for (int kind = SDE_INPAINT; kind <= SDE_OUTPAINT; kind++) {
		struct sde_job job = job_of(f, (enum sde_job_kind)kind);
		struct sde_result whole, part;
		struct sde_job_area area;
		struct sde_image crop;

		job.select_x = 200;
		job.select_y = 180;
		job.has_canvas = true;
		job.canvas_width = 300;
		job.canvas_height = 260;
		if (sde_job_area(path, &job, &area, &error) < 0)
			fail_msg("%s", error.message);
		assert_true(area.needed.x > 100);
		assert_int_equal(sde_image_subview(&canvas, area.needed, &crop, &error), 0);
		job.image = &canvas;
		job.has_canvas = false;
		run(f->model, &job, &whole);
		job.image = &crop;
		job.has_canvas = true;
		job.canvas_x = area.needed.x;
		job.canvas_y = area.needed.y;
		run(f->model, &job, &part);
		assert_int_equal(part.layers[0].x, area.result.x);
		assert_int_equal(part.layers[0].y, area.result.y);
		assert_int_equal(part.layers[0].image.width, area.result.width);
		assert_int_equal(part.work_width, area.work_width);
		assert_int_equal(part.layers[0].x, whole.layers[0].x);
		assert_int_equal(part.layers[0].y, whole.layers[0].y);
		assert_int_equal(part.layers[0].image.width, whole.layers[0].image.width);
		assert_int_equal(part.layers[0].image.height, whole.layers[0].image.height);
		assert_memory_equal(part.layers[0].image.data, whole.layers[0].image.data,
				    bytes_of(&whole.layers[0].image));
		sde_result_clear(&whole);
		sde_result_clear(&part);
		job.canvas_x--;
		assert_int_equal(sde_job_run(f->model, &job, NULL, &part, &error), -EINVAL);
		assert_non_null(strstr(error.message, "job.plan"));
	}
	sde_image_clear(&canvas);
}

static void refused(const struct fixture *f, const struct sde_job *job, const char *word)
{
	struct sde_error error = {0};
	struct sde_result result;

	assert_true(sde_job_run(f->model, job, NULL, &result, &error) < 0);
	if (!strstr(error.message, word))
		fail_msg("'%s' does not name %s", error.message, word);
}

static void test_errors_name_the_field(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_TXT2IMG);

	job.steps = 1001;
	refused(f, &job, "steps");
	job = job_of(f, SDE_TXT2IMG);
	job.preview_every = -1;
	refused(f, &job, "preview_every");
	job = job_of(f, SDE_TXT2IMG);
	job.width = 63;
	refused(f, &job, "width");
	job = job_of(f, SDE_INPAINT);
	job.strength = __builtin_nan("");
	refused(f, &job, "strength");
	job = job_of(f, SDE_INPAINT);
	job.has_select = false;
	refused(f, &job, "selected");
	job = job_of(f, SDE_IMG2IMG);
	job.image = NULL;
	refused(f, &job, "image");
	job = job_of(f, SDE_TXT2IMG);
	job.sampler = "no such sampler";
	refused(f, &job, "no such sampler");
}

/* count times text. */
static char *repeated(const char *text, int count)
{
	char *all = calloc((size_t)count, strlen(text) + 1);

	assert_non_null(all);
	for (int i = 0; i < count; i++)
		memcpy(all + (size_t)i * strlen(text), text, strlen(text));
	return all;
}

/* Memory for prompts is bounded: by their chunks, and by all that they become over the steps. */
static void test_prompts_are_bounded(void **state)
{
	const struct fixture *f = *state;
	struct sde_region regions[SDE_REGIONS_MAX];
	struct sde_job job = job_of(f, SDE_TXT2IMG);
	struct sde_error error = {0};
	struct sde_result result;
	char *prompt = repeated("a BREAK ", 64);

	job.steps = 2;
	job.prompt = prompt;
	if (sde_job_run(f->model, &job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(result.chunks, 64);
	sde_result_clear(&result);
	for (int i = 0; i < SDE_REGIONS_MAX; i++)
		regions[i] = (struct sde_region){
			.prompt = "[a|b]", .width = 8, .height = 8, .weight = 1};
	job.steps = 3; /* alternation begins behind the second */
	job.regions = regions;
	job.n_regions = SDE_REGIONS_MAX;
	refused(f, &job, "10 prompts in 2 forms over the steps have 98560 tokens");
	free(prompt);
	prompt = repeated("a BREAK ", 2048);
	job = job_of(f, SDE_TXT2IMG);
	job.prompt = prompt;
	refused(f, &job, "2048 chunks of 75 tokens, at most 64");
	free(prompt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_picture_i_has_seed_plus_i),
		cmocka_unit_test(test_loading_shows_headway),
		cmocka_unit_test(test_every_kind_on_both_unets),
		cmocka_unit_test(test_selection_is_opaque_and_strength_0_changes_nothing),
		cmocka_unit_test(test_transition_suits_the_model),
		cmocka_unit_test(test_sdxl),
		cmocka_unit_test(test_cancel_stops_behind_the_step),
		cmocka_unit_test(test_previews_show_what_will_be),
		cmocka_unit_test(test_previews_use_what_the_folder_has),
		cmocka_unit_test(test_a_part_of_the_canvas_is_enough),
		cmocka_unit_test(test_errors_name_the_field),
		cmocka_unit_test(test_prompts_are_bounded),
	};

	return cmocka_run_group_tests(tests, setup, fixture_free);
}
