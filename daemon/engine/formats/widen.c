/*
 * Widening stored weights to float, for what is computed once on load and for tests; the backends convert on their own.
 * Data of a safetensors file may be unaligned, so elements are copied out byte-wise.
 */
#include <errno.h>
#include <string.h>

#include "daemon/engine/formats/safetensors.h"

static float from_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static float from_f16(uint16_t half)
{
	const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
	const uint32_t exponent = half >> 10 & 0x1f;
	const uint32_t mantissa = half & 0x3ff;

	if (exponent == 0x1f) /* infinity, NaN */
		return from_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent == 0) { /* zero, subnormal: mantissa * 2^-24 is exact in float */
		float value = (float)mantissa * 0x1p-24f;

		return sign ? -value : value;
	}
	return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

int sde_tensor_to_f32(const struct sde_tensor *tensor, float *out, struct sde_error *error)
{
	const char *data = tensor->data;
	uint16_t half;
	double wide;

	switch (tensor->dtype) {
	case SDE_DTYPE_F32:
		memcpy(out, data, tensor->bytes);
		return 0;
	case SDE_DTYPE_F16:
	case SDE_DTYPE_BF16:
		for (size_t i = 0; i < tensor->count; i++) {
			memcpy(&half, data + 2 * i, 2);
			out[i] = tensor->dtype == SDE_DTYPE_F16 ? from_f16(half)
								: from_bits((uint32_t)half << 16);
		}
		return 0;
	case SDE_DTYPE_F64:
		for (size_t i = 0; i < tensor->count; i++) {
			memcpy(&wide, data + 8 * i, 8);
			out[i] = (float)wide;
		}
		return 0;
	default:
		return sde_error_set(error, -ENOTSUP,
				     "%s: tensor '%s' is %s; expected F32, F16, BF16 or F64",
				     tensor->file, tensor->name, sde_dtype_name(tensor->dtype));
	}
}
