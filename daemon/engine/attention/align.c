/*
 * Words by their longest common subsequence, marks by their place in the chunk; see align.h.
 */
#include "daemon/engine/attention/align.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

#define PIECES_MAX 2048 /* a table of their square */

struct aligner {
	struct sde_alignment *alignment;
	const struct sde_prompt *source, *edited;
	const struct sde_prompt_pieces *a, *b; /* source's, edited's */
	float *table;			       /* (rows, rows): [edited row][source row] */
	int *pairs; /* of each piece of b the piece of a it takes over; -1: none */
};

static void take(struct aligner *aligner, int row, int source_row, float weight)
{
	aligner->table[(size_t)row * aligner->alignment->rows + (size_t)source_row] = weight;
	aligner->alignment->own[row] = false;
}

/* Begin, end and padding of a chunk; what the edited prompt has less of them gets the rest in its last one. */
static void align_marks(struct aligner *aligner, size_t chunk)
{
	const int base = (int)chunk * SDE_PROMPT_LENGTH, last = base + SDE_PROMPT_LENGTH - 1;
	int from = base + aligner->source->chunks[chunk].tokens + 1;
	int to = base + aligner->edited->chunks[chunk].tokens + 1;

	take(aligner, base, base, 1);
	for (int row = to; row <= last; row++)
		aligner->alignment->own[row] = false;
	for (; from <= last; from++) {
		take(aligner, to, from, 1);
		if (to < last)
			to++;
	}
}

static void align_piece(struct aligner *aligner, size_t i, size_t k)
{
	const struct sde_prompt_piece *from = &aligner->a->items[i], *to = &aligner->b->items[k];
	const int *sources = aligner->a->rows + from->first, *rows = aligner->b->rows + to->first;

	for (size_t t = 0; t < to->count; t++)
		for (size_t s = 0; s < from->count; s++)
			if (from->count != to->count)
				take(aligner, rows[t], sources[s], 1.0f / (float)to->count);
			else if (s == t)
				take(aligner, rows[t], sources[s], 1);
}

/* The longest common subsequence: lengths[i][k] of what is left from i and k on. */
static int pair_equals(struct aligner *aligner)
{
	const size_t n = aligner->a->count, m = aligner->b->count, row = m + 1;
	size_t i = 0, k = 0;
	int *lengths = calloc((n + 1) * row, sizeof(*lengths));

	if (!lengths)
		return -ENOMEM;
	for (size_t x = n; x-- > 0;)
		for (size_t y = m; y-- > 0;) {
			const int right = lengths[x * row + y + 1];
			const int below = lengths[(x + 1) * row + y];
			int best = right > below ? right : below;

			if (sde_prompt_pieces_equal(aligner->a, x, aligner->b, y))
				best = lengths[(x + 1) * row + y + 1] + 1;
			lengths[x * row + y] = best;
		}
	while (i < n && k < m) {
		if (sde_prompt_pieces_equal(aligner->a, i, aligner->b, k))
			aligner->pairs[k++] = (int)i++;
		else if (lengths[(i + 1) * row + k] >= lengths[i * row + k + 1])
			i++;
		else
			k++;
	}
	free(lengths);
	return 0;
}

/* Between equal words: equally many others on both sides stand for each other. */
static void pair_replaced(struct aligner *aligner)
{
	const size_t m = aligner->b->count;
	size_t i = 0, k = 0;

	while (k < m) {
		size_t end = k;
		size_t stop = aligner->a->count;

		while (end < m && aligner->pairs[end] < 0)
			end++;
		if (end < m)
			stop = (size_t)aligner->pairs[end];
		if (end - k == stop - i)
			for (size_t at = k; at < end; at++)
				aligner->pairs[at] = (int)(i + at - k);
		i = stop + 1;
		k = end + 1;
	}
}

static int pair(struct aligner *aligner, enum sde_edit_kind kind, struct sde_error *error)
{
	const size_t n = aligner->a->count, m = aligner->b->count;

	if (n > PIECES_MAX || m > PIECES_MAX)
		return sde_error_set(error, -EINVAL,
				     "prompts of %zu and %zu words are too long for an edit", n, m);
	for (size_t k = 0; k < m; k++)
		aligner->pairs[k] = -1;
	if (kind == SDE_EDIT_REPLACE) {
		if (n != m)
			return sde_error_set(
				error, -EINVAL,
				"edit replace needs prompts of equally many words, punctuation "
				"counted; source_prompt has %zu and prompt %zu (auto and refine "
				"take any)",
				n, m);
		for (size_t k = 0; k < m; k++)
			aligner->pairs[k] = (int)k;
		return 0;
	}
	if (pair_equals(aligner) < 0)
		return sde_error_set(error, -ENOMEM, "no memory to compare prompts");
	if (kind == SDE_EDIT_AUTO)
		pair_replaced(aligner);
	return 0;
}

/* The table without its zeros. */
static int compress(struct aligner *aligner)
{
	struct sde_alignment *alignment = aligner->alignment;
	const size_t rows = alignment->rows;
	size_t n = 0;

	for (size_t i = 0; i < rows * rows; i++)
		n += aligner->table[i] != 0;
	alignment->sources = calloc(n + 1, sizeof(*alignment->sources));
	alignment->weights = calloc(n + 1, sizeof(*alignment->weights));
	if (!alignment->sources || !alignment->weights)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < rows * rows; i++) {
		if (i % rows == 0)
			alignment->first[i / rows] = n;
		if (aligner->table[i] == 0)
			continue;
		alignment->sources[n] = (int)(i % rows);
		alignment->weights[n++] = aligner->table[i];
	}
	alignment->first[rows] = n;
	return 0;
}

int sde_alignment_init(struct sde_alignment *alignment, enum sde_edit_kind kind,
		       const struct sde_prompt *source,
		       const struct sde_prompt_pieces *source_pieces,
		       const struct sde_prompt *edited,
		       const struct sde_prompt_pieces *edited_pieces, struct sde_error *error)
{
	const size_t rows = edited->count * SDE_PROMPT_LENGTH;
	struct aligner aligner = {.alignment = alignment,
				  .source = source,
				  .edited = edited,
				  .a = source_pieces,
				  .b = edited_pieces};
	int r;

	*alignment = (struct sde_alignment){.rows = rows};
	if (source->count != edited->count)
		return sde_error_set(error, -EINVAL, "prompts of %zu and %zu chunks do not align",
				     source->count, edited->count);
	alignment->first = calloc(rows + 1, sizeof(*alignment->first));
	alignment->own = calloc(rows, sizeof(*alignment->own));
	aligner.table = calloc(rows * rows, sizeof(*aligner.table));
	aligner.pairs = calloc(edited_pieces->count + 1, sizeof(*aligner.pairs));
	r = alignment->first && alignment->own && aligner.table && aligner.pairs
		    ? 0
		    : sde_error_set(error, -ENOMEM, "no memory to compare prompts");
	if (r >= 0)
		r = pair(&aligner, kind, error);
	if (r >= 0) {
		memset(alignment->own, true, rows * sizeof(*alignment->own));
		for (size_t c = 0; c < edited->count; c++)
			align_marks(&aligner, c);
		for (size_t k = 0; k < edited_pieces->count; k++)
			if (aligner.pairs[k] >= 0)
				align_piece(&aligner, (size_t)aligner.pairs[k], k);
		if (compress(&aligner) < 0)
			r = sde_error_set(error, -ENOMEM, "no memory to compare prompts");
	}
	free(aligner.table);
	free(aligner.pairs);
	if (r < 0)
		sde_alignment_clear(alignment);
	return r;
}

void sde_alignment_clear(struct sde_alignment *alignment)
{
	free(alignment->first);
	free(alignment->sources);
	free(alignment->weights);
	free(alignment->own);
	*alignment = (struct sde_alignment){0};
}
