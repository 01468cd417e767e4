/*
 * SHA-256 of files and folders; see model-hash.h. The arithmetic is nettle's.
 */
#include "daemon/model-hash.h"
#include "daemon/util/cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum { PIECE = 1 << 20, FILES_MAX = 4096 };

_Static_assert(SDD_DIGEST_SIZE == SHA256_DIGEST_SIZE, "nettle's");

struct sdd_memo sdd_digests_new(void)
{
	return sdd_memo_new(sizeof(struct sdd_digest), SDD_DIGESTS_MAX);
}

void sdd_digest_text(const uint8_t digest[SDD_DIGEST_SIZE], char ret_text[SDD_DIGEST_TEXT_SIZE])
{
	for (size_t i = 0; i < SDD_DIGEST_SIZE; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", digest[i]);
}

void sdd_digest_bytes(const void *bytes, size_t n, uint8_t ret_digest[SDD_DIGEST_SIZE])
{
	struct sha256_ctx sha;

	sha256_init(&sha);
	sha256_update(&sha, n, bytes);
	sha256_digest(&sha, SDD_DIGEST_SIZE, ret_digest);
}

/* What was not in the page cache before does not push other things out of it. */
static bool is_cached(int fd)
{
	char byte;
	const struct iovec place = {&byte, 1};

	return preadv2(fd, &place, 1, 0, RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

static int read_file(int fd, const struct sdd_hash_hooks *hooks, uint8_t digest[SDD_DIGEST_SIZE])
{
	SDD_CLEANUP(sdd_freep) uint8_t *piece = malloc(PIECE);
	const bool cached = is_cached(fd);
	struct sha256_ctx sha;
	off_t at = 0;
	ssize_t n;

	if (!piece)
		return -ENOMEM;
	sha256_init(&sha);
	while ((n = pread(fd, piece, PIECE, at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		sha256_update(&sha, (size_t)n, piece);
		if (!cached)
			posix_fadvise(fd, at, n, POSIX_FADV_DONTNEED);
		at += n;
		if (hooks->pause)
			hooks->pause(hooks->userdata);
	}
	sha256_digest(&sha, SDD_DIGEST_SIZE, digest);
	return 0;
}

/* What is written in the same tick of the clock would have the same state: a tenth of a second more is nothing to who reads gigabytes. */
static bool settle(const struct stat *st)
{
	const int64_t wait_us = sdd_memo_settles_in_us(st);
	const struct timespec pause = {0, wait_us * 1000};

	if (wait_us > 0 && wait_us <= SDD_SETTLED_US)
		nanosleep(&pause, NULL);
	return sdd_memo_settles_in_us(st) == 0;
}

static int hash_file(const char *path, const struct sdd_memo *known,
		     const struct sdd_hash_hooks *hooks, uint8_t ret_digest[SDD_DIGEST_SIZE])
{
	SDD_CLEANUP(sdd_closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const struct sdd_digest *seen;
	struct sdd_digest digest;
	struct stat st;
	bool settled;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISDIR;
	digest.state = sdd_hash_stat(1, &st);
	seen = sdd_memo_find(known, digest.state);
	if (seen) {
		memcpy(ret_digest, seen->bytes, SDD_DIGEST_SIZE);
		return 0;
	}
	settled = settle(&st);
	r = read_file(fd, hooks, digest.bytes);
	if (r < 0)
		return r;
	/* written to meanwhile: the bytes belong to neither state */
	if (fstat(fd, &st) < 0 || sdd_hash_stat(1, &st) != digest.state)
		return -EAGAIN;
	if (settled && hooks->found)
		hooks->found(hooks->userdata, &digest);
	memcpy(ret_digest, digest.bytes, SDD_DIGEST_SIZE);
	return 0;
}

struct names {
	char *list[FILES_MAX];
	size_t n;
};

static bool counts(const char *name)
{
	static const char *const endings[] = {".safetensors", ".gguf", ".json", ".txt", ".model"};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
		if (strcmp(dot, endings[i]) == 0)
			return strcmp(name, "sdd.json") != 0;
	return false;
}

/* Names below the folder at path, as seen from the model's; prefix "" or "COMPONENT/". */
static int collect(const char *path, const char *prefix, int depth, struct names *names)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	char below[PATH_MAX];
	struct stat st;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (entry = readdir(dir))) {
		SDD_CLEANUP(sdd_freep) char *name = NULL;
		bool folder;

		if (entry->d_name[0] == '.' ||
		    (size_t)snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >=
			    sizeof(below) ||
		    stat(below, &st) < 0)
			continue;
		folder = S_ISDIR(st.st_mode);
		if (folder ? depth == 0 : !S_ISREG(st.st_mode) || !counts(entry->d_name))
			continue;
		if (asprintf(&name, "%s%s%s", prefix, entry->d_name, folder ? "/" : "") < 0) {
			name = NULL;
			r = -ENOMEM;
		} else if (folder) {
			r = collect(below, name, depth - 1, names);
		} else if (names->n == FILES_MAX) {
			r = -E2BIG;
		} else {
			names->list[names->n++] = sdd_steal_pointer(name);
		}
	}
	closedir(dir);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int hash_folder(const char *path, const struct sdd_memo *known,
		       const struct sdd_hash_hooks *hooks, uint8_t ret_digest[SDD_DIGEST_SIZE])
{
	SDD_CLEANUP(sdd_freep) struct names *names = calloc(1, sizeof(*names));
	char text[SDD_DIGEST_TEXT_SIZE], below[PATH_MAX], line[PATH_MAX + SDD_DIGEST_TEXT_SIZE + 4];
	uint8_t digest[SDD_DIGEST_SIZE];
	struct sha256_ctx sha;
	int r, n;

	if (!names)
		return -ENOMEM;
	r = collect(path, "", 1, names);
	if (r == 0 && names->n == 0)
		r = -ENOENT;
	qsort(names->list, names->n, sizeof(names->list[0]), by_name);
	sha256_init(&sha);
	for (size_t i = 0; i < names->n; i++) {
		if (r == 0 && (size_t)snprintf(below, sizeof(below), "%s/%s", path,
					       names->list[i]) >= sizeof(below))
			r = -ENAMETOOLONG;
		if (r == 0)
			r = hash_file(below, known, hooks, digest);
		if (r == 0) {
			sdd_digest_text(digest, text);
			n = snprintf(line, sizeof(line), "%s  %s\n", text, names->list[i]);
			sha256_update(&sha, (size_t)n, (const uint8_t *)line);
		}
		free(names->list[i]);
	}
	if (r == 0)
		sha256_digest(&sha, SDD_DIGEST_SIZE, ret_digest);
	return r;
}

int sdd_model_hash(const char *path, const struct sdd_memo *known,
		   const struct sdd_hash_hooks *hooks, uint8_t ret_digest[SDD_DIGEST_SIZE])
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? hash_folder(path, known, hooks, ret_digest)
				   : hash_file(path, known, hooks, ret_digest);
}
