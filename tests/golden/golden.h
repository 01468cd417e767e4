/*
 * The golden runner's side of a case: read its parameters and tensors, hand back what our code computed. A case function is
 * written per `kind` in a file case-*.c and entered as one line in kinds.inc; the runner isolates it in a child process, so a
 * crash is a FAIL of that case and not of the run. Format of the cases: tests/golden/README.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/safetensors.h"
#include "daemon/engine/formats/weights.h"

enum golden_result {
	GOLDEN_PASS = 0,
	GOLDEN_FAIL = 1,
	GOLDEN_SKIP = 2,
};

struct golden_options {
	const char *backend; /* "ref", "cpu" or "cuda" */
	const char *dtype;   /* "f32", "bf16" or "f16": type of activations */
};

/* A tensor of the case, aligned, owned by the case. Exactly one of the data pointers is set. */
struct golden_tensor {
	const char *name;
	int rank;
	int64_t shape[SDE_TENSOR_RANK_MAX];
	size_t count;
	const float *f32;
	const int32_t *i32;
	const uint8_t *u8;
	struct golden_tensor *next;
};

struct golden_case {
	const struct golden_options *options;
	const char *path; /* of the .json */
	const char *kind;
	char *model; /* absolute path of the model folder; NULL if the case names none */
	json_t *params;
	/* the runner's */
	json_t *root;
	struct sde_weights *tensors;
	struct golden_tensor *loaded;
	json_t *compared; /* names of outputs given or omitted */
	int compared_count;
	bool failed;
	char note[512];		     /* why it failed or was skipped; else empty */
	double worst_abs, worst_rel; /* largest absolute error; relative L2 error */
	double worst_excess,
		worst_psnr; /* error / tolerance of the worst element; lowest PSNR (0: none) */
	char worst_name[96];
};

/*
 * n zeroed floats (never NULL, also for 0), freed by the caller. Out of memory aborts: in a case's child process that is
 * a FAIL of this case alone.
 */
float *golden_floats(size_t n);

/* A kind's function. Return GOLDEN_PASS after calling golden_expect_* on the outputs, or golden_skip(), golden_fail(). */
typedef int golden_fn(struct golden_case *c);

/* Record why and return GOLDEN_SKIP / GOLDEN_FAIL. */
int golden_skip(struct golden_case *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int golden_fail(struct golden_case *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The usual end of a failing engine call: "what: message". */
int golden_fail_error(struct golden_case *c, const char *what, const struct sde_error *error);

/* Parameters: params.key, or the fallback when absent or null. */
json_t *golden_param(struct golden_case *c,
		     const char *key); /* NULL when absent or null; borrowed */
const char *golden_param_string(struct golden_case *c, const char *key, const char *fallback);
int64_t golden_param_int(struct golden_case *c, const char *key, int64_t fallback);
double golden_param_double(struct golden_case *c, const char *key, double fallback);
bool golden_param_bool(struct golden_case *c, const char *key, bool fallback);

/*
 * Tensors of the case, inputs and expected outputs alike. Integers of 64 bits arrive as i32, F16/BF16/F64 as f32.
 * golden_find: NULL if absent. golden_input_*: NULL, with the failure recorded, if absent or of another type: the case function
 * just returns GOLDEN_FAIL.
 */
const struct golden_tensor *golden_find(struct golden_case *c, const char *name);
const struct golden_tensor *golden_input_f32(struct golden_case *c, const char *name);
const struct golden_tensor *golden_input_i32(struct golden_case *c, const char *name);
const struct golden_tensor *golden_input_u8(struct golden_case *c, const char *name);

/*
 * A model named in a case is relative to a folder above it: the nearest one that makes the path exist, as a folder or file of a model or
 * as the manifest of a synthetic one. NULL when there is none; freed by the caller.
 */
char *golden_find_model(const struct golden_case *c, const char *model);

/* True if the case lists this output: compute it only then. */
bool golden_wants(struct golden_case *c, const char *name);

/*
 * Compare a result with the expected output `name` (no-op returning true if the case does not list it). Shapes must match
 * exactly; rank 0 needs no shape. Under --dtype bf16/f16, kinds with a line in the table of tolerance.c are judged by relative
 * L2 error instead of per element. Returns false on a mismatch; the failure is recorded, so a case may go on to compare the rest.
 */
bool golden_expect_f32(struct golden_case *c, const char *name, const float *got, int rank,
		       const int64_t *shape);
bool golden_expect_i32(struct golden_case *c, const char *name, const int32_t *got, int rank,
		       const int64_t *shape);
bool golden_expect_u8(struct golden_case *c, const char *name, const uint8_t *got, int rank,
		      const int64_t *shape);
#define GOLDEN_SHAPE(...)                                                                          \
	(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])               \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

/*
 * Outputs that only serve to find where an error begins (after_*, block*, double*, single*, hidden_*, step_latents,
 * scaled_input, time_embedding) need not be given. Any other output that the case function did not compare is a FAIL.
 */

/* tolerance.c: limits for activations in bf16/f16; NULL where the case's own tolerances hold whatever the type. */
struct golden_tolerance {
	const char *kind;
	double relative_l2; /* ||got - want|| / ||want|| of float outputs */
	double min_psnr;    /* dB, of u8 outputs */
};
const struct golden_tolerance *golden_tolerance(const char *kind, const char *dtype);

/* Every function named in kinds.inc. */
#define KIND(kind, function) golden_fn function;
#include "tests/golden/kinds.inc"
#undef KIND

/* kinds.c: the function for a kind, NULL if there is none. */
golden_fn *golden_kind(const char *kind);

/* golden.c, for the runner: run one case in this process. */
int golden_case_run(const char *json_path, const struct golden_options *options, char *ret_line,
		    size_t line_size);
