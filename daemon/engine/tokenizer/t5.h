/*
 * T5's tokenizer as the tokenizers library runs it: special tokens cut out, the precompiled normaliser, words at white space
 * with U+2581 in front, each cut by a unigram model. From tokenizer.json, or from SentencePiece's own spiece.model.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/tokenizer/ids.h"

#define SDE_T5_TEXT_MAX (1u << 20) /* bytes of one text */

struct sde_t5_tokenizer;

/* Load a tokenizer folder. Errors name the file; -ENOTSUP for a pipeline of other steps than T5's. */
int sde_t5_tokenizer_load(const char *folder, struct sde_t5_tokenizer **ret_tokenizer,
			  struct sde_error *error);
/* The same from the content of a tokenizer.json or of a spiece.model, told apart by the first byte. */
int sde_t5_tokenizer_new(const char *data, size_t size, const char *name,
			 struct sde_t5_tokenizer **ret_tokenizer, struct sde_error *error);
/* From a file of either kind; and T5's own 32,100 pieces, which are part of the program. */
int sde_t5_tokenizer_open(const char *path, struct sde_t5_tokenizer **ret_tokenizer,
			  struct sde_error *error);
int sde_t5_tokenizer_builtin(struct sde_t5_tokenizer **ret_tokenizer, struct sde_error *error);
struct sde_t5_tokenizer *sde_t5_tokenizer_free(struct sde_t5_tokenizer *tokenizer);

int32_t sde_t5_tokenizer_eos(const struct sde_t5_tokenizer *tokenizer); /* </s> */
int32_t sde_t5_tokenizer_pad(const struct sde_t5_tokenizer *tokenizer);
int32_t sde_t5_tokenizer_unknown(const struct sde_t5_tokenizer *tokenizer);
int32_t sde_t5_tokenizer_vocab_size(const struct sde_t5_tokenizer *tokenizer);

/*
 * Append the ids of a UTF-8 text of length bytes, without </s> and uncut, to *ids. -EILSEQ if it is not UTF-8, -E2BIG above
 * SDE_T5_TEXT_MAX; *ids may then hold a part.
 */
int sde_t5_tokenizer_encode(const struct sde_t5_tokenizer *tokenizer, const char *text,
			    size_t length, struct sde_ids *ids, struct sde_error *error);

/* ids as a text encoder of n >= 1 tokens takes them: at most n - 1 of them, </s>, padding. */
void sde_t5_tokenizer_fit(const struct sde_t5_tokenizer *tokenizer, const int32_t *ids,
			  size_t count, size_t n, int32_t *ret_ids);

/*
 * What a text encoder of n tokens runs on: at most n - 1 tokens of the text, </s>, padding. *ret_tokens (may be NULL): tokens
 * of the whole text without </s>, so that a caller can say how many were cut.
 */
int sde_t5_tokenizer_row(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
			 size_t n, int32_t *ret_ids, size_t *ret_tokens, struct sde_error *error);
