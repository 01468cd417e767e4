/*
 * The learnt words (textual inversion) of a job's prompts, numbered behind each text encoder's vocabulary, ready for the cutting
 * into chunks and for the encoders.
 */
#pragma once

#include "daemon/engine/adapters/embedding.h"
#include "daemon/engine/adapters/find.h"
#include "daemon/engine/prompt/prompt.h"

struct sde_model;

#define SDE_WORDS_MAX 64 /* embeddings of one job */

struct sde_words {
	struct sde_embedding embeddings[SDE_WORDS_MAX];
	size_t n_embeddings;
	struct sde_prompt_word words[SDE_EMBEDDING_TOWERS_MAX][2 * SDE_WORDS_MAX];
	size_t n_words; /* of each tower: an embedding has a name and may have a token */
	float *rows[SDE_EMBEDDING_TOWERS_MAX];
	size_t n_rows;
};

/* Add one file's word under a name. -EINVAL when the model takes no such words or there are too many, else as sde_embedding_open. */
int sde_words_add(struct sde_words *words, const struct sde_model *model, const char *path,
		  const char *name, struct sde_error *error);
/* Add those of embeddings/ that the texts name. */
int sde_words_find(struct sde_words *words, const struct sde_model *model,
		   const struct sde_adapter_roots *roots, const char *const *texts, size_t n_texts,
		   struct sde_error *error);
/* What sde_prompt_weighted wants for tower; borrows. */
struct sde_prompt_words sde_words_of(const struct sde_words *words, int tower);
/* Let a cut prompt of tower know the vectors; borrows. */
void sde_words_attach(const struct sde_words *words, int tower, struct sde_prompt *prompt);
void sde_words_clear(struct sde_words *words);
