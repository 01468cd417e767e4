/*
 * Which learnt words a job needs; see words.h.
 */
#include "daemon/engine/adapters/words.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/model.h"

_Static_assert(SDE_EMBEDDING_TOWERS_MAX >= SDE_TOWERS_MAX,
	       "an embedding serves every text encoder");

static int append_rows(struct sde_words *words, const struct sde_embedding *embedding, int tower,
		       int width)
{
	const size_t n = (size_t)embedding->count * (size_t)width;
	float *grown = reallocarray(words->rows[tower], words->n_rows + (size_t)embedding->count,
				    (size_t)width * sizeof(float));

	if (!grown)
		return -ENOMEM;
	memcpy(grown + words->n_rows * (size_t)width, embedding->vectors[tower], n * sizeof(float));
	words->rows[tower] = grown;
	return 0;
}

/* Longer words first, so that "cat2" is not read as "cat". */
static void insert_word(struct sde_prompt_word *list, size_t n, struct sde_prompt_word word)
{
	for (; n > 0 && strlen(list[n - 1].word) < strlen(word.word); n--)
		list[n] = list[n - 1];
	list[n] = word;
}

int sde_words_add(struct sde_words *words, const struct sde_model *model, const char *path,
		  const char *name, struct sde_error *error)
{
	struct sde_embedding *embedding = &words->embeddings[words->n_embeddings];
	int widths[SDE_EMBEDDING_TOWERS_MAX], r;

	if (words->n_embeddings == SDE_WORDS_MAX)
		return sde_error_set(error, -EINVAL, "at most %d embeddings in a job's prompts",
				     SDE_WORDS_MAX);
	for (int i = 0; i < model->n_towers; i++)
		widths[i] = model->towers[i].clip.config.hidden_size;
	r = sde_embedding_open(path, name, widths, model->n_towers, embedding, error);
	if (r < 0)
		return r;
	words->n_embeddings++;
	for (int i = 0; i < model->n_towers; i++) {
		struct sde_prompt_word word = {embedding->name,
					       model->towers[i].clip.config.vocab_size +
						       (int32_t)words->n_rows,
					       embedding->count};

		if (append_rows(words, embedding, i, widths[i]) < 0)
			return sde_error_set(error, -ENOMEM, "no memory for an embedding");
		insert_word(words->words[i], words->n_words, word);
		if (!embedding->token)
			continue;
		word.word = embedding->token;
		insert_word(words->words[i], words->n_words + 1, word);
	}
	words->n_words += embedding->token ? 2 : 1;
	words->n_rows += (size_t)embedding->count;
	return 0;
}

struct search {
	struct sde_words *words;
	const struct sde_model *model;
	const char *const *texts;
	size_t n_texts;
	bool brackets; /* a "<word>" stands in the texts: files are asked for their own names too */
	struct sde_error *error;
};

static bool in_texts(const struct search *search, const char *word)
{
	for (size_t i = 0; i < search->n_texts; i++)
		if (strcasestr(search->texts[i], word))
			return true;
	return false;
}

static bool known(const struct sde_words *words, const char *name)
{
	for (size_t i = 0; i < words->n_embeddings; i++)
		if (strcmp(words->embeddings[i].name, name) == 0)
			return true;
	return false;
}

/* A file whose own name for its word stands in the texts; what cannot be read is not meant. */
static bool token_in_texts(const struct search *search, const char *path)
{
	struct sde_weights *weights;
	bool found;

	if (!search->brackets || sde_weights_open(path, &weights, NULL) < 0)
		return false;
	found = sde_weights_count(weights) == 1 && sde_weights_at(weights, 0)->name[0] == '<' &&
		in_texts(search, sde_weights_at(weights, 0)->name);
	sde_weights_free(weights);
	return found;
}

static int look(void *userdata, const char *name, const char *path)
{
	const struct search *search = userdata;

	if (known(search->words, name) ||
	    (!in_texts(search, name) && !token_in_texts(search, path)))
		return 0;
	return sde_words_add(search->words, search->model, path, name, search->error);
}

int sde_words_find(struct sde_words *words, const struct sde_model *model,
		   const struct sde_adapter_roots *roots, const char *const *texts, size_t n_texts,
		   struct sde_error *error)
{
	struct search search = {words, model, texts, n_texts, false, error};

	for (size_t i = 0; i < n_texts; i++)
		search.brackets = search.brackets || strchr(texts[i], '<');
	return sde_adapter_each(roots, "embeddings", look, &search);
}

struct sde_prompt_words sde_words_of(const struct sde_words *words, int tower)
{
	return (struct sde_prompt_words){words->words[tower], words->n_words};
}

void sde_words_attach(const struct sde_words *words, int tower, struct sde_prompt *prompt)
{
	prompt->added = words->rows[tower];
	prompt->n_added = words->n_rows;
}

void sde_words_clear(struct sde_words *words)
{
	for (size_t i = 0; i < words->n_embeddings; i++)
		sde_embedding_clear(&words->embeddings[i]);
	for (int i = 0; i < SDE_EMBEDDING_TOWERS_MAX; i++)
		free(words->rows[i]);
	*words = (struct sde_words){0};
}
