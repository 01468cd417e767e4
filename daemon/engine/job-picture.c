/*
 * One picture of a job: the tensors of a sampling run from what the geometry engine prepared, and the answer back to it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/geometry/latent-mask.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/pixels/convert.h"

_Static_assert((int)SDE_TILING_X == (int)SDK_WRAP_X && (int)SDE_TILING_Y == (int)SDK_WRAP_Y &&
		       (int)SDE_TILING_BOTH == (int)SDK_WRAP_BOTH,
	       "tiling");

#define STEPS_MAX    1000
#define TILE_OVERLAP 4 /* tiles share a fourth of their side with the next, */
#define TILE_SHARE   8 /* but where a half allows it at least so many latents: fewer show */
/* what SDXL's refiner is told, as in diffusers */
#define AESTHETIC	   6.0
#define NEGATIVE_AESTHETIC 2.5

struct sampling {
	enum sde_sd_kind kind;
	int width, height;
	double strength;
	const float *image;		/* height x width x 3 interleaved, NULL for txt2img */
	const float *denoise;		/* height x width, 0..1, inpainting only */
	const struct sde_rect *context; /* the part of the canvas that is shown; NULL for txt2img */
	bool inverts;			/* it begins with inverted latents */
	const struct sde_added *added;	/* to image's latents, or NULL */
	bool exact; /* the selection has hard edges: a latent any of whose pixels is selected is repainted */
};

int sde_job_tile_overlap(int tile)
{
	const int part = tile / TILE_OVERLAP, most = tile / 2;
	const int overlap = part > TILE_SHARE ? part : TILE_SHARE;

	return overlap < most ? overlap : most;
}

/* The side of tiles for a run at this size, pixels; 0: in one piece. */
static int choose_tile(const struct sde_job_run *run, const struct sampling *sampling)
{
	const int native = run->model->info.native_size;
	const double pixels = (double)sampling->width * sampling->height;

	if (sampling->width <= native && sampling->height <= native)
		return 0;
	switch (run->job->tiles) {
	case SDE_TILES_ON:
		return native;
	case SDE_TILES_OFF:
		return 0;
	case SDE_TILES_AUTO:
		break;
	}
	/* windows over pure noise would each paint the whole prompt */
	return run->whole_size || (sampling->kind != SDE_SD_TXT2IMG && sampling->strength < 1 &&
				   pixels > SDE_JOB_PIXELS_MOST * native * native)
		       ? native
		       : 0;
}

/* Whether a picture can be seamless: only one that U-Net and autoencoder see at once. */
static bool can_wrap(struct sde_job_run *run, const struct sampling *sampling)
{
	const char *why = NULL;

	if (run->model->denoiser.class != &sde_denoiser_unet)
		why = "this model is no U-Net, whose convolutions could continue a picture";
	else if (run->tile > 0)
		why = "the picture is painted in tiles of the model's native size";
	else if (run->model->vae.tiled ||
		 (int64_t)sampling->width * sampling->height > SDE_VAE_WHOLE_MAX)
		why = "the autoencoder works in tiles";
	if (why)
		sde_job_warn_of_tiling(run, why);
	return !why;
}

/* Steps done over the whole job. */
static int overall_step(const struct sde_job_run *run, int step, int total)
{
	return run->runs_done * run->steps + step * run->steps / total;
}

static int on_state(void *userdata, int step, const float *latents, size_t n_latents,
		    const struct sde_scheduler *scheduler)
{
	struct sde_job_run *run = userdata;
	const struct sde_hooks *hooks = run->hooks;
	int r;

	r = sde_resume_save(&run->resume, step, latents, n_latents, &run->rng, &run->other,
			    scheduler);
	if (r < 0)
		return sde_error_set(run->error, r, "the state behind step %d cannot be kept: %s",
				     step, strerror(-r));
	hooks->checkpoint(hooks->userdata, run->resume.bytes, run->resume.n_bytes);
	if (hooks->yield && atomic_load(hooks->yield))
		return sde_error_set(run->error, -EINTR, "another job goes first");
	return 0;
}

static int on_step(void *userdata, int step, int total, const float *latents)
{
	struct sde_job_run *run = userdata;
	const struct sde_progress progress = {
		.stage = SDE_STAGE_STEPS,
		.step = overall_step(run, step, total),
		.total = run->runs_total * run->steps,
	};

	if (!run->stepping)
		sde_job_stage(run, SDE_STAGE_STEPS);
	else
		run->result.steps_run++;
	run->stepping = true;
	if (run->hooks && run->hooks->progress)
		run->hooks->progress(run->hooks->userdata, &progress);
	return sde_runner_check_cancel(run->model->runner, run->error);
}

/* A sketch that cannot be made is left out: the job goes on without it. */
static void on_preview(void *userdata, int step, int total, const float *clean)
{
	struct sde_job_run *run = userdata;
	struct sde_error ignored;
	struct sde_image image;

	if (sde_job_is_edit(run->job))
		clean += (size_t)run->model->vae.latent_channels * (size_t)run->latent_width *
			 (size_t)run->latent_height;
	if (sde_preview_picture(&run->model->preview, run->model->runner, &run->model->vae, clean,
				run->latent_height, run->latent_width, &image, &ignored) < 0)
		return;
	run->hooks->preview(run->hooks->userdata, overall_step(run, step, total), &image);
	sde_image_clear(&image);
}

static bool wants_preview(void *userdata)
{
	const struct sde_job_run *run = userdata;
	atomic_int *request = run->hooks->preview_request;

	return request && atomic_exchange(request, 0) != 0;
}

static float *floats(struct sde_job_run *run, size_t n)
{
	float *values = calloc(n + 1, sizeof(*values));

	if (!values)
		sde_error_set(run->error, -ENOMEM, "no memory for a picture of %zu values", n);
	return values;
}

/* 1 in every cell of f x f pixels of which one is at least half selected: such a mask survives any reduction. */
static void cells_of(const float *denoise, int width, int height, int f, float *ret_mask)
{
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			if (denoise[(size_t)y * (size_t)width + (size_t)x] >= 0.5f)
				ret_mask[(size_t)(y / f) * (size_t)(width / f) + (size_t)(x / f)] =
					1;
}

static void spread_cells(const float *cells, int width, int height, int f, float *ret_mask)
{
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			ret_mask[(size_t)y * (size_t)width + (size_t)x] =
				cells[(size_t)(y / f) * (size_t)(width / f) + (size_t)(x / f)];
}

/* Fill the mask fields of a request; the arrays belong to the caller. */
static int set_mask(struct sde_job_run *run, const struct sampling *sampling,
		    struct sde_sd_request *request, float **ret_mask, float **ret_cells)
{
	const int f = sde_model_factor(run->model), w = sampling->width, h = sampling->height;
	const size_t pixels = (size_t)w * (size_t)h;
	const bool concat = sde_model_fills(run->model);

	*ret_cells = floats(run, pixels / (size_t)f / (size_t)f);
	*ret_mask = floats(run, pixels);
	if (!*ret_cells || !*ret_mask)
		return -ENOMEM;
	if (concat && run->model->family->mask_form == SDE_MASK_PIXELS) {
		for (size_t i = 0; i < pixels; i++)
			(*ret_mask)[i] = sampling->denoise[i] >= 0.5f;
		request->mask = *ret_mask;
		return 0;
	}
	if (concat) {
		cells_of(sampling->denoise, w, h, f, *ret_cells);
		spread_cells(*ret_cells, w, h, f, *ret_mask);
		request->mask = *ret_mask;
		return 0;
	}
	sde_mask_reduce(sampling->denoise, (uint32_t)w, (uint32_t)h, (uint32_t)f,
			sampling->exact ? SDE_MASK_MAX : SDE_MASK_AREA, *ret_cells);
	request->soft_mask = *ret_cells;
	return 0;
}

/* A run that an earlier process ended: its latents and the generator behind it, in place of its steps. */
static int recall(struct sde_job_run *run, size_t n_latents, struct sde_sd_result *ret_result)
{
	const struct sde_resume_run *ended = &run->resume.ended[run->runs_done];
	struct sde_sd_result result = {.latents = floats(run, n_latents),
				       .latents_count = n_latents};

	if (!result.latents)
		return -ENOMEM;
	if (ended->n_latents != n_latents) {
		sde_sd_result_clear(&result);
		return sde_error_set(run->error, -EBADMSG, "the kept state is of another job");
	}
	memcpy(result.latents, ended->latents, n_latents * sizeof(float));
	run->rng = ended->rng;
	run->other = ended->other;
	*ret_result = result;
	return 0;
}

int sde_job_run_loop(struct sde_job_run *run, struct sde_sd_request *request,
		     struct sde_sd_result *ret_result)
{
	const size_t n_latents = (size_t)run->model->vae.latent_channels *
				 (size_t)run->latent_width * (size_t)run->latent_height;
	int r;

	if (run->runs_done < run->runs_known)
		return recall(run, n_latents, ret_result);
	if (run->runs_done == run->runs_known && run->resume.step > 0)
		request->resume = &run->resume;
	/* what was gathered of attention, and the twin of an edit, are in no checkpoint */
	if (run->hooks && run->hooks->checkpoint && !run->attention)
		request->on_state = on_state;
	run->stepping = false;
	r = sde_sd_run(run->model, request, ret_result, run->error);
	if (r < 0 || !request->on_state)
		return r;
	r = sde_resume_end_run(&run->resume, ret_result->latents, ret_result->latents_count,
			       &run->rng, &run->other);
	if (r < 0) {
		sde_sd_result_clear(ret_result);
		return sde_error_set(run->error, r, "the state behind a picture cannot be kept");
	}
	return 0;
}

/* Of a run's latents those of the picture that was asked for: of an edit and its source the edit's. */
static const float *wanted_of(const struct sde_job_run *run, const struct sde_sd_request *request,
			      const float *latents)
{
	const size_t n = (size_t)run->model->vae.latent_channels * (size_t)run->latent_width *
			 (size_t)run->latent_height;

	return latents + (size_t)(request->batch - 1) * n;
}

/* One run of the loop and the decoder: height x width x 3, interleaved. */
static int run_and_decode(struct sde_job_run *run, const struct sampling *sampling,
			  float *ret_picture)
{
	const int w = sampling->width, h = sampling->height;
	const size_t values = (size_t)w * (size_t)h * 3;
	struct sde_noise noise = {.rngs = &run->rng,
				  .n_rngs = 1,
				  .other = run->place.two_seeds ? &run->other : NULL,
				  .share = run->place.share,
				  .straight = run->job->interpolation == SDE_LERP};
	struct sde_sd_request request = {
		.kind = sampling->kind,
		.scheduler = &run->scheduler,
		.timesteps = {.num_inference_steps = run->steps},
		.batch = 1,
		.n_images = 1,
		.height = h,
		.width = w,
		.guidance_scale = run->guidance_scale,
		.strength = sampling->strength,
		.partition = run->job->partition,
		.noise = &noise,
		.on_step = on_step,
		.userdata = run,
	};
	/* what the model sees is whole and as large as it is: nothing to make it think of upscaling or cropping */
	const int tile = run->tile;
	const int seen_w = tile > 0 && tile < w ? tile : w;
	const int seen_h = tile > 0 && tile < h ? tile : h;
	const struct sde_picture_terms terms[2] = {
		{{seen_h, seen_w}, {0, 0}, {seen_h, seen_w}, NEGATIVE_AESTHETIC},
		{{seen_h, seen_w}, {0, 0}, {seen_h, seen_w}, AESTHETIC}};
	const bool guidance = sde_sd_uses_guidance(run->model, run->guidance_scale);
	const size_t cell_count = (size_t)(w / sde_model_factor(run->model)) *
				  (size_t)(h / sde_model_factor(run->model));
	_cleanup_free_ float *image = NULL, *mask = NULL, *cells = NULL, *regions = NULL;
	const struct sde_apg apg = {run->job->apg_eta, run->job->apg_momentum, run->job->apg_norm};
	int calls;
	float time_ids[2 * SDE_TIME_IDS_MAX];
	struct sde_sd_result inverted = {0}, result;
	int r = 0;

	request.guidance_rescale = run->job->guidance_rescale;
	if (tile > 0)
		sde_job_warn_of_tiles(run, w, h);
	request.tile = tile / sde_model_factor(run->model);
	request.tile_overlap = sde_job_tile_overlap(request.tile);
	request.time_ids = time_ids;
	request.n_time_ids = sde_model_time_ids(run->model, &terms[guidance ? 0 : 1], time_ids);
	if (guidance)
		sde_model_time_ids(run->model, &terms[1], time_ids + request.n_time_ids);
	run->latent_width = w / sde_model_factor(run->model);
	run->latent_height = h / sde_model_factor(run->model);
	if (run->hooks && run->hooks->preview) {
		request.on_preview = on_preview;
		request.wants_preview = wants_preview;
		request.preview_every = run->job->preview_every;
	}
	if (sampling->image) {
		image = floats(run, values);
		if (!image)
			return -ENOMEM;
		sdk_nhwc_to_nchw(sampling->image, image, 1, h, w, 3);
		request.image = image;
		if (sampling->added) {
			request.image_share = run->place.image_share;
			request.added = (const float *const *)sampling->added->pictures;
			request.added_weights = sampling->added->weights;
			request.n_added = sampling->added->n;
		}
		/* so few steps that the strength leaves none: take more, as the strength is what was asked for */
		if ((int)(run->steps * sampling->strength) < 1)
			request.timesteps.num_inference_steps =
				(int)fmin(ceil(1.0 / sampling->strength), STEPS_MAX);
	}
	if (sampling->kind == SDE_SD_INPAINT)
		r = set_mask(run, sampling, &request, &mask, &cells);
	if (r >= 0)
		r = sde_job_guides(run, sampling->context, w, h, &request.guides);
	if (r >= 0 && run->job->n_regions > 0) {
		regions = floats(run, cell_count * (1 + run->job->n_regions));
		r = regions ? sde_job_regions(run, sampling->context, run->latent_height,
					      run->latent_width, regions)
			    : -ENOMEM;
	}
	if (r < 0)
		return r;
	request.n_regions = (int)run->job->n_regions;
	request.region_weights = regions;
	request.apg = run->job->guider == SDE_GUIDER_APG ? &apg : NULL;
	sde_job_stage(run, SDE_STAGE_ENCODE);
	r = sde_sd_count_calls(run->model, &request, &calls, run->error);
	if (r >= 0)
		r = sde_job_schedule_prompts(run, calls);
	if (r < 0)
		return r;
	request.prompt_embeds = run->prompt_embeds;
	request.pooled = run->pooled;
	request.tokens = run->tokens;
	request.variants = run->variants;
	request.n_variants = (size_t)run->n_variants;
	if (run->attention)
		r = sde_job_attention_begin(run, &request);
	if (r >= 0 && sampling->inverts)
		r = sde_job_invert(run, &request, &inverted);
	if (r >= 0)
		r = sde_job_run_loop(run, &request, &result);
	sde_sd_result_clear(&inverted);
	if (r < 0)
		return r;
	if (run->attention)
		r = sde_job_attention_end(run);
	run->runs_done++;
	sde_job_stage(run, SDE_STAGE_DECODE);
	if (!image)
		image = floats(run, values);
	if (r >= 0)
		r = image ? sde_sd_decode(run->model, wanted_of(run, &request, result.latents), 1,
					  h, w, image, run->error)
			  : -ENOMEM;
	sde_sd_result_clear(&result);
	if (r < 0)
		return r;
	sdk_nchw_to_nhwc(image, ret_picture, 1, 3, h, w);
	if (run->result.work_width == 0) {
		run->result.first_width = w;
		run->result.first_height = h;
	}
	run->result.work_width = w;
	run->result.work_height = h;
	return 0;
}

static int sample(struct sde_job_run *run, const struct sampling *sampling, float *ret_picture)
{
	int r;

	run->tile = choose_tile(run, sampling);
	if (run->job->tiling != SDE_TILING_NONE && can_wrap(run, sampling))
		sde_runner_set_wrap(run->model->runner, (enum sdk_wrap)run->job->tiling);
	r = run_and_decode(run, sampling, ret_picture);
	sde_runner_set_wrap(run->model->runner, SDK_WRAP_NONE);
	return r;
}

int sde_job_text_picture(struct sde_job_run *run, struct sde_layer *ret_layer)
{
	const int native = run->model->info.native_size;
	struct sampling sampling = {.kind = SDE_SD_TXT2IMG, .strength = 1};
	_cleanup_free_ float *picture = NULL, *grey = NULL, *all = NULL;
	size_t pixels;
	int r;

	sampling.width = run->job->width > 0 ? run->job->width : native;
	sampling.height = run->job->height > 0 ? run->job->height : native;
	pixels = (size_t)sampling.width * (size_t)sampling.height;
	picture = floats(run, pixels * 3);
	if (!picture)
		return -ENOMEM;
	if (sde_model_fills(run->model)) {
		/* an inpainting model paints a picture into an empty canvas */
		grey = floats(run, pixels * 3);
		all = floats(run, pixels);
		if (!grey || !all)
			return -ENOMEM;
		for (size_t i = 0; i < pixels; i++)
			all[i] = 1;
		sampling.kind = SDE_SD_INPAINT;
		sampling.image = grey;
		sampling.denoise = all;
	}
	r = sample(run, &sampling, picture);
	if (r >= 0)
		r = sde_image_new((uint32_t)sampling.width, (uint32_t)sampling.height, 4,
				  SDE_PIXEL_U8, &ret_layer->image, run->error);
	if (r < 0)
		return r;
	for (uint32_t y = 0; y < ret_layer->image.height; y++) {
		uint8_t *row = sde_image_row(&ret_layer->image, y);
		const float *from = picture + (size_t)y * ret_layer->image.width * 3;

		for (uint32_t x = 0; x < ret_layer->image.width; x++) {
			for (uint32_t c = 0; c < 3; c++)
				row[4 * x + c] = (uint8_t)rintf(
					fminf(fmaxf(from[3 * x + c] * 0.5f + 0.5f, 0), 1) * 255);
			row[4 * x + 3] = 255;
		}
	}
	return 0;
}

static struct sampling sampling_of(const struct sde_job_run *run,
				   const struct sde_inpaint_plan *plan,
				   const struct sde_inpaint_work *work, double strength)
{
	const bool concat = sde_model_fills(run->model);

	return (struct sampling){
		.kind = sde_job_is_whole(run->job) && !concat ? SDE_SD_IMG2IMG : SDE_SD_INPAINT,
		.width = (int)work->width,
		.height = (int)work->height,
		.strength = strength,
		.image = work->image,
		.denoise = work->denoise,
		.context = &plan->context,
		.exact = plan->feather == 0,
	};
}

int sde_job_repaint(struct sde_job_run *run, const struct sde_inpaint_plan *plan,
		    const struct sde_image *canvas, struct sde_layer *ret_layer)
{
	struct sde_inpaint_work work = {0}, refined = {0};
	struct sde_added added = {0};
	_cleanup_free_ float *picture = NULL, *larger = NULL;
	struct sampling sampling;
	int r;

	r = sde_inpaint_prepare(plan, canvas, &work, run->error);
	if (r < 0)
		return r;
	picture = floats(run, (size_t)work.width * work.height * 3);
	r = picture ? 0 : -ENOMEM;
	if (r >= 0 && plan->strength <= 0) {
		r = sde_inpaint_finish(plan, &work, work.original, canvas, ret_layer, run->error);
		goto out;
	}
	if (r >= 0)
		r = sde_job_added(run, plan, &added);
	if (r >= 0) {
		sampling = sampling_of(run, plan, &work, plan->strength);
		sampling.added = &added;
		sampling.inverts = sde_job_inverts(run->job);
		r = sample(run, &sampling, picture);
	}
	if (r >= 0 && plan->refine_width > 0) {
		r = sde_inpaint_upscale(plan, canvas, &work, picture, &refined, run->error);
		if (r < 0)
			goto out;
		larger = floats(run, (size_t)refined.width * refined.height * 3);
		sampling = sampling_of(run, plan, &refined, plan->refine_strength);
		r = larger ? sample(run, &sampling, larger) : -ENOMEM;
	}
	if (r >= 0)
		r = sde_inpaint_finish(plan, larger ? &refined : &work, larger ? larger : picture,
				       canvas, ret_layer, run->error);
out:
	sde_inpaint_work_clear(&work);
	sde_inpaint_work_clear(&refined);
	sde_job_added_clear(&added);
	return r;
}
