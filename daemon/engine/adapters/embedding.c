/*
 * Reading learnt words; see embedding.h.
 */
#include "daemon/engine/adapters/embedding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/weights.h"

/* The tensor for a text encoder: by its name, or, for a model with one encoder, the file's only tensor. */
static const struct sde_tensor *find(const struct sde_weights *weights, int tower, int n_towers)
{
	static const char *const names[] = {"clip_l", "clip_g"};
	const struct sde_tensor *tensor;

	if (n_towers > 1)
		return sde_weights_find(weights, names[tower]);
	tensor = sde_weights_find(weights, "emb_params");
	if (!tensor && sde_weights_count(weights) == 1)
		tensor = sde_weights_at(weights, 0);
	return tensor;
}

static int read_vectors(struct sde_embedding *embedding, const struct sde_weights *weights,
			const int *widths, int n_towers, struct sde_error *error)
{
	for (int i = 0; i < n_towers; i++) {
		const struct sde_tensor *tensor = find(weights, i, n_towers);
		int64_t rows, columns;

		if (!tensor)
			return sde_error_set(error, -EINVAL,
					     n_towers > 1 ? "it has no \"clip_l\" and \"clip_g\": "
							    "it was not made for SDXL"
							  : "it holds neither \"emb_params\" nor "
							    "one tensor called like "
							    "its word");
		if (tensor->rank < 1 || tensor->rank > 2)
			return sde_error_set(
				error, -EBADMSG,
				"tensor '%.120s' is neither a vector nor rows of vectors",
				tensor->name);
		rows = tensor->rank == 2 ? tensor->shape[0] : 1;
		columns = tensor->shape[tensor->rank - 1];
		if (columns != widths[i])
			return sde_error_set(
				error, -EINVAL,
				"its vectors have %lld numbers, the model's text encoder "
				"takes %d",
				(long long)columns, widths[i]);
		if (rows < 1 || rows > SDE_EMBEDDING_VECTORS_MAX ||
		    (i > 0 && rows != embedding->count))
			return sde_error_set(error, -EBADMSG,
					     "%lld vectors; a word may have 1 to %d, for each text "
					     "encoder as many",
					     (long long)rows, SDE_EMBEDDING_VECTORS_MAX);
		embedding->count = (int)rows;
		embedding->vectors[i] = calloc(tensor->count, sizeof(float));
		if (!embedding->vectors[i])
			return sde_error_set(error, -ENOMEM, "no memory");
		if (sde_tensor_to_f32(tensor, embedding->vectors[i], error) < 0)
			return error->code;
	}
	return 0;
}

/* A lone tensor's name, when it is not one of the formats' own. */
static int read_token(struct sde_embedding *embedding, const struct sde_weights *weights)
{
	const struct sde_tensor *first = sde_weights_at(weights, 0);

	if (sde_weights_count(weights) != 1 || strcmp(first->name, "emb_params") == 0 ||
	    strncmp(first->name, "clip_", 5) == 0)
		return 0;
	embedding->token = strdup(first->name);
	return embedding->token ? 0 : -ENOMEM;
}

int sde_embedding_open(const char *path, const char *name, const int *widths, int n_towers,
		       struct sde_embedding *ret_embedding, struct sde_error *error)
{
	struct sde_embedding embedding = {.name = strdup(name)};
	struct sde_error local = {0};
	struct sde_weights *weights = NULL;
	int r;

	if (!embedding.name)
		return sde_error_set(error, -ENOMEM, "no memory for an embedding");
	r = sde_weights_open(path, &weights, &local);
	if (r >= 0)
		r = read_vectors(&embedding, weights, widths, n_towers, &local);
	if (r >= 0 && read_token(&embedding, weights) < 0)
		r = sde_error_set(&local, -ENOMEM, "no memory");
	sde_weights_free(weights);
	if (r < 0) {
		sde_embedding_clear(&embedding);
		return sde_error_set(error, r, "embedding %s: %s", name, local.message);
	}
	*ret_embedding = embedding;
	return 0;
}

void sde_embedding_clear(struct sde_embedding *embedding)
{
	for (int i = 0; i < SDE_EMBEDDING_TOWERS_MAX; i++)
		free(embedding->vectors[i]);
	free(embedding->name);
	free(embedding->token);
	*embedding = (struct sde_embedding){0};
}
