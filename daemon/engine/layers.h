/*
 * The building stones of the models: a layer is the tensors of its weights, as found in a file, with the sizes they were
 * checked against. Models are structs of these, filled by the tables of bind.h and used by the functions of record.h.
 * Backends keep packed weights by the address of the tensor, so a bound model must not move once it has recorded.
 */
#pragma once

#include "kernels/tensor.h"

/*
 * What an adapter of low rank adds to a layer: y += up(down(x)). down is a weight of the layer's own form with `rank` outputs (a
 * convolution keeps kernel, stride and padding), up is (out, rank).
 */
struct sde_branch {
	struct sdk_tensor down, up;
};

/*
 * 2-D convolution, weight (out, in, kernel, kernel). weight.data NULL: the model has no such layer. bias.data may be NULL.
 */
struct sde_conv {
	struct sdk_tensor weight, bias;
	const struct sde_branch *branch; /* NULL: none; borrowed */
	int in, out, kernel;
};

/* y = x W^T + b, weight (out, in) or, from a 1x1 convolution, (out, in, 1, 1). bias.data may be NULL. */
struct sde_linear {
	struct sdk_tensor weight, bias;
	const struct sde_branch *branch; /* NULL: none; borrowed */
	int in, out;
};

/* Scale and shift of a norm; RMS norms have no shift: bias.data NULL. */
struct sde_norm {
	struct sdk_tensor weight, bias;
	int channels;
};

/* A table of rows (embeddings). */
struct sde_table {
	struct sdk_tensor weight;
	int rows, columns;
};
