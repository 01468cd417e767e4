/*
 * kind pipeline: diffusers' text-to-image, image-to-image and inpainting calls of SD 1.x, 2.x, XL, 3 (and LCM) and FLUX, by seed; and
 * prompt_embed: weighted prompts as AUTOMATIC1111 embeds them.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/diffusers.h"
#include "daemon/engine/geometry/latent-mask.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/prompt-embed.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/pixels/convert.h"
#include "tests/golden/component.h"

#define BATCH_MAX 16

struct call {
	struct golden_case *c;
	const json_t *arguments;
	struct sde_model *model;
	struct sde_sd_request request;
	struct sde_scheduler_config scheduler;
	struct sde_rng rngs[BATCH_MAX];
	struct sde_noise noise;
	int prompts, per_prompt, t5_tokens;
	struct sde_image originals[BATCH_MAX], masks[BATCH_MAX];
	struct sde_rect region;
	bool crops;
	struct sde_error error;
};

static double number(const struct call *call, const char *key, double fallback)
{
	const json_t *value = json_object_get(call->arguments, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

/* Text i of a string or a list, "" when absent. */
static const char *text_of(const struct call *call, const char *key, int i)
{
	const json_t *value = json_object_get(call->arguments, key);

	if (json_is_array(value))
		value = json_array_get(value, (size_t)i);
	return json_is_string(value) ? json_string_value(value) : "";
}

/*
 * Prompt i for text encoder k of the model: "prompt_2" and "prompt_3", absent or empty, fall back to "prompt". An empty one of a
 * list stays empty, as there.
 */
static const char *prompt_of(const struct call *call, bool negative, int k, int i)
{
	static const char *const keys[2][SDE_TEXTS_MAX] = {
		{"prompt", "prompt_2", "prompt_3"},
		{"negative_prompt", "negative_prompt_2", "negative_prompt_3"},
	};
	const char *text = text_of(call, keys[negative][k], i);

	return text[0] || json_is_array(json_object_get(call->arguments, keys[negative][k]))
		       ? text
		       : text_of(call, keys[negative][0], i);
}

static int embed_one(struct call *call, bool negative, const struct sde_text *text,
		     float *ret_embeds, float *ret_pooled)
{
	struct sde_model *model = call->model;

	if (negative && model->zero_negative &&
	    !json_object_get(call->arguments, "negative_prompt"))
		return 0;
	/* as there, clip_skip is for the positive prompt only */
	return sde_model_embed(model, text, negative ? 0 : (int)number(call, "clip_skip", 0),
			       ret_embeds, ret_pooled, &call->error);
}

static int cut_one(struct call *call, bool negative, int i, struct sde_text *ret_text)
{
	const char *texts[SDE_TEXTS_MAX];
	int r;

	for (int k = 0; k < SDE_TEXTS_MAX; k++)
		texts[k] = prompt_of(call, negative, k, i);
	r = sde_text_cut(call->model, texts, false, NULL, call->t5_tokens, ret_text, &call->error);
	for (int k = 0; r >= 0 && k < call->model->n_towers; k++)
		ret_text->clip[k].count = 1; /* cut as diffusers does */
	return r;
}

/* The call has classifier-free guidance: its rows are doubled. */
static bool guided(const struct call *call)
{
	return sde_sd_uses_guidance(call->model, call->request.guidance_scale) ||
	       call->request.true_cfg_scale > 1;
}

/* Rows of embeddings: [negative...,] positive..., each repeated for its images. */
static int embed(struct call *call)
{
	const struct sde_model *model = call->model;
	const int width = sde_model_context_width(model), pooled = sde_model_pooled_width(model);
	const bool guidance = guided(call);
	const int batch = call->request.batch, rows = guidance ? 2 * batch : batch;
	float *embeds = NULL, *pools = golden_floats((size_t)rows * (size_t)pooled);
	size_t tokens = 0;

	for (int row = 0; row < rows; row++) {
		const bool negative = guidance && row < batch;
		const int i = row % batch / call->per_prompt;
		struct sde_text text;

		if (cut_one(call, negative, i, &text) < 0)
			return -1;
		tokens = sde_model_context_rows(model, &text);
		if (!embeds)
			embeds = golden_floats((size_t)rows * tokens * (size_t)width);
		if (embed_one(call, negative, &text, embeds + (size_t)row * tokens * (size_t)width,
			      pools + (size_t)row * (size_t)pooled) < 0)
			return -1;
		sde_text_clear(&text);
	}
	call->request.prompt_embeds = embeds;
	call->request.tokens = (int)tokens;
	call->request.pooled = pools;
	golden_expect_f32(call->c, "prompt_embeds", embeds,
			  GOLDEN_SHAPE(rows, (int64_t)tokens, width));
	golden_expect_f32(call->c, "add_text_embeds", pools, GOLDEN_SHAPE(rows, pooled));
	golden_expect_f32(call->c, "pooled_prompt_embeds", pools, GOLDEN_SHAPE(rows, pooled));
	golden_expect_f32(call->c, "negative_pooled_prompt_embeds", pools,
			  GOLDEN_SHAPE(batch, pooled));
	return 0;
}

/* A pair of numbers among the arguments; false when absent. */
static bool pair(const struct call *call, const char *key, double *ret)
{
	const json_t *value = json_object_get(call->arguments, key);

	for (size_t i = 0; i < 2 && json_array_size(value) == 2; i++)
		ret[i] = json_number_value(json_array_get(value, i));
	return json_array_size(value) == 2;
}

/*
 * The defaults of the pipelines: sizes are the picture's. Text to image uses the negative ones only when both are given; the
 * others take what is given of them, and the positive crop unless they tell an aesthetic score.
 */
static void set_time_ids(struct call *call)
{
	struct sde_sd_request *request = &call->request;
	const bool text = request->kind == SDE_SD_TXT2IMG;
	const bool guidance = guided(call);
	const int rows = guidance ? 2 * request->batch : request->batch;
	struct sde_picture_terms positive = {
		.original = {request->height, request->width},
		.target = {request->height, request->width},
		.aesthetic = number(call, "aesthetic_score", 6.0),
	};
	struct sde_picture_terms negative, given = {{0}};
	bool original, target;
	float *ids = golden_floats((size_t)rows * SDE_TIME_IDS_MAX), *to = ids;
	int n = 0;

	pair(call, "original_size", positive.original);
	pair(call, "crops_coords_top_left", positive.crop);
	pair(call, "target_size", positive.target);
	negative = positive;
	negative.aesthetic = number(call, "negative_aesthetic_score", 2.5);
	original = pair(call, "negative_original_size", given.original);
	target = pair(call, "negative_target_size", given.target);
	pair(call, "negative_crops_coords_top_left", given.crop);
	if (text ? original && target : call->model->aesthetic)
		memcpy(negative.crop, given.crop, sizeof(given.crop));
	if (original && (target || !text))
		memcpy(negative.original, given.original, sizeof(given.original));
	if (target && (original || !text))
		memcpy(negative.target, given.target, sizeof(given.target));
	/* text to image there repeats the pair, not each half of it: rows of a batch take turns */
	for (int row = 0; row < rows; row++, to += n)
		n = sde_model_time_ids(call->model,
				       guidance && (text ? row % 2 == 0 : row < request->batch)
					       ? &negative
					       : &positive,
				       to);
	request->time_ids = ids;
	request->n_time_ids = n;
	golden_expect_f32(call->c, "add_time_ids", ids, GOLDEN_SHAPE(rows, n));
}

/* Picture i of a (H, W[, 3]) or (N, H, W[, 3]) tensor. */
static int view(struct call *call, const struct golden_tensor *t, int rank, int i,
		struct sde_image *ret_image)
{
	const int at = t->rank - rank;
	const uint32_t h = (uint32_t)t->shape[at], w = (uint32_t)t->shape[at + 1];
	const uint32_t channels = rank == 3 ? (uint32_t)t->shape[at + 2] : 1;
	const size_t size = (size_t)h * w * channels;

	return sde_image_view((void *)(t->u8 + (size_t)i * size), size, w, h, channels,
			      SDE_PIXEL_U8, 0, ret_image, &call->error);
}

/* Crop and resize a picture as the call's preprocessing does, to the request's size. */
static int preprocess(struct call *call, const struct sde_image *image, struct sde_image *ret)
{
	struct sde_image part = *image, packed;
	int r = 0;

	if (call->crops)
		r = sde_image_subview(image, call->region, &part, &call->error);
	if (r >= 0)
		r = sde_image_copy(&part, &packed, &call->error);
	if (r >= 0)
		r = sde_diffusers_resize(
			&packed, (uint32_t)call->request.width, (uint32_t)call->request.height,
			call->crops ? SDE_RESIZE_FILL : SDE_RESIZE_DEFAULT, ret, &call->error);
	return r;
}

/* The picture as latents that a base model left. */
static int set_latents(struct call *call)
{
	const struct golden_tensor *latents = golden_input_f32(call->c, "image_latents");
	const int factor = sde_model_factor(call->model);

	if (!latents || latents->rank != 4)
		return golden_fail(call->c, "image_latents is missing or misshapen");
	call->request.image_latents = latents->f32;
	call->request.n_images = (int)latents->shape[0];
	call->request.height = (int)latents->shape[2] * factor;
	call->request.width = (int)latents->shape[3] * factor;
	return GOLDEN_PASS;
}

/* Calls of these have a size of their own, whatever the picture's is. */
static bool pipeline_takes_sizes(const struct call *call)
{
	return call->request.kind == SDE_SD_INPAINT || call->model->family->flow;
}

static int trained_side(const struct sde_model *model)
{
	const int side = model->denoiser.sample_size * sde_model_factor(model);

	return side > 0 ? side : model->family->native_size;
}

static int set_images(struct call *call)
{
	const struct golden_tensor *image = golden_input_u8(call->c, "image");
	const struct golden_tensor *mask = NULL;
	const bool inpaint = call->request.kind == SDE_SD_INPAINT;
	const int factor = sde_model_factor(call->model);
	float *images, *masks;
	size_t area;
	int n;

	if (inpaint)
		mask = golden_input_u8(call->c, "mask_image");
	if (!image || (inpaint && !mask))
		return golden_fail(call->c, "image or mask_image is missing");
	n = image->rank == 4 ? (int)image->shape[0] : 1;
	if (n > BATCH_MAX || (inpaint && (mask->rank == 3 ? (int)mask->shape[0] : 1) != n))
		return golden_fail(call->c, "malformed case: images and masks do not match");
	for (int i = 0; i < n; i++)
		if (view(call, image, 3, i, &call->originals[i]) < 0 ||
		    (inpaint && view(call, mask, 2, i, &call->masks[i]) < 0))
			return golden_fail_error(call->c, "image", &call->error);
	if (call->request.width == 0 && pipeline_takes_sizes(call)) {
		call->request.width = call->request.height = trained_side(call->model);
	} else if (call->request.width == 0) {
		call->request.width = (int)call->originals[0].width / factor * factor;
		call->request.height = (int)call->originals[0].height / factor * factor;
	}
	if (number(call, "padding_mask_crop", -1) >= 0) {
		call->crops = true;
		if (sde_crop_region(&call->masks[0], (uint32_t)call->request.width,
				    (uint32_t)call->request.height,
				    (uint32_t)number(call, "padding_mask_crop", 0), &call->region,
				    &call->error) < 0)
			return golden_fail_error(call->c, "padding_mask_crop", &call->error);
	}
	area = (size_t)call->request.width * (size_t)call->request.height;
	images = golden_floats((size_t)n * 3 * area);
	masks = golden_floats((size_t)n * area);
	for (int i = 0; i < n; i++) {
		struct sde_image small;

		if (preprocess(call, &call->originals[i], &small) < 0)
			return golden_fail_error(call->c, "image", &call->error);
		sde_image_to_float(&small, SDE_PLANAR, 2, -1, images + (size_t)i * 3 * area);
		if (!inpaint)
			continue;
		if (preprocess(call, &call->masks[i], &small) < 0)
			return golden_fail_error(call->c, "mask_image", &call->error);
		sde_image_to_float(&small, SDE_PLANAR, 1, 0, masks + (size_t)i * area);
	}
	sde_mask_binarise(masks, (uint64_t)n * area);
	call->request.image = images;
	call->request.mask = inpaint ? masks : NULL;
	call->request.n_images = n;
	return GOLDEN_PASS;
}

/* rows rows of values, once more when guidance doubles the batch */
static void expect_doubled(struct call *call, const char *name, const float *values, int channels)
{
	const struct sde_sd_request *request = &call->request;
	const int f = sde_model_factor(call->model), h = request->height / f,
		  w = request->width / f;
	const size_t n = (size_t)request->batch * (size_t)(channels * h * w);
	const int times = guided(call) ? 2 : 1;
	float *rows = golden_floats(2 * n);

	memcpy(rows, values, n * sizeof(float));
	memcpy(rows + n, values, n * sizeof(float));
	golden_expect_f32(call->c, name, rows,
			  GOLDEN_SHAPE(times * request->batch, channels, h, w));
}

/* FLUX's as diffusers has them: packed. */
static void expect_latents(struct call *call, const float *latents)
{
	const int n = call->request.batch, channels = call->model->vae.latent_channels;
	const int f = sde_model_factor(call->model);
	const int h = call->request.height / f, w = call->request.width / f;
	float *tokens;

	if (call->model->denoiser.class != &sde_denoiser_flux) {
		golden_expect_f32(call->c, "latents", latents, GOLDEN_SHAPE(n, channels, h, w));
		return;
	}
	tokens = golden_floats((size_t)n * (size_t)(channels * h * w));
	sde_flux_pack(latents, tokens, n, channels, h, w);
	golden_expect_f32(call->c, "latents", tokens,
			  GOLDEN_SHAPE(n, h / 2 * (w / 2), channels * 4));
}

/*
 * StableDiffusion3InpaintPipeline forgets the autoencoder's shift when it decodes; ours does not. Latents that decode here to
 * its pictures are lower by that much.
 */
static void unshift_like_sd3_inpaint(const struct call *call, float *latents, size_t n)
{
	const struct sde_vae *vae = &call->model->vae;

	if (strcmp(golden_param_string(call->c, "pipeline", ""),
		   "StableDiffusion3InpaintPipeline") != 0)
		return;
	for (size_t i = 0; i < n; i++)
		latents[i] -= (float)(vae->shift_factor * vae->scaling_factor);
}

static int expect_images(struct call *call, const struct sde_sd_result *result)
{
	const struct sde_sd_request *request = &call->request;
	const int h = request->height, w = request->width;
	const size_t area = (size_t)h * (size_t)w;
	const uint32_t oh = call->crops ? call->originals[0].height : (uint32_t)h;
	const uint32_t ow = call->crops ? call->originals[0].width : (uint32_t)w;
	float *decoded = golden_floats((size_t)request->batch * 3 * area);
	uint8_t *bytes = calloc((size_t)request->batch, (size_t)oh * ow * 3);

	if (!bytes)
		abort();
	unshift_like_sd3_inpaint(call, result->latents, result->latents_count);
	if (sde_sd_decode(call->model, result->latents, request->batch, h, w, decoded,
			  &call->error) < 0)
		return golden_fail_error(call->c, "decode", &call->error);
	for (int b = 0; b < request->batch; b++) {
		struct sde_image image, whole;

		if (sde_image_new((uint32_t)w, (uint32_t)h, 3, SDE_PIXEL_U8, &image, &call->error) <
		    0)
			return golden_fail_error(call->c, "images", &call->error);
		sde_image_from_float(decoded + (size_t)b * 3 * area, SDE_PLANAR, 0.5f, 0.5f,
				     &image);
		if (call->crops) {
			const int i = b % request->n_images;

			if (sde_apply_overlay(&call->masks[i], &call->originals[i], &image,
					      &call->region, &whole, &call->error) < 0)
				return golden_fail_error(call->c, "overlay", &call->error);
			image = whole;
		}
		for (uint32_t y = 0; y < oh; y++)
			memcpy(bytes + ((size_t)b * oh + y) * ow * 3, sde_image_row(&image, y),
			       (size_t)ow * 3);
	}
	golden_expect_u8(call->c, "images", bytes, GOLDEN_SHAPE(request->batch, oh, ow, 3));
	return GOLDEN_PASS;
}

static int run_and_compare(struct call *call)
{
	struct sde_sd_result result;
	const int channels = call->model->vae.latent_channels;
	float *steps;

	if (sde_sd_run(call->model, &call->request, &result, &call->error) < 0)
		return golden_fail_error(call->c, "pipeline", &call->error);
	steps = golden_floats(result.n_timesteps);
	for (size_t i = 0; i < result.n_timesteps; i++)
		steps[i] = (float)result.timesteps[i];
	golden_expect_f32(call->c, "timesteps", steps, GOLDEN_SHAPE((int64_t)result.n_timesteps));
	expect_latents(call, result.latents);
	if (result.mask_latents)
		expect_doubled(call, "mask", result.mask_latents, 1);
	if (result.masked_image_latents)
		expect_doubled(call, "masked_image_latents", result.masked_image_latents, channels);
	return expect_images(call, &result);
}

/* With the defaults of their calls. */
static const struct pipeline {
	const char *name;
	enum sde_sd_kind kind;
	double guidance_scale, strength;
	int steps, t5_tokens; /* num_inference_steps, max_sequence_length */
} pipelines[] = {
	{"StableDiffusionPipeline", SDE_SD_TXT2IMG, 7.5, 1, 50, 0},
	{"LatentConsistencyModelPipeline", SDE_SD_TXT2IMG, 8.5, 1, 4, 0},
	{"StableDiffusionImg2ImgPipeline", SDE_SD_IMG2IMG, 7.5, 0.8, 50, 0},
	{"StableDiffusionInpaintPipeline", SDE_SD_INPAINT, 7.5, 1, 50, 0},
	{"StableDiffusionXLPipeline", SDE_SD_TXT2IMG, 5, 1, 50, 0},
	{"StableDiffusionXLImg2ImgPipeline", SDE_SD_IMG2IMG, 5, 0.3, 50, 0},
	{"StableDiffusionXLInpaintPipeline", SDE_SD_INPAINT, 7.5, 0.9999, 50, 0},
	{"StableDiffusion3Pipeline", SDE_SD_TXT2IMG, 7, 1, 28, 256},
	{"StableDiffusion3Img2ImgPipeline", SDE_SD_IMG2IMG, 7, 0.6, 50, 256},
	{"StableDiffusion3InpaintPipeline", SDE_SD_INPAINT, 7, 0.6, 50, 256},
	{"FluxPipeline", SDE_SD_TXT2IMG, 3.5, 1, 28, 512},
	{"FluxImg2ImgPipeline", SDE_SD_IMG2IMG, 7, 0.6, 28, 512},
	{"FluxInpaintPipeline", SDE_SD_INPAINT, 7, 0.6, 28, 512},
	{"FluxFillPipeline", SDE_SD_INPAINT, 30, 1, 50, 512},
};

/* SD3.5's skip layer guidance. */
static void set_skipped_layers(struct call *call)
{
	const json_t *layers = json_object_get(call->arguments, "skip_guidance_layers");

	for (size_t i = 0; i < json_array_size(layers); i++)
		call->request.skipped_layers |=
			UINT64_C(1) << (json_integer_value(json_array_get(layers, i)) & 63);
	call->request.skip_scale = number(call, "skip_layer_guidance_scale", 2.8);
	call->request.skip_start = number(call, "skip_layer_guidance_start", 0.01);
	call->request.skip_stop = number(call, "skip_layer_guidance_stop", 0.2);
}

static int set_request(struct call *call)
{
	const struct pipeline *found = NULL;
	const char *pipeline = golden_param_string(call->c, "pipeline", "");
	const json_t *seeds = golden_param(call->c, "seeds");
	const json_t *prompt = json_object_get(call->arguments, "prompt");
	struct sde_sd_request *request = &call->request;

	for (size_t i = 0; i < sizeof(pipelines) / sizeof(pipelines[0]); i++)
		if (strcmp(pipelines[i].name, pipeline) == 0)
			found = &pipelines[i];
	if (!found)
		return golden_skip(call->c, "architecture %s not supported yet", pipeline);
	request->kind = found->kind;
	call->per_prompt = (int)number(call, "num_images_per_prompt", 1);
	call->prompts = json_is_array(prompt) ? (int)json_array_size(prompt) : 1;
	request->batch = call->prompts * call->per_prompt;
	if (request->batch < 1 || request->batch > BATCH_MAX)
		return golden_fail(call->c, "malformed case: a batch of %d", request->batch);
	request->scheduler = &call->scheduler;
	request->timesteps.num_inference_steps =
		(int)number(call, "num_inference_steps", found->steps);
	request->width = (int)number(call, "width", 0);
	request->height = (int)number(call, "height", 0);
	request->guidance_scale = number(call, "guidance_scale", found->guidance_scale);
	request->guidance_rescale = number(call, "guidance_rescale", 0);
	call->t5_tokens = (int)number(call, "max_sequence_length", found->t5_tokens);
	if (json_object_get(call->arguments, "negative_prompt"))
		request->true_cfg_scale = number(call, "true_cfg_scale", 1);
	set_skipped_layers(call);
	request->eta = number(call, "eta", 0);
	request->strength = number(call, "strength", found->strength);
	request->denoising_start = number(call, "denoising_start", 0);
	request->denoising_end = number(call, "denoising_end", 0);
	call->noise.n_rngs = seeds ? (int)json_array_size(seeds) : 1;
	call->noise.rngs = call->rngs;
	request->noise = &call->noise;
	for (int i = 0; i < call->noise.n_rngs && i < BATCH_MAX; i++)
		sde_rng_seed(&call->rngs[i], SDE_RNG_TORCH_CPU,
			     seeds ? (uint64_t)json_integer_value(json_array_get(seeds, (size_t)i))
				   : (uint64_t)golden_param_int(call->c, "seed", 0));
	return GOLDEN_PASS;
}

int golden_pipeline(struct golden_case *c)
{
	struct call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		abort();
	call->c = c;
	call->arguments = golden_param(c, "call");
	r = set_request(call);
	if (r == GOLDEN_PASS)
		r = golden_load_model(c, &call->model);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_scheduler_config_from_json(golden_param(c, "scheduler"), &call->scheduler,
					   &call->error) < 0)
		return golden_fail_error(c, "scheduler", &call->error);
	/* FLUX takes sizes that latents cannot have, and makes them smaller */
	call->request.width -= call->request.width % sde_model_grain(call->model);
	call->request.height -= call->request.height % sde_model_grain(call->model);
	if (call->request.kind == SDE_SD_TXT2IMG && call->request.width == 0)
		call->request.width = call->request.height = trained_side(call->model);
	if (call->request.kind != SDE_SD_TXT2IMG)
		r = golden_find(c, "image_latents") ? set_latents(call) : set_images(call);
	if (r != GOLDEN_PASS)
		return r;
	if (embed(call) < 0)
		return golden_fail_error(c, "prompt", &call->error);
	set_time_ids(call);
	return run_and_compare(call);
}

int golden_prompt_embed(struct golden_case *c)
{
	const char *text = golden_param_string(c, "text", "");
	const struct sde_clip_wanted wanted = {(int)golden_param_int(c, "stop_at_last_layers", 1),
					       true};
	const struct sde_clip_tokenizer *tokenizer;
	const struct sde_clip *clip;
	struct sde_error error = {0};
	struct sde_prompt prompt;
	struct sde_model *model;
	int32_t *ids;
	float *weights, *embeds;
	int64_t n, width;
	int r;

	r = golden_load_model(c, &model);
	if (r != GOLDEN_PASS)
		return r;
	tokenizer = model->towers[0].tokenizer;
	clip = &model->towers[0].clip;
	if (sde_prompt_weighted(tokenizer, sde_clip_tokenizer_pad(tokenizer), NULL, text,
				strlen(text), &prompt, &error) < 0)
		return golden_fail_error(c, "prompt", &error);
	n = (int64_t)prompt.count;
	width = clip->config.hidden_size;
	ids = calloc(prompt.count, sizeof(prompt.chunks[0].ids));
	weights = golden_floats(prompt.count * 77);
	embeds = golden_floats(prompt.count * 77 * (size_t)width);
	if (!ids)
		abort();
	for (size_t i = 0; i < prompt.count; i++) {
		memcpy(ids + i * 77, prompt.chunks[i].ids, sizeof(prompt.chunks[i].ids));
		memcpy(weights + i * 77, prompt.chunks[i].weights,
		       sizeof(prompt.chunks[i].weights));
	}
	golden_expect_i32(c, "chunk_ids", ids, GOLDEN_SHAPE(n, 77));
	golden_expect_f32(c, "chunk_weights", weights, GOLDEN_SHAPE(n, 77));
	if (sde_prompt_embed(model->runner, clip, &prompt, &wanted, embeds, NULL, &error) < 0)
		return golden_fail_error(c, "embed", &error);
	golden_expect_f32(c, "embeds", embeds, GOLDEN_SHAPE(1, n * 77, width));
	for (size_t i = 0; i < prompt.count; i++)
		for (int t = 0; t < 77; t++)
			prompt.chunks[i].weights[t] = 1;
	if (sde_prompt_embed(model->runner, clip, &prompt, &wanted, embeds, NULL, &error) < 0)
		return golden_fail_error(c, "embed", &error);
	golden_expect_f32(c, "embeds_unweighted", embeds, GOLDEN_SHAPE(1, n * 77, width));
	return GOLDEN_PASS;
}
