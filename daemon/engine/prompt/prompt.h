/*
 * Prompts as artists write them: `(word:1.3)`, `((word))`, `[word]`, `\(`, BREAK, and any length. The syntax and the cutting into
 * chunks of 75 tokens are those of AUTOMATIC1111's web UI, so that prompts copied from there mean the same. Nothing is ever cut
 * off: a longer prompt has more chunks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/tokenizer/clip.h"

#define SDE_PROMPT_CHUNK     75 /* tokens of a chunk ... */
#define SDE_PROMPT_LENGTH    77 /* ... between start and end token */
#define SDE_PROMPT_BACKTRACK 20 /* tokens: how far back a comma may be to break a chunk there */
#define SDE_PROMPT_BREAK     (-1.0)

struct sde_prompt_segment {
	char *text; /* owned; "BREAK" with weight SDE_PROMPT_BREAK is the break marker */
	size_t length;
	double weight;
};

struct sde_prompt_segments {
	struct sde_prompt_segment *items; /* at least one */
	size_t count, room;
};

/*
 * Parse weights and breaks. -EINVAL for a weight that is no number ("(a:1.1.1)"), naming it; -EILSEQ if not UTF-8.
 */
int sde_prompt_parse(const char *text, size_t length, struct sde_prompt_segments *ret_segments,
		     struct sde_error *error);
void sde_prompt_segments_clear(struct sde_prompt_segments *segments);

/* "1.3" to a number whatever the locale; false for "1.1.1" and ".". */
bool sde_prompt_number(const char *text, size_t length, double *ret_number);

struct sde_prompt_chunk {
	int32_t ids[SDE_PROMPT_LENGTH];	  /* start, tokens, end, padding */
	float weights[SDE_PROMPT_LENGTH]; /* 1 for start, end and padding */
	int tokens;			  /* 0..75; ids[tokens + 1] is the end token */
};

/* What a text encoder runs on: each chunk on its own, the results joined along the tokens. */
struct sde_prompt {
	struct sde_prompt_chunk *chunks; /* at least one */
	size_t count;
	size_t tokens; /* of the text, without start, end and padding: all of them are in the chunks */
	const float *
		added; /* vectors of ids beyond the vocabulary (n_added, width of the text encoder); borrowed */
	size_t n_added;
};

/* A word that stands for tokens of its own (textual inversion), found in any case where letters, digits and _ end. */
struct sde_prompt_word {
	const char *word;
	int32_t first_id; /* it takes first_id, first_id + 1, ... */
	int count;	  /* ids */
};

struct sde_prompt_words {
	const struct sde_prompt_word *items; /* longer words first */
	size_t count;
};

/*
 * With weights and BREAK; chunks break behind a comma within the last 20 tokens if there is one. pad: id behind the end. words: NULL
 * for none; a word's ids stay in one chunk.
 */
int sde_prompt_weighted(const struct sde_clip_tokenizer *tokenizer, int32_t pad,
			const struct sde_prompt_words *words, const char *text, size_t length,
			struct sde_prompt *ret_prompt, struct sde_error *error);

/* Without any syntax: all weights 1, a new chunk every 75 tokens. */
int sde_prompt_plain(const struct sde_clip_tokenizer *tokenizer, int32_t pad, const char *text,
		     size_t length, struct sde_prompt *ret_prompt, struct sde_error *error);

/*
 * The ids alone of a text without syntax, learnt words (NULL: none) among it, behind those in *ids: what sde_prompt_weighted puts into
 * chunks for such a part of a prompt. Errors as there; *ids may then hold a part.
 */
int sde_prompt_ids(const struct sde_clip_tokenizer *tokenizer, const struct sde_prompt_words *words,
		   const char *text, size_t length, struct sde_ids *ids, struct sde_error *error);

/* Add chunks without tokens until there are count: the two prompts of guidance must have equally many. 0 or -ENOMEM. */
int sde_prompt_extend(struct sde_prompt *prompt, const struct sde_clip_tokenizer *tokenizer,
		      int32_t pad, size_t count, struct sde_error *error);

void sde_prompt_clear(struct sde_prompt *prompt);
