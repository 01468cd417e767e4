/*
 * What a model's memory may not change: pictures of a staged job are those of an unstaged one, weights that rest as they are stored
 * give the bytes of packed ones, and rounded forms stay within what rounding costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/model.h"
#include "tests/unit/engine-fixture.h"

static const char *model_path(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), name);
	return path;
}

static struct sde_model *load(struct fixture *f, const char *name, enum sde_weights_form form)
{
	struct sde_error error = {0};
	struct sde_model *model;

	if (sde_model_load_as(f->engine, model_path(name), form, &model, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sde_model_info(model)->weights, form);
	return model;
}

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};

	*state = fixture_begin(&options, 61, 47);
	return 0;
}

static void run(struct fixture *f, struct sde_model *model, enum sde_job_kind kind, bool staged,
		struct sde_result *ret_result)
{
	const struct sde_job job = {
		.kind = kind,
		.prompt = "a (cat:1.3) on a sofa",
		.seed = 7,
		.steps = 2,
		.guidance_scale = 5,
		.strength = 1,
		.count = 2,
		.image = kind == SDE_TXT2IMG ? NULL : &f->canvas,
		.has_select = true,
		.select_x = 20,
		.select_y = 15,
		.select_width = 11,
		.select_height = 9,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.right = 16,
		.staged = staged,
	};
	struct sde_error error = {0};

	if (sde_job_run(model, &job, NULL, ret_result, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(ret_result->staged, staged);
}

/* Largest difference of two pictures' samples. */
static int compare(const struct sde_result *a, const struct sde_result *b)
{
	int largest = 0;

	for (int i = 0; i < a->count; i++) {
		const struct sde_image *x = &a->layers[i].image, *y = &b->layers[i].image;

		assert_int_equal(x->width, y->width);
		assert_int_equal(x->height, y->height);
		for (size_t k = 0; k < x->stride * x->height; k++) {
			const int d =
				abs(((const uint8_t *)x->data)[k] - ((const uint8_t *)y->data)[k]);

			largest = d > largest ? d : largest;
		}
	}
	return largest;
}

static void test_staged_is_the_same(void **state)
{
	static const char *const names[] = {"sd15", "sd15_inpaint", "sdxl"};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct sde_model *model = load(f, names[i], SDE_WEIGHTS_AUTO);

		for (int kind = SDE_TXT2IMG; kind <= SDE_OUTPAINT; kind++) {
			struct sde_result whole, staged;

			run(f, model, (enum sde_job_kind)kind, false, &whole);
			run(f, model, (enum sde_job_kind)kind, true, &staged);
			assert_int_equal(compare(&whole, &staged), 0);
			sde_result_clear(&whole);
			sde_result_clear(&staged);
		}
		sde_model_unref(model);
	}
}

/* In samples of 255 after two steps of a network of noise, which forgives less than a trained one. */
static void test_forms(void **state)
{
	static const int limits[] = {[SDE_WEIGHTS_STORED] = 0,
				     [SDE_WEIGHTS_F16] = 3,
				     [SDE_WEIGHTS_BF16] = 16,
				     [SDE_WEIGHTS_Q8_0] = 40};
	struct fixture *f = *state;
	struct sde_model *model = load(f, "sd15", SDE_WEIGHTS_AUTO);
	struct sde_result want, got;

	run(f, model, SDE_TXT2IMG, false, &want);
	for (int form = SDE_WEIGHTS_STORED; form <= SDE_WEIGHTS_Q8_0; form++) {
		struct sde_model *other = load(f, "sd15", (enum sde_weights_form)form);
		int difference;

		run(f, other, SDE_TXT2IMG, false, &got);
		difference = compare(&want, &got);
		if (difference > limits[form] || (form == SDE_WEIGHTS_Q8_0 && difference == 0))
			fail_msg("%s: pictures differ by %d of 255", sde_weights_form_names[form],
				 difference);
		sde_result_clear(&got);
		sde_model_unref(other);
	}
	sde_result_clear(&want);
	sde_model_unref(model);
}

/* A folder of links to the parts of a model, or copies of its files. */
static void make_model(const char *folder, const char *from, bool copies)
{
	char command[8192];

	snprintf(command, sizeof(command), "rm -rf %s && mkdir -p %s && cp -%s %s/* %s/", folder,
		 folder, copies ? "rL" : "rs", model_path(from), folder);
	assert_int_equal(system(command), 0);
}

static struct sde_model *load_from(struct fixture *f, const char *path)
{
	struct sde_error error = {0};
	struct sde_model *model;

	if (sde_model_load(f->engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

static const void *first_of(const struct sde_weights *weights)
{
	return sde_weights_at(weights, 0)->data;
}

/* The backend packs by the address of the data: what lies at one address is packed once. */
static void test_files_are_shared(void **state)
{
	struct fixture *f = *state;
	struct sde_model *model, *linked, *copied, *changed;
	struct sde_result want, got;
	char path[4096];
	FILE *file;
	int byte;

	make_model("shared-linked", "sd15", false);
	make_model("shared-copied", "sd15", true);
	model = load(f, "sd15", SDE_WEIGHTS_AUTO);
	linked = load_from(f, "shared-linked");
	copied = load_from(f, "shared-copied");
	assert_ptr_equal(first_of(model->vae_weights), first_of(linked->vae_weights));
	assert_ptr_equal(first_of(model->vae_weights), first_of(copied->vae_weights));
	assert_ptr_equal(first_of(model->towers[0].weights), first_of(copied->towers[0].weights));
	assert_ptr_equal(first_of(model->denoiser_weights), first_of(copied->denoiser_weights));
	run(f, model, SDE_TXT2IMG, false, &want);
	/* whoever was first may go */
	sde_model_unref(model);
	run(f, copied, SDE_TXT2IMG, false, &got);
	assert_int_equal(compare(&want, &got), 0);
	sde_result_clear(&got);
	sde_model_unref(linked);
	sde_model_unref(copied);

	/* one byte in the last tensor's data: a copy no more, and not what was open under its name */
	model = load(f, "sd15", SDE_WEIGHTS_AUTO);
	copied = load_from(f, "shared-copied");
	snprintf(path, sizeof(path), "shared-copied/vae/diffusion_pytorch_model.safetensors");
	file = fopen(path, "r+");
	assert_non_null(file);
	assert_int_equal(fseek(file, -2, SEEK_END), 0);
	byte = fgetc(file);
	assert_int_equal(fseek(file, -2, SEEK_END), 0);
	assert_int_not_equal(fputc(byte ^ 1, file), EOF);
	fclose(file);
	changed = load_from(f, "shared-copied");
	assert_ptr_not_equal(first_of(changed->vae_weights), first_of(model->vae_weights));
	assert_ptr_equal(first_of(changed->denoiser_weights), first_of(model->denoiser_weights));
	sde_model_unref(model);
	sde_model_unref(copied);
	sde_model_unref(changed);
	sde_result_clear(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_staged_is_the_same),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_files_are_shared),
	};

	return cmocka_run_group_tests(tests, setup, fixture_free);
}
