/*
 * Our own loops of the cpu backend, one table per instruction set: the same source (simd-body.h, attention-body.h) compiled
 * for AVX-512, AVX2 and the baseline; sdk_simd_pick() chooses by the processor at run time. Activations are float32 or
 * bfloat16; arithmetic is float32 throughout. Every function works on a slice of the data and is called by one thread; in
 * and out may be the same memory unless said otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernels/plan.h"

enum sdk_isa { SDK_ISA_BASE, SDK_ISA_AVX2, SDK_ISA_AVX512, SDK_ISA_AVX512_BF16 };

/* One attention problem after packing; all sides in elements. */
struct sdk_attend {
	enum sdk_type type; /* of q and out */
	const void *q;	    /* first query of the slice, rows q_stride apart */
	void *out;	    /* like q */
	size_t stride;
	size_t queries, keys; /* queries: at most SDK_ATTEND_QUERIES */
	size_t dim;
	size_t first_query; /* position of q for the causal mask */
	bool causal;
	float scale;
	const void *bias; /* of query 0 and key 0, or NULL; key j and query i: row j - i, in type */
	size_t bias_stride;			 /* from a row to the next */
	const void *packed_keys, *packed_values; /* sdk_attention_sizes says how large */
	void *work;
};

#define SDK_ATTEND_QUERIES                                                                         \
	96 /* per slice; a multiple of the tile height of every instruction set */

struct sdk_attention_sizes {
	size_t key_block;    /* keys a block holds; pack functions work on one block */
	size_t block_keys;   /* bytes of a packed block of keys */
	size_t block_values; /* bytes of a packed block of values */
	size_t work;	     /* bytes of work memory per thread */
};

struct sdk_attention_kernels {
	void (*sizes)(size_t dim, struct sdk_attention_sizes *ret);
	/* n keys (at most key_block), rows stride elements apart; the rest of the block is zeroed. */
	void (*pack_keys)(enum sdk_type type, const void *k, size_t stride, size_t n, size_t dim,
			  void *packed);
	void (*pack_values)(enum sdk_type type, const void *v, size_t stride, size_t n, size_t dim,
			    void *packed);
	void (*attend)(const struct sdk_attend *a);
};

struct sdk_simd {
	const char *name;
	void (*activate)(enum sdk_type type, enum sdk_activation activation, const void *x, void *y,
			 size_t n);
	void (*affine)(enum sdk_type type, float scale, float shift, const void *x, void *y,
		       size_t n);
	/* y = a + b, or a * b */
	void (*add)(enum sdk_type type, const void *a, const void *b, void *y, size_t n);
	void (*mul)(enum sdk_type type, const void *a, const void *b, void *y, size_t n);
	/* x (rows, 2c) -> y (rows, c); not in place */
	void (*geglu)(enum sdk_type type, const void *x, void *y, size_t rows, size_t c);
	/* weight and bias float32, bias NULL allowed */
	void (*layer_norm)(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
			   const float *weight, const float *bias, float eps);
	void (*rms_norm)(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
			 const float *weight, float eps);
	/* One token, heads x d: pairs turned by d cosines and d sines, each written twice. d is even. */
	void (*rope)(enum sdk_type type, const void *x, void *y, size_t heads, size_t d,
		     const float *cosines, const float *sines);
	/* Per channel sums over rows of (x - shift) and of its square; shift is row 0 of pixel0. */
	void (*moments)(enum sdk_type type, const void *x, const void *pixel0, size_t rows,
			size_t c, float *sum, float *square);
	/* y = x * scale[c] + shift[c], through silu if told */
	void (*scale_rows)(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
			   const float *scale, const float *shift, bool silu);
	struct sdk_attention_kernels attention;
};

extern const struct sdk_simd sdk_simd_base, sdk_simd_avx2, sdk_simd_avx512;
extern const struct sdk_attention_kernels sdk_attention_avx512_bf16;

/* Best instruction set of this processor that is not above limit. */
enum sdk_isa sdk_isa_pick(enum sdk_isa limit);
const struct sdk_simd *sdk_simd_for(enum sdk_isa isa);
