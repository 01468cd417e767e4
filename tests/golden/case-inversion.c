/*
 * kind ddim_inversion: a picture's latents carried to noise by DDIMInverse and back by DDIM, without guidance.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/scheduler.h"
#include "tests/golden/golden.h"

struct inversion {
	struct golden_case *c;
	struct sde_model *model;
	float *embeds;
	int h, w;
	size_t n;
	struct sde_error error;
};

/* Run a scheduler's whole list; row i of rows is the sample after step i. */
static int run(struct inversion *inversion, enum sde_scheduler_class class_id, const float *start,
	       float *rows, int32_t *steps)
{
	const struct sde_timesteps_request request = {
		.num_inference_steps = (int)golden_param_int(inversion->c, "steps", 1)};
	const struct sde_model *model = inversion->model;
	const size_t n = inversion->n;
	struct sde_scheduler_config config;
	struct sde_scheduler *scheduler;
	float *x = golden_floats(n), *prediction = golden_floats(n);
	const double *timesteps;
	size_t count;

	sde_scheduler_config_init(&config, class_id);
	if (sde_scheduler_config_apply_json(&config, golden_param(inversion->c, "config"),
					    &inversion->error) < 0 ||
	    sde_scheduler_new(&config, &scheduler, &inversion->error) < 0 ||
	    sde_scheduler_set_timesteps(scheduler, &request, &inversion->error) < 0)
		return -1;
	timesteps = sde_scheduler_timesteps(scheduler, &count);
	memcpy(x, start, n * sizeof(float));
	for (size_t i = 0; i < count && i < (size_t)request.num_inference_steps; i++) {
		const float t = (float)timesteps[i];
		const struct sde_denoiser_call call = {.sample = x,
						       .batch = 1,
						       .height = inversion->h,
						       .width = inversion->w,
						       .timesteps = &t,
						       .context = inversion->embeds,
						       .tokens = SDE_PROMPT_LENGTH};

		steps[i] = (int32_t)timesteps[i];
		if (sde_denoiser_forward(model->runner, &model->denoiser, &call, prediction,
					 &inversion->error) < 0 ||
		    sde_scheduler_step(scheduler, prediction, x, x, n, NULL, &inversion->error) < 0)
			return -1;
		memcpy(rows + i * n, x, n * sizeof(float));
	}
	return 0;
}

static int prepare(struct inversion *inversion, float **ret_latents)
{
	struct golden_case *c = inversion->c;
	const struct sde_engine_options options = {c->options->backend, c->options->dtype, 1};
	const struct golden_tensor *image = golden_input_u8(c, "image");
	const char *prompt = golden_param_string(c, "prompt", "");
	struct sde_engine *engine;
	struct sde_text text;
	struct sde_image pixels;
	struct sde_model *model;
	float *values;
	int height, width;

	if (!image || image->rank != 3 || !c->model)
		return golden_fail(c, "the case has no picture or no model");
	height = (int)image->shape[0];
	width = (int)image->shape[1];
	if (sde_engine_new(&options, &engine, &inversion->error) < 0 ||
	    sde_model_load(engine, c->model, &inversion->model, &inversion->error) < 0 ||
	    sde_image_view((void *)image->u8, image->count, (uint32_t)width, (uint32_t)height, 3,
			   SDE_PIXEL_U8, 0, &pixels, &inversion->error) < 0)
		return golden_fail_error(c, "load", &inversion->error);
	model = inversion->model;
	inversion->h = height / sde_model_factor(model);
	inversion->w = width / sde_model_factor(model);
	inversion->n =
		(size_t)model->vae.latent_channels * (size_t)inversion->h * (size_t)inversion->w;
	values = golden_floats(image->count);
	*ret_latents = golden_floats(inversion->n);
	sde_image_to_float(&pixels, SDE_PLANAR, 2, -1, values);
	inversion->embeds =
		golden_floats((size_t)SDE_PROMPT_LENGTH * (size_t)sde_model_context_width(model));
	if (sde_vae_encode(model->runner, &model->vae, values, NULL, 1, height, width, *ret_latents,
			   &inversion->error) < 0 ||
	    sde_text_cut(model, &prompt, false, NULL, 0, &text, &inversion->error) < 0)
		return golden_fail_error(c, "encode", &inversion->error);
	text.clip[0].count = 1;
	if (sde_model_embed(model, &text, 0, inversion->embeds, NULL, &inversion->error) < 0)
		return golden_fail_error(c, "prompt", &inversion->error);
	return GOLDEN_PASS;
}

int golden_ddim_inversion(struct golden_case *c)
{
	const int64_t steps = golden_param_int(c, "steps", 0);
	struct inversion inversion = {.c = c};
	float *latents = NULL, *inverted, *reconstructed;
	int32_t *there, *back;
	int64_t channels;
	int r;

	if (steps < 1 || steps > 1000)
		return golden_fail(c, "malformed case: %d steps", (int)steps);
	if (strcmp(c->options->dtype, "f32") != 0)
		return golden_skip(
			c, "a random U-Net's way back magnifies rounding; judged in f32 only");
	r = prepare(&inversion, &latents);
	if (r != GOLDEN_PASS)
		return r;
	channels = inversion.model->vae.latent_channels;
	inverted = golden_floats((size_t)(steps + 1) * inversion.n);
	reconstructed = golden_floats((size_t)steps * inversion.n);
	there = calloc((size_t)steps, sizeof(*there));
	back = calloc((size_t)steps, sizeof(*back));
	if (!there || !back)
		abort();
	memcpy(inverted, latents, inversion.n * sizeof(float));
	if (run(&inversion, SDE_SCHEDULER_DDIM_INVERSE, latents, inverted + inversion.n, there) <
		    0 ||
	    run(&inversion, SDE_SCHEDULER_DDIM, inverted + (size_t)steps * inversion.n,
		reconstructed, back) < 0)
		return golden_fail_error(c, "steps", &inversion.error);
	golden_expect_f32(c, "latents0", latents,
			  GOLDEN_SHAPE(1, channels, inversion.h, inversion.w));
	golden_expect_i32(c, "inverse_timesteps", there, GOLDEN_SHAPE(steps));
	golden_expect_f32(c, "inverted", inverted,
			  GOLDEN_SHAPE(steps + 1, 1, channels, inversion.h, inversion.w));
	golden_expect_i32(c, "forward_timesteps", back, GOLDEN_SHAPE(steps));
	golden_expect_f32(c, "reconstructed", reconstructed,
			  GOLDEN_SHAPE(steps, 1, channels, inversion.h, inversion.w));
	return GOLDEN_PASS;
}
