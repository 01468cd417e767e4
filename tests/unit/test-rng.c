/*
 * The random numbers of daemon/engine/rng.c against torch 2.15: raw words bit for bit, normals to
 * the last bits of the math library, the hidden state (cached half of a pair) across calls, and
 * resuming from saved state.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/engine/error.h"
#include "daemon/engine/rng.h"

#define NORMAL_TOLERANCE 3e-6f

static void assert_close(const float *got, const float *want, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_float_equal(got[i], want[i], NORMAL_TOLERANCE);
}

static void raw_words_are_torch_s(void **state)
{
	static const uint32_t seed42[8] = {0x5fe1dc66, 0xcbea3db3, 0xf362035c, 0x2ef5950e,
					   0xbb63f46a, 0xc799d447, 0x9941aebc, 0x98cb2c14};
	struct sde_rng rng;

	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	for (int i = 0; i < 8; i++)
		assert_int_equal(sde_rng_u32(&rng), seed42[i]);
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	assert_float_equal(sde_rng_uniform(&rng), 0.882269263f, 0);
	assert_float_equal(sde_rng_uniform(&rng), 0.915003955f, 0);
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	assert_float_equal((float)sde_rng_uniform_double(&rng), 0.0581544861f, 0);
}

static void only_low_seed_bits_count_for_torch(void **state)
{
	struct sde_rng a, b;

	sde_rng_seed(&a, SDE_RNG_TORCH_CPU, 7);
	sde_rng_seed(&b, SDE_RNG_TORCH_CPU, 7 + (UINT64_C(1) << 32));
	for (int i = 0; i < 2000; i++) /* beyond three refills of the table */
		assert_int_equal(sde_rng_u32(&a), sde_rng_u32(&b));
}

static void normals_depend_on_the_count(void **state)
{
	static const float n5[2] = {0.336690366f, 0.128809407f},
			   n16[2] = {1.92691529f, 1.48728406f};
	static const float n17_end[2] = {0.859858513f, -0.309726775f};
	static const float n33_end[2] = {-0.487913877f, -1.41805995f};
	struct sde_rng rng;
	float out[33];

	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	sde_rng_randn(&rng, out, 5);
	assert_close(out, n5, 2);
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	sde_rng_randn(&rng, out, 16);
	assert_close(out, n16, 2);
	/*
	 * a count that is no multiple of 16 redraws the last 16 places: n = 17 keeps only the first
	 * value of n = 16
	 */
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	sde_rng_randn(&rng, out, 17);
	assert_close(out, n16, 1);
	assert_float_equal(out[1], -0.159597471f, NORMAL_TOLERANCE);
	assert_close(out + 15, n17_end, 2);
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	sde_rng_randn(&rng, out, 33);
	assert_close(out + 31, n33_end, 2);
}

/* torch's own sequence for seed 42; `reload` saves and loads the generator between all calls */
static void draw_sequence(bool reload)
{
	static const size_t counts[8] = {5, 3, 40, 1, 16, 18, 3, 2};
	static const float first[8] = {0.336690366f, -0.186328292f, 1.64231694f,   0.149779707f,
				       0.19707036f,  0.404814273f,  -0.208893925f, -1.28582263f};
	static const float last[8] = {-1.12285638f, -0.637997031f, -0.771777868f, 0.149779707f,
				      0.603898823f, 0.339890957f,  -0.684568524f, 0.494318724f};
	struct sde_rng rng;
	float out[40];

	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 42);
	for (int i = 0; i < 8; i++) {
		sde_rng_randn(&rng, out, counts[i]);
		assert_float_equal(out[0], first[i], NORMAL_TOLERANCE);
		assert_float_equal(out[counts[i] - 1], last[i], NORMAL_TOLERANCE);
		if (reload) {
			void *saved = malloc(sde_rng_state_size());

			assert_non_null(saved);
			sde_rng_state_save(&rng, saved);
			memset(&rng, 0x5a, sizeof(rng));
			assert_int_equal(
				sde_rng_state_load(&rng, saved, sde_rng_state_size(), NULL), 0);
			free(saved);
		}
	}
}

static void cached_half_survives_other_calls(void **state)
{
	draw_sequence(false);
}

static void saved_state_resumes_the_stream(void **state)
{
	draw_sequence(true);
}

static void foreign_bytes_are_refused(void **state)
{
	struct sde_error error = {0};
	struct sde_rng rng, before;
	char *saved = calloc(1, sde_rng_state_size());

	assert_non_null(saved);
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 1);
	before = rng;
	assert_int_equal(sde_rng_state_load(&rng, saved, sde_rng_state_size(), &error), -EBADMSG);
	assert_int_equal(sde_rng_state_load(&rng, saved, 3, &error), -EBADMSG);
	assert_memory_equal(&rng, &before, sizeof(rng));
	free(saved);
}

static void philox_matches_cuda(void **state)
{
	/* CUDA's torch.randn(12) for seed 0, as published with A1111's rng_philox */
	static const float cuda[12] = {-0.92466259f, -0.42534415f, -2.6438457f,	 0.14518388f,
				       -0.12086647f, -0.57972564f, -0.62285122f, -0.32838709f,
				       -1.07454231f, -0.36314407f, -1.67105067f, 2.26550497f};
	static const uint32_t words[4] = {0x3204c5f2, 0xae23d218, 0xa6d29cb1, 0x2fb91726};
	const uint32_t counter[4] = {0, 0, 0, 0};
	uint32_t got[4];
	struct sde_rng rng;
	float out[256];

	sde_rng_seed(&rng, SDE_RNG_PHILOX, 0);
	sde_rng_randn(&rng, out, 12);
	assert_close(out, cuda, 12);
	sde_philox_words(counter, UINT64_C(9223372036854788153), got);
	assert_memory_equal(got, words, sizeof(words));
	/* the second call continues with the call counter, not with the element counter */
	sde_rng_seed(&rng, SDE_RNG_PHILOX, UINT64_C(9223372036854788153));
	sde_rng_randn(&rng, out, 256);
	sde_rng_randn(&rng, out, 256);
	assert_float_equal(out[0], -0.208668336f, NORMAL_TOLERANCE);
	assert_float_equal(out[1], 0.993000984f, NORMAL_TOLERANCE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raw_words_are_torch_s),
		cmocka_unit_test(only_low_seed_bits_count_for_torch),
		cmocka_unit_test(normals_depend_on_the_count),
		cmocka_unit_test(cached_half_survives_other_calls),
		cmocka_unit_test(saved_state_resumes_the_stream),
		cmocka_unit_test(foreign_bytes_are_refused),
		cmocka_unit_test(philox_matches_cuda),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
