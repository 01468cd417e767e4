/*
 * Binding and running the resampler; see resampler.h. Its heads are 64 wide in every published file, and nothing in them says so.
 */
#include "daemon/engine/adapters/resampler.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/record.h"
#include "daemon/engine/runner.h"

#define NORM_EPS    1e-5
#define HEAD	    64
#define LAYERS_MAX  64
#define QUERIES_MAX 64
#define HIDDEN_MAX  8192

enum { DIM_IN, DIM_HIDDEN, DIM_OUT, DIM_QUERIES, DIM_HEADS, DIM_TWO_HEADS, DIM_INNER };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_resampler, latents, "image_proj.latents", POSITIONS, DIM_HIDDEN, DIM_QUERIES),
	SDE_FIELD(sde_resampler, proj_in, "image_proj.proj_in", LINEAR, DIM_IN, DIM_HIDDEN),
	SDE_FIELD(sde_resampler, proj_out, "image_proj.proj_out", LINEAR, DIM_HIDDEN, DIM_OUT),
	SDE_FIELD(sde_resampler, norm_out, "image_proj.norm_out", NORM, DIM_OUT, DIM_OUT),
};
static const struct sde_field layer_fields[] = {
	SDE_FIELD(sde_resampler_layer, norm_states, "0.norm1", NORM, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_resampler_layer, norm_latents, "0.norm2", NORM, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_resampler_layer, to_q, "0.to_q", LINEAR_NO_BIAS, DIM_HIDDEN, DIM_HEADS),
	SDE_FIELD(sde_resampler_layer, to_kv, "0.to_kv", LINEAR_NO_BIAS, DIM_HIDDEN, DIM_TWO_HEADS),
	SDE_FIELD(sde_resampler_layer, to_out, "0.to_out", LINEAR_NO_BIAS, DIM_HEADS, DIM_HIDDEN),
	SDE_FIELD(sde_resampler_layer, ff_norm, "1.0", NORM, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_resampler_layer, ff_in, "1.1", LINEAR_NO_BIAS, DIM_HIDDEN, DIM_INNER),
	SDE_FIELD(sde_resampler_layer, ff_out, "1.3", LINEAR_NO_BIAS, DIM_INNER, DIM_HIDDEN),
};

static int dim(const struct sde_weights *weights, const char *name, int axis, int most)
{
	const struct sde_tensor *tensor = sde_weights_find(weights, name);

	return tensor && axis < tensor->rank && tensor->shape[axis] >= 1 &&
			       tensor->shape[axis] <= most
		       ? (int)tensor->shape[axis]
		       : 0;
}

static int count_layers(const struct sde_weights *weights)
{
	char name[64];
	int n;

	for (n = 0; n < LAYERS_MAX; n++) {
		snprintf(name, sizeof(name), "image_proj.layers.%d.0.to_q.weight", n);
		if (!sde_weights_find(weights, name))
			break;
	}
	return n;
}

int sde_resampler_bind(struct sde_resampler *resampler, struct sde_weights *weights, int in,
		       int out, struct sde_error *error)
{
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_resampler new = {
		.queries = dim(weights, "image_proj.latents", 1, QUERIES_MAX),
		.hidden = dim(weights, "image_proj.latents", 2, HIDDEN_MAX),
		.in = in,
		.out = out,
		.n_layers = count_layers(weights),
	};
	const int inner = dim(weights, "image_proj.layers.0.0.to_q.weight", 0, HIDDEN_MAX);
	const int dims[] = {
		[DIM_IN] = in,
		[DIM_HIDDEN] = new.hidden,
		[DIM_OUT] = out,
		[DIM_QUERIES] = new.queries,
		[DIM_HEADS] = inner,
		[DIM_TWO_HEADS] = 2 * inner,
		[DIM_INNER] = dim(weights, "image_proj.layers.0.1.1.weight", 0, 8 * HIDDEN_MAX),
	};
	int r;

	if (!new.queries || !new.hidden || inner < HEAD || inner % HEAD != 0 || !dims[DIM_INNER])
		return sde_error_set(error, -EINVAL,
				     "its resampler has no queries, or heads that are not %d wide",
				     HEAD);
	new.heads = inner / HEAD;
	new.layers = calloc((size_t) new.n_layers, sizeof(*new.layers));
	if (!new.layers)
		return sde_error_set(error, -ENOMEM, "no memory for a resampler");
	SDE_BIND(&binder, stem_fields, dims, &new, "%s", "");
	for (int i = 0; i < new.n_layers; i++)
		SDE_BIND(&binder, layer_fields, dims, &new.layers[i], "image_proj.layers.%d.", i);
	r = binder.r;
	if (r < 0) {
		sde_resampler_clear(&new);
		return r;
	}
	*resampler = new;
	return 0;
}

void sde_resampler_clear(struct sde_resampler *resampler)
{
	free(resampler->layers);
	*resampler = (struct sde_resampler){0};
}

/* Tokens of a, then those of b: (1, 1, n, c) each. */
static sdk_value join(struct sdk_plan *plan, sdk_value a, int n_a, sdk_value b, int n_b, int c)
{
	const sdk_value joined = sdk_concat(plan, sdk_reshape(plan, a, 1, 1, 1, n_a * c),
					    sdk_reshape(plan, b, 1, 1, 1, n_b * c));

	return sdk_reshape(plan, joined, 1, 1, n_a + n_b, c);
}

struct running {
	const struct sde_resampler *resampler;
	int tokens;
};

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	const struct running *running = userdata;
	const struct sde_resampler *resampler = running->resampler;
	const int inner = resampler->heads * HEAD;
	sdk_value states = sde_record_linear(plan, inputs[0], &resampler->proj_in);
	sdk_value latents = inputs[1];

	for (int i = 0; i < resampler->n_layers; i++) {
		const struct sde_resampler_layer *layer = &resampler->layers[i];
		const sdk_value own =
			sde_record_layer_norm(plan, latents, &layer->norm_latents, NORM_EPS);
		const sdk_value all = join(
			plan, sde_record_layer_norm(plan, states, &layer->norm_states, NORM_EPS),
			running->tokens, own, resampler->queries, resampler->hidden);
		const sdk_value kv = sde_record_linear(plan, all, &layer->to_kv);
		sdk_value x = sdk_attention(plan, sde_record_linear(plan, own, &layer->to_q),
					    sdk_slice(plan, kv, 0, inner),
					    sdk_slice(plan, kv, inner, inner), resampler->heads,
					    1 / sqrtf(HEAD), false);

		latents = sdk_add(plan, sde_record_linear(plan, x, &layer->to_out), latents);
		x = sde_record_layer_norm(plan, latents, &layer->ff_norm, NORM_EPS);
		x = sdk_activate(plan, sde_record_linear(plan, x, &layer->ff_in), SDK_GELU);
		latents = sdk_add(plan, sde_record_linear(plan, x, &layer->ff_out), latents);
	}
	ret_outputs[0] =
		sde_record_layer_norm(plan, sde_record_linear(plan, latents, &resampler->proj_out),
				      &resampler->norm_out, NORM_EPS);
	return 0;
}

int sde_resampler_run(struct sde_runner *runner, const struct sde_resampler *resampler,
		      const float *states, int tokens, float *ret_tokens, struct sde_error *error)
{
	const struct running running = {resampler, tokens};
	const struct sde_program_spec spec = {
		.name = "resampler",
		.module = resampler,
		.build = build,
		.userdata = &running,
		.n_inputs = 2,
		.n_outputs = 1,
		.inputs = {{1, 1, tokens, resampler->in},
			   {1, 1, resampler->queries, resampler->hidden}},
		.precise = true,
	};
	_cleanup_free_ float *latents =
		malloc((size_t)resampler->queries * (size_t)resampler->hidden * sizeof(*latents));
	int r;

	if (!latents)
		return sde_error_set(error, -ENOMEM, "no memory for a resampler");
	r = sdk_tensor_floats(&resampler->latents.weight, latents);
	if (r < 0)
		return sde_error_set(error, r, "the resampler's queries cannot be read");
	return sde_runner_run(runner, &spec, (const void *const[]){states, latents},
			      (float *const[]){ret_tokens}, error);
}
