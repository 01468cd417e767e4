/*
 * Random numbers that reproduce torch: the CPU generator (mt19937, `torch.Generator("cpu")`) and
 * the Philox stream that CUDA's torch.randn uses for small tensors. Seeds of other people's
 * pictures only mean something if these agree bit for bit in the integers; the normals agree to the
 * last bits of logf/sinf/cosf.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sde_error;

enum sde_rng_kind {
	SDE_RNG_TORCH_CPU,
	SDE_RNG_PHILOX,
};

#define SDE_MT19937_WORDS 624

/*
 * A generator is plain data: copying the struct copies the stream, and its bytes may be stored to
 * resume a job (see sde_rng_state_save for a form that is checked when it comes back).
 */
struct sde_rng {
	enum sde_rng_kind kind;
	uint32_t next; /* TORCH_CPU: words of the current table already used, 0..624 */
	uint32_t mt[SDE_MT19937_WORDS]; /* TORCH_CPU: table */
	bool has_cached_normal;		/* TORCH_CPU: second value of a Box-Muller pair */
	double cached_normal;
	uint64_t key;  /* PHILOX: the seed */
	uint32_t call; /* PHILOX: calls of randn so far */
};

/* TORCH_CPU uses only the low 32 bits of the seed, as torch does; PHILOX all 64. */
void sde_rng_seed(struct sde_rng *rng, enum sde_rng_kind kind, uint64_t seed);

/*
 * One torch.randn of n elements. The result depends on n, not only on the stream position
 * (16-element blocks from n = 16 on), so draw whole tensors at once: a batch from one generator is
 * ONE call.
 */
void sde_rng_randn(struct sde_rng *rng, float *out, size_t n);

/*
 * TORCH_CPU: next raw 32-bit word, 24-bit uniform float [0,1), 53-bit uniform double [0,1). 0 for
 * PHILOX.
 */
uint32_t sde_rng_u32(struct sde_rng *rng);
float sde_rng_uniform(struct sde_rng *rng);
double sde_rng_uniform_double(struct sde_rng *rng);

/* sde_noise_fn with a struct sde_rng as userdata. */
int sde_rng_noise(void *userdata, float *out, size_t n);

/* Philox4x32-10: the four output words for a counter and a 64-bit key. */
void sde_philox_words(const uint32_t counter[4], uint64_t key, uint32_t ret_words[4]);

/*
 * Save to / load from a byte buffer of sde_rng_state_size() bytes; load: -EBADMSG if it is not one,
 * *rng untouched.
 */
size_t sde_rng_state_size(void);
void sde_rng_state_save(const struct sde_rng *rng, void *buffer);
int sde_rng_state_load(struct sde_rng *rng, const void *buffer, size_t size,
		       struct sde_error *error);
