/*
 * Viterbi over the pieces that begin at each character. Pieces are found by narrowing a range of the sorted list byte after
 * byte, so that no vocabulary, however odd, makes it slow.
 */
#include "daemon/engine/tokenizer/unigram.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "daemon/engine/formats/cleanup.h"

#define UNKNOWN_PENALTY 10.0

int sde_unigram_add(struct sde_unigram *unigram, const char *text, size_t length, double score)
{
	struct sde_unigram_piece *piece;

	if (unigram->count == SDE_UNIGRAM_PIECES_MAX)
		return -E2BIG;
	if (unigram->count == unigram->room) {
		const int32_t room = unigram->room ? 2 * unigram->room : 1024;
		struct sde_unigram_piece *larger =
			reallocarray(unigram->pieces, (size_t)room, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		unigram->pieces = larger;
		unigram->room = room;
	}
	piece = &unigram->pieces[unigram->count];
	piece->text = malloc(length + 1);
	if (!piece->text)
		return -ENOMEM;
	memcpy(piece->text, text, length);
	piece->text[length] = '\0';
	piece->length = length;
	piece->score = score;
	unigram->count++;
	return 0;
}

static int compare(const struct sde_unigram_piece *a, const struct sde_unigram_piece *b)
{
	const size_t shorter = a->length < b->length ? a->length : b->length;
	const int order = memcmp(a->text, b->text, shorter);

	return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_ids(const void *a, const void *b, void *userdata)
{
	const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	const struct sde_unigram_piece *pieces = userdata;
	const int order = compare(&pieces[x], &pieces[y]);

	return order ? order : y - x; /* of equal pieces the last one counts, as in a dictionary */
}

int sde_unigram_finish(struct sde_unigram *unigram, int32_t unknown)
{
	double lowest = INFINITY;

	if (unknown < 0 || unknown >= unigram->count)
		return -EBADMSG;
	unigram->sorted = calloc((size_t)unigram->count, sizeof(*unigram->sorted));
	if (!unigram->sorted)
		return -ENOMEM;
	for (int32_t i = 0; i < unigram->count; i++) {
		unigram->sorted[i] = i;
		if (unigram->pieces[i].score < lowest)
			lowest = unigram->pieces[i].score;
	}
	qsort_r(unigram->sorted, (size_t)unigram->count, sizeof(*unigram->sorted), compare_ids,
		unigram->pieces);
	unigram->unknown = unknown;
	unigram->unknown_score = lowest - UNKNOWN_PENALTY;
	return 0;
}

void sde_unigram_clear(struct sde_unigram *unigram)
{
	for (int32_t i = 0; i < unigram->count; i++)
		free(unigram->pieces[i].text);
	free(unigram->pieces);
	free(unigram->sorted);
	*unigram = (struct sde_unigram){0};
}

/* sorted[low, high): pieces that begin with the first `length` bytes looked at so far. */
struct range {
	int32_t low, high;
	size_t length;
};

/* The first in the range whose next byte is at least (or, with above, more than) byte. */
static int32_t bound(const struct sde_unigram *unigram, const struct range *range, uint8_t byte,
		     bool above)
{
	int32_t low = range->low, high = range->high;

	while (low < high) {
		const int32_t middle = low + (high - low) / 2;
		const struct sde_unigram_piece *piece = &unigram->pieces[unigram->sorted[middle]];
		const int next =
			range->length < piece->length ? (uint8_t)piece->text[range->length] : -1;

		if (next < byte || (above && next == byte))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Narrow the range by one more byte; the id of the piece that ends there, or -1. */
static int32_t extend(const struct sde_unigram *unigram, struct range *range, uint8_t byte)
{
	const int32_t low = bound(unigram, range, byte, false);
	const int32_t high = bound(unigram, range, byte, true);
	int32_t id;

	*range = (struct range){low, high, range->length + 1};
	if (low == high)
		return -1;
	id = unigram->sorted[low];
	return unigram->pieces[id].length == range->length ? id : -1;
}

int32_t sde_unigram_find(const struct sde_unigram *unigram, const char *text, size_t length)
{
	struct range range = {0, unigram->count, 0};
	int32_t id = -1;

	for (size_t i = 0; i < length && range.low < range.high; i++)
		id = extend(unigram, &range, (uint8_t)text[i]);
	return range.length == length ? id : -1;
}

/* The best way to reach the end of a character. */
struct node {
	double score;
	size_t begin; /* of its last piece */
	int32_t id;   /* of that piece, -1: not reached */
};

static void offer(struct node *nodes, size_t begin, size_t end, int32_t id, double score)
{
	const double total = nodes[begin].score + score;

	if (nodes[end].id < 0 || total > nodes[end].score)
		nodes[end] = (struct node){total, begin, id};
}

static void search(const struct sde_unigram *unigram, const char *word, size_t length,
		   struct node *nodes)
{
	size_t character;

	for (size_t begin = 0; begin < length; begin += character) {
		struct range range = {0, unigram->count, 0};
		bool single = false;

		character = (size_t)utf8proc_utf8class[(uint8_t)word[begin]];
		for (size_t end = begin; end < length && range.low < range.high;) {
			const int32_t id = extend(unigram, &range, (uint8_t)word[end++]);

			if (id < 0)
				continue;
			offer(nodes, begin, end, id, unigram->pieces[id].score);
			single |= end - begin == character;
		}
		if (!single)
			offer(nodes, begin, begin + character, unigram->unknown,
			      unigram->unknown_score);
	}
}

int sde_unigram_encode(const struct sde_unigram *unigram, const char *word, size_t length,
		       struct sde_ids *ids)
{
	_cleanup_free_ struct node *nodes = calloc(length + 1, sizeof(*nodes));
	size_t next = length;
	int r = 0;

	if (!nodes)
		return -ENOMEM;
	for (size_t i = 1; i <= length; i++)
		nodes[i].id = -1;
	search(unigram, word, length, nodes);
	/* turn the chain around: each node's score is not needed any more, its begin becomes the next node */
	for (size_t at = length; at > 0;) {
		const size_t begin = nodes[at].begin;

		nodes[at].begin = next;
		next = at;
		at = begin;
	}
	for (size_t at = next, end = 0; r == 0 && end < length; end = at, at = nodes[at].begin) {
		const bool again = end > 0 && nodes[at].id == unigram->unknown &&
				   nodes[end].id == unigram->unknown;

		if (!again)
			r = sde_ids_append(ids, nodes[at].id);
	}
	return r;
}
