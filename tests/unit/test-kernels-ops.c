/*
 * Every op of the cpu backend against the reference on random shapes, odd ones included. Arguments: instruction set limit
 * and type of activations; meson registers one run for each pair, and a machine without the instructions runs what it has.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/kernel-lab.h"

#define ROUNDS 6

static const char *isa = "avx512_bf16", *dtype = "f32";

struct bench {
	struct sdk_backend *ref, *cpu;
	bool half;
};

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	bench->ref = lab_backend("ref", NULL, NULL, 0);
	bench->cpu = lab_backend("cpu", dtype, isa, 2);
	bench->half = bench->cpu->activation == SDK_BF16;
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	sdk_backend_close(bench->ref);
	sdk_backend_close(bench->cpu);
	free(bench);
	return 0;
}

/* f32: rounding of sums in another order. bf16: one rounding of 2^-9 at the end, half gives the inner ones. */
static void check(struct bench *bench, struct lab *lab, lab_recorder record, double f32,
		  double bf16, const char *what)
{
	const double limit = bench->half ? bf16 : f32;
	const double difference = lab_compare(lab, bench->ref, bench->cpu, record);

	if (!(difference <= limit)) {
		const struct sdk_shape s = lab->shapes[0];

		fail_msg("%s of (%d, %d, %d, %d): relative difference %g, allowed %g", what, s.n,
			 s.h, s.w, s.c, difference, limit);
	}
	lab_clear(lab);
}

static struct lab start(struct bench *bench, uint64_t seed)
{
	return (struct lab){.state = seed * 977 + 12345, .round_bf16 = bench->half};
}

static enum sdk_type weight_type(int round)
{
	return (const enum sdk_type[]){SDK_F32, SDK_F16, SDK_BF16}[round % 3];
}

static sdk_value record_conv(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_conv2d(plan, in[0], &lab->tensors[0], lab->numbers[5] ? &lab->tensors[1] : NULL,
			  lab->numbers[0], lab->numbers[1], lab->numbers[2], lab->numbers[3],
			  lab->numbers[4]);
}

static void test_conv2d(void **state)
{
	static const int sides[] = {1, 3, 3, 3, 1, 4};
	struct bench *bench = *state;

	for (int round = 0; round < 4 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int k = sides[round % 6], c = round % 5 == 0 ? 4 : lab_between(&lab, 1, 70);
		const int out = round % 7 == 0 ? 3 : lab_between(&lab, 1, 70);

		lab.numbers[0] = k == 1 ? 1 + round % 4 / 3 : 1 + round % 2;
		for (int i = 1; i < 5; i++)
			lab.numbers[i] = k == 1 ? 0 : lab_between(&lab, 0, 1);
		lab.numbers[5] = round % 4 != 3;
		lab_input(&lab,
			  (struct sdk_shape){lab_between(&lab, 1, 3), lab_between(&lab, 4, 19),
					     lab_between(&lab, 4, 19), c},
			  1, 0);
		lab_tensor(&lab, weight_type(round), 4, (const int64_t[]){out, c, k, k}, 0.3f, 0);
		lab_tensor(&lab, weight_type(round + 1), 1, (const int64_t[]){out}, 0.3f, 0);
		check(bench, &lab, record_conv, 1e-5, 6e-3, "conv2d");
	}
}

static sdk_value record_linear(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_linear(plan, in[0], &lab->tensors[0], lab->numbers[0] ? &lab->tensors[1] : NULL);
}

static void test_linear(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 3 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int c = lab_between(&lab, 1, 200), out = lab_between(&lab, 1, 200);

		lab.numbers[0] = round % 3 != 2;
		lab_input(
			&lab,
			(struct sdk_shape){lab_between(&lab, 1, 3), 1, lab_between(&lab, 1, 90), c},
			1, 0);
		lab_tensor(&lab, weight_type(round), 2, (const int64_t[]){out, c}, 0.3f, 0);
		lab_tensor(&lab, weight_type(round + 1), 1, (const int64_t[]){out}, 0.3f, 0);
		check(bench, &lab, record_linear, 1e-5, 6e-3, "linear");
	}
}

/* What resting in a type costs a product of normal numbers, relative to its largest: f16 2^-11, bf16 2^-8, Q8_0 half a step of 127. */
static double resting_error(enum sdk_keep keep)
{
	return (const double[]){0, 1e-6, 1e-3, 8e-3, 1.2e-2}[keep];
}

static void run_resting(struct bench *bench, int round, enum sdk_keep keep)
{
	struct lab lab = start(bench, (uint64_t)round), packed;
	const bool conv = round % 2;
	const int c = 32 * lab_between(&lab, 1, 9), out = lab_between(&lab, 1, 90);
	float *want, *got;
	double error;
	size_t n;

	lab.numbers[0] = conv ? 1 + round % 4 / 3 : round % 3 != 2;
	lab.numbers[5] = true;
	lab_input(&lab, (struct sdk_shape){2, conv ? 7 : 1, lab_between(&lab, 4, 19), c}, 1, 0);
	if (conv)
		lab_tensor(&lab, weight_type(round / 2), 4, (const int64_t[]){out, c, 3, 3}, 0.3f,
			   0);
	else
		lab_tensor(&lab, weight_type(round / 2), 2, (const int64_t[]){out, c}, 0.3f, 0);
	lab_tensor(&lab, SDK_F32, 1, (const int64_t[]){out}, 0.3f, 0);
	packed = lab;
	lab.tensors[0].keep = keep;
	error = lab_compare(&packed, bench->cpu, bench->cpu, conv ? record_conv : record_linear);
	assert_true(error == 0);
	/* the same numbers in the same layout: what rests as it is stored gives the same to the bit */
	lab_run(&packed, bench->cpu, conv ? record_conv : record_linear, &want, &n);
	lab_run(&lab, bench->cpu, conv ? record_conv : record_linear, &got, &n);
	if (keep == SDK_KEEP_STORED)
		assert_memory_equal(want, got, n * sizeof(*want));
	free(want);
	free(got);
	/* against the formula without any rounding of weights */
	error = resting_error(keep) + (bench->half ? 6e-3 : 1e-5);
	lab_run(&packed, bench->ref, conv ? record_conv : record_linear, &want, &n);
	lab_run(&lab, bench->cpu, conv ? record_conv : record_linear, &got, &n);
	for (size_t i = 0; i < n; i++)
		if (!(fabsf(want[i] - got[i]) <= error * 12 * sqrt(c * (conv ? 9 : 1)) * 0.3))
			fail_msg("form %d: %g, not %g", keep, (double)got[i], (double)want[i]);
	free(want);
	free(got);
	check(bench, &lab, conv ? record_conv : record_linear, 1e-5, 6e-3, "resting weights");
}

static void test_resting(void **state)
{
	for (int keep = SDK_KEEP_STORED; keep <= SDK_KEEP_Q8_0; keep++)
		for (int round = 0; round < 12; round++)
			run_resting(*state, round, (enum sdk_keep)keep);
}

/* Fused forms: linear and conv2d with every activation, with a residual on either side, and one that must not fuse. */
static sdk_value record_fused(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	const struct sdk_tensor *w = &lab->tensors[0], *b = &lab->tensors[1];
	const sdk_value x = in[0];
	const int kind = lab->numbers[0];
	sdk_value y = lab->numbers[1] ? sdk_conv2d(plan, x, w, b, 1, 1, 1, 1, 1)
				      : sdk_linear(plan, x, w, b);

	if (kind <= SDK_SIGMOID)
		return sdk_activate(plan, y, (enum sdk_activation)kind);
	if (kind == SDK_SIGMOID + 1)
		return sdk_add(plan, y, x);
	if (kind == SDK_SIGMOID + 2)
		return sdk_add(plan, x, y);
	if (kind == SDK_SIGMOID + 3) /* read twice: the sum must not swallow it */
		return sdk_mul(plan, sdk_add(plan, y, x), y);
	/* the residual is made after: only the later op can take the sum */
	return sdk_add(plan, y, sdk_linear(plan, x, &lab->tensors[2], NULL));
}

static void test_fused(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 2 * (SDK_SIGMOID + 5); round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int c = round % 3 == 0 ? 32 : lab_between(&lab, 1, 50);

		lab.numbers[0] = round / 2;
		lab.numbers[1] = round % 2;
		lab_input(
			&lab,
			(struct sdk_shape){2, lab_between(&lab, 1, 9), lab_between(&lab, 1, 9), c},
			1, 0);
		if (round % 2)
			lab_tensor(&lab, SDK_F32, 4, (const int64_t[]){c, c, 3, 3}, 0.2f, 0);
		else
			lab_tensor(&lab, SDK_F32, 2, (const int64_t[]){c, c}, 0.3f, 0);
		lab_tensor(&lab, SDK_F32, 1, (const int64_t[]){c}, 0.3f, 0);
		lab_tensor(&lab, SDK_F32, 2, (const int64_t[]){c, c}, 0.3f, 0);
		check(bench, &lab, record_fused, 2e-5, 1.2e-2, "fused op");
	}
}

static sdk_value record_group_norm(struct sdk_plan *plan, const struct lab *lab,
				   const sdk_value *in)
{
	return sdk_group_norm(plan, in[0], &lab->tensors[0], &lab->tensors[1], lab->numbers[0],
			      1e-5f, lab->numbers[1]);
}

static void test_group_norm(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 2 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int groups = lab_between(&lab, 1, 8), c = groups * lab_between(&lab, 1, 40);

		lab.numbers[0] = groups;
		lab.numbers[1] = round % 2;
		/* a mean far from zero must cost no precision */
		lab_input(&lab,
			  (struct sdk_shape){lab_between(&lab, 1, 3), lab_between(&lab, 1, 40),
					     lab_between(&lab, 1, 40), c},
			  1, round % 3 == 2 && !bench->half ? 100.0f : 0.5f);
		lab_tensor(&lab, weight_type(round), 1, (const int64_t[]){c}, 0.2f, 1);
		lab_tensor(&lab, SDK_F32, 1, (const int64_t[]){c}, 0.2f, 0);
		check(bench, &lab, record_group_norm, 2e-5, 6e-3, "group_norm");
	}
}

static sdk_value record_layer_norm(struct sdk_plan *plan, const struct lab *lab,
				   const sdk_value *in)
{
	if (lab->numbers[0])
		return sdk_rms_norm(plan, in[0], &lab->tensors[0], 1e-6f);
	return sdk_layer_norm(plan, in[0], &lab->tensors[0], &lab->tensors[1], 1e-5f);
}

static void test_row_norms(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 4 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int c = lab_between(&lab, 2, 300);

		lab.numbers[0] = round % 2;
		lab_input(&lab,
			  (struct sdk_shape){lab_between(&lab, 1, 3), 1, lab_between(&lab, 1, 300),
					     c},
			  1, 0.5f);
		lab_tensor(&lab, weight_type(round), 1, (const int64_t[]){c}, 0.2f, 1);
		lab_tensor(&lab, SDK_F32, 1, (const int64_t[]){c}, 0.2f, 0);
		check(bench, &lab, record_layer_norm, 1e-5, 6e-3,
		      round % 2 ? "rms_norm" : "layer_norm");
	}
}

static sdk_value record_ada(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_ada_layer_norm(plan, in[0], in[1], in[2], 1e-6f);
}

static void test_ada_layer_norm(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 2 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int n = lab_between(&lab, 1, 3), c = lab_between(&lab, 2, 300);

		lab_input(&lab, (struct sdk_shape){n, 1, lab_between(&lab, 1, 600), c}, 1, 0.5f);
		lab_input(&lab, (struct sdk_shape){n, 1, 1, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){n, 1, 1, c}, 1, 0);
		check(bench, &lab, record_ada, 1e-5, 6e-3, "ada_layer_norm");
	}
}

static sdk_value record_rope(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	const struct sdk_shape shape = lab->shapes[0];
	const int d = shape.c / lab->numbers[0];
	float *table = calloc((size_t)shape.w * 2 * (size_t)d, sizeof(*table));

	for (int i = 0; table && i < shape.w * d; i++) {
		const double angle = (i / 2) % 97 * 0.37;
		const int at = i / d * 2 * d + i % d;

		table[at] = (float)cos(angle);
		table[at + d] = (float)sin(angle);
	}
	return sdk_rope(plan, in[0], lab->numbers[0], sdk_plan_table(plan, shape.w, 2 * d, table));
}

static void test_rope(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 2 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);

		lab.numbers[0] = lab_between(&lab, 1, 5);
		lab_input(&lab,
			  (struct sdk_shape){lab_between(&lab, 1, 3), 1, lab_between(&lab, 1, 90),
					     lab.numbers[0] * 2 * lab_between(&lab, 1, 40)},
			  1, 0);
		check(bench, &lab, record_rope, 1e-6, 4e-3, "rope");
	}
}

static sdk_value record_pointwise(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	switch (lab->numbers[0]) {
	case SDK_SIGMOID + 1:
		return sdk_add(plan, in[0], in[1]);
	case SDK_SIGMOID + 2:
		return sdk_mul(plan, in[0], in[1]);
	case SDK_SIGMOID + 3:
		return sdk_affine(plan, in[0], 1.25f, -0.5f);
	default:
		return sdk_activate(plan, in[0], (enum sdk_activation)lab->numbers[0]);
	}
}

static void test_pointwise(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 3 * (SDK_SIGMOID + 4); round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const struct sdk_shape shape = {lab_between(&lab, 1, 3), lab_between(&lab, 1, 30),
						lab_between(&lab, 1, 30), lab_between(&lab, 1, 90)};

		lab.numbers[0] = round / 3;
		lab_input(&lab, shape, 4, 0);
		if (round % 3 == 0)
			lab_input(&lab, shape, 1, 0);
		else
			lab_input(&lab,
				  (struct sdk_shape){round % 3 == 1 ? shape.n : 1, 1, 1, shape.c},
				  1, 0);
		check(bench, &lab, record_pointwise, 2e-6, 4e-3, "pointwise op");
	}
}

static sdk_value record_geglu(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_geglu(plan, in[0]);
}

static void test_geglu(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);

		lab_input(&lab,
			  (struct sdk_shape){lab_between(&lab, 1, 3), 1, lab_between(&lab, 1, 70),
					     2 * lab_between(&lab, 1, 150)},
			  2, 0);
		check(bench, &lab, record_geglu, 2e-6, 4e-3, "geglu");
	}
}

static sdk_value record_attention(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_attention(plan, in[0], in[1], in[2], lab->numbers[0], 0.3f, lab->numbers[1]);
}

static void test_attention(void **state)
{
	static const int dims[] = {40, 64, 80, 5, 160, 16, 1, 33, 128, 7};
	struct bench *bench = *state;

	for (int round = 0; round < 20; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int n = lab_between(&lab, 1, 2), queries = lab_between(&lab, 1, 230);
		const int keys = round % 3 == 0	  ? queries
				 : round % 3 == 1 ? 77
						  : lab_between(&lab, 1, 200);
		const int heads = lab_between(&lab, 1, 3), c = heads * dims[round % 10];

		lab.numbers[0] = heads;
		lab.numbers[1] = round % 3 == 0 && round % 2;
		lab_input(&lab, (struct sdk_shape){n, 1, queries, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){n, 1, keys, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){n, 1, keys, c}, 1, 0);
		check(bench, &lab, record_attention, 1e-5, 1.2e-2, "attention");
	}
}

static sdk_value record_relative(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_attention_relative(plan, in[0], in[1], in[2], lab->numbers[0], 0.3f, in[3]);
}

static void test_attention_relative(void **state)
{
	static const int dims[] = {64, 8, 5, 33};
	struct bench *bench = *state;

	for (int round = 0; round < 8; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		const int queries = lab_between(&lab, 1, 230), keys = lab_between(&lab, 1, 200);
		const int heads = lab_between(&lab, 1, 5), c = heads * dims[round % 4];

		lab.numbers[0] = heads;
		lab_input(&lab, (struct sdk_shape){2, 1, queries, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){2, 1, keys, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){2, 1, keys, c}, 1, 0);
		lab_input(&lab, (struct sdk_shape){1, 1, queries + keys - 1, heads}, 2, 0);
		check(bench, &lab, record_relative, 1e-5, 1.2e-2, "attention with bias");
	}
}

static sdk_value record_move(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	switch (lab->numbers[0]) {
	case 0:
		return sdk_resize_nearest(plan, in[0], lab->numbers[1], lab->numbers[2]);
	case 1:
		return sdk_concat(plan, in[0], in[1]);
	case 2:
		return sdk_slice(plan, in[0], lab->numbers[1], lab->numbers[2]);
	case 3:
		return sdk_embedding(plan, in[0], &lab->tensors[0]);
	default:
		return sdk_add_rows(plan,
				    sdk_reshape(plan, in[0], lab->shapes[0].n, 1,
						lab->shapes[0].h * lab->shapes[0].w,
						lab->shapes[0].c),
				    &lab->tensors[0]);
	}
}

static void test_moves(void **state)
{
	struct bench *bench = *state;

	for (int round = 0; round < 5 * ROUNDS; round++) {
		struct lab lab = start(bench, (uint64_t)round);
		struct sdk_shape shape = {lab_between(&lab, 1, 3), lab_between(&lab, 1, 20),
					  lab_between(&lab, 1, 20), lab_between(&lab, 1, 40)};

		lab.numbers[0] = round % 5;
		if (round % 5 == 0) {
			lab.numbers[1] = lab_between(&lab, 1, 45);
			lab.numbers[2] = 2 * shape.w;
		} else if (round % 5 == 2) {
			lab.numbers[1] = lab_between(&lab, 0, shape.c - 1);
			lab.numbers[2] = lab_between(&lab, 1, shape.c - lab.numbers[1]);
		} else if (round % 5 == 3) {
			shape.h = shape.c = 1;
			lab.ids = calloc((size_t)shape.n * (size_t)shape.w, sizeof(*lab.ids));
			for (int i = 0; i < shape.n * shape.w; i++)
				lab.ids[i] = lab_between(&lab, 0, 11);
		}
		lab_input(&lab, shape, 1, 0);
		lab_tensor(
			&lab, weight_type(round), 2,
			(const int64_t[]){round % 5 == 3 ? 12 : 400, round % 5 == 3 ? 21 : shape.c},
			0.3f, 0);
		shape.c = 9;
		lab_input(&lab, shape, 1, 0);
		check(bench, &lab, record_move, round % 5 == 4 ? 1e-6 : 0, 4e-3, "move");
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conv2d),	       cmocka_unit_test(test_linear),
		cmocka_unit_test(test_resting),	       cmocka_unit_test(test_fused),
		cmocka_unit_test(test_group_norm),     cmocka_unit_test(test_row_norms),
		cmocka_unit_test(test_ada_layer_norm), cmocka_unit_test(test_rope),
		cmocka_unit_test(test_pointwise),      cmocka_unit_test(test_geglu),
		cmocka_unit_test(test_attention),      cmocka_unit_test(test_attention_relative),
		cmocka_unit_test(test_moves),
	};

	if (argc > 2) {
		isa = argv[1];
		dtype = argv[2];
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
