/*
 * What plan.c, the recorders and the backends share: the recorded op and the plan's tables.
 */
#pragma once

#include "kernels/plan.h"

enum sdk_op_kind {
	SDK_OP_CONV2D,
	SDK_OP_LINEAR,
	SDK_OP_GROUP_NORM,
	SDK_OP_LAYER_NORM,
	SDK_OP_RMS_NORM,
	SDK_OP_ADA_LAYER_NORM,
	SDK_OP_ROPE,
	SDK_OP_ACTIVATE,
	SDK_OP_ADD,
	SDK_OP_MUL,
	SDK_OP_AFFINE,
	SDK_OP_GEGLU,
	SDK_OP_ATTENTION,
	SDK_OP_RESIZE_NEAREST,
	SDK_OP_CONCAT,
	SDK_OP_SLICE,
	SDK_OP_EMBEDDING,
	SDK_OP_ADD_ROWS,
	SDK_OP_COUNT,
};

#define SDK_MAX_INPUTS 4

struct sdk_op {
	enum sdk_op_kind kind;
	int n_in;
	sdk_value in[SDK_MAX_INPUTS], out;
	struct sdk_shape in_shape[SDK_MAX_INPUTS], out_shape;
	const struct sdk_tensor *weight, *bias;
	int stride, pad_top, pad_left, pad_bottom, pad_right; /* conv2d */
	int groups, heads, first;			      /* group_norm; attention; slice */
	float eps, scale, shift;
	bool silu, causal;
	bool watched; /* attention: and what it is called */
	int site;
	bool activated; /* conv2d, linear: activation follows; a second input is a residual to add instead */
	enum sdk_activation activation;
};

struct sdk_value_info {
	struct sdk_shape shape;
	bool ids;	       /* int32 instead of the activation type */
	bool pinned;	       /* input or output: lives through the whole run */
	sdk_value alias;       /* another view of this value's memory, or itself */
	int first_op, last_op; /* liveness: written by, last read by */
	size_t offset, bytes;
};

struct sdk_plan {
	struct sdk_backend *backend;
	struct sdk_op *ops;
	void **states;
	int n_ops, ops_capacity, n_prepared;
	struct sdk_value_info *values;
	int n_values, values_capacity;
	struct sdk_tensor **tables; /* owned, with their data */
	int n_tables, tables_capacity;
	const struct sdk_attention_watch *watch;
	bool laid_out; /* compiled: values have their places in the backend's arena */
	size_t arena_bytes;
	enum sdk_wrap wrap;
	int error;
	char error_text[256];
};

static inline int64_t sdk_shape_count(struct sdk_shape shape)
{
	return (int64_t)shape.n * shape.h * shape.w * shape.c;
}

/* Join ops that one kernel can do at once; before liveness (fuse.c). */
int sdk_plan_fuse(struct sdk_plan *plan);

extern const char *const sdk_op_names[SDK_OP_COUNT];
