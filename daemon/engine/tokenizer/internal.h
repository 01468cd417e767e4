/*
 * Parts of the tokenizers: CLIP's normaliser (text to normal form) and merge engine (bytes of a piece to ids), and what is
 * shared.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/tokenizer/clip.h"

/*
 * NFC, runs of Unicode White_Space to one blank, full lower-case mapping character by character without final-sigma rule.
 * *ret_text is malloc()ed, *ret_length bytes of valid UTF-8. -EILSEQ names the offset of the first invalid byte.
 */
int sde_normalize_text(const char *text, size_t length, char **ret_text, size_t *ret_length,
		       struct sde_error *error);

/*
 * GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 onwards in order. Writes 1 or 2 bytes of UTF-8 without
 * terminator and returns how many.
 */
size_t sde_clip_byte_symbol(int byte, char *out);

/* sde_clip_tokenizer_new with the vocabulary as a JSON object (borrowed). */
int sde_clip_tokenizer_from_vocab(json_t *vocab, const char *vocab_name, const char *merges,
				  size_t merges_size, const char *merges_name,
				  struct sde_clip_tokenizer **ret_tokenizer,
				  struct sde_error *error);

/* Unicode property White_Space. */
bool sde_is_white_space(int32_t c);
/* -EILSEQ names the offset of the first byte that is not UTF-8. */
int sde_check_utf8(const char *text, size_t length, struct sde_error *error);

/* Pairs of symbols that merge into one, by rank. */
struct sde_merges;
struct sde_merge {
	int32_t rank; /* lower goes first */
	int32_t id;   /* symbol it becomes */
};

/* A table for at most `most` pairs; NULL without memory. */
struct sde_merges *sde_merges_new(size_t most);
struct sde_merges *sde_merges_free(struct sde_merges *merges);
/* False if the pair is there already. */
bool sde_merges_add(struct sde_merges *merges, int32_t left, int32_t right, struct sde_merge merge);
/* NULL if the pair does not merge. */
const struct sde_merge *sde_merges_find(const struct sde_merges *merges, int32_t left,
					int32_t right);

/* Merge n >= 1 symbols until no pair is left, in O(n log n); append what remains. 0 or -ENOMEM. */
int sde_merges_apply(const struct sde_merges *merges, const int32_t *symbols, size_t n,
		     struct sde_ids *ids);
