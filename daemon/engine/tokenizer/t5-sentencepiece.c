/*
 * spiece.model: a protobuf message (sentencepiece_model.proto) of pieces, the trainer's and the normaliser's settings. The
 * 100 sentinels <extra_id_99> ... <extra_id_0>, which transformers puts behind T5's pieces, are added.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/tokenizer/t5-private.h"

#define SENTINELS 100

enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4 };
enum { TRAINER_MODEL_TYPE = 3, MODEL_TYPE_UNIGRAM = 1 };
enum { NORMALIZER_CHARSMAP = 2 };

/* A message or a part of it. */
struct bytes {
	const uint8_t *at, *end;
};

struct field {
	uint64_t number;
	uint64_t value;	   /* a varint, or the bits of a fixed32 */
	struct bytes part; /* of a length-delimited one */
};

static bool read_varint(struct bytes *in, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
		const uint8_t byte = *in->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/* 1 with the next field, 0 at the end, -EBADMSG. */
static int next_field(struct bytes *in, struct field *field)
{
	uint64_t key, size;

	if (in->at == in->end)
		return 0;
	if (!read_varint(in, &key))
		return -EBADMSG;
	*field = (struct field){.number = key >> 3};
	switch (key & 7) {
	case 0:
		return read_varint(in, &field->value) ? 1 : -EBADMSG;
	case 1:
		size = 8;
		break;
	case 2:
		if (!read_varint(in, &size))
			return -EBADMSG;
		break;
	case 5:
		size = 4;
		break;
	default:
		return -EBADMSG;
	}
	if (size > (uint64_t)(in->end - in->at))
		return -EBADMSG;
	field->part = (struct bytes){in->at, in->at + size};
	if ((key & 7) == 5)
		field->value = (uint64_t)in->at[0] | (uint64_t)in->at[1] << 8 |
			       (uint64_t)in->at[2] << 16 | (uint64_t)in->at[3] << 24;
	in->at += size;
	return 1;
}

static int read_piece(struct sde_t5_tokenizer *tokenizer, struct bytes in, int32_t *unknown)
{
	struct bytes text = {NULL, NULL};
	uint64_t type = TYPE_NORMAL;
	const int32_t id = tokenizer->unigram.count;
	struct field field;
	float score = 0;
	uint32_t bits;
	int r;

	while ((r = next_field(&in, &field)) > 0) {
		if (field.number == PIECE_TEXT)
			text = field.part;
		else if (field.number == PIECE_SCORE) {
			bits = (uint32_t)field.value;
			memcpy(&score, &bits, sizeof(score));
		} else if (field.number == PIECE_TYPE)
			type = field.value;
	}
	if (r < 0 || text.at == text.end || score != score)
		return -EBADMSG;
	r = sde_unigram_add(&tokenizer->unigram, (const char *)text.at,
			    (size_t)(text.end - text.at), (double)score);
	if (r >= 0 && type == TYPE_UNKNOWN)
		*unknown = id;
	if (r >= 0 && (type == TYPE_UNKNOWN || type == TYPE_CONTROL || type == TYPE_USER))
		r = sde_t5_add_special(tokenizer, (const char *)text.at,
				       (size_t)(text.end - text.at), id);
	return r;
}

static int read_trainer(struct bytes in)
{
	uint64_t type = MODEL_TYPE_UNIGRAM;
	struct field field;
	int r;

	while ((r = next_field(&in, &field)) > 0)
		if (field.number == TRAINER_MODEL_TYPE)
			type = field.value;
	return r < 0 ? r : type == MODEL_TYPE_UNIGRAM ? 0 : -ENOTSUP;
}

static int read_normalizer(struct sde_t5_tokenizer *tokenizer, struct bytes in, const char *name,
			   struct sde_error *error)
{
	struct field field;
	int r;

	while ((r = next_field(&in, &field)) > 0)
		if (field.number == NORMALIZER_CHARSMAP && field.part.at < field.part.end) {
			if (tokenizer->charsmap)
				return -EBADMSG;
			r = sde_charsmap_new(field.part.at,
					     (size_t)(field.part.end - field.part.at), name,
					     &tokenizer->charsmap, error);
			if (r < 0)
				return r;
		}
	return r;
}

static int add_sentinels(struct sde_t5_tokenizer *tokenizer)
{
	int r = 0;

	for (int i = SENTINELS - 1; r >= 0 && i >= 0; i--) {
		char text[24];
		const int length = snprintf(text, sizeof(text), "<extra_id_%d>", i);

		r = sde_unigram_add(&tokenizer->unigram, text, (size_t)length, 0);
		if (r >= 0)
			r = sde_t5_add_special(tokenizer, text, (size_t)length,
					       tokenizer->unigram.count - 1);
	}
	return r;
}

int sde_t5_read_sentencepiece(struct sde_t5_tokenizer *tokenizer, const uint8_t *data, size_t size,
			      const char *name, struct sde_error *error)
{
	struct bytes in = {data, data + size};
	int32_t unknown = -1;
	struct field field;
	int next, r = 0;

	while (r >= 0 && (next = next_field(&in, &field)) != 0) {
		if (next < 0)
			r = next;
		else if (field.number == MODEL_PIECES)
			r = read_piece(tokenizer, field.part, &unknown);
		else if (field.number == MODEL_TRAINER)
			r = read_trainer(field.part);
		else if (field.number == MODEL_NORMALIZER)
			r = read_normalizer(tokenizer, field.part, name, error);
	}
	if (r >= 0)
		r = add_sentinels(tokenizer);
	if (r >= 0)
		r = sde_unigram_finish(&tokenizer->unigram, unknown);
	if (r >= 0)
		return 0;
	return sde_error_set(error, r, "%s: %s", name,
			     r == -ENOTSUP  ? "this SentencePiece model is not of the unigram kind"
			     : r == -ENOMEM ? "no memory"
			     : r == -E2BIG  ? "the vocabulary is too large"
					    : "is no SentencePiece model, or a damaged one");
}
