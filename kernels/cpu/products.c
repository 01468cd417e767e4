/*
 * Convolution and linear layers on oneDNN: activations stay channels-last, weights take whatever layout the chosen kernel
 * wants ("any"), activation or residual follow inside the kernel as post-ops. A 1x1 convolution is a linear layer over
 * pixels. Where oneDNN has no bfloat16 kernel for the processor, the op is computed in float32 between two conversions.
 */
#include <errno.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/layout.h"

#define MAX_ARGS 6

struct product {
	dnnl_primitive_t primitive;
	dnnl_memory_t x, weight, bias, y, residual, scratchpad;
	struct sdk_packed *packed_weight, *packed_bias;
	bool widened; /* bfloat16 op run in float32 */
	size_t x_count, y_count, scratchpad_bytes;
	/* of a weight that rests in another form: where it is widened to before each run; else NULL */
	struct sdk_layout *layout;
	enum sdk_type resting;
	float scale;
	size_t weight_bytes;
};

int sdk_cpu_errno(dnnl_status_t status)
{
	switch (status) {
	case dnnl_success:
		return 0;
	case dnnl_out_of_memory:
		return -ENOMEM;
	case dnnl_unimplemented:
		return -ENOTSUP;
	case dnnl_invalid_arguments:
		return -EINVAL;
	default:
		return -EIO;
	}
}

static void memory_free(dnnl_memory_t memory)
{
	if (memory)
		dnnl_memory_destroy(memory);
}

static void product_release(struct sdk_cpu *cpu, void *state)
{
	struct product *product = state;

	if (!product)
		return;
	if (product->primitive)
		dnnl_primitive_destroy(product->primitive);
	memory_free(product->x);
	memory_free(product->weight);
	memory_free(product->bias);
	memory_free(product->y);
	memory_free(product->residual);
	memory_free(product->scratchpad);
	sdk_packed_unref(cpu, product->packed_weight);
	sdk_packed_unref(cpu, product->packed_bias);
	sdk_layout_free(product->layout);
	free(product);
}

/* Activation or residual as post-op of a primitive that writes y. */
static dnnl_status_t append_post(const struct sdk_op *op, const dnnl_memory_desc_t *y,
				 dnnl_post_ops_t post)
{
	static const struct {
		dnnl_alg_kind_t kind;
		float alpha;
	} kinds[] = {
		[SDK_SILU] = {dnnl_eltwise_swish, 1.0f},
		[SDK_GELU] = {dnnl_eltwise_gelu_erf, 0},
		[SDK_GELU_TANH] = {dnnl_eltwise_gelu_tanh, 0},
		[SDK_QUICK_GELU] = {dnnl_eltwise_swish, 1.702f},
		[SDK_RELU] = {dnnl_eltwise_relu, 0},
		[SDK_TANH] = {dnnl_eltwise_tanh, 0},
		[SDK_SIGMOID] = {dnnl_eltwise_logistic, 0},
	};

	if (op->activated)
		return dnnl_post_ops_append_eltwise(post, 1.0f, kinds[op->activation].kind,
						    kinds[op->activation].alpha, 0);
	if (op->n_in > 1)
		return dnnl_post_ops_append_binary(post, dnnl_binary_add, y);
	return dnnl_success;
}

/* The primitive for element type: descriptors by shape, weights in any layout. */
static dnnl_status_t describe(struct sdk_cpu *cpu, const struct sdk_op *op, bool conv,
			      dnnl_data_type_t type, dnnl_primitive_desc_t *ret_pd)
{
	const struct sdk_shape in = op->in_shape[0], out = op->out_shape;
	const int k = conv ? (int)op->weight->shape[2] : 1;
	const dnnl_dim_t pixels = (dnnl_dim_t)in.n * in.h * in.w;
	const dnnl_dims_t x4 = {in.n, in.c, in.h, in.w}, y4 = {out.n, out.c, out.h, out.w};
	const dnnl_dims_t w4 = {out.c, in.c, k, k}, b1 = {out.c};
	const dnnl_dims_t x2 = {pixels, in.c}, y2 = {pixels, out.c}, w2 = {out.c, in.c};
	const dnnl_dims_t strides = {op->stride, op->stride};
	const dnnl_dims_t before = {op->pad_top, op->pad_left},
			  after = {op->pad_bottom, op->pad_right};
	dnnl_memory_desc_t x, w, b, y;
	dnnl_primitive_attr_t attr = NULL;
	dnnl_post_ops_t post = NULL;
	dnnl_status_t status;

	dnnl_memory_desc_init_by_tag(&x, conv ? 4 : 2, conv ? x4 : x2, type,
				     conv ? dnnl_nhwc : dnnl_ab);
	dnnl_memory_desc_init_by_tag(&y, conv ? 4 : 2, conv ? y4 : y2, type,
				     conv ? dnnl_nhwc : dnnl_ab);
	dnnl_memory_desc_init_by_tag(&w, conv ? 4 : 2, conv ? w4 : w2, type, dnnl_format_tag_any);
	dnnl_memory_desc_init_by_tag(&b, 1, b1, dnnl_f32, dnnl_a);
	status = dnnl_primitive_attr_create(&attr);
	if (status == dnnl_success)
		status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
	if (status == dnnl_success)
		status = dnnl_post_ops_create(&post);
	if (status == dnnl_success)
		status = append_post(op, &y, post);
	if (status == dnnl_success)
		status = dnnl_primitive_attr_set_post_ops(attr, post);
	if (status == dnnl_success && conv) {
		dnnl_convolution_desc_t desc;

		status = dnnl_convolution_forward_desc_init(
			&desc, dnnl_forward_inference, dnnl_convolution_direct, &x, &w,
			op->bias ? &b : NULL, &y, strides, before, after);
		if (status == dnnl_success)
			status = dnnl_primitive_desc_create(ret_pd, &desc, attr, cpu->engine, NULL);
	} else if (status == dnnl_success) {
		dnnl_inner_product_desc_t desc;

		status = dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_inference, &x, &w,
							      op->bias ? &b : NULL, &y);
		if (status == dnnl_success)
			status = dnnl_primitive_desc_create(ret_pd, &desc, attr, cpu->engine, NULL);
	}
	if (post)
		dnnl_post_ops_destroy(post);
	if (attr)
		dnnl_primitive_attr_destroy(attr);
	return status;
}

static dnnl_status_t memory_for(struct sdk_cpu *cpu, dnnl_primitive_desc_t pd, dnnl_query_t query,
				int index, void *data, dnnl_memory_t *ret)
{
	const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, query, index);

	return md ? dnnl_memory_create(ret, md, cpu->engine, data) : dnnl_invalid_arguments;
}

/* The weight as it rests, where that saves memory; 0 = it is to be packed. */
static int rest_weight(struct sdk_cpu *cpu, const struct sdk_tensor *weight,
		       const dnnl_memory_desc_t *md, struct product *product)
{
	const size_t bytes = dnnl_memory_desc_get_size(md);
	int r;

	if (!sdk_tensor_rests(weight, &product->resting) ||
	    sdk_type_bytes(product->resting, (size_t)sdk_tensor_count(weight)) >= bytes)
		return 0;
	r = sdk_layout_new(md, &product->layout);
	if (r < 0)
		return r == -ENOTSUP ? 0 : r;
	product->weight_bytes = (bytes + 63) & ~(size_t)63;
	/* what is stored in the type is still to be scaled */
	product->scale = product->resting == weight->type ? weight->scale : 0;
	r = sdk_packed_resting(cpu, weight, product->resting, &product->packed_weight);
	return r < 0 ? r : 1;
}

static size_t aligned_floats(size_t n)
{
	return ((n + 15) & ~(size_t)15) * sizeof(float);
}

/* Everything behind the primitive descriptor: weights, memories, scratch. */
static int product_fill(struct sdk_cpu *cpu, const struct sdk_op *op, dnnl_primitive_desc_t pd,
			struct product *product)
{
	const dnnl_memory_desc_t *scratchpad =
		dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
	const dnnl_memory_desc_t *weights =
		dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	dnnl_status_t status;
	int r;

	r = rest_weight(cpu, op->weight, weights, product);
	if (r == 0)
		r = sdk_packed_weights(cpu, op->weight, weights, &product->packed_weight);
	if (r >= 0 && op->bias)
		r = sdk_packed_floats(cpu, op->bias, &product->packed_bias);
	if (r < 0)
		return r;
	status = dnnl_primitive_create(&product->primitive, pd);
	if (status == dnnl_success)
		status = memory_for(cpu, pd, dnnl_query_src_md, 0, NULL, &product->x);
	if (status == dnnl_success)
		status = memory_for(cpu, pd, dnnl_query_dst_md, 0, NULL, &product->y);
	if (status == dnnl_success && op->n_in > 1)
		status = memory_for(cpu, pd, dnnl_query_dst_md, 0, NULL, &product->residual);
	if (status == dnnl_success)
		status =
			memory_for(cpu, pd, dnnl_query_weights_md, 0,
				   product->layout ? NULL : sdk_packed_data(product->packed_weight),
				   &product->weight);
	if (status == dnnl_success && op->bias)
		status = memory_for(cpu, pd, dnnl_query_weights_md, 1,
				    sdk_packed_data(product->packed_bias), &product->bias);
	if (status == dnnl_success)
		status = dnnl_memory_create(&product->scratchpad, scratchpad, cpu->engine, NULL);
	if (status != dnnl_success)
		return sdk_cpu_errno(status);
	product->x_count = (size_t)sdk_shape_count(op->in_shape[0]);
	product->y_count = (size_t)sdk_shape_count(op->out_shape);
	product->scratchpad_bytes = (dnnl_memory_desc_get_size(scratchpad) + 63) & ~(size_t)63;
	return sdk_cpu_scratch(cpu, product->scratchpad_bytes + product->weight_bytes +
					    (product->widened
						     ? aligned_floats(product->x_count) +
							       2 * aligned_floats(product->y_count)
						     : 0));
}

static int product_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, bool conv,
			   void **ret_state)
{
	const bool half = cpu->base.activation == SDK_BF16;
	struct product *product = calloc(1, sizeof(*product));
	dnnl_primitive_desc_t pd = NULL;
	dnnl_status_t status = dnnl_unimplemented;
	int r;

	if (!product)
		return -ENOMEM;
	if (half && cpu->isa >= SDK_ISA_AVX512_BF16)
		status = describe(cpu, op, conv, dnnl_bf16, &pd);
	if (status != dnnl_success) {
		product->widened = half;
		status = describe(cpu, op, conv, dnnl_f32, &pd);
	}
	r = sdk_cpu_errno(status);
	if (r >= 0)
		r = product_fill(cpu, op, pd, product);
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	if (r < 0) {
		product_release(cpu, product);
		return r;
	}
	*ret_state = product;
	return 0;
}

static int execute(struct sdk_cpu *cpu, const struct sdk_op *op, struct product *product, void *x,
		   void *residual, void *y)
{
	dnnl_exec_arg_t args[MAX_ARGS];
	dnnl_status_t status;
	int n = 0;

	dnnl_memory_set_data_handle(product->x, x);
	dnnl_memory_set_data_handle(product->y, y);
	dnnl_memory_set_data_handle(product->scratchpad, cpu->scratch);
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, product->x};
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, product->weight};
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_DST, product->y};
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, product->scratchpad};
	if (product->bias)
		args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, product->bias};
	if (product->residual) {
		dnnl_memory_set_data_handle(product->residual, residual);
		args[n++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
					      product->residual};
	}
	status = dnnl_primitive_execute(product->primitive, cpu->stream, n, args);
	if (status == dnnl_success)
		status = dnnl_stream_wait(cpu->stream);
	return sdk_cpu_errno(status);
}

static int product_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		       void *out)
{
	struct product *product = state;
	char *scratch = (char *)cpu->scratch + product->scratchpad_bytes;
	float *x, *y, *residual;
	int r;

	if (product->layout) {
		sdk_layout_fill(cpu, product->layout, product->resting,
				sdk_packed_data(product->packed_weight), product->scale, scratch);
		dnnl_memory_set_data_handle(product->weight, scratch);
		scratch += product->weight_bytes;
	}
	if (!product->widened)
		return execute(cpu, op, product, in[0], op->n_in > 1 ? in[1] : NULL, out);
	x = (float *)scratch;
	y = (float *)(scratch + aligned_floats(product->x_count));
	residual = (float *)((char *)y + aligned_floats(product->y_count));
	sdk_widen(SDK_BF16, in[0], x, product->x_count);
	if (op->n_in > 1)
		sdk_widen(SDK_BF16, in[1], residual, product->y_count);
	r = execute(cpu, op, product, x, residual, y);
	if (r >= 0)
		sdk_narrow(SDK_BF16, y, out, product->y_count);
	return r;
}

static int linear_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	return product_prepare(cpu, op, false, ret_state);
}

static int conv_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	const bool pointwise = op->weight->shape[2] == 1 && op->stride == 1 &&
			       !(op->pad_top | op->pad_left | op->pad_bottom | op->pad_right);

	return product_prepare(cpu, op, !pointwise, ret_state);
}

const struct sdk_cpu_op sdk_cpu_conv2d = {conv_prepare, product_run, product_release};
const struct sdk_cpu_op sdk_cpu_linear = {linear_prepare, product_run, product_release};
