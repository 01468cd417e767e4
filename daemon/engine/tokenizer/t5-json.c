/*
 * tokenizer.json of the tokenizers library, as far as T5 uses it: a Unigram model, a Precompiled normaliser (strips and
 * runs of blanks make no difference to words cut at white space), and a Metaspace pre-tokenizer.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/tokenizer/t5-private.h"

struct reader {
	struct sde_t5_tokenizer *tokenizer;
	const char *name;
	struct sde_error *error;
};

static bool is_type(const json_t *object, const char *type)
{
	const char *text = json_string_value(json_object_get(object, "type"));

	return text && strcmp(text, type) == 0;
}

static int unsupported(const struct reader *reader, const char *what, const json_t *object)
{
	const char *type = json_string_value(json_object_get(object, "type"));

	return sde_error_set(reader->error, -ENOTSUP, "%s: %s '%.40s' is not one T5 uses",
			     reader->name, what, type ? type : "without a type");
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decode up to the padding; false for another character. out: room for 3/4 of the length. */
static bool base64(const char *text, size_t length, uint8_t *out, size_t *ret_size)
{
	uint32_t bits = 0;
	size_t size = 0;
	int n = 0;

	while (length > 0 && text[length - 1] == '=')
		length--;
	for (size_t i = 0; i < length; i++) {
		const int digit = base64_digit(text[i]);

		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
		n += 6;
		if (n >= 8) {
			n -= 8;
			out[size++] = (uint8_t)(bits >> n);
		}
	}
	*ret_size = size;
	return true;
}

static int read_normalizer(const struct reader *reader, const json_t *object)
{
	const json_t *list = json_object_get(object, "normalizers"), *value, *item;
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t i, size;
	int r = 0;

	if (!object || json_is_null(object) || is_type(object, "Strip") ||
	    is_type(object, "Replace"))
		return 0;
	if (is_type(object, "Sequence")) {
		json_array_foreach (list, i, item) {
			if (r >= 0 && is_type(item, "Sequence"))
				r = unsupported(reader, "a nested normalizer", item);
			if (r >= 0)
				r = read_normalizer(reader, item);
		}
		return r;
	}
	value = json_object_get(object, "precompiled_charsmap");
	if (!is_type(object, "Precompiled") || reader->tokenizer->charsmap)
		return unsupported(reader, "normalizer", object);
	bytes = malloc(json_string_length(value) + 1);
	if (!bytes)
		return sde_error_set(reader->error, -ENOMEM, "%s: no memory", reader->name);
	if (!json_is_string(value) ||
	    !base64(json_string_value(value), json_string_length(value), bytes, &size))
		return sde_error_set(reader->error, -EBADMSG,
				     "%s: precompiled_charsmap is not base64", reader->name);
	return sde_charsmap_new(bytes, size, reader->name, &reader->tokenizer->charsmap,
				reader->error);
}

static int check_pre_tokenizer(const struct reader *reader, const json_t *object)
{
	const json_t *list = json_object_get(object, "pretokenizers");
	const json_t *metaspace = object;
	const char *scheme;

	if (is_type(object, "Sequence") && json_array_size(list) == 2 &&
	    is_type(json_array_get(list, 0), "WhitespaceSplit"))
		metaspace = json_array_get(list, 1);
	if (!is_type(metaspace, "Metaspace"))
		return unsupported(reader, "pre-tokenizer", object);
	scheme = json_string_value(json_object_get(metaspace, "prepend_scheme"));
	if ((scheme && strcmp(scheme, "always") != 0) ||
	    json_is_false(json_object_get(metaspace, "add_prefix_space")) ||
	    json_is_false(json_object_get(metaspace, "split")))
		return sde_error_set(reader->error, -ENOTSUP,
				     "%s: only a Metaspace that splits and always puts its mark in "
				     "front is supported",
				     reader->name);
	return 0;
}

static int read_model(const struct reader *reader, const json_t *model)
{
	const json_t *vocab = json_object_get(model, "vocab"), *unknown, *entry;
	int r = 0;
	size_t i;

	if (!is_type(model, "Unigram"))
		return unsupported(reader, "model", model);
	json_array_foreach (vocab, i, entry) {
		const json_t *text = json_array_get(entry, 0), *score = json_array_get(entry, 1);

		if (!json_is_string(text) || json_string_length(text) == 0 ||
		    !json_is_number(score))
			return sde_error_set(reader->error, -EBADMSG,
					     "%s: entry %zu of the vocabulary is not a piece and "
					     "its score",
					     reader->name, i);
		r = sde_unigram_add(&reader->tokenizer->unigram, json_string_value(text),
				    json_string_length(text), json_number_value(score));
		if (r < 0)
			break;
	}
	unknown = json_object_get(model, "unk_id");
	if (r >= 0 && !(json_is_integer(unknown) && json_integer_value(unknown) <= INT32_MAX))
		r = -EBADMSG;
	if (r >= 0)
		r = sde_unigram_finish(&reader->tokenizer->unigram,
				       (int32_t)json_integer_value(unknown));
	if (r >= 0)
		return 0;
	return sde_error_set(reader->error, r, "%s: %s", reader->name,
			     r == -EBADMSG ? "unk_id is no id of the vocabulary"
			     : r == -E2BIG ? "the vocabulary is too large"
					   : "no memory");
}

static int read_specials(const struct reader *reader, const json_t *list)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry) {
		const char *text = json_string_value(json_object_get(entry, "content"));
		const json_t *id = json_object_get(entry, "id");

		if (!text || !*text || !json_is_integer(id) || json_integer_value(id) < 0 ||
		    json_integer_value(id) >= reader->tokenizer->unigram.count)
			return sde_error_set(
				reader->error, -EBADMSG,
				"%s: added token %zu has no text, or an id outside the "
				"vocabulary",
				reader->name, i);
		if (sde_t5_add_special(reader->tokenizer, text, strlen(text),
				       (int32_t)json_integer_value(id)) < 0)
			return sde_error_set(reader->error, -ENOMEM, "%s: no memory", reader->name);
	}
	return 0;
}

int sde_t5_read_json(struct sde_t5_tokenizer *tokenizer, const char *data, size_t size,
		     const char *name, struct sde_error *error)
{
	const struct reader reader = {tokenizer, name, error};
	_cleanup_json_ json_t *root = NULL;
	int r;

	r = sde_json_parse(data, size, name, &root, error);
	if (r >= 0)
		r = read_normalizer(&reader, json_object_get(root, "normalizer"));
	if (r >= 0)
		r = check_pre_tokenizer(&reader, json_object_get(root, "pre_tokenizer"));
	if (r >= 0)
		r = read_model(&reader, json_object_get(root, "model"));
	if (r >= 0)
		r = read_specials(&reader, json_object_get(root, "added_tokens"));
	return r;
}
