/*
 * A job that goes on in another process behind any of its steps ends with the same bytes: every kind, several pictures, several
 * strips, samplers with history and with noise of their own. Bytes that are no state of it are refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/engine.h"

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

struct fixture {
	struct sde_engine *engine;
	struct sde_model *model, *inpaint;
	struct sde_image canvas;
};

static struct sde_model *load(struct sde_engine *engine, const char *name)
{
	struct sde_error error = {0};
	struct sde_model *model;
	char path[4096];

	snprintf(path, sizeof(path), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), name);
	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

static int setup(void **state)
{
	const struct sde_engine_options options = {.backend = "cpu", .dtype = "f32", .threads = 1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct sde_error error = {0};

	assert_non_null(f);
	assert_int_equal(sde_engine_new(&options, &f->engine, &error), 0);
	f->model = load(f->engine, "sd15");
	f->inpaint = load(f->engine, "sd15_inpaint");
	assert_int_equal(sde_image_new(61, 47, 3, SDE_PIXEL_U8, &f->canvas, &error), 0);
	for (uint32_t y = 0; y < 47; y++)
		for (uint32_t x = 0; x < 61 * 3; x++)
			((uint8_t *)sde_image_row(&f->canvas, y))[x] = (uint8_t)(x * 5 + y * 3);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sde_image_clear(&f->canvas);
	sde_model_unref(f->model);
	sde_model_unref(f->inpaint);
	sde_engine_free(f->engine);
	free(f);
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

	for (int kind = SDE_TXT2IMG; kind <= SDE_OUTPAINT; kind++)
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
		cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_samplers),
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_useless_bytes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
