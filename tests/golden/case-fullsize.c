/*
 * Networks of real size with synthetic weights (synthetic.h), through the checkpoint loader: kinds fullsize_text_encoder, fullsize_unet,
 * fullsize_trajectory, fullsize_vae_decode, fullsize_vae_encode, fullsize_taesd, fullsize_t5,
 * fullsize_sd3_transformer and fullsize_flux_transformer. The configuration is the one inferred, so these cases
 * judge that too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/forward.h"
#include "daemon/engine/formats/checkpoint.h"
#include "daemon/engine/scheduler.h"
#include "tests/golden/networks.h"
#include "tests/golden/synthetic.h"

int golden_open_synthetic(struct golden_case *c, const char *prefix, const char *const *names,
			  struct golden_component *ret)
{
	struct sde_checkpoint *checkpoint;
	struct sde_error error;
	const char *path;

	if (!c->model)
		return golden_fail(c, "the case names no manifest");
	if (golden_synthetic_open(c->model, prefix, true, &path, &error) < 0 ||
	    sde_checkpoint_open(path, &checkpoint, &error) < 0)
		return golden_fail_error(c, "synthetic checkpoint", &error);
	for (; *names; names++)
		if (sde_checkpoint_config(checkpoint, *names, &ret->config, NULL) >= 0)
			break;
	if (!*names)
		return golden_fail(c, "no such component was recognised in %s", c->model);
	if (sde_checkpoint_weights(checkpoint, *names, &ret->weights, &error) < 0)
		return golden_fail_error(c, *names, &error);
	if (sde_runner_new(c->options->backend, c->options->dtype, 0, &ret->runner, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	return GOLDEN_PASS;
}

#define OPEN(c, prefix, ret, ...)                                                                  \
	golden_open_synthetic(c, prefix, (const char *const[]){__VA_ARGS__, NULL}, ret)

int golden_fullsize_text_encoder(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, golden_param_string(c, "prefix", ""), &component, "text_encoder",
		 "text_encoder_2");
	return r == GOLDEN_PASS ? golden_run_clip(c, &component, "input_ids", "") : r;
}

int golden_fullsize_unet(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, "model.diffusion_model.", &component, "unet");
	return r == GOLDEN_PASS ? golden_run_unet(c, &component, NULL, "out") : r;
}

int golden_fullsize_vae_decode(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, golden_param_string(c, "prefix", ""), &component, "vae");
	return r == GOLDEN_PASS ? golden_run_vae(c, &component, "out", NULL) : r;
}

int golden_fullsize_vae_encode(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, golden_param_string(c, "prefix", ""), &component, "vae");
	return r == GOLDEN_PASS ? golden_run_vae(c, &component, NULL, "moments") : r;
}

/* DDIM with classifier-free guidance, as the case's parameters say; the latents after every step, in rows. */
static int trajectory(struct golden_case *c, const struct golden_component *component,
		      struct sde_scheduler *scheduler)
{
	const struct golden_tensor *latents = golden_input_f32(c, "latents");
	const struct golden_tensor *cond = golden_input_f32(c, "cond");
	const struct golden_tensor *uncond = golden_input_f32(c, "uncond");
	const float scale = (float)golden_param_double(c, "guidance_scale", 1);
	float *sample, *context, *prediction, *rows, steps[2];
	struct sde_unet_config config;
	struct sde_unet_call call;
	struct sde_error error;
	struct sde_unet unet;
	const double *timesteps;
	size_t n, count;

	if (!latents || !cond || !uncond || latents->rank != 4 || cond->rank != 3)
		return golden_fail(c, "malformed case");
	if (sde_unet_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_unet_bind(&unet, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "unet", &error);
	n = latents->count;
	timesteps = sde_scheduler_timesteps(scheduler, &count);
	sample = golden_floats(2 * n);
	prediction = golden_floats(2 * n);
	context = golden_floats(2 * cond->count);
	rows = golden_floats(count * n);
	memcpy(context, uncond->f32, cond->count * sizeof(float));
	memcpy(context + cond->count, cond->f32, cond->count * sizeof(float));
	call = (struct sde_unet_call){.sample = sample,
				      .batch = 2,
				      .height = (int)latents->shape[2],
				      .width = (int)latents->shape[3],
				      .timesteps = steps,
				      .encoder_hidden_states = context,
				      .tokens = (int)cond->shape[1]};
	for (size_t i = 0; i < count; i++) {
		const float *x = i ? rows + (i - 1) * n : latents->f32;

		memcpy(sample, x, n * sizeof(float));
		memcpy(sample + n, x, n * sizeof(float));
		steps[0] = steps[1] = (float)timesteps[i];
		if (sde_unet_forward(component->runner, &unet, &call, prediction, &error) < 0)
			return golden_fail_error(c, "forward", &error);
		for (size_t k = 0; k < n; k++)
			prediction[k] += scale * (prediction[n + k] - prediction[k]);
		if (sde_scheduler_step(scheduler, prediction, x, rows + i * n, n, NULL, &error) < 0)
			return golden_fail_error(c, "step", &error);
	}
	golden_expect_f32(c, "latents_per_step", rows,
			  GOLDEN_SHAPE((int64_t)count, latents->shape[1], latents->shape[2],
				       latents->shape[3]));
	return GOLDEN_PASS;
}

int golden_fullsize_trajectory(struct golden_case *c)
{
	const struct sde_timesteps_request request = {.num_inference_steps =
							      (int)golden_param_int(c, "steps", 1)};
	struct golden_component component;
	struct sde_scheduler_config config;
	struct sde_scheduler *scheduler;
	struct sde_error error;
	int r;

	r = OPEN(c, "model.diffusion_model.", &component, "unet");
	if (r != GOLDEN_PASS)
		return r;
	sde_scheduler_config_init(&config, SDE_SCHEDULER_DDIM);
	if (sde_scheduler_config_apply_json(
		    &config,
		    json_pack("{s:s, s:f, s:f, s:b, s:b, s:O, s:O}", "beta_schedule",
			      "scaled_linear", "beta_start", 0.00085, "beta_end", 0.012,
			      "clip_sample", 0, "set_alpha_to_one",
			      golden_param_bool(c, "set_alpha_to_one", true), "steps_offset",
			      golden_param(c, "steps_offset"), "timestep_spacing",
			      golden_param(c, "timestep_spacing")),
		    &error) < 0 ||
	    sde_scheduler_new(&config, &scheduler, &error) < 0 ||
	    sde_scheduler_set_timesteps(scheduler, &request, &error) < 0)
		return golden_fail_error(c, "scheduler", &error);
	return trajectory(c, &component, scheduler);
}

/* The two halves are two files with their own numbering. */
int golden_fullsize_taesd(struct golden_case *c)
{
	struct golden_component component;
	struct sde_checkpoint *checkpoint;
	struct sde_error error;
	const char *halves[2];

	if (!c->model)
		return golden_fail(c, "the case names no manifest");
	if (golden_synthetic_open(c->model, "encoder|", true, &halves[0], &error) < 0 ||
	    golden_synthetic_open(c->model, "decoder|", true, &halves[1], &error) < 0 ||
	    sde_checkpoint_open_set(halves, 2, false, &checkpoint, &error) < 0 ||
	    sde_checkpoint_config(checkpoint, "vae", &component.config, &error) < 0 ||
	    sde_checkpoint_weights(checkpoint, "vae", &component.weights, &error) < 0 ||
	    sde_runner_new(c->options->backend, c->options->dtype, 0, &component.runner, &error) <
		    0)
		return golden_fail_error(c, "synthetic checkpoint", &error);
	return golden_run_vae(c, &component, "decode", "encode_latents");
}

int golden_fullsize_t5(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, "", &component, "text_encoder_3");
	return r == GOLDEN_PASS ? golden_run_t5(c, &component, "input_ids", "out") : r;
}

int golden_fullsize_transformer(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = OPEN(c, golden_param_string(c, "prefix", "model.diffusion_model."), &component,
		 "transformer");
	return r == GOLDEN_PASS ? golden_run_transformer(c, &component, "out") : r;
}
