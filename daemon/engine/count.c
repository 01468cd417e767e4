/*
 * Counting a prompt's tokens while it is typed. A counter is a model of which nothing was loaded but what cutting a prompt
 * needs, so that a job says the same number: both cut by sde_text_cut.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/words.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/prompt/tags.h"

struct sde_counter {
	struct sde_model model; /* without runner, weights, autoencoder */
};

static int load(struct sde_model *model, const char *path, struct sde_error *error)
{
	const struct sde_denoiser_class *class = NULL;
	_cleanup_json_ json_t *config = NULL;
	char what[64];
	int r;

	r = sde_model_dir_open(path, &model->dir, error);
	if (r >= 0)
		r = sde_model_find_denoiser(model, &class, &config, error);
	if (r < 0)
		return r;
	snprintf(what, sizeof(what), "%s/config.json", class->folder);
	r = class->configure(&model->denoiser, config, what, error);
	if (r < 0)
		return r;
	model->family = sde_family_of(&model->denoiser, false); /* a refiner reads as SDXL does */
	return sde_model_load_text(model, false, error);
}

int sde_counter_new(const char *path, struct sde_counter **ret_counter, struct sde_error *ret_error)
{
	struct sde_counter *counter = calloc(1, sizeof(*counter));
	int r;

	if (!counter)
		return sde_error_set(ret_error, -ENOMEM, "no memory for tokenizers");
	r = load(&counter->model, path, ret_error);
	counter->model.dir = sde_model_dir_free(counter->model.dir);
	if (r < 0) {
		sde_counter_free(counter);
		return r;
	}
	*ret_counter = counter;
	return 0;
}

struct sde_counter *sde_counter_free(struct sde_counter *counter)
{
	if (counter)
		sde_model_clear_text(&counter->model);
	free(counter);
	return NULL;
}

static int cut(const struct sde_counter *counter, const char *text, const struct sde_words *words,
	       struct sde_text *ret_text, struct sde_error *error)
{
	const char *const same[SDE_TEXTS_MAX] = {text, text, text};

	return sde_text_cut(&counter->model, same, true, words, 0, ret_text, error);
}

static bool t5_reads_all(const struct sde_t5_prompt *t5)
{
	return !t5->ids || t5->tokens + 1 <= (size_t)t5->length;
}

/* The longest beginning of whole words that T5 reads, by halving: more words never make fewer tokens. */
static int find_lost(const struct sde_counter *counter, const char *prompt,
		     const struct sde_words *words, const char **ret_lost, struct sde_error *error)
{
	size_t read = 0, lost = strlen(prompt); /* bytes: read is known to fit, lost not to */
	_cleanup_free_ char *head = strdup(prompt);

	if (!head)
		return sde_error_set(error, -ENOMEM, "no memory for a prompt");
	for (;;) {
		struct sde_text text = {0};
		size_t middle = read + (lost - read) / 2;
		bool fits;
		int r;

		/* the end of a word between both, at the middle or else behind or before it */
		while (middle < lost && !isspace((unsigned char)prompt[middle]))
			middle++;
		if (middle == lost)
			for (middle = read + (lost - read) / 2;
			     middle > read && !isspace((unsigned char)prompt[middle]);)
				middle--;
		if (middle <= read)
			break;
		memcpy(head, prompt, middle);
		head[middle] = '\0';
		r = cut(counter, head, words, &text, error);
		if (r < 0)
			return r;
		fits = t5_reads_all(&text.t5);
		sde_text_clear(&text);
		if (fits)
			read = middle;
		else
			lost = middle;
	}
	while (isspace((unsigned char)prompt[read]))
		read++;
	*ret_lost = prompt + read;
	return 0;
}

static int count(const struct sde_counter *counter, const char *prompt,
		 const struct sde_words *words, struct sde_count *ret_count,
		 struct sde_error *error)
{
	const bool t5_alone = counter->model.family->t5_alone;
	struct sde_text text = {0};
	const char *lost = "";
	int r;

	r = cut(counter, prompt, words, &text, error);
	if (r < 0)
		return r;
	*ret_count = (struct sde_count){
		.tokens = (int)(t5_alone ? text.t5.tokens : text.clip[0].tokens),
		.chunks = t5_alone ? 1 : (int)text.clip[0].count,
		.limit = t5_alone ? text.t5.length - 1 : SDE_PROMPT_CHUNK,
	};
	if (!t5_reads_all(&text.t5))
		r = find_lost(counter, prompt, words, &lost, error);
	sde_text_clear(&text);
	if (r < 0)
		return r;
	ret_count->lost = strdup(lost);
	return ret_count->lost ? 0 : sde_error_set(error, -ENOMEM, "no memory for a prompt");
}

int sde_counter_count(const struct sde_counter *counter, const char *prompt,
		      const char *const *adapter_roots, size_t n_adapter_roots,
		      struct sde_count *ret_count, struct sde_error *ret_error)
{
	const struct sde_adapter_roots roots = {adapter_roots, n_adapter_roots};
	struct sde_words *words = calloc(1, sizeof(*words));
	struct sde_lora_tag *tags = NULL;
	const char *texts[1];
	char *text = NULL;
	size_t n_tags = 0;
	int r;

	if (!words)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a prompt");
	r = sde_prompt_tags(prompt, &text, &tags, &n_tags, ret_error);
	if (r >= 0) {
		texts[0] = text;
		r = sde_words_find(words, &counter->model, &roots, texts, 1, ret_error);
	}
	if (r >= 0)
		r = count(counter, text, words, ret_count, ret_error);
	sde_words_clear(words);
	free(words);
	free(tags);
	free(text);
	return r;
}
