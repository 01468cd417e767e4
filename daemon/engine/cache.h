/*
 * What was computed once and comes again: embeddings of texts, encoded pictures, adapted models. Entries are found by the hash of
 * all that went into them, so that there is nothing to invalidate: what changed has another key. They belong to a partition (a
 * user), and no partition ever sees another's: the time that a hit saves would tell what others paint. One bound in bytes holds for
 * all of them together; whoever has most in it gives way first, with what it has not used for longest.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

struct sde_cache;

struct sde_cache_key {
	enum sde_cache_kind kind;
	uint64_t partition;
	uint64_t hash; /* formats/content.h */
};

/* How an entry ends; owner as given to sde_cache_put. */
typedef void (*sde_cache_drop_fn)(void *value, void *owner);

/* A limit of 0 keeps nothing but what is held. NULL without memory. */
struct sde_cache *sde_cache_new(uint64_t limit_bytes);
/* Whether it keeps anything. */
bool sde_cache_keeps(const struct sde_cache *cache);
/* Drops all entries. */
struct sde_cache *sde_cache_free(struct sde_cache *cache);

/*
 * The value of a key, the cache's until the next sde_cache_put, or as long as it is held; NULL: unknown. Counts a hit or a miss and
 * makes it the latest.
 */
void *sde_cache_find(struct sde_cache *cache, const struct sde_cache_key *key);
/*
 * Keep a value of so many bytes, which is the cache's from now on and may be gone when the next one comes, or at once when it is
 * larger than all. owner: see sde_cache_forget; may be NULL. 0, or -ENOMEM, which drops it.
 */
int sde_cache_put(struct sde_cache *cache, const struct sde_cache_key *key, uint64_t bytes,
		  void *value, sde_cache_drop_fn drop, void *owner);
/* The same for a value in use, which stays at least until sde_cache_release: counted, but never in the way of the limit. */
int sde_cache_put_held(struct sde_cache *cache, const struct sde_cache_key *key, uint64_t bytes,
		       void *value, sde_cache_drop_fn drop, void *owner);
void sde_cache_hold(struct sde_cache *cache, const void *value);
void sde_cache_release(struct sde_cache *cache, const void *value);
/* Drop this one, which is not held. */
void sde_cache_drop(struct sde_cache *cache, const void *value);
/* Drop an owner's entries, held or not. cache NULL: there are none. */
void sde_cache_forget(struct sde_cache *cache, const void *owner);

/* Copies of floats: found (true), or kept for the next time. What there is no memory for is not kept. */
bool sde_cache_get_floats(struct sde_cache *cache, const struct sde_cache_key *key,
			  float *ret_values, size_t n);
void sde_cache_put_floats(struct sde_cache *cache, const struct sde_cache_key *key,
			  const float *values, size_t n);

void sde_cache_stats(const struct sde_cache *cache, enum sde_cache_kind kind,
		     struct sde_cache_stats *ret_stats);
