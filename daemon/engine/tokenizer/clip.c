/*
 * The CLIP tokenizer: loading its two files, and cutting a normalised text into pieces. See clip.h.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "daemon/engine/tokenizer/clip.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/tokenizer/internal.h"

#define MERGES_MAX (1u << 20)
#define VOCAB_MAX  (1u << 22)

#define BOS_TEXT "<|startoftext|>"
#define EOS_TEXT "<|endoftext|>"

/* After normalisation the only white space is the blank. */
static const char pieces_pattern[] =
	"<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^ \\p{L}\\p{N}]+";

struct sde_clip_tokenizer {
	int32_t bos, eos, pad, comma, vocab_size;
	int32_t inner[256], last[256]; /* symbols of a byte inside and at the end of a piece */
	char pad_text
		[32]; /* a special token like the other two: "!" typed in a text is padding's id */
	struct sde_merges *merges;
	pcre2_code *pieces;
};

size_t sde_clip_byte_symbol(int byte, char *out)
{
	int c = 256;

	if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae) {
		c = byte;
	} else {
		for (int b = 0; b < byte; b++)
			c += !((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
	}
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

/* Id of a vocabulary entry, -1 if absent. */
static int32_t vocab_id(const json_t *vocab, const char *symbol)
{
	const json_t *value = json_object_get(vocab, symbol);

	return value ? (int32_t)json_integer_value(value) : -1;
}

static int check_vocab(struct sde_clip_tokenizer *tokenizer, json_t *vocab, const char *name,
		       struct sde_error *error)
{
	const char *symbol;
	json_t *value;

	if (!json_is_object(vocab))
		return sde_error_set(error, -EBADMSG, "%s: expected an object of tokens and ids",
				     name);
	json_object_foreach (vocab, symbol, value) {
		json_int_t id = json_integer_value(value);

		if (!json_is_integer(value) || id < 0 || id >= VOCAB_MAX)
			return sde_error_set(
				error, -EBADMSG,
				"%s: the id of token '%s' is not an integer from 0 to %u", name,
				symbol, VOCAB_MAX - 1);
		if (id >= tokenizer->vocab_size)
			tokenizer->vocab_size = (int32_t)id + 1;
	}
	return 0;
}

static int read_vocab(struct sde_clip_tokenizer *tokenizer, json_t *vocab, const char *name,
		      struct sde_error *error)
{
	char symbol[16];
	size_t length;
	int r;

	r = check_vocab(tokenizer, vocab, name, error);
	if (r < 0)
		return r;
	for (int byte = 0; byte < 256; byte++) {
		length = sde_clip_byte_symbol(byte, symbol);
		symbol[length] = '\0';
		tokenizer->inner[byte] = vocab_id(vocab, symbol);
		strcpy(symbol + length, "</w>");
		tokenizer->last[byte] = vocab_id(vocab, symbol);
		if (tokenizer->inner[byte] < 0 || tokenizer->last[byte] < 0)
			return sde_error_set(
				error, -EBADMSG,
				"%s: no token '%s' (byte %d): not a vocabulary of CLIP", name,
				symbol, byte);
	}
	tokenizer->bos = vocab_id(vocab, BOS_TEXT);
	tokenizer->eos = tokenizer->pad = vocab_id(vocab, EOS_TEXT);
	tokenizer->comma = vocab_id(vocab, ",</w>");
	if (tokenizer->bos < 0 || tokenizer->eos < 0)
		return sde_error_set(error, -EBADMSG, "%s: no token '%s'", name,
				     tokenizer->bos < 0 ? BOS_TEXT : EOS_TEXT);
	return 0;
}

/* One line "left right" to three ids. */
static int read_merge(struct sde_clip_tokenizer *tokenizer, const json_t *vocab, const char *line,
		      size_t length, int32_t rank, const char *name, size_t number,
		      struct sde_error *error)
{
	char left[256], joined[256];
	const char *blank = memchr(line, ' ', length);
	size_t left_size = blank ? (size_t)(blank - line) : 0;
	size_t right_size = blank ? length - left_size - 1 : 0;
	int32_t left_id, right_id, id;

	if (!left_size || !right_size || length >= sizeof(joined) ||
	    memchr(blank + 1, ' ', right_size) || memchr(line, '\0', length))
		return sde_error_set(error, -EBADMSG,
				     "%s:%zu: expected two symbols with a blank between", name,
				     number);
	memcpy(left, line, left_size);
	left[left_size] = '\0';
	memcpy(joined, line, left_size);
	memcpy(joined + left_size, blank + 1, right_size);
	joined[left_size + right_size] = '\0';
	left_id = vocab_id(vocab, left);
	right_id = vocab_id(vocab, joined + left_size);
	id = vocab_id(vocab, joined);
	if (left_id < 0 || right_id < 0 || id < 0)
		return sde_error_set(error, -EBADMSG, "%s:%zu: '%s' is not in the vocabulary", name,
				     number,
				     left_id < 0    ? left
				     : right_id < 0 ? joined + left_size
						    : joined);
	if (!sde_merges_add(tokenizer->merges, left_id, right_id, (struct sde_merge){rank, id}))
		return sde_error_set(error, -EBADMSG, "%s:%zu: this pair is listed twice", name,
				     number);
	return 0;
}

static int read_merges(struct sde_clip_tokenizer *tokenizer, const json_t *vocab, const char *text,
		       size_t size, const char *name, struct sde_error *error)
{
	const char *end = text + size;
	size_t lines = 1, number = 0;
	int32_t rank = 0;
	int r;

	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	if (lines > MERGES_MAX)
		return sde_error_set(error, -EBADMSG, "%s: %zu lines; at most %u", name, lines,
				     MERGES_MAX);
	tokenizer->merges = sde_merges_new(lines);
	if (!tokenizer->merges)
		return sde_error_set(error, -ENOMEM, "%s: no memory", name);
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);
		const char *line = text;

		text += length + (newline != NULL);
		length -= length && line[length - 1] == '\r';
		number++;
		if (!length || (number == 1 && length >= 8 && !memcmp(line, "#version", 8)))
			continue;
		r = read_merge(tokenizer, vocab, line, length, rank++, name, number, error);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compile_pieces(struct sde_clip_tokenizer *tokenizer, struct sde_error *error)
{
	PCRE2_SIZE where;
	int code;

	tokenizer->pieces = pcre2_compile((PCRE2_SPTR)pieces_pattern, PCRE2_ZERO_TERMINATED,
					  PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
	if (!tokenizer->pieces)
		return sde_error_set(error, -ENOMEM, "no memory for the tokenizer's expression");
	/* without the just-in-time compiler matching is slower, not wrong */
	pcre2_jit_compile(tokenizer->pieces, PCRE2_JIT_COMPLETE);
	return 0;
}

int sde_clip_tokenizer_from_vocab(json_t *vocab, const char *vocab_name, const char *merges,
				  size_t merges_size, const char *merges_name,
				  struct sde_clip_tokenizer **ret_tokenizer,
				  struct sde_error *error)
{
	struct sde_clip_tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));
	int r;

	if (!tokenizer)
		return sde_error_set(error, -ENOMEM, "%s: no memory", vocab_name);
	r = read_vocab(tokenizer, vocab, vocab_name, error);
	if (r >= 0)
		r = read_merges(tokenizer, vocab, merges, merges_size, merges_name, error);
	if (r >= 0)
		r = compile_pieces(tokenizer, error);
	if (r < 0) {
		sde_clip_tokenizer_free(tokenizer);
		return r;
	}
	*ret_tokenizer = tokenizer;
	return 0;
}

int sde_clip_tokenizer_new(const char *vocab, size_t vocab_size, const char *vocab_name,
			   const char *merges, size_t merges_size, const char *merges_name,
			   struct sde_clip_tokenizer **ret_tokenizer, struct sde_error *error)
{
	_cleanup_json_ json_t *object = NULL;
	int r;

	r = sde_json_parse(vocab, vocab_size, vocab_name, &object, error);
	if (r < 0)
		return r;
	return sde_clip_tokenizer_from_vocab(object, vocab_name, merges, merges_size, merges_name,
					     ret_tokenizer, error);
}

/* The padding token of a folder's configuration: a string, or an object with "content". NULL: not said. */
static const char *pad_token(const json_t *config)
{
	const json_t *value = json_object_get(config, "pad_token");

	return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

static int set_pad(struct sde_clip_tokenizer *tokenizer, const char *text, int32_t id)
{
	if (id < 0 || strlen(text) >= sizeof(tokenizer->pad_text))
		return -EINVAL;
	tokenizer->pad = id;
	strcpy(tokenizer->pad_text, text);
	return 0;
}

int sde_clip_tokenizer_set_pad(struct sde_clip_tokenizer *tokenizer, int32_t id)
{
	char symbol[4];

	if (id == tokenizer->eos)
		return set_pad(tokenizer, "", id);
	for (int byte = '!'; byte <= '~'; byte++)
		if (tokenizer->inner[byte] == id) {
			symbol[sde_clip_byte_symbol(byte, symbol)] = '\0';
			return set_pad(tokenizer, symbol, id);
		}
	return -EINVAL;
}

static int read_pad(struct sde_clip_tokenizer *tokenizer, const char *folder, const char *vocab,
		    size_t vocab_size, struct sde_error *error)
{
	static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
	_cleanup_json_ json_t *object = NULL;
	int r;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		_cleanup_json_ json_t *config = NULL;
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", folder, files[i]) < 0) {
			path = NULL;
			return sde_error_set(error, -ENOMEM, "%s: no memory", folder);
		}
		r = sde_json_load(path, SDE_JSON_CONFIG_MAX, &config, error);
		if (r == -ENOENT || (r >= 0 && !pad_token(config)))
			continue;
		if (r >= 0)
			r = sde_json_parse(vocab, vocab_size, folder, &object, error);
		if (r < 0)
			return r;
		r = set_pad(tokenizer, pad_token(config), vocab_id(object, pad_token(config)));
		if (r < 0)
			return sde_error_set(error, -EBADMSG,
					     "%s: pad_token '%s' is not in the vocabulary", path,
					     pad_token(config));
		return 0;
	}
	return 0;
}

int sde_clip_tokenizer_load(const char *folder, struct sde_clip_tokenizer **ret_tokenizer,
			    struct sde_error *error)
{
	_cleanup_free_ char *vocab_path = NULL, *merges_path = NULL, *vocab = NULL, *merges = NULL;
	struct sde_clip_tokenizer *tokenizer;
	size_t vocab_size, merges_size;
	int r;

	if (asprintf(&vocab_path, "%s/vocab.json", folder) < 0 ||
	    asprintf(&merges_path, "%s/merges.txt", folder) < 0)
		return sde_error_set(error, -ENOMEM, "%s: no memory", folder);
	r = sde_file_read(vocab_path, SDE_JSON_INDEX_MAX, &vocab, &vocab_size, error);
	if (r >= 0)
		r = sde_file_read(merges_path, SDE_JSON_INDEX_MAX, &merges, &merges_size, error);
	if (r >= 0)
		r = sde_clip_tokenizer_new(vocab, vocab_size, vocab_path, merges, merges_size,
					   merges_path, &tokenizer, error);
	if (r < 0)
		return r;
	r = read_pad(tokenizer, folder, vocab, vocab_size, error);
	if (r < 0) {
		sde_clip_tokenizer_free(tokenizer);
		return r;
	}
	*ret_tokenizer = tokenizer;
	return 0;
}

struct sde_clip_tokenizer *sde_clip_tokenizer_free(struct sde_clip_tokenizer *tokenizer)
{
	if (!tokenizer)
		return NULL;
	pcre2_code_free(tokenizer->pieces);
	sde_merges_free(tokenizer->merges);
	free(tokenizer);
	return NULL;
}

int32_t sde_clip_tokenizer_bos(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->bos;
}

int32_t sde_clip_tokenizer_eos(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->eos;
}

int32_t sde_clip_tokenizer_pad(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->pad;
}

int32_t sde_clip_tokenizer_comma(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->comma;
}

int32_t sde_clip_tokenizer_vocab_size(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->vocab_size;
}

static int encode_piece(const struct sde_clip_tokenizer *tokenizer, const char *piece,
			size_t length, struct sde_ids *ids)
{
	int32_t few[256], *symbols = few;
	_cleanup_free_ int32_t *many = NULL;

	if (length > sizeof(few) / sizeof(few[0])) {
		symbols = many = calloc(length, sizeof(*many));
		if (!many)
			return -ENOMEM;
	}
	for (size_t i = 0; i + 1 < length; i++)
		symbols[i] = tokenizer->inner[(unsigned char)piece[i]];
	symbols[length - 1] = tokenizer->last[(unsigned char)piece[length - 1]];
	return sde_merges_apply(tokenizer->merges, symbols, length, ids);
}

/* The expression takes a typed end token as one, also where it is none; a second one then takes it to pieces. */
static int encode_match(const struct sde_clip_tokenizer *tokenizer, const char *text, size_t length,
			struct sde_ids *ids)
{
	static const char *const pieces[] = {"<|", "endoftext", "|>"};
	int r = 0;

	if (length != strlen(EOS_TEXT) || memcmp(text, EOS_TEXT, length) != 0)
		return encode_piece(tokenizer, text, length, ids);
	for (size_t i = 0; r >= 0 && i < sizeof(pieces) / sizeof(pieces[0]); i++)
		r = encode_piece(tokenizer, pieces[i], strlen(pieces[i]), ids);
	return r;
}

/* A stretch without typed special tokens. */
static int encode_plain(const struct sde_clip_tokenizer *tokenizer, const char *text, size_t length,
			pcre2_match_data *match, struct sde_ids *ids)
{
	const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(match);
	size_t at = 0;
	int r;

	while (at < length) {
		r = pcre2_match(tokenizer->pieces, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK,
				match, NULL);
		if (r == PCRE2_ERROR_NOMATCH)
			return 0;
		if (r < 0)
			return -ENOMEM; /* the expression has no other way to fail */
		r = encode_match(tokenizer, text + bounds[0], bounds[1] - bounds[0], ids);
		if (r < 0)
			return r;
		at = bounds[1];
	}
	return 0;
}

/*
 * An end token that also pads is declared twice, the second time as one that is looked for before anything is normalised: then
 * <|EndOfText|> is no token.
 */
static bool eos_is_literal(const struct sde_clip_tokenizer *tokenizer)
{
	return tokenizer->pad == tokenizer->eos;
}

/* The first special token typed at or behind text; NULL if there is none. */
static const char *find_special(const struct sde_clip_tokenizer *tokenizer, const char *text,
				const char *end, size_t *ret_length, int32_t *ret_id)
{
	const struct {
		const char *text;
		int32_t id;
	} specials[] = {
		{BOS_TEXT, tokenizer->bos},
		{eos_is_literal(tokenizer) ? "" : EOS_TEXT, tokenizer->eos},
		{tokenizer->pad_text, tokenizer->pad},
	};

	for (; text < end; text++)
		for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++) {
			size_t length = strlen(specials[i].text);

			if (length && length <= (size_t)(end - text) &&
			    !memcmp(text, specials[i].text, length)) {
				*ret_length = length;
				*ret_id = specials[i].id;
				return text;
			}
		}
	return NULL;
}

/* Special tokens typed in the text, in any case, are cut out before anything else, wherever they stand. */
static int encode_normalized(const struct sde_clip_tokenizer *tokenizer, const char *text,
			     size_t length, pcre2_match_data *match, struct sde_ids *ids)
{
	const char *end = text + length, *special;
	size_t special_length;
	int32_t id;
	int r;

	while ((special = find_special(tokenizer, text, end, &special_length, &id))) {
		r = encode_plain(tokenizer, text, (size_t)(special - text), match, ids);
		if (r >= 0)
			r = sde_ids_append(ids, id);
		if (r < 0)
			return r;
		text = special + special_length;
	}
	return encode_plain(tokenizer, text, (size_t)(end - text), match, ids);
}

static int encode_part(const struct sde_clip_tokenizer *tokenizer, const char *text, size_t length,
		       pcre2_match_data *match, struct sde_ids *ids, struct sde_error *error)
{
	_cleanup_free_ char *normal = NULL;
	size_t normal_length;
	int r;

	r = sde_normalize_text(text, length, &normal, &normal_length, error);
	if (r < 0)
		return r;
	r = match ? encode_normalized(tokenizer, normal, normal_length, match, ids) : -ENOMEM;
	return r < 0 ? sde_error_set(error, r, "no memory to tokenize %zu bytes", length) : 0;
}

int sde_clip_tokenizer_encode(const struct sde_clip_tokenizer *tokenizer, const char *text,
			      size_t length, struct sde_ids *ids, struct sde_error *error)
{
	const char *end = text + length, *eos = NULL;
	pcre2_match_data *match;
	int r = 0;

	if (length > SDE_CLIP_TEXT_MAX)
		return sde_error_set(error, -E2BIG, "text of %zu bytes; at most %u are accepted",
				     length, SDE_CLIP_TEXT_MAX);
	match = pcre2_match_data_create(1, NULL);
	do {
		if (eos_is_literal(tokenizer))
			eos = memmem(text, (size_t)(end - text), EOS_TEXT, strlen(EOS_TEXT));
		r = encode_part(tokenizer, text, (size_t)((eos ? eos : end) - text), match, ids,
				error);
		if (r >= 0 && eos) {
			r = sde_ids_append(ids, tokenizer->eos);
			if (r < 0)
				sde_error_set(error, r, "no memory for the tokens");
			text = eos + strlen(EOS_TEXT);
		}
	} while (r >= 0 && eos);
	pcre2_match_data_free(match);
	return r;
}
