/*
 * A job that goes on in another process behind any of its steps ends with the same bytes: every kind, several pictures, several
 * strips, samplers with history and with noise of their own, every family, adapters of every sort. Bytes that are no state of it are
 * refused.
 */
#include <errno.h>
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

#include "tests/unit/engine-fixture.h"

enum { STATES_MAX = 64 };

struct states {
	int count;
	struct {
		void *data;
		size_t size;
	} states[STATES_MAX];
	atomic_int yield;
	int yield_at;
};

static int setup(void **state)
{
	*state = fixture_new("cpu", true, 61, 47);
	return 0;
}

static struct sde_job job_of(const struct fixture *f, enum sde_job_kind kind, const char *sampler)
{
	return (struct sde_job){
		.kind = kind,
		.prompt = "a cat",
		.sampler = sampler,
		.seed = 7,
		.steps = 3,
		.guidance_scale = 5,
		.strength = kind == SDE_IMG2IMG ? 0.7 : 1,
		.count = 2,
		.width = 32,
		.height = 32,
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
		.top = 16,
	};
}

static void keep(void *userdata, const void *data, size_t size)
{
	struct states *states = userdata;

	assert_true(states->count < STATES_MAX);
	states->states[states->count].data = malloc(size);
	states->states[states->count].size = size;
	memcpy(states->states[states->count].data, data, size);
	if (++states->count == states->yield_at)
		atomic_store(&states->yield, 1);
}

static void clear(struct states *states)
{
	for (int i = 0; i < states->count; i++)
		free(states->states[i].data);
	*states = (struct states){0};
}

static int run(struct sde_model *model, const struct sde_job *job, struct states *states,
	       struct sde_result *ret_result)
{
	const struct sde_hooks hooks = {
		.checkpoint = keep, .yield = &states->yield, .userdata = states};
	struct sde_error error = {0};
	int r = sde_job_run(model, job, &hooks, ret_result, &error);

	if (r < 0 && r != -EINTR)
		fail_msg("%s", error.message);
	return r;
}

static void assert_equal(const struct sde_result *a, const struct sde_result *b)
{
	assert_int_equal(a->count, b->count);
	for (int i = 0; i < a->count; i++) {
		const struct sde_image *left = &a->layers[i].image, *right = &b->layers[i].image;

		assert_int_equal(left->width, right->width);
		assert_memory_equal(left->data, right->data, left->stride * left->height);
	}
}

/* Go on behind each step; what is left to do shrinks by one each time. */
static void from_every_step(struct sde_model *model, struct sde_job job)
{
	struct states states = {0}, again = {0};
	struct sde_result whole, rest;

	assert_int_equal(run(model, &job, &states, &whole), 0);
	assert_int_equal(states.count, whole.steps_run);
	for (int i = 0; i < states.count; i++) {
		job.resume = states.states[i].data;
		job.resume_size = states.states[i].size;
		assert_int_equal(run(model, &job, &again, &rest), 0);
		assert_int_equal(again.count, states.count - 1 - i);
		assert_equal(&rest, &whole);
		/* what it keeps is what the first run kept */
		for (int k = 0; k < again.count; k++) {
			assert_int_equal(again.states[k].size, states.states[i + 1 + k].size);
			assert_memory_equal(again.states[k].data, states.states[i + 1 + k].data,
					    again.states[k].size);
		}
		sde_result_clear(&rest);
		clear(&again);
	}
	sde_result_clear(&whole);
	clear(&states);
}

static void test_every_kind(void **state)
{
	const struct fixture *f = *state;

	for (int kind = SDE_TXT2IMG; kind <= SDE_UPSCALE; kind++)
		from_every_step(f->model, job_of(f, (enum sde_job_kind)kind, "Euler a"));
	from_every_step(f->inpaint, job_of(f, SDE_INPAINT, "DPM++ 2M Karras"));
}

static void test_samplers(void **state)
{
	static const char *const samplers[] = {"DDIM",	"PNDM",	    "LMS",	 "Heun",
					       "UniPC", "DPM++ 2M", "DPM++ SDE", "DDPM"};
	const struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(samplers) / sizeof(samplers[0]); i++)
		from_every_step(f->model, job_of(f, SDE_TXT2IMG, samplers[i]));
}

static void test_families(void **state)
{
	static const struct {
		const char *model, *sampler;
		enum sde_job_kind kind;
	} cases[] = {{"sdxl", "DPM++ 2M", SDE_IMG2IMG},	 {"sdxl_refiner", "Euler", SDE_IMG2IMG},
		     {"sd3", "Euler", SDE_TXT2IMG},	 {"sd3", "DPM++ 2M", SDE_INPAINT},
		     {"sd35", "Heun", SDE_TXT2IMG},	 {"flux_schnell", "Euler", SDE_TXT2IMG},
		     {"flux_fill", "UniPC", SDE_INPAINT}};
	const struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_model *model = fixture_load(f->engine, cases[i].model);
		struct sde_job job = job_of(f, cases[i].kind, cases[i].sampler);

		job.width = job.height = 64;
		job.count = 1;
		from_every_step(model, job);
		sde_model_unref(model);
	}
}

/* A folder as jobs look for adapters in, of links to the golden data. */
static void make_root(char *root)
{
	static const char *const entries[][2] = {
		{"loras/linear.safetensors", "lora/kohya_linear.safetensors"},
		{"loras/hadamard.safetensors", "lora/lyco_loha.safetensors"},
		{"embeddings/word.safetensors", "embeddings/a1111_multi.safetensors"},
		{"controlnets/canny", "controlnet_sd15_a"},
		{"controlnets/sketch", "t2i_adapter_sd15"},
		{"controlnets/picture.safetensors", "ip_adapter_sd15/ip-adapter_sd15.safetensors"},
		{"controlnets/image_encoder", "ip_adapter_sd15/image_encoder"},
	};
	static const char *const folders[] = {"loras", "embeddings", "controlnets"};
	char path[4096], target[4096];

	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, entries[i][0]);
		snprintf(target, sizeof(target), "%s/cases/adapters/%s", getenv("SDD_GOLDEN_DATA"),
			 entries[i][1]);
		assert_int_equal(symlink(target, path), 0);
	}
}

static void test_adapters(void **state)
{
	const struct fixture *f = *state;
	const struct sde_lora loras[] = {{"linear", 0.7}, {"hadamard", 0.5}};
	const struct sde_control controls[] = {{"canny", &f->canvas, 1, 0, 0.6},
					       {"sketch", &f->canvas, 0.8, 0.3, 1},
					       {"picture", &f->canvas, 0.5, 0, 1}};
	char root[] = "/tmp/sdd-test-resume-XXXXXX", command[64];
	const char *const roots[] = {root};
	struct sde_job job = job_of(f, SDE_TXT2IMG, "Euler a");
	struct sde_error error = {0};
	struct sde_model *model;
	char path[4096];

	make_root(root);
	snprintf(path, sizeof(path), "%s/cases/adapters/base_sd15", getenv("SDD_GOLDEN_DATA"));
	if (sde_model_load(f->engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	job.count = 1;
	job.adapter_roots = roots;
	job.n_adapter_roots = 1;
	job.loras = loras;
	job.n_loras = 2;
	job.prompt = "a word cat <lora:linear:0.2>";
	from_every_step(model, job);
	job.n_loras = 1;
	job.controls = controls;
	job.n_controls = 3;
	job.kind = SDE_IMG2IMG;
	job.image = &f->canvas;
	from_every_step(model, job);
	sde_model_unref(model);
	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

/* It stops behind the step it is told in, its state in our hands. */
static void test_yield(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_INPAINT, "Euler a");
	struct states states = {.yield_at = 4}, rest = {0};
	struct sde_result whole, result;

	assert_int_equal(run(f->model, &job, &states, &result), -EINTR);
	assert_int_equal(states.count, 4);
	job.resume = states.states[3].data;
	job.resume_size = states.states[3].size;
	assert_int_equal(run(f->model, &job, &rest, &result), 0);
	assert_int_equal(rest.count, 2);
	clear(&rest);
	job.resume = NULL;
	assert_int_equal(run(f->model, &job, &rest, &whole), 0);
	assert_equal(&result, &whole);
	sde_result_clear(&whole);
	sde_result_clear(&result);
	clear(&rest);
	clear(&states);
}

/* Cut or spoilt, they are no state: the job starts over. */
static void test_useless_bytes(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(f, SDE_TXT2IMG, "Euler a");
	struct states states = {0}, again = {0};
	struct sde_result whole, result;

	assert_int_equal(run(f->model, &job, &states, &whole), 0);
	job.resume = states.states[4].data;
	for (size_t size = 0; size < states.states[4].size; size += 997) {
		job.resume_size = size;
		assert_int_equal(run(f->model, &job, &again, &result), 0);
		assert_int_equal(again.count, states.count);
		assert_equal(&result, &whole);
		sde_result_clear(&result);
		clear(&again);
	}
	((uint8_t *)states.states[4].data)[0] ^= 1;
	job.resume_size = states.states[4].size;
	assert_int_equal(run(f->model, &job, &again, &result), 0);
	assert_int_equal(again.count, states.count);
	sde_result_clear(&result);
	sde_result_clear(&whole);
	clear(&again);
	clear(&states);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind), cmocka_unit_test(test_samplers),
		cmocka_unit_test(test_families),   cmocka_unit_test(test_adapters),
		cmocka_unit_test(test_yield),	   cmocka_unit_test(test_useless_bytes),
	};

	return cmocka_run_group_tests(tests, setup, fixture_free);
}
