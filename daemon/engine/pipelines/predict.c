/*
 * The prediction of a step: the denoiser's input, its answer for the whole canvas or window by window, guidance.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/attention/watch.h"
#include "daemon/engine/error.h"
#include "daemon/engine/group.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/run.h"
#include "daemon/engine/schedulers/steps.h"

int sde_run_floats(struct run *run, float **ret_values, size_t n)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, sizeof(float), &bytes))
		return sde_error_set(run->error, -EOVERFLOW, "a batch this large has no size");
	*ret_values = calloc(1, bytes + sizeof(float));
	return *ret_values ? 0 : sde_error_set(run->error, -ENOMEM, "no memory for %zu latents", n);
}

int sde_run_start_tiles(struct run *run)
{
	const int side = run->request->tile, rows = run->request->batch * (run->guidance ? 2 : 1);
	size_t pixels;
	int r;

	if (side <= 0 || (side >= run->h && side >= run->w))
		return 0;
	r = sde_tiles_init(&run->tiles, run->h, run->w, side, run->request->tile_overlap,
			   run->error);
	if (r < 0)
		return r;
	if (sde_tiles_count(&run->tiles) > SDE_TILES_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "a picture of %d x %d would need %d tiles of the model's "
				     "size, more than %d",
				     run->request->width, run->request->height,
				     sde_tiles_count(&run->tiles), SDE_TILES_MAX);
	pixels = (size_t)run->tiles.tile_height * (size_t)run->tiles.tile_width;
	r = sde_run_floats(run, &run->tile_input, (size_t)rows * (size_t)run->in_channels * pixels);
	return r < 0 ? r
		     : sde_run_floats(run, &run->tile_output,
				      (size_t)rows * (size_t)run->channels * pixels);
}

/* Of part i of the canvas, for the rows of the prompts and for those of a region. */
static int new_guides(struct run *run, struct sde_guides_options options, int h, int w, int i)
{
	const struct sde_unet_config *config = &run->model->denoiser.unet.config;
	int r;

	options.guidance = run->guidance;
	r = sde_guides_new(run->model->runner, config, &options,
			   run->request->batch * (run->guidance ? 2 : 1), h, w, &run->guides[i],
			   run->error);
	if (r < 0 || run->request->n_regions == 0)
		return r;
	options.guidance = false;
	return sde_guides_new(run->model->runner, config, &options, 1, h, w, &run->region_guides[i],
			      run->error);
}

/* Each tile's own part of the pictures. */
static int start_tile_guides(struct run *run, struct sde_guides_options options)
{
	const struct sde_tiles *tiles = &run->tiles;
	const size_t area = 3 * (size_t)tiles->tile_height * (size_t)tiles->tile_width *
			    SDE_CONTROLNET_FACTOR * SDE_CONTROLNET_FACTOR;
	struct sde_guide parts[SDE_GUIDES_MAX];
	float *pictures;
	int r;

	if (options.count > SDE_GUIDES_MAX)
		return sde_error_set(run->error, -EINVAL, "at most %d guiding pictures, not %zu",
				     SDE_GUIDES_MAX, options.count);
	r = sde_run_floats(run, &pictures, area * options.count);
	if (r < 0)
		return r;
	for (int i = 0; r >= 0 && i < sde_tiles_count(tiles); i++) {
		for (size_t k = 0; k < options.count; k++) {
			parts[k] = run->request->guides.guides[k];
			sde_tiles_cut(tiles, i, parts[k].picture, 3, SDE_CONTROLNET_FACTOR,
				      pictures + k * area);
			parts[k].picture = pictures + k * area;
		}
		options.guides = parts;
		r = new_guides(run, options, tiles->tile_height, tiles->tile_width, i);
	}
	free(pictures);
	return r;
}

int sde_run_start_guides(struct run *run)
{
	struct sde_guides_options options = run->request->guides;

	if (options.count == 0 && options.n_image_tokens == 0)
		return 0;
	if (run->model->denoiser.class != &sde_denoiser_unet)
		return sde_error_set(run->error, -ENOTSUP,
				     "models with a %s take no guiding pictures",
				     run->model->denoiser.class->name);
	if (sde_tiles_count(&run->tiles) > 1)
		return start_tile_guides(run, options);
	return new_guides(run, options, run->h, run->w, 0);
}

/* The denoiser's input: scaled latents [, mask, masked latents], twice with guidance. */
static void make_input(struct run *run)
{
	const size_t row = (size_t)run->in_channels * run->pixels;
	const size_t mask = (size_t)run->mask_channels * run->pixels;
	const bool behind = run->model->family->mask_form == SDE_MASK_PIXELS;

	sde_scheduler_scale_model_input(run->scheduler, run->latents, run->scratch, run->all);
	for (size_t b = 0; b < (size_t)run->request->batch; b++) {
		float *to = run->input + b * row;

		memcpy(to, run->scratch + b * run->n, run->n * sizeof(float));
		if (run->mask_channels > 0) {
			memcpy(to + run->n + (behind ? run->n : 0), run->mask + b * mask,
			       mask * sizeof(float));
			memcpy(to + run->n + (behind ? 0 : mask), run->masked + b * run->n,
			       run->n * sizeof(float));
		}
	}
	if (run->guidance)
		memcpy(run->input + (size_t)run->request->batch * row, run->input,
		       (size_t)run->request->batch * row * sizeof(float));
}

/* The call on the canvas as a whole, or tile after tile: ret_output (call.batch, channels, h, w). guides: a part's each. */
static int forward(struct run *run, struct sde_denoiser_call call, struct sde_guides *const *guides,
		   float *ret_output)
{
	const struct sde_tiles *tiles = &run->tiles;
	const size_t planes = (size_t)call.batch * (size_t)run->channels;
	const float *canvas = call.sample;
	int r = 0;

	if (sde_tiles_count(tiles) <= 1) {
		call.guides = guides[0];
		return sde_group_denoise(run->model, &call, ret_output, run->error);
	}
	memset(ret_output, 0, planes * run->pixels * sizeof(float));
	call.sample = run->tile_input;
	call.height = tiles->tile_height;
	call.width = tiles->tile_width;
	for (int i = 0; r >= 0 && i < sde_tiles_count(tiles); i++) {
		call.guides = guides[i];
		sde_tiles_cut(tiles, i, canvas, (size_t)call.batch * (size_t)run->in_channels, 1,
			      run->tile_input);
		r = sde_runner_check_cancel(run->model->runner, run->error);
		if (r >= 0)
			r = sde_group_denoise(run->model, &call, run->tile_output, run->error);
		if (r >= 0)
			sde_tiles_add(tiles, i, run->tile_output, planes, ret_output);
	}
	return r;
}

/*
 * Skip layer guidance (SD3.5): on from what the network says without some of its blocks to what it says with them, in the part
 * of the steps where it is asked for. call: that of the guided prediction in run->pair.
 */
static int guide_past_layers(struct run *run, struct sde_denoiser_call call, size_t step)
{
	const struct sde_sd_request *request = run->request;
	const double n = request->timesteps.num_inference_steps, i = (double)step;
	const size_t batch = (size_t)request->batch;
	const float scale = (float)request->skip_scale;
	const float *positive = run->pair + run->all;
	float *skipped;
	int r;

	if (!request->skipped_layers || !(i > n * request->skip_start) ||
	    !(i < n * request->skip_stop))
		return 0;
	call.sample += batch * (size_t)run->in_channels * run->pixels;
	call.context +=
		batch * (size_t)request->tokens * (size_t)sde_model_context_width(run->model);
	call.pooled += batch * (size_t)call.pooled_width;
	call.batch = request->batch;
	call.skipped_layers = request->skipped_layers;
	r = sde_run_floats(run, &skipped, run->all);
	if (r < 0)
		return r;
	r = forward(run, call, run->guides, skipped);
	for (size_t k = 0; r >= 0 && k < run->all; k++)
		run->pair[k] += scale * (positive[k] - skipped[k]);
	free(skipped);
	return r;
}

/* The prompts of regions, each on its own, in place of the prompt's prediction where they count. call: of all rows. */
static int paint_regions(struct run *run, struct sde_denoiser_call call)
{
	const struct sde_sd_request *request = run->request;
	const size_t rows = (size_t)call.batch, lone = rows - 1;
	const size_t row = (size_t)request->tokens * (size_t)sde_model_context_width(run->model);
	const float *weights = request->region_weights;
	float *positive = run->pair + lone * run->n;
	int r = 0;

	if (request->n_regions == 0)
		return 0;
	call.batch = 1;
	call.sample += lone * (size_t)run->in_channels * run->pixels;
	call.context += rows * row;
	call.pooled += rows * (size_t)call.pooled_width;
	call.time_ids += lone * (size_t)call.n_time_ids;
	for (size_t i = 0; i < run->n; i++)
		positive[i] *= weights[i % run->pixels];
	for (int k = 0; r >= 0 && k < request->n_regions; k++) {
		weights += run->pixels;
		r = forward(run, call, run->region_guides, run->region);
		for (size_t i = 0; r >= 0 && i < run->n; i++)
			positive[i] += weights[i % run->pixels] * run->region[i];
		call.context += row;
		call.pooled += call.pooled_width;
	}
	return r;
}

/* The block of prompts that call i reads. */
static size_t variant_of(const struct sde_sd_request *request, size_t i)
{
	if (!request->variants)
		return 0;
	return (size_t)request->variants[i < request->n_variants ? i : request->n_variants - 1];
}

int sde_run_predict(struct run *run, size_t i)
{
	const struct sde_sd_request *request = run->request;
	const int rows = request->batch * (run->guidance ? 2 : 1);
	const size_t block =
		variant_of(request, i - run->begin) * ((size_t)rows + (size_t)request->n_regions);
	struct sde_denoiser_call call = {
		.sample = run->input,
		.batch = rows,
		.height = run->h,
		.width = run->w,
		.timesteps = run->rows,
		.context = request->prompt_embeds,
		.tokens = request->tokens,
		.pooled = request->pooled,
		.pooled_width = sde_model_pooled_width(run->model),
		.time_ids = request->time_ids,
		.n_time_ids = request->n_time_ids,
		.guidance_scales = run->scales,
		.step = i - run->begin,
		.steps = run->n_timesteps - run->begin,
	};
	int r;

	for (int k = 0; k < rows; k++) {
		run->rows[k] = (float)run->timesteps[i];
		run->scales[k] = (float)request->guidance_scale;
	}
	call.context +=
		block * (size_t)request->tokens * (size_t)sde_model_context_width(run->model);
	call.pooled += block * (size_t)call.pooled_width;
	if (request->watch)
		call.watch = sde_watch_call(request->watch, call.step, call.steps);
	make_input(run);
	r = forward(run, call, run->guides, run->pair);
	if (r >= 0)
		r = paint_regions(run, call);
	if (r < 0 || !run->guidance)
		return r;
	if (request->apg)
		sde_apg_guide(request->apg, run->pair, run->average + run->all,
			      (size_t)request->batch, run->n, run->guidance_factor);
	else
		sde_guidance_apply(run->pair, run->pair, run->all, (float)run->guidance_factor);
	if (request->guidance_rescale > 0)
		sde_guidance_rescale(run->pair, run->pair + run->all, (size_t)request->batch,
				     run->n, request->guidance_rescale);
	return guide_past_layers(run, call, i - run->begin);
}
