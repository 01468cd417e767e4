/*
 * Edits and explanations of a job: Prompt-to-Prompt (attention/edit.h) and cross-attention maps by word (attention/maps.h). An edit paints
 * its source beside it, in the same calls of the denoiser: rows are [negative, negative,] source, edit.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/engine/attention/blend.h"
#include "daemon/engine/attention/edit.h"
#include "daemon/engine/attention/maps.h"
#include "daemon/engine/attention/watch.h"
#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/prompt/pieces.h"

#define WEIGHT_MAX 10.0
#define WORD_MAX   128 /* bytes told of a word */
#define LOOKS_MAX                                                                                  \
	((size_t)1                                                                                 \
	 << 24) /* latents x tokens: 20 bytes each, of which no estimate of memory knows */

struct sde_job_attention {
	struct sde_prompt_pieces pieces, source_pieces;
	struct sde_edit edit;
	struct sde_maps maps;
	struct sde_blend blend;
	struct sde_watch watch;
	/* of an edit: the rows of source and twin */
	struct sde_noise noise;
	struct sde_rng rngs[2];
	float *embeds, *pooled, time_ids[4 * SDE_TIME_IDS_MAX];
};

const char *sde_job_source_text(const struct sde_job_run *run)
{
	return run->job->source_prompt ? run->job->source_prompt : sde_job_prompt_text(run);
}

/* What neither goes with: the name of the field, NULL for none. */
static const char *in_the_way(const struct sde_job *job)
{
	if (job->n_regions > 0)
		return "regions";
	if (job->hires_scale > 1)
		return "hires_scale";
	if (job->n_controls > 0 && sde_job_is_edit(job))
		return "controls";
	if (job->n_positions > 0)
		return "positions";
	if (job->n_directions > 0)
		return "directions";
	return NULL;
}

static int check_numbers(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	const struct {
		const char *name;
		double value;
	} fractions[] = {{"cross_replace", job->cross_replace},
			 {"self_replace", job->self_replace},
			 {"blend_threshold", job->blend_threshold},
			 {"blend_start", job->blend_start}};

	for (size_t i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++)
		if (!(fractions[i].value >= 0 && fractions[i].value <= 1))
			return sde_error_set(run->error, -EINVAL, "%s must be 0 to 1, not %g",
					     fractions[i].name, fractions[i].value);
	for (size_t i = 0; i < job->n_word_weights; i++)
		if (!(fabs(job->word_weights[i].weight) <= WEIGHT_MAX))
			return sde_error_set(run->error, -EINVAL,
					     "a word's weight must be -%g to %g, not %g",
					     WEIGHT_MAX, WEIGHT_MAX, job->word_weights[i].weight);
	return 0;
}

int sde_job_attention_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	const char *what = sde_job_is_edit(job) ? "source_prompt and word_weights" : "explain";

	if (job->kind != SDE_TXT2IMG && (job->explain || job->n_word_weights > 0))
		return sde_error_set(run->error, -EINVAL,
				     "explain and word_weights are for txt2img jobs alone");
	if (job->n_local_blend > 0 && !sde_job_is_edit(job))
		return sde_error_set(run->error, -EINVAL,
				     "local_blend is for edits: txt2img jobs with a source_prompt "
				     "or word_weights");
	if (!job->explain && !sde_job_is_edit(job))
		return 0;
	if (run->model->denoiser.class != &sde_denoiser_unet)
		return sde_error_set(run->error, -ENOTSUP,
				     "%s: models with a U-Net (SD 1.x, SD 2.x, SDXL) have "
				     "cross-attention to look into; this one has a %s",
				     what, run->model->denoiser.class->name);
	if (in_the_way(job))
		return sde_error_set(run->error, -EINVAL, "%s does not go with %s", what,
				     in_the_way(job));
	if (job->explain && job->count != 1)
		return sde_error_set(run->error, -EINVAL, "explain is for one picture, not %d",
				     job->count);
	return check_numbers(run);
}

static int pieces_of(struct sde_job_run *run, const char *text, const struct sde_text *cut,
		     struct sde_prompt_pieces *pieces)
{
	const struct sde_words *words = sde_job_words(run);
	const struct sde_prompt_words known =
		words ? sde_words_of(words, 0) : (struct sde_prompt_words){0};

	return sde_prompt_pieces_init(pieces, run->model->towers[0].tokenizer, &known, text,
				      &cut->clip[0], run->error);
}

/* As many bytes of text as the words of one weight take, from piece i on: the pieces they are; 0: they are others. */
static size_t match(const struct sde_prompt_pieces *pieces, size_t i, const char *words)
{
	size_t n = 0;

	for (;;) {
		size_t length;

		words += strspn(words, " \t\n");
		length = strcspn(words, " \t\n");
		if (length == 0)
			return n;
		if (i + n >= pieces->count || strlen(pieces->items[i + n].text) != length ||
		    strncasecmp(pieces->items[i + n].text, words, length) != 0)
			return 0;
		words += length;
		n++;
	}
}

static int check_words(const struct sde_job_run *run)
{
	const struct sde_prompt_pieces *pieces = &run->attention->pieces;

	for (size_t w = 0; w < run->job->n_word_weights; w++) {
		const char *word = run->job->word_weights[w].word;
		bool found = false;

		for (size_t i = 0; i < pieces->count; i++)
			found = found || match(pieces, i, word) > 0;
		if (!found)
			return sde_error_set(run->error, -EINVAL,
					     "word_weights: the prompt has no word '%.100s'", word);
	}
	return 0;
}

static void scale_word(struct sde_job_attention *attention, const struct sde_word_weight *weight)
{
	const struct sde_prompt_pieces *pieces = &attention->pieces;

	for (size_t i = 0; i < pieces->count; i++) {
		const size_t n = match(pieces, i, weight->word);

		for (size_t k = i; k < i + n; k++)
			for (size_t t = 0; t < pieces->items[k].count; t++)
				attention->edit.scales[pieces->rows[pieces->items[k].first + t]] =
					(float)weight->weight;
	}
}

/*
 * A text encoder tells every later token of a word, so that less attention to it alone does not make it go: what is to have none is not
 * read at all.
 */
static void take_word(struct sde_job_run *run, const struct sde_word_weight *weight,
		      struct sde_text *cut)
{
	struct sde_prompt_pieces *pieces = &run->attention->pieces;

	for (size_t i = 0; i < pieces->count;) {
		size_t n = match(pieces, i, weight->word);

		for (; n > 0; n--) {
			for (int k = 0; k < run->model->n_towers; k++)
				sde_prompt_take_out(
					&cut->clip[k], pieces, i,
					sde_clip_tokenizer_pad(run->model->towers[k].tokenizer));
			sde_prompt_pieces_take_out(pieces, i);
		}
		i += match(pieces, i, weight->word) == 0;
	}
}

/* The rows of one side's context that the words are; *found is raised for each that it has. */
static int mark_words(const struct sde_job_run *run, const struct sde_prompt_pieces *pieces,
		      enum sde_blend_side side, bool *found)
{
	struct sde_blend *blend = &run->attention->blend;
	bool *marks = calloc(blend->tokens, sizeof(*marks)), any = false;

	if (!marks)
		return sde_error_set(run->error, -ENOMEM, "no memory for a local blend");
	for (size_t w = 0; w < run->job->n_local_blend; w++)
		for (size_t i = 0; i < pieces->count; i++) {
			const size_t n = match(pieces, i, run->job->local_blend[w]);

			for (size_t k = i; k < i + n; k++)
				for (size_t t = 0; t < pieces->items[k].count; t++)
					marks[pieces->rows[pieces->items[k].first + t]] = true;
			found[w] = found[w] || n > 0;
			any = any || n > 0;
		}
	blend->marks[side] = any ? marks : NULL;
	if (!any)
		free(marks);
	return 0;
}

static int prepare_blend(struct sde_job_run *run)
{
	struct sde_job_attention *attention = run->attention;
	const struct sde_job *job = run->job;
	bool found[SDE_BLEND_WORDS_MAX] = {false};
	int r;

	if (job->n_local_blend == 0)
		return 0;
	if (job->n_local_blend > SDE_BLEND_WORDS_MAX)
		return sde_error_set(run->error, -EINVAL, "local_blend: at most %d words",
				     SDE_BLEND_WORDS_MAX);
	attention->blend.tokens = attention->edit.alignment.rows;
	attention->blend.threshold = job->blend_threshold;
	attention->blend.start = job->blend_start;
	r = mark_words(run, &attention->source_pieces, SDE_BLEND_SOURCE, found);
	if (r >= 0)
		r = mark_words(run, &attention->pieces, SDE_BLEND_EDIT, found);
	for (size_t w = 0; r >= 0 && w < job->n_local_blend; w++)
		if (!found[w])
			r = sde_error_set(run->error, -EINVAL,
					  "local_blend: neither prompt has a word '%.100s'",
					  job->local_blend[w]);
	return r;
}

static int prepare_edit(struct sde_job_run *run, struct sde_text *cut, const char *source_text,
			const struct sde_text *source)
{
	struct sde_job_attention *attention = run->attention;
	const struct sde_job *job = run->job;
	struct sde_edit *edit = &attention->edit;
	int r;

	r = check_words(run);
	for (size_t i = 0; r >= 0 && i < job->n_word_weights; i++)
		if (job->word_weights[i].weight == 0)
			take_word(run, &job->word_weights[i], cut);
	if (r >= 0)
		r = pieces_of(run, source_text, source, &attention->source_pieces);
	if (r >= 0)
		r = sde_alignment_init(&edit->alignment, job->edit, &source->clip[0],
				       &attention->source_pieces, &cut->clip[0], &attention->pieces,
				       run->error);
	if (r < 0)
		return r;
	edit->scales = calloc(edit->alignment.rows, sizeof(*edit->scales));
	if (!edit->scales)
		return sde_error_set(run->error, -ENOMEM, "no memory for an edit");
	for (size_t i = 0; i < edit->alignment.rows; i++)
		edit->scales[i] = 1;
	for (size_t i = 0; i < job->n_word_weights; i++)
		scale_word(attention, &job->word_weights[i]);
	edit->cross_replace = job->cross_replace;
	edit->self_replace = job->self_replace;
	attention->watch.edit = edit;
	return prepare_blend(run);
}

int sde_job_attention_prompts(struct sde_job_run *run, const char *text, struct sde_text *cut,
			      const char *source_text, const struct sde_text *source)
{
	int r;

	run->attention = calloc(1, sizeof(*run->attention));
	if (!run->attention)
		return sde_error_set(run->error, -ENOMEM, "no memory to watch attention");
	r = pieces_of(run, text, cut, &run->attention->pieces);
	return r >= 0 && source ? prepare_edit(run, cut, source_text, source) : r;
}

/* Rows [negative,] edit, source -> [negative, negative,] source, edit. */
static int twin_rows(struct sde_job_run *run, const float *rows, size_t n, bool guidance,
		     float **ret_rows)
{
	static const size_t guided[] = {0, 0, 2, 1}, plain[] = {1, 0};
	const size_t *order = guidance ? guided : plain, count = guidance ? 4 : 2;

	free(*ret_rows);
	*ret_rows = calloc(count * n + 1, sizeof(**ret_rows));
	if (!*ret_rows)
		return sde_error_set(run->error, -ENOMEM, "no memory for prompts");
	for (size_t i = 0; i < count; i++)
		memcpy(*ret_rows + i * n, rows + order[i] * n, n * sizeof(**ret_rows));
	return 0;
}

static int make_twins(struct sde_job_run *run, struct sde_sd_request *request)
{
	struct sde_job_attention *attention = run->attention;
	const bool guidance = sde_sd_uses_guidance(run->model, run->guidance_scale);
	const size_t ids = (size_t)request->n_time_ids, halves = guidance ? 2 : 1;
	int r;

	r = twin_rows(run, request->prompt_embeds,
		      (size_t)request->tokens * (size_t)sde_model_context_width(run->model),
		      guidance, &attention->embeds);
	if (r >= 0)
		r = twin_rows(run, request->pooled, (size_t)sde_model_pooled_width(run->model),
			      guidance, &attention->pooled);
	for (size_t i = 0; i < 2 * halves; i++)
		memcpy(attention->time_ids + i * ids, request->time_ids + i / 2 * ids,
		       ids * sizeof(float));
	attention->rngs[0] = attention->rngs[1] = run->rng;
	attention->noise = (struct sde_noise){.rngs = attention->rngs, .n_rngs = 2};
	request->noise = &attention->noise;
	request->prompt_embeds = attention->embeds;
	request->pooled = attention->pooled;
	request->time_ids = attention->time_ids;
	request->batch = 2;
	request->variants = NULL;
	request->n_variants = 0;
	return r;
}

int sde_job_attention_begin(struct sde_job_run *run, struct sde_sd_request *request)
{
	struct sde_job_attention *attention = run->attention;

	if (request->tile > 0)
		return sde_error_set(run->error, -EINVAL,
				     "a picture that is painted in tiles can be neither edited nor "
				     "explained; make it smaller, or set tiles to off");
	if ((size_t)run->latent_width * (size_t)run->latent_height * (size_t)request->tokens >
	    LOOKS_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "a picture of %d x %d with prompts of %d tokens is too large "
				     "to be edited or explained; make it or them smaller",
				     request->width, request->height, request->tokens);
	if (run->job->explain) {
		sde_maps_clear(&attention->maps);
		attention->maps.width = run->latent_width;
		attention->maps.height = run->latent_height;
		attention->watch.maps = &attention->maps;
	}
	if (run->job->n_local_blend > 0) {
		if (sde_blend_restart(&attention->blend, run->latent_height, run->latent_width) < 0)
			return sde_error_set(run->error, -ENOMEM, "no memory for a local blend");
		attention->watch.blend = &attention->blend;
	}
	request->watch = &attention->watch;
	return sde_job_is_edit(run->job) ? make_twins(run, request) : 0;
}

/* A word's map is the sum of its tokens': shares of all add up. token: room for one of them. */
static int explain_word(struct sde_job_run *run, const struct sde_prompt_piece *piece, float *token)
{
	const struct sde_job_attention *attention = run->attention;
	const size_t pixels = (size_t)run->latent_width * (size_t)run->latent_height;
	struct sde_word_map word = {.word = strndup(piece->text, WORD_MAX),
				    .tokens = (int)piece->count};
	float *map = (float *)sde_image_row(
		&run->result.maps, (uint32_t)run->result.n_words * (uint32_t)run->latent_height);

	if (!word.word)
		return sde_error_set(run->error, -ENOMEM, "no memory for the words of a prompt");
	for (size_t t = 0; t < piece->count; t++) {
		sde_maps_token(&attention->maps, (size_t)attention->pieces.rows[piece->first + t],
			       token);
		for (size_t i = 0; i < pixels; i++)
			map[i] += token[i];
	}
	for (size_t i = 0; i < pixels; i++) {
		word.share += map[i] / (double)pixels;
		word.peak = fmax(word.peak, map[i]);
	}
	/* a broken network's numbers are none, and no answer may hold such */
	if (!isfinite(word.share))
		word.share = word.peak = 0;
	run->result.words[run->result.n_words++] = word;
	return 0;
}

int sde_job_attention_end(struct sde_job_run *run)
{
	const struct sde_prompt_pieces *pieces = &run->attention->pieces;
	const size_t pixels = (size_t)run->latent_width * (size_t)run->latent_height;
	uint32_t n = 0;
	float *token;
	int r = 0;

	if (!run->job->explain)
		return 0;
	for (size_t i = 0; i < pieces->count; i++)
		n += pieces->items[i].word && n < SDE_WORD_MAPS_MAX;
	if (n == 0)
		return 0;
	token = calloc(pixels, sizeof(*token));
	run->result.words = calloc(n, sizeof(*run->result.words));
	if (!token || !run->result.words)
		r = sde_error_set(run->error, -ENOMEM, "no memory for maps of %u words", n);
	if (r >= 0)
		r = sde_image_new((uint32_t)run->latent_width, n * (uint32_t)run->latent_height, 1,
				  SDE_PIXEL_F32, &run->result.maps, run->error);
	for (size_t i = 0; r >= 0 && i < pieces->count && (uint32_t)run->result.n_words < n; i++)
		if (pieces->items[i].word)
			r = explain_word(run, &pieces->items[i], token);
	free(token);
	return r;
}

void sde_job_attention_clear(struct sde_job_run *run)
{
	struct sde_job_attention *attention = run->attention;

	if (!attention)
		return;
	sde_prompt_pieces_clear(&attention->pieces);
	sde_prompt_pieces_clear(&attention->source_pieces);
	sde_edit_clear(&attention->edit);
	sde_maps_clear(&attention->maps);
	sde_blend_clear(&attention->blend);
	sde_watch_clear(&attention->watch);
	free(attention->embeds);
	free(attention->pooled);
	free(attention);
	run->attention = NULL;
}
