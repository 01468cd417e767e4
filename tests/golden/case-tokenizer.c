/*
 * kind "tokenizer": texts to token ids, as one run, as sequences of 77 (start, at most 75, end, padding) and in plain chunks;
 * T5's as one run and in rows of a given length.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/prompt/prompt.h"
#include "daemon/engine/tokenizer/clip.h"
#include "daemon/engine/tokenizer/t5.h"
#include "tests/golden/golden.h"

#define LENGTH	   SDE_PROMPT_LENGTH
#define LENGTH_MAX 1024 /* of a row of T5's */

struct rows {
	int32_t *ids, *mask;
	size_t count;
};

static int add_row(struct rows *rows, const int32_t *ids, size_t used)
{
	rows->ids = reallocarray(rows->ids, rows->count + 1, LENGTH * sizeof(int32_t));
	rows->mask = reallocarray(rows->mask, rows->count + 1, LENGTH * sizeof(int32_t));
	if (!rows->ids || !rows->mask)
		return -1;
	for (size_t i = 0; i < LENGTH; i++) {
		rows->ids[rows->count * LENGTH + i] = ids[i];
		rows->mask[rows->count * LENGTH + i] = i < used;
	}
	rows->count++;
	return 0;
}

struct work {
	struct sde_clip_tokenizer *tokenizer;
	int32_t pad;
	struct sde_ids ids, offsets;
	struct rows cut, chunks;
};

/* ids_77 is the first plain chunk of a text; chunks_77 are all of them. */
static int encode_text(struct work *w, const char *text, size_t length, struct sde_error *error)
{
	size_t before = w->ids.count, n;
	struct sde_prompt prompt = {0};
	int r;

	r = sde_clip_tokenizer_encode(w->tokenizer, text, length, &w->ids, error);
	if (r >= 0)
		r = sde_ids_append(&w->offsets, (int32_t)w->ids.count);
	if (r >= 0)
		r = sde_prompt_plain(w->tokenizer, w->pad, text, length, &prompt, error);
	if (r < 0)
		return r;
	n = w->ids.count - before;
	r = add_row(&w->cut, prompt.chunks[0].ids, (n < LENGTH - 2 ? n : LENGTH - 2) + 2);
	for (size_t i = 0; r >= 0 && i < prompt.count; i++)
		r = add_row(&w->chunks, prompt.chunks[i].ids, LENGTH);
	sde_prompt_clear(&prompt);
	return r;
}

static void compare(struct golden_case *c, const struct work *w)
{
	golden_expect_i32(c, "ids", w->ids.ids, GOLDEN_SHAPE((int64_t)w->ids.count));
	golden_expect_i32(c, "offsets", w->offsets.ids, GOLDEN_SHAPE((int64_t)w->offsets.count));
	golden_expect_i32(c, "ids_77", w->cut.ids, GOLDEN_SHAPE((int64_t)w->cut.count, LENGTH));
	golden_expect_i32(c, "attention_mask_77", w->cut.mask,
			  GOLDEN_SHAPE((int64_t)w->cut.count, LENGTH));
	golden_expect_i32(c, "chunks_77", w->chunks.ids,
			  GOLDEN_SHAPE((int64_t)w->chunks.count, LENGTH));
}

/* ids_N and attention_mask_N of every text, for the N that the case lists. */
static int compare_t5_rows(struct golden_case *c, const struct sde_t5_tokenizer *tokenizer,
			   int64_t length, struct sde_error *error)
{
	const json_t *texts = golden_param(c, "texts");
	const int64_t n = (int64_t)json_array_size(texts);
	int32_t *ids = calloc((size_t)(n * length), sizeof(*ids));
	int32_t *mask = calloc((size_t)(n * length), sizeof(*mask));
	char name[40];
	json_t *text;
	size_t i, tokens;

	if (!ids || !mask)
		abort();
	json_array_foreach (texts, i, text) {
		if (sde_t5_tokenizer_row(tokenizer, json_string_value(text),
					 json_string_length(text), (size_t)length,
					 ids + (int64_t)i * length, &tokens, error) < 0)
			return -1;
		for (int64_t k = 0; k < length; k++)
			mask[(int64_t)i * length + k] = k <= (int64_t)tokens;
	}
	snprintf(name, sizeof(name), "ids_%d", (int)length);
	golden_expect_i32(c, name, ids, GOLDEN_SHAPE(n, length));
	snprintf(name, sizeof(name), "attention_mask_%d", (int)length);
	golden_expect_i32(c, name, mask, GOLDEN_SHAPE(n, length));
	free(ids);
	free(mask);
	return 0;
}

static int tokenizer_t5(struct golden_case *c)
{
	struct sde_t5_tokenizer *tokenizer;
	struct sde_ids ids = {0}, offsets = {0};
	struct sde_error error = {0};
	json_t *text;
	char name[40];
	size_t i;

	if (!c->model)
		return golden_fail(c, "malformed case: no model");
	if (sde_t5_tokenizer_load(c->model, &tokenizer, &error) < 0)
		return golden_fail_error(c, "loading", &error);
	sde_ids_append(&offsets, 0);
	json_array_foreach (golden_param(c, "texts"), i, text)
		if (sde_t5_tokenizer_encode(tokenizer, json_string_value(text),
					    json_string_length(text), &ids, &error) < 0 ||
		    sde_ids_append(&offsets, (int32_t)ids.count) < 0)
			return golden_fail_error(c, "encoding", &error);
	golden_expect_i32(c, "ids", ids.ids, GOLDEN_SHAPE((int64_t)ids.count));
	golden_expect_i32(c, "offsets", offsets.ids, GOLDEN_SHAPE((int64_t)offsets.count));
	for (int length = 1; length <= LENGTH_MAX; length++) {
		snprintf(name, sizeof(name), "ids_%d", length);
		if (golden_wants(c, name) && compare_t5_rows(c, tokenizer, length, &error) < 0)
			return golden_fail_error(c, "encoding", &error);
	}
	if (golden_param_int(c, "eos", -1) != sde_t5_tokenizer_eos(tokenizer) ||
	    golden_param_int(c, "pad", -1) != sde_t5_tokenizer_pad(tokenizer) ||
	    golden_param_int(c, "unk", -1) != sde_t5_tokenizer_unknown(tokenizer) ||
	    golden_param_int(c, "vocab_size", -1) != sde_t5_tokenizer_vocab_size(tokenizer))
		golden_fail(c, "end, padding, unknown or number of tokens differ from the case's");
	sde_t5_tokenizer_free(tokenizer);
	sde_ids_clear(&ids);
	sde_ids_clear(&offsets);
	return GOLDEN_PASS;
}

int golden_tokenizer(struct golden_case *c)
{
	struct sde_error error = {0};
	struct work w = {0};
	json_t *text;
	size_t i;
	int r;

	if (!strcmp(golden_param_string(c, "type", ""), "t5_unigram"))
		return tokenizer_t5(c);
	if (strcmp(golden_param_string(c, "type", "clip_bpe"), "clip_bpe"))
		return golden_skip(c, "tokenizer type '%s' is not implemented",
				   golden_param_string(c, "type", ""));
	if (!c->model)
		return golden_fail(c, "malformed case: no model");
	r = sde_clip_tokenizer_load(c->model, &w.tokenizer, &error);
	if (r < 0)
		return golden_fail_error(c, "loading", &error);
	w.pad = (int32_t)golden_param_int(c, "pad", sde_clip_tokenizer_pad(w.tokenizer));
	r = sde_clip_tokenizer_set_pad(w.tokenizer, w.pad);
	if (r < 0)
		sde_error_set(&error, r, "no padding token %d", w.pad);
	else
		r = sde_ids_append(&w.offsets, 0);
	json_array_foreach (golden_param(c, "texts"), i, text) {
		if (r >= 0)
			r = encode_text(&w, json_string_value(text), json_string_length(text),
					&error);
	}
	if (r >= 0)
		compare(c, &w);
	if (golden_param_int(c, "bos", -1) != sde_clip_tokenizer_bos(w.tokenizer) ||
	    golden_param_int(c, "eos", -1) != sde_clip_tokenizer_eos(w.tokenizer) ||
	    golden_param_int(c, "vocab_size", -1) != sde_clip_tokenizer_vocab_size(w.tokenizer))
		golden_fail(c, "start, end or number of tokens differ from the case's");
	sde_clip_tokenizer_free(w.tokenizer);
	sde_ids_clear(&w.ids);
	sde_ids_clear(&w.offsets);
	free(w.cut.ids);
	free(w.cut.mask);
	free(w.chunks.ids);
	free(w.chunks.mask);
	return r < 0 ? golden_fail_error(c, "encoding", &error) : GOLDEN_PASS;
}
