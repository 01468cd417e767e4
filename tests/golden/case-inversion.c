/*
 * kind ddim_inversion: a picture's latents carried to noise by DDIMInverse and back by DDIM, without guidance, by the pipeline that jobs
 * run.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/scheduler.h"
#include "tests/golden/golden.h"

struct inversion {
	struct golden_case *c;
	struct sde_model *model;
	float *embeds, *pooled, *image;
	float time_ids
		[SDE_TIME_IDS_MAX]; /* SDXL: of a picture that is whole and as large as it is */
	int n_time_ids;
	int h, w;
	size_t n;
	struct sde_error error;
};

struct rows {
	float *values; /* row i: the latents behind step i */
	int32_t *timesteps;
	size_t n;
};

static int take_row(void *userdata, int step, int total, const float *latents)
{
	struct rows *rows = userdata;

	memcpy(rows->values + (size_t)step * rows->n, latents, rows->n * sizeof(float));
	return 0;
}

/* The pipeline's whole run one way; rows for each step and the latents before it. */
static int run(struct inversion *inversion, enum sde_sd_kind kind, const float *latents,
	       struct rows *rows)
{
	struct sde_scheduler_config config;
	struct sde_rng rng;
	struct sde_noise noise = {.rngs = &rng, .n_rngs = 1};
	struct sde_sd_request request = {
		.kind = kind,
		.scheduler = &config,
		.timesteps = {.num_inference_steps =
				      (int)golden_param_int(inversion->c, "steps", 1)},
		.batch = 1,
		.n_images = 1,
		.height = inversion->h * sde_model_factor(inversion->model),
		.width = inversion->w * sde_model_factor(inversion->model),
		.guidance_scale = 1,
		.strength = 1,
		.prompt_embeds = inversion->embeds,
		.pooled = inversion->pooled,
		.time_ids = inversion->time_ids,
		.n_time_ids = inversion->n_time_ids,
		.tokens = SDE_PROMPT_LENGTH,
		.image = inversion->image,
		.image_latents = latents,
		.noised = latents != NULL,
		.noise = &noise,
		.on_step = take_row,
		.userdata = rows,
	};
	struct sde_sd_result result;
	int r;

	rows->n = inversion->n;
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, 0);
	sde_scheduler_config_init(&config, kind == SDE_SD_INVERT ? SDE_SCHEDULER_DDIM_INVERSE
								 : SDE_SCHEDULER_DDIM);
	r = sde_scheduler_config_apply_json(&config, golden_param(inversion->c, "config"),
					    &inversion->error);
	if (r >= 0)
		r = sde_sd_run(inversion->model, &request, &result, &inversion->error);
	sde_scheduler_config_clear(&config);
	if (r < 0)
		return r;
	for (size_t i = 0; i < result.n_timesteps; i++)
		rows->timesteps[i] = (int32_t)result.timesteps[i];
	sde_sd_result_clear(&result);
	return 0;
}

static int prepare(struct inversion *inversion)
{
	struct golden_case *c = inversion->c;
	const struct sde_engine_options options = {c->options->backend, c->options->dtype, 1};
	const struct golden_tensor *image = golden_input_u8(c, "image");
	const char *prompt = golden_param_string(c, "prompt", "");
	const char *const prompts[SDE_TEXTS_MAX] = {prompt, prompt, prompt};
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
	sde_image_to_float(&pixels, SDE_PLANAR, 2, -1, values);
	inversion->embeds =
		golden_floats((size_t)SDE_PROMPT_LENGTH * (size_t)sde_model_context_width(model));
	inversion->pooled = golden_floats((size_t)sde_model_pooled_width(model));
	inversion->image = values;
	inversion->n_time_ids = sde_model_time_ids(
		model, &(struct sde_picture_terms){{height, width}, {0, 0}, {height, width}, 0},
		inversion->time_ids);
	if (sde_text_cut(model, prompts, false, NULL, 0, &text, &inversion->error) < 0)
		return golden_fail_error(c, "encode", &inversion->error);
	text.clip[0].count = text.clip[1].count = 1;
	if (sde_model_embed(model, &text, 0, inversion->embeds, inversion->pooled,
			    &inversion->error) < 0)
		return golden_fail_error(c, "prompt", &inversion->error);
	return GOLDEN_PASS;
}

int golden_ddim_inversion(struct golden_case *c)
{
	const int64_t steps = golden_param_int(c, "steps", 0);
	struct inversion inversion = {.c = c};
	struct rows there, back;
	int64_t channels;
	int r;

	if (steps < 1 || steps > 1000)
		return golden_fail(c, "malformed case: %d steps", (int)steps);
	if (strcmp(c->options->dtype, "f32") != 0)
		return golden_skip(
			c, "a random U-Net's way back magnifies rounding; judged in f32 only");
	r = prepare(&inversion);
	if (r != GOLDEN_PASS)
		return r;
	channels = inversion.model->vae.latent_channels;
	there.values = golden_floats((size_t)(steps + 1) * inversion.n);
	back.values = golden_floats((size_t)(steps + 1) * inversion.n);
	there.timesteps = calloc((size_t)steps, sizeof(*there.timesteps));
	back.timesteps = calloc((size_t)steps, sizeof(*back.timesteps));
	if (!there.timesteps || !back.timesteps)
		abort();
	if (run(&inversion, SDE_SD_INVERT, NULL, &there) < 0 ||
	    run(&inversion, SDE_SD_IMG2IMG, there.values + (size_t)steps * inversion.n, &back) < 0)
		return golden_fail_error(c, "steps", &inversion.error);
	golden_expect_f32(c, "latents0", there.values,
			  GOLDEN_SHAPE(1, channels, inversion.h, inversion.w));
	golden_expect_i32(c, "inverse_timesteps", there.timesteps, GOLDEN_SHAPE(steps));
	golden_expect_f32(c, "inverted", there.values,
			  GOLDEN_SHAPE(steps + 1, 1, channels, inversion.h, inversion.w));
	golden_expect_i32(c, "forward_timesteps", back.timesteps, GOLDEN_SHAPE(steps));
	golden_expect_f32(c, "reconstructed", back.values + inversion.n,
			  GOLDEN_SHAPE(steps, 1, channels, inversion.h, inversion.w));
	return GOLDEN_PASS;
}
