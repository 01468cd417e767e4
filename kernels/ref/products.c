/*
 * Oracle of the ops that are sums of products: convolution and linear layers. Sums in double, so that the oracle's own
 * rounding stays far below that of what it judges.
 */
#include "kernels/ref/ref.h"

/* What fusion put behind the sum. */
static float finish(const struct sdk_op *op, double sum, void *const *in, int64_t at)
{
	if (op->activated)
		return sdk_ref_activation(op->activation, (float)sum);
	return (float)(op->n_in > 1 ? sum + ((const float *)in[1])[at] : sum);
}

static double conv_at(const struct sdk_op *op, const float *weight, const float *x, int k, int n,
		      int oy, int ox, int oc)
{
	const struct sdk_shape in = op->in_shape[0];
	double sum = 0;

	for (int ky = 0; ky < k; ky++) {
		for (int kx = 0; kx < k; kx++) {
			const int64_t y = (int64_t)oy * op->stride + ky - op->pad_top;
			const int64_t w = (int64_t)ox * op->stride + kx - op->pad_left;

			if (y < 0 || y >= in.h || w < 0 || w >= in.w)
				continue;
			for (int c = 0; c < in.c; c++)
				sum += (double)x[((n * in.h + y) * in.w + w) * in.c + c] *
				       weight[(((int64_t)oc * in.c + c) * k + ky) * k + kx];
		}
	}
	return sum;
}

int sdk_ref_conv2d(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int k = (int)op->weight->shape[2];
	int64_t at = 0;

	for (int n = 0; n < shape.n; n++) {
		for (int64_t p = 0; p < (int64_t)shape.h * shape.w; p++) {
			for (int oc = 0; oc < shape.c; oc++, at++) {
				const double sum =
					conv_at(op, state->weight, in[0], k, n, (int)(p / shape.w),
						(int)(p % shape.w), oc);

				((float *)out)[at] = finish(
					op, sum + (state->bias ? state->bias[oc] : 0), in, at);
			}
		}
	}
	return 0;
}

int sdk_ref_linear(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w, k = op->in_shape[0].c;
	const float *x = in[0];
	float *y = out;

	for (int64_t row = 0; row < rows; row++) {
		for (int o = 0; o < shape.c; o++) {
			double sum = state->bias ? state->bias[o] : 0;

			for (int64_t c = 0; c < k; c++)
				sum += (double)x[row * k + c] * state->weight[o * k + c];
			y[row * shape.c + o] = finish(op, sum, in, row * shape.c + o);
		}
	}
	return 0;
}
