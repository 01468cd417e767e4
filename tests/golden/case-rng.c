/*
 * kind "rng": torch's CPU generator (raw words, uniforms, normals of many sizes, sequences of
 * calls) and the Philox stream.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/rng.h"
#include "tests/golden/golden.h"

#define WORDS	     32
#define PHILOX_WORDS 8
#define COUNT_MAX    (1 << 24)

/* number of elements of a JSON list of sizes; 0 if it makes no sense */
static size_t count_of(const json_t *shape)
{
	size_t count = 1;

	for (size_t i = 0; i < json_array_size(shape); i++) {
		json_int_t size = json_integer_value(json_array_get(shape, i));

		if (size < 1 || size > COUNT_MAX)
			return 0;
		count *= (size_t)size;
		if (count > COUNT_MAX)
			return 0;
	}
	return count;
}

/* one draw of the expected tensor's shape, compared with it */
static bool draw_and_compare(struct golden_case *c, struct sde_rng *rng, const char *name)
{
	const struct golden_tensor *want = golden_input_f32(c, name);
	float *out;

	if (!want)
		return false;
	out = calloc(want->count, sizeof(*out));
	if (!out)
		return golden_fail(c, "no memory"), false;
	sde_rng_randn(rng, out, want->count);
	golden_expect_f32(c, name, out, want->rank, want->shape);
	free(out);
	return true;
}

static int philox(struct golden_case *c)
{
	uint64_t seed = strtoull(golden_param_string(c, "seed", "0"), NULL, 10);
	int32_t low[4 * PHILOX_WORDS], high[4 * PHILOX_WORDS];
	struct sde_rng rng;
	char name[32];

	for (uint32_t i = 0; i < PHILOX_WORDS; i++) {
		const uint32_t counter[4] = {0, 0, i, 0};
		uint32_t words[4];

		sde_philox_words(counter, seed, words);
		for (int w = 0; w < 4; w++) {
			low[w * PHILOX_WORDS + (int)i] = (int32_t)(words[w] & 0xffff);
			high[w * PHILOX_WORDS + (int)i] = (int32_t)(words[w] >> 16);
		}
	}
	golden_expect_i32(c, "words_lo16", low, GOLDEN_SHAPE(4, PHILOX_WORDS));
	golden_expect_i32(c, "words_hi16", high, GOLDEN_SHAPE(4, PHILOX_WORDS));
	sde_rng_seed(&rng, SDE_RNG_PHILOX, seed);
	for (size_t i = 0; i < json_array_size(golden_param(c, "calls")); i++) {
		snprintf(name, sizeof(name), "randn_call%zu", i);
		if (!draw_and_compare(c, &rng, name))
			return GOLDEN_FAIL;
	}
	return GOLDEN_PASS;
}

/* a list of generators: image i is one draw of its own from seeds[i] */
static int per_image(struct golden_case *c, const json_t *seeds)
{
	const struct golden_tensor *want = golden_input_f32(c, "randn");
	size_t images = json_array_size(seeds), each;
	float *out;

	if (!want || count_of(golden_param(c, "shape")) != want->count || want->count % images)
		return golden_fail(c, "shape does not fit the seeds");
	each = want->count / images;
	out = calloc(want->count, sizeof(*out));
	if (!out)
		return golden_fail(c, "no memory");
	for (size_t i = 0; i < images; i++) {
		struct sde_rng rng;

		sde_rng_seed(&rng, SDE_RNG_TORCH_CPU,
			     (uint64_t)json_integer_value(json_array_get(seeds, i)));
		sde_rng_randn(&rng, out + i * each, each);
	}
	golden_expect_f32(c, "randn", out, want->rank, want->shape);
	free(out);
	return GOLDEN_PASS;
}

static void compare_raw(struct golden_case *c, uint64_t seed)
{
	int32_t low[WORDS], high[WORDS];
	float uniform[WORDS];
	struct sde_rng rng;

	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, seed);
	for (int i = 0; i < WORDS; i++) {
		uint32_t word = sde_rng_u32(&rng);

		low[i] = (int32_t)(word & 0xffff);
		high[i] = (int32_t)(word >> 16);
	}
	golden_expect_i32(c, "raw_u32_lo16", low, GOLDEN_SHAPE(WORDS));
	golden_expect_i32(c, "raw_u32_hi16", high, GOLDEN_SHAPE(WORDS));
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, seed);
	for (int i = 0; i < WORDS; i++)
		uniform[i] = sde_rng_uniform(&rng);
	golden_expect_f32(c, "uniform_f32", uniform, GOLDEN_SHAPE(WORDS));
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, seed);
	for (int i = 0; i < WORDS / 4; i++)
		uniform[i] = (float)sde_rng_uniform_double(&rng);
	golden_expect_f32(c, "uniform_f64_as_f32", uniform, GOLDEN_SHAPE(WORDS / 4));
}

static int torch_cpu(struct golden_case *c)
{
	uint64_t seed = (uint64_t)golden_param_int(c, "seed", 0);
	const json_t *sequence = golden_param(c, "seq_n"), *output;
	struct sde_rng rng;
	char name[48];
	size_t i;

	compare_raw(c, seed);
	json_array_foreach (json_object_get(c->root, "outputs"), i, output) {
		const char *listed = json_string_value(json_object_get(output, "name"));

		if (!listed || strncmp(listed, "randn_", 6))
			continue;
		sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, seed);
		if (!draw_and_compare(c, &rng, listed))
			return GOLDEN_FAIL;
	}
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, seed);
	for (i = 0; i < json_array_size(sequence); i++) {
		snprintf(name, sizeof(name), "seq%zu_n%lld", i,
			 (long long)json_integer_value(json_array_get(sequence, i)));
		if (!draw_and_compare(c, &rng, name))
			return GOLDEN_FAIL;
	}
	return GOLDEN_PASS;
}

int golden_rng(struct golden_case *c)
{
	const json_t *seeds = golden_param(c, "seeds");

	if (!strcmp(golden_param_string(c, "generator", ""), "philox"))
		return philox(c);
	return json_array_size(seeds) ? per_image(c, seeds) : torch_cpu(c);
}
