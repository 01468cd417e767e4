/*
 * Single operations on the backend asked for: kinds op_activations, op_geglu, op_norms and op_downsample. Each is a plan of
 * one operation, so that what fails is the operation.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/plan.h"
#include "tests/golden/golden.h"

#define ERROR_SIZE 256

/* GOLDEN_PASS and a plan with one input; backend and plan are never closed: the case is a process of its own. */
static int open_plan(struct golden_case *c, struct sdk_shape shape, struct sdk_plan **ret_plan,
		     sdk_value *ret_input)
{
	const struct sdk_backend_options options = {
		.name = c->options->backend,
		.dtype = c->options->dtype,
		.threads = 1,
	};
	struct sdk_backend *backend;
	char text[ERROR_SIZE];

	if (sdk_backend_open(&options, &backend, text, sizeof(text)) < 0)
		return golden_fail(c, "backend %s: %s", options.name, text);
	*ret_plan = sdk_plan_new(backend);
	if (!*ret_plan)
		abort();
	*ret_input = sdk_input(*ret_plan, shape.n, shape.h, shape.w, shape.c);
	return GOLDEN_PASS;
}

static int run_plan(struct golden_case *c, struct sdk_plan *plan, sdk_value input,
		    const float *data)
{
	if (sdk_plan_compile(plan) < 0 || sdk_plan_set(plan, input, data) < 0 ||
	    sdk_plan_run(plan, NULL) < 0)
		return golden_fail(c, "plan: %s", sdk_plan_error_text(plan));
	return GOLDEN_PASS;
}

/* The value as the case stores it: channels last, or (nchw) first. */
static void expect(struct golden_case *c, const char *name, struct sdk_plan *plan, sdk_value value,
		   bool nchw, int rank, const int64_t *shape)
{
	const struct sdk_shape s = sdk_plan_shape(plan, value);
	const size_t n = (size_t)s.n * (size_t)s.h * (size_t)s.w * (size_t)s.c;
	float *got = golden_floats(n), *turned = golden_floats(n);

	if (sdk_plan_get(plan, value, got) < 0)
		golden_fail(c, "%s: no value", name);
	if (nchw)
		sdk_nhwc_to_nchw(got, turned, s.n, s.h, s.w, s.c);
	golden_expect_f32(c, name, nchw ? turned : got, rank, shape);
	free(got);
	free(turned);
}

static struct sdk_tensor tensor_of(const struct golden_tensor *t)
{
	struct sdk_tensor tensor = {
		.name = t->name,
		.type = SDK_F32,
		.rank = t->rank,
		.data = t->f32,
	};

	memcpy(tensor.shape, t->shape, (size_t)t->rank * sizeof(*t->shape));
	return tensor;
}

int golden_activations(struct golden_case *c)
{
	static const struct {
		const char *name;
		enum sdk_activation activation;
	} activations[] = {
		{"silu", SDK_SILU},	      {"gelu_erf", SDK_GELU},
		{"gelu_tanh", SDK_GELU_TANH}, {"quick_gelu", SDK_QUICK_GELU},
		{"relu", SDK_RELU},	      {"tanh", SDK_TANH},
	};
	const struct golden_tensor *x = golden_input_f32(c, "x");
	struct sdk_plan *plan;
	sdk_value input, y[6];
	int r;

	if (!x)
		return GOLDEN_FAIL;
	r = open_plan(c, (struct sdk_shape){1, 1, 1, (int)x->count}, &plan, &input);
	if (r != GOLDEN_PASS)
		return r;
	for (size_t i = 0; i < 6; i++)
		y[i] = sdk_output(plan, sdk_activate(plan, input, activations[i].activation));
	r = run_plan(c, plan, input, x->f32);
	for (size_t i = 0; r == GOLDEN_PASS && i < 6; i++)
		expect(c, activations[i].name, plan, y[i], false, x->rank, x->shape);
	return r;
}

int golden_geglu(struct golden_case *c)
{
	const struct golden_tensor *x = golden_input_f32(c, "x");
	struct sdk_plan *plan;
	sdk_value input, y;
	int r;

	if (!x || x->rank != 2)
		return golden_fail(c, "x must be (rows, 2 * width)");
	r = open_plan(c, (struct sdk_shape){1, 1, (int)x->shape[0], (int)x->shape[1]}, &plan,
		      &input);
	if (r != GOLDEN_PASS)
		return r;
	y = sdk_output(plan, sdk_geglu(plan, input));
	r = run_plan(c, plan, input, x->f32);
	if (r == GOLDEN_PASS)
		expect(c, "out", plan, y, false, GOLDEN_SHAPE(x->shape[0], x->shape[1] / 2));
	return r;
}

/* An (n, c, h, w) tensor to a plan's input; *ret_data is owned by the caller. */
static int open_nchw(struct golden_case *c, const struct golden_tensor *x,
		     struct sdk_plan **ret_plan, sdk_value *ret_input, float **ret_data)
{
	struct sdk_shape s;

	if (x->rank != 4)
		return golden_fail(c, "x must be (n, c, h, w)");
	s = (struct sdk_shape){(int)x->shape[0], (int)x->shape[2], (int)x->shape[3],
			       (int)x->shape[1]};
	*ret_data = golden_floats(x->count);
	sdk_nchw_to_nhwc(x->f32, *ret_data, s.n, s.c, s.h, s.w);
	return open_plan(c, s, ret_plan, ret_input);
}

int golden_norms(struct golden_case *c)
{
	const struct golden_tensor *x = golden_input_f32(c, "x");
	const struct golden_tensor *weight = golden_input_f32(c, "weight");
	const struct golden_tensor *bias = golden_input_f32(c, "bias");
	const int groups = (int)golden_param_int(c, "groups", 0);
	struct sdk_tensor w, b;
	struct sdk_plan *plan;
	sdk_value input, y[4];
	float *data;
	int r;

	if (!x || !weight || !bias)
		return GOLDEN_FAIL;
	r = open_nchw(c, x, &plan, &input, &data);
	if (r != GOLDEN_PASS)
		return r;
	w = tensor_of(weight);
	b = tensor_of(bias);
	y[0] = sdk_output(plan, sdk_group_norm(plan, input, &w, &b, groups, 1e-5f, false));
	y[1] = sdk_output(plan, sdk_group_norm(plan, input, &w, &b, groups, 1e-6f, false));
	y[2] = sdk_output(plan, sdk_layer_norm(plan, input, &w, &b, 1e-5f));
	y[3] = sdk_output(plan, sdk_rms_norm(plan, input, &w, 1e-6f));
	r = run_plan(c, plan, input, data);
	free(data);
	if (r != GOLDEN_PASS)
		return r;
	expect(c, "group_norm_eps1e-5", plan, y[0], true, x->rank, x->shape);
	expect(c, "group_norm_eps1e-6", plan, y[1], true, x->rank, x->shape);
	/* the norms over channels are given channels last */
	expect(c, "layer_norm_eps1e-5", plan, y[2], false,
	       GOLDEN_SHAPE(x->shape[0], x->shape[2], x->shape[3], x->shape[1]));
	expect(c, "rms_norm_eps1e-6", plan, y[3], false,
	       GOLDEN_SHAPE(x->shape[0], x->shape[2], x->shape[3], x->shape[1]));
	return GOLDEN_PASS;
}

int golden_downsample(struct golden_case *c)
{
	const struct golden_tensor *x = golden_input_f32(c, "x");
	const struct golden_tensor *weight = golden_input_f32(c, "weight");
	struct sdk_shape even, odd;
	struct sdk_tensor w;
	struct sdk_plan *plan;
	sdk_value input, unet, vae;
	float *data;
	int r;

	if (!x || !weight || weight->rank != 4)
		return golden_fail(c, "x or weight is missing or misshapen");
	r = open_nchw(c, x, &plan, &input, &data);
	if (r != GOLDEN_PASS)
		return r;
	w = tensor_of(weight);
	unet = sdk_output(plan, sdk_conv2d(plan, input, &w, NULL, 2, 1, 1, 1, 1));
	vae = sdk_output(plan, sdk_conv2d(plan, input, &w, NULL, 2, 0, 0, 1, 1));
	r = run_plan(c, plan, input, data);
	free(data);
	if (r != GOLDEN_PASS)
		return r;
	even = sdk_plan_shape(plan, unet);
	odd = sdk_plan_shape(plan, vae);
	expect(c, "unet_pad1", plan, unet, true, GOLDEN_SHAPE(even.n, even.c, even.h, even.w));
	expect(c, "vae_asym_pad", plan, vae, true, GOLDEN_SHAPE(odd.n, odd.c, odd.h, odd.w));
	return GOLDEN_PASS;
}
