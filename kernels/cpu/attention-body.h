/*
 * Streaming attention (Dao et al., "FlashAttention", 2022; Milakov & Gimelshein, "Online normalizer calculation for softmax",
 * 2018) for one instruction set: blocks of keys pass by a slice of queries that keeps a running maximum, a running sum and
 * the unnormalised output; the score matrix never exists beyond one block.
 *
 * Both products are one register tile, TILE_ROWS x (vectors of columns), over "units": a unit is one float, or, with
 * SDK_PAIRS, two bfloat16 for the processor's dot product (float32 accumulation). Keys are packed transposed,
 * (dim units) x (KEY_BLOCK); values as (KEY_BLOCK units) x (dim padded to whole vectors).
 * The including file sets SDK_LANES; scores are in powers of two, because 2^x is cheaper than e^x.
 */
#include <math.h>

#include "kernels/cpu/vector.h"

#if defined(SDK_PAIRS)
typedef uint32_t unit;
#define PER_UNIT 2
#else
typedef float unit;
#define PER_UNIT 1
#endif

#define TILE_ROWS 6
#if SDK_LANES == 16
#define TILE_VECTORS 4
#else
#define TILE_VECTORS 2
#endif
#define KEY_BLOCK ((size_t)64)

_Static_assert(SDK_ATTEND_QUERIES % TILE_ROWS == 0, "a slice is whole tiles");
_Static_assert(KEY_BLOCK % (TILE_VECTORS * SDK_LANES) == 0, "a block of keys is whole tiles");

static size_t units(size_t n)
{
	return (n + PER_UNIT - 1) / PER_UNIT;
}

static size_t padded(size_t dim)
{
	return (dim + SDK_LANES - 1) / SDK_LANES * SDK_LANES;
}

#if defined(SDK_PAIRS)
INLINE vf multiply_add(vf sum, unit a, const unit *b)
{
	return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a),
				    (__m512bh)_mm512_loadu_si512(b));
}
#else
INLINE vf multiply_add(vf sum, unit a, const unit *b)
{
	return sum + a * load_floats(b);
}
#endif

/* c (TILE_ROWS x vectors) = or += a (TILE_ROWS x k units) b (k units x vectors) */
INLINE void tile(const unit *a, size_t lda, const unit *b, size_t ldb, float *c, size_t ldc,
		 size_t k, const int vectors, const bool accumulate)
{
	vf sum[TILE_ROWS][TILE_VECTORS];

#pragma GCC unroll 6
	for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < vectors; j++)
			sum[i][j] = accumulate ? load_floats(c + (size_t)i * ldc + j * SDK_LANES)
					       : (vf){0};
	for (size_t p = 0; p < k; p++)
#pragma GCC unroll 6
		for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 4
			for (int j = 0; j < vectors; j++)
				sum[i][j] = multiply_add(sum[i][j], a[(size_t)i * lda + p],
							 b + p * ldb + j * SDK_LANES);
#pragma GCC unroll 6
	for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < vectors; j++)
			store_floats(c + (size_t)i * ldc + j * SDK_LANES, sum[i][j]);
}

static void score_tiles(const unit *q, const unit *keys, float *scores, size_t dim_units)
{
	for (size_t j = 0; j < KEY_BLOCK; j += TILE_VECTORS * SDK_LANES)
		tile(q, dim_units, keys + j, KEY_BLOCK, scores + j, KEY_BLOCK, dim_units,
		     TILE_VECTORS, false);
}

static void output_tiles(const unit *p, const unit *values, float *out, size_t wide,
			 size_t key_units)
{
	size_t j = 0;

	for (; j + TILE_VECTORS * SDK_LANES <= wide; j += TILE_VECTORS * SDK_LANES)
		tile(p, KEY_BLOCK / PER_UNIT, values + j, wide, out + j, wide, key_units,
		     TILE_VECTORS, true);
#if TILE_VECTORS == 4
	if (wide - j == 3 * SDK_LANES)
		tile(p, KEY_BLOCK / PER_UNIT, values + j, wide, out + j, wide, key_units, 3, true);
	if (wide - j == 2 * SDK_LANES)
		tile(p, KEY_BLOCK / PER_UNIT, values + j, wide, out + j, wide, key_units, 2, true);
#endif
	if (wide - j == SDK_LANES)
		tile(p, KEY_BLOCK / PER_UNIT, values + j, wide, out + j, wide, key_units, 1, true);
}

static float float_at(enum sdk_type type, const void *p, size_t i)
{
	uint32_t bits;
	float f;

	if (type == SDK_F32)
		return ((const float *)p)[i];
	bits = (uint32_t)((const uint16_t *)p)[i] << 16;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

#if defined(SDK_PAIRS)
static uint32_t half_at(enum sdk_type type, const void *p, size_t i)
{
	float f;
	uint32_t bits;

	if (type == SDK_BF16)
		return ((const uint16_t *)p)[i];
	f = ((const float *)p)[i];
	memcpy(&bits, &f, sizeof(bits));
	return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#endif

static void attention_sizes(size_t dim, struct sdk_attention_sizes *ret)
{
	const size_t wide = padded(dim);

	ret->key_block = KEY_BLOCK;
	ret->block_keys = units(dim) * KEY_BLOCK * sizeof(unit);
	ret->block_values = KEY_BLOCK / PER_UNIT * wide * sizeof(unit);
	ret->work = SDK_ATTEND_QUERIES *
		    (units(dim) * sizeof(unit) + KEY_BLOCK * (sizeof(float) + sizeof(unit)) +
		     wide * sizeof(float) + 2 * sizeof(float));
}

static void pack_keys(enum sdk_type type, const void *k, size_t stride, size_t n, size_t dim,
		      void *packed)
{
	unit *out = packed;

	memset(out, 0, units(dim) * KEY_BLOCK * sizeof(*out));
	for (size_t j = 0; j < n; j++) {
#if defined(SDK_PAIRS)
		for (size_t d = 0; d < dim; d++)
			out[d / 2 * KEY_BLOCK + j] |= half_at(type, k, j * stride + d)
						      << (d % 2 * 16);
#else
		for (size_t d = 0; d < dim; d++)
			out[d * KEY_BLOCK + j] = float_at(type, k, j * stride + d);
#endif
	}
}

static void pack_values(enum sdk_type type, const void *v, size_t stride, size_t n, size_t dim,
			void *packed)
{
	const size_t wide = padded(dim);
	unit *out = packed;

	memset(out, 0, KEY_BLOCK / PER_UNIT * wide * sizeof(*out));
	for (size_t j = 0; j < n; j++) {
#if defined(SDK_PAIRS)
		for (size_t d = 0; d < dim; d++)
			out[j / 2 * wide + d] |= half_at(type, v, j * stride + d) << (j % 2 * 16);
#else
		for (size_t d = 0; d < dim; d++)
			out[j * wide + d] = float_at(type, v, j * stride + d);
#endif
	}
}

#define LOG2_E 1.44269504f

/* Queries times scale * log2(e) as rows of units; missing rows are zero. */
static void pack_queries(const struct sdk_attend *a, size_t rows, unit *q)
{
	const float factor = a->scale * LOG2_E;
	const size_t dim_units = units(a->dim);

	memset(q, 0, rows * dim_units * sizeof(*q));
	for (size_t i = 0; i < a->queries; i++) {
		for (size_t d = 0; d < a->dim; d++) {
			const float f = float_at(a->type, a->q, i * a->stride + d) * factor;
#if defined(SDK_PAIRS)
			q[i * dim_units + d / 2] |= half_at(SDK_F32, &f, 0) << (d % 2 * 16);
#else
			q[i * dim_units + d] = f;
#endif
		}
	}
}

/* One row of a block: scores to weights 2^(s - max), with output and sum rescaled when the maximum rises. */
INLINE void soften(float *scores, size_t seen, unit *p, float *max, float *sum, float *out,
		   size_t wide)
{
	vf top, total = {0};
	float high;

	for (size_t j = seen; j < KEY_BLOCK; j++)
		scores[j] = -INFINITY;
	top = load_floats(scores);
	for (size_t j = SDK_LANES; j < KEY_BLOCK; j += SDK_LANES)
		top = vmax(top, load_floats(scores + j));
	high = *max;
	for (int l = 0; l < SDK_LANES; l++)
		high = top[l] > high ? top[l] : high;
	if (high > *max) {
		const float shrink = exp2f(*max - high);

		*max = high;
		*sum *= shrink;
		for (size_t c = 0; c < wide; c += SDK_LANES)
			store_floats(out + c, load_floats(out + c) * shrink);
	}
	for (size_t j = 0; j < KEY_BLOCK; j += SDK_LANES) {
		const vf e = exp2_of(load_floats(scores + j) - high); /* unseen: 2^-126 */
#if defined(SDK_PAIRS)
		const __m256bh halves = _mm512_cvtneps_pbh((__m512)e);

		memcpy((uint16_t *)p + j, &halves, sizeof(halves));
#else
		store_floats(p + j, e);
#endif
		total += e;
	}
	*sum += sum_lanes(total);
}

/* Scores of the slice's query `row` and the keys from `first` on. */
static void add_bias(const struct sdk_attend *a, size_t row, size_t first, size_t n, float *scores)
{
	const ptrdiff_t stride = (ptrdiff_t)a->bias_stride;
	const ptrdiff_t at = ((ptrdiff_t)first - (ptrdiff_t)(a->first_query + row)) * stride;
	const char *bias = (const char *)a->bias + at * (ptrdiff_t)sdk_type_size(a->type);

	for (size_t j = 0; j < n; j++)
		scores[j] += float_at(a->type, bias, j * a->bias_stride) * LOG2_E;
}

static void write_row(const struct sdk_attend *a, size_t row, const float *out, float sum)
{
	const float inverse = 1.0f / sum;
	const size_t at = row * a->stride;

	for (size_t c = 0; c < a->dim; c += SDK_LANES) {
		const size_t left = a->dim - c;
		const vf v = load_floats(out + c) * inverse;

		if (left < SDK_LANES)
			store_tail(a->type, a->out, at + c, left, v);
		else
			store(a->type, a->out, at + c, v);
	}
}

static void attend(const struct sdk_attend *a)
{
	const size_t rows = (a->queries + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
	const size_t dim_units = units(a->dim), wide = padded(a->dim);
	const size_t last = a->causal && a->first_query + a->queries < a->keys
				    ? a->first_query + a->queries
				    : a->keys;
	struct sdk_attention_sizes sizes;
	float *out = a->work, *scores = out + SDK_ATTEND_QUERIES * wide;
	unit *q, *p;
	float *max, *sum;

	attention_sizes(a->dim, &sizes);
	p = (unit *)(scores + SDK_ATTEND_QUERIES * KEY_BLOCK);
	q = p + SDK_ATTEND_QUERIES * KEY_BLOCK;
	max = (float *)(q + SDK_ATTEND_QUERIES * dim_units);
	sum = max + SDK_ATTEND_QUERIES;
	pack_queries(a, rows, q);
	memset(out, 0, rows * wide * sizeof(*out));
	for (size_t i = 0; i < rows; i++) {
		max[i] = -INFINITY;
		sum[i] = 0;
	}
	for (size_t block = 0, first = 0; first < last; block++, first += KEY_BLOCK) {
		const unit *keys =
			(const unit *)((const char *)a->packed_keys + block * sizes.block_keys);
		const unit *values =
			(const unit *)((const char *)a->packed_values + block * sizes.block_values);
		const size_t in_block = last - first < KEY_BLOCK ? last - first : KEY_BLOCK;

		for (size_t i = 0; i < rows; i += TILE_ROWS) {
			score_tiles(q + i * dim_units, keys, scores, dim_units);
			for (size_t r = 0; r < TILE_ROWS; r++) {
				size_t seen = in_block;

				if (a->causal && a->first_query + i + r + 1 < first + in_block)
					seen = a->first_query + i + r + 1 > first
						       ? a->first_query + i + r + 1 - first
						       : 0;
				if (a->bias && i + r < a->queries)
					add_bias(a, i + r, first, in_block, scores + r * KEY_BLOCK);
				if (seen > 0)
					soften(scores + r * KEY_BLOCK, seen,
					       p + r * (KEY_BLOCK / PER_UNIT), &max[i + r],
					       &sum[i + r], out + (i + r) * wide, wide);
				else
					memset(p + r * (KEY_BLOCK / PER_UNIT), 0,
					       KEY_BLOCK / PER_UNIT * sizeof(*p));
			}
			output_tiles(p, values, out + i * wide, wide, units(in_block));
		}
	}
	for (size_t i = 0; i < a->queries; i++)
		write_row(a, i, out + i * wide, sum[i]);
}

#define SDK_ATTENTION_KERNELS                                                                      \
	{                                                                                          \
		.sizes = attention_sizes, .pack_keys = pack_keys, .pack_values = pack_values,      \
		.attend = attend,                                                                  \
	}
