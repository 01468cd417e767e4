/*
 * Host tensors as they lie in a (memory-mapped) file: the form in which weights reach a plan. Borrowed, never freed here.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sdk_type { SDK_F32, SDK_F16, SDK_BF16, SDK_I32 };

#define SDK_MAX_RANK 4

/* C-contiguous, native byte order, data aligned to its element. rank 0..4; unused shape entries are 0. */
struct sdk_tensor {
	const char *name; /* for messages; may be NULL */
	enum sdk_type type;
	int rank;
	int64_t shape[SDK_MAX_RANK];
	const void *data;
	/*
	 * When set, the numbers lie nowhere: fill makes them whenever a backend packs them (sdk_tensor_count floats; 0 or a
	 * negative errno), data is only the address that tells this tensor from others, and type is SDK_F32. For weights of
	 * conv2d and linear and their biases: an adapter's weights cost no memory beside their packed form.
	 */
	int (*fill)(const struct sdk_tensor *tensor, float *out);
};

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

/* The tensor's numbers as floats, filled or widened: 0 or a negative errno of its fill. */
int sdk_tensor_floats(const struct sdk_tensor *tensor, float *out);
/* Widen n elements of type (not I32) to float. Exact. */
void sdk_widen(enum sdk_type type, const void *in, float *out, size_t n);
/* Round n floats to type (F32, BF16), to nearest even; NaN stays NaN. */
void sdk_narrow(enum sdk_type type, const float *in, void *out, size_t n);
