/*
 * The prompts of a job: to chunks for each text encoder of the model, as many for both prompts, then to what the denoiser is
 * conditioned on. As in diffusers, clip_skip is for the positive prompt only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"

enum { NEGATIVE, POSITIVE, PROMPTS };

/* chunks[i][tower] */
typedef struct sde_prompt prompts[PROMPTS][SDE_TOWERS_MAX];

/* Cut both prompts for every encoder; those from `first` on get equally many chunks. */
static int cut(struct sde_job_run *run, int first, prompts cuts, size_t *ret_chunks)
{
	const struct sde_job *job = run->job;
	const char *texts[] = {job->negative_prompt ? job->negative_prompt : "",
			       sde_job_prompt_text(run)};
	const struct sde_model *model = run->model;
	size_t chunks = 0;
	int r = 0;

	for (int i = 0; i < PROMPTS; i++)
		for (int k = 0; r >= 0 && k < model->n_towers; k++) {
			const struct sde_clip_tokenizer *tokenizer = model->towers[k].tokenizer;
			const struct sde_prompt_words words = sde_words_of(sde_job_words(run), k);

			r = sde_prompt_weighted(tokenizer, sde_clip_tokenizer_pad(tokenizer),
						&words, texts[i], strlen(texts[i]), &cuts[i][k],
						run->error);
			if (r >= 0)
				sde_words_attach(sde_job_words(run), k, &cuts[i][k]);
			if (r >= 0 && i >= first && cuts[i][k].count > chunks)
				chunks = cuts[i][k].count;
		}
	for (int i = first; i < PROMPTS; i++)
		for (int k = 0; r >= 0 && k < model->n_towers; k++) {
			const struct sde_clip_tokenizer *tokenizer = model->towers[k].tokenizer;

			r = sde_prompt_extend(&cuts[i][k], tokenizer,
					      sde_clip_tokenizer_pad(tokenizer), chunks,
					      run->error);
		}
	*ret_chunks = chunks;
	return r;
}

static int embed(struct sde_job_run *run, int first, const prompts cuts, size_t chunks)
{
	const size_t row = chunks * SDE_PROMPT_LENGTH * (size_t)sde_model_context_width(run->model);
	const size_t pooled = (size_t)sde_model_pooled_width(run->model);
	const bool zeros = run->model->zero_negative && !run->job->negative_prompt;
	int r = 0;

	run->prompt_embeds = calloc(PROMPTS * row, sizeof(float));
	run->pooled = calloc(PROMPTS * pooled + 1, sizeof(float));
	if (!run->prompt_embeds || !run->pooled)
		return sde_error_set(run->error, -ENOMEM, "no memory for %zu prompt chunks",
				     chunks);
	for (int i = first; r >= 0 && i < PROMPTS; i++)
		if (i == POSITIVE || !zeros)
			r = sde_model_embed(run->model, cuts[i],
					    i == POSITIVE ? run->job->clip_skip : 0,
					    run->prompt_embeds + (size_t)(i - first) * row,
					    run->pooled + (size_t)(i - first) * pooled, run->error);
	return r;
}

int sde_job_encode_prompts(struct sde_job_run *run)
{
	const int first =
		sde_sd_uses_guidance(run->model, run->guidance_scale) ? NEGATIVE : POSITIVE;
	prompts cuts = {{{0}}};
	size_t chunks;
	int r;

	r = cut(run, first, cuts, &chunks);
	if (r >= 0)
		r = embed(run, first, (const struct sde_prompt(*)[SDE_TOWERS_MAX])cuts, chunks);
	if (r >= 0) {
		run->tokens = (int)(chunks * SDE_PROMPT_LENGTH);
		run->result.negative_tokens = (int)cuts[NEGATIVE][0].tokens;
		run->result.prompt_tokens = (int)cuts[POSITIVE][0].tokens;
		run->result.chunks = (int)chunks;
	}
	for (int i = 0; i < PROMPTS; i++)
		for (int k = 0; k < SDE_TOWERS_MAX; k++)
			sde_prompt_clear(&cuts[i][k]);
	return r;
}
