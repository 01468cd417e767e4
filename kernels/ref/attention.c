/*
 * Oracle of attention: per head and query, all scores, a softmax, a weighted sum. The scores of one query are recomputed
 * instead of stored, because run may not allocate.
 */
#include <math.h>

#include "kernels/ref/ref.h"

/* One query of one head. */
struct query {
	const float *q, *k; /* k: the first key, rows `channels` apart */
	const float *bias;  /* of the first key, rows `heads` apart; NULL: none */
	int dim, channels, heads;
	float scale;
};

static double score(const struct query *query, int64_t key)
{
	const float *k = query->k + key * query->channels;
	double sum = 0;

	for (int i = 0; i < query->dim; i++)
		sum += (double)query->q[i] * k[i];
	return sum * query->scale + (query->bias ? query->bias[key * query->heads] : 0);
}

int sdk_ref_attention(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		      void *out)
{
	const int channels = op->in_shape[0].c, dim = channels / op->heads;
	const int64_t queries = op->in_shape[0].w, keys = op->in_shape[1].w;
	const int64_t rows = op->in_shape[0].n * queries;

	for (int64_t row = 0; row < rows; row++) {
		const int64_t n = row / queries, i = row % queries;
		const int64_t seen = op->causal && i + 1 < keys ? i + 1 : keys;

		for (int head = 0; head < op->heads; head++) {
			const struct query query = {
				.q = (const float *)in[0] + row * channels + head * dim,
				.k = (const float *)in[1] + n * keys * channels + head * dim,
				.bias = op->n_in > 3 ? (const float *)in[3] +
							       (queries - 1 - i) * op->heads + head
						     : NULL,
				.dim = dim,
				.channels = channels,
				.heads = op->heads,
				.scale = op->scale,
			};
			const float *v = (const float *)in[2] + n * keys * channels + head * dim;
			float *y = (float *)out + row * channels + head * dim;
			double max = -INFINITY, total = 0;

			for (int64_t j = 0; j < seen; j++)
				max = fmax(max, score(&query, j));
			for (int64_t j = 0; j < seen; j++)
				total += exp(score(&query, j) - max);
			for (int c = 0; c < dim; c++)
				y[c] = 0;
			for (int64_t j = 0; j < seen; j++) {
				const double p = exp(score(&query, j) - max) / total;

				for (int c = 0; c < dim; c++)
					y[c] += (float)(p * v[j * channels + c]);
			}
		}
	}
	return 0;
}
