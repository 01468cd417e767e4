/*
 * Host tensors as they lie in a (memory-mapped) file: the form in which weights reach a plan. Borrowed, never freed here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sdk_type {
	SDK_F32,
	SDK_F16,
	SDK_BF16,
	SDK_I32,
	/* storage only (quants.c); a row, or for a convolution the whole weight, is a whole number of blocks */
	SDK_F8_E4M3,
	SDK_F8_E5M2,
	SDK_Q4_0,
	SDK_Q4_1,
	SDK_Q5_0,
	SDK_Q5_1,
	SDK_Q8_0,
	SDK_Q2_K,
	SDK_Q3_K,
	SDK_Q4_K,
	SDK_Q5_K,
	SDK_Q6_K,
	SDK_IQ4_NL,
	SDK_IQ4_XS,
};

/* What numbers of a type are stored in: elements together take bytes. */
struct sdk_block {
	size_t elements, bytes;
};
struct sdk_block sdk_type_block(enum sdk_type type);

/* Bytes of n numbers, n a whole number of blocks. */
static inline size_t sdk_type_bytes(enum sdk_type type, size_t n)
{
	const struct sdk_block block = sdk_type_block(type);

	return n / block.elements * block.bytes;
}

/*
 * In which form a matrix of weights stays in memory. Packed: widened once to what the backend multiplies, the fastest. In every other form it is
 * widened anew whenever it is multiplied, into memory that all ops share.
 */
enum sdk_keep {
	SDK_KEEP_AUTO,	 /* numbers in blocks or of 8 bits as stored, others packed */
	SDK_KEEP_STORED, /* as it lies in the file: no memory but the file's pages */
	SDK_KEEP_F16,
	SDK_KEEP_BF16,
	SDK_KEEP_Q8_0,
};

#define SDK_MAX_RANK 4

/* C-contiguous, native byte order, data aligned to its element. rank 0..4; unused shape entries are 0. */
struct sdk_tensor {
	const char *name; /* for messages; may be NULL */
	enum sdk_type type;
	int rank;
	int64_t shape[SDK_MAX_RANK];
	const void *data;
	float scale; /* the numbers are to be multiplied by this (scaled 8-bit floats); 0: not */
	/* The read-only file mapping that data lies in, or NULL: its pages may be given back, they come again. */
	const void *map;
	size_t map_bytes;
	/*
	 * When set, the numbers lie nowhere: fill makes them whenever a backend packs them (sdk_tensor_count floats; 0 or a
	 * negative errno), data is only the address that tells this tensor from others, and type is SDK_F32. For weights of
	 * conv2d and linear and their biases: an adapter's weights cost no memory beside their packed form.
	 */
	int (*fill)(const struct sdk_tensor *tensor, float *out);
	enum sdk_keep keep; /* weights of conv2d and linear */
};

/* Bytes of one number of a type that is not stored in blocks. */
static inline size_t sdk_type_size(enum sdk_type type)
{
	return type == SDK_F32 || type == SDK_I32 ? 4 : 2;
}

static inline int64_t sdk_tensor_count(const struct sdk_tensor *tensor)
{
	int64_t n = 1;

	for (int i = 0; i < tensor->rank; i++)
		n *= tensor->shape[i];
	return n;
}

static inline size_t sdk_tensor_bytes(const struct sdk_tensor *tensor)
{
	return sdk_type_bytes(tensor->type, (size_t)sdk_tensor_count(tensor));
}

/* One row of a tensor (rows, columns) that has no fill, as floats. */
void sdk_tensor_row(const struct sdk_tensor *tensor, size_t row, float *out);
/* The tensor's numbers as floats, filled or widened: 0 or a negative errno of its fill. */
int sdk_tensor_floats(const struct sdk_tensor *tensor, float *out);
/* Widen n elements of type (not I32) to float. Exact for floats; n a whole number of blocks. */
void sdk_widen(enum sdk_type type, const void *in, float *out, size_t n);
/*
 * The type in which a weight (out, in[, k, k]) rests by its `keep`: false when it is to be packed, be it that nothing else was asked for, that
 * its rows are no whole number of blocks, or that its numbers are made by fill. What is stored smaller already stays as it is.
 */
bool sdk_tensor_rests(const struct sdk_tensor *tensor, enum sdk_type *ret_type);
/* The weight's numbers in that type, sdk_type_bytes(type, count) of them. */
void sdk_tensor_rest(const struct sdk_tensor *tensor, enum sdk_type type, void *out);
/* Round n floats to what they are after resting in type (F32, F16, BF16, Q8_0; others: unchanged). In place. */
void sdk_round(enum sdk_type type, float *values, size_t n);
/*
 * Round n floats to type (F32, F16, BF16, Q8_0), to nearest even; NaN stays NaN (not in Q8_0). F16: what is too large becomes infinite. Q8_0
 * as ggml does: blocks of 32, the scale is the largest magnitude / 127 as f16.
 */
void sdk_narrow(enum sdk_type type, const float *in, void *out, size_t n);
