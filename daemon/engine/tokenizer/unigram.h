/*
 * A unigram vocabulary (Kudo 2018): pieces with log probabilities, and the most probable way to cut a word into them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/tokenizer/ids.h"

#define SDE_UNIGRAM_PIECES_MAX (1 << 20)

struct sde_unigram_piece {
	char *text; /* owned by the vocabulary, NUL-terminated */
	size_t length;
	double score;
};

struct sde_unigram {
	struct sde_unigram_piece *pieces; /* by id */
	int32_t count, room;
	int32_t unknown; /* id given to what no piece covers */
	int32_t *sorted; /* ids in order of their bytes */
	double unknown_score;
};

/* Append a piece; its id is the count before. Text is copied. 0, -ENOMEM, -E2BIG above SDE_UNIGRAM_PIECES_MAX. */
int sde_unigram_add(struct sde_unigram *unigram, const char *text, size_t length, double score);
/* After the last piece. -EBADMSG when unknown is no id. */
int sde_unigram_finish(struct sde_unigram *unigram, int32_t unknown);
void sde_unigram_clear(struct sde_unigram *unigram);

/* The id of exactly this piece, -1 if there is none. */
int32_t sde_unigram_find(const struct sde_unigram *unigram, const char *text, size_t length);

/*
 * Append the ids of a word (UTF-8, not empty): the cut with the highest sum of scores; of equal ones the first found from the
 * left. A character without a piece costs 10 more than the rarest piece; neighbours of that kind become one unknown id.
 */
int sde_unigram_encode(const struct sde_unigram *unigram, const char *word, size_t length,
		       struct sde_ids *ids);
