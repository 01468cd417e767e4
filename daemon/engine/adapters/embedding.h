/*
 * Textual inversion (Gal et al. 2022): a word of the prompt that stands for vectors learnt in place of tokens. Files of
 * AUTOMATIC1111 ("emb_params"), of diffusers (a tensor called like the word, "<tok>") and of SDXL ("clip_l" and "clip_g").
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/error.h"

#define SDE_EMBEDDING_TOWERS_MAX  2
#define SDE_EMBEDDING_VECTORS_MAX 75 /* of one word: as many as fit a chunk */

struct sde_embedding {
	char *name;  /* what prompts call it: the file's */
	char *token; /* what the file itself calls it ("<tok>"), or NULL */
	int count;   /* vectors, each a token */
	float *vectors[SDE_EMBEDDING_TOWERS_MAX]; /* for each text encoder (count, its width) */
};

/*
 * widths: hidden sizes of the model's text encoders. -EBADMSG for a file of another form (a pickle is refused, and says so),
 * -EINVAL when its vectors fit other text encoders; messages begin "embedding NAME".
 */
int sde_embedding_open(const char *path, const char *name, const int *widths, int n_towers,
		       struct sde_embedding *ret_embedding, struct sde_error *error);
void sde_embedding_clear(struct sde_embedding *embedding);
