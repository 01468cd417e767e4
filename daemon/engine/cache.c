/*
 * A cache of values by hash; see cache.h. Some hundreds of entries at most, each of which saved milliseconds to seconds: a walk along
 * an array finds them.
 */
#include "daemon/engine/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 1024

struct entry {
	struct sde_cache_key key;
	uint64_t bytes, used; /* used: cache->clock when last found */
	unsigned int holds;
	void *value, *owner;
	sde_cache_drop_fn drop;
};

struct sde_cache {
	uint64_t limit, bytes, clock;
	struct entry entries[ENTRIES_MAX];
	size_t n;
	struct sde_cache_stats stats[SDE_CACHE_KINDS]; /* but for the limit */
};

struct sde_cache *sde_cache_new(uint64_t limit_bytes)
{
	struct sde_cache *cache = calloc(1, sizeof(*cache));

	if (cache)
		cache->limit = limit_bytes;
	return cache;
}

bool sde_cache_keeps(const struct sde_cache *cache)
{
	return cache->limit > 0;
}

static void drop(struct sde_cache *cache, size_t i)
{
	const struct entry entry = cache->entries[i];

	cache->entries[i] = cache->entries[--cache->n];
	cache->bytes -= entry.bytes;
	cache->stats[entry.key.kind].bytes -= entry.bytes;
	cache->stats[entry.key.kind].entries--;
	entry.drop(entry.value, entry.owner);
}

struct sde_cache *sde_cache_free(struct sde_cache *cache)
{
	while (cache && cache->n > 0)
		drop(cache, cache->n - 1);
	free(cache);
	return NULL;
}

static uint64_t bytes_of(const struct sde_cache *cache, uint64_t partition)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < cache->n; i++)
		if (cache->entries[i].key.partition == partition)
			bytes += cache->entries[i].bytes;
	return bytes;
}

/* Of the partition that has most, what was not used for longest; cache->n: all is held. */
static size_t victim(const struct sde_cache *cache)
{
	uint64_t most = 0, partition = 0;
	size_t found = cache->n;

	for (size_t i = 0; i < cache->n; i++) {
		const struct entry *entry = &cache->entries[i];
		uint64_t bytes;

		if (entry->holds > 0)
			continue;
		if (found < cache->n && entry->key.partition == partition) {
			if (entry->used < cache->entries[found].used)
				found = i;
			continue;
		}
		bytes = bytes_of(cache, entry->key.partition);
		if (found == cache->n || bytes > most) {
			most = bytes;
			partition = entry->key.partition;
			found = i;
		}
	}
	return found;
}

static void shrink(struct sde_cache *cache)
{
	while (cache->bytes > cache->limit || cache->n == ENTRIES_MAX) {
		const size_t i = victim(cache);

		if (i == cache->n)
			return;
		drop(cache, i);
	}
}

static struct entry *find(struct sde_cache *cache, const struct sde_cache_key *key)
{
	for (size_t i = 0; i < cache->n; i++) {
		struct entry *entry = &cache->entries[i];

		if (entry->key.hash == key->hash && entry->key.kind == key->kind &&
		    entry->key.partition == key->partition)
			return entry;
	}
	return NULL;
}

void *sde_cache_find(struct sde_cache *cache, const struct sde_cache_key *key)
{
	struct entry *entry = find(cache, key);

	if (!entry) {
		cache->stats[key->kind].misses++;
		return NULL;
	}
	cache->stats[key->kind].hits++;
	entry->used = ++cache->clock;
	return entry->value;
}

static int put(struct sde_cache *cache, const struct sde_cache_key *key, uint64_t bytes,
	       void *value, sde_cache_drop_fn drop_value, void *owner, unsigned int holds)
{
	struct entry *entry;

	if (cache->n == ENTRIES_MAX)
		shrink(cache);
	if (cache->n == ENTRIES_MAX) {
		drop_value(value, owner);
		return -ENOMEM;
	}
	entry = &cache->entries[cache->n++];
	*entry = (struct entry){*key, bytes, ++cache->clock, holds, value, owner, drop_value};
	cache->bytes += bytes;
	cache->stats[key->kind].bytes += bytes;
	cache->stats[key->kind].entries++;
	shrink(cache);
	return 0;
}

int sde_cache_put(struct sde_cache *cache, const struct sde_cache_key *key, uint64_t bytes,
		  void *value, sde_cache_drop_fn drop_value, void *owner)
{
	return put(cache, key, bytes, value, drop_value, owner, 0);
}

int sde_cache_put_held(struct sde_cache *cache, const struct sde_cache_key *key, uint64_t bytes,
		       void *value, sde_cache_drop_fn drop_value, void *owner)
{
	return put(cache, key, bytes, value, drop_value, owner, 1);
}

static struct entry *entry_of(struct sde_cache *cache, const void *value)
{
	for (size_t i = 0; i < cache->n; i++)
		if (cache->entries[i].value == value)
			return &cache->entries[i];
	return NULL;
}

void sde_cache_hold(struct sde_cache *cache, const void *value)
{
	struct entry *entry = entry_of(cache, value);

	if (entry)
		entry->holds++;
}

void sde_cache_release(struct sde_cache *cache, const void *value)
{
	struct entry *entry = entry_of(cache, value);

	if (!entry)
		return;
	entry->holds--;
	shrink(cache);
}

void sde_cache_drop(struct sde_cache *cache, const void *value)
{
	for (size_t i = cache->n; i-- > 0;)
		if (cache->entries[i].value == value)
			drop(cache, i);
}

void sde_cache_forget(struct sde_cache *cache, const void *owner)
{
	for (size_t i = cache ? cache->n : 0; i-- > 0;)
		if (cache->entries[i].owner == owner)
			drop(cache, i);
}

static void drop_floats(void *value, void *owner)
{
	free(value);
}

bool sde_cache_get_floats(struct sde_cache *cache, const struct sde_cache_key *key,
			  float *ret_values, size_t n)
{
	const float *values = sde_cache_find(cache, key);

	if (!values)
		return false;
	memcpy(ret_values, values, n * sizeof(*values));
	return true;
}

void sde_cache_put_floats(struct sde_cache *cache, const struct sde_cache_key *key,
			  const float *values, size_t n)
{
	const uint64_t bytes = (uint64_t)n * sizeof(*values);
	float *copy;

	/* it would push out everything for nothing */
	if (bytes > cache->limit)
		return;
	copy = malloc((size_t)bytes + 1);
	if (!copy)
		return;
	memcpy(copy, values, (size_t)bytes);
	sde_cache_put(cache, key, bytes, copy, drop_floats, NULL);
}

void sde_cache_stats(const struct sde_cache *cache, enum sde_cache_kind kind,
		     struct sde_cache_stats *ret_stats)
{
	*ret_stats = cache->stats[kind];
	ret_stats->limit_bytes = cache->limit;
}
