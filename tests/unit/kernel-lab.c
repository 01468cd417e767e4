/*
 * The lab in which an op runs on the reference and on the cpu backend with the same numbers; see kernel-lab.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/kernel-lab.h"

static uint64_t next(struct lab *lab)
{
	lab->state = lab->state * 6364136223846793005u + 1442695040888963407u;
	return lab->state >> 33;
}

int lab_between(struct lab *lab, int low, int high)
{
	return low + (int)(next(lab) % (uint64_t)(high - low + 1));
}

/* Sum of twelve uniforms: near enough to normal for operands. */
float lab_normal(struct lab *lab)
{
	float sum = -6;

	for (int i = 0; i < 12; i++)
		sum += (float)next(lab) * 0x1p-31f;
	return sum;
}

static float value(struct lab *lab, float scale, float offset)
{
	float x = lab_normal(lab) * scale + offset;
	uint16_t half;

	if (lab->round_bf16) {
		sdk_narrow(SDK_BF16, &x, &half, 1);
		sdk_widen(SDK_BF16, &half, &x, 1);
	}
	return x;
}

/* Half precision of small exact numbers: multiples of 2^-8 below 8, enough for a weight. */
static uint16_t to_f16(float x)
{
	const int sign = x < 0, m = (int)lrintf(fabsf(x) * 256);
	int exponent = 0;

	if (m == 0)
		return 0;
	while (m >> (exponent + 1))
		exponent++;
	if (exponent > 10)
		return 0;
	return (uint16_t)(sign << 15 | (exponent - 8 + 15) << 10 |
			  ((m << (10 - exponent)) & 0x3ff));
}

const struct sdk_tensor *lab_tensor(struct lab *lab, enum sdk_type type, int rank,
				    const int64_t *shape, float scale, float offset)
{
	struct sdk_tensor *tensor = &lab->tensors[lab->n_tensors];
	size_t n = 1;
	float *floats;
	uint16_t *halves;

	assert_true(lab->n_tensors < LAB_MAX);
	*tensor = (struct sdk_tensor){.name = "random", .type = type, .rank = rank};
	for (int i = 0; i < rank; i++) {
		tensor->shape[i] = shape[i];
		n *= (size_t)shape[i];
	}
	floats = malloc(n * sizeof(*floats));
	assert_non_null(floats);
	for (size_t i = 0; i < n; i++)
		floats[i] = value(lab, scale, offset);
	tensor->data = floats;
	if (type != SDK_F32) {
		halves = malloc(n * sizeof(*halves));
		assert_non_null(halves);
		for (size_t i = 0; i < n; i++) {
			if (type == SDK_F16)
				halves[i] = to_f16(floats[i]);
			else
				sdk_narrow(SDK_BF16, &floats[i], &halves[i], 1);
		}
		tensor->data = halves;
		free(floats);
	}
	lab->tensor_data[lab->n_tensors++] = (void *)(uintptr_t)tensor->data;
	return tensor;
}

void lab_input(struct lab *lab, struct sdk_shape shape, float scale, float offset)
{
	const size_t n = (size_t)shape.n * (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
	float *data = malloc(n * sizeof(*data));

	assert_non_null(data);
	assert_true(lab->n_inputs < LAB_MAX);
	for (size_t i = 0; i < n; i++)
		data[i] = value(lab, scale, offset);
	lab->shapes[lab->n_inputs] = shape;
	lab->inputs[lab->n_inputs++] = data;
}

void lab_clear(struct lab *lab)
{
	for (int i = 0; i < lab->n_tensors; i++)
		free(lab->tensor_data[i]);
	for (int i = 0; i < lab->n_inputs; i++)
		free(lab->inputs[i]);
	free(lab->ids);
	lab->n_tensors = lab->n_inputs = 0;
	lab->ids = NULL;
}

void lab_run(const struct lab *lab, struct sdk_backend *backend, lab_recorder record,
	     float **ret_out, size_t *ret_n)
{
	struct sdk_plan *plan = sdk_plan_new(backend);
	sdk_value in[LAB_MAX], out;
	struct sdk_shape shape;
	float *data;
	size_t n;

	assert_non_null(plan);
	for (int i = 0; i < lab->n_inputs; i++) {
		shape = lab->shapes[i];
		in[i] = lab->ids && i == 0 ? sdk_input_ids(plan, shape.n, shape.w)
					   : sdk_input(plan, shape.n, shape.h, shape.w, shape.c);
	}
	out = sdk_output(plan, record(plan, lab, in));
	if (sdk_plan_error(plan) < 0)
		fail_msg("%s", sdk_plan_error_text(plan));
	assert_int_equal(sdk_plan_compile(plan), 0);
	for (int i = 0; i < lab->n_inputs; i++) {
		if (lab->ids && i == 0)
			assert_int_equal(sdk_plan_set_ids(plan, in[i], lab->ids), 0);
		else
			assert_int_equal(sdk_plan_set(plan, in[i], lab->inputs[i]), 0);
	}
	assert_int_equal(sdk_plan_run(plan, NULL), 0);
	shape = sdk_plan_shape(plan, out);
	n = (size_t)shape.n * (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
	data = malloc(n * sizeof(*data));
	assert_non_null(data);
	assert_int_equal(sdk_plan_get(plan, out, data), 0);
	sdk_plan_free(plan);
	*ret_out = data;
	*ret_n = n;
}

double lab_compare(const struct lab *lab, struct sdk_backend *reference,
		   struct sdk_backend *backend, lab_recorder record)
{
	double difference = 0, size = 0;
	float *want, *got;
	size_t n, m;

	lab_run(lab, reference, record, &want, &n);
	lab_run(lab, backend, record, &got, &m);
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++) {
		const double d = fabs((double)want[i] - (double)got[i]);

		if (!(d <= difference)) /* also NaN */
			difference = d;
		size = fmax(size, fabs((double)want[i]));
	}
	free(want);
	free(got);
	return difference / (size > 0 ? size : 1);
}

struct sdk_backend *lab_backend(const char *name, const char *dtype, const char *isa, int threads)
{
	const struct sdk_backend_options options = {
		.name = name, .dtype = dtype, .isa = isa, .threads = threads};
	struct sdk_backend *backend;
	char err[256];

	if (sdk_backend_open(&options, &backend, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	return backend;
}
