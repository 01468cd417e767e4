/*
 * torch's CPU generator and CUDA's Philox stream: see rng.h for why. The CPU half follows what ATen
 * does for float32 normals: from 16 elements on, Box-Muller over blocks of 16 uniforms (cosines in
 * the first eight places, sines in the last eight); below 16, pairs in double with the second half
 * of a pair kept for the next call. mt19937: Matsumoto & Nishimura 1998; Philox4x32-10: Salmon et
 * al. 2011.
 */
#include "daemon/engine/rng.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "daemon/engine/error.h"

#define MT_SHIFT  397
#define BLOCK	  16
#define RNG_MAGIC 0x31474e52u /* "RNG1" */

struct rng_state {
	uint32_t magic;
	uint32_t kind;
	uint32_t next;
	uint32_t call;
	uint32_t has_cached_normal;
	uint32_t mt[SDE_MT19937_WORDS];
	double cached_normal;
	uint64_t key;
};

void sde_rng_seed(struct sde_rng *rng, enum sde_rng_kind kind, uint64_t seed)
{
	memset(rng, 0, sizeof(*rng));
	rng->kind = kind;
	rng->key = seed;
	rng->next = SDE_MT19937_WORDS;
	rng->mt[0] = (uint32_t)seed;
	for (uint32_t i = 1; i < SDE_MT19937_WORDS; i++) {
		uint32_t prev = rng->mt[i - 1];

		rng->mt[i] = 1812433253u * (prev ^ (prev >> 30)) + i;
	}
}

static void mt_refill(struct sde_rng *rng)
{
	uint32_t *mt = rng->mt;

	for (size_t i = 0; i < SDE_MT19937_WORDS; i++) {
		uint32_t next = mt[(i + 1) % SDE_MT19937_WORDS];
		uint32_t y = (mt[i] & 0x80000000u) | (next & 0x7fffffffu);

		mt[i] = mt[(i + MT_SHIFT) % SDE_MT19937_WORDS] ^ (y >> 1) ^
			((y & 1) ? 0x9908b0dfu : 0);
	}
	rng->next = 0;
}

uint32_t sde_rng_u32(struct sde_rng *rng)
{
	uint32_t y;

	if (rng->kind != SDE_RNG_TORCH_CPU)
		return 0;
	if (rng->next >= SDE_MT19937_WORDS)
		mt_refill(rng);
	y = rng->mt[rng->next++];
	y ^= y >> 11;
	y ^= (y << 7) & 0x9d2c5680u;
	y ^= (y << 15) & 0xefc60000u;
	return y ^ (y >> 18);
}

float sde_rng_uniform(struct sde_rng *rng)
{
	return (float)(sde_rng_u32(rng) & 0xffffffu) * 0x1p-24f;
}

double sde_rng_uniform_double(struct sde_rng *rng)
{
	uint64_t high = sde_rng_u32(rng);
	uint64_t low = sde_rng_u32(rng);

	return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

static void normal_block(float *data)
{
	for (int j = 0; j < BLOCK / 2; j++) {
		float u1 = 1.0f - data[j];
		float theta = 2.0f * (float)M_PI * data[j + BLOCK / 2];
		float radius = sqrtf(-2.0f * logf(u1));

		data[j] = radius * cosf(theta);
		data[j + BLOCK / 2] = radius * sinf(theta);
	}
}

static float normal_single(struct sde_rng *rng)
{
	double u1, u2, radius, theta;

	if (rng->has_cached_normal) {
		rng->has_cached_normal = false;
		return (float)rng->cached_normal;
	}
	u1 = sde_rng_uniform_double(rng);
	u2 = sde_rng_uniform_double(rng);
	radius = sqrt(-2.0 * log1p(-u2));
	theta = 2.0 * M_PI * u1;
	rng->cached_normal = radius * sin(theta);
	rng->has_cached_normal = true;
	return (float)(radius * cos(theta));
}

static void torch_cpu_randn(struct sde_rng *rng, float *out, size_t n)
{
	size_t i;

	if (n < BLOCK) {
		for (i = 0; i < n; i++)
			out[i] = normal_single(rng);
		return;
	}
	for (i = 0; i < n; i++)
		out[i] = sde_rng_uniform(rng);
	for (i = 0; i + BLOCK <= n; i += BLOCK)
		normal_block(out + i);
	if (n % BLOCK) {
		/* torch redraws the last 16 places whole instead of finishing a short block */
		float *tail = out + n - BLOCK;

		for (i = 0; i < BLOCK; i++)
			tail[i] = sde_rng_uniform(rng);
		normal_block(tail);
	}
}

void sde_philox_words(const uint32_t counter[4], uint64_t key, uint32_t ret_words[4])
{
	uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
	uint32_t key_low = (uint32_t)key, key_high = (uint32_t)(key >> 32);

	for (int round = 0; round < 10; round++) {
		uint64_t first = (uint64_t)0xD2511F53u * c[0];
		uint64_t second = (uint64_t)0xCD9E8D57u * c[2];

		c[0] = (uint32_t)(second >> 32) ^ c[1] ^ key_low;
		c[1] = (uint32_t)second;
		c[2] = (uint32_t)(first >> 32) ^ c[3] ^ key_high;
		c[3] = (uint32_t)first;
		key_low += 0x9E3779B9u;
		key_high += 0xBB67AE85u;
	}
	memcpy(ret_words, c, sizeof(c));
}

static void philox_randn(struct sde_rng *rng, float *out, size_t n)
{
	/* curand's float constants, used in double as the published replica does */
	const double scale = 2.3283064e-10f;
	const double scale_2pi = 2.3283064e-10f * 6.2831855f;

	for (size_t i = 0; i < n; i++) {
		uint32_t counter[4] = {rng->call, 0, (uint32_t)i, 0}, words[4];
		double u, v;

		sde_philox_words(counter, rng->key, words);
		u = words[0] * scale + scale / 2;
		v = words[1] * scale_2pi + scale_2pi / 2;
		out[i] = (float)(sqrt(-2.0 * log(u)) * sin(v));
	}
	rng->call++;
}

void sde_rng_randn(struct sde_rng *rng, float *out, size_t n)
{
	if (rng->kind == SDE_RNG_PHILOX)
		philox_randn(rng, out, n);
	else
		torch_cpu_randn(rng, out, n);
}

int sde_rng_noise(void *userdata, float *out, size_t n)
{
	sde_rng_randn(userdata, out, n);
	return 0;
}

size_t sde_rng_state_size(void)
{
	return sizeof(struct rng_state);
}

void sde_rng_state_save(const struct sde_rng *rng, void *buffer)
{
	struct rng_state state;

	memset(&state, 0, sizeof(state));
	state.magic = RNG_MAGIC;
	state.kind = rng->kind;
	state.next = rng->next;
	state.call = rng->call;
	state.has_cached_normal = rng->has_cached_normal;
	memcpy(state.mt, rng->mt, sizeof(state.mt));
	state.cached_normal = rng->cached_normal;
	state.key = rng->key;
	memcpy(buffer, &state, sizeof(state));
}

int sde_rng_state_load(struct sde_rng *rng, const void *buffer, size_t size,
		       struct sde_error *error)
{
	struct rng_state state;

	if (size != sizeof(state))
		return sde_error_set(error, -EBADMSG,
				     "saved generator state has %zu bytes, expected %zu", size,
				     sizeof(state));
	memcpy(&state, buffer, sizeof(state));
	if (state.magic != RNG_MAGIC || state.kind > SDE_RNG_PHILOX ||
	    state.next > SDE_MT19937_WORDS || state.has_cached_normal > 1)
		return sde_error_set(error, -EBADMSG,
				     "saved generator state is not one of this program");
	memset(rng, 0, sizeof(*rng));
	rng->kind = (enum sde_rng_kind)state.kind;
	rng->next = state.next;
	rng->call = state.call;
	rng->has_cached_normal = state.has_cached_normal;
	memcpy(rng->mt, state.mt, sizeof(rng->mt));
	rng->cached_normal = state.cached_normal;
	rng->key = state.key;
	return 0;
}
