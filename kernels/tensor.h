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

/* Widen n elements of type (not I32) to float. Exact. */
void sdk_widen(enum sdk_type type, const void *in, float *out, size_t n);
/* Round n floats to type (F32, BF16), to nearest even; NaN stays NaN. */
void sdk_narrow(enum sdk_type type, const float *in, void *out, size_t n);
