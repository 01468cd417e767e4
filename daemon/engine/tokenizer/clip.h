/*
 * CLIP's byte-pair tokenizer as transformers' "fast" one does it: Unicode NFC, white space to single blanks, lower case one
 * character at a time, pieces by a regular expression, bytes to symbols, merges by rank. Texts of other programs give the
 * same ids; no ftfy, no HTML unescaping. Source: Radford et al. 2021 (CLIP), Sennrich et al. 2016 (BPE).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/tokenizer/ids.h"

#define SDE_CLIP_TEXT_MAX (1u << 20) /* bytes of one text */

struct sde_clip_tokenizer;

/*
 * Load a tokenizer folder: vocab.json, merges.txt and, for the padding token, tokenizer_config.json or special_tokens_map.json if
 * there. The files may come from strangers: errors name the file, and for merges.txt the line.
 */
int sde_clip_tokenizer_load(const char *folder, struct sde_clip_tokenizer **ret_tokenizer,
			    struct sde_error *error);

/* The same from memory; the names are for messages. Padding token: end of text. */
int sde_clip_tokenizer_new(const char *vocab, size_t vocab_size, const char *vocab_name,
			   const char *merges, size_t merges_size, const char *merges_name,
			   struct sde_clip_tokenizer **ret_tokenizer, struct sde_error *error);
/* The vocabulary of all published CLIP models (49408 tokens), which is part of the program. Padding token: end of text. */
int sde_clip_tokenizer_builtin(struct sde_clip_tokenizer **ret_tokenizer, struct sde_error *error);
struct sde_clip_tokenizer *sde_clip_tokenizer_free(struct sde_clip_tokenizer *tokenizer);

/* Ids of <|startoftext|>, <|endoftext|>, of the padding token, of a lone comma (-1 if there is none), and their number. */
int32_t sde_clip_tokenizer_bos(const struct sde_clip_tokenizer *tokenizer);
int32_t sde_clip_tokenizer_eos(const struct sde_clip_tokenizer *tokenizer);
int32_t sde_clip_tokenizer_pad(const struct sde_clip_tokenizer *tokenizer);
int32_t sde_clip_tokenizer_comma(const struct sde_clip_tokenizer *tokenizer);
int32_t sde_clip_tokenizer_vocab_size(const struct sde_clip_tokenizer *tokenizer);

/*
 * Use another padding token than the folder says: the end token, or one of a single ASCII character ("!" of SD 2 and of SDXL's
 * second encoder). As a special token it is also found where it is typed in a text. -EINVAL for any other id.
 */
int sde_clip_tokenizer_set_pad(struct sde_clip_tokenizer *tokenizer, int32_t id);

/*
 * Append the ids of a UTF-8 text of length bytes (U+0000 allowed), without start and end tokens and uncut, to *ids. -EILSEQ if
 * it is not UTF-8, -E2BIG above SDE_CLIP_TEXT_MAX; *ids may then hold a part.
 */
int sde_clip_tokenizer_encode(const struct sde_clip_tokenizer *tokenizer, const char *text,
			      size_t length, struct sde_ids *ids, struct sde_error *error);

static inline void sde_clip_tokenizer_freep(struct sde_clip_tokenizer **tokenizer)
{
	sde_clip_tokenizer_free(*tokenizer);
}
