/*
 * What a person should hear of a job that runs as asked: sizes and guidance that the model was not made for, words that nothing
 * reads. Only what is certain to surprise; a warning that comes with every picture is not read.
 */
#include <stdarg.h>
#include <stdio.h>

#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"

#define PIXELS_LEAST 0.25 /* less, and it is not recognised */

__attribute__((format(printf, 2, 3))) static void warn(struct sde_job_run *run, const char *format,
						       ...)
{
	struct sde_result *result = &run->result;
	va_list ap;

	if (result->n_warnings == SDE_WARNINGS_MAX)
		return;
	va_start(ap, format);
	vsnprintf(result->warnings[result->n_warnings++], SDE_WARNING_SIZE, format, ap);
	va_end(ap);
}

static void warn_of_size(struct sde_job_run *run)
{
	const int native = run->model->info.native_size;
	const int width = run->job->width > 0 ? run->job->width : native;
	const int height = run->job->height > 0 ? run->job->height : native;
	const double part = (double)width * height / ((double)native * native);

	if (part > SDE_JOB_PIXELS_MOST)
		warn(run,
		     "%d x %d is much more than the %d x %d this model was trained at: what it "
		     "paints may repeat itself; paint it smaller and give hires_scale",
		     width, height, native, native);
	else if (part < PIXELS_LEAST)
		warn(run,
		     "%d x %d is much less than the %d x %d this model was trained at: it may "
		     "paint nothing recognisable",
		     width, height, native, native);
}

static void warn_of_guidance(struct sde_job_run *run)
{
	const struct sde_family *family = run->model->family;
	const char *negative = run->job->negative_prompt;

	if (family->guidance_most > 0 && run->guidance_scale > family->guidance_most)
		warn(run,
		     "guidance_scale %g is high for this model: above %g colours and contrast "
		     "burn out",
		     run->guidance_scale, family->guidance_most);
	if (run->job->guidance_rescale > 0 &&
	    !sde_sd_uses_guidance(run->model, run->guidance_scale))
		warn(run, "guidance_rescale does nothing: there is no classifier-free guidance to "
			  "scale back");
	if (run->job->guider != SDE_GUIDER_CFG &&
	    !sde_sd_uses_guidance(run->model, run->guidance_scale))
		warn(run, "guider does nothing: there is no classifier-free guidance");
	if (!negative || !negative[0])
		return;
	if (family->distilled)
		warn(run, "this model hears no negative_prompt: it paints without "
			  "classifier-free guidance");
	else if (!sde_sd_uses_guidance(run->model, run->guidance_scale))
		warn(run, "negative_prompt is not heard at guidance_scale %g: it needs more than 1",
		     run->guidance_scale);
}

void sde_job_warn(struct sde_job_run *run)
{
	if (run->job->kind == SDE_TXT2IMG && run->job->tiles != SDE_TILES_ON)
		warn_of_size(run);
	warn_of_guidance(run);
}

void sde_job_warn_of_tiles(struct sde_job_run *run, int width, int height)
{
	const int native = run->model->info.native_size;

	if (run->job->kind == SDE_UPSCALE || run->told_of_tiles)
		return;
	run->told_of_tiles = true;
	warn(run,
	     "%d x %d is more than the %d x %d this model was trained at: it was painted in tiles "
	     "of that size, blended at every step",
	     width, height, native, native);
}

void sde_job_warn_of_tiling(struct sde_job_run *run, const char *why)
{
	if (!run->told_of_tiling)
		warn(run, "tiling was left off, the sides will not meet: %s", why);
	run->told_of_tiling = true;
}

void sde_job_warn_of_prompt(struct sde_job_run *run, const char *name, const struct sde_text *text)
{
	const struct sde_t5_prompt *t5 = &text->t5;

	if (t5->ids && t5->tokens + 1 > (size_t)t5->length)
		warn(run, "the last %zu of %zu tokens of %s fell out: T5 reads %d of this model's",
		     t5->tokens + 1 - (size_t)t5->length, t5->tokens, name, t5->length - 1);
}
