/*
 * Oracle of the ops that treat each number by itself.
 */
#include <math.h>

#include "kernels/ref/ref.h"

float sdk_ref_activation(enum sdk_activation activation, float x)
{
	const double v = x;

	switch (activation) {
	case SDK_SILU:
		return (float)(v / (1 + exp(-v)));
	case SDK_GELU:
		return (float)(v * 0.5 * (1 + erf(v * M_SQRT1_2)));
	case SDK_GELU_TANH:
		return (float)(v * 0.5 *
			       (1 + tanh(M_2_SQRTPI * M_SQRT1_2 * (v + 0.044715 * v * v * v))));
	case SDK_QUICK_GELU:
		return (float)(v / (1 + exp(-1.702 * v)));
	case SDK_RELU:
		return x > 0 ? x : 0;
	case SDK_TANH:
		return (float)tanh(v);
	case SDK_SIGMOID:
		return (float)(1 / (1 + exp(-v)));
	}
	return x;
}

int sdk_ref_activate(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out)
{
	const float *x = in[0];
	float *y = out;

	for (int64_t i = 0; i < sdk_shape_count(op->out_shape); i++)
		y[i] = sdk_ref_activation(op->activation, x[i]);
	return 0;
}

int sdk_ref_binary(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out)
{
	const struct sdk_shape shape = op->out_shape, b = op->in_shape[1];
	const int64_t pixels = (int64_t)shape.h * shape.w, b_pixels = (int64_t)b.h * b.w;
	const float *x = in[0], *other = in[1];
	float *y = out;

	for (int n = 0; n < shape.n; n++) {
		for (int64_t p = 0; p < pixels; p++) {
			const int64_t row = (b.n == 1 ? 0 : n) * b_pixels + (b_pixels == 1 ? 0 : p);

			for (int c = 0; c < shape.c; c++) {
				const float right = other[row * shape.c + c];

				*y++ = op->kind == SDK_OP_ADD ? *x + right : *x * right;
				x++;
			}
		}
	}
	return 0;
}

int sdk_ref_affine(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out)
{
	const float *x = in[0];
	float *y = out;

	for (int64_t i = 0; i < sdk_shape_count(op->out_shape); i++)
		y[i] = op->scale * x[i] + op->shift;
	return 0;
}

int sdk_ref_geglu(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		  void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w;
	const float *x = in[0];
	float *y = out;

	for (int64_t row = 0; row < rows; row++, x += 2 * (int64_t)shape.c, y += shape.c)
		for (int c = 0; c < shape.c; c++)
			y[c] = x[c] * sdk_ref_activation(SDK_GELU, x[shape.c + c]);
	return 0;
}

int sdk_ref_rope(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		 void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int d = shape.c / op->heads;
	const float *x = in[0];
	float *y = out;

	for (int64_t row = 0; row < (int64_t)shape.n * shape.w; row++, x += shape.c, y += shape.c) {
		const float *cosines = state->weight + row % shape.w * 2 * d, *sines = cosines + d;

		for (int c = 0; c < shape.c; c += 2) {
			const double cosine = cosines[c % d], sine = sines[c % d];

			y[c] = (float)(x[c] * cosine - x[c + 1] * sine);
			y[c + 1] = (float)(x[c + 1] * cosine + x[c] * sine);
		}
	}
	return 0;
}
