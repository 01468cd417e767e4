/*
 * Conversions between stored and computed number types; see tensor.h. Written so that the compiler vectorises them.
 */
#include "kernels/tensor.h"

#include <string.h>

#include "kernels/quants.h"
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

static void rescale(const struct sdk_tensor *tensor, float *values, size_t n)
{
	for (size_t i = 0; tensor->scale != 0 && i < n; i++)
		values[i] *= tensor->scale;
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

/* To nearest even; subnormals are rounded by adding a number whose last place is theirs. */
static inline uint16_t f32_to_f16(float value)
{
	const float magic = 0.5f;
	uint32_t bits, sign, magnitude, small;
	float shifted;

	memcpy(&bits, &value, sizeof(bits));
	sign = bits >> 16 & 0x8000;
	magnitude = bits & 0x7fffffff;
	memcpy(&shifted, &magnitude, sizeof(shifted));
	shifted += magic;
	memcpy(&small, &shifted, sizeof(small));
	small -= 0x3f000000;
	bits = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
	bits = magnitude < 0x38800000 ? small : bits;
	bits = magnitude >= 0x47800000 || bits > 0x7c00 ? 0x7c00 : bits;
	bits = magnitude > 0x7f800000 ? 0x7e00 : bits;
	return (uint16_t)(bits | sign);
}

SDK_CLONES void sdk_narrow(enum sdk_type type, const float *in, void *out, size_t n)
{
	uint16_t *half = out;

	if (type == SDK_F32) {
		memcpy(out, in, n * sizeof(*in));
	} else if (type == SDK_F16) {
		for (size_t i = 0; i < n; i++)
			half[i] = f32_to_f16(in[i]);
	} else if (type == SDK_Q8_0) {
		sdk_quantize_q8_0(in, out, n);
	} else {
		for (size_t i = 0; i < n; i++)
			half[i] = f32_to_bf16(in[i]);
	}
}

bool sdk_tensor_rests(const struct sdk_tensor *tensor, enum sdk_type *ret_type)
{
	static const enum sdk_type types[] = {
		[SDK_KEEP_F16] = SDK_F16, [SDK_KEEP_BF16] = SDK_BF16, [SDK_KEEP_Q8_0] = SDK_Q8_0};
	const struct sdk_block stored = sdk_type_block(tensor->type);
	const bool small = stored.elements > 1 || stored.bytes == 1;
	enum sdk_type type = tensor->type;
	struct sdk_block block;
	size_t row;

	if (tensor->fill || tensor->rank < 2 || (tensor->keep == SDK_KEEP_AUTO && !small))
		return false;
	if (tensor->keep >= SDK_KEEP_F16 && !small)
		type = types[tensor->keep];
	block = sdk_type_block(type);
	row = (size_t)sdk_tensor_count(tensor) / (size_t)tensor->shape[0];
	if (row % block.elements != 0)
		return false;
	*ret_type = type;
	return true;
}

#define PIECE 1024 /* a multiple of every block */

void sdk_tensor_rest(const struct sdk_tensor *tensor, enum sdk_type type, void *out)
{
	const size_t n = (size_t)sdk_tensor_count(tensor);
	const char *in = tensor->data;
	float values[PIECE];
	char *to = out;

	for (size_t i = 0; i < n; i += PIECE) {
		const size_t piece = n - i < PIECE ? n - i : PIECE;

		sdk_widen(tensor->type, in, values, piece);
		rescale(tensor, values, piece);
		sdk_narrow(type, values, to, piece);
		in += sdk_type_bytes(tensor->type, piece);
		to += sdk_type_bytes(type, piece);
	}
}

void sdk_round(enum sdk_type type, float *values, size_t n)
{
	char rounded[PIECE * sizeof(float)];

	if (type != SDK_F16 && type != SDK_BF16 && type != SDK_Q8_0)
		return;
	for (size_t i = 0; i < n; i += PIECE) {
		const size_t piece = n - i < PIECE ? n - i : PIECE;

		sdk_narrow(type, values + i, rounded, piece);
		sdk_widen(type, rounded, values + i, piece);
	}
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
