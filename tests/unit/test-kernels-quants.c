/*
 * Products with quantised weights against the same numbers as floats, and these against ggml's formats read element by element: many widths, of
 * one block to twenty, and convolutions whose rows begin within a block. What is a whole number of blocks a row stays quantised.
 * Arguments as of test-kernels-ops.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/kernel-lab.h"

static const char *isa = "avx512_bf16", *dtype = "f32";

static const struct {
	const char *name;
	enum sdk_type type;
} types[] = {{"Q4_0", SDK_Q4_0},
	     {"Q8_0", SDK_Q8_0},
	     {"Q4_K", SDK_Q4_K},
	     {"Q5_K", SDK_Q5_K},
	     {"Q6_K", SDK_Q6_K}};
#define TYPES (sizeof(types) / sizeof(types[0]))

struct bench {
	struct sdk_backend *ref, *cpu;
};

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	bench->ref = lab_backend("ref", NULL, NULL, 0);
	bench->cpu = lab_backend("cpu", dtype, isa, 2);
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

/* A half of a normal number, by hand. */
static double half_of(const uint8_t *at)
{
	const int bits = at[0] | at[1] << 8;
	const double value = ldexp(1 + (bits & 1023) / 1024.0, (bits >> 10 & 31) - 15);

	return bits & 0x8000 ? -value : value;
}

/* Element i of a block, as ggml-common.h describes it. */
static double element(enum sdk_type type, const uint8_t *b, int i)
{
	const uint8_t *scales = b + 4;
	const int group = i / 32;
	int scale, min, q;

	switch (type) {
	case SDK_Q4_0:
		q = b[2 + i % 16] >> (i < 16 ? 0 : 4) & 15;
		return half_of(b) * (q - 8);
	case SDK_Q8_0:
		return half_of(b) * (int8_t)b[2 + i];
	case SDK_Q6_K:
		/* 128 at a time: four quarters of 32 share bytes of high bits, two share nibbles */
		q = b[i / 128 * 64 + i % 64] >> (i % 128 < 64 ? 0 : 4) & 15;
		q |= (b[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) << 4;
		return half_of(b + 208) * (int8_t)b[192 + i / 16] * (q - 32);
	default:
		scale = group < 4 ? scales[group] & 63
				  : (scales[group + 4] & 15) | scales[group - 4] >> 6 << 4;
		min = group < 4 ? scales[group + 4] & 63
				: scales[group + 4] >> 4 | scales[group] >> 6 << 4;
		q = b[(type == SDK_Q4_K ? 16 : 48) + i / 64 * 32 + i % 32] >> group % 2 * 4 & 15;
		if (type == SDK_Q5_K)
			q |= (b[16 + i % 32] >> group & 1) << 4;
		return half_of(b) * scale * q - half_of(b + 2) * min;
	}
}

static int random_byte(struct lab *lab)
{
	return lab_between(lab, 0, 255);
}

/* Random blocks whose halves are about 2^-9 and positive or negative. */
static void fill_blocks(struct lab *lab, enum sdk_type type, uint8_t *out, size_t blocks)
{
	const size_t bytes = sdk_type_block(type).bytes;

	for (size_t k = 0; k < blocks; k++, out += bytes) {
		size_t halves[2] = {type == SDK_Q6_K ? 208 : 0, type == SDK_Q6_K ? 208 : 0};

		if (type == SDK_Q4_K || type == SDK_Q5_K)
			halves[1] = 2;
		for (size_t i = 0; i < bytes; i++)
			out[i] = (uint8_t)random_byte(lab);
		for (size_t i = 0; i < 2; i++)
			out[halves[i] + 1] = (uint8_t)((lab_between(lab, 0, 1) << 7) | (6 << 2) |
						       lab_between(lab, 0, 3));
	}
}

/* The lab's first tensor in the type, and the same numbers as floats in *ret_plain. */
static void add_weight(struct lab *lab, enum sdk_type type, int rank, const int64_t *shape,
		       struct sdk_tensor *ret_plain)
{
	const struct sdk_block block = sdk_type_block(type);
	size_t n;
	uint8_t *data;
	float *plain;

	/* its place and its end belong to the lab */
	lab_tensor(lab, SDK_F32, rank, shape, 0.1f, 0);
	*ret_plain = lab->tensors[0];
	n = (size_t)sdk_tensor_count(ret_plain);
	assert_true(n % block.elements == 0);
	data = malloc(n / block.elements * block.bytes);
	assert_non_null(data);
	fill_blocks(lab, type, data, n / block.elements);
	plain = lab->tensor_data[0];
	for (size_t i = 0; i < n; i++)
		plain[i] = (float)element(type, data + i / block.elements * block.bytes,
					  (int)(i % block.elements));
	lab->tensors[0].type = type;
	lab->tensors[0].data = data;
}

static sdk_value record_linear(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	return sdk_linear(plan, in[0], &lab->tensors[0], NULL);
}

static sdk_value record_conv(struct sdk_plan *plan, const struct lab *lab, const sdk_value *in)
{
	const int pad = lab->tensors[0].shape[2] / 2;

	return sdk_conv2d(plan, in[0], &lab->tensors[0], NULL, 1, pad, pad, pad, pad);
}

static void compare(const struct bench *bench, struct lab *lab, const struct sdk_tensor *plain,
		    lab_recorder record, const char *what)
{
	const struct sdk_tensor quantised = lab->tensors[0];
	const int64_t columns = sdk_tensor_count(plain) / plain->shape[0];
	const struct sdk_block block = sdk_type_block(quantised.type);
	struct sdk_backend *const backends[] = {bench->ref, bench->cpu};
	enum sdk_type resting = SDK_F32;

	/* as it is in the file, where rows are whole blocks; else rows cannot be reached and it is packed as floats */
	assert_int_equal(sdk_tensor_rests(&quantised, &resting),
			 columns % (int64_t)block.elements == 0);
	if (columns % (int64_t)block.elements == 0)
		assert_int_equal(resting, quantised.type);
	for (size_t i = 0; i < 2; i++) {
		float *want, *got, largest = 0;
		size_t n;

		lab->tensors[0] = *plain;
		lab_run(lab, backends[i], record, &want, &n);
		lab->tensors[0] = quantised;
		lab_run(lab, backends[i], record, &got, &n);
		for (size_t k = 0; k < n; k++)
			largest = fmaxf(largest, fabsf(want[k]));
		/* numbers differ in the last bit by who multiplies first */
		for (size_t k = 0; k < n; k++)
			if (!(fabsf(want[k] - got[k]) <=
			      largest * (i && bench->cpu->activation == SDK_BF16 ? 8e-3f : 2e-6f)))
				fail_msg("%s, %lld columns, %s, number %zu: %g, not %g", what,
					 (long long)columns, i ? "cpu" : "ref", k, (double)got[k],
					 (double)want[k]);
		free(want);
		free(got);
	}
	free((void *)(uintptr_t)quantised.data);
	lab->tensors[0] = *plain;
	lab_clear(lab);
}

static void test_linear(void **state)
{
	static const int blocks_of_32[] = {1, 3, 10, 20, 40, 72, 90, 97};
	static const int blocks_of_256[] = {1, 2, 3, 5, 8, 9, 10, 12, 19, 20};
	static const int rows[] = {1, 3, 8, 17, 40, 64};

	for (size_t t = 0; t < TYPES; t++) {
		const bool small = sdk_type_block(types[t].type).elements == 32;
		const size_t n = small ? sizeof(blocks_of_32) / sizeof(int)
				       : sizeof(blocks_of_256) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			const int columns = small ? 32 * blocks_of_32[i] : 256 * blocks_of_256[i];
			struct lab lab = {.state = t * 991 + i * 17 + 5};
			struct sdk_tensor plain;

			lab_input(&lab,
				  (struct sdk_shape){1 + (int)i % 2, 1, 1 + (int)i * 3, columns}, 1,
				  0);
			add_weight(&lab, types[t].type, 2,
				   (const int64_t[]){rows[(i + t) % 6], columns}, &plain);
			compare(*state, &lab, &plain, record_linear, types[t].name);
		}
	}
}

/* Rows of 9 c numbers: whole blocks, and such as begin within one. */
static void test_conv2d(void **state)
{
	static const int64_t shapes[][4] = {{3, 256, 3, 3}, {16, 32, 1, 1},  {64, 4, 3, 3},
					    {32, 40, 3, 3}, {128, 10, 1, 1}, {8, 320, 3, 3},
					    {1, 256, 1, 1}, {24, 32, 3, 3}};

	for (size_t t = 0; t < TYPES; t++)
		for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
			const int64_t *shape = shapes[i];
			const size_t count = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
			struct lab lab = {.state = t * 577 + i * 29 + 3};
			struct sdk_tensor plain;

			if (count % sdk_type_block(types[t].type).elements != 0)
				continue;
			lab_input(&lab, (struct sdk_shape){1, 5, 6, (int)shape[1]}, 1, 0);
			add_weight(&lab, types[t].type, 4, shape, &plain);
			compare(*state, &lab, &plain, record_conv, types[t].name);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_conv2d),
	};

	if (argc > 2) {
		isa = argv[1];
		dtype = argv[2];
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
