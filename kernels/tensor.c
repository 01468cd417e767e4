/*
 * Conversions between stored and computed number types; see tensor.h. Written so that the compiler vectorises them.
 */
#include "kernels/tensor.h"

#include <string.h>

#include "kernels/simd.h"

static inline float bf16_to_f32(uint16_t value)
{
	const uint32_t bits = (uint32_t)value << 16;
	float out;

	memcpy(&out, &bits, sizeof(out));
	return out;
}

/* Exact for every half: the exponent is rebased by a multiplication, which also normalises subnormals. */
static inline float f16_to_f32(uint16_t value)
{
	const uint32_t magnitude = (uint32_t)(value & 0x7fff) << 13,
		       sign = (uint32_t)(value & 0x8000) << 16;
	const uint32_t special = (value & 0x7c00) == 0x7c00 ? 0x70000000u : 0;
	float out;
	uint32_t bits;

	memcpy(&out, &magnitude, sizeof(out));
	out *= 0x1p112f;
	memcpy(&bits, &out, sizeof(bits));
	bits = special ? (magnitude + special) | sign : bits | sign;
	memcpy(&out, &bits, sizeof(out));
	return out;
}

static inline uint16_t f32_to_bf16(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

SDK_CLONES void sdk_widen(enum sdk_type type, const void *in, float *out, size_t n)
{
	const uint16_t *half = in;

	if (type == SDK_F32) {
		memcpy(out, in, n * sizeof(*out));
	} else if (type == SDK_BF16) {
		for (size_t i = 0; i < n; i++)
			out[i] = bf16_to_f32(half[i]);
	} else if (type == SDK_F16) {
		for (size_t i = 0; i < n; i++)
			out[i] = f16_to_f32(half[i]);
	} else {
		sdk_dequantize(type, in, out, n);
	}
}

SDK_CLONES void sdk_narrow(enum sdk_type type, const float *in, void *out, size_t n)
{
	uint16_t *half = out;

	if (type == SDK_F32) {
		memcpy(out, in, n * sizeof(*in));
		return;
	}
	for (size_t i = 0; i < n; i++)
		half[i] = f32_to_bf16(in[i]);
}

static void rescale(const struct sdk_tensor *tensor, float *values, size_t n)
{
	for (size_t i = 0; tensor->scale != 0 && i < n; i++)
		values[i] *= tensor->scale;
}

void sdk_tensor_row(const struct sdk_tensor *tensor, size_t row, float *out)
{
	const size_t columns = (size_t)tensor->shape[1];

	sdk_widen(tensor->type,
		  (const char *)tensor->data + row * sdk_type_bytes(tensor->type, columns), out,
		  columns);
	rescale(tensor, out, columns);
}

int sdk_tensor_floats(const struct sdk_tensor *tensor, float *out)
{
	if (tensor->fill)
		return tensor->fill(tensor, out);
	sdk_widen(tensor->type, tensor->data, out, (size_t)sdk_tensor_count(tensor));
	rescale(tensor, out, (size_t)sdk_tensor_count(tensor));
	return 0;
}
