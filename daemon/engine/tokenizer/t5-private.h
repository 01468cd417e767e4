/*
 * What T5's tokenizer is made of, and the two readers that fill it.
 */
#pragma once

#include "daemon/engine/tokenizer/charsmap.h"
#include "daemon/engine/tokenizer/t5.h"
#include "daemon/engine/tokenizer/unigram.h"

/* A token that is found wherever it is typed, before anything else. */
struct sde_t5_special {
	char *text; /* owned, no NUL behind */
	size_t length;
	int32_t id;
};

struct sde_t5_tokenizer {
	struct sde_unigram unigram;
	struct sde_charsmap *charsmap; /* NULL: texts stay as they are */
	struct sde_t5_special *specials;
	size_t n_specials;
	int32_t eos, pad;
};

/* text: length >= 1 bytes, copied. 0 or -ENOMEM. */
int sde_t5_add_special(struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
		       int32_t id);

/* Into an empty tokenizer; on failure the caller frees it. name is for messages. */
int sde_t5_read_json(struct sde_t5_tokenizer *tokenizer, const char *data, size_t size,
		     const char *name, struct sde_error *error);
int sde_t5_read_sentencepiece(struct sde_t5_tokenizer *tokenizer, const uint8_t *data, size_t size,
			      const char *name, struct sde_error *error);
