/*
 * A bench for kernels: random operands, the same recording on two backends, and a comparison relative to the size of the
 * numbers. Used by the tests of kernels/.
 */
#pragma once

#include "kernels/plan.h"

#define LAB_MAX 8

struct lab {
	uint64_t state;	 /* of the generator: a seed */
	bool round_bf16; /* make every number a bfloat16, so that only the arithmetic is judged */
	struct sdk_tensor tensors[LAB_MAX];
	void *tensor_data[LAB_MAX];
	int n_tensors;
	struct sdk_shape shapes[LAB_MAX];
	float *inputs[LAB_MAX];
	int n_inputs;
	int32_t *ids;	/* replaces input 0 when set */
	int numbers[8]; /* parameters of the case, for its recorder */
};

/* Records one case on values of the lab's shapes and returns its output. */
typedef sdk_value (*lab_recorder)(struct sdk_plan *plan, const struct lab *lab,
				  const sdk_value *in);

int lab_between(struct lab *lab, int low, int high);
float lab_normal(struct lab *lab);
/* A random tensor in type; scale is its standard deviation, offset its mean. */
const struct sdk_tensor *lab_tensor(struct lab *lab, enum sdk_type type, int rank,
				    const int64_t *shape, float scale, float offset);
void lab_input(struct lab *lab, struct sdk_shape shape, float scale, float offset);
/* Record, compile, set inputs and run; the caller frees *ret_plan and *ret_out. Fails the test on any error. */
void lab_run(const struct lab *lab, struct sdk_backend *backend, lab_recorder record,
	     float **ret_out, size_t *ret_n);
/* Largest difference of two backends on the same case, relative to the largest number of the first. */
double lab_compare(const struct lab *lab, struct sdk_backend *reference,
		   struct sdk_backend *backend, lab_recorder record);
void lab_clear(struct lab *lab);
struct sdk_backend *lab_backend(const char *name, const char *dtype, const char *isa, int threads);
