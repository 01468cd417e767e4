/*
 * Conditioning from text encoders side by side; see conditioning.h.
 */
#include "daemon/engine/pipelines/conditioning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/adapters/words.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pipelines/prompt-embed.h"

static int cut_clip(const struct sde_model *model, int i, const char *text, bool weighted,
		    const struct sde_words *words, struct sde_prompt *ret_prompt,
		    struct sde_error *error)
{
	const struct sde_clip_tokenizer *tokenizer = model->towers[i].tokenizer;
	const int32_t pad = sde_clip_tokenizer_pad(tokenizer);
	struct sde_prompt_words known = {0};
	int r;

	if (!weighted)
		return sde_prompt_plain(tokenizer, pad, text, strlen(text), ret_prompt, error);
	if (words)
		known = sde_words_of(words, i);
	r = sde_prompt_weighted(tokenizer, pad, &known, text, strlen(text), ret_prompt, error);
	if (r >= 0 && words)
		sde_words_attach(words, i, ret_prompt);
	return r;
}

/* Without its T5 a model still keeps the rows free. */
static int cut_t5(const struct sde_model *model, const char *text, bool weighted, int tokens,
		  struct sde_t5_prompt *ret_prompt, struct sde_error *error)
{
	if (!model->t5.tokenizer) {
		ret_prompt->length = tokens;
		return 0;
	}
	return sde_t5_prompt_cut(model->t5.tokenizer, text, strlen(text), weighted, tokens,
				 ret_prompt, error);
}

int sde_text_cut(const struct sde_model *model, const char *const *texts, bool weighted,
		 const struct sde_words *words, int t5_tokens, struct sde_text *ret_text,
		 struct sde_error *error)
{
	struct sde_text text = {0};
	int r = 0;

	for (int i = 0; r >= 0 && i < model->n_towers; i++)
		r = cut_clip(model, i, texts[i], weighted, words, &text.clip[i], error);
	if (r >= 0 && model->family->t5)
		r = cut_t5(model, texts[model->n_towers], weighted,
			   t5_tokens > 0 ? t5_tokens : model->family->t5_tokens, &text.t5, error);
	if (r < 0) {
		sde_text_clear(&text);
		return r;
	}
	*ret_text = text;
	return 0;
}

void sde_text_clear(struct sde_text *text)
{
	for (int i = 0; i < SDE_TOWERS_MAX; i++)
		sde_prompt_clear(&text->clip[i]);
	sde_t5_prompt_clear(&text->t5);
}

int sde_texts_even_out(const struct sde_model *model, struct sde_text *texts, size_t n,
		       struct sde_error *error)
{
	size_t chunks = 0;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < model->n_towers; k++)
			if (texts[i].clip[k].count > chunks)
				chunks = texts[i].clip[k].count;
	for (size_t i = 0; i < n; i++)
		for (int k = 0; r >= 0 && k < model->n_towers; k++) {
			const struct sde_clip_tokenizer *tokenizer = model->towers[k].tokenizer;

			r = sde_prompt_extend(&texts[i].clip[k], tokenizer,
					      sde_clip_tokenizer_pad(tokenizer), chunks, error);
		}
	return r;
}

size_t sde_model_context_rows(const struct sde_model *model, const struct sde_text *text)
{
	const size_t clip = text->clip[0].count * SDE_PROMPT_LENGTH;

	if (!model->family->t5)
		return clip;
	return (size_t)text->t5.length + (model->family->t5_alone ? 0 : clip);
}

/* Channels of the CLIP states side by side. */
static int clip_width(const struct sde_model *model)
{
	int width = 0;

	for (int i = 0; i < model->n_towers; i++)
		width += model->towers[i].clip.config.hidden_size;
	return width;
}

int sde_model_context_width(const struct sde_model *model)
{
	return model->family->t5 ? model->denoiser.context_width : clip_width(model);
}

/* Channels that tower i adds to the pooled text. */
static int pooled_of(const struct sde_model *model, int i)
{
	const struct sde_clip *clip = &model->towers[i].clip;

	if (model->family->pooled == SDE_POOLED_NONE ||
	    (model->family->pooled == SDE_POOLED_LAST && i + 1 < model->n_towers))
		return 0;
	return clip->text_projection.weight.data ? clip->config.projection_dim
						 : clip->config.hidden_size;
}

int sde_model_pooled_width(const struct sde_model *model)
{
	int width = 0;

	for (int i = 0; i < model->n_towers; i++)
		width += pooled_of(model, i);
	return width;
}

/* The CLIP encoders' states side by side into rows of `width`, what is left of them staying as it is. */
static int embed_clip(struct sde_model *model, const struct sde_text *text, int clip_skip,
		      size_t width, float *ret_embeds, float *ret_pooled, struct sde_error *error)
{
	const struct sde_family *family = model->family;
	const struct sde_clip_wanted wanted = {clip_skip + (family->penultimate ? 2 : 1),
					       !family->penultimate};
	const size_t rows = text->clip[0].count * SDE_PROMPT_LENGTH;
	_cleanup_free_ float *own = calloc(rows, width * sizeof(float));
	size_t at = 0;

	if (!own)
		return sde_error_set(error, -ENOMEM, "no memory for %zu prompt chunks",
				     text->clip[0].count);
	for (int i = 0; i < model->n_towers; i++) {
		const struct sde_clip *clip = sde_model_clip(model, i);
		const size_t part = (size_t)clip->config.hidden_size;
		const int pooled = pooled_of(model, i);
		int r;

		r = sde_prompt_embed(model->runner, clip, &text->clip[i], &wanted,
				     ret_embeds ? own : NULL, pooled > 0 ? ret_pooled : NULL,
				     error);
		if (r < 0)
			return r;
		if (ret_pooled)
			ret_pooled += pooled;
		for (size_t row = 0; ret_embeds && row < rows; row++)
			memcpy(ret_embeds + row * width + at, own + row * part,
			       part * sizeof(float));
		at += part;
	}
	return 0;
}

static int embed_t5(struct sde_model *model, const struct sde_t5_prompt *prompt, size_t width,
		    float *ret_embeds, struct sde_error *error)
{
	const size_t rows = (size_t)prompt->length;
	int r;

	if (!model->t5.tokenizer) {
		memset(ret_embeds, 0, rows * width * sizeof(float));
		return 0;
	}
	r = sde_t5_forward(model->runner, &model->t5.t5, prompt->ids, 1, prompt->length,
			   prompt->length, ret_embeds, error);
	if (r >= 0)
		sde_prompt_weigh(ret_embeds, prompt->weights, rows, width);
	return r;
}

int sde_model_embed(struct sde_model *model, const struct sde_text *text, int clip_skip,
		    float *ret_embeds, float *ret_pooled, struct sde_error *error)
{
	const size_t width = (size_t)sde_model_context_width(model);
	const size_t rows = sde_model_context_rows(model, text);
	const size_t t5_rows = model->family->t5 ? (size_t)text->t5.length : 0;
	int r;

	memset(ret_embeds, 0, (rows - t5_rows) * width * sizeof(float));
	r = embed_clip(model, text, clip_skip, width, model->family->t5_alone ? NULL : ret_embeds,
		       ret_pooled, error);
	if (r >= 0 && t5_rows > 0)
		r = embed_t5(model, &text->t5, width, ret_embeds + (rows - t5_rows) * width, error);
	return r;
}

int sde_model_time_ids(const struct sde_model *model, const struct sde_picture_terms *terms,
		       float *ret_ids)
{
	if (!sde_model_is_sdxl(model))
		return 0;
	for (int i = 0; i < 2; i++) {
		ret_ids[i] = (float)terms->original[i];
		ret_ids[2 + i] = (float)terms->crop[i];
	}
	if (model->aesthetic) {
		ret_ids[4] = (float)terms->aesthetic;
		return 5;
	}
	ret_ids[4] = (float)terms->target[0];
	ret_ids[5] = (float)terms->target[1];
	return 6;
}
