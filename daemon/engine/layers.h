/*
 * The building stones of the models: a layer is the tensors of its weights, as found in a file, with the sizes they were
 * checked against. Models are structs of these, filled by the tables of bind.h and used by the functions of record.h.
 */
#pragma once

struct sde_tensor;

/* 2-D convolution, weight (out, in, kernel, kernel). */
struct sde_conv {
	const struct sde_tensor *weight, *bias;
	int in, out, kernel;
};

/* y = x W^T + b, weight (out, in) or, from a 1x1 convolution, (out, in, 1, 1). bias may be NULL. */
struct sde_linear {
	const struct sde_tensor *weight, *bias;
	int in, out;
};

/* Scale and shift of a group or layer norm. */
struct sde_norm {
	const struct sde_tensor *weight, *bias;
	int channels;
};

/* A table of rows (embeddings) or a single parameter matrix. */
struct sde_table {
	const struct sde_tensor *weight;
	int rows, columns;
};
