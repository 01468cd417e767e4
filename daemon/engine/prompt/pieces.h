/*
 * Which rows of the context each word of a prompt became: what cross-attention maps are named by and what two prompts are
 * compared by. A piece is what stands between blanks, with the punctuation around it as pieces of their own: (red:1.3) house, is red, house
 * and a comma. A word may be many tokens, of one chunk or two.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/prompt/prompt.h"

struct sde_prompt_piece {
	char *text;	     /* owned; as it was typed, without syntax */
	bool word;	     /* it has a letter or a digit */
	size_t first, count; /* its tokens */
};

/* Zero-initialise; release with sde_prompt_pieces_clear. */
struct sde_prompt_pieces {
	struct sde_prompt_piece *items;
	size_t count, room;
	int32_t *ids; /* owned: of each token of the text, in its order */
	int *rows; /* owned: where it stands in the context: chunk * SDE_PROMPT_LENGTH + position */
	size_t n_tokens;
};

/*
 * Of text as sde_prompt_weighted has cut it into prompt, with the same words. -ENOTSUP for a prompt with a learnt word that has
 * blanks in its name; -ENOMEM. *pieces is empty on failure.
 */
int sde_prompt_pieces_init(struct sde_prompt_pieces *pieces,
			   const struct sde_clip_tokenizer *tokenizer,
			   const struct sde_prompt_words *words, const char *text,
			   const struct sde_prompt *prompt, struct sde_error *error);
void sde_prompt_pieces_clear(struct sde_prompt_pieces *pieces);

/*
 * Take piece i out of a prompt as a text encoder reads it (any of those that read the same text; its chunk is filled up with pad), and
 * out of the pieces, once that was done for all encoders.
 */
void sde_prompt_take_out(struct sde_prompt *prompt, const struct sde_prompt_pieces *pieces,
			 size_t i, int32_t pad);
void sde_prompt_pieces_take_out(struct sde_prompt_pieces *pieces, size_t i);

/* Whether two pieces are the same tokens. */
bool sde_prompt_pieces_equal(const struct sde_prompt_pieces *a, size_t i,
			     const struct sde_prompt_pieces *b, size_t k);
