/*
 * Pieces of prompts; see pieces.h. CLIP's tokenizer never looks across blanks, so the tokens of a text are those of its parts between
 * blanks, one behind the other. Punctuation becomes a piece of its own only where that leaves the tokens as they are.
 */
#include "daemon/engine/prompt/pieces.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

struct splitter {
	struct sde_prompt_pieces *pieces;
	const struct sde_clip_tokenizer *tokenizer;
	const struct sde_prompt_words *words;
	struct sde_ids ids; /* of all pieces so far */
	struct sde_error *error;
};

static bool is_letter(char c)
{
	return isalnum((unsigned char)c) || (c & 0x80);
}

/* An apostrophe belongs to its word: CLIP has 's, 'll and the like as tokens. */
static bool is_mark(char c)
{
	return ispunct((unsigned char)c) && c != '\'';
}

static int add_piece(struct splitter *splitter, const char *text, size_t length, size_t count)
{
	struct sde_prompt_pieces *pieces = splitter->pieces;
	struct sde_prompt_piece *grown, *piece;

	if (count == 0)
		return 0;
	if (pieces->count == pieces->room) {
		const size_t room = pieces->room ? 2 * pieces->room : 16;

		grown = reallocarray(pieces->items, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		pieces->items = grown;
		pieces->room = room;
	}
	piece = &pieces->items[pieces->count];
	*piece = (struct sde_prompt_piece){
		.text = strndup(text, length), .first = pieces->n_tokens, .count = count};
	if (!piece->text)
		return -ENOMEM;
	for (size_t i = 0; i < length; i++)
		piece->word = piece->word || is_letter(text[i]);
	pieces->count++;
	pieces->n_tokens += count;
	return 0;
}

static int encode(struct splitter *splitter, const char *text, size_t length, struct sde_ids *ids)
{
	return sde_prompt_ids(splitter->tokenizer, splitter->words, text, length, ids,
			      splitter->error);
}

/* What stands between two blanks: marks before, the word, marks behind; in one piece where that would be other tokens. */
static int split_unit(struct splitter *splitter, const char *text, size_t length)
{
	size_t cuts[4] = {0, 0, length, length}, counts[3] = {0};
	const size_t before = splitter->ids.count;
	struct sde_ids parts = {0};
	size_t whole;
	int r;

	while (cuts[1] < length && is_mark(text[cuts[1]]))
		cuts[1]++;
	while (cuts[2] > cuts[1] && is_mark(text[cuts[2] - 1]))
		cuts[2]--;
	r = encode(splitter, text, length, &splitter->ids);
	for (int i = 0; r >= 0 && i < 3; i++) {
		const size_t had = parts.count;

		r = encode(splitter, text + cuts[i], cuts[i + 1] - cuts[i], &parts);
		counts[i] = parts.count - had;
	}
	whole = splitter->ids.count - before;
	if (r >= 0 && (parts.count != whole || memcmp(parts.ids, splitter->ids.ids + before,
						      whole * sizeof(*parts.ids)) != 0))
		r = add_piece(splitter, text, length, whole);
	else
		for (int i = 0; r >= 0 && i < 3; i++)
			r = add_piece(splitter, text + cuts[i], cuts[i + 1] - cuts[i], counts[i]);
	sde_ids_clear(&parts);
	return r;
}

static int split_segment(struct splitter *splitter, const char *text, size_t length)
{
	size_t at = 0;
	int r = 0;

	while (r >= 0 && at < length) {
		size_t end = at;

		while (end < length && !isspace((unsigned char)text[end]))
			end++;
		if (end > at)
			r = split_unit(splitter, text + at, end - at);
		at = end + 1;
	}
	return r;
}

/* Where the tokens stand, and whether they are those of the prompt. */
static int find_rows(struct splitter *splitter, const struct sde_prompt *prompt)
{
	struct sde_prompt_pieces *pieces = splitter->pieces;
	bool same = true;
	size_t n = 0;

	pieces->rows = calloc(pieces->n_tokens + 1, sizeof(*pieces->rows));
	if (!pieces->rows)
		return -ENOMEM;
	for (size_t c = 0; c < prompt->count; c++)
		for (int i = 1; i <= prompt->chunks[c].tokens; i++, n++)
			if (n < pieces->n_tokens &&
			    prompt->chunks[c].ids[i] == splitter->ids.ids[n])
				pieces->rows[n] = (int)c * SDE_PROMPT_LENGTH + i;
	for (size_t i = 0; i < pieces->n_tokens; i++)
		same = same && pieces->rows[i] > 0;
	if (!same || n != pieces->n_tokens)
		return sde_error_set(splitter->error, -ENOTSUP,
				     "the words of this prompt cannot be told apart: it names an "
				     "embedding with blanks in its name");
	return 0;
}

int sde_prompt_pieces_init(struct sde_prompt_pieces *pieces,
			   const struct sde_clip_tokenizer *tokenizer,
			   const struct sde_prompt_words *words, const char *text,
			   const struct sde_prompt *prompt, struct sde_error *error)
{
	struct splitter splitter = {
		.pieces = pieces, .tokenizer = tokenizer, .words = words, .error = error};
	struct sde_prompt_segments segments;
	int r;

	*pieces = (struct sde_prompt_pieces){0};
	sde_error_set(error, -ENOMEM, "no memory for the words of a prompt");
	r = sde_prompt_parse(text, strlen(text), &segments, error);
	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < segments.count; i++)
		if (segments.items[i].weight != SDE_PROMPT_BREAK)
			r = split_segment(&splitter, segments.items[i].text,
					  segments.items[i].length);
	sde_prompt_segments_clear(&segments);
	if (r >= 0)
		r = find_rows(&splitter, prompt);
	if (r < 0) {
		sde_prompt_pieces_clear(pieces);
		sde_ids_clear(&splitter.ids);
		return r;
	}
	pieces->ids = splitter.ids.ids;
	return 0;
}

void sde_prompt_pieces_clear(struct sde_prompt_pieces *pieces)
{
	for (size_t i = 0; i < pieces->count; i++)
		free(pieces->items[i].text);
	free(pieces->items);
	free(pieces->ids);
	free(pieces->rows);
	*pieces = (struct sde_prompt_pieces){0};
}

static void take_token(struct sde_prompt_chunk *chunk, int at, int32_t pad)
{
	const size_t left = (size_t)(SDE_PROMPT_LENGTH - 1 - at);

	memmove(chunk->ids + at, chunk->ids + at + 1, left * sizeof(chunk->ids[0]));
	memmove(chunk->weights + at, chunk->weights + at + 1, left * sizeof(chunk->weights[0]));
	chunk->ids[SDE_PROMPT_LENGTH - 1] = pad;
	chunk->weights[SDE_PROMPT_LENGTH - 1] = 1;
	chunk->tokens--;
}

void sde_prompt_take_out(struct sde_prompt *prompt, const struct sde_prompt_pieces *pieces,
			 size_t i, int32_t pad)
{
	const struct sde_prompt_piece *piece = &pieces->items[i];

	for (size_t t = piece->first + piece->count; t-- > piece->first;)
		take_token(&prompt->chunks[pieces->rows[t] / SDE_PROMPT_LENGTH],
			   pieces->rows[t] % SDE_PROMPT_LENGTH, pad);
	prompt->tokens -= piece->count;
}

void sde_prompt_pieces_take_out(struct sde_prompt_pieces *pieces, size_t i)
{
	const struct sde_prompt_piece piece = pieces->items[i];
	const size_t end = piece.first + piece.count, left = pieces->n_tokens - end;

	for (size_t t = end; t < pieces->n_tokens; t++)
		for (size_t gone = piece.first; gone < end; gone++)
			pieces->rows[t] -= pieces->rows[t] / SDE_PROMPT_LENGTH ==
					   pieces->rows[gone] / SDE_PROMPT_LENGTH;
	memmove(pieces->rows + piece.first, pieces->rows + end, left * sizeof(*pieces->rows));
	memmove(pieces->ids + piece.first, pieces->ids + end, left * sizeof(*pieces->ids));
	pieces->n_tokens -= piece.count;
	for (size_t k = i + 1; k < pieces->count; k++)
		pieces->items[k].first -= piece.count;
	free(piece.text);
	memmove(pieces->items + i, pieces->items + i + 1,
		(--pieces->count - i) * sizeof(*pieces->items));
}

bool sde_prompt_pieces_equal(const struct sde_prompt_pieces *a, size_t i,
			     const struct sde_prompt_pieces *b, size_t k)
{
	const struct sde_prompt_piece *x = &a->items[i], *y = &b->items[k];

	return x->count == y->count &&
	       memcmp(a->ids + x->first, b->ids + y->first, x->count * sizeof(*a->ids)) == 0;
}
