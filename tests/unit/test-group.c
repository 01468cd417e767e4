/*
 * Jobs that step together end with the bytes of jobs alone: other prompts, seeds, guidance, samplers, numbers of steps and kinds, also
 * when one joins late, is cancelled, makes room and goes on elsewhere, or shows previews. Jobs with adapters go alone.
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

#include "daemon/engine/group.h"
#include "tests/unit/engine-fixture.h"

enum { JOBS = SDE_GROUP_MAX };

struct watch {
	int steps, previews, tried;
	double speedup;
	int cancel_at, yield_at;
	atomic_int cancel, yield;
	void *state; /* the last checkpoint */
	size_t state_size;
};

struct end {
	int r;
	struct sde_result result;
	struct sde_error error;
	bool ended;
};

static const struct sde_engine_options engine_options = {
	.backend = "cpu", .dtype = "f32", .threads = 1, .cache_bytes = 1 << 20};

static int setup(void **state)
{
	*state = fixture_begin(&engine_options, 64, 64);
	return 0;
}

/* The i-th of four that have nothing in common but the size. */
static struct sde_job job_of(const struct fixture *f, int i)
{
	static const char *const prompts[] = {"a cat", "a (red:1.3) boat, at sea", "", "houses"};
	static const char *const samplers[] = {"Euler a", "DPM++ 2M", "Heun", "DDIM"};
	static const int steps[] = {6, 4, 3, 8};
	static const double guidance[] = {5, 7.5, 1, 3};

	return (struct sde_job){
		.kind = i == 3 ? SDE_IMG2IMG : SDE_TXT2IMG,
		.prompt = prompts[i],
		.negative_prompt = i == 1 ? "grey" : NULL,
		.sampler = samplers[i],
		.seed = 7 + (uint64_t)i,
		.steps = steps[i],
		.guidance_scale = guidance[i],
		.strength = 0.8,
		.count = i == 2 ? 2 : 1,
		.width = i == 3 ? 0 : 64,
		.height = i == 3 ? 0 : 64,
		.image = i == 3 ? &f->canvas : NULL,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.partition = (uint64_t)i,
	};
}

static void on_progress(void *userdata, const struct sde_progress *progress)
{
	struct watch *watch = userdata;

	watch->steps = progress->step;
	if (watch->cancel_at > 0 && progress->step == watch->cancel_at)
		atomic_store(&watch->cancel, 1);
	if (watch->yield_at > 0 && progress->step == watch->yield_at)
		atomic_store(&watch->yield, 1);
}

static void on_preview(void *userdata, int step, const struct sde_image *image)
{
	((struct watch *)userdata)->previews++;
}

static void on_checkpoint(void *userdata, const void *data, size_t size)
{
	struct watch *watch = userdata;

	free(watch->state);
	watch->state = malloc(size);
	assert_non_null(watch->state);
	memcpy(watch->state, data, size);
	watch->state_size = size;
}

static void on_batched(void *userdata, int jobs, double speedup)
{
	struct watch *watch = userdata;

	watch->tried = jobs;
	watch->speedup = speedup;
}

static struct sde_hooks hooks_of(struct watch *watch)
{
	return (struct sde_hooks){.progress = on_progress,
				  .preview = on_preview,
				  .checkpoint = on_checkpoint,
				  .batched = on_batched,
				  .userdata = watch,
				  .yield = &watch->yield,
				  .cancel = &watch->cancel};
}

/* watch, if given, keeps the state behind the last step: latents as floats, which show what a picture's bytes round away. */
static struct sde_result alone(struct sde_model *model, const struct sde_job *job,
			       struct watch *watch)
{
	const struct sde_hooks hooks = {.checkpoint = on_checkpoint, .userdata = watch};
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, job, watch ? &hooks : NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

/* All jobs to their ends; the i-th joins after late[i] turns. */
static void run_group(struct sde_group *group, const struct sde_job *jobs, struct watch *watches,
		      size_t n, const int *late, struct end *ends)
{
	struct sde_hooks hooks[JOBS];
	const struct sde_job *job;
	size_t begun = 0, left = n;
	struct end end;

	for (int turn = 0; left > 0; turn++) {
		for (size_t i = 0; i < n; i++)
			if (late[i] == turn) {
				hooks[i] = hooks_of(&watches[i]);
				assert_true(sde_group_takes(group, &jobs[i]));
				assert_int_equal(sde_group_add(group, &jobs[i], &hooks[i]), 0);
				begun++;
			}
		sde_group_turn(group);
		while (sde_group_take_ended(group, &job, &end.r, &end.result, &end.error)) {
			end.ended = true;
			assert_false(ends[job - jobs].ended);
			ends[job - jobs] = end;
			left--;
		}
	}
	assert_int_equal(begun, n);
}

static void assert_equal(struct end *end, struct sde_result *right)
{
	assert_int_equal(end->r, 0);
	assert_int_equal(end->result.count, right->count);
	for (int i = 0; i < right->count; i++) {
		const struct sde_image *a = &end->result.layers[i].image,
				       *b = &right->layers[i].image;

		assert_int_equal(a->width, b->width);
		assert_memory_equal(a->data, b->data, a->stride * a->height);
	}
	assert_int_equal(end->result.steps_run, right->steps_run);
	sde_result_clear(&end->result);
}

static void clear(struct watch *watches)
{
	for (int i = 0; i < JOBS; i++)
		free(watches[i].state);
}

/* Taken in each way: as one batch, one after the other. What a library computes differently in a batch is never taken as one. */
static void same_bytes(const struct fixture *f, struct sde_engine *engine, const char *name,
		       bool flow)
{
	static const int late[] = {0, 0, 1, 3};
	struct sde_model *model = fixture_load(engine, name);
	struct sde_job jobs[JOBS];
	struct watch right_watches[JOBS] = {0};
	struct sde_result right[JOBS];
	struct sde_group *group;

	for (int i = 0; i < JOBS; i++) {
		jobs[i] = job_of(f, i);
		if (flow)
			jobs[i].sampler = "Euler";
		right[i] = alone(model, &jobs[i], &right_watches[i]);
	}
	for (int together = 0; together < 2; together++) {
		struct watch watches[JOBS] = {0};
		struct end ends[JOBS] = {0};

		assert_int_equal(sde_group_new(model, &group), 0);
		sde_group_set_worth(group, together ? 1e9 : 0);
		run_group(group, jobs, watches, JOBS, late, ends);
		for (int i = 0; i < JOBS; i++) {
			assert_equal(&ends[i], &right[i]);
			assert_int_equal(watches[i].state_size, right_watches[i].state_size);
			assert_memory_equal(watches[i].state, right_watches[i].state,
					    watches[i].state_size);
		}
		assert_in_range(watches[0].tried, 2, JOBS);
		assert_int_equal(sde_group_calls_together(group) > 0,
				 together && watches[0].speedup > 0);
		if (engine != f->engine)
			assert_true(watches[0].speedup > 0);
		sde_group_free(group);
		clear(watches);
	}
	for (int i = 0; i < JOBS; i++)
		sde_result_clear(&right[i]);
	clear(right_watches);
	sde_model_unref(model);
}

static void test_same_bytes(void **state)
{
	struct sde_engine_options options = engine_options;
	const struct fixture *f = *state;
	struct sde_error error = {0};
	struct sde_engine *ref;

	options.backend = "ref";
	assert_int_equal(sde_engine_new(&options, &ref, &error), 0);
	same_bytes(f, f->engine, "sd15", false);
	same_bytes(f, f->engine, "sdxl", false);
	same_bytes(f, f->engine, "sd3", true);
	same_bytes(f, f->engine, "flux_schnell", true);
	/* row by row, so that a batch is always the same */
	same_bytes(f, ref, "sd15", false);
	sde_engine_free(ref);
}

/* One is cancelled, one makes room and goes on alone, one shows previews; the others notice nothing. */
static void test_each_its_own_end(void **state)
{
	static const int late[] = {0, 0, 0, 0};
	const struct fixture *f = *state;
	struct sde_model *model = fixture_load(f->engine, "sd15_taesd");
	struct watch watches[JOBS] = {0};
	struct end ends[JOBS] = {0}, rest = {0};
	struct watch right_watches[JOBS] = {0};
	struct sde_result right[JOBS];
	struct sde_job jobs[JOBS];
	struct sde_group *group;

	for (int i = 0; i < JOBS; i++) {
		jobs[i] = job_of(f, i);
		right[i] = alone(model, &jobs[i], &right_watches[i]);
	}
	watches[0].cancel_at = 4;
	watches[1].yield_at = 2;
	jobs[3].preview_every = 2;
	assert_int_equal(sde_group_new(model, &group), 0);
	sde_group_set_worth(group, 1e9);
	run_group(group, jobs, watches, JOBS, late, ends);
	sde_group_free(group);
	assert_int_equal(ends[0].r, -ECANCELED);
	assert_int_equal(watches[0].steps, 4);
	assert_int_equal(ends[1].r, -EINTR);
	assert_equal(&ends[2], &right[2]);
	assert_equal(&ends[3], &right[3]);
	assert_int_equal(watches[0].previews, 0);
	assert_int_equal(watches[3].previews, 3); /* of 6 steps */
	jobs[1].resume = watches[1].state;
	jobs[1].resume_size = watches[1].state_size;
	rest.result = alone(model, &jobs[1], NULL);
	assert_true(rest.result.steps_run < right[1].steps_run);
	right[1].steps_run = rest.result.steps_run;
	assert_equal(&rest, &right[1]);
	for (int i = 0; i < JOBS; i++)
		sde_result_clear(&right[i]);
	clear(watches);
	clear(right_watches);
	sde_model_unref(model);
}

/* How the autoencoder works is each job's own, also of one that began before another. */
static void test_tiles_are_each_jobs_own(void **state)
{
	static const int late[] = {0, 0};
	const struct fixture *f = *state;
	struct sde_model *model = fixture_load(f->engine, "sd15");
	struct sde_job jobs[2];
	struct sde_result right[2];
	struct watch watches[2] = {0};
	struct end ends[2] = {0};
	struct sde_group *group;

	for (int i = 0; i < 2; i++) {
		jobs[i] = job_of(f, 0);
		jobs[i].width = 576; /* more than a tile */
		jobs[i].steps = 2;
		jobs[i].vae_tiling = i == 0;
		right[i] = alone(model, &jobs[i], NULL);
	}
	assert_memory_not_equal(right[0].layers[0].image.data, right[1].layers[0].image.data,
				right[0].layers[0].image.stride * 64);
	assert_int_equal(sde_group_new(model, &group), 0);
	run_group(group, jobs, watches, 2, late, ends);
	for (int i = 0; i < 2; i++) {
		assert_equal(&ends[i], &right[i]);
		sde_result_clear(&right[i]);
		free(watches[i].state);
	}
	sde_group_free(group);
	sde_model_unref(model);
}

static void test_who_goes_alone(void **state)
{
	const struct fixture *f = *state;
	struct sde_model *model = fixture_load(f->engine, "sd15");
	struct sde_job plain = job_of(f, 0), tagged = job_of(f, 0);
	const struct sde_job *ended;
	struct sde_result result;
	struct sde_error error;
	struct sde_group *group;
	int r;

	tagged.prompt = "a cat <lora:nothing:1>";
	assert_int_equal(sde_group_new(model, &group), 0);
	for (int i = 0; i < SDE_GROUP_MAX; i++) {
		assert_int_equal(sde_group_add(group, &plain, NULL), 0);
		assert_false(sde_group_takes(group, &tagged));
	}
	assert_false(sde_group_takes(group, &plain));
	assert_int_equal(sde_group_add(group, &plain, NULL), -EBUSY);
	for (int left = SDE_GROUP_MAX; left > 0;) {
		sde_group_turn(group);
		while (sde_group_take_ended(group, &ended, &r, &result, &error)) {
			assert_int_equal(r, 0);
			sde_result_clear(&result);
			left--;
		}
	}
	assert_int_equal(sde_group_add(group, &tagged, NULL), 0);
	assert_false(sde_group_takes(group, &plain));
	sde_group_turn(group);
	assert_true(sde_group_take_ended(group, &ended, &r, &result, &error));
	assert_int_equal(r, -ENOENT); /* there is no such LoRA */
	assert_ptr_equal(ended, &tagged);
	sde_group_free(group);
	sde_model_unref(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_each_its_own_end),
		cmocka_unit_test(test_tiles_are_each_jobs_own),
		cmocka_unit_test(test_who_goes_alone),
	};

	return cmocka_run_group_tests(tests, setup, fixture_free);
}
