/*
 * The reference backend's vtable: widen an op's weights once, then run its formula. With bf16 it still computes in float32 and
 * double, but rounds every value and every matrix as a processor with bfloat16 instructions does: what that type costs in
 * accuracy can be judged on any machine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ref/ref.h"

static const sdk_ref_function functions[SDK_OP_COUNT] = {
	[SDK_OP_CONV2D] = sdk_ref_conv2d,
	[SDK_OP_LINEAR] = sdk_ref_linear,
	[SDK_OP_GROUP_NORM] = sdk_ref_group_norm,
	[SDK_OP_LAYER_NORM] = sdk_ref_layer_norm,
	[SDK_OP_RMS_NORM] = sdk_ref_rms_norm,
	[SDK_OP_ADA_LAYER_NORM] = sdk_ref_ada_layer_norm,
	[SDK_OP_ROPE] = sdk_ref_rope,
	[SDK_OP_ACTIVATE] = sdk_ref_activate,
	[SDK_OP_ADD] = sdk_ref_binary,
	[SDK_OP_MUL] = sdk_ref_binary,
	[SDK_OP_AFFINE] = sdk_ref_affine,
	[SDK_OP_GEGLU] = sdk_ref_geglu,
	[SDK_OP_ATTENTION] = sdk_ref_attention,
	[SDK_OP_RESIZE_NEAREST] = sdk_ref_resize_nearest,
	[SDK_OP_CONCAT] = sdk_ref_concat,
	[SDK_OP_SLICE] = sdk_ref_slice,
	[SDK_OP_EMBEDDING] = sdk_ref_embedding,
	[SDK_OP_ADD_ROWS] = sdk_ref_add_rows,
};

static void round_values(void *values, size_t n)
{
	float *at = values;
	uint16_t half;

	for (size_t i = 0; i < n; i++) {
		sdk_narrow(SDK_BF16, &at[i], &half, 1);
		sdk_widen(SDK_BF16, &half, &at[i], 1);
	}
}

static int widen_new(const struct sdk_tensor *tensor, float **ret_values)
{
	const size_t n = tensor ? (size_t)sdk_tensor_count(tensor) : 0;
	float *values;
	int r;

	if (!tensor)
		return 0;
	values = malloc(n * sizeof(*values));
	if (!values)
		return -ENOMEM;
	r = sdk_tensor_floats(tensor, values);
	if (r < 0) {
		free(values);
		return r;
	}
	*ret_values = values;
	return 0;
}

static void ref_release(struct sdk_backend *backend, const struct sdk_op *op, void *state)
{
	struct sdk_ref_state *ref = state;

	if (!ref)
		return;
	free(ref->weight);
	free(ref->bias);
	free(ref);
}

static int ref_prepare(struct sdk_backend *backend, const struct sdk_op *op, void **ret_state)
{
	struct sdk_ref_state *state;
	enum sdk_type type;
	int r;

	if (!functions[op->kind])
		return -ENOTSUP;
	state = calloc(1, sizeof(*state));
	if (!state)
		return -ENOMEM;
	r = widen_new(op->weight, &state->weight);
	if (r >= 0)
		r = widen_new(op->bias, &state->bias);
	if (r < 0) {
		ref_release(backend, op, state);
		return r;
	}
	if ((op->kind == SDK_OP_CONV2D || op->kind == SDK_OP_LINEAR) &&
	    sdk_tensor_rests(op->weight, &type) && type != op->weight->type)
		sdk_round(type, state->weight, (size_t)sdk_tensor_count(op->weight));
	/* biases, norms and tables stay as they are */
	if (backend->rounds && (op->kind == SDK_OP_CONV2D || op->kind == SDK_OP_LINEAR))
		round_values(state->weight, (size_t)sdk_tensor_count(op->weight));
	*ret_state = state;
	return 0;
}

static int ref_run(struct sdk_backend *backend, const struct sdk_op *op, void *state,
		   void *const *in, void *out)
{
	int r;

	/* what the host has set is not rounded yet; for the others it changes nothing */
	for (int i = 0; backend->rounds && op->kind != SDK_OP_EMBEDDING && i < op->n_in; i++)
		round_values(in[i], (size_t)sdk_shape_count(op->in_shape[i]));
	r = functions[op->kind](op, state, in, out);
	if (r >= 0 && backend->rounds)
		round_values(out, (size_t)sdk_shape_count(op->out_shape));
	return r;
}

static void ref_free(struct sdk_backend *backend)
{
	free(backend);
}

int sdk_ref_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		 char *err, size_t err_size)
{
	static const struct sdk_backend_ops ops = {
		.prepare = ref_prepare,
		.run = ref_run,
		.release = ref_release,
		.free = ref_free,
		.fuses = true,
	};
	const bool rounds = options->dtype && strcmp(options->dtype, "bf16") == 0;
	struct sdk_backend *backend;

	if (options->dtype && !rounds && strcmp(options->dtype, "auto") != 0 &&
	    strcmp(options->dtype, "f32") != 0) {
		snprintf(err, err_size, "the ref backend computes in f32 or bf16, not in %s",
			 options->dtype);
		return -EINVAL;
	}
	backend = calloc(1, sizeof(*backend));
	if (!backend) {
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	backend->rounds = rounds;
	backend->ops = &ops;
	backend->activation = SDK_F32;
	backend->threads = 1;
	snprintf(backend->description, sizeof(backend->description), "ref, %s, 1 thread",
		 rounds ? "rounded to bf16" : "f32");
	*ret_backend = backend;
	return 0;
}
