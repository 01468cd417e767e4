/*
 * Forward passes of single models: kinds text_encoder (CLIP), unet, vae_kl and vae_stats. A model whose class
 * the engine does not have yet is a SKIP that names it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/formats/model-dir.h"
#include "daemon/engine/forward.h"
#include "tests/golden/golden.h"

struct component {
	json_t *config;
	struct sde_weights *weights;
	struct sde_runner *runner;
};

/* GOLDEN_PASS with the component opened (never closed: the case is a process of its own). */
static int open_component(struct golden_case *c, const char *class_prefix, struct component *ret)
{
	const char *name = golden_param_string(c, "component", "");
	const struct sde_component *component;
	struct sde_model_dir *dir;
	struct sde_error error;

	if (!c->model)
		return golden_fail(c, "the case names no model");
	if (sde_model_dir_open(c->model, &dir, &error) < 0)
		return golden_fail_error(c, c->model, &error);
	if (sde_model_dir_require(dir, name, &component, &error) < 0)
		return golden_fail_error(c, name, &error);
	if (component->class_name &&
	    strncmp(component->class_name, class_prefix, strlen(class_prefix)) != 0)
		return golden_skip(c, "architecture %s not supported yet", component->class_name);
	if (sde_component_config(component, &ret->config, &error) < 0 ||
	    sde_component_weights(component, &ret->weights, &error) < 0)
		return golden_fail_error(c, name, &error);
	if (sde_runner_new(c->options->backend, c->options->dtype, 1, &ret->runner, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	return GOLDEN_PASS;
}

/* "hidden_minusK" and "hidden_minusK_final_ln" that the case lists, after last_hidden_state. */
static int wanted_states(struct golden_case *c, int layers, struct sde_clip_wanted *wanted,
			 char (*names)[40])
{
	int n = 0;

	wanted[n] = (struct sde_clip_wanted){1, true};
	snprintf(names[n++], 40, "last_hidden_state");
	for (int minus = 1; minus <= layers + 1 && n + 2 <= SDE_PROGRAM_OUTPUTS_MAX; minus++)
		for (int norm = 0; norm < 2; norm++) {
			snprintf(names[n], 40, "hidden_minus%d%s", minus, norm ? "_final_ln" : "");
			if (!golden_wants(c, names[n]))
				continue;
			wanted[n++] = (struct sde_clip_wanted){minus, norm != 0};
		}
	return n;
}

int golden_text_encoder(struct golden_case *c)
{
	struct sde_clip_wanted wanted[SDE_PROGRAM_OUTPUTS_MAX];
	char names[SDE_PROGRAM_OUTPUTS_MAX][40];
	float *states[SDE_PROGRAM_OUTPUTS_MAX], *pooled;
	const struct golden_tensor *ids;
	struct sde_clip_config config;
	struct component component;
	struct sde_error error;
	struct sde_clip clip;
	int r, n, batch, tokens;

	if (strcmp(golden_param_string(c, "type", "clip"), "clip") != 0)
		return golden_skip(c, "architecture T5 not supported yet");
	r = open_component(c, "CLIPTextModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	ids = golden_input_i32(c, "input_ids");
	if (!ids || ids->rank != 2)
		return golden_fail(c, "input_ids is missing or misshapen");
	if (sde_clip_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_clip_bind(&clip, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	batch = (int)ids->shape[0];
	tokens = (int)ids->shape[1];
	n = wanted_states(c, config.num_hidden_layers, wanted, names);
	for (int i = 0; i < n; i++)
		states[i] = golden_floats(ids->count * (size_t)config.hidden_size);
	pooled =
		golden_floats((size_t)batch * (size_t)(config.hidden_size + config.projection_dim));
	if (sde_clip_forward(component.runner, &clip, ids->i32, batch, tokens, wanted, n, states,
			     &error) < 0 ||
	    sde_clip_pool(component.runner, &clip, ids->i32, batch, tokens, states[0], pooled,
			  &error) < 0)
		return golden_fail_error(c, "forward", &error);
	for (int i = 0; i < n; i++)
		golden_expect_f32(c, names[i], states[i],
				  GOLDEN_SHAPE(batch, tokens, config.hidden_size));
	if (clip.text_projection.weight.data)
		golden_expect_f32(c, "text_embeds", pooled,
				  GOLDEN_SHAPE(batch, config.projection_dim));
	else
		golden_expect_f32(c, "pooler_output", pooled,
				  GOLDEN_SHAPE(batch, config.hidden_size));
	return GOLDEN_PASS;
}

int golden_unet(struct golden_case *c)
{
	const struct golden_tensor *sample, *context, *t, *tensor;
	struct sde_unet_call call = {0};
	struct sde_unet_config config;
	struct component component;
	struct sde_error error;
	struct sde_unet unet;
	float *out, *steps;
	int r;

	r = open_component(c, "UNet2DConditionModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	sample = golden_input_f32(c, "sample");
	context = golden_input_f32(c, "encoder_hidden_states");
	if (!sample || !context || sample->rank != 4 || context->rank != 3)
		return golden_fail(c, "sample or encoder_hidden_states is misshapen");
	if (sde_unet_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_unet_bind(&unet, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "unet", &error);
	call.sample = sample->f32;
	call.batch = (int)sample->shape[0];
	call.height = (int)sample->shape[2];
	call.width = (int)sample->shape[3];
	call.encoder_hidden_states = context->f32;
	call.tokens = (int)context->shape[1];
	t = golden_find(c, "timestep");
	if (!t)
		t = golden_input_f32(c, "timestep_f32");
	if (!t)
		return GOLDEN_FAIL;
	steps = golden_floats((size_t)call.batch);
	for (size_t i = 0; i < (size_t)call.batch; i++) {
		const size_t at = t->count > 1 ? i : 0;

		steps[i] = t->f32 ? t->f32[at] : (float)t->i32[at];
	}
	call.timesteps = steps;
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
	if (sde_unet_forward(component.runner, &unet, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	if (golden_wants(c, "time_embedding")) {
		float *embedding =
			golden_floats((size_t)call.batch * (size_t)config.time_embed_dim);

		if (sde_unet_time_embedding(component.runner, &unet, steps, call.timestep_cond,
					    call.batch, embedding, &error) < 0)
			return golden_fail_error(c, "time_embedding", &error);
		golden_expect_f32(c, "time_embedding", embedding,
				  GOLDEN_SHAPE(call.batch, config.time_embed_dim));
	}
	golden_expect_f32(c, "out", out,
			  GOLDEN_SHAPE(call.batch, config.out_channels, call.height, call.width));
	return GOLDEN_PASS;
}

/* mean, logvar, std, sample and latents of one batch of pictures */
static int vae_encode(struct golden_case *c, struct sde_runner *runner, const struct sde_kl *kl)
{
	const struct golden_tensor *image = golden_input_f32(c, "image");
	const struct golden_tensor *eps = golden_input_f32(c, "eps");
	float *moments, *mean, *logvar, *std, *sample;
	struct sde_error error;
	size_t n;
	int b;

	if (!image || !eps || image->rank != 4 || eps->rank != 4)
		return golden_fail(c, "image or eps is missing or misshapen");
	b = (int)image->shape[0];
	n = eps->count / (size_t)b;
	moments = golden_floats(2 * eps->count);
	mean = golden_floats(eps->count);
	logvar = golden_floats(eps->count);
	std = golden_floats(eps->count);
	sample = golden_floats(eps->count);
	if (sde_kl_encode(runner, kl, image->f32, b, (int)image->shape[2], (int)image->shape[3],
			  moments, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	sde_kl_posterior(moments, NULL, b, n, mean);
	sde_kl_posterior(moments, eps->f32, b, n, sample);
	for (size_t i = 0; i < eps->count; i++) {
		logvar[i] = fminf(fmaxf(moments[i / n * 2 * n + n + i % n], -30.0f), 20.0f);
		std[i] = expf(0.5f * logvar[i]);
	}
	golden_expect_f32(c, "mean", mean, eps->rank, eps->shape);
	golden_expect_f32(c, "logvar", logvar, eps->rank, eps->shape);
	golden_expect_f32(c, "std", std, eps->rank, eps->shape);
	golden_expect_f32(c, "sample", sample, eps->rank, eps->shape);
	sde_kl_scale(&kl->config, sample, eps->count);
	golden_expect_f32(c, "latents", sample, eps->rank, eps->shape);
	return GOLDEN_PASS;
}

int golden_vae_kl(struct golden_case *c)
{
	const struct golden_tensor *latents, *want;
	struct component component;
	struct sde_kl_config config;
	struct sde_error error;
	struct sde_kl kl;
	float *z, *out;
	int r, b, h, w;

	r = open_component(c, "AutoencoderKL", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(&kl, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	r = vae_encode(c, component.runner, &kl);
	latents = golden_input_f32(c, "latents_in");
	want = golden_input_f32(c, "decoded");
	if (r != GOLDEN_PASS || !latents || !want || latents->rank != 4)
		return GOLDEN_FAIL;
	b = (int)latents->shape[0];
	h = (int)latents->shape[2];
	w = (int)latents->shape[3];
	z = golden_floats(latents->count);
	out = golden_floats(want->count);
	memcpy(z, latents->f32, latents->count * sizeof(float));
	if (sde_kl_decode(component.runner, &kl, z, b, h, w, out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded", out, want->rank, want->shape);
	sde_kl_unscale(&config, z, latents->count);
	if (sde_kl_decode(component.runner, &kl, z, b, h, w, out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded_from_scaled", out, want->rank, want->shape);
	return GOLDEN_PASS;
}

/* GOLDEN_PASS with the autoencoder bound. */
static int open_kl(struct golden_case *c, struct component *component, struct sde_kl *kl)
{
	struct sde_kl_config config;
	struct sde_error error;
	int r;

	r = open_component(c, "AutoencoderKL", component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(kl, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	return GOLDEN_PASS;
}

/* What a training run would measure: the scaled mode of each picture, then mean and deviation of every latent channel. */
int golden_vae_stats(struct golden_case *c)
{
	const struct golden_tensor *image, *want;
	float *moments, *mode, *mean, *deviation;
	struct component component;
	struct sde_error error;
	size_t n, channels, area;
	struct sde_kl kl;
	int r;

	r = open_kl(c, &component, &kl);
	if (r != GOLDEN_PASS)
		return r;
	image = golden_input_f32(c, "image");
	want = golden_input_f32(c, "latents_mode");
	if (!image || !want || image->rank != 4 || want->rank != 4)
		return golden_fail(c, "image or latents_mode is missing or misshapen");
	n = want->count / (size_t)want->shape[0];
	channels = (size_t)want->shape[1];
	area = n / channels;
	moments = golden_floats(2 * want->count);
	mode = golden_floats(want->count);
	mean = golden_floats(channels);
	deviation = golden_floats(channels);
	if (sde_kl_encode(component.runner, &kl, image->f32, (int)image->shape[0],
			  (int)image->shape[2], (int)image->shape[3], moments, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	sde_kl_posterior(moments, NULL, (int)image->shape[0], n, mode);
	sde_kl_scale(&kl.config, mode, want->count);
	for (size_t k = 0; k < channels; k++) {
		const double count = (double)(want->count / channels);
		double sum = 0, squares = 0;

		for (size_t i = 0; i < want->count; i++)
			sum += i / area % channels == k ? (double)mode[i] : 0;
		for (size_t i = 0; i < want->count; i++)
			squares += i / area % channels == k ? pow((double)mode[i] - sum / count, 2)
							    : 0;
		mean[k] = (float)(sum / count);
		deviation[k] = (float)sqrt(squares / count);
	}
	golden_expect_f32(c, "latents_mode", mode, want->rank, want->shape);
	golden_expect_f32(c, "channel_mean", mean, GOLDEN_SHAPE((int64_t)channels));
	golden_expect_f32(c, "channel_std", deviation, GOLDEN_SHAPE((int64_t)channels));
	return GOLDEN_PASS;
}

int golden_vae_kl_tiled(struct golden_case *c)
{
	const struct sde_kl_tiling tiling = {
		.sample_size = (int)golden_param_int(c, "tile_sample_min_size", 512),
		.latent_size = (int)golden_param_int(c, "tile_latent_min_size", 64),
		.overlap = golden_param_double(c, "tile_overlap_factor", 0.25),
	};
	const struct golden_tensor *image, *latents, *moments, *decoded;
	struct component component;
	struct sde_kl_config config;
	struct sde_error error;
	struct sde_runner *runner;
	struct sde_kl kl;
	float *to;
	int r, h, w;

	r = open_component(c, "AutoencoderKL", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(&kl, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	image = golden_input_f32(c, "image");
	latents = golden_input_f32(c, "latents_in");
	moments = golden_input_f32(c, "moments");
	decoded = golden_input_f32(c, "decoded");
	if (!image || !latents || !moments || !decoded || image->rank != 4 || latents->rank != 4)
		return golden_fail(c, "malformed case");
	runner = component.runner;
	to = golden_floats(decoded->count > moments->count ? decoded->count : moments->count);
	h = (int)image->shape[2];
	w = (int)image->shape[3];
	if (sde_kl_encode_tiled(runner, &kl, &tiling, image->f32, (int)image->shape[0], h, w, to,
				&error) < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_f32(c, "moments", to, moments->rank, moments->shape);
	if (sde_kl_encode(runner, &kl, image->f32, (int)image->shape[0], h, w, to, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_f32(c, "moments_untiled", to, moments->rank, moments->shape);
	h = (int)latents->shape[2];
	w = (int)latents->shape[3];
	if (sde_kl_decode_tiled(runner, &kl, &tiling, latents->f32, (int)latents->shape[0], h, w,
				to, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded", to, decoded->rank, decoded->shape);
	if (sde_kl_decode(runner, &kl, latents->f32, (int)latents->shape[0], h, w, to, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded_untiled", to, decoded->rank, decoded->shape);
	return GOLDEN_PASS;
}
