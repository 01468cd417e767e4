/*
 * Adapters on a whole model: kinds lora_sd15, lora_sdxl, lora_sd3, lora_flux and textual_inversion_*. Paths of adapters are relative to the case's folder.
 */
#include "tests/golden/adapters.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"

char *golden_beside(const struct golden_case *c, const char *path)
{
	char *whole;
	const int folder = (int)(strrchr(c->path, '/') ? strrchr(c->path, '/') - c->path + 1 : 0);

	if (asprintf(&whole, "%.*s%s", folder, c->path, path) < 0)
		abort();
	return whole;
}

/* params.loras: [{"file", "scale"}] */
static int read_loras(struct golden_case *c, struct sde_lora_use *ret_uses, size_t *ret_n)
{
	const json_t *loras = golden_param(c, "loras");
	const size_t n = json_array_size(loras);

	if (n > SDE_LORAS_MAX)
		return golden_fail(c, "malformed case: %zu LoRAs", n);
	for (size_t i = 0; i < n; i++) {
		const json_t *use = json_array_get(loras, i);
		const char *file = json_string_value(json_object_get(use, "file"));

		ret_uses[i] =
			(struct sde_lora_use){file, golden_beside(c, file ? file : ""),
					      json_number_value(json_object_get(use, "scale"))};
	}
	*ret_n = n;
	return GOLDEN_PASS;
}

static int use_loras(struct golden_case *c, struct sde_model *model)
{
	struct sde_lora_use uses[SDE_LORAS_MAX];
	struct sde_error error = {0};
	size_t n;
	int r;

	r = read_loras(c, uses, &n);
	if (r != GOLDEN_PASS)
		return r;
	return sde_model_adapt(model, uses, n, NULL, &error) < 0
		       ? golden_fail_error(c, "LoRAs", &error)
		       : GOLDEN_PASS;
}

int golden_embed_ids(struct golden_case *c, struct sde_model *model, const struct sde_words *words,
		     struct golden_text *ret)
{
	struct sde_text text = {0};
	struct sde_error error = {0};

	*ret = (struct golden_text){.width = sde_model_context_width(model),
				    .pooled_width = sde_model_pooled_width(model)};
	for (int k = 0; k < model->n_towers; k++) {
		const struct golden_tensor *ids =
			golden_input_i32(c, k ? "input_ids_2" : "input_ids");
		struct sde_prompt_chunk *chunk = calloc(1, sizeof(*chunk));

		if (!ids || !chunk || ids->count != SDE_PROMPT_LENGTH)
			return golden_fail(c, "input ids are missing or misshapen");
		for (int i = 0; i < SDE_PROMPT_LENGTH; i++) {
			chunk->ids[i] = ids->i32[i];
			chunk->weights[i] = 1;
		}
		text.clip[k] = (struct sde_prompt){.chunks = chunk, .count = 1};
		if (words)
			sde_words_attach(words, k, &text.clip[k]);
	}
	ret->context = golden_floats((size_t)SDE_PROMPT_LENGTH * (size_t)ret->width);
	ret->pooled = golden_floats((size_t)ret->pooled_width);
	if (sde_model_embed(model, &text, 0, ret->context, ret->pooled, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	golden_expect_f32(c, model->n_towers > 1 ? "context" : "last_hidden_state", ret->context,
			  GOLDEN_SHAPE(1, SDE_PROMPT_LENGTH, ret->width));
	golden_expect_f32(c, "text_embeds", ret->pooled, GOLDEN_SHAPE(1, ret->pooled_width));
	return GOLDEN_PASS;
}

int golden_unet_call(struct golden_case *c, struct sde_unet_call *ret_call)
{
	const struct golden_tensor *sample = golden_input_f32(c, "sample");
	const struct golden_tensor *timestep = golden_find(c, "timestep");
	const struct golden_tensor *context = golden_find(c, "encoder_hidden_states");
	const struct golden_tensor *text = golden_find(c, "text_embeds");
	const struct golden_tensor *ids = golden_find(c, "time_ids");
	float *t = golden_floats(16);

	if (!sample || sample->rank != 4 || sample->shape[0] > 16 || !timestep)
		return golden_fail(c, "sample or timestep is missing or misshapen");
	for (int i = 0; i < sample->shape[0]; i++)
		t[i] = timestep->f32 ? timestep->f32[timestep->count > 1 ? i : 0]
				     : (float)timestep->i32[timestep->count > 1 ? i : 0];
	*ret_call = (struct sde_unet_call){
		.sample = sample->f32,
		.batch = (int)sample->shape[0],
		.height = (int)sample->shape[2],
		.width = (int)sample->shape[3],
		.timesteps = t,
		.encoder_hidden_states = context ? context->f32 : NULL,
		.tokens = context ? (int)context->shape[1] : SDE_PROMPT_LENGTH,
		.text_embeds = text ? text->f32 : NULL,
		.text_width = text ? (int)text->shape[1] : 0,
		.time_ids = ids ? ids->f32 : NULL,
		.n_time_ids = ids ? (int)ids->shape[1] : 0,
	};
	return GOLDEN_PASS;
}

int golden_unet_expect(struct golden_case *c, const struct sde_model *model,
		       const struct sde_unet_call *call, const char *name)
{
	const int channels = model->denoiser.out_channels;
	const size_t n = (size_t)channels * (size_t)call->height * (size_t)call->width;
	float *out = golden_floats(n * (size_t)call->batch);
	struct sde_error error = {0};

	if (sde_unet_forward(model->runner, &sde_model_denoiser(model)->unet, call, out, &error) <
	    0)
		return golden_fail_error(c, name, &error);
	golden_expect_f32(c, name, out,
			  GOLDEN_SHAPE(call->batch, channels, call->height, call->width));
	free(out);
	return GOLDEN_PASS;
}

/* Negative and positive prompt, one below the other. */
static int embed_prompts(struct golden_case *c, struct sde_model *model, float *embeds,
			 float *pooled)
{
	const char *const keys[] = {"negative_prompt", "prompt"};
	const size_t row = (size_t)SDE_PROMPT_LENGTH * (size_t)sde_model_context_width(model);
	struct sde_error error = {0};

	for (int i = 0; i < 2; i++) {
		const char *prompt = golden_param_string(c, keys[i], "");
		const char *const texts[SDE_TEXTS_MAX] = {prompt, prompt, prompt};
		struct sde_text text;

		if (sde_text_cut(model, texts, false, NULL, 0, &text, &error) < 0 ||
		    sde_model_embed(model, &text, 0, embeds + (size_t)i * row,
				    pooled + i * sde_model_pooled_width(model), &error) < 0)
			return golden_fail_error(c, "prompt", &error);
	}
	return GOLDEN_PASS;
}

int golden_final_latents(struct golden_case *c, struct sde_model *model,
			 struct sde_sd_request *request)
{
	const struct golden_tensor *latents = golden_input_f32(c, "latents");
	const int f = sde_model_factor(model);
	struct sde_noise noise = {0};
	struct sde_scheduler_config scheduler;
	struct sde_error error = {0};
	struct sde_sd_result result;
	float ids[2 * SDE_TIME_IDS_MAX];
	float *embeds, *pooled;

	if (!latents || latents->rank != 4)
		return golden_fail(c, "latents is missing or misshapen");
	if (sde_scheduler_config_from_json(model->scheduler_config, &scheduler, &error) < 0)
		return golden_fail_error(c, "scheduler", &error);
	embeds = golden_floats(2 * (size_t)SDE_PROMPT_LENGTH *
			       (size_t)sde_model_context_width(model));
	pooled = golden_floats(2 * (size_t)sde_model_pooled_width(model));
	if (embed_prompts(c, model, embeds, pooled) != GOLDEN_PASS)
		return GOLDEN_FAIL;
	request->guidance_scale = golden_param_double(c, "guidance_scale", 1);
	if (!sde_sd_uses_guidance(model, request->guidance_scale)) {
		embeds += (size_t)SDE_PROMPT_LENGTH * (size_t)sde_model_context_width(model);
		pooled += sde_model_pooled_width(model);
	}
	noise.stream = latents->f32;
	noise.stream_left = latents->count;
	request->kind = SDE_SD_TXT2IMG;
	request->scheduler = &scheduler;
	request->timesteps.num_inference_steps = (int)golden_param_int(c, "steps", 0);
	request->batch = 1;
	request->height = (int)latents->shape[2] * f;
	request->width = (int)latents->shape[3] * f;
	request->prompt_embeds = embeds;
	request->tokens = SDE_PROMPT_LENGTH;
	request->pooled = pooled;
	request->noise = &noise;
	for (int i = 0; i < 2; i++) {
		const struct sde_picture_terms terms = {
			.original = {request->height, request->width},
			.target = {request->height, request->width}};

		request->n_time_ids =
			sde_model_time_ids(model, &terms, ids + i * request->n_time_ids);
	}
	request->time_ids = ids;
	if (sde_sd_run(model, request, &result, &error) < 0)
		return golden_fail_error(c, "pipeline", &error);
	golden_expect_f32(c, "final_latents", result.latents, latents->rank, latents->shape);
	return GOLDEN_PASS;
}

int golden_lora(struct golden_case *c)
{
	struct sde_sd_request request = {0};
	struct sde_unet_call call;
	struct golden_text text;
	struct sde_model *model;
	int r;

	r = golden_load_model(c, &model);
	if (r == GOLDEN_PASS)
		r = use_loras(c, model);
	if (r == GOLDEN_PASS)
		r = golden_embed_ids(c, model, NULL, &text);
	if (r == GOLDEN_PASS)
		r = golden_unet_call(c, &call);
	if (r != GOLDEN_PASS)
		return r;
	call.encoder_hidden_states = text.context;
	call.text_embeds = text.pooled;
	call.text_width = text.pooled_width;
	r = golden_unet_expect(c, model, &call, "unet_out");
	if (r == GOLDEN_PASS && golden_wants(c, "final_latents"))
		r = golden_final_latents(c, model, &request);
	return r;
}

/* The prompt with the word in it gives the ids that the case has. */
static int expect_ids(struct golden_case *c, const struct sde_model *model,
		      const struct sde_words *words)
{
	const char *text = golden_param_string(c, "prompt", "");
	struct sde_error error = {0};

	for (int k = 0; k < model->n_towers; k++) {
		const struct sde_clip_tokenizer *tokenizer = model->towers[k].tokenizer;
		const struct sde_prompt_words of = sde_words_of(words, k);
		const struct golden_tensor *ids =
			golden_input_i32(c, k ? "input_ids_2" : "input_ids");
		struct sde_prompt prompt;

		if (!ids || ids->count != SDE_PROMPT_LENGTH)
			return golden_fail(c, "input ids are missing or misshapen");
		if (sde_prompt_weighted(tokenizer, sde_clip_tokenizer_pad(tokenizer), &of, text,
					strlen(text), &prompt, &error) < 0)
			return golden_fail_error(c, "prompt", &error);
		if (memcmp(prompt.chunks[0].ids, ids->i32, sizeof(prompt.chunks[0].ids)) != 0)
			return golden_fail(c, "the prompt gives other ids for text encoder %d",
					   k + 1);
		sde_prompt_clear(&prompt);
	}
	return GOLDEN_PASS;
}

int golden_textual_inversion(struct golden_case *c)
{
	struct sde_words *words = calloc(1, sizeof(*words));
	struct sde_error error = {0};
	struct golden_text text;
	struct sde_model *model;
	int r;

	if (!words)
		abort();
	r = golden_load_model(c, &model);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_words_add(words, model, golden_beside(c, golden_param_string(c, "embedding", "")),
			  golden_param_string(c, "token", ""), &error) < 0)
		return golden_fail_error(c, "embedding", &error);
	r = expect_ids(c, model, words);
	return r == GOLDEN_PASS ? golden_embed_ids(c, model, words, &text) : r;
}

/* The transformer alone, bound with the case's LoRAs. */
static int open_transformer(struct golden_case *c, const struct sde_denoiser_class *class,
			    const char *family, struct golden_component *component,
			    struct sde_denoiser *denoiser)
{
	struct sde_lora_use uses[SDE_LORAS_MAX];
	struct sde_loras *loras;
	struct sde_error error = {0};
	size_t n;
	int r;

	json_object_set_new(c->params, "component", json_string("transformer"));
	r = golden_open_component(c, class->name, component);
	if (r == GOLDEN_PASS)
		r = read_loras(c, uses, &n);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_loras_new(uses, n, family, &loras, &error) < 0)
		return golden_fail_error(c, "LoRAs", &error);
	sde_weights_set_patch(component->weights,
			      sde_loras_patch(loras, SDE_ADAPTER_TRANSFORMER, NULL));
	if (class->bind(denoiser, component->config, "config.json", component->weights, &error) <
		    0 ||
	    sde_loras_finish(loras, &error) < 0)
		return golden_fail_error(c, "LoRAs", &error);
	return GOLDEN_PASS;
}

static int set_call(struct golden_case *c, float time_scale, struct sde_denoiser_call *ret_call)
{
	const struct golden_tensor *context = golden_input_f32(c, "encoder_hidden_states");
	const struct golden_tensor *pooled = golden_input_f32(c, "pooled_projections");
	const struct golden_tensor *timestep = golden_input_f32(c, "timestep");
	const struct golden_tensor *guidance = golden_find(c, "guidance");
	float *times;

	if (!context || context->rank != 3 || !pooled || pooled->rank != 2 || !timestep)
		return golden_fail(c, "an input is missing or misshapen");
	times = golden_floats(timestep->count);
	for (size_t i = 0; i < timestep->count; i++)
		times[i] = timestep->f32[i] * time_scale;
	*ret_call = (struct sde_denoiser_call){
		.batch = (int)context->shape[0],
		.context = context->f32,
		.tokens = (int)context->shape[1],
		.pooled = pooled->f32,
		.pooled_width = (int)pooled->shape[1],
		.timesteps = times,
		.guidance_scales = guidance ? guidance->f32 : NULL,
	};
	return GOLDEN_PASS;
}

int golden_lora_sd3(struct golden_case *c)
{
	const struct golden_tensor *sample = golden_input_f32(c, "hidden_states");
	struct golden_component component;
	struct sde_denoiser_call call;
	struct sde_denoiser denoiser;
	struct sde_error error = {0};
	float *out;
	int r;

	if (!sample || sample->rank != 4)
		return golden_fail(c, "hidden_states is misshapen");
	r = open_transformer(c, &sde_denoiser_sd3, "sd3", &component, &denoiser);
	if (r == GOLDEN_PASS)
		r = set_call(c, 1, &call);
	if (r != GOLDEN_PASS)
		return r;
	call.sample = sample->f32;
	call.height = (int)sample->shape[2];
	call.width = (int)sample->shape[3];
	out = golden_floats(sample->count);
	if (sde_denoiser_forward(component.runner, &denoiser, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	golden_expect_f32(c, "transformer_out", out, 4, sample->shape);
	return GOLDEN_PASS;
}

/* Image positions to the size of the latents: the last token's row and column. */
int golden_lora_flux(struct golden_case *c)
{
	const struct golden_tensor *tokens = golden_input_f32(c, "hidden_states");
	const struct golden_tensor *ids = golden_input_f32(c, "img_ids");
	struct golden_component component;
	struct sde_denoiser_call call;
	struct sde_denoiser denoiser;
	struct sde_error error = {0};
	float *latents, *out, *packed;
	int r;

	if (!tokens || tokens->rank != 3 || !ids || ids->rank != 2)
		return golden_fail(c, "hidden_states or img_ids is misshapen");
	r = open_transformer(c, &sde_denoiser_flux, "flux", &component, &denoiser);
	if (r == GOLDEN_PASS)
		r = set_call(c, 1000, &call);
	if (r != GOLDEN_PASS)
		return r;
	call.height = SDE_FLUX_PACK * ((int)ids->f32[ids->count - 2] + 1);
	call.width = SDE_FLUX_PACK * ((int)ids->f32[ids->count - 1] + 1);
	latents = golden_floats(tokens->count);
	out = golden_floats(tokens->count);
	packed = golden_floats(tokens->count);
	sde_flux_unpack(tokens->f32, latents, call.batch, denoiser.in_channels, call.height,
			call.width);
	call.sample = latents;
	if (sde_denoiser_forward(component.runner, &denoiser, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	sde_flux_pack(out, packed, call.batch, denoiser.out_channels, call.height, call.width);
	golden_expect_f32(c, "transformer_out", packed, 3, tokens->shape);
	return GOLDEN_PASS;
}
