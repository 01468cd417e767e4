/*
 * Byte-pair merging: a hash table of pairs, and a heap over a linked list of symbols, so that a piece of many thousand letters
 * (nothing stops a prompt from being one) costs n log n and not n squared.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/tokenizer/internal.h"

#define ON_STACK 64 /* symbols of a piece; nearly all are shorter */

struct slot {
	uint64_t pair;
	struct sde_merge merge;
};

struct sde_merges {
	uint64_t seed; /* the vocabulary is a stranger's: it shall not choose collisions */
	size_t mask, count, most;
	struct slot slots[];
};

#define EMPTY UINT64_MAX

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t home(const struct sde_merges *merges, uint64_t pair)
{
	uint64_t x = pair ^ merges->seed; /* finaliser of MurmurHash3, twice keyed */

	x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
	x = ((x ^ x >> 33) + merges->seed) * 0xc4ceb9fe1a85ec53ull;
	return (size_t)(x ^ x >> 33) & merges->mask;
}

struct sde_merges *sde_merges_new(size_t most)
{
	struct sde_merges *merges;
	size_t slots = 16, bytes;

	while (slots < 2 * most)
		slots *= 2;
	if (__builtin_mul_overflow(slots, sizeof(struct slot), &bytes))
		return NULL;
	merges = malloc(sizeof(*merges) + bytes);
	if (!merges)
		return NULL;
	memset(merges->slots, 0xff, bytes);
	merges->mask = slots - 1;
	merges->count = 0;
	merges->most = most;
	if (getrandom(&merges->seed, sizeof(merges->seed), GRND_NONBLOCK) < 0)
		merges->seed = (uint64_t)(uintptr_t)merges;
	return merges;
}

struct sde_merges *sde_merges_free(struct sde_merges *merges)
{
	free(merges);
	return NULL;
}

/* The slot that holds the pair, or the empty one where it belongs. */
static size_t locate(const struct sde_merges *merges, uint64_t pair)
{
	size_t i = home(merges, pair);

	while (merges->slots[i].pair != EMPTY && merges->slots[i].pair != pair)
		i = (i + 1) & merges->mask;
	return i;
}

bool sde_merges_add(struct sde_merges *merges, int32_t left, int32_t right, struct sde_merge merge)
{
	struct slot *slot = &merges->slots[locate(merges, pair_of(left, right))];

	if (slot->pair != EMPTY || merges->count == merges->most)
		return false;
	slot->pair = pair_of(left, right);
	slot->merge = merge;
	merges->count++;
	return true;
}

const struct sde_merge *sde_merges_find(const struct sde_merges *merges, int32_t left,
					int32_t right)
{
	const struct slot *slot = &merges->slots[locate(merges, pair_of(left, right))];

	return slot->pair == EMPTY ? NULL : &slot->merge;
}

/* A symbol of the piece; id -1 once it has been merged into its left neighbour. */
struct node {
	int32_t id;
	uint32_t previous, next; /* NONE at the ends */
};

#define NONE UINT32_MAX

/* A possible merge of nodes[left] with its right neighbour, as seen when it was queued. */
struct candidate {
	int32_t rank;
	uint32_t left;
	int32_t left_id, right_id;
};

struct heap {
	struct candidate *items;
	size_t count;
};

/* Lower rank first, then from the left: the order of the reference. */
static bool before(const struct candidate *a, const struct candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(struct heap *heap, struct candidate item)
{
	size_t i = heap->count++;

	while (i && before(&item, &heap->items[(i - 1) / 2])) {
		heap->items[i] = heap->items[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap->items[i] = item;
}

static struct candidate heap_pop(struct heap *heap)
{
	struct candidate top = heap->items[0], last = heap->items[--heap->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < heap->count) {
		if (child + 1 < heap->count && before(&heap->items[child + 1], &heap->items[child]))
			child++;
		if (!before(&heap->items[child], &last))
			break;
		heap->items[i] = heap->items[child];
		i = child;
	}
	heap->items[i] = last;
	return top;
}

static void consider(const struct sde_merges *merges, struct heap *heap, const struct node *nodes,
		     uint32_t left)
{
	const struct sde_merge *merge;
	uint32_t right;

	if (left == NONE || (right = nodes[left].next) == NONE)
		return;
	merge = sde_merges_find(merges, nodes[left].id, nodes[right].id);
	if (merge)
		heap_push(heap,
			  (struct candidate){merge->rank, left, nodes[left].id, nodes[right].id});
}

static void merge_all(const struct sde_merges *merges, struct heap *heap, struct node *nodes,
		      size_t n)
{
	for (size_t i = 0; i + 1 < n; i++)
		consider(merges, heap, nodes, (uint32_t)i);
	while (heap->count) {
		struct candidate best = heap_pop(heap);
		struct node *left = &nodes[best.left], *right;

		if (left->id != best.left_id || left->next == NONE)
			continue; /* one of the two has meanwhile merged with another */
		right = &nodes[left->next];
		if (right->id != best.right_id)
			continue;
		left->id = sde_merges_find(merges, best.left_id, best.right_id)->id;
		right->id = -1;
		left->next = right->next;
		if (left->next != NONE)
			nodes[left->next].previous = best.left;
		consider(merges, heap, nodes, left->previous);
		consider(merges, heap, nodes, best.left);
	}
}

int sde_merges_apply(const struct sde_merges *merges, const int32_t *symbols, size_t n,
		     struct sde_ids *ids)
{
	struct node few_nodes[ON_STACK], *nodes = few_nodes;
	struct candidate few_items[3 * ON_STACK];
	struct heap heap = {.items = few_items};
	_cleanup_free_ void *many = NULL;
	int r = 0;

	if (n > ON_STACK) {
		/* n - 1 candidates at first, and at most two for each of the n - 1 merges */
		many = calloc(n, sizeof(*nodes) + 3 * sizeof(*heap.items));
		if (!many)
			return -ENOMEM;
		heap.items = many;
		nodes = (struct node *)(heap.items + 3 * n);
	}
	for (size_t i = 0; i < n; i++)
		nodes[i] = (struct node){symbols[i], i ? (uint32_t)i - 1 : NONE,
					 i + 1 < n ? (uint32_t)i + 1 : NONE};
	merge_all(merges, &heap, nodes, n);
	for (uint32_t i = 0; r >= 0 && i != NONE; i = nodes[i].next)
		r = sde_ids_append(ids, nodes[i].id);
	return r;
}
