/*
 * Token ids to chunks of 75: see prompt.h.
 */
#include "daemon/engine/prompt/prompt.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct cutter {
	struct sde_prompt prompt;
	struct sde_prompt_chunk open; /* the chunk being filled; its tokens stand at ids[1..] */
	int last_comma;		      /* its position among them, -1 = none */
	int32_t bos, eos, pad, comma;
	int backtrack; /* tokens; 0: never look for a comma */
};

static struct cutter cutter_new(const struct sde_clip_tokenizer *tokenizer, int32_t pad)
{
	return (struct cutter){
		.last_comma = -1,
		.bos = sde_clip_tokenizer_bos(tokenizer),
		.eos = sde_clip_tokenizer_eos(tokenizer),
		.pad = pad,
		.comma = sde_clip_tokenizer_comma(tokenizer),
	};
}

/* Complete the open chunk and begin the next one. */
static int close_chunk(struct cutter *cutter)
{
	struct sde_prompt_chunk *grown, *chunk = &cutter->open;

	grown = reallocarray(cutter->prompt.chunks, cutter->prompt.count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	cutter->prompt.chunks = grown;
	chunk->ids[0] = cutter->bos;
	chunk->weights[0] = 1;
	for (int i = chunk->tokens + 1; i < SDE_PROMPT_LENGTH; i++) {
		chunk->ids[i] = i == chunk->tokens + 1 ? cutter->eos : cutter->pad;
		chunk->weights[i] = 1;
	}
	grown[cutter->prompt.count++] = *chunk;
	*chunk = (struct sde_prompt_chunk){0};
	cutter->last_comma = -1;
	return 0;
}

/* Move what follows the last comma of the full chunk to the next one. */
static int break_at_comma(struct cutter *cutter)
{
	const struct sde_prompt_chunk full = cutter->open;
	const int keep = cutter->last_comma + 1;
	int r;

	cutter->open.tokens = keep;
	r = close_chunk(cutter);
	if (r < 0)
		return r;
	cutter->open.tokens = full.tokens - keep;
	memcpy(cutter->open.ids + 1, full.ids + 1 + keep,
	       (size_t)cutter->open.tokens * sizeof(full.ids[0]));
	memcpy(cutter->open.weights + 1, full.weights + 1 + keep,
	       (size_t)cutter->open.tokens * sizeof(full.weights[0]));
	return 0;
}

static int add_token(struct cutter *cutter, int32_t id, float weight)
{
	const bool full = cutter->open.tokens == SDE_PROMPT_CHUNK;
	int r = 0;

	if (id == cutter->comma)
		cutter->last_comma = cutter->open.tokens;
	else if (full && cutter->last_comma >= 0 &&
		 cutter->open.tokens - cutter->last_comma <= cutter->backtrack)
		r = break_at_comma(cutter);
	if (r >= 0 && cutter->open.tokens == SDE_PROMPT_CHUNK)
		r = close_chunk(cutter);
	if (r < 0)
		return r;
	cutter->open.tokens++;
	cutter->open.ids[cutter->open.tokens] = id;
	cutter->open.weights[cutter->open.tokens] = weight;
	cutter->prompt.tokens++;
	return 0;
}

static bool is_letter(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (c & 0x80);
}

/* The word that text begins with at `at`; NULL when none does. */
static const struct sde_prompt_word *word_at(const struct sde_prompt_words *words, const char *text,
					     size_t length, size_t at)
{
	for (size_t i = 0; i < words->count; i++) {
		const char *word = words->items[i].word;
		const size_t n = strlen(word);

		if (n == 0 || at + n > length || strncasecmp(text + at, word, n) != 0)
			continue;
		if ((at > 0 && is_letter(word[0]) && is_letter(text[at - 1])) ||
		    (at + n < length && is_letter(word[n - 1]) && is_letter(text[at + n])))
			continue;
		return &words->items[i];
	}
	return NULL;
}

static int add_word(struct cutter *cutter, const struct sde_prompt_word *word, float weight,
		    struct sde_error *error)
{
	int r = 0;

	if (cutter->open.tokens + word->count > SDE_PROMPT_CHUNK && cutter->open.tokens > 0)
		r = close_chunk(cutter);
	for (int i = 0; r >= 0 && i < word->count; i++)
		r = add_token(cutter, word->first_id + i, weight);
	return r < 0 ? sde_error_set(error, r, "no memory for the prompt's chunks") : 0;
}

static int add_text(struct cutter *cutter, const struct sde_clip_tokenizer *tokenizer,
		    const char *text, size_t length, double weight, struct sde_error *error)
{
	struct sde_ids ids = {0};
	int r;

	r = sde_clip_tokenizer_encode(tokenizer, text, length, &ids, error);
	for (size_t i = 0; r >= 0 && i < ids.count; i++) {
		r = add_token(cutter, ids.ids[i], (float)weight);
		if (r < 0)
			sde_error_set(error, r, "no memory for the prompt's chunks");
	}
	sde_ids_clear(&ids);
	return r;
}

/* Text with words among it. */
static int add_text_and_words(struct cutter *cutter, const struct sde_clip_tokenizer *tokenizer,
			      const struct sde_prompt_words *words, const char *text, size_t length,
			      double weight, struct sde_error *error)
{
	size_t from = 0;
	int r = 0;

	for (size_t at = 0; r >= 0 && words && at < length;) {
		const struct sde_prompt_word *word = word_at(words, text, length, at);

		if (!word) {
			at++;
			continue;
		}
		r = add_text(cutter, tokenizer, text + from, at - from, weight, error);
		if (r >= 0)
			r = add_word(cutter, word, (float)weight, error);
		from = at += strlen(word->word);
	}
	return r < 0 ? r : add_text(cutter, tokenizer, text + from, length - from, weight, error);
}

static int finish(struct cutter *cutter, int r, struct sde_prompt *ret_prompt,
		  struct sde_error *error)
{
	if (r >= 0 && (cutter->open.tokens || !cutter->prompt.count)) {
		r = close_chunk(cutter);
		if (r < 0)
			sde_error_set(error, r, "no memory for the prompt's chunks");
	}
	if (r < 0) {
		sde_prompt_clear(&cutter->prompt);
		return r;
	}
	*ret_prompt = cutter->prompt;
	return 0;
}

int sde_prompt_weighted(const struct sde_clip_tokenizer *tokenizer, int32_t pad,
			const struct sde_prompt_words *words, const char *text, size_t length,
			struct sde_prompt *ret_prompt, struct sde_error *error)
{
	struct cutter cutter = cutter_new(tokenizer, pad);
	struct sde_prompt_segments segments;
	int r;

	r = sde_prompt_parse(text, length, &segments, error);
	if (r < 0)
		return r;
	cutter.backtrack = SDE_PROMPT_BACKTRACK;
	for (size_t i = 0; r >= 0 && i < segments.count; i++) {
		const struct sde_prompt_segment *segment = &segments.items[i];

		if (segment->weight == SDE_PROMPT_BREAK && !strcmp(segment->text, "BREAK"))
			r = close_chunk(&cutter);
		else
			r = add_text_and_words(&cutter, tokenizer, words, segment->text,
					       segment->length, segment->weight, error);
	}
	sde_prompt_segments_clear(&segments);
	return finish(&cutter, r, ret_prompt, error);
}

int sde_prompt_plain(const struct sde_clip_tokenizer *tokenizer, int32_t pad, const char *text,
		     size_t length, struct sde_prompt *ret_prompt, struct sde_error *error)
{
	struct cutter cutter = cutter_new(tokenizer, pad);
	int r = add_text(&cutter, tokenizer, text, length, 1, error);

	return finish(&cutter, r, ret_prompt, error);
}

int sde_prompt_ids(const struct sde_clip_tokenizer *tokenizer, const struct sde_prompt_words *words,
		   const char *text, size_t length, struct sde_ids *ids, struct sde_error *error)
{
	struct cutter cutter = cutter_new(tokenizer, 0);
	struct sde_prompt prompt = {0};
	int r = add_text_and_words(&cutter, tokenizer, words, text, length, 1, error);

	r = finish(&cutter, r, &prompt, error);
	for (size_t c = 0; r >= 0 && c < prompt.count; c++)
		for (int i = 1; r >= 0 && i <= prompt.chunks[c].tokens; i++)
			if (sde_ids_append(ids, prompt.chunks[c].ids[i]) < 0)
				r = sde_error_set(error, -ENOMEM, "no memory for tokens");
	sde_prompt_clear(&prompt);
	return r;
}

int sde_prompt_extend(struct sde_prompt *prompt, const struct sde_clip_tokenizer *tokenizer,
		      int32_t pad, size_t count, struct sde_error *error)
{
	struct cutter cutter = cutter_new(tokenizer, pad);
	int r = 0;

	cutter.prompt = *prompt;
	while (r >= 0 && cutter.prompt.count < count)
		r = close_chunk(&cutter);
	*prompt = cutter.prompt;
	return r < 0 ? sde_error_set(error, r, "no memory for the prompt's chunks") : 0;
}

void sde_prompt_clear(struct sde_prompt *prompt)
{
	free(prompt->chunks);
	*prompt = (struct sde_prompt){0};
}
