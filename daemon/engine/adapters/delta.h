/*
 * What one adapter file says about one layer: which form its change has (LoRA, LoHa, LoKr, full difference; a file each), the
 * tensors of it, and how strong it is. A form is a struct sde_delta_kind; delta.c finds the form by the tensors' names.
 * All forms give a matrix of the layer's weight, (out, in * kernel * kernel), to be added to it.
 */
#pragma once

#include <stdbool.h>

#include "daemon/engine/formats/weights.h"

#define SDE_DELTA_PARTS_MAX 8

struct sde_delta_kind;

/* A layer's weight: (out, in, kernel, kernel). */
struct sde_delta_shape {
	int out, in, kernel;
};

struct sde_delta {
	const struct sde_delta_kind *kind;
	const struct sde_tensor *parts[SDE_DELTA_PARTS_MAX]; /* as kind names them, NULL = absent */
	const struct sde_tensor
		*dora_scale; /* magnitudes of the changed weight's rows or columns, or NULL */
	int first_row; /* of a file's fused layer: where the layer's outputs begin; low rank only */
	int rank;      /* 0: alpha has no meaning */
	double scale;  /* alpha / rank, or 1 */
};

struct sde_delta_kind {
	const char *name; /* for messages */
	const char *parts
		[SDE_DELTA_PARTS_MAX]; /* ends of the tensors' names; others of the same meaning after a '|' */
	/* Check that the parts belong together and fit the layer; set rank. */
	int (*check)(struct sde_delta *delta, const struct sde_delta_shape *shape,
		     struct sde_error *error);
	/* w += strength * change (scale not included). 0 or -ENOMEM. */
	int (*add)(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		   double strength, float *w);
};

extern const struct sde_delta_kind sde_delta_low_rank, sde_delta_loha, sde_delta_lokr,
	sde_delta_full;

/* Parts of sde_delta_low_rank. */
enum { SDE_LOW_RANK_DOWN, SDE_LOW_RANK_UP, SDE_LOW_RANK_MID };

/*
 * The change of the layer that the file calls base: 1 with *ret_delta, 0 when the file has none; -EBADMSG names a tensor that is
 * missing or of the wrong shape. The tensors found count as taken.
 */
int sde_delta_find(struct sde_weights *weights, const char *base,
		   const struct sde_delta_shape *shape, struct sde_delta *ret_delta,
		   struct sde_error *error);

/*
 * w (starting from the layer's weight, or from other changes of it) += weight * the change; with DoRA (Liu et al. 2024)
 * weight * (magnitude * V / |V| - base), V = base + change: a weight of 0 changes nothing. base may be w only without DoRA.
 */
int sde_delta_apply(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		    double weight, const float *base, float *w);

/* Low rank only: rows of the matrix that goes down, (rank, in * kernel * kernel), a middle part multiplied in. */
int sde_low_rank_down(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		      float *out);

/* For the forms: numbers of a tensor, freed by the caller, NULL when out of memory or absent. */
float *sde_delta_floats(const struct sde_tensor *tensor);
/* Elements of a weight's row: in * kernel * kernel. */
size_t sde_delta_row(const struct sde_delta_shape *shape);
/* -EBADMSG naming the tensor, its shape and what would fit. */
int sde_delta_misfit(const struct sde_tensor *tensor, const struct sde_delta_shape *shape,
		     struct sde_error *error);
/* y[0..n) += a * x[0..n) */
void sde_delta_axpy(size_t n, float a, const float *x, float *y);
/*
 * A row of a Tucker product: row[i, s] += sum over r, q of a[r] t[r, q, s] b[q, i]; a_step floats from a[r] to a[r + 1];
 * t (r, q, spots), b (q, in). scratch: q * spots floats.
 */
void sde_delta_tucker_row(const float *t, const float *a, size_t a_step, const float *b, int r,
			  int q, int in, int spots, float *scratch, float *row);
