/*
 * Numbers stored in blocks that share scales (ggml's formats: blocks of 32 with one or two halves, "K" super-blocks of 256 whose scales are
 * quantised too, "IQ4" with a table of levels), and floats of 8 bits. Widened when weights are packed or multiplied; nothing computes in these types.
 * Layouts as in llama.cpp's ggml-common.h; blocks may lie at any address.
 */
#include "kernels/quants.h"

#include <math.h>
#include <string.h>

#include "kernels/simd.h"

#define K 256 /* elements of a super-block */

struct sdk_block sdk_type_block(enum sdk_type type)
{
	switch (type) {
	case SDK_F32:
	case SDK_I32:
		return (struct sdk_block){1, 4};
	case SDK_F16:
	case SDK_BF16:
		return (struct sdk_block){1, 2};
	case SDK_F8_E4M3:
	case SDK_F8_E5M2:
		return (struct sdk_block){1, 1};
	case SDK_Q4_0:
	case SDK_IQ4_NL:
		return (struct sdk_block){32, 18};
	case SDK_Q4_1:
		return (struct sdk_block){32, 20};
	case SDK_Q5_0:
		return (struct sdk_block){32, 22};
	case SDK_Q5_1:
		return (struct sdk_block){32, 24};
	case SDK_Q8_0:
		return (struct sdk_block){32, 34};
	case SDK_Q2_K:
		return (struct sdk_block){K, 84};
	case SDK_Q3_K:
		return (struct sdk_block){K, 110};
	case SDK_Q4_K:
		return (struct sdk_block){K, 144};
	case SDK_Q5_K:
		return (struct sdk_block){K, 176};
	case SDK_Q6_K:
		return (struct sdk_block){K, 210};
	case SDK_IQ4_XS:
		return (struct sdk_block){K, 136};
	}
	return (struct sdk_block){1, 1};
}

static float half_at(const uint8_t *at)
{
	uint16_t half;
	float value;

	memcpy(&half, at, sizeof(half));
	sdk_widen(SDK_F16, &half, &value, 1);
	return value;
}

static const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
				      1,    13,	  25,  38,  53,	 69,  89,  113};

/* 32 elements: the low nibbles, then the high ones. */
static void widen_q4(const uint8_t *b, float *y, bool shifted)
{
	const float d = half_at(b), m = shifted ? half_at(b + 2) : -8 * d;
	const uint8_t *qs = b + (shifted ? 4 : 2);

	for (int j = 0; j < 16; j++) {
		y[j] = (float)(qs[j] & 15) * d + m;
		y[j + 16] = (float)(qs[j] >> 4) * d + m;
	}
}

/* The fifth bits stand together, in the order of the elements. */
static void widen_q5(const uint8_t *b, float *y, bool shifted)
{
	const float d = half_at(b), m = shifted ? half_at(b + 2) : -16 * d;
	const uint8_t *qs = b + (shifted ? 8 : 6);
	uint32_t high;

	memcpy(&high, qs - 4, sizeof(high));
	for (int j = 0; j < 16; j++) {
		y[j] = (float)((qs[j] & 15) | (high >> j & 1) << 4) * d + m;
		y[j + 16] = (float)(qs[j] >> 4 | (high >> (j + 16) & 1) << 4) * d + m;
	}
}

#define Q8_ELEMENTS 32
#define Q8_BYTES    34

/* The scales of a piece first: one block after another the call for a single half would cost more than the 32 numbers. */
SDK_CLONES static void widen_q8_0(const uint8_t *b, float *y, size_t blocks)
{
	uint16_t halves[16];
	float scales[16];

	for (size_t first = 0; first < blocks; first += 16) {
		const size_t n = blocks - first < 16 ? blocks - first : 16;

		for (size_t i = 0; i < n; i++)
			memcpy(&halves[i], b + i * Q8_BYTES, sizeof(halves[i]));
		sdk_widen(SDK_F16, halves, scales, n);
		for (size_t i = 0; i < n; i++, b += Q8_BYTES, y += Q8_ELEMENTS)
			for (int j = 0; j < Q8_ELEMENTS; j++)
				y[j] = (float)(int8_t)b[2 + j] * scales[i];
	}
}

SDK_CLONES void sdk_quantize_q8_0(const float *in, void *out, size_t n)
{
	uint8_t *b = out;

	for (size_t i = 0; i + Q8_ELEMENTS <= n; i += Q8_ELEMENTS, b += Q8_BYTES) {
		float largest = 0, scale, inverse;

		for (int j = 0; j < Q8_ELEMENTS; j++)
			largest = fmaxf(largest, fabsf(in[i + (size_t)j]));
		scale = largest / 127;
		inverse = scale != 0 ? 1 / scale : 0;
		for (int j = 0; j < Q8_ELEMENTS; j++)
			b[2 + j] = (uint8_t)(int8_t)roundf(in[i + (size_t)j] * inverse);
		sdk_narrow(SDK_F16, &scale, b, 1);
	}
}

static void widen_iq4_nl(const uint8_t *b, float *y)
{
	const float d = half_at(b);

	for (int j = 0; j < 16; j++) {
		y[j] = d * iq4_levels[b[2 + j] & 15];
		y[j + 16] = d * iq4_levels[b[2 + j] >> 4];
	}
}

/* 16 groups of 16: scale and minimum of 4 bits each. */
static void widen_q2_k(const uint8_t *b, float *y)
{
	const uint8_t *scales = b, *qs = b + 16;
	const float d = half_at(b + 80), min = half_at(b + 82);

	for (int g = 0; g < 16; g++) {
		const float scale = d * (float)(scales[g] & 15), m = min * (float)(scales[g] >> 4);
		const uint8_t *q = qs + g / 8 * 32 + g % 2 * 16;
		const int shift = g % 8 / 2 * 2;

		for (int l = 0; l < 16; l++)
			*y++ = scale * (float)(q[l] >> shift & 3) - m;
	}
}

/* 16 groups of 16: scales of 6 bits, 4 low ones in nibbles and 2 high ones packed behind. */
static void widen_q3_k(const uint8_t *b, float *y)
{
	const uint8_t *high = b, *qs = b + 32, *packed = b + 96;
	const float d = half_at(b + 108);

	for (int g = 0; g < 16; g++) {
		const int low = g < 8 ? packed[g] & 15 : packed[g - 8] >> 4;
		const int scale = (low | (packed[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
		const uint8_t *q = qs + g / 8 * 32 + g % 2 * 16, *h = high + g % 2 * 16;
		const int shift = g % 8 / 2 * 2, bit = g / 2;

		for (int l = 0; l < 16; l++)
			*y++ = d * (float)scale *
			       (float)((q[l] >> shift & 3) - (h[l] >> bit & 1 ? 0 : 4));
	}
}

/* Scale and minimum j of 8, 6 bits each in 12 bytes. */
static void scale_and_min(const uint8_t *q, int j, int *scale, int *min)
{
	if (j < 4) {
		*scale = q[j] & 63;
		*min = q[j + 4] & 63;
	} else {
		*scale = (q[j + 4] & 15) | q[j - 4] >> 6 << 4;
		*min = q[j + 4] >> 4 | q[j] >> 6 << 4;
	}
}

/* 8 groups of 32; high: the fifth bits of Q5_K, NULL for Q4_K. */
static void widen_q45_k(const uint8_t *b, const uint8_t *high, const uint8_t *qs, float *y)
{
	const float d = half_at(b), dmin = half_at(b + 2);

	for (int g = 0; g < 8; g++) {
		const uint8_t *q = qs + g / 2 * 32;
		float scale, min;
		int s, m;

		scale_and_min(b + 4, g, &s, &m);
		scale = d * (float)s;
		min = dmin * (float)m;
		for (int l = 0; l < 32; l++) {
			const int fifth = high ? (high[l] >> g & 1) << 4 : 0;

			*y++ = scale * (float)((q[l] >> g % 2 * 4 & 15) | fifth) - min;
		}
	}
}

static void widen_q6_k(const uint8_t *b, float *y)
{
	const uint8_t *low = b, *high = b + 128, *scales = b + 192;
	const float d = half_at(b + 208);

	for (int g = 0; g < 8; g++) {
		const uint8_t *ql = low + g / 4 * 64 + g % 2 * 32, *qh = high + g / 4 * 32;
		const int nibble = g % 4 / 2 * 4, pair = g % 4 * 2;

		for (int l = 0; l < 32; l++) {
			const int q = ((ql[l] >> nibble & 15) | (qh[l] >> pair & 3) << 4) - 32;

			*y++ = d * (float)(int8_t)scales[g * 2 + l / 16] * (float)q;
		}
	}
}

static void widen_iq4_xs(const uint8_t *b, float *y)
{
	const uint8_t *low = b + 4, *qs = b + 8;
	const float d = half_at(b);
	uint16_t high;

	memcpy(&high, b + 2, sizeof(high));
	for (int g = 0; g < 8; g++) {
		const int scale = ((low[g / 2] >> g % 2 * 4 & 15) | (high >> 2 * g & 3) << 4) - 32;

		for (int j = 0; j < 16; j++) {
			y[j] = d * (float)scale * iq4_levels[qs[j] & 15];
			y[j + 16] = d * (float)scale * iq4_levels[qs[j] >> 4];
		}
		y += 32;
		qs += 16;
	}
}

static void widen_block(enum sdk_type type, const uint8_t *b, float *y)
{
	switch (type) {
	case SDK_Q4_0:
	case SDK_Q4_1:
		widen_q4(b, y, type == SDK_Q4_1);
		break;
	case SDK_Q5_0:
	case SDK_Q5_1:
		widen_q5(b, y, type == SDK_Q5_1);
		break;
	case SDK_IQ4_NL:
		widen_iq4_nl(b, y);
		break;
	case SDK_Q2_K:
		widen_q2_k(b, y);
		break;
	case SDK_Q3_K:
		widen_q3_k(b, y);
		break;
	case SDK_Q4_K:
		widen_q45_k(b, NULL, b + 16, y);
		break;
	case SDK_Q5_K:
		widen_q45_k(b, b + 16, b + 48, y);
		break;
	case SDK_Q6_K:
		widen_q6_k(b, y);
		break;
	case SDK_IQ4_XS:
		widen_iq4_xs(b, y);
		break;
	default:
		break;
	}
}

/* E5M2 is a half cut off. E4M3 has no infinities: only 0x7f and 0xff are NaN. */
static float widen_f8(enum sdk_type type, uint8_t value)
{
	const uint16_t cut = (uint16_t)(value << 8);
	const int exponent = value >> 3 & 15, mantissa = value & 7;
	float magnitude;

	if (type == SDK_F8_E5M2) {
		sdk_widen(SDK_F16, &cut, &magnitude, 1);
		return magnitude;
	}
	if ((value & 0x7f) == 0x7f)
		return __builtin_nanf("");
	magnitude = exponent ? (float)(8 + mantissa) * (float)(1 << exponent) * 0x1p-10f
			     : (float)mantissa * 0x1p-9f;
	return value & 0x80 ? -magnitude : magnitude;
}

void sdk_dequantize(enum sdk_type type, const void *in, float *out, size_t n)
{
	const struct sdk_block block = sdk_type_block(type);
	const uint8_t *at = in;

	if (type == SDK_F8_E4M3 || type == SDK_F8_E5M2) {
		for (size_t i = 0; i < n; i++)
			out[i] = widen_f8(type, at[i]);
		return;
	}
	if (type == SDK_Q8_0) {
		widen_q8_0(at, out, n / block.elements);
		return;
	}
	for (size_t i = 0; i + block.elements <= n; i += block.elements, at += block.bytes)
		widen_block(type, at, out + i);
}
