/*
 * Oracle of the ops that move numbers without computing.
 */
#include <errno.h>
#include <string.h>

#include "kernels/ref/ref.h"

int sdk_ref_resize_nearest(const struct sdk_op *op, const struct sdk_ref_state *state,
			   void *const *in, void *out)
{
	const struct sdk_shape from = op->in_shape[0], to = op->out_shape;
	float *y = out;

	for (int n = 0; n < to.n; n++) {
		for (int oy = 0; oy < to.h; oy++) {
			for (int ox = 0; ox < to.w; ox++, y += to.c) {
				const int64_t sy = (int64_t)oy * from.h / to.h;
				const int64_t sx = (int64_t)ox * from.w / to.w;

				memcpy(y,
				       (const float *)in[0] +
					       ((n * from.h + sy) * from.w + sx) * from.c,
				       (size_t)to.c * sizeof(*y));
			}
		}
	}
	return 0;
}

int sdk_ref_concat(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w;
	const size_t a = (size_t)op->in_shape[0].c, b = (size_t)op->in_shape[1].c;
	const float *left = in[0], *right = in[1];
	float *y = out;

	for (int64_t row = 0; row < rows; row++, y += a + b, left += a, right += b) {
		memcpy(y, left, a * sizeof(*y));
		memcpy(y + a, right, b * sizeof(*y));
	}
	return 0;
}

int sdk_ref_slice(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		  void *out)
{
	const struct sdk_shape shape = op->out_shape;
	const int64_t rows = (int64_t)shape.n * shape.h * shape.w;
	const float *x = (const float *)in[0] + op->first;
	float *y = out;

	for (int64_t row = 0; row < rows; row++, y += shape.c, x += op->in_shape[0].c)
		memcpy(y, x, (size_t)shape.c * sizeof(*y));
	return 0;
}

int sdk_ref_embedding(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		      void *out)
{
	const int64_t n = (int64_t)op->out_shape.n * op->out_shape.w;
	const size_t c = (size_t)op->out_shape.c;
	const int32_t *ids = in[0];
	float *y = out;

	for (int64_t i = 0; i < n; i++, y += c) {
		if (ids[i] < 0 || ids[i] >= op->weight->shape[0])
			return -ERANGE;
		memcpy(y, state->weight + (size_t)ids[i] * c, c * sizeof(*y));
	}
	return 0;
}

int sdk_ref_add_rows(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out)
{
	const int64_t per = (int64_t)op->out_shape.w * op->out_shape.c;
	const float *x = in[0];
	float *y = out;

	for (int n = 0; n < op->out_shape.n; n++)
		for (int64_t i = 0; i < per; i++)
			*y++ = *x++ + state->weight[i];
	return 0;
}
