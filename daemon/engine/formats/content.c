/*
 * The hash of what weights hold; see content.h. How fast: daemon/util/hash.h.
 */
#include "daemon/engine/formats/content.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/hash.h"

#define MEMO_MAX 512

static uint64_t hash_all(const struct sde_weights *weights)
{
	const struct sde_tensor *tensor;
	uint64_t hash = 0;

	for (size_t i = 0; (tensor = sde_weights_at(weights, i)); i++) {
		hash = sdd_hash_bytes(hash, tensor->name, strlen(tensor->name));
		hash = sdd_hash_mix(hash, (uint64_t)tensor->dtype);
		hash = sdd_hash_bytes(hash, tensor->shape,
				      (size_t)tensor->rank * sizeof(tensor->shape[0]));
		hash = sdd_hash_bytes(hash, &tensor->scale, sizeof(tensor->scale));
		hash = sdd_hash_bytes(hash, tensor->data, tensor->bytes);
		sde_weights_beat(weights);
	}
	sde_weights_release(weights);
	return hash;
}

/* Of which files in which state, and what of them, without their bytes. */
static uint64_t hash_outline(const struct sde_weights *weights, uint64_t state)
{
	const struct sde_tensor *tensor;
	uint64_t hash = state;

	for (size_t i = 0; (tensor = sde_weights_at(weights, i)); i++) {
		hash = sdd_hash_bytes(hash, tensor->name, strlen(tensor->name));
		hash = sdd_hash_mix(hash, tensor->bytes);
		hash = sdd_hash_bytes(hash, tensor->shape,
				      (size_t)tensor->rank * sizeof(tensor->shape[0]));
		if (tensor->map)
			hash = sdd_hash_mix(hash, (uint64_t)((const char *)tensor->data -
							     (const char *)tensor->map));
	}
	return hash;
}

/* Contents by outline, for weights that are opened again with every job. */
static struct {
	uint64_t outline, content;
} memo[MEMO_MAX];
static size_t memo_next;
static uint64_t unique;
static pthread_mutex_t memo_lock = PTHREAD_MUTEX_INITIALIZER;

static bool remembered(uint64_t outline, uint64_t *ret_content)
{
	bool found = false;

	pthread_mutex_lock(&memo_lock);
	for (size_t i = 0; i < MEMO_MAX && !found; i++)
		if (memo[i].outline == outline) {
			*ret_content = memo[i].content;
			found = true;
		}
	pthread_mutex_unlock(&memo_lock);
	return found;
}

static void remember(uint64_t outline, uint64_t content)
{
	pthread_mutex_lock(&memo_lock);
	memo[memo_next].outline = outline;
	memo[memo_next].content = content;
	memo_next = (memo_next + 1) % MEMO_MAX;
	pthread_mutex_unlock(&memo_lock);
}

static uint64_t nobodys(void)
{
	uint64_t number;

	pthread_mutex_lock(&memo_lock);
	number = ++unique;
	pthread_mutex_unlock(&memo_lock);
	return sdd_hash_mix(UINT64_C(0x6e6f626f64792773), number);
}

uint64_t sde_weights_content(const struct sde_weights *weights)
{
	struct sde_content_memo *own = sde_weights_memo(weights);
	const uint64_t state = sde_weights_state_now(weights);
	uint64_t outline, content;

	if (own->known && own->state == state)
		return own->content;
	/* bytes that were written over since they were mapped may have been used already */
	if (!own->known && state != sde_weights_state(weights))
		return nobodys();
	outline = hash_outline(weights, state);
	if (own->known || !remembered(outline, &content)) {
		content = hash_all(weights);
		if (sde_weights_state_now(weights) != state)
			return nobodys();
		if (!own->known)
			remember(outline, content);
	}
	if (own->known && own->content != content)
		return nobodys();
	*own = (struct sde_content_memo){true, content, state};
	return content;
}

uint64_t sde_json_content(const json_t *value)
{
	char *text =
		value ? json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	const uint64_t hash = text ? sdd_hash_bytes(1, text, strlen(text)) : 0;

	free(text);
	return hash;
}
