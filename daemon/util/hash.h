/*
 * A quick hash of 64 bits for what only this program compares (another one needs another heading in hash-store.c): states of files, keys of caches. Eight bytes a step (multiply and
 * fold), 2 to 4 GB a second. Not meant to withstand somebody who makes collisions; what people compare is SHA-256 (model-hash.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

static inline uint64_t sdd_hash_mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

static inline uint64_t sdd_hash_bytes(uint64_t hash, const void *data, size_t n)
{
	const char *at = data;
	uint64_t word;

	for (; n >= sizeof(word); n -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = sdd_hash_mix(hash, word);
	}
	word = 0;
	if (n > 0)
		memcpy(&word, at, n);
	return sdd_hash_mix(hash, word);
}

/*
 * Which file it is and in which state: device, inode, size, times of change, of which people can set one (mtime) but not the other
 * (ctime).
 */
static inline uint64_t sdd_hash_stat(uint64_t hash, const struct stat *st)
{
	hash = sdd_hash_mix(sdd_hash_mix(hash, (uint64_t)st->st_dev), (uint64_t)st->st_ino);
	hash = sdd_hash_mix(hash, (uint64_t)st->st_size);
	hash = sdd_hash_mix(hash, (uint64_t)st->st_mtim.tv_sec);
	hash = sdd_hash_mix(hash, (uint64_t)st->st_mtim.tv_nsec);
	hash = sdd_hash_mix(hash, (uint64_t)st->st_ctim.tv_sec);
	return sdd_hash_mix(hash, (uint64_t)st->st_ctim.tv_nsec);
}
