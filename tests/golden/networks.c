/*
 * Running one network for a case: see networks.h.
 */
#include "tests/golden/networks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/autoencoders/vae.h"
#include "daemon/engine/autoencoders/tiny-run.h"
#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/forward.h"

/* params.stride is a number, or an object of numbers by the beginning of the output's name. */
static size_t stride_of(struct golden_case *c, const char *name)
{
	json_t *strides = golden_param(c, "stride");
	const char *beginning;
	json_t *value;

	if (json_is_object(strides))
		json_object_foreach (strides, beginning, value)
			if (!strncmp(name, beginning, strlen(beginning)))
				return (size_t)json_integer_value(value);
	return json_is_integer(strides) ? (size_t)json_integer_value(strides) : 1;
}

static void expect_sampled(struct golden_case *c, const char *name, const float *values,
			   size_t count)
{
	const size_t stride = stride_of(c, name);
	const size_t n = (count + stride - 1) / stride;
	float *sampled;

	if (!golden_wants(c, name))
		return;
	sampled = golden_floats(n);
	for (size_t i = 0; i < n; i++)
		sampled[i] = values[i * stride];
	golden_expect_f32(c, name, sampled, GOLDEN_SHAPE((int64_t)n));
	free(sampled);
}

static void expect_moments(struct golden_case *c, const char *name, const float *values,
			   size_t count)
{
	double sum = 0, squares = 0, largest = 0;
	float three[3];

	if (!golden_wants(c, name))
		return;
	for (size_t i = 0; i < count; i++)
		sum += (double)values[i];
	sum /= (double)count;
	for (size_t i = 0; i < count; i++) {
		squares += ((double)values[i] - sum) * ((double)values[i] - sum);
		largest = fmax(largest, fabs((double)values[i]));
	}
	three[0] = (float)sum;
	three[1] = (float)sqrt(squares / (double)count);
	three[2] = (float)largest;
	golden_expect_f32(c, name, three, GOLDEN_SHAPE(3));
}

void golden_expect_or_sampled(struct golden_case *c, const char *name, const float *values,
			      int rank, const int64_t *shape)
{
	size_t count = 1;
	char other[96];

	for (int i = 0; i < rank; i++)
		count *= (size_t)shape[i];
	golden_expect_f32(c, name, values, rank, shape);
	snprintf(other, sizeof(other), "%s_sampled", name);
	expect_sampled(c, other, values, count);
	snprintf(other, sizeof(other), "%s_mean_std_absmax", name);
	expect_moments(c, other, values, count);
}

static bool wants(struct golden_case *c, const char *name)
{
	char sampled[96];

	snprintf(sampled, sizeof(sampled), "%s_sampled", name);
	return golden_wants(c, name) || golden_wants(c, sampled);
}

/* The states that the case lists, last_hidden_state first, whatever it lists. */
static int wanted_states(struct golden_case *c, const char *prefix, int layers,
			 struct sde_clip_wanted *wanted, char (*names)[64])
{
	int n = 0;

	snprintf(names[n], 64, "%slast_hidden_state", prefix);
	wanted[n++] = (struct sde_clip_wanted){1, true};
	for (int norm = 0; norm < 2; norm++) {
		snprintf(names[n], 64, "%spenultimate%s", prefix, norm ? "_normed" : "");
		if (wants(c, names[n]))
			wanted[n++] = (struct sde_clip_wanted){2, norm != 0};
	}
	for (int minus = 1; minus <= layers + 1 && n + 2 <= SDE_PROGRAM_OUTPUTS_MAX; minus++)
		for (int norm = 0; norm < 2; norm++) {
			snprintf(names[n], 64, "%shidden_minus%d%s", prefix, minus,
				 norm ? "_final_ln" : "");
			if (golden_wants(c, names[n]))
				wanted[n++] = (struct sde_clip_wanted){minus, norm != 0};
		}
	return n;
}

int golden_run_clip(struct golden_case *c, const struct golden_component *component,
		    const char *ids_name, const char *prefix)
{
	struct sde_clip_wanted wanted[SDE_PROGRAM_OUTPUTS_MAX];
	char names[SDE_PROGRAM_OUTPUTS_MAX][64], name[64];
	float *states[SDE_PROGRAM_OUTPUTS_MAX], *pooled;
	const struct golden_tensor *ids = golden_input_i32(c, ids_name);
	struct sde_clip_config config;
	struct sde_error error;
	struct sde_clip clip;
	int n, batch, tokens;

	if (!ids || ids->rank != 2)
		return golden_fail(c, "%s is missing or misshapen", ids_name);
	if (sde_clip_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_clip_bind(&clip, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	/* some files bring a projection that a plain CLIPTextModel does not have */
	snprintf(name, sizeof(name), "%stext_embeds", prefix);
	if (!golden_wants(c, name))
		clip.text_projection = (struct sde_linear){0};
	batch = (int)ids->shape[0];
	tokens = (int)ids->shape[1];
	n = wanted_states(c, prefix, config.num_hidden_layers, wanted, names);
	for (int i = 0; i < n; i++)
		states[i] = golden_floats(ids->count * (size_t)config.hidden_size);
	pooled =
		golden_floats((size_t)batch * (size_t)(config.hidden_size + config.projection_dim));
	if (sde_clip_forward(component->runner, &clip, ids->i32, NULL, batch, tokens, wanted, n,
			     states, &error) < 0 ||
	    sde_clip_pool(component->runner, &clip, ids->i32, batch, tokens, states[0], pooled,
			  &error) < 0)
		return golden_fail_error(c, "forward", &error);
	for (int i = 0; i < n; i++)
		golden_expect_or_sampled(c, names[i], states[i],
					 GOLDEN_SHAPE(batch, tokens, config.hidden_size));
	golden_expect_f32(c, name, pooled, GOLDEN_SHAPE(batch, config.projection_dim));
	snprintf(name, sizeof(name), "%spooled", prefix);
	golden_expect_f32(c, name, pooled, GOLDEN_SHAPE(batch, config.hidden_size));
	golden_expect_f32(c, "pooler_output", pooled, GOLDEN_SHAPE(batch, config.hidden_size));
	sde_runner_forget(component->runner, &clip);
	return GOLDEN_PASS;
}

/* The ones that row b of attention_mask begins with; all tokens when there is none; 0 when it is no mask of padding. */
static int unmasked(struct golden_case *c, int b, int tokens)
{
	const struct golden_tensor *mask = golden_find(c, "attention_mask");
	int keys = 0;

	if (!mask)
		return tokens;
	if (!mask->i32 || mask->rank != 2 || mask->shape[1] != tokens || b >= mask->shape[0])
		return 0;
	while (keys < tokens && mask->i32[b * tokens + keys])
		keys++;
	for (int i = keys; i < tokens; i++)
		if (mask->i32[b * tokens + i])
			return 0;
	return keys;
}

int golden_run_t5(struct golden_case *c, const struct golden_component *component,
		  const char *ids_name, const char *output)
{
	const struct golden_tensor *ids = golden_input_i32(c, ids_name);
	struct sde_t5_config config;
	struct sde_error error;
	struct sde_t5 t5;
	float *state;

	if (!ids || ids->rank != 2)
		return golden_fail(c, "%s is missing or misshapen", ids_name);
	if (sde_t5_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_t5_bind(&t5, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	state = golden_floats(ids->count * (size_t)config.d_model);
	for (int b = 0; b < (int)ids->shape[0]; b++) {
		const int tokens = (int)ids->shape[1], keys = unmasked(c, b, tokens);

		if (keys < 1)
			return golden_fail(c, "attention_mask must be ones, then zeros, in row %d",
					   b);
		if (sde_t5_forward(component->runner, &t5, ids->i32 + b * tokens, 1, tokens, keys,
				   state + (size_t)b * (size_t)tokens * (size_t)config.d_model,
				   &error) < 0)
			return golden_fail_error(c, "forward", &error);
	}
	golden_expect_or_sampled(c, output, state,
				 GOLDEN_SHAPE(ids->shape[0], ids->shape[1], config.d_model));
	free(state);
	sde_runner_forget(component->runner, &t5);
	return GOLDEN_PASS;
}

/* One timestep a row. */
static float *timesteps(struct golden_case *c, int batch)
{
	const struct golden_tensor *t = golden_find(c, "timestep");
	float *steps;

	if (!t)
		t = golden_input_f32(c, "timestep_f32");
	if (!t)
		return NULL;
	steps = golden_floats((size_t)batch);
	for (size_t i = 0; i < (size_t)batch; i++) {
		const size_t at = t->count > 1 ? i : 0;

		steps[i] = t->f32 ? t->f32[at] : (float)t->i32[at];
	}
	return steps;
}

int golden_run_unet(struct golden_case *c, const struct golden_component *component,
		    const struct sde_unet_control *control, const char *output)
{
	const struct golden_tensor *sample, *context, *tensor;
	struct sde_unet_call call = {.control = control};
	struct sde_unet_config config;
	struct sde_error error;
	struct sde_unet unet;
	float *out;

	sample = golden_input_f32(c, "sample");
	context = golden_input_f32(c, "encoder_hidden_states");
	if (!sample || !context || sample->rank != 4 || context->rank != 3)
		return golden_fail(c, "sample or encoder_hidden_states is misshapen");
	if (sde_unet_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_unet_bind(&unet, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "unet", &error);
	call.sample = sample->f32;
	call.batch = (int)sample->shape[0];
	call.height = (int)sample->shape[2];
	call.width = (int)sample->shape[3];
	call.encoder_hidden_states = context->f32;
	call.tokens = (int)context->shape[1];
	call.timesteps = timesteps(c, call.batch);
	if (!call.timesteps)
		return GOLDEN_FAIL;
	tensor = golden_find(c, "timestep_cond");
	call.timestep_cond = tensor ? tensor->f32 : NULL;
	tensor = golden_find(c, "text_embeds");
	call.text_embeds = tensor ? tensor->f32 : NULL;
	call.text_width = tensor ? (int)tensor->shape[1] : 0;
	tensor = golden_find(c, "time_ids");
	call.time_ids = tensor ? tensor->f32 : NULL;
	call.n_time_ids = tensor ? (int)tensor->shape[1] : 0;
	out = golden_floats((size_t)call.batch * (size_t)config.out_channels * (size_t)call.height *
			    (size_t)call.width);
	if (sde_unet_forward(component->runner, &unet, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	if (golden_wants(c, "time_embedding")) {
		float *embedding =
			golden_floats((size_t)call.batch * (size_t)config.time_embed_dim);

		if (sde_unet_time_embedding(component->runner, &unet, call.timesteps,
					    call.timestep_cond, call.batch, embedding, &error) < 0)
			return golden_fail_error(c, "time_embedding", &error);
		golden_expect_f32(c, "time_embedding", embedding,
				  GOLDEN_SHAPE(call.batch, config.time_embed_dim));
	}
	golden_expect_or_sampled(
		c, output, out,
		GOLDEN_SHAPE(call.batch, config.out_channels, call.height, call.width));
	sde_runner_forget(component->runner, &unet);
	return GOLDEN_PASS;
}

/* SD3: the sample as it is, times as the case gives them; FLUX: unpacked, times multiplied by 1000. */
static bool prepare_call(struct golden_case *c, const struct sde_denoiser *denoiser,
			 struct sde_denoiser_call *call, bool flux)
{
	const struct golden_tensor *sample = golden_input_f32(c, "hidden_states");
	const struct golden_tensor *context = golden_input_f32(c, "encoder_hidden_states");
	const struct golden_tensor *pooled = golden_input_f32(c, "pooled_projections");
	const struct golden_tensor *guidance = golden_find(c, "guidance");
	const json_t *packed = golden_param(c, "packed_hw");
	float *steps, *latents;

	if (!sample || !context || !pooled || context->rank != 3 || pooled->rank != 2 ||
	    sample->rank != (flux ? 3 : 4))
		return false;
	steps = timesteps(c, (int)context->shape[0]);
	if (!steps)
		return false;
	*call = (struct sde_denoiser_call){
		.sample = sample->f32,
		.batch = (int)context->shape[0],
		.height = flux ? 2 * (int)json_integer_value(json_array_get(packed, 0))
			       : (int)sample->shape[2],
		.width = flux ? 2 * (int)json_integer_value(json_array_get(packed, 1))
			      : (int)sample->shape[3],
		.timesteps = steps,
		.context = context->f32,
		.tokens = (int)context->shape[1],
		.pooled = pooled->f32,
		.pooled_width = (int)pooled->shape[1],
		.guidance_scales = guidance ? guidance->f32 : NULL,
	};
	if (!flux)
		return true;
	if ((size_t)call->batch * (size_t)denoiser->in_channels * (size_t)call->height *
		    (size_t)call->width !=
	    sample->count)
		return false;
	for (int i = 0; i < call->batch; i++)
		steps[i] *= 1000;
	latents = golden_floats(sample->count);
	sde_flux_unpack(sample->f32, latents, call->batch, denoiser->in_channels, call->height,
			call->width);
	call->sample = latents;
	return true;
}

int golden_run_transformer(struct golden_case *c, const struct golden_component *component,
			   const char *output)
{
	const bool flux =
		!strcmp(json_string_value(json_object_get(component->config, "_class_name")),
			sde_denoiser_flux.name);
	const struct sde_denoiser_class *class = flux ? &sde_denoiser_flux : &sde_denoiser_sd3;
	struct sde_denoiser denoiser = {0};
	struct sde_denoiser_call call;
	struct sde_error error;
	float *out, *packed;
	size_t pixels;

	if (class->bind(&denoiser, component->config, "config.json", component->weights, &error) <
	    0)
		return golden_fail_error(c, "transformer", &error);
	if (!prepare_call(c, &denoiser, &call, flux))
		return golden_fail(c, "an input is missing or misshapen");
	pixels = (size_t)call.batch * (size_t)call.height * (size_t)call.width;
	out = golden_floats(pixels * (size_t)denoiser.out_channels);
	packed = golden_floats(pixels * (size_t)denoiser.out_channels);
	if (sde_denoiser_forward(component->runner, &denoiser, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	if (flux) {
		sde_flux_pack(out, packed, call.batch, denoiser.out_channels, call.height,
			      call.width);
		golden_expect_or_sampled(c, output, packed,
					 GOLDEN_SHAPE(call.batch, call.height * call.width / 4,
						      denoiser.out_channels * 4));
	} else {
		golden_expect_or_sampled(
			c, output, out,
			GOLDEN_SHAPE(call.batch, denoiser.out_channels, call.height, call.width));
	}
	sde_denoiser_clear(&denoiser, component->runner);
	return GOLDEN_PASS;
}

static int vae_decode(struct golden_case *c, struct sde_runner *runner, const struct sde_vae *vae,
		      const char *name)
{
	const struct golden_tensor *z = golden_input_f32(c, "latent");
	struct sde_error error;
	int b, h, w, r;
	float *out;

	if (!z || z->rank != 4)
		return golden_fail(c, "latent is missing or misshapen");
	b = (int)z->shape[0];
	h = (int)z->shape[2];
	w = (int)z->shape[3];
	out = golden_floats((size_t)(b * vae->out_channels) * (size_t)(h * vae->factor) *
			    (size_t)(w * vae->factor));
	r = vae->kind == SDE_VAE_TINY
		    ? sde_tiny_decode(runner, &vae->tiny, NULL, z->f32, b, h, w, out, &error)
		    : sde_kl_decode(runner, &vae->kl, z->f32, b, h, w, out, &error);
	if (r < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_or_sampled(
		c, name, out, GOLDEN_SHAPE(b, vae->out_channels, h * vae->factor, w * vae->factor));
	free(out);
	return GOLDEN_PASS;
}

static int vae_encode(struct golden_case *c, struct sde_runner *runner, const struct sde_vae *vae,
		      const char *name)
{
	const struct golden_tensor *image = golden_input_f32(c, "image");
	const bool tiny = vae->kind == SDE_VAE_TINY;
	const int channels = (tiny ? 1 : 2) * vae->latent_channels;
	struct sde_error error;
	int b, h, w, r;
	float *out;

	if (!image || image->rank != 4)
		return golden_fail(c, "image is missing or misshapen");
	b = (int)image->shape[0];
	h = (int)image->shape[2];
	w = (int)image->shape[3];
	out = golden_floats((size_t)(b * channels) * (size_t)(h / vae->factor) *
			    (size_t)(w / vae->factor));
	r = tiny ? sde_tiny_encode(runner, &vae->tiny, NULL, image->f32, b, h, w, out, &error)
		 : sde_kl_encode(runner, &vae->kl, image->f32, b, h, w, out, &error);
	if (r < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_or_sampled(c, name, out,
				 GOLDEN_SHAPE(b, channels, h / vae->factor, w / vae->factor));
	free(out);
	return GOLDEN_PASS;
}

int golden_run_vae(struct golden_case *c, const struct golden_component *component,
		   const char *decoded, const char *encoded)
{
	struct sde_error error;
	struct sde_vae vae;
	int r = GOLDEN_PASS;

	if (sde_vae_bind(&vae, component->config, "config.json", component->weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	if (decoded && wants(c, decoded))
		r = vae_decode(c, component->runner, &vae, decoded);
	if (r == GOLDEN_PASS && encoded && wants(c, encoded))
		r = vae_encode(c, component->runner, &vae, encoded);
	sde_vae_clear(&vae, component->runner);
	return r;
}
