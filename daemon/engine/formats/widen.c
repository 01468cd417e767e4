/*
 * Widening stored weights to float, for what is computed once on load and for tests; the backends convert on their own.
 * Data of a safetensors file may be unaligned, so elements are copied out byte-wise.
 */
#include <errno.h>
#include <string.h>

#include "daemon/engine/formats/safetensors.h"
#include "kernels/tensor.h"

int sde_dtype_weights(enum sde_dtype dtype)
{
	static const int types[SDE_DTYPE_COUNT] = {
		[SDE_DTYPE_F32] = SDK_F32 + 1,	       [SDE_DTYPE_F16] = SDK_F16 + 1,
		[SDE_DTYPE_BF16] = SDK_BF16 + 1,       [SDE_DTYPE_F8_E4M3] = SDK_F8_E4M3 + 1,
		[SDE_DTYPE_F8_E5M2] = SDK_F8_E5M2 + 1, [SDE_DTYPE_Q4_0] = SDK_Q4_0 + 1,
		[SDE_DTYPE_Q4_1] = SDK_Q4_1 + 1,       [SDE_DTYPE_Q5_0] = SDK_Q5_0 + 1,
		[SDE_DTYPE_Q5_1] = SDK_Q5_1 + 1,       [SDE_DTYPE_Q8_0] = SDK_Q8_0 + 1,
		[SDE_DTYPE_Q2_K] = SDK_Q2_K + 1,       [SDE_DTYPE_Q3_K] = SDK_Q3_K + 1,
		[SDE_DTYPE_Q4_K] = SDK_Q4_K + 1,       [SDE_DTYPE_Q5_K] = SDK_Q5_K + 1,
		[SDE_DTYPE_Q6_K] = SDK_Q6_K + 1,       [SDE_DTYPE_IQ4_NL] = SDK_IQ4_NL + 1,
		[SDE_DTYPE_IQ4_XS] = SDK_IQ4_XS + 1,
	};

	return types[dtype] ? types[dtype] - 1 : -ENOTSUP;
}

#define PIECE 256 /* elements widened from an aligned copy; a multiple of every block */

static void widen(enum sdk_type type, const char *data, float *out, size_t n)
{
	_Alignas(8) char copy[PIECE * 4];

	for (size_t i = 0; i < n; i += PIECE) {
		const size_t piece = n - i < PIECE ? n - i : PIECE;
		const size_t bytes = sdk_type_bytes(type, piece);

		memcpy(copy, data, bytes);
		sdk_widen(type, copy, out + i, piece);
		data += bytes;
	}
}

int sde_tensor_to_f32(const struct sde_tensor *tensor, float *out, struct sde_error *error)
{
	const int type = sde_dtype_weights(tensor->dtype);
	const char *data = tensor->data;
	double wide;

	if (type >= 0) {
		widen((enum sdk_type)type, data, out, tensor->count);
		for (size_t i = 0; tensor->scale != 0 && i < tensor->count; i++)
			out[i] *= tensor->scale;
		return 0;
	}
	if (tensor->dtype != SDE_DTYPE_F64)
		return sde_error_set(error, -ENOTSUP,
				     "%s: tensor '%s' is %s, which holds no weights", tensor->file,
				     tensor->name, sde_dtype_name(tensor->dtype));
	for (size_t i = 0; i < tensor->count; i++) {
		memcpy(&wide, data + 8 * i, 8);
		out[i] = (float)wide;
	}
	return 0;
}
