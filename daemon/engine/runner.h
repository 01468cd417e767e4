/*
 * Runs forward passes: keeps a backend, the programs (recorded plans) of the shapes used lately, and the flag that stops
 * them. A program is built once per module and shape and replayed with other data.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/plan.h"

struct sde_error;
struct sde_runner;
struct sdk_attention_watch;

#define SDE_PROGRAM_INPUTS_MAX	96
#define SDE_PROGRAM_OUTPUTS_MAX 64

/* Record a forward pass from inputs to outputs; what latched in the plan need not be returned. */
typedef int (*sde_program_build_fn)(struct sdk_plan *plan, const void *userdata,
				    const sdk_value *inputs, sdk_value *ret_outputs);

/* module and variant together with the shapes are the program's identity in the cache. */
struct sde_program_spec {
	const char *name;   /* for messages: "unet" */
	const void *module; /* the bound struct the program reads weights from */
	uint64_t variant;
	sde_program_build_fn build;
	const void *userdata;
	int n_inputs, n_outputs;
	struct sdk_shape inputs[SDE_PROGRAM_INPUTS_MAX];
	int n_ids; /* so many first inputs are int32 (n, w) token ids; their h and c are not used */
	const struct sdk_attention_watch *watch; /* of this run (kernels/watch.h); NULL: none */
	bool precise; /* in float32 even where the backend rounds: cheap, and everything after depends on it */
};

/*
 * backend: "cpu" or "ref"; dtype: "auto", "f32" or "bf16"; threads 0 = what the process may use. A backend that rounds gets a
 * float32 one beside it for precise programs.
 */
int sde_runner_new(const char *backend, const char *dtype, int threads,
		   struct sde_runner **ret_runner, struct sde_error *error);
struct sde_runner *sde_runner_free(struct sde_runner *runner);
const char *sde_runner_describe(const struct sde_runner *runner);

/* Counted up with every op that is prepared or run: who sees it stand still may suspect a hang. Borrowed. */
void sde_runner_set_pulse(struct sde_runner *runner, atomic_ulong *pulse);
/* NULL for none. */
atomic_ulong *sde_runner_pulse(const struct sde_runner *runner);
/* How the convolutions of programs wrap (SDK_WRAP_NONE at first): another wrap, other programs. */
void sde_runner_set_wrap(struct sde_runner *runner, enum sdk_wrap wrap);
enum sdk_wrap sde_runner_wrap(const struct sde_runner *runner);
/* The flag polled before each run; NULL for none. Borrowed. */
void sde_runner_set_cancel(struct sde_runner *runner, const atomic_int *cancel);
/* -ECANCELED when the flag is raised, else 0. */
int sde_runner_check_cancel(const struct sde_runner *runner, struct sde_error *error);

/*
 * Run: inputs[i] has as many floats (or ids) as its shape, outputs[i] room for as many as output i has. -ECANCELED, -ENOMEM,
 * or the error of the recording, which names the op and its shapes.
 */
int sde_runner_run(struct sde_runner *runner, const struct sde_program_spec *spec,
		   const void *const *inputs, float *const *outputs, struct sde_error *error);

/*
 * Give the memory of the programs' values back; they stay, and have one again with their next run. A job ends so: the next one's text encoders
 * would else lie beside what the decoder worked in.
 */
void sde_runner_rest(struct sde_runner *runner);
/* Drop all programs, with the packed weights that they alone use, and the memory of their values: what comes next makes its own. */
void sde_runner_trim(struct sde_runner *runner);
/* Drop the programs of a module that is about to be freed; runner NULL: there are none. */
void sde_runner_forget(struct sde_runner *runner, const void *module);
