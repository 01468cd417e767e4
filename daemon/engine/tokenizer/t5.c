/*
 * From text to ids: see t5.h. The readers of the two file formats are in t5-json.c and t5-sentencepiece.c.
 */
#include "daemon/engine/tokenizer/t5.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/tokenizer/internal.h"
#include "daemon/engine/tokenizer/t5-private.h"

#define MARK	    "\xe2\x96\x81" /* U+2581 stands for the blank before a word */
#define MARK_LENGTH 3

int sde_t5_add_special(struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
		       int32_t id)
{
	struct sde_t5_special *larger =
		reallocarray(tokenizer->specials, tokenizer->n_specials + 1, sizeof(*larger));

	if (!larger)
		return -ENOMEM;
	tokenizer->specials = larger;
	larger += tokenizer->n_specials;
	larger->text = malloc(length);
	if (!larger->text)
		return -ENOMEM;
	memcpy(larger->text, text, length);
	larger->length = length;
	larger->id = id;
	tokenizer->n_specials++;
	return 0;
}

int sde_t5_tokenizer_new(const char *data, size_t size, const char *name,
			 struct sde_t5_tokenizer **ret_tokenizer, struct sde_error *error)
{
	struct sde_t5_tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));
	int r;

	if (!tokenizer)
		return sde_error_set(error, -ENOMEM, "%s: no memory", name);
	r = size > 0 && data[0] == '{' ? sde_t5_read_json(tokenizer, data, size, name, error)
				       : sde_t5_read_sentencepiece(tokenizer, (const uint8_t *)data,
								   size, name, error);
	/* texts are cut at them: one of half a character would leave halves */
	for (size_t i = 0; r >= 0 && i < tokenizer->n_specials; i++)
		if (sde_check_utf8(tokenizer->specials[i].text, tokenizer->specials[i].length,
				   NULL) < 0)
			r = sde_error_set(error, -EBADMSG, "%s: a special token is not UTF-8",
					  name);
	if (r >= 0) {
		tokenizer->eos = sde_unigram_find(&tokenizer->unigram, "</s>", 4);
		tokenizer->pad = sde_unigram_find(&tokenizer->unigram, "<pad>", 5);
		if (tokenizer->eos < 0 || tokenizer->pad < 0)
			r = sde_error_set(error, -EBADMSG,
					  "%s: the vocabulary has no </s> or no <pad>", name);
	}
	if (r < 0) {
		sde_t5_tokenizer_free(tokenizer);
		return r;
	}
	*ret_tokenizer = tokenizer;
	return 0;
}

int sde_t5_tokenizer_open(const char *path, struct sde_t5_tokenizer **ret_tokenizer,
			  struct sde_error *error)
{
	_cleanup_free_ char *data = NULL;
	size_t size;
	int r;

	r = sde_file_read(path, SDE_JSON_INDEX_MAX, &data, &size, error);
	return r < 0 ? r : sde_t5_tokenizer_new(data, size, path, ret_tokenizer, error);
}

int sde_t5_tokenizer_load(const char *folder, struct sde_t5_tokenizer **ret_tokenizer,
			  struct sde_error *error)
{
	static const char *const files[] = {"tokenizer.json", "spiece.model"};
	int r = -ENOENT;

	for (size_t i = 0; r == -ENOENT && i < sizeof(files) / sizeof(files[0]); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", folder, files[i]) < 0) {
			path = NULL;
			return sde_error_set(error, -ENOMEM, "%s: no memory", folder);
		}
		r = sde_t5_tokenizer_open(path, ret_tokenizer, error);
	}
	if (r == -ENOENT)
		return sde_error_set(error, r, "%s: neither tokenizer.json nor spiece.model",
				     folder);
	return r;
}

struct sde_t5_tokenizer *sde_t5_tokenizer_free(struct sde_t5_tokenizer *tokenizer)
{
	if (!tokenizer)
		return NULL;
	sde_unigram_clear(&tokenizer->unigram);
	sde_charsmap_free(tokenizer->charsmap);
	for (size_t i = 0; i < tokenizer->n_specials; i++)
		free(tokenizer->specials[i].text);
	free(tokenizer->specials);
	free(tokenizer);
	return NULL;
}

int32_t sde_t5_tokenizer_eos(const struct sde_t5_tokenizer *tokenizer)
{
	return tokenizer->eos;
}

int32_t sde_t5_tokenizer_pad(const struct sde_t5_tokenizer *tokenizer)
{
	return tokenizer->pad;
}

int32_t sde_t5_tokenizer_unknown(const struct sde_t5_tokenizer *tokenizer)
{
	return tokenizer->unigram.unknown;
}

int32_t sde_t5_tokenizer_vocab_size(const struct sde_t5_tokenizer *tokenizer)
{
	return tokenizer->unigram.count;
}

/* A word with its mark: cut before every mark, each part on its own. */
static int encode_word(const struct sde_t5_tokenizer *tokenizer, const char *word, size_t length,
		       struct sde_ids *ids)
{
	size_t begin = 0;
	int r = 0;

	for (size_t at = 1; r == 0 && at <= length; at++) {
		if (at < length &&
		    (length - at < MARK_LENGTH || memcmp(word + at, MARK, MARK_LENGTH) != 0))
			continue;
		r = sde_unigram_encode(&tokenizer->unigram, word + begin, at - begin, ids);
		begin = at;
	}
	return r;
}

/* Words of a normalised text. word: room for the mark and the longest of them. */
static int encode_words(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
			char *word, struct sde_ids *ids)
{
	size_t used = 0, at = 0;
	int r = 0;

	while (r == 0 && at <= length) {
		utf8proc_int32_t c = ' ';
		size_t n = 1;

		if (at < length)
			n = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at,
						     (utf8proc_ssize_t)(length - at), &c);
		if (!sde_is_white_space(c)) {
			if (used == 0 && c != 0x2581) {
				memcpy(word, MARK, MARK_LENGTH);
				used = MARK_LENGTH;
			}
			memcpy(word + used, text + at, n);
			used += n;
		} else if (used > 0) {
			r = encode_word(tokenizer, word, used, ids);
			used = 0;
		}
		at += n;
	}
	return r;
}

/* A stretch without typed special tokens. */
static int encode_plain(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
			struct sde_ids *ids, struct sde_error *error)
{
	_cleanup_free_ char *normal = NULL, *word = NULL;
	struct sde_error damaged;
	int r = 0;

	if (length == 0)
		return 0;
	if (tokenizer->charsmap) {
		r = sde_charsmap_apply(tokenizer->charsmap, text, length, &normal, &length);
		if (r == 0 && sde_check_utf8(normal, length, &damaged) < 0)
			return sde_error_set(
				error, -EBADMSG,
				"the tokenizer's character map gives what is not UTF-8");
		text = normal;
	}
	word = r == 0 ? malloc(length + MARK_LENGTH) : NULL;
	r = word ? encode_words(tokenizer, text, length, word, ids) : -ENOMEM;
	return r < 0 ? sde_error_set(error, r, "no memory to tokenize %zu bytes", length) : 0;
}

/* The longest special token typed at text, NULL if there is none. */
static const struct sde_t5_special *special_at(const struct sde_t5_tokenizer *tokenizer,
					       const char *text, size_t length)
{
	const struct sde_t5_special *found = NULL;

	for (size_t i = 0; i < tokenizer->n_specials; i++) {
		const struct sde_t5_special *special = &tokenizer->specials[i];

		if (special->length <= length && (!found || special->length > found->length) &&
		    memcmp(text, special->text, special->length) == 0)
			found = special;
	}
	return found;
}

int sde_t5_tokenizer_encode(const struct sde_t5_tokenizer *tokenizer, const char *text,
			    size_t length, struct sde_ids *ids, struct sde_error *error)
{
	const struct sde_t5_special *special;
	size_t begin = 0;
	int r;

	if (length > SDE_T5_TEXT_MAX)
		return sde_error_set(error, -E2BIG, "text of %zu bytes; at most %u are accepted",
				     length, SDE_T5_TEXT_MAX);
	r = sde_check_utf8(text, length, error);
	for (size_t at = 0; r >= 0 && at < length;) {
		special = special_at(tokenizer, text + at, length - at);
		if (!special) {
			at++;
			continue;
		}
		r = encode_plain(tokenizer, text + begin, at - begin, ids, error);
		if (r >= 0 && sde_ids_append(ids, special->id) < 0)
			r = sde_error_set(error, -ENOMEM, "no memory to tokenize %zu bytes",
					  length);
		begin = at += special->length;
	}
	return r < 0 ? r : encode_plain(tokenizer, text + begin, length - begin, ids, error);
}

void sde_t5_tokenizer_fit(const struct sde_t5_tokenizer *tokenizer, const int32_t *ids,
			  size_t count, size_t n, int32_t *ret_ids)
{
	for (size_t i = 0; i < n; i++)
		ret_ids[i] = i < count && i + 1 < n ? ids[i] : tokenizer->pad;
	if (n > 0)
		ret_ids[count + 1 < n ? count : n - 1] = tokenizer->eos;
}

int sde_t5_tokenizer_row(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t length,
			 size_t n, int32_t *ret_ids, size_t *ret_tokens, struct sde_error *error)
{
	struct sde_ids ids = {0};
	int r;

	r = sde_t5_tokenizer_encode(tokenizer, text, length, &ids, error);
	if (r >= 0) {
		sde_t5_tokenizer_fit(tokenizer, ids.ids, ids.count, n, ret_ids);
		if (ret_tokens)
			*ret_tokens = ids.count;
	}
	sde_ids_clear(&ids);
	return r;
}
