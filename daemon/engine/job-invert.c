/*
 * DDIM inversion: instead of drawn noise, a picture gets the very noise from which DDIM, told what the picture shows, paints it
 * again; told something else, it paints that in the same place. One sampling run from the picture to noise, without guidance, before the
 * run back: both are kept, resumed and interrupted alike.
 *
 * Guidance on the way back would undo it (the two predictions differ, and what differs is added over and over). With the source's prompt
 * as the negative one they are equal where the prompt is the source's, so that at any guidance the picture comes back (negative-prompt
 * inversion, Miyake et al. 2023).
 */
#include <errno.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/stable-diffusion.h"

int sde_job_invert_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;

	if (job->noising == SDE_NOISING_DRAW)
		return 0;
	if (job->kind != SDE_IMG2IMG)
		return sde_error_set(run->error, -EINVAL, "only img2img jobs invert their picture");
	if (!job->source_prompt)
		return sde_error_set(run->error, -EINVAL,
				     "noising invert needs source_prompt: what the picture shows");
	if (run->model->family->flow || sde_model_fills(run->model))
		return sde_error_set(run->error, -EINVAL,
				     "noising invert is for models that predict noise and take "
				     "latents alone; this one is of family %s%s",
				     run->model->family->name,
				     sde_model_fills(run->model) ? ", for filling in" : "");
	if (run->scheduler.class_id != SDE_SCHEDULER_DDIM)
		return sde_error_set(run->error, -EINVAL,
				     "noising invert needs the sampler DDIM, the only one whose "
				     "steps are undone");
	return 0;
}

int sde_job_invert(struct sde_job_run *run, struct sde_sd_request *request,
		   struct sde_sd_result *ret_inverted)
{
	const bool guidance = sde_sd_uses_guidance(run->model, request->guidance_scale);
	struct sde_scheduler_config scheduler = run->scheduler; /* what it owns stays there */
	_cleanup_free_ float *embeds = NULL, *pooled = NULL;
	struct sde_sd_request up = *request;
	int r;

	r = sde_job_embed_source(run, &embeds, &pooled, &up.tokens);
	if (r < 0)
		return r;
	scheduler.class_id = SDE_SCHEDULER_DDIM_INVERSE;
	up.kind = SDE_SD_INVERT;
	up.scheduler = &scheduler;
	up.guidance_scale = 1;
	up.guidance_rescale = 0;
	up.apg = NULL;
	up.prompt_embeds = embeds;
	up.pooled = pooled;
	up.time_ids += guidance ? request->n_time_ids : 0;
	up.variants = NULL;
	up.n_variants = 0;
	up.n_regions = 0;
	up.on_preview = NULL;
	r = sde_job_run_loop(run, &up, ret_inverted);
	if (r < 0)
		return r;
	run->runs_done++;
	request->image_latents = ret_inverted->latents;
	request->noised = true;
	request->n_added = 0;
	return 0;
}
