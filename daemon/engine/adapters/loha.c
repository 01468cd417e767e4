/*
 * LoHa (Hyeon-Woo et al. 2021, LyCORIS): the elementwise product of two changes of low rank, which for convolutions may be Tucker
 * products around a small kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/delta.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

enum { W1_A, W1_B, W2_A, W2_B, T1, T2 };

/* Factor f (0 or 1): plain a (out, r), b (r, row); Tucker a (r, out), b (r, in), t (r, r, kernel, kernel). */
static int check_factor(const struct sde_delta *delta, int f, const struct sde_delta_shape *shape,
			struct sde_error *error)
{
	const struct sde_tensor *a = delta->parts[W1_A + 2 * f], *b = delta->parts[W1_B + 2 * f],
				*t = delta->parts[T1 + f];
	const size_t spots = (size_t)shape->kernel * (size_t)shape->kernel;
	const size_t out = (size_t)shape->out;
	size_t rank;

	if (b->rank != 2 || b->shape[0] < 1 || b->shape[0] > 1 << 16)
		return sde_delta_misfit(b, shape, error);
	rank = (size_t)b->shape[0];
	if (b->count != rank * (t ? (size_t)shape->in : sde_delta_row(shape)))
		return sde_delta_misfit(b, shape, error);
	if (a->rank != 2 || a->count != rank * out || (size_t)a->shape[t ? 1 : 0] != out)
		return sde_delta_misfit(a, shape, error);
	if (t && (t->rank != 4 || t->shape[0] != (int64_t)rank || t->shape[1] != (int64_t)rank ||
		  t->count != rank * rank * spots))
		return sde_delta_misfit(t, shape, error);
	return (int)rank;
}

static int check(struct sde_delta *delta, const struct sde_delta_shape *shape,
		 struct sde_error *error)
{
	int r;

	for (int i = 0; i < 4; i++)
		if (!delta->parts[i])
			return sde_error_set(error, -EBADMSG, "a LoHa layer lacks its %s",
					     delta->kind->parts[i]);
	r = check_factor(delta, 0, shape, error);
	if (r < 0)
		return r;
	delta->rank = r;
	r = check_factor(delta, 1, shape, error);
	return r < 0 ? r : 0;
}

struct factor {
	float *a, *b, *t, *row, *scratch;
	int rank;
};

static int factor_init(struct factor *factor, const struct sde_delta *delta, int f, size_t row,
		       int spots)
{
	factor->a = sde_delta_floats(delta->parts[W1_A + 2 * f]);
	factor->b = sde_delta_floats(delta->parts[W1_B + 2 * f]);
	factor->t = sde_delta_floats(delta->parts[T1 + f]);
	factor->rank = (int)delta->parts[W1_B + 2 * f]->shape[0];
	factor->row = malloc(row * sizeof(float));
	factor->scratch = malloc((size_t)factor->rank * (size_t)spots * sizeof(float));
	return factor->a && factor->b && factor->row && factor->scratch &&
			       !factor->t == !delta->parts[T1 + f]
		       ? 0
		       : -ENOMEM;
}

static void factor_clear(struct factor *factor)
{
	free(factor->a);
	free(factor->b);
	free(factor->t);
	free(factor->row);
	free(factor->scratch);
}

static void factor_row(struct factor *factor, const struct sde_delta_shape *shape, size_t o)
{
	const size_t row = sde_delta_row(shape), rank = (size_t)factor->rank;

	memset(factor->row, 0, row * sizeof(float));
	if (factor->t) {
		sde_delta_tucker_row(factor->t, factor->a + o, (size_t)shape->out, factor->b,
				     factor->rank, factor->rank, shape->in,
				     shape->kernel * shape->kernel, factor->scratch, factor->row);
		return;
	}
	for (size_t k = 0; k < rank; k++)
		sde_delta_axpy(row, factor->a[o * rank + k], factor->b + k * row, factor->row);
}

static int add(const struct sde_delta *delta, const struct sde_delta_shape *shape, double strength,
	       float *w)
{
	const size_t row = sde_delta_row(shape);
	const int spots = shape->kernel * shape->kernel;
	struct factor one = {0}, two = {0};
	int r;

	r = factor_init(&one, delta, 0, row, spots);
	if (r >= 0)
		r = factor_init(&two, delta, 1, row, spots);
	for (size_t o = 0; r >= 0 && o < (size_t)shape->out; o++) {
		factor_row(&one, shape, o);
		factor_row(&two, shape, o);
		for (size_t i = 0; i < row; i++)
			w[o * row + i] += (float)strength * one.row[i] * two.row[i];
	}
	factor_clear(&one);
	factor_clear(&two);
	return r;
}

const struct sde_delta_kind sde_delta_loha = {
	.name = "LoHa",
	.parts = {[W1_A] = "hada_w1_a",
		  [W1_B] = "hada_w1_b",
		  [W2_A] = "hada_w2_a",
		  [W2_B] = "hada_w2_b",
		  [T1] = "hada_t1",
		  [T2] = "hada_t2"},
	.check = check,
	.add = add,
};
