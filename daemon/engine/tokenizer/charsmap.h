/*
 * SentencePiece's precompiled normaliser (nmt_nfkc of T5): a double-array trie from character sequences to replacements.
 * Applied as the tokenizers library does it, grapheme by grapheme, since its ids are the ones models were trained to see.
 * Source: Kudo and Richardson 2018; the array's layout is darts-clone's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"

struct sde_charsmap;

/* data: u32 bytes of the trie, its little-endian u32 units, NUL-terminated replacements. Copied. -EBADMSG names origin. */
int sde_charsmap_new(const uint8_t *data, size_t size, const char *origin,
		     struct sde_charsmap **ret_map, struct sde_error *error);
struct sde_charsmap *sde_charsmap_free(struct sde_charsmap *map);

/* text must be UTF-8. *ret_text is malloc()ed, *ret_length bytes, NUL-terminated behind. 0 or -ENOMEM. */
int sde_charsmap_apply(const struct sde_charsmap *map, const char *text, size_t length,
		       char **ret_text, size_t *ret_length);
