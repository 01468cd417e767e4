/*
 * From host arrays to programs and back. The sinusoids, the pooled token and the embedding look-up are host work; all else
 * is recorded once per shape.
 */
#include "daemon/engine/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/schedulers/embeddings.h"

#define MAX_PERIOD 10000.0

static float *floats_new(size_t a, size_t b, size_t c, struct sde_error *error)
{
	float *values = NULL;
	size_t n;

	if (!__builtin_mul_overflow(a, b, &n) && !__builtin_mul_overflow(n, c, &n) &&
	    !__builtin_mul_overflow(n, sizeof(float), &n))
		values = malloc(n > 0 ? n : 1);
	if (!values)
		sde_error_set(error, -ENOMEM, "no memory for a tensor of %zu x %zu x %zu", a, b, c);
	return values;
}

struct clip_build {
	const struct sde_clip *clip;
	const struct sde_clip_wanted *wanted;
	int n_wanted, layers;
	bool looked_up;
};

static int build_clip(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		      sdk_value *ret_outputs)
{
	const struct clip_build *build = userdata;
	const int n = build->clip->config.num_hidden_layers;
	sdk_value *hidden = calloc((size_t)n + 1, sizeof(sdk_value));

	if (!hidden)
		return -ENOMEM;
	sde_clip_record(plan, build->clip, inputs[0], build->looked_up, build->layers, hidden);
	for (int i = 0; i < build->n_wanted; i++) {
		ret_outputs[i] = hidden[n + 1 - build->wanted[i].minus];
		if (build->wanted[i].final_norm)
			ret_outputs[i] =
				sde_clip_record_final_norm(plan, build->clip, ret_outputs[i]);
	}
	free(hidden);
	return 0;
}

/* Rows of the vocabulary and of added ones by id. */
static float *look_up(const struct sde_clip *clip, const struct sde_clip_added *added,
		      const int32_t *ids, size_t n, struct sde_error *error)
{
	const struct sdk_tensor *table = &clip->token_embedding.weight;
	const size_t width = (size_t)clip->config.hidden_size;
	float *rows = floats_new(n, width, 1, error);

	for (size_t i = 0; rows && i < n; i++) {
		const int32_t id = ids[i], beyond = id - clip->config.vocab_size;

		if (beyond >= 0)
			memcpy(rows + i * width, added->rows + (size_t)beyond * width,
			       width * sizeof(float));
		else
			sdk_tensor_row(table, (size_t)id, rows + i * width);
	}
	return rows;
}

int sde_clip_forward(struct sde_runner *runner, const struct sde_clip *clip, const int32_t *ids,
		     const struct sde_clip_added *added, int batch, int tokens,
		     const struct sde_clip_wanted *wanted, int n_wanted, float *const *ret_states,
		     struct sde_error *error)
{
	const int n_added = added ? added->count : 0;
	_cleanup_free_ float *rows = NULL;
	const int n = clip->config.num_hidden_layers, width = clip->config.hidden_size;
	struct clip_build build = {.clip = clip, .wanted = wanted, .n_wanted = n_wanted};
	struct sde_program_spec spec = {
		.name = "text encoder",
		.module = clip,
		.variant = 14695981039346656037u,
		.build = build_clip,
		.userdata = &build,
		.n_inputs = 1,
		.n_outputs = n_wanted,
		.inputs = {{batch, 1, tokens, width}},
		.n_ids = 1,
		.precise = true,
	};
	int r;

	for (int i = 0; i < n_wanted; i++) {
		if (wanted[i].minus < 1 || wanted[i].minus > n + 1)
			return sde_error_set(
				error, -EINVAL,
				"the text encoder has %d layers; clip_skip must be less", n);
		if (n + 1 - wanted[i].minus > build.layers)
			build.layers = n + 1 - wanted[i].minus;
		spec.variant =
			(spec.variant ^ (uint64_t)(wanted[i].minus * 2 + wanted[i].final_norm)) *
			1099511628211u;
	}
	r = sde_clip_check_ids(clip, ids, batch, tokens, n_added, error);
	if (r < 0)
		return r;
	if (n_added > 0) {
		rows = look_up(clip, added, ids, (size_t)batch * (size_t)tokens, error);
		if (!rows)
			return -ENOMEM;
		build.looked_up = true;
		spec.n_ids = 0;
		spec.variant ^= 1;
		return sde_runner_run(runner, &spec, (const void *const[]){rows}, ret_states,
				      error);
	}
	return sde_runner_run(runner, &spec, (const void *const[]){ids}, ret_states, error);
}

static int build_projection(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			    sdk_value *ret_outputs)
{
	const struct sde_clip *clip = userdata;

	ret_outputs[0] = sde_record_linear(plan, inputs[0], &clip->text_projection);
	return 0;
}

int sde_clip_pool(struct sde_runner *runner, const struct sde_clip *clip, const int32_t *ids,
		  int batch, int tokens, const float *last_hidden_state, float *ret_pooled,
		  struct sde_error *error)
{
	const size_t width = (size_t)clip->config.hidden_size;
	const struct sde_program_spec spec = {
		.name = "text projection",
		.module = clip,
		.variant = 1,
		.build = build_projection,
		.userdata = clip,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{batch, 1, 1, (int)width}},
		.precise = true,
	};
	_cleanup_free_ float *pooled = NULL;

	pooled = floats_new((size_t)batch, width, 1, error);
	if (!pooled)
		return -ENOMEM;
	for (int b = 0; b < batch; b++) {
		const int32_t *row = ids + (size_t)b * tokens;
		const size_t at =
			(size_t)b * tokens + (size_t)sde_clip_pooled_position(clip, row, tokens);

		memcpy(pooled + (size_t)b * width, last_hidden_state + at * width,
		       width * sizeof(float));
	}
	if (!clip->text_projection.weight.data) {
		memcpy(ret_pooled, pooled, (size_t)batch * width * sizeof(float));
		return 0;
	}
	return sde_runner_run(runner, &spec, (const void *const[]){pooled},
			      (float *const[]){ret_pooled}, error);
}

int sde_unet_host_values(const struct sde_unet_config *config, const sdk_value *inputs,
			 struct sde_unet_inputs *ret_values)
{
	int next = 3;

	*ret_values = (struct sde_unet_inputs){.sample = inputs[0],
					       .time_sinusoid = inputs[1],
					       .encoder_hidden_states = inputs[2]};
	if (config->time_cond_proj_dim > 0)
		ret_values->timestep_cond = inputs[next++];
	if (config->text_time)
		ret_values->added = inputs[next++];
	return next;
}

struct unet_build {
	const struct sde_unet *unet;
	const struct sde_unet_control *control;
	bool watched;
};

static int build_unet(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		      sdk_value *ret_outputs)
{
	const struct unet_build *build = userdata;
	struct sde_unet_inputs values;
	int next = sde_unet_host_values(&build->unet->config, inputs, &values), site = 0;

	if (build->watched)
		values.next_site = &site;
	if (build->control) {
		values.n_residuals = build->control->n_residuals;
		values.residuals = inputs + next;
		values.n_features = build->control->n_features;
		values.features = inputs + next + values.n_residuals;
		values.has_image = build->control->n_image_tokens > 0;
		values.image_tokens = inputs[next + values.n_residuals + values.n_features];
	}
	ret_outputs[0] = sde_unet_record(plan, build->unet, &values);
	return 0;
}

/* SDXL: [text_embeds | sinusoid of each time id] per image. */
static int make_added(const struct sde_unet_config *config, const struct sde_unet_call *call,
		      float **ret_added, struct sde_error *error)
{
	const size_t dim = (size_t)config->addition_time_embed_dim;
	const size_t width = (size_t)config->projection_class_embeddings_input_dim;
	const size_t text = (size_t)call->text_width, n_ids = (size_t)call->n_time_ids;
	float *added;

	if (!call->text_embeds || !call->time_ids || text + n_ids * dim != width)
		return sde_error_set(
			error, -EINVAL,
			"the U-Net wants %zu added channels; pooled text of %zu and %zu "
			"time ids of %zu do not make them",
			width, text, n_ids, dim);
	added = floats_new((size_t)call->batch, width, 1, error);
	if (!added)
		return -ENOMEM;
	for (size_t b = 0; b < (size_t)call->batch; b++) {
		memcpy(added + b * width, call->text_embeds + b * text, text * sizeof(float));
		sde_timestep_embedding(call->time_ids + b * n_ids, n_ids, dim,
				       config->flip_sin_to_cos, config->freq_shift, MAX_PERIOD,
				       added + b * width + text);
	}
	*ret_added = added;
	return 0;
}

void sde_unet_host_clear(struct sde_unet_host *host)
{
	for (size_t i = 0; i < sizeof(host->arrays) / sizeof(host->arrays[0]); i++)
		free(host->arrays[i]);
}

static void put_input(struct sde_unet_host *host, const void *data, struct sdk_shape shape)
{
	host->inputs[host->n] = data;
	host->shapes[host->n++] = shape;
}

int sde_unet_host_init(struct sde_unet_host *host, const struct sde_unet_config *config,
		       const struct sde_unet_call *call, struct sde_error *error)
{
	const size_t batch = (size_t)call->batch, pixels = (size_t)call->height * call->width;
	const size_t first = (size_t)config->block_out_channels[0];
	float *sample, *sinusoid;
	int r = 0;

	*host = (struct sde_unet_host){0};
	sample = host->arrays[0] = floats_new(batch, pixels, (size_t)config->in_channels, error);
	sinusoid = host->arrays[1] = floats_new(batch, first, 1, error);
	if (!sample || !sinusoid)
		r = -ENOMEM;
	if (r >= 0 && config->time_cond_proj_dim > 0 && !call->timestep_cond)
		r = sde_error_set(error, -EINVAL,
				  "this U-Net needs a guidance embedding (timestep_cond)");
	if (r >= 0 && config->text_time)
		r = make_added(config, call, &host->arrays[2], error);
	if (r < 0) {
		sde_unet_host_clear(host);
		return r;
	}
	sdk_nchw_to_nhwc(call->sample, sample, call->batch, config->in_channels, call->height,
			 call->width);
	sde_timestep_embedding(call->timesteps, batch, first, config->flip_sin_to_cos,
			       config->freq_shift, MAX_PERIOD, sinusoid);
	put_input(host, sample,
		  (struct sdk_shape){call->batch, call->height, call->width, config->in_channels});
	put_input(host, sinusoid, (struct sdk_shape){call->batch, 1, 1, (int)first});
	put_input(host, call->encoder_hidden_states,
		  (struct sdk_shape){call->batch, 1, call->tokens, config->cross_attention_dim});
	if (config->time_cond_proj_dim > 0)
		put_input(host, call->timestep_cond,
			  (struct sdk_shape){call->batch, 1, 1, config->time_cond_proj_dim});
	if (config->text_time)
		put_input(host, host->arrays[2],
			  (struct sdk_shape){call->batch, 1, 1,
					     config->projection_class_embeddings_input_dim});
	return 0;
}

static int put_control(struct sde_unet_host *host, const struct sde_unet_config *config,
		       const struct sde_unet_call *call, struct sde_error *error)
{
	const struct sde_unet_control *control = call->control;
	struct sdk_shape skips[SDE_UNET_SKIPS_MAX + 1], features[SDE_UNET_LEVELS_MAX];
	const int n = sde_unet_skip_shapes(config, call->batch, call->height, call->width, skips);
	const int n_features =
		sde_unet_feature_shapes(config, call->batch, call->height, call->width, features);

	if ((control->n_residuals && control->n_residuals != n) ||
	    (control->n_features && control->n_features != n_features) ||
	    host->n + control->n_residuals + control->n_features + 1 > SDE_PROGRAM_INPUTS_MAX)
		return sde_error_set(error, -EINVAL,
				     "a U-Net of %d skips and %d levels takes no %d residuals and "
				     "%d features",
				     n, n_features, control->n_residuals, control->n_features);
	for (int i = 0; i < control->n_residuals; i++)
		put_input(host, control->residuals[i], skips[i]);
	for (int i = 0; i < control->n_features; i++)
		put_input(host, control->features[i], features[i]);
	if (control->n_image_tokens > 0)
		put_input(host, control->image_tokens,
			  (struct sdk_shape){call->batch, 1, control->n_image_tokens,
					     config->cross_attention_dim});
	return 0;
}

#define VARIANT_WATCHED 16

/* Of the programs of a U-Net: 0 and 1 are the plain ones. */
static uint64_t variant_of(const struct sde_unet_call *call)
{
	const struct sde_unet_control *control = call->control;
	const uint64_t watched = call->watch ? VARIANT_WATCHED : 0;

	return control ? watched + 2 + (control->n_residuals > 0) + 2 * (control->n_features > 0) +
				 4 * (control->n_image_tokens > 0)
		       : watched;
}

int sde_unet_forward(struct sde_runner *runner, const struct sde_unet *unet,
		     const struct sde_unet_call *call, float *ret_output, struct sde_error *error)
{
	const struct sde_unet_config *config = &unet->config;
	const struct unet_build build = {unet, call->control, call->watch != NULL};
	struct sde_program_spec spec = {
		.name = "U-Net",
		.module = unet,
		.variant = variant_of(call),
		.watch = call->watch,
		.build = build_unet,
		.userdata = &build,
		.n_outputs = 1,
	};
	_cleanup_free_ float *output =
		floats_new((size_t)call->batch, (size_t)call->height * call->width,
			   (size_t)config->out_channels, error);
	struct sde_unet_host host;
	int r;

	if (!output)
		return -ENOMEM;
	r = sde_unet_host_init(&host, config, call, error);
	if (r < 0)
		return r;
	if (call->control)
		r = put_control(&host, config, call, error);
	if (r >= 0) {
		spec.n_inputs = host.n;
		memcpy(spec.inputs, host.shapes, sizeof(host.shapes[0]) * (size_t)host.n);
		r = sde_runner_run(runner, &spec, host.inputs, (float *const[]){output}, error);
	}
	sde_unet_host_clear(&host);
	if (r < 0)
		return r;
	sdk_nhwc_to_nchw(output, ret_output, call->batch, call->height, call->width,
			 config->out_channels);
	return 0;
}

static int build_time(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		      sdk_value *ret_outputs)
{
	const struct sde_unet *unet = userdata;
	const struct sde_unet_inputs values = {
		.time_sinusoid = inputs[0],
		.timestep_cond = unet->config.time_cond_proj_dim > 0 ? inputs[1] : -1,
	};

	ret_outputs[0] = sde_unet_record_time(plan, unet, &values);
	return 0;
}

int sde_unet_time_embedding(struct sde_runner *runner, const struct sde_unet *unet,
			    const float *timesteps, const float *timestep_cond, int batch,
			    float *ret_embedding, struct sde_error *error)
{
	const struct sde_unet_config *config = &unet->config;
	const int first = config->block_out_channels[0];
	const struct sde_program_spec spec = {
		.name = "time embedding",
		.module = unet,
		.variant = 1,
		.build = build_time,
		.userdata = unet,
		.n_inputs = config->time_cond_proj_dim > 0 ? 2 : 1,
		.n_outputs = 1,
		.inputs = {{batch, 1, 1, first}, {batch, 1, 1, config->time_cond_proj_dim}},
	};
	_cleanup_free_ float *sinusoid = floats_new((size_t)batch, (size_t)first, 1, error);

	if (!sinusoid)
		return -ENOMEM;
	sde_timestep_embedding(timesteps, (size_t)batch, (size_t)first, config->flip_sin_to_cos,
			       config->freq_shift, MAX_PERIOD, sinusoid);
	return sde_runner_run(runner, &spec, (const void *const[]){sinusoid, timestep_cond},
			      (float *const[]){ret_embedding}, error);
}
