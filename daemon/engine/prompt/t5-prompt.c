/*
 * T5's prompts: each weighted part is tokenised by itself, as CLIP's is.
 */
#include "daemon/engine/prompt/t5-prompt.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/prompt/prompt.h"

/* Append a text's ids, and give the new ones their weight as far as they fit. */
static int add_text(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t size,
		    double weight, struct sde_t5_prompt *prompt, struct sde_ids *ids,
		    struct sde_error *error)
{
	const size_t before = ids->count;
	int r;

	r = sde_t5_tokenizer_encode(tokenizer, text, size, ids, error);
	for (size_t i = before; r >= 0 && i < ids->count && i + 1 < (size_t)prompt->length; i++)
		prompt->weights[i] = (float)weight;
	return r;
}

static int add_segments(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t size,
			struct sde_t5_prompt *prompt, struct sde_ids *ids, struct sde_error *error)
{
	struct sde_prompt_segments segments;
	int r;

	r = sde_prompt_parse(text, size, &segments, error);
	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < segments.count; i++)
		if (segments.items[i].weight != SDE_PROMPT_BREAK)
			r = add_text(tokenizer, segments.items[i].text, segments.items[i].length,
				     segments.items[i].weight, prompt, ids, error);
	sde_prompt_segments_clear(&segments);
	return r;
}

int sde_t5_prompt_cut(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t size,
		      bool weighted, int length, struct sde_t5_prompt *ret_prompt,
		      struct sde_error *error)
{
	struct sde_t5_prompt prompt = {.length = length};
	struct sde_ids ids = {0};
	int r;

	if (length < 1 || length > SDE_T5_LENGTH_MAX)
		return sde_error_set(error, -EINVAL, "T5 reads 1 to %d tokens, not %d",
				     SDE_T5_LENGTH_MAX, length);
	prompt.ids = calloc((size_t)length, sizeof(*prompt.ids));
	prompt.weights = calloc((size_t)length, sizeof(*prompt.weights));
	if (!prompt.ids || !prompt.weights) {
		sde_t5_prompt_clear(&prompt);
		return sde_error_set(error, -ENOMEM, "no memory for a prompt");
	}
	for (int i = 0; i < length; i++)
		prompt.weights[i] = 1;
	r = weighted ? add_segments(tokenizer, text, size, &prompt, &ids, error)
		     : add_text(tokenizer, text, size, 1, &prompt, &ids, error);
	prompt.tokens = ids.count;
	if (r >= 0)
		sde_t5_tokenizer_fit(tokenizer, ids.ids, ids.count, (size_t)length, prompt.ids);
	sde_ids_clear(&ids);
	if (r < 0) {
		sde_t5_prompt_clear(&prompt);
		return r;
	}
	*ret_prompt = prompt;
	return 0;
}

void sde_t5_prompt_clear(struct sde_t5_prompt *prompt)
{
	free(prompt->ids);
	free(prompt->weights);
	*prompt = (struct sde_t5_prompt){0};
}
