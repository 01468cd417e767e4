/*
 * What a denoiser is told besides the latents: the context it attends to, and for SDXL the pooled text and the sizes of the
 * picture ("micro-conditioning", Podell et al. 2023). The text encoders of a model give the context side by side.
 */
#pragma once

#include "daemon/engine/model.h"
#include "daemon/engine/prompt/prompt.h"
#include "daemon/engine/prompt/t5-prompt.h"

struct sde_words;

#define SDE_TEXTS_MAX (SDE_TOWERS_MAX + 1)

/* A prompt as the text encoders of a model read it. Zero-initialise; release with sde_text_clear. */
struct sde_text {
	struct sde_prompt clip[SDE_TOWERS_MAX]; /* those that the model has */
	struct sde_t5_prompt t5; /* families with a T5, also where the model lacks it */
};

/*
 * texts: UTF-8, one for each CLIP encoder and then T5's, which may be the same. weighted: with the syntax of prompt.h, else without
 * any. words: learnt ones that the CLIP encoders know besides, only when weighted; borrowed by the text, NULL: none. t5_tokens 0: the family's. Errors as of sde_prompt_weighted; *ret_text is empty on failure.
 */
int sde_text_cut(const struct sde_model *model, const char *const *texts, bool weighted,
		 const struct sde_words *words, int t5_tokens, struct sde_text *ret_text,
		 struct sde_error *error);
void sde_text_clear(struct sde_text *text);
/* Give several texts equally many chunks: what guidance compares must be of one length. */
int sde_texts_even_out(const struct sde_model *model, struct sde_text *texts, size_t n,
		       struct sde_error *error);

/* Rows of the context that a text makes, its channels, and those of the pooled text (0: the denoiser takes none). */
size_t sde_model_context_rows(const struct sde_model *model, const struct sde_text *text);
int sde_model_context_width(const struct sde_model *model);
int sde_model_pooled_width(const struct sde_model *model);

/*
 * ret_embeds: (context rows, context width); ret_pooled: (pooled width), of the first chunk, not touched when there is none.
 * clip_skip as in diffusers: 0 is the layer the model was trained on; SDXL and SD3 take the state before the last layer without
 * the final norm. Where a family's T5 is missing, its rows are zeros.
 */
int sde_model_embed(struct sde_model *model, const struct sde_text *text, int clip_skip,
		    float *ret_embeds, float *ret_pooled, struct sde_error *error);

#define SDE_TIME_IDS_MAX 6

/* What SDXL is told of a picture; sizes are {height, width}, the crop {top, left}, pixels. */
struct sde_picture_terms {
	double original[2], crop[2], target[2];
	double aesthetic; /* the refiner's score, in place of target */
};

/* Fill the "time ids" of a picture: returns their number, 6, 5 for a refiner, 0 when the denoiser takes none. */
int sde_model_time_ids(const struct sde_model *model, const struct sde_picture_terms *terms,
		       float *ret_ids);
