/*
 * The runner: a backend and a small cache of compiled plans, least recently used dropped first. Programs of the steps of
 * one job stay; a job of another size replaces the oldest.
 */
#include "daemon/engine/runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

#define PROGRAMS_MAX                                                                               \
	12 /* SD3: two of each CLIP, T5, transformer with and without a layer, autoencoder twice */

struct program {
	const void *module;
	uint64_t variant;
	enum sdk_wrap wrap;
	int n_inputs, n_outputs;
	struct sdk_shape shapes[SDE_PROGRAM_INPUTS_MAX];
	struct sdk_plan *plan; /* NULL: free slot */
	sdk_value inputs[SDE_PROGRAM_INPUTS_MAX];
	sdk_value outputs[SDE_PROGRAM_OUTPUTS_MAX];
	uint64_t used; /* runner->clock when last run */
};

struct sde_runner {
	struct sdk_backend *backend;
	struct sdk_backend *precise; /* NULL when backend itself does not round */
	struct program programs[PROGRAMS_MAX];
	uint64_t clock;
	enum sdk_wrap wrap;
	const atomic_int *cancel;
};

int sde_runner_new(const char *backend, const char *dtype, int threads,
		   struct sde_runner **ret_runner, struct sde_error *error)
{
	const struct sdk_backend_options options = {
		.name = backend, .dtype = dtype, .threads = threads};
	const struct sdk_backend_options precise = {
		.name = backend, .dtype = "f32", .threads = threads};
	struct sde_runner *runner = calloc(1, sizeof(*runner));
	char text[256] = "";
	int r;

	if (!runner)
		return sde_error_set(error, -ENOMEM, "no memory for an engine");
	r = sdk_backend_open(&options, &runner->backend, text, sizeof(text));
	if (r >= 0 && runner->backend->rounds)
		r = sdk_backend_open(&precise, &runner->precise, text, sizeof(text));
	if (r < 0) {
		sde_runner_free(runner);
		return sde_error_set(error, r, "%s", text[0] ? text : strerror(-r));
	}
	*ret_runner = runner;
	return 0;
}

static void program_clear(struct program *program)
{
	sdk_plan_free(program->plan);
	*program = (struct program){0};
}

struct sde_runner *sde_runner_free(struct sde_runner *runner)
{
	if (!runner)
		return NULL;
	for (size_t i = 0; i < PROGRAMS_MAX; i++)
		program_clear(&runner->programs[i]);
	sdk_backend_close(runner->precise);
	sdk_backend_close(runner->backend);
	free(runner);
	return NULL;
}

const char *sde_runner_describe(const struct sde_runner *runner)
{
	return runner->backend->description;
}

void sde_runner_set_pulse(struct sde_runner *runner, atomic_ulong *pulse)
{
	runner->backend->pulse = pulse;
	if (runner->precise)
		runner->precise->pulse = pulse;
}

atomic_ulong *sde_runner_pulse(const struct sde_runner *runner)
{
	return runner ? runner->backend->pulse : NULL;
}

void sde_runner_set_wrap(struct sde_runner *runner, enum sdk_wrap wrap)
{
	runner->wrap = wrap;
}

enum sdk_wrap sde_runner_wrap(const struct sde_runner *runner)
{
	return runner->wrap;
}

void sde_runner_set_cancel(struct sde_runner *runner, const atomic_int *cancel)
{
	runner->cancel = cancel;
}

int sde_runner_check_cancel(const struct sde_runner *runner, struct sde_error *error)
{
	if (runner->cancel && atomic_load(runner->cancel) != 0)
		return sde_error_set(error, -ECANCELED, "the job was cancelled");
	return 0;
}

void sde_runner_rest(struct sde_runner *runner)
{
	sdk_backend_trim(runner->backend);
	if (runner->precise)
		sdk_backend_trim(runner->precise);
}

void sde_runner_trim(struct sde_runner *runner)
{
	for (size_t i = 0; i < PROGRAMS_MAX; i++)
		program_clear(&runner->programs[i]);
	sde_runner_rest(runner);
}

void sde_runner_forget(struct sde_runner *runner, const void *module)
{
	for (size_t i = 0; runner && i < PROGRAMS_MAX; i++)
		if (runner->programs[i].plan && runner->programs[i].module == module)
			program_clear(&runner->programs[i]);
}

static bool program_matches(const struct program *program, const struct sde_program_spec *spec,
			    enum sdk_wrap wrap)
{
	return program->plan && program->module == spec->module && program->wrap == wrap &&
	       program->variant == spec->variant && program->n_inputs == spec->n_inputs &&
	       program->n_outputs == spec->n_outputs &&
	       memcmp(program->shapes, spec->inputs,
		      sizeof(spec->inputs[0]) * (size_t)spec->n_inputs) == 0;
}

static int program_record(struct program *program, const struct sde_program_spec *spec,
			  struct sde_error *error)
{
	int r;

	for (int i = 0; i < spec->n_inputs; i++) {
		const struct sdk_shape shape = spec->inputs[i];

		program->shapes[i] = shape;
		program->inputs[i] =
			i < spec->n_ids
				? sdk_input_ids(program->plan, shape.n, shape.w)
				: sdk_input(program->plan, shape.n, shape.h, shape.w, shape.c);
	}
	r = spec->build(program->plan, spec->userdata, program->inputs, program->outputs);
	if (r < 0)
		return sde_error_set(error, r, "%s: %s", spec->name, strerror(-r));
	for (int i = 0; i < spec->n_outputs; i++)
		program->outputs[i] = sdk_output(program->plan, program->outputs[i]);
	r = sdk_plan_compile(program->plan);
	if (r < 0) {
		const char *text = sdk_plan_error_text(program->plan);

		return sde_error_set(error, r, "%s: %s", spec->name,
				     text && text[0] ? text : strerror(-r));
	}
	program->module = spec->module;
	program->variant = spec->variant;
	program->n_inputs = spec->n_inputs;
	program->n_outputs = spec->n_outputs;
	return 0;
}

/* The cached program of a spec, recorded first if need be in place of the one not used for longest. */
static int program_get(struct sde_runner *runner, const struct sde_program_spec *spec,
		       struct program **ret_program, struct sde_error *error)
{
	struct program *victim = &runner->programs[0];
	int r;

	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		struct program *program = &runner->programs[i];

		if (program_matches(program, spec, runner->wrap)) {
			*ret_program = program;
			return 0;
		}
		if (program->used < victim->used)
			victim = program;
	}
	program_clear(victim);
	victim->plan =
		sdk_plan_new(spec->precise && runner->precise ? runner->precise : runner->backend);
	if (!victim->plan)
		return sde_error_set(error, -ENOMEM, "no memory for a plan");
	victim->wrap = runner->wrap;
	sdk_plan_set_wrap(victim->plan, runner->wrap);
	r = program_record(victim, spec, error);
	if (r < 0) {
		program_clear(victim);
		return r;
	}
	*ret_program = victim;
	return 0;
}

int sde_runner_run(struct sde_runner *runner, const struct sde_program_spec *spec,
		   const void *const *inputs, float *const *outputs, struct sde_error *error)
{
	struct program *program = NULL;
	int r;

	r = sde_runner_check_cancel(runner, error);
	if (r < 0)
		return r;
	r = program_get(runner, spec, &program, error);
	if (r < 0)
		return r;
	program->used = ++runner->clock;
	for (int i = 0; r >= 0 && i < spec->n_inputs; i++)
		r = i < spec->n_ids ? sdk_plan_set_ids(program->plan, program->inputs[i], inputs[i])
				    : sdk_plan_set(program->plan, program->inputs[i], inputs[i]);
	sdk_plan_watch(program->plan, spec->watch);
	if (r >= 0)
		r = sdk_plan_run(program->plan, runner->cancel);
	for (int i = 0; r >= 0 && i < spec->n_outputs; i++)
		r = sdk_plan_get(program->plan, program->outputs[i], outputs[i]);
	if (r == -ECANCELED)
		return sde_error_set(error, r, "the job was cancelled");
	if (r < 0)
		return sde_error_set(error, r, "%s: %s", spec->name, strerror(-r));
	return 0;
}
