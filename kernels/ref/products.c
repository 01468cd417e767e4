/*
 * Oracle of the ops that are sums of products: convolution and linear layers. Sums in double, so that the oracle's own
 * rounding stays far below that of what it judges.
 */
#include "kernels/ref/ref.h"

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
	float *y = out;

	for (int n = 0; n < shape.n; n++)
		for (int oy = 0; oy < shape.h; oy++)
			for (int ox = 0; ox < shape.w; ox++)
				for (int oc = 0; oc < shape.c; oc++)
					*y++ = (float)(conv_at(op, state->weight, in[0],
							       (int)op->weight->shape[2], n, oy, ox,
							       oc) +
						       (state->bias ? state->bias[oc] : 0));
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
			y[row * shape.c + o] = (float)sum;
		}
	}
	return 0;
}
