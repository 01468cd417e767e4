/*
 * sde_job_run: checks what was asked for, encodes the prompts once, then makes the pictures one after another (a batch
 * would only cost memory on a CPU, and one generator a picture gives the same numbers). Image i uses seed + i.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/readahead.h"

#define STEPS_MAX    1000
#define GUIDANCE_MAX 100.0
#define COUNT_MAX    16
#define SIDE_MAX     4096 /* txt2img */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void sde_job_stage(struct sde_job_run *run, enum sde_stage stage)
{
	const uint64_t now = now_us();

	run->result.stage_us[run->stage] += now - run->stage_begin_us;
	run->stage = stage;
	run->stage_begin_us = now;
	if (run->job->staged)
		sde_runner_trim(run->model->runner);
}

/* Largest side of a picture made from text. */
static int side_max(const struct sde_model *model)
{
	const int most = model->denoiser.side_max * sde_model_factor(model);

	return most > 0 && most < SIDE_MAX ? most : SIDE_MAX;
}

static int check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	const int grain = sde_model_grain(run->model), most = side_max(run->model);
	int r;

	if (job->steps < 0 || job->steps > STEPS_MAX)
		return sde_error_set(run->error, -EINVAL, "steps must be 1 to %d, not %d",
				     STEPS_MAX, job->steps);
	if (!(job->guidance_scale <= GUIDANCE_MAX))
		return sde_error_set(run->error, -EINVAL, "guidance_scale must be 0 to %g, not %g",
				     GUIDANCE_MAX, job->guidance_scale);
	if (job->kind != SDE_TXT2IMG && !(job->strength >= 0 && job->strength <= 1))
		return sde_error_set(run->error, -EINVAL, "strength must be 0 to 1, not %g",
				     job->strength);
	if (job->count < 1 || job->count > COUNT_MAX)
		return sde_error_set(run->error, -EINVAL, "count must be 1 to %d, not %d",
				     COUNT_MAX, job->count);
	if (job->clip_skip < 0 ||
	    job->clip_skip > run->model->towers[0].clip.config.num_hidden_layers)
		return sde_error_set(run->error, -EINVAL, "clip_skip must be 0 to %d, not %d",
				     run->model->towers[0].clip.config.num_hidden_layers,
				     job->clip_skip);
	if (job->preview_every < 0 || job->preview_every > STEPS_MAX)
		return sde_error_set(run->error, -EINVAL, "preview_every must be 0 to %d, not %d",
				     STEPS_MAX, job->preview_every);
	if (!job->prompt)
		return sde_error_set(run->error, -EINVAL, "prompt is missing (\"\" is allowed)");
	if (job->rng != SDE_RNG_TORCH_CPU && job->rng != SDE_RNG_PHILOX)
		return sde_error_set(run->error, -EINVAL, "there is no random generator %d",
				     (int)job->rng);
	if (!(job->guidance_rescale >= 0 && job->guidance_rescale <= 1))
		return sde_error_set(run->error, -EINVAL, "guidance_rescale must be 0 to 1, not %g",
				     job->guidance_rescale);
	if (!(job->apg_eta >= 0 && job->apg_eta <= 1) || !(fabs(job->apg_momentum) <= 1) ||
	    !(job->apg_norm >= 0))
		return sde_error_set(run->error, -EINVAL,
				     "apg_eta must be 0 to 1, apg_momentum -1 to 1 and apg_norm "
				     "not negative; they are %g, %g and %g",
				     job->apg_eta, job->apg_momentum, job->apg_norm);
	if (sde_job_regions_check(run) < 0 || sde_job_sequence_check(run) < 0)
		return -EINVAL;
	r = sde_job_attention_check(run);
	if (r < 0)
		return r;
	if (job->kind != SDE_TXT2IMG && !job->image)
		return sde_error_set(run->error, -EINVAL, "this job needs an image");
	if (job->kind == SDE_UPSCALE)
		return sde_job_upscale_check(run);
	if (job->kind != SDE_TXT2IMG)
		return 0;
	if (job->width < 0 || job->width > most || job->width % grain != 0 || job->height < 0 ||
	    job->height > most || job->height % grain != 0)
		return sde_error_set(
			run->error, -EINVAL,
			"width and height must be multiples of %d up to %d, not %d x %d", grain,
			most, job->width, job->height);
	return sde_job_hires_check(run);
}

static int repaint_pictures(struct sde_job_run *run)
{
	struct sde_inpaint_plan plan;
	int r;

	r = sde_job_plan_repaint(run->model, run->job, &plan, run->error);
	run->runs_total = run->result.count * ((r >= 0 && plan.refine_width > 0 ? 2 : 1) +
					       (sde_job_inverts(run->job) ? 1 : 0));
	for (int i = 0; r >= 0 && i < run->result.count; i++) {
		sde_job_begin(run, i);
		r = sde_job_repaint(run, &plan, run->place.image, &run->result.layers[i]);
		if (r >= 0 && run->job->has_canvas) {
			run->result.layers[i].x += run->job->canvas_x;
			run->result.layers[i].y += run->job->canvas_y;
		}
		if (r >= 0)
			sde_job_end(run, i);
	}
	return r;
}

/* One outpainted picture: strip after strip on an extended canvas of its own. */
static int outpaint_picture(struct sde_job_run *run, const struct sde_outpaint *outpaint,
			    const struct sde_image *source,
			    const struct sde_inpaint_options *options, struct sde_layer *ret_layer)
{
	const struct sde_model_range range = sde_job_range(run->model);
	struct sde_image extended = {0};
	struct sde_inpaint_plan plan;
	int r;

	r = sde_outpaint_extend(outpaint, source, &extended, run->error);
	for (uint32_t i = 0; r >= 0 && i < outpaint->count; i++) {
		struct sde_layer layer = {0};

		r = sde_outpaint_step_plan(outpaint, i, options, &range, &plan, run->error);
		if (r >= 0)
			r = sde_job_repaint(run, &plan, &extended, &layer);
		if (r >= 0)
			r = sde_layer_over_canvas(&layer, &extended, run->error);
		sde_image_clear(&layer.image);
	}
	if (r >= 0)
		r = sde_outpaint_layer(outpaint, &extended, source, ret_layer, run->error);
	sde_image_clear(&extended);
	return r;
}

static int outpaint_pictures(struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	struct sde_inpaint_options options = sde_job_options(run->model, job);
	struct sde_outpaint outpaint;
	struct sde_image source;
	int r;

	options.two_pass = false;
	r = sde_job_plan_outpaint(run->model, job, &outpaint, &source, run->error);
	if (r < 0)
		return r;
	run->runs_total = job->count * (int)outpaint.count;
	for (int i = 0; r >= 0 && i < job->count; i++) {
		sde_job_begin(run, i);
		r = outpaint_picture(run, &outpaint, &source, &options, &run->result.layers[i]);
		if (r >= 0)
			sde_job_end(run, i);
	}
	sde_outpaint_clear(&outpaint);
	return r;
}

static int text_pictures(struct sde_job_run *run)
{
	int r = 0;

	run->runs_total = run->result.count * (sde_job_is_hires(run->job) ? 2 : 1);
	for (int i = 0; r >= 0 && i < run->result.count; i++) {
		sde_job_begin(run, i);
		r = sde_job_text_picture(run, &run->result.layers[i]);
		if (r >= 0 && run->job->hires_scale > 1)
			r = sde_job_hires(run, &run->result.layers[i]);
		if (r >= 0)
			sde_job_end(run, i);
	}
	return r;
}

static int upscale_pictures(struct sde_job_run *run)
{
	int r = 0;

	run->runs_total = run->job->count;
	for (int i = 0; r >= 0 && i < run->job->count; i++) {
		sde_job_begin(run, i);
		r = sde_job_upscale(run, &run->result.layers[i]);
		if (r >= 0)
			sde_job_end(run, i);
	}
	return r;
}

static int prepare(struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	const struct sde_model_info *info = &run->model->info;
	const char *sampler = job->sampler	     ? job->sampler
			      : sde_job_inverts(job) ? "DDIM"
						     : info->default_sampler;
	int r;

	r = check(run);
	if (r < 0)
		return r;
	run->steps = job->steps > 0 ? job->steps : info->default_steps;
	run->guidance_scale =
		job->guidance_scale >= 0 ? job->guidance_scale : info->default_guidance;
	r = sde_scheduler_config_from_name(sampler, run->model->scheduler_config, &run->scheduler,
					   run->error);
	if (r < 0)
		return r;
	r = sde_job_invert_check(run);
	if (r < 0)
		return r;
	snprintf(run->result.sampler, sizeof(run->result.sampler), "%s", sampler);
	run->result.steps = run->steps;
	run->result.guidance_scale = run->guidance_scale;
	run->result.layers = calloc((size_t)sde_job_count(job), sizeof(*run->result.layers));
	if (!run->result.layers)
		return sde_error_set(run->error, -ENOMEM, "no memory for a result");
	run->result.count = sde_job_count(job);
	run->canvas_width = job->width > 0 ? job->width : info->native_size;
	run->canvas_height = job->height > 0 ? job->height : info->native_size;
	if (job->image) {
		run->canvas_width = job->image->width;
		run->canvas_height = job->image->height;
	}
	run->canvas_scale = 1;
	sde_job_warn(run);
	sde_job_begin(run, 0);
	r = sde_job_adapt(run);
	return r < 0 ? r : sde_job_encode_prompts(run);
}

int sde_job_run(struct sde_model *model, const struct sde_job *job, const struct sde_hooks *hooks,
		struct sde_result *ret_result, struct sde_error *ret_error)
{
	struct sde_job_run run = {.model = model,
				  .job = job,
				  .hooks = hooks,
				  .error = ret_error,
				  .stage = SDE_STAGE_ENCODE,
				  .stage_begin_us = now_us()};
	struct sde_readahead ahead = {.parts = {model->denoiser_weights, model->vae_weights}};
	int r;

	sde_readahead_start(&ahead);
	sde_runner_set_cancel(model->runner, hooks ? hooks->cancel : NULL);
	model->partition = job->partition;
	if (job->staged)
		sde_runner_trim(model->runner);
	model->vae.tiled = job->vae_tiling;
	r = prepare(&run);
	/* bytes that are no use cost nothing but the time they would have saved */
	if (r >= 0 && job->resume &&
	    sde_resume_load(&run.resume, job->resume, job->resume_size) == 0)
		run.runs_known = run.resume.n_ended;
	if (r >= 0) {
		switch (job->kind) {
		case SDE_TXT2IMG:
			r = text_pictures(&run);
			break;
		case SDE_IMG2IMG:
		case SDE_INPAINT:
			r = repaint_pictures(&run);
			break;
		case SDE_OUTPAINT:
			r = outpaint_pictures(&run);
			break;
		case SDE_UPSCALE:
			r = upscale_pictures(&run);
			break;
		default:
			r = sde_error_set(ret_error, -EINVAL, "this kind of job is unknown");
		}
	}
	sde_job_stage(&run, SDE_STAGE_DECODE);
	sde_job_attention_clear(&run);
	sde_job_adapters_clear(&run);
	sde_runner_set_cancel(model->runner, NULL);
	sde_runner_rest(model->runner);
	sde_readahead_stop(&ahead);
	free(run.prompt_embeds);
	free(run.pooled);
	free(run.variants);
	sde_resume_clear(&run.resume);
	sde_scheduler_config_clear(&run.scheduler);
	if (r < 0) {
		sde_result_clear(&run.result);
		return r;
	}
	run.result.staged = job->staged;
	*ret_result = run.result;
	return 0;
}

void sde_result_clear(struct sde_result *result)
{
	for (int i = 0; result->layers && i < result->count; i++)
		sde_image_clear(&result->layers[i].image);
	free(result->layers);
	for (int i = 0; i < result->n_words; i++)
		free(result->words[i].word);
	free(result->words);
	sde_image_clear(&result->maps);
	*result = (struct sde_result){0};
}
