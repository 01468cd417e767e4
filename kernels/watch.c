/*
 * Attention maps outside of the backends; see watch.h. A head's keys are transposed first, so that the innermost loops run along
 * keys, or channels, that lie side by side.
 */
#include "kernels/watch.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static size_t dim_of(const struct sdk_attention_site *site)
{
	return (size_t)site->channels / (size_t)site->heads;
}

size_t sdk_attention_work(const struct sdk_attention_site *site)
{
	return dim_of(site) * ((size_t)site->keys + 1);
}

/* One token of a row's head as float32; tokens: of that row. */
static void read_token(const struct sdk_attention_site *site, const void *values, size_t tokens,
		       int row, int head, size_t token, float *ret_values)
{
	const size_t dim = dim_of(site);
	const size_t at =
		((size_t)row * tokens + token) * (size_t)site->channels + (size_t)head * dim;

	sdk_widen(site->type, (const char *)values + at * sdk_type_size(site->type), ret_values,
		  dim);
}

static void softmax(float *scores, size_t n)
{
	float max = -INFINITY, sum = 0;

	for (size_t j = 0; j < n; j++)
		max = fmaxf(max, scores[j]);
	for (size_t j = 0; j < n; j++) {
		scores[j] = expf(scores[j] - max);
		sum += scores[j];
	}
	for (size_t j = 0; j < n; j++)
		scores[j] /= sum;
}

void sdk_attention_map(const struct sdk_attention_site *site, int row, int head, float *work,
		       float *ret_map)
{
	const size_t dim = dim_of(site), queries = (size_t)site->queries;
	const size_t keys = (size_t)site->keys;
	float *token = work, *transposed = work + dim;

	for (size_t j = 0; j < keys; j++) {
		read_token(site, site->k, keys, row, head, j, token);
		for (size_t c = 0; c < dim; c++)
			transposed[c * keys + j] = token[c] * site->scale;
	}
	for (size_t i = 0; i < queries; i++) {
		float *scores = ret_map + i * keys;

		read_token(site, site->q, queries, row, head, i, token);
		memset(scores, 0, keys * sizeof(*scores));
		for (size_t c = 0; c < dim; c++)
			for (size_t j = 0; j < keys; j++)
				scores[j] += token[c] * transposed[c * keys + j];
		softmax(scores, keys);
	}
}

void sdk_attention_add(const struct sdk_attention_site *site, int row, int head, const float *map,
		       float *work)
{
	const size_t dim = dim_of(site), queries = (size_t)site->queries;
	const size_t keys = (size_t)site->keys, size = sdk_type_size(site->type);
	float *sum = work, *values = work + dim;

	for (size_t j = 0; j < keys; j++)
		read_token(site, site->v, keys, row, head, j, values + j * dim);
	for (size_t i = 0; i < queries; i++) {
		char *out =
			(char *)site->out + (((size_t)row * queries + i) * (size_t)site->channels +
					     (size_t)head * dim) *
						    size;
		bool any = false;

		sdk_widen(site->type, out, sum, dim);
		for (size_t j = 0; j < keys; j++) {
			const float share = map[i * keys + j];

			if (share == 0)
				continue;
			any = true;
			for (size_t c = 0; c < dim; c++)
				sum[c] += share * values[j * dim + c];
		}
		if (any)
			sdk_narrow(site->type, sum, out, dim);
	}
}
