/*
 * Pointwise ops and norms for one instruction set. The including file sets SDK_LANES and SDK_SIMD (the table's name); every
 * loop is written once over an element type that the compiler specialises for float32 and bfloat16.
 */
#include <math.h>

#include "kernels/cpu/vector.h"

#define EACH(i, n) for (; i + SDK_LANES <= (n); i += SDK_LANES)

/* y[i] = EXPRESSION(load...), vectors and the tail. */
#define MAP(n, FULL, TAIL)                                                                         \
	do {                                                                                       \
		size_t i = 0;                                                                      \
		EACH(i, n)                                                                         \
		{                                                                                  \
			FULL;                                                                      \
		}                                                                                  \
		if (i < (n)) {                                                                     \
			const size_t left = (n)-i;                                                 \
			TAIL;                                                                      \
		}                                                                                  \
	} while (0)

/* Make `function_for(type, ...)` two functions in one: type becomes a constant in each. */
#define BY_TYPE(type, call_f32, call_bf16)                                                         \
	do {                                                                                       \
		if (type == SDK_F32)                                                               \
			call_f32;                                                                  \
		else                                                                               \
			call_bf16;                                                                 \
	} while (0)

INLINE void activate_for(enum sdk_type t, enum sdk_activation a, const void *x, void *y, size_t n)
{
	MAP(n, store(t, y, i, activation_of(a, load(t, x, i))),
	    store_tail(t, y, i, left, activation_of(a, load_tail(t, x, i, left))));
}

#define ACTIVATE_CASE(a)                                                                           \
	case a:                                                                                    \
		BY_TYPE(type, activate_for(SDK_F32, a, x, y, n),                                   \
			activate_for(SDK_BF16, a, x, y, n));                                       \
		break

static void activate(enum sdk_type type, enum sdk_activation activation, const void *x, void *y,
		     size_t n)
{
	switch (activation) {
		ACTIVATE_CASE(SDK_SILU);
		ACTIVATE_CASE(SDK_GELU);
		ACTIVATE_CASE(SDK_GELU_TANH);
		ACTIVATE_CASE(SDK_QUICK_GELU);
		ACTIVATE_CASE(SDK_RELU);
		ACTIVATE_CASE(SDK_TANH);
		ACTIVATE_CASE(SDK_SIGMOID);
	}
}

INLINE void affine_for(enum sdk_type t, float scale, float shift, const void *x, void *y, size_t n)
{
	MAP(n, store(t, y, i, load(t, x, i) * scale + shift),
	    store_tail(t, y, i, left, load_tail(t, x, i, left) * scale + shift));
}

static void affine(enum sdk_type type, float scale, float shift, const void *x, void *y, size_t n)
{
	BY_TYPE(type, affine_for(SDK_F32, scale, shift, x, y, n),
		affine_for(SDK_BF16, scale, shift, x, y, n));
}

INLINE void add_for(enum sdk_type t, const void *a, const void *b, void *y, size_t n)
{
	MAP(n, store(t, y, i, load(t, a, i) + load(t, b, i)),
	    store_tail(t, y, i, left, load_tail(t, a, i, left) + load_tail(t, b, i, left)));
}

static void add(enum sdk_type type, const void *a, const void *b, void *y, size_t n)
{
	BY_TYPE(type, add_for(SDK_F32, a, b, y, n), add_for(SDK_BF16, a, b, y, n));
}

INLINE void mul_for(enum sdk_type t, const void *a, const void *b, void *y, size_t n)
{
	MAP(n, store(t, y, i, load(t, a, i) * load(t, b, i)),
	    store_tail(t, y, i, left, load_tail(t, a, i, left) * load_tail(t, b, i, left)));
}

static void mul(enum sdk_type type, const void *a, const void *b, void *y, size_t n)
{
	BY_TYPE(type, mul_for(SDK_F32, a, b, y, n), mul_for(SDK_BF16, a, b, y, n));
}

INLINE void geglu_for(enum sdk_type t, const void *x, void *y, size_t rows, size_t c)
{
	for (size_t row = 0; row < rows; row++) {
		const size_t from = row * 2 * c, to = row * c;

		MAP(c,
		    store(t, y, to + i, load(t, x, from + i) * gelu_of(load(t, x, from + c + i))),
		    store_tail(t, y, to + i, left,
			       load_tail(t, x, from + i, left) *
				       gelu_of(load_tail(t, x, from + c + i, left))));
	}
}

static void geglu(enum sdk_type type, const void *x, void *y, size_t rows, size_t c)
{
	BY_TYPE(type, geglu_for(SDK_F32, x, y, rows, c), geglu_for(SDK_BF16, x, y, rows, c));
}

INLINE float row_sum(enum sdk_type t, const void *x, size_t at, size_t c)
{
	vf sum = {0};

	MAP(c, sum += load(t, x, at + i), sum += load_tail(t, x, at + i, left));
	return sum_lanes(sum);
}

/* Sum of (x - mean)^2. */
INLINE float row_spread(enum sdk_type t, const void *x, size_t at, size_t c, float mean)
{
	vf sum = {0};

	MAP(
		c,
		{
			const vf d = load(t, x, at + i) - mean;

			sum += d * d;
		},
		{
			vf d = {0};

			for (size_t k = 0; k < left; k++)
				d[k] = mean;
			d = load_tail(t, x, at + i, left) - d;
			sum += d * d;
		});
	return sum_lanes(sum);
}

/* y = (x - mean) * inverse * weight + bias */
INLINE void row_write(enum sdk_type t, const void *x, void *y, size_t at, size_t c, float mean,
		      float inverse, const float *weight, const float *bias)
{
	MAP(
		c,
		{
			const vf z =
				(load(t, x, at + i) - mean) * inverse * load_floats(weight + i);

			store(t, y, at + i, bias ? z + load_floats(bias + i) : z);
		},
		{
			vf z = (load_tail(t, x, at + i, left) - mean) * inverse *
			       load_tail(SDK_F32, weight, i, left);

			if (bias)
				z += load_tail(SDK_F32, bias, i, left);
			store_tail(t, y, at + i, left, z);
		});
}

INLINE void layer_norm_for(enum sdk_type t, const void *x, void *y, size_t rows, size_t c,
			   const float *weight, const float *bias, float eps)
{
	for (size_t row = 0; row < rows; row++) {
		const float mean = row_sum(t, x, row * c, c) / (float)c;
		const float variance = row_spread(t, x, row * c, c, mean) / (float)c;

		row_write(t, x, y, row * c, c, mean, 1.0f / sqrtf(variance + eps), weight, bias);
	}
}

static void layer_norm(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
		       const float *weight, const float *bias, float eps)
{
	BY_TYPE(type, layer_norm_for(SDK_F32, x, y, rows, c, weight, bias, eps),
		layer_norm_for(SDK_BF16, x, y, rows, c, weight, bias, eps));
}

INLINE void rms_norm_for(enum sdk_type t, const void *x, void *y, size_t rows, size_t c,
			 const float *weight, float eps)
{
	for (size_t row = 0; row < rows; row++) {
		const float square = row_spread(t, x, row * c, c, 0.0f) / (float)c;

		row_write(t, x, y, row * c, c, 0.0f, 1.0f / sqrtf(square + eps), weight, NULL);
	}
}

static void rms_norm(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
		     const float *weight, float eps)
{
	BY_TYPE(type, rms_norm_for(SDK_F32, x, y, rows, c, weight, eps),
		rms_norm_for(SDK_BF16, x, y, rows, c, weight, eps));
}

/* x * cosine + (the pair's other number) * (-sine, sine) */
INLINE vf turn(vf x, vf cosine, vf sine)
{
	return x * cosine + swap_pairs(x) * negate_even(sine);
}

INLINE void rope_for(enum sdk_type t, const void *x, void *y, size_t heads, size_t d,
		     const float *cosines, const float *sines)
{
	for (size_t head = 0; head < heads; head++) {
		const size_t at = head * d;

		MAP(d,
		    store(t, y, at + i,
			  turn(load(t, x, at + i), load_floats(cosines + i),
			       load_floats(sines + i))),
		    store_tail(t, y, at + i, left,
			       turn(load_tail(t, x, at + i, left),
				    load_tail(SDK_F32, cosines, i, left),
				    load_tail(SDK_F32, sines, i, left))));
	}
}

static void rope(enum sdk_type type, const void *x, void *y, size_t heads, size_t d,
		 const float *cosines, const float *sines)
{
	BY_TYPE(type, rope_for(SDK_F32, x, y, heads, d, cosines, sines),
		rope_for(SDK_BF16, x, y, heads, d, cosines, sines));
}

#define WIDE 4 /* vectors of channels summed at a time: 256 bytes of a row with AVX-512 */

INLINE void moments_for(enum sdk_type t, const void *x, const void *pixel0, size_t rows, size_t c,
			float *sum, float *square)
{
	size_t i = 0;

	for (; i + WIDE * SDK_LANES <= c; i += WIDE * SDK_LANES) {
		vf shift[WIDE], s[WIDE] = {0}, q[WIDE] = {0};

		for (int k = 0; k < WIDE; k++)
			shift[k] = load(t, pixel0, i + (size_t)k * SDK_LANES);
		for (size_t row = 0; row < rows; row++) {
			for (int k = 0; k < WIDE; k++) {
				const vf d =
					load(t, x, row * c + i + (size_t)k * SDK_LANES) - shift[k];

				s[k] += d;
				q[k] += d * d;
			}
		}
		for (int k = 0; k < WIDE; k++) {
			store_floats(sum + i + (size_t)k * SDK_LANES, s[k]);
			store_floats(square + i + (size_t)k * SDK_LANES, q[k]);
		}
	}
	while (i < c) {
		const size_t left = c - i < SDK_LANES ? c - i : SDK_LANES;
		const vf shift = load_tail(t, pixel0, i, left);
		vf s = {0}, q = {0};

		for (size_t row = 0; row < rows; row++) {
			const vf d = load_tail(t, x, row * c + i, left) - shift;

			s += d;
			q += d * d;
		}
		store_tail(SDK_F32, sum, i, left, s);
		store_tail(SDK_F32, square, i, left, q);
		i += left;
	}
}

static void moments(enum sdk_type type, const void *x, const void *pixel0, size_t rows, size_t c,
		    float *sum, float *square)
{
	BY_TYPE(type, moments_for(SDK_F32, x, pixel0, rows, c, sum, square),
		moments_for(SDK_BF16, x, pixel0, rows, c, sum, square));
}

INLINE void scale_rows_for(enum sdk_type t, const void *x, void *y, size_t rows, size_t c,
			   const float *scale, const float *shift, bool silu)
{
	for (size_t row = 0; row < rows; row++) {
		const size_t at = row * c;

		MAP(
			c,
			{
				const vf z = load(t, x, at + i) * load_floats(scale + i) +
					     load_floats(shift + i);

				store(t, y, at + i, silu ? z * sigmoid_of(z) : z);
			},
			{
				const vf z = load_tail(t, x, at + i, left) *
						     load_tail(SDK_F32, scale, i, left) +
					     load_tail(SDK_F32, shift, i, left);

				store_tail(t, y, at + i, left, silu ? z * sigmoid_of(z) : z);
			});
	}
}

static void scale_rows(enum sdk_type type, const void *x, void *y, size_t rows, size_t c,
		       const float *scale, const float *shift, bool silu)
{
	if (silu)
		BY_TYPE(type, scale_rows_for(SDK_F32, x, y, rows, c, scale, shift, true),
			scale_rows_for(SDK_BF16, x, y, rows, c, scale, shift, true));
	else
		BY_TYPE(type, scale_rows_for(SDK_F32, x, y, rows, c, scale, shift, false),
			scale_rows_for(SDK_BF16, x, y, rows, c, scale, shift, false));
}

#include "kernels/cpu/attention-body.h"

const struct sdk_simd SDK_SIMD = {
	.name = SDK_SIMD_NAME,
	.activate = activate,
	.affine = affine,
	.add = add,
	.mul = mul,
	.geglu = geglu,
	.layer_norm = layer_norm,
	.rms_norm = rms_norm,
	.rope = rope,
	.moments = moments,
	.scale_rows = scale_rows,
	.attention = SDK_ATTENTION_KERNELS,
};
