/*
 * The sampling loop. Order of random draws as in diffusers: img2img VAE then noise; inpainting VAE(image) if the image's
 * latents are needed, noise, VAE(masked image), drawn even when a 4-channel U-Net does not use it.
 */
#include "daemon/engine/pipelines/stable-diffusion.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/attention/watch.h"
#include "daemon/engine/cached.h"
#include "daemon/engine/error.h"
#include "daemon/engine/geometry/latent-mask.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/run.h"
#include "daemon/engine/resume.h"
#include "daemon/engine/schedulers/steps.h"

bool sde_sd_uses_guidance(const struct sde_model *model, double guidance_scale)
{
	return guidance_scale > 1.0 && !model->family->distilled;
}

static void run_clear(struct run *run)
{
	float *const arrays[] = {run->latents,	   run->noise,	run->image_latents, run->mask,
				 run->masked,	   run->input,	run->pair,	    run->scratch,
				 run->step_mask,   run->rows,	run->scales,	    run->tile_input,
				 run->tile_output, run->region, run->average};

	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		free(arrays[i]);
	for (int i = 0; i < SDE_TILES_MAX; i++) {
		sde_guides_free(run->guides[i]);
		sde_guides_free(run->region_guides[i]);
	}
	sde_tiles_clear(&run->tiles);
	sde_scheduler_free(run->scheduler);
}

static int check_request(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	const int layers = run->model->denoiser.skippable_layers;
	const int grain = sde_model_grain(run->model);

	if (request->height < grain || request->width < grain || request->height % grain != 0 ||
	    request->width % grain != 0)
		return sde_error_set(run->error, -EINVAL,
				     "width and height must be multiples of %d, they are %d and %d",
				     grain, request->width, request->height);
	if (request->kind != SDE_SD_TXT2IMG &&
	    (!(request->image || (request->image_latents && request->kind == SDE_SD_IMG2IMG)) ||
	     request->n_images < 1 || request->batch % request->n_images != 0))
		return sde_error_set(run->error, -EINVAL, "%d source images for a batch of %d",
				     request->n_images, request->batch);
	if (!(request->denoising_start >= 0 && request->denoising_start < 1) ||
	    !(request->denoising_end >= 0 && request->denoising_end <= 1) ||
	    (request->denoising_start > 0 && request->kind != SDE_SD_IMG2IMG))
		return sde_error_set(
			run->error, -EINVAL,
			"denoising_start (image to image only) and denoising_end must be "
			"fractions, they are %g and %g",
			request->denoising_start, request->denoising_end);
	if ((request->n_regions > 0 || request->variants || request->n_added > 0) &&
	    request->batch != 1)
		return sde_error_set(run->error, -EINVAL,
				     "regions, changing prompts and added pictures are for batches "
				     "of one");
	if (request->kind == SDE_SD_INPAINT && !request->mask && !request->soft_mask)
		return sde_error_set(run->error, -EINVAL, "inpainting needs a mask");
	if (run->mask_channels > 0 && (request->kind != SDE_SD_INPAINT || !request->mask))
		return sde_error_set(run->error, -EINVAL,
				     "a denoiser of %d input channels fills in masked pictures "
				     "and does nothing else",
				     run->in_channels);
	if (layers < 64 && request->skipped_layers >> layers != 0)
		return sde_error_set(run->error, -EINVAL,
				     "this denoiser has no such layers to leave out");
	return 0;
}

/* The timestep that a fraction of the training schedule stands for. */
static double cutoff(const struct run *run, double fraction)
{
	const double n = sde_scheduler_get_config(run->scheduler)->num_train_timesteps;

	return rint(n - fraction * n);
}

/* Begin at the first timestep below the cutoff; two-call samplers begin with a first call. */
static size_t begin_below(const struct run *run)
{
	const double limit = cutoff(run, run->request->denoising_start);
	size_t n = 0;

	for (size_t i = 0; i < run->n_timesteps; i++)
		n += run->timesteps[i] < limit;
	if (sde_scheduler_order(run->scheduler) == 2 && n % 2 == 0 && n < run->n_timesteps)
		n++;
	return run->n_timesteps - n;
}

/* Of a side of the canvas, what the denoiser sees at once. */
static int seen(const struct run *run, int side)
{
	const int tile = run->request->tile;

	return tile > 0 && tile < side ? tile : side;
}

/*
 * The schedule of a flow model depends on its family, and with dynamic shifting on the number of image tokens: what diffusers'
 * pipelines of SD3 and FLUX pass to the scheduler.
 */
static int set_timesteps(struct run *run)
{
	const struct sde_scheduler_config *config = sde_scheduler_get_config(run->scheduler);
	const int patch = run->model->denoiser.patch;
	struct sde_timesteps_request timesteps = run->request->timesteps;
	const size_t n = (size_t)timesteps.num_inference_steps;
	double *sigmas = NULL;
	int r;

	if (run->model->family->flow && config->use_dynamic_shifting &&
	    config->class_id != SDE_SCHEDULER_FLOW_MATCH_HEUN) {
		timesteps.has_mu = true;
		timesteps.mu = sde_flux_mu(seen(run, run->h) / patch * (seen(run, run->w) / patch),
					   config->base_image_seq_len, config->max_image_seq_len,
					   config->base_shift, config->max_shift);
	}
	if (run->model->family->even_sigmas && config->class_id == SDE_SCHEDULER_FLOW_MATCH_EULER &&
	    timesteps.num_inference_steps > 0 &&
	    timesteps.num_inference_steps <= SDE_TRAIN_TIMESTEPS_MAX) {
		sigmas = calloc(n, sizeof(*sigmas));
		if (!sigmas)
			return sde_error_set(run->error, -ENOMEM, "no memory for %zu steps", n);
		for (size_t i = 0; i < n; i++)
			sigmas[i] = n > 1 ? 1.0 + (double)i * ((1.0 / (double)n - 1.0) /
							       (double)(n - 1))
					  : 1.0;
		timesteps.sigmas = sigmas;
		timesteps.n_sigmas = n;
	}
	r = sde_scheduler_set_timesteps(run->scheduler, &timesteps, run->error);
	free(sigmas);
	return r;
}

static int start_scheduler(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	struct sde_steps_range range;
	int r, n = request->timesteps.num_inference_steps;
	size_t end = 0;

	r = sde_scheduler_new(request->scheduler, &run->scheduler, run->error);
	if (r < 0)
		return r;
	r = set_timesteps(run);
	if (r < 0)
		return r;
	run->timesteps = sde_scheduler_timesteps(run->scheduler, &run->n_timesteps);
	if (request->denoising_start > 0) {
		run->begin = begin_below(run);
	} else if (request->kind != SDE_SD_TXT2IMG) {
		if (request->timesteps.n_timesteps > 0)
			n = (int)request->timesteps.n_timesteps;
		r = (run->model->family->flow ? sde_steps_img2img_flow : sde_steps_img2img)(
			n, request->strength, &range, run->error);
		if (r < 0)
			return r;
		run->begin = (size_t)range.start * (size_t)sde_scheduler_order(run->scheduler);
		if (request->kind == SDE_SD_INVERT) {
			run->n_timesteps -= run->begin;
			run->begin = 0;
		}
	}
	if (request->denoising_end > 0) {
		for (size_t i = 0; i < run->n_timesteps; i++)
			end += run->timesteps[i] >= cutoff(run, request->denoising_end);
		run->n_timesteps = end;
	}
	if (run->begin >= run->n_timesteps)
		return sde_error_set(run->error, -EINVAL,
				     "no step lies between denoising_start %g and denoising_end %g",
				     request->denoising_start, request->denoising_end);
	return request->kind == SDE_SD_TXT2IMG
		       ? 0
		       : sde_scheduler_set_begin_index(run->scheduler, run->begin, run->error);
}

/* What the autoencoder draws for so many pictures; NULL where it draws nothing. Owned by the caller. */
static int draw_for_encoder(struct run *run, int n_images, float **ret_eps)
{
	float *eps = NULL;
	int r = 0;

	if (sde_vae_draws(&run->model->vae) && run->request->kind != SDE_SD_INVERT) {
		r = sde_run_floats(run, &eps, (size_t)n_images * run->n);
		if (r >= 0)
			r = sde_noise_draw(run->request->noise, eps, (size_t)n_images, run->n,
					   run->error);
	}
	*ret_eps = eps;
	return r;
}

/* n_images pictures -> scaled latents, drawn where the autoencoder draws, repeated to the whole batch. */
static int encode(struct run *run, const float *images, int n_images, float *ret_latents)
{
	const struct sde_sd_request *request = run->request;
	const size_t count = (size_t)n_images * run->n;
	float *eps;
	int r;

	r = draw_for_encoder(run, n_images, &eps);
	if (r >= 0)
		r = sde_cached_encode(run->model, request->partition, images, eps, n_images,
				      request->height, request->width, ret_latents, run->error);
	if (r >= 0)
		for (size_t at = count; at < run->all; at += count)
			memcpy(ret_latents + at, ret_latents, count * sizeof(float));
	free(eps);
	return r;
}

/* The source and what is added to it. */
static int encode_sum(struct run *run, float *ret_latents)
{
	const struct sde_sd_request *request = run->request;
	float *eps;
	int r;

	r = draw_for_encoder(run, 1, &eps);
	if (r >= 0)
		r = sde_cached_encode(run->model, request->partition, request->image, eps, 1,
				      request->height, request->width, ret_latents, run->error);
	if (r >= 0 && request->image_share != 1)
		sde_add_weighted(ret_latents, ret_latents, run->n, request->image_share - 1);
	for (int i = 0; r >= 0 && i < request->n_added; i++) {
		r = sde_cached_encode(run->model, request->partition, request->added[i], eps, 1,
				      request->height, request->width, run->scratch, run->error);
		if (r >= 0)
			sde_add_weighted(ret_latents, run->scratch, run->n,
					 request->added_weights[i]);
	}
	free(eps);
	return r;
}

/* SD's img2img with one generator an image encodes a picture for each; else the pictures once. */
static int encode_source(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	const size_t image = 3 * run->pixels * (size_t)run->f * (size_t)run->f;
	float *copies = NULL;
	int r;

	r = sde_run_floats(run, &run->image_latents, run->all);
	if (r < 0)
		return r;
	if (request->image_latents) {
		for (size_t i = 0; i < run->all; i++)
			run->image_latents[i] =
				request->image_latents[i % ((size_t)request->n_images * run->n)];
		return 0;
	}
	if (request->n_added > 0)
		return encode_sum(run, run->image_latents);
	if (request->kind == SDE_SD_INPAINT || run->model->family->flow ||
	    request->n_images == request->batch || request->noise->n_rngs < 2)
		return encode(run, request->image, request->n_images, run->image_latents);
	r = sde_run_floats(run, &copies, (size_t)request->batch * image);
	for (int i = 0; r >= 0 && i < request->batch; i++)
		memcpy(copies + (size_t)i * image,
		       request->image + (size_t)(i % request->n_images) * image,
		       image * sizeof(float));
	if (r >= 0)
		r = encode(run, copies, request->batch, run->image_latents);
	free(copies);
	return r;
}

static int prepare_latents(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	const bool pure = request->kind == SDE_SD_TXT2IMG ||
			  (request->kind == SDE_SD_INPAINT && request->strength >= 1.0);
	int r = 0;

	/* flow pipelines encode, and draw for it, even what pure noise will cover */
	if (!pure || (request->kind == SDE_SD_INPAINT &&
		      (run->mask_channels == 0 || run->model->family->flow)))
		r = encode_source(run);
	if (r >= 0 &&
	    (request->denoising_start > 0 || request->noised || request->kind == SDE_SD_INVERT)) {
		/* the picture comes out of another part of the schedule, with its noise */
		memcpy(run->latents, run->image_latents, run->all * sizeof(float));
		return 0;
	}
	if (r >= 0)
		r = sde_noise_draw(request->noise, run->noise, (size_t)request->batch, run->n,
				   run->error);
	if (r < 0)
		return r;
	if (!pure)
		return sde_scheduler_add_noise(run->scheduler, run->image_latents, run->noise,
					       run->latents, run->all, run->begin, run->error);
	for (size_t i = 0; i < run->all; i++)
		run->latents[i] = run->noise[i] * sde_scheduler_init_noise_sigma(run->scheduler);
	return 0;
}

/* (height, width) -> (f * f, h, w): channel dy * f + dx is the pixel there of every latent. */
static void spread_pixels(const struct run *run, const float *mask, float *ret_mask)
{
	const size_t f = (size_t)run->f, h = (size_t)run->h, w = (size_t)run->w;

	for (size_t y = 0; y < h * f; y++)
		for (size_t x = 0; x < w * f; x++)
			ret_mask[((y % f * f + x % f) * h + y / f) * w + x / f] = *mask++;
}

/* The mask in the form that the denoiser or the blending takes, and the masked image's latents. */
static int prepare_mask(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	const size_t area = run->pixels * (size_t)run->f * (size_t)run->f;
	const int n = request->n_images;
	const bool pixels = run->model->family->mask_form == SDE_MASK_PIXELS;
	const size_t row = run->pixels * (size_t)(run->mask_channels > 0 ? run->mask_channels : 1);
	float *images = NULL;
	int r;

	r = sde_run_floats(run, &run->mask, (size_t)request->batch * row);
	if (r < 0)
		return r;
	for (int b = 0; b < request->batch; b++) {
		float *to = run->mask + (size_t)b * row;

		if (request->soft_mask)
			memcpy(to, request->soft_mask, run->pixels * sizeof(float));
		else if (run->mask_channels > 0 && pixels)
			spread_pixels(run, request->mask + (size_t)(b % n) * area, to);
		else
			sde_mask_reduce(request->mask + (size_t)(b % n) * area,
					(uint32_t)request->width, (uint32_t)request->height,
					(uint32_t)run->f, SDE_MASK_NEAREST, to);
	}
	if (request->soft_mask)
		return 0;
	r = sde_run_floats(run, &run->masked, run->all);
	if (r >= 0)
		r = sde_run_floats(run, &images, (size_t)n * 3 * area);
	for (int i = 0; r >= 0 && i < n * 3; i++)
		for (size_t p = 0; p < area; p++) {
			const size_t at = (size_t)i * area + p;

			images[at] = request->mask[(size_t)(i / 3) * area + p] < 0.5f
					     ? request->image[at]
					     : 0.0f;
		}
	if (r >= 0)
		r = encode(run, images, n, run->masked);
	free(images);
	return r;
}

/*
 * Put the original back where the mask is 0: noised to timesteps[next] with the run's own noise, clean behind the last.
 * A soft mask counts, at each step, where it reaches the step's threshold.
 */
static int blend(struct run *run, size_t next)
{
	const bool last = next >= run->n_timesteps;
	const float *mask = run->mask;
	double threshold = 0;
	int r;

	if (last) {
		memcpy(run->scratch, run->image_latents, run->all * sizeof(float));
	} else {
		r = sde_scheduler_add_noise(run->scheduler, run->image_latents, run->noise,
					    run->scratch, run->all, next, run->error);
		if (r < 0)
			return r;
		threshold = sde_differential_threshold_timestep(
			run->timesteps[next], run->timesteps[run->begin],
			run->timesteps[run->n_timesteps - 1]);
	}
	if (run->request->soft_mask) {
		sde_differential_mask(run->mask, (uint64_t)run->request->batch * run->pixels,
				      threshold, run->step_mask);
		mask = run->step_mask;
	}
	for (size_t i = 0; i < run->all; i++) {
		const float m = mask[i / run->n * run->pixels + i % run->pixels];

		run->latents[i] = (1.0f - m) * run->scratch[i] + m * run->latents[i];
	}
	return 0;
}

struct noise_call {
	struct run *run;
};

static int draw_step_noise(void *userdata, float *out, size_t n)
{
	struct noise_call *call = userdata;

	return sde_noise_draw(call->run->request->noise, out, n / call->run->n, call->run->n,
			      call->run->error);
}

/* Where 4-channel inpainting keeps the original, what is kept. */
static void keep_original(struct run *run, float *clean)
{
	for (size_t i = 0; i < run->all; i++) {
		const float m = run->mask[i / run->n * run->pixels + i % run->pixels];

		clean[i] = (1.0f - m) * run->image_latents[i] + m * clean[i];
	}
}

/* Between the prediction at timesteps[i] and the step that uses it: the scratch array is free. */
static void preview(struct run *run, size_t i, bool blends)
{
	const struct sde_sd_request *request = run->request;
	const size_t step = i - run->begin + 1;
	bool wanted;

	if (!request->on_preview)
		return;
	wanted = request->wants_preview && request->wants_preview(request->userdata);
	if (request->preview_every > 0 && step % (size_t)request->preview_every == 0)
		wanted = true;
	if (!wanted || sde_scheduler_predict_clean(run->scheduler, run->pair, run->latents,
						   run->scratch, run->all, i, NULL) < 0)
		return;
	if (blends)
		keep_original(run, run->scratch);
	if (request->watch)
		sde_watch_blend(request->watch, (size_t)run->channels, run->scratch);
	request->on_preview(request->userdata, (int)step, (int)(run->n_timesteps - run->begin),
			    run->scratch);
}

/* Everything has been drawn as at the start; now the state behind the last step that was made takes its place. */
static int go_on(struct run *run, const struct sde_resume *resume, size_t *ret_first)
{
	struct sde_noise *noise = run->request->noise;
	int r;

	if (resume->current.n_latents != run->all * (run->average ? 2 : 1) || noise->n_rngs != 1 ||
	    (size_t)resume->step > run->n_timesteps - run->begin)
		return sde_error_set(run->error, -EBADMSG, "the kept state is of another job");
	r = sde_scheduler_state_load(run->scheduler, resume->history, resume->n_history,
				     run->error);
	if (r < 0)
		return r;
	memcpy(run->latents, resume->current.latents, run->all * sizeof(float));
	if (run->average)
		memcpy(run->average + run->all, resume->current.latents + run->all,
		       run->all * sizeof(float));
	noise->rngs[0] = resume->current.rng;
	if (noise->other)
		*noise->other = resume->current.other;
	*ret_first = run->begin + (size_t)resume->step;
	return 0;
}

/* With guidance that remembers, its memory stands behind the latents. */
static int tell_state(struct run *run, int step)
{
	const struct sde_sd_request *request = run->request;

	if (!run->average)
		return request->on_state(request->userdata, step, run->latents, run->all,
					 run->scheduler);
	memcpy(run->average, run->latents, run->all * sizeof(float));
	return request->on_state(request->userdata, step, run->average, 2 * run->all,
				 run->scheduler);
}

static int sample(struct run *run)
{
	const struct sde_sd_request *request = run->request;
	const bool blends = request->kind == SDE_SD_INPAINT && run->mask_channels == 0;
	const int total = (int)(run->n_timesteps - run->begin);
	struct noise_call call = {run};
	struct sde_step_args args = SDE_STEP_ARGS_INIT;
	size_t first = run->begin;
	int r = 0;

	args.eta = request->eta;
	args.batch = (size_t)request->batch;
	args.noise = draw_step_noise;
	args.userdata = &call;
	if (request->resume)
		r = go_on(run, request->resume, &first);
	if (r >= 0 && request->on_step)
		r = request->on_step(request->userdata, (int)(first - run->begin), total,
				     run->latents);
	if (r >= 0 && !request->resume && blends && request->soft_mask)
		r = blend(run, run->begin);
	for (size_t i = first; r >= 0 && i < run->n_timesteps; i++) {
		r = sde_run_predict(run, i);
		if (r >= 0)
			preview(run, i, blends);
		if (r >= 0)
			r = sde_scheduler_step(run->scheduler, run->pair, run->latents,
					       run->latents, run->all, &args, run->error);
		if (r >= 0 && blends)
			r = blend(run, i + 1);
		if (r >= 0 && request->watch)
			sde_watch_blend(request->watch, (size_t)run->channels, run->latents);
		if (r >= 0 && request->on_state)
			r = tell_state(run, (int)(i - run->begin) + 1);
		if (r >= 0 && request->on_step)
			r = request->on_step(request->userdata, (int)(i - run->begin) + 1, total,
					     run->latents);
	}
	return r;
}

static int give_result(struct run *run, struct sde_sd_result *ret_result)
{
	struct sde_sd_result result = {.n_timesteps = run->n_timesteps - run->begin};

	result.timesteps = calloc(result.n_timesteps + 1, sizeof(double));
	if (!result.timesteps)
		return sde_error_set(run->error, -ENOMEM, "no memory for a list of timesteps");
	memcpy(result.timesteps, run->timesteps + run->begin, result.n_timesteps * sizeof(double));
	result.latents = run->latents;
	result.latents_count = run->all;
	result.mask_latents = run->mask;
	result.masked_image_latents = run->masked;
	run->latents = run->mask = run->masked = NULL;
	*ret_result = result;
	return 0;
}

/* The sides of the canvas, the channels, whether there is guidance. */
static void measure(struct run *run)
{
	struct sde_model *model = run->model;
	const struct sde_sd_request *request = run->request;

	run->f = sde_model_factor(model);
	run->h = request->height / run->f;
	run->w = request->width / run->f;
	run->channels = model->vae.latent_channels;
	run->in_channels = model->denoiser.in_channels;
	run->pixels = (size_t)run->h * (size_t)run->w;
	run->n = run->pixels * (size_t)run->channels;
	run->all = run->n * (size_t)request->batch;
	run->mask_channels = sde_model_fills(model) ? run->in_channels - 2 * run->channels : 0;
	run->guidance_factor =
		model->family->distilled ? request->true_cfg_scale : request->guidance_scale;
	run->guidance = run->guidance_factor > 1.0;
}

int sde_sd_count_calls(struct sde_model *model, const struct sde_sd_request *request,
		       int *ret_calls, struct sde_error *error)
{
	struct run run = {.model = model, .request = request, .error = error};
	int r;

	measure(&run);
	r = check_request(&run);
	if (r >= 0)
		r = start_scheduler(&run);
	if (r >= 0)
		*ret_calls = (int)(run.n_timesteps - run.begin);
	run_clear(&run);
	return r;
}

int sde_sd_run(struct sde_model *model, const struct sde_sd_request *request,
	       struct sde_sd_result *ret_result, struct sde_error *error)
{
	struct run run = {.model = model, .request = request, .error = error};
	size_t rows;
	int r;

	measure(&run);
	rows = (size_t)request->batch * (run.guidance ? 2 : 1);
	r = check_request(&run);
	if (r >= 0)
		r = start_scheduler(&run);
	if (r >= 0)
		r = sde_run_floats(&run, &run.latents, run.all);
	if (r >= 0)
		r = sde_run_floats(&run, &run.noise, run.all);
	if (r >= 0)
		r = sde_run_floats(&run, &run.scratch, run.all);
	if (r >= 0)
		r = sde_run_floats(&run, &run.input, rows * run.pixels * (size_t)run.in_channels);
	if (r >= 0)
		r = sde_run_floats(&run, &run.pair, rows * run.n);
	if (r >= 0 && request->n_regions > 0)
		r = sde_run_floats(&run, &run.region, run.n);
	if (r >= 0 && request->apg && run.guidance)
		r = sde_run_floats(&run, &run.average, 2 * run.all);
	if (r >= 0)
		r = sde_run_floats(&run, &run.rows, rows);
	if (r >= 0)
		r = sde_run_floats(&run, &run.scales, rows);
	if (r >= 0)
		r = sde_run_floats(&run, &run.step_mask, (size_t)request->batch * run.pixels);
	if (r >= 0)
		r = prepare_latents(&run);
	if (r >= 0 && request->kind == SDE_SD_INPAINT)
		r = prepare_mask(&run);
	if (r >= 0)
		r = sde_run_start_tiles(&run);
	if (r >= 0)
		r = sde_run_start_guides(&run);
	if (r >= 0)
		r = sample(&run);
	if (r >= 0)
		r = give_result(&run, ret_result);
	run_clear(&run);
	return r;
}

void sde_sd_result_clear(struct sde_sd_result *result)
{
	free(result->latents);
	free(result->timesteps);
	free(result->mask_latents);
	free(result->masked_image_latents);
	*result = (struct sde_sd_result){0};
}

int sde_sd_decode(struct sde_model *model, const float *latents, int batch, int height, int width,
		  float *ret_images, struct sde_error *error)
{
	const int f = sde_model_factor(model);

	return sde_vae_decode(model->runner, &model->vae, latents, batch, height / f, width / f,
			      ret_images, error);
}
