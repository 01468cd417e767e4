/*
 * Oracle of the normalisations. Statistics in double and in two passes; variances are the biased ones, as in torch.
 */
#include <math.h>

#include "kernels/ref/ref.h"

int sdk_ref_group_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		       void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t pixels = (int64_t)shape.h * shape.w;
	const int per_group = shape.c / op->groups;

	for (int n = 0; n < shape.n; n++) {
		for (int g = 0; g < op->groups; g++) {
			const int64_t base = n * pixels * shape.c + (int64_t)g * per_group;
			const float *x = (const float *)in[0] + base;
			float *y = (float *)out + base;
			double mean = 0, variance = 0;

			for (int64_t p = 0; p < pixels; p++)
				for (int c = 0; c < per_group; c++)
					mean += x[p * shape.c + c];
			mean /= (double)(pixels * per_group);
			for (int64_t p = 0; p < pixels; p++)
				for (int c = 0; c < per_group; c++)
					variance += (x[p * shape.c + c] - mean) *
						    (x[p * shape.c + c] - mean);
			variance /= (double)(pixels * per_group);
			for (int64_t p = 0; p < pixels; p++) {
				for (int c = 0; c < per_group; c++) {
					const double z = (x[p * shape.c + c] - mean) /
							 sqrt(variance + (double)op->eps);
					const int k = g * per_group + c;
					const float value =
						(float)(z * state->weight[k] +
							(state->bias ? state->bias[k] : 0));

					y[p * shape.c + c] =
						op->silu ? sdk_ref_activation(SDK_SILU, value)
							 : value;
				}
			}
		}
	}
	return 0;
}

/* Of one row: what is taken off, and what divides the rest. */
static void row_statistics(const float *x, int n, float eps, double *ret_mean,
			   double *ret_deviation)
{
	double mean = 0, variance = 0;

	for (int c = 0; c < n; c++)
		mean += x[c];
	mean /= n;
	for (int c = 0; c < n; c++)
		variance += (x[c] - mean) * (x[c] - mean);
	*ret_mean = mean;
	*ret_deviation = sqrt(variance / n + (double)eps);
}

int sdk_ref_layer_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		       void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w;
	const float *x = in[0];
	float *y = out;
	double mean, deviation;

	for (int64_t row = 0; row < rows; row++, x += shape.c, y += shape.c) {
		row_statistics(x, shape.c, op->eps, &mean, &deviation);
		for (int c = 0; c < shape.c; c++)
			y[c] = (float)((x[c] - mean) / deviation * state->weight[c] +
				       (state->bias ? state->bias[c] : 0));
	}
	return 0;
}

int sdk_ref_ada_layer_norm(const struct sdk_op *op, const struct sdk_ref_state *state,
			   void *const *in, void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t pixels = (int64_t)shape.h * shape.w;
	const float *x = in[0], *scale = in[1], *shift = in[2];
	float *y = out;
	double mean, deviation;

	for (int64_t row = 0; row < shape.n * pixels; row++, x += shape.c, y += shape.c) {
		const int64_t image = row / pixels * shape.c;

		row_statistics(x, shape.c, op->eps, &mean, &deviation);
		for (int c = 0; c < shape.c; c++)
			y[c] = (float)((x[c] - mean) / deviation * (1.0 + scale[image + c]) +
				       shift[image + c]);
	}
	return 0;
}

int sdk_ref_rms_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w;
	const float *x = in[0];
	float *y = out;

	for (int64_t row = 0; row < rows; row++, x += shape.c, y += shape.c) {
		double square = 0;

		for (int c = 0; c < shape.c; c++)
			square += (double)x[c] * x[c];
		for (int c = 0; c < shape.c; c++)
			y[c] = (float)(x[c] / sqrt(square / shape.c + (double)op->eps) *
				       state->weight[c]);
	}
	return 0;
}
