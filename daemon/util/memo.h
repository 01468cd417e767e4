/*
 * What was found out about files once, kept by their state (sdd_hash_stat), so that nobody reads a file twice that has not changed: a
 * ring whose oldest entry gives way. Every entry begins with the state as a uint64_t.
 */
#pragma once

#include "daemon/util/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* The clock of file systems: what is written twice within it may have the same times. */
#define SDD_SETTLED_US 100000

struct sdd_memo {
	size_t entry_bytes, limit; /* of one entry; how many there may be */
	char *entries;		   /* malloc()ed, as many as are needed */
	size_t n, next;
};

static inline struct sdd_memo sdd_memo_new(size_t entry_bytes, size_t limit)
{
	return (struct sdd_memo){.entry_bytes = entry_bytes, .limit = limit};
}

static inline void sdd_memo_clear(struct sdd_memo *memo)
{
	free(memo->entries);
	memo->entries = NULL;
	memo->n = memo->next = 0;
}

/* An entry, borrowed until the next one is added; NULL when this state is not known. */
static inline const void *sdd_memo_find(const struct sdd_memo *memo, uint64_t state)
{
	uint64_t known;

	for (size_t i = 0; i < memo->n; i++) {
		memcpy(&known, memo->entries + i * memo->entry_bytes, sizeof(known));
		if (known == state)
			return memo->entries + i * memo->entry_bytes;
	}
	return NULL;
}

/* A copy of it stays; forgotten when there is no memory. */
static inline void sdd_memo_add(struct sdd_memo *memo, const void *entry)
{
	/* a power of two is full: twice as many */
	if (memo->n < memo->limit && (memo->n & (memo->n - 1)) == 0) {
		const size_t room = memo->n > 0 ? 2 * memo->n : 1;
		char *entries = realloc(memo->entries, room * memo->entry_bytes);

		if (!entries)
			return;
		memo->entries = entries;
	}
	memcpy(memo->entries + memo->next * memo->entry_bytes, entry, memo->entry_bytes);
	memo->next = (memo->next + 1) % memo->limit;
	if (memo->n < memo->limit)
		memo->n++;
}

/* How long until its times tell one content of the file from the next, microseconds; 0 = they do. What was read before is not kept. */
static inline int64_t sdd_memo_settles_in_us(const struct stat *st)
{
	struct timespec now;
	int64_t age_us;

	clock_gettime(CLOCK_REALTIME, &now);
	age_us = ((int64_t)now.tv_sec - st->st_ctim.tv_sec) * 1000000 +
		 (now.tv_nsec - st->st_ctim.tv_nsec) / 1000;
	return age_us >= SDD_SETTLED_US ? 0 : SDD_SETTLED_US - age_us;
}
