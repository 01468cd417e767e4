/*
 * The prompts of a job: those of each call of the denoiser where they change with it, cut for each text encoder of the model, all
 * into as many chunks, then to what the denoiser is conditioned on. Each text is encoded once. As in diffusers, clip_skip is
 * not for the negative prompt.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/cached.h"
#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/prompt/schedule.h"
#include "daemon/engine/schedulers/steps.h"

#define VARIANTS_MAX 32
/* A prompt as long as the protocol takes has 55 chunks of English; a word and a BREAK, again and again, would make 2048. */
#define CHUNKS_MAX 64
#define TOKENS_MAX 65536 /* of all prompts in all their forms: 200 MB in SD 1.5, 540 in SDXL */

/* and from there on each region's prompt, or that which an edit begins with; then those that are added */
enum { NEGATIVE, POSITIVE, REGIONS, SOURCE = REGIONS };
enum { TEXTS_MAX = REGIONS + SDE_REGIONS_MAX + SDE_TERMS_MAX };

/* The prompts as they stand at some calls. */
struct variant {
	char *texts[TEXTS_MAX];
};

struct prompts {
	struct sde_job_run *run;
	struct sde_prompt_schedule schedules[TEXTS_MAX];
	int n, first; /* texts; the first that the denoiser hears */
	int n_heard;  /* without those that are added to the prompt */
	struct variant variants[VARIANTS_MAX];
	int n_variants;
	struct sde_text *texts; /* of each variant those from first on */
};

static void prompts_clear(struct prompts *p)
{
	for (int i = 0; i < TEXTS_MAX; i++)
		sde_prompt_schedule_clear(&p->schedules[i]);
	for (int v = 0; v < VARIANTS_MAX; v++)
		for (int i = 0; i < TEXTS_MAX; i++)
			free(p->variants[v].texts[i]);
	for (int i = 0; p->texts && i < p->n_variants * (p->n - p->first); i++)
		sde_text_clear(&p->texts[i]);
	free(p->texts);
}

/* The n-th term that is a prompt; NULL: there are fewer. */
static const struct sde_term *term_at(const struct sde_place *place, int n)
{
	for (int i = 0; i < place->n_terms; i++)
		if (place->terms[i].prompt && n-- == 0)
			return &place->terms[i];
	return NULL;
}

static const char *source_of(const struct sde_job_run *run, int i)
{
	const struct sde_job *job = run->job;
	const int regions = (int)job->n_regions;

	/* guidance then leads from what the picture shows to the prompt, and nowhere if they are one (Miyake et al. 2023) */
	if (i == NEGATIVE && sde_job_inverts(job) && !job->negative_prompt)
		return job->source_prompt;
	if (i == NEGATIVE)
		return job->negative_prompt ? job->negative_prompt : "";
	if (i == POSITIVE)
		return run->place.prompt ? run->place.prompt : sde_job_prompt_text(run);
	if (sde_job_is_edit(job))
		return sde_job_source_text(run);
	return i < REGIONS + regions ? job->regions[i - REGIONS].prompt
				     : term_at(&run->place, i - REGIONS - regions)->prompt;
}

static int read_sources(struct prompts *p, bool *ret_changes)
{
	struct sde_job_run *run = p->run;
	bool changes = false;
	int r = 0;

	p->first = sde_sd_uses_guidance(run->model, run->guidance_scale) ? NEGATIVE : POSITIVE;
	p->n_heard = p->n = REGIONS + (int)run->job->n_regions + sde_job_is_edit(run->job);
	while (term_at(&run->place, p->n - p->n_heard))
		p->n++;
	for (int i = 0; r >= 0 && i < p->n; i++) {
		r = sde_prompt_schedule_init(&p->schedules[i], source_of(run, i), run->error);
		changes = changes || (r >= 0 && p->schedules[i].changes);
	}
	if (r >= 0 && changes && (run->job->explain || sde_job_is_edit(run->job)))
		r = sde_error_set(run->error, -EINVAL,
				  "prompts that change with the steps ([a:b:0.5], [a|b]) can be "
				  "neither edited nor explained");
	*ret_changes = changes;
	return r;
}

static bool same(const struct variant *a, const struct variant *b, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(a->texts[i], b->texts[i]) != 0)
			return false;
	return true;
}

/* What the prompts are at call i of n: an entry of variants, its place in *ret_variant. */
static int add_call(struct prompts *p, int i, int n, int *ret_variant)
{
	struct variant now = {0};
	bool whole = true;
	int v = 0;

	for (int k = 0; k < p->n; k++) {
		now.texts[k] = sde_prompt_schedule_at(&p->schedules[k], i, n);
		whole = whole && now.texts[k];
	}
	while (whole && v < p->n_variants && !same(&now, &p->variants[v], p->n))
		v++;
	if (whole && v == p->n_variants && v < VARIANTS_MAX) {
		p->variants[p->n_variants++] = now;
	} else {
		for (int k = 0; k < p->n; k++)
			free(now.texts[k]);
	}
	if (!whole)
		return sde_error_set(p->run->error, -ENOMEM, "no memory for prompts");
	if (v == VARIANTS_MAX)
		return sde_error_set(p->run->error, -EINVAL,
				     "the prompts take more than %d forms over the steps",
				     VARIANTS_MAX);
	*ret_variant = v;
	return 0;
}

static int cut_one(struct prompts *p, const char *prompt, struct sde_text *ret_text)
{
	const char *const same_for_all[SDE_TEXTS_MAX] = {prompt, prompt, prompt};
	size_t chunks;
	int r;

	r = sde_text_cut(p->run->model, same_for_all, true, sde_job_words(p->run), 0, ret_text,
			 p->run->error);
	if (r < 0)
		return r;
	chunks = ret_text->clip[0].count;
	return chunks <= CHUNKS_MAX
		       ? 0
		       : sde_error_set(p->run->error, -EINVAL,
				       "a prompt makes %zu chunks of 75 tokens, at most %d are "
				       "read; it needs fewer words or fewer BREAKs",
				       chunks, CHUNKS_MAX);
}

static int cut(struct prompts *p)
{
	const int each = p->n - p->first;
	int r = 0;

	p->texts = calloc((size_t)p->n_variants * (size_t)each, sizeof(*p->texts));
	if (!p->texts)
		return sde_error_set(p->run->error, -ENOMEM, "no memory for prompts");
	for (int v = 0; r >= 0 && v < p->n_variants; v++)
		for (int i = p->first; r >= 0 && i < p->n; i++)
			r = cut_one(p, p->variants[v].texts[i], &p->texts[v * each + i - p->first]);
	if (r >= 0)
		r = sde_texts_even_out(p->run->model, p->texts, (size_t)(p->n_variants * each),
				       p->run->error);
	return r;
}

/* A variant before v with the same text i; -1: none. */
static int earlier(const struct prompts *p, int v, int i)
{
	for (int before = 0; before < v; before++)
		if (strcmp(p->variants[before].texts[i], p->variants[v].texts[i]) == 0)
			return before;
	return -1;
}

/* Latent arithmetic: the prompt's rows become a sum, those that were added to it go. width: of a prompt's values. */
static void add_terms(const struct prompts *p, float *values, size_t width)
{
	const struct sde_place *place = &p->run->place;
	const size_t each = (size_t)(p->n - p->first), heard = (size_t)(p->n_heard - p->first);

	for (int v = 0; each > heard && v < p->n_variants; v++) {
		float *block = values + (size_t)v * each * width;
		float *own = block + (size_t)(POSITIVE - p->first) * width;

		if (place->prompt_share != 1)
			sde_add_weighted(own, own, width, place->prompt_share - 1);
		for (size_t k = heard; k < each; k++)
			sde_add_weighted(own, block + k * width, width,
					 term_at(place, (int)(k - heard))->weight);
		memmove(values + (size_t)v * heard * width, block, heard * width * sizeof(float));
	}
}

static int embed(struct prompts *p)
{
	struct sde_job_run *run = p->run;
	const size_t each = (size_t)(p->n - p->first), all = each * (size_t)p->n_variants;
	const size_t rows = sde_model_context_rows(run->model, &p->texts[0]);
	const size_t row = rows * (size_t)sde_model_context_width(run->model);
	const size_t pooled = (size_t)sde_model_pooled_width(run->model);
	const bool inverts = sde_job_inverts(run->job);
	const bool zeros = run->model->zero_negative && !run->job->negative_prompt && !inverts;
	int r = 0;

	if (all * rows > TOKENS_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "%zu prompts in %d forms over the steps have %zu tokens in "
				     "all, at most %d; they need fewer words, regions or forms",
				     each, p->n_variants, all * rows, TOKENS_MAX);
	free(run->prompt_embeds);
	free(run->pooled);
	run->prompt_embeds = calloc(all * row, sizeof(float));
	run->pooled = calloc(all * pooled + 1, sizeof(float));
	if (!run->prompt_embeds || !run->pooled)
		return sde_error_set(run->error, -ENOMEM, "no memory for prompts of %zu tokens",
				     rows);
	run->tokens = (int)rows;
	for (size_t at = 0; r >= 0 && at < all; at++) {
		const int v = (int)(at / each), i = (int)(at % each) + p->first;
		const int before = earlier(p, v, i);
		const size_t from = (size_t)before * each + at % each;

		if (i == NEGATIVE && zeros)
			continue;
		if (before >= 0) {
			memcpy(run->prompt_embeds + at * row, run->prompt_embeds + from * row,
			       row * sizeof(float));
			memcpy(run->pooled + at * pooled, run->pooled + from * pooled,
			       pooled * sizeof(float));
			continue;
		}
		r = sde_cached_embed(run->model, run->job->partition, &p->texts[at],
				     i == NEGATIVE && !inverts ? 0 : run->job->clip_skip,
				     run->prompt_embeds + at * row, run->pooled + at * pooled,
				     run->error);
	}
	add_terms(p, run->prompt_embeds, row);
	add_terms(p, run->pooled, pooled);
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

/* Of the prompts as they begin. */
static int report(struct prompts *p)
{
	struct sde_job_run *run = p->run;
	const struct sde_text *positive = &p->texts[POSITIVE - p->first];
	struct sde_text unheard = {0};
	int r = 0;

	run->result.prompt_tokens = tokens_of(run->model, positive);
	run->result.chunks = (int)positive->clip[0].count;
	sde_job_warn_of_prompt(run, "prompt", positive);
	if (p->first == NEGATIVE) {
		run->result.negative_tokens = tokens_of(run->model, &p->texts[0]);
		sde_job_warn_of_prompt(run, "negative_prompt", &p->texts[0]);
	} else {
		r = cut_one(p, p->variants[0].texts[NEGATIVE], &unheard);
		if (r >= 0)
			run->result.negative_tokens = tokens_of(run->model, &unheard);
		sde_text_clear(&unheard);
	}
	for (int i = REGIONS; i < p->n; i++)
		sde_job_warn_of_prompt(run,
				       sde_job_is_edit(run->job) ? "source_prompt"
				       : i < p->n_heard		 ? "a region's prompt"
								 : "a prompt that is added",
				       &p->texts[i - p->first]);
	return r;
}

static int watch(struct prompts *p)
{
	struct sde_job_run *run = p->run;
	const bool edits = sde_job_is_edit(run->job);
	const struct variant *texts = &p->variants[0];

	if (!run->job->explain && !edits)
		return 0;
	return sde_job_attention_prompts(
		run, texts->texts[POSITIVE], &p->texts[POSITIVE - p->first],
		edits ? texts->texts[SOURCE] : NULL, edits ? &p->texts[SOURCE - p->first] : NULL);
}

static int encode(struct sde_job_run *run, int calls, bool first)
{
	struct prompts p = {.run = run};
	bool changes;
	int r;

	r = read_sources(&p, &changes);
	if (r >= 0 && !changes)
		calls = 1;
	if (r >= 0 && !first && !run->other_prompts && (!changes || calls == run->n_variants)) {
		prompts_clear(&p);
		return 0;
	}
	free(run->variants);
	run->variants = calloc((size_t)calls, sizeof(*run->variants));
	run->n_variants = run->variants ? calls : 0;
	if (r >= 0 && !run->variants)
		r = sde_error_set(run->error, -ENOMEM, "no memory for prompts");
	for (int i = 0; r >= 0 && i < calls; i++)
		r = add_call(&p, i, calls, &run->variants[i]);
	if (r >= 0)
		r = cut(&p);
	if (r >= 0 && first)
		r = watch(&p);
	if (r >= 0)
		r = embed(&p);
	release_encoders(run->model);
	run->other_prompts = false;
	if (r >= 0 && first)
		r = report(&p);
	prompts_clear(&p);
	return r;
}

int sde_job_encode_prompts(struct sde_job_run *run)
{
	return encode(run, run->steps, true);
}

int sde_job_schedule_prompts(struct sde_job_run *run, int calls)
{
	return encode(run, calls, false);
}

int sde_job_embed_source(struct sde_job_run *run, float **ret_embeds, float **ret_pooled,
			 int *ret_tokens)
{
	struct prompts p = {.run = run};
	struct sde_text text = {0};
	size_t rows, width;
	int r;

	r = cut_one(&p, run->job->source_prompt, &text);
	if (r >= 0)
		r = sde_texts_even_out(run->model, &text, 1, run->error);
	if (r >= 0) {
		rows = sde_model_context_rows(run->model, &text);
		width = (size_t)sde_model_context_width(run->model);
		*ret_tokens = (int)rows;
		*ret_embeds = calloc(rows * width, sizeof(float));
		*ret_pooled = calloc((size_t)sde_model_pooled_width(run->model) + 1, sizeof(float));
		r = *ret_embeds && *ret_pooled
			    ? sde_cached_embed(run->model, run->job->partition, &text,
					       run->job->clip_skip, *ret_embeds, *ret_pooled,
					       run->error)
			    : sde_error_set(run->error, -ENOMEM, "no memory for a prompt");
	}
	release_encoders(run->model);
	sde_text_clear(&text);
	return r;
}
