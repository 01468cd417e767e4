/*
 * LoKr (Edalati et al. 2022, LyCORIS): the Kronecker product of two small matrices, each whole or of low rank; the second has the
 * kernel of a convolution. alpha counts only when a factor is decomposed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/delta.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

enum { W1, W1_A, W1_B, W2, W2_A, W2_B, T2 };

/* A factor's place in the product, (out, in, spots); rank 0: whole. */
struct factor {
	size_t out, in, spots;
	int rank;
};

static int lacks(const char *what, struct sde_error *error)
{
	return sde_error_set(error, -EBADMSG, "a LoKr layer lacks its %s", what);
}

/* w1 (o, i) or w1_a (o, r) w1_b (r, i) */
static int first_factor(const struct sde_delta *delta, const struct sde_delta_shape *shape,
			struct factor *ret, struct sde_error *error)
{
	const struct sde_tensor *w = delta->parts[W1], *a = delta->parts[W1_A],
				*b = delta->parts[W1_B];

	if (w) {
		if (w->rank != 2)
			return sde_delta_misfit(w, shape, error);
		*ret = (struct factor){(size_t)w->shape[0], (size_t)w->shape[1], 1, 0};
		return 0;
	}
	if (!a || !b)
		return lacks("lokr_w1", error);
	if (a->rank != 2 || b->rank != 2 || a->shape[1] != b->shape[0] || b->shape[0] < 1 ||
	    b->shape[0] > 1 << 16)
		return sde_delta_misfit(b, shape, error);
	*ret = (struct factor){(size_t)a->shape[0], (size_t)b->shape[1], 1, (int)b->shape[0]};
	return 0;
}

/*
 * w2 (o, i, k, k), or w2_a (o, r) w2_b (r, i * k * k), or the Tucker form w2_a (r, o), w2_b (r, i), t2 (r, r, k, k)
 */
static int second_factor(const struct sde_delta *delta, const struct sde_delta_shape *shape,
			 struct factor *ret, struct sde_error *error)
{
	const struct sde_tensor *w = delta->parts[W2], *a = delta->parts[W2_A],
				*b = delta->parts[W2_B], *t = delta->parts[T2];
	const size_t spots = (size_t)shape->kernel * (size_t)shape->kernel;
	size_t columns;

	if (w) {
		if (w->rank < 2 || w->shape[0] < 1 || w->shape[1] < 1 ||
		    w->count != (size_t)w->shape[0] * (size_t)w->shape[1] * spots)
			return sde_delta_misfit(w, shape, error);
		*ret = (struct factor){(size_t)w->shape[0], (size_t)w->shape[1], spots, 0};
		return 0;
	}
	if (!a || !b)
		return lacks("lokr_w2", error);
	if (a->rank != 2 || b->rank != 2 || a->shape[t ? 0 : 1] != b->shape[0] || b->shape[0] < 1 ||
	    b->shape[0] > 1 << 16)
		return sde_delta_misfit(b, shape, error);
	columns = (size_t)b->shape[1];
	if (t) {
		if (t->rank != 4 || t->shape[0] != a->shape[0] || t->shape[1] != b->shape[0] ||
		    t->count != (size_t)t->shape[0] * (size_t)t->shape[1] * spots)
			return sde_delta_misfit(t, shape, error);
	} else {
		if (columns % spots != 0)
			return sde_delta_misfit(b, shape, error);
		columns /= spots;
	}
	*ret = (struct factor){(size_t)a->shape[t ? 1 : 0], columns, spots, (int)b->shape[0]};
	return 0;
}

static int factors(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		   struct factor *one, struct factor *two, struct sde_error *error)
{
	int r = first_factor(delta, shape, one, error);

	return r < 0 ? r : second_factor(delta, shape, two, error);
}

static int check(struct sde_delta *delta, const struct sde_delta_shape *shape,
		 struct sde_error *error)
{
	struct factor one, two;
	size_t out, in;
	int r;

	r = factors(delta, shape, &one, &two, error);
	if (r < 0)
		return r;
	if (__builtin_mul_overflow(one.out, two.out, &out) ||
	    __builtin_mul_overflow(one.in, two.in, &in) || out != (size_t)shape->out ||
	    in != (size_t)shape->in)
		return sde_error_set(error, -EBADMSG,
				     "LoKr factors of %zu x %zu and %zu x %zu do not make a layer "
				     "of %d outputs and %d inputs",
				     one.out, one.in, two.out, two.in, shape->out, shape->in);
	delta->rank = two.rank ? two.rank : one.rank;
	return 0;
}

static int first_values(const struct sde_delta *delta, const struct factor *factor, float *w)
{
	_cleanup_free_ float *a = sde_delta_floats(delta->parts[W1_A]);
	_cleanup_free_ float *b = sde_delta_floats(delta->parts[W1_B]);
	const size_t rank = (size_t)factor->rank;

	if (delta->parts[W1])
		return sde_tensor_to_f32(delta->parts[W1], w, NULL);
	if (!a || !b)
		return -ENOMEM;
	for (size_t o = 0; o < factor->out; o++)
		for (size_t k = 0; k < rank; k++)
			sde_delta_axpy(factor->in, a[o * rank + k], b + k * factor->in,
				       w + o * factor->in);
	return 0;
}

static int second_values(const struct sde_delta *delta, const struct factor *factor, float *w)
{
	_cleanup_free_ float *a = sde_delta_floats(delta->parts[W2_A]);
	_cleanup_free_ float *b = sde_delta_floats(delta->parts[W2_B]);
	_cleanup_free_ float *t = sde_delta_floats(delta->parts[T2]), *scratch = NULL;
	const size_t row = factor->in * factor->spots, rank = (size_t)factor->rank;

	if (delta->parts[W2])
		return sde_tensor_to_f32(delta->parts[W2], w, NULL);
	scratch = malloc(rank * factor->spots * sizeof(*scratch));
	if (!a || !b || !scratch || (delta->parts[T2] && !t))
		return -ENOMEM;
	for (size_t o = 0; o < factor->out; o++) {
		if (t)
			sde_delta_tucker_row(t, a + o, factor->out, b, factor->rank, factor->rank,
					     (int)factor->in, (int)factor->spots, scratch,
					     w + o * row);
		for (size_t k = 0; !t && k < rank; k++)
			sde_delta_axpy(row, a[o * rank + k], b + k * row, w + o * row);
	}
	return 0;
}

static int add(const struct sde_delta *delta, const struct sde_delta_shape *shape, double strength,
	       float *w)
{
	_cleanup_free_ float *w1 = NULL, *w2 = NULL;
	struct factor one, two;
	size_t part;
	int r;

	r = factors(delta, shape, &one, &two, NULL);
	if (r < 0)
		return r;
	w1 = calloc(one.out * one.in, sizeof(*w1));
	w2 = calloc(two.out * two.in * two.spots, sizeof(*w2));
	if (!w1 || !w2)
		return -ENOMEM;
	r = first_values(delta, &one, w1);
	if (r >= 0)
		r = second_values(delta, &two, w2);
	part = two.in * two.spots;
	for (size_t o = 0; r >= 0 && o < (size_t)shape->out; o++)
		for (size_t i = 0; i < one.in; i++)
			sde_delta_axpy(part, (float)(strength * w1[o / two.out * one.in + i]),
				       w2 + o % two.out * part,
				       w + o * sde_delta_row(shape) + i * part);
	return r;
}

const struct sde_delta_kind sde_delta_lokr = {
	.name = "LoKr",
	.parts = {[W1] = "lokr_w1",
		  [W1_A] = "lokr_w1_a",
		  [W1_B] = "lokr_w1_b",
		  [W2] = "lokr_w2",
		  [W2_A] = "lokr_w2_a",
		  [W2_B] = "lokr_w2_b",
		  [T2] = "lokr_t2"},
	.check = check,
	.add = add,
};
