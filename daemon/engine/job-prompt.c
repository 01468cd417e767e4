/*
 * The prompts of a job: cut for each text encoder of the model, into as many chunks for both prompts, then to what the denoiser is
 * conditioned on. As in diffusers, clip_skip is for the positive prompt only.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/cached.h"
#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"

enum { NEGATIVE, POSITIVE, PROMPTS };

/* Those from `first` on get equally many chunks. */
static int cut(struct sde_job_run *run, int first, struct sde_text *texts)
{
	const struct sde_job *job = run->job;
	const char *prompts[] = {job->negative_prompt ? job->negative_prompt : "",
				 sde_job_prompt_text(run)};
	int r = 0;

	for (int i = 0; r >= 0 && i < PROMPTS; i++) {
		const char *const same[SDE_TEXTS_MAX] = {prompts[i], prompts[i], prompts[i]};

		r = sde_text_cut(run->model, same, true, sde_job_words(run), 0, &texts[i],
				 run->error);
	}
	if (r >= 0)
		r = sde_texts_even_out(run->model, texts + first, (size_t)(PROMPTS - first),
				       run->error);
	return r;
}

static int embed(struct sde_job_run *run, int first, const struct sde_text *texts)
{
	const size_t rows = sde_model_context_rows(run->model, &texts[POSITIVE]);
	const size_t row = rows * (size_t)sde_model_context_width(run->model);
	const size_t pooled = (size_t)sde_model_pooled_width(run->model);
	const bool zeros = run->model->zero_negative && !run->job->negative_prompt;
	int r = 0;

	run->prompt_embeds = calloc(PROMPTS * row, sizeof(float));
	run->pooled = calloc(PROMPTS * pooled + 1, sizeof(float));
	if (!run->prompt_embeds || !run->pooled)
		return sde_error_set(run->error, -ENOMEM, "no memory for prompts of %zu tokens",
				     rows);
	run->tokens = (int)rows;
	for (int i = first; r >= 0 && i < PROMPTS; i++)
		if (i == POSITIVE || !zeros)
			r = sde_cached_embed(run->model, run->job->partition, &texts[i],
					     i == POSITIVE ? run->job->clip_skip : 0,
					     run->prompt_embeds + (size_t)(i - first) * row,
					     run->pooled + (size_t)(i - first) * pooled,
					     run->error);
	return r;
}

/* Of the encoder that the context is made of. */
static int tokens_of(const struct sde_model *model, const struct sde_text *text)
{
	return (int)(model->family->t5_alone ? text->t5.tokens : text->clip[0].tokens);
}

/* They rest until the next job with another prompt. */
static void release_encoders(const struct sde_model *model)
{
	for (int i = 0; i < model->n_towers; i++)
		sde_weights_release(model->towers[i].weights);
	if (model->t5.weights)
		sde_weights_release(model->t5.weights);
}

int sde_job_encode_prompts(struct sde_job_run *run)
{
	const int first =
		sde_sd_uses_guidance(run->model, run->guidance_scale) ? NEGATIVE : POSITIVE;
	struct sde_text texts[PROMPTS] = {0};
	int r;

	r = cut(run, first, texts);
	if (r >= 0)
		r = embed(run, first, texts);
	release_encoders(run->model);
	if (r >= 0) {
		run->result.negative_tokens = tokens_of(run->model, &texts[NEGATIVE]);
		run->result.prompt_tokens = tokens_of(run->model, &texts[POSITIVE]);
		run->result.chunks = (int)texts[POSITIVE].clip[0].count;
		sde_job_warn_of_prompt(run, "prompt", &texts[POSITIVE]);
		if (first == NEGATIVE)
			sde_job_warn_of_prompt(run, "negative_prompt", &texts[NEGATIVE]);
	}
	for (int i = 0; i < PROMPTS; i++)
		sde_text_clear(&texts[i]);
	return r;
}
