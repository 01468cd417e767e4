/*
 * Binding a model's structs to the tensors of a file by tables: each table names the parts of one kind of block, with the
 * dimensions they must have. So a missing, misshapen or left-over tensor is an error that names it, and the list of
 * tensors of an architecture can be read in one place.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/layers.h"

struct sde_error;
struct sde_weights;

enum sde_field_kind {
	SDE_FIELD_CONV3,	  /* struct sde_conv, 3x3, bias */
	SDE_FIELD_CONV3_NO_BIAS,  /* struct sde_conv, 3x3 */
	SDE_FIELD_CONV2,	  /* struct sde_conv, 2x2, bias: patches */
	SDE_FIELD_CONV1,	  /* struct sde_conv, 1x1, bias */
	SDE_FIELD_LINEAR,	  /* struct sde_linear, bias */
	SDE_FIELD_LINEAR_NO_BIAS, /* struct sde_linear */
	SDE_FIELD_POINTWISE, /* struct sde_linear with bias, stored (out, in) or (out, in, 1, 1) */
	SDE_FIELD_NORM,	     /* struct sde_norm, dimension `out` */
	SDE_FIELD_NORM_NO_BIAS,
	SDE_FIELD_TABLE, /* struct sde_table, (out, in) */
	SDE_FIELD_POSITIONS, /* struct sde_table, stored (1, out, in) under its name without ".weight" */
};

/* in and out index the dims array given to sde_bind; out only for norms. */
struct sde_field {
	const char *name; /* without ".weight"; alternatives of older files after a '|' */
	enum sde_field_kind kind;
	size_t offset;
	int in, out;
};

#define SDE_FIELD(type, member, name, kind, in, out)                                               \
	{                                                                                          \
		name, SDE_FIELD_##kind, offsetof(struct type, member), in, out                     \
	}

/* A layer that has just been bound, as a patch may change it. */
struct sde_bound_layer {
	const char *name; /* "down_blocks.0.resnets.1.conv1" */
	struct sdk_tensor *weight, *bias;
	const struct sde_branch **branch;
	int in, out, kernel; /* kernel 1 for linear layers */
};

/*
 * What adapters do to a model: while one is set on weights (sde_weights_set_patch), every convolution and linear layer that
 * is bound from them passes through it and may get a branch or other tensors. A negative errno ends the binding.
 */
struct sde_patch {
	int (*layer)(struct sde_patch *patch, const struct sde_bound_layer *layer,
		     struct sde_error *error);
};

/* Sticky: after the first error the later calls do nothing. */
struct sde_binder {
	struct sde_weights *weights;
	struct sde_error *error;
	int r;
};

/*
 * Bind the n fields of a block at base; the block's tensors begin with the printf-like prefix ("down_blocks.0.").
 * dims: the sizes that the fields' in and out stand for.
 */
void sde_bind(struct sde_binder *binder, const struct sde_field *fields, size_t n, const int *dims,
	      void *base, const char *prefix, ...) __attribute__((format(printf, 6, 7)));

#define SDE_BIND(binder, fields, dims, base, ...)                                                  \
	sde_bind(binder, fields, sizeof(fields) / sizeof((fields)[0]), dims, base, __VA_ARGS__)

/* One tensor that is no layer, by its whole name. */
void sde_bind_tensor(struct sde_binder *binder, struct sdk_tensor *ret_tensor, int rank,
		     const int64_t *shape, const char *name);

/* The binder's error, or -EBADMSG naming a tensor that no field took. */
int sde_bind_finish(struct sde_binder *binder);
