/*
 * The vector vocabulary of simd-body.h and attention-body.h: SDK_LANES floats at once, in the compiler's vector types, so
 * that one source serves every instruction set. Included only by the simd-*.c files, which set SDK_LANES.
 */
#pragma once

#include <stdint.h>
#include <string.h>
#if SDK_LANES > 4
#include <immintrin.h>
#endif

#include "kernels/cpu/simd.h"

typedef float vf __attribute__((vector_size(SDK_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(SDK_LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(SDK_LANES * 4)));
typedef uint64_t vpair __attribute__((vector_size(SDK_LANES * 4))); /* two floats each */
typedef uint16_t vh __attribute__((vector_size(SDK_LANES * 2)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf splat(float x)
{
	return x - (vf){0};
}

INLINE vf load_floats(const float *p)
{
	vf v;

	memcpy(&v, p, sizeof(v));
	return v;
}

INLINE void store_floats(float *p, vf v)
{
	memcpy(p, &v, sizeof(v));
}

INLINE vf choose(vi mask, vf yes, vf no)
{
	return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* When either is NaN: b. */
INLINE vf vmax(vf a, vf b)
{
#if SDK_LANES == 16
	return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif SDK_LANES == 8
	return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
	return choose(a > b, a, b);
#endif
}

INLINE vf vmin(vf a, vf b)
{
#if SDK_LANES == 16
	return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif SDK_LANES == 8
	return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
	return choose(a < b, a, b);
#endif
}

INLINE vf from_bf16(vh h)
{
	return (vf)(__builtin_convertvector(h, vu) << 16);
}

/* To nearest even; NaN stays NaN. */
INLINE vh to_bf16(vf v)
{
	const vu bits = (vu)v;
	const vu rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
	const vu nan = (vu)(v != v);

	return __builtin_convertvector((nan & (bits >> 16 | 0x40)) | (~nan & rounded), vh);
}

/* Element i of an array of type, SDK_LANES of them. */
INLINE vf load(enum sdk_type type, const void *p, size_t i)
{
	vh h;

	if (type == SDK_F32)
		return load_floats((const float *)p + i);
	memcpy(&h, (const uint16_t *)p + i, sizeof(h));
	return from_bf16(h);
}

INLINE void store(enum sdk_type type, void *p, size_t i, vf v)
{
	vh h;

	if (type == SDK_F32) {
		store_floats((float *)p + i, v);
		return;
	}
	h = to_bf16(v);
	memcpy((uint16_t *)p + i, &h, sizeof(h));
}

/* The same for the last n < SDK_LANES elements; missing lanes read as 0. */
INLINE vf load_tail(enum sdk_type type, const void *p, size_t i, size_t n)
{
	float buffer[SDK_LANES] = {0};
	uint16_t halves[SDK_LANES] = {0};

	if (type == SDK_F32) {
		memcpy(buffer, (const float *)p + i, n * sizeof(float));
		return load_floats(buffer);
	}
	memcpy(halves, (const uint16_t *)p + i, n * sizeof(uint16_t));
	return load(type, halves, 0);
}

INLINE void store_tail(enum sdk_type type, void *p, size_t i, size_t n, vf v)
{
	float buffer[SDK_LANES];

	store(type, buffer, 0, v);
	if (type == SDK_F32)
		memcpy((float *)p + i, buffer, n * sizeof(float));
	else
		memcpy((uint16_t *)p + i, buffer, n * sizeof(uint16_t));
}

/* (a, b, c, d ...) -> (b, a, d, c ...) */
INLINE vf swap_pairs(vf v)
{
	return (vf)((vpair)v >> 32 | (vpair)v << 32);
}

/* (a, b, c, d ...) -> (-a, b, -c, d ...) */
INLINE vf negate_even(vf v)
{
	return (vf)((vpair)v ^ 0x80000000u);
}

INLINE float sum_lanes(vf v)
{
	float s = 0;

	for (int i = 0; i < SDK_LANES; i++)
		s += v[i];
	return s;
}

/*
 * 2^x for x in [-126, 127] (clamped), relative error below 2e-7: the polynomial of Cephes' exp2f for the fraction in
 * [-0.5, 0.5]; adding the magic number rounds x and leaves its integer in the low bits, which go into the exponent.
 */
INLINE vf exp2_of(vf x)
{
	const vf magic = splat(0x1.8p23f);
	vf n, r, p;

	x = vmin(splat(127.0f), vmax(splat(-126.0f), x));
	n = x + magic;
	r = x - (n - magic);
	p = r * 1.535336188e-4f + 1.339887440e-3f;
	p = p * r + 9.618437357e-3f;
	p = p * r + 5.550332471e-2f;
	p = p * r + 2.402264791e-1f;
	p = p * r + 6.931472028e-1f;
	p = p * r + 1.0f;
	return (vf)((vi)p + ((vi)n << 23));
}

/* The rounding of the product makes the relative error grow with |x|: 1e-6 at 10, where e^x hardly counts any more. */
INLINE vf exp_of(vf x)
{
	return exp2_of(x * 1.44269504f);
}

INLINE vf sigmoid_of(vf x)
{
	return 1.0f / (1.0f + exp_of(-x));
}

INLINE vf tanh_of(vf x)
{
	return 1.0f - 2.0f / (exp_of(2.0f * x) + 1.0f);
}

/* x/2 (1 + erf(x / sqrt 2)); erf by Abramowitz & Stegun 7.1.26, absolute error below 2e-7. */
INLINE vf gelu_of(vf x)
{
	const vf z = x * 0.707106781f, a = (vf)((vi)z & 0x7fffffff);
	const vf t = 1.0f / (1.0f + 0.3275911f * a);
	vf p = t * 1.061405429f - 1.453152027f;
	vf tail;

	p = p * t + 1.421413741f;
	p = p * t - 0.284496736f;
	p = p * t + 0.254829592f;
	tail = 0.5f * p * t * exp_of(-a * a); /* (1 - erf|z|) / 2 */
	return x * choose(z < 0.0f, tail, 1.0f - tail);
}

INLINE vf activation_of(enum sdk_activation activation, vf x)
{
	switch (activation) {
	case SDK_SILU:
		return x * sigmoid_of(x);
	case SDK_GELU:
		return gelu_of(x);
	case SDK_GELU_TANH:
		return x * sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x));
	case SDK_QUICK_GELU:
		return x * sigmoid_of(1.702f * x);
	case SDK_RELU:
		return vmax(x, splat(0.0f));
	case SDK_TANH:
		return tanh_of(x);
	case SDK_SIGMOID:
		return sigmoid_of(x);
	}
	return x;
}
