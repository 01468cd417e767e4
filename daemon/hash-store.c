/*
 * Reading and writing the file of digests; see hash-store.h. Its lines: a heading, "STATE DIGEST" of each file, the oldest first, and
 * "end DIGEST" of all the bytes above. Nothing waits for the disk: after a crash the last line tells.
 */
#include "daemon/hash-store.h"
#include "daemon/util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* Of another number when sdd_hash_stat() has changed. */
static const char heading[] = "sdd-hashes 1\n";

enum {
	LINE = 16 + 1 + 2 * SDD_DIGEST_SIZE + 1,
	END = 4 + 2 * SDD_DIGEST_SIZE + 1,
	HEADING = sizeof(heading) - 1,
	BYTES_MAX = HEADING + SDD_DIGESTS_MAX * LINE + END,
};

int sdd_hash_store_path(char *ret_path, size_t size)
{
	const char *unit = getenv("CACHE_DIRECTORY"), *base = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int n;

	/* systemd's may be a list; the specification wants relative ones passed over */
	if (unit && *unit == '/')
		n = snprintf(ret_path, size, "%.*s/hashes", (int)strcspn(unit, ":"), unit);
	else if (base && *base == '/')
		n = snprintf(ret_path, size, "%s/sdd/hashes", base);
	else if (home && *home == '/')
		n = snprintf(ret_path, size, "%s/.cache/sdd/hashes", home);
	else
		return -ENOENT;
	return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static void write_end(const char *text, size_t length, char end[END + 1])
{
	uint8_t digest[SDD_DIGEST_SIZE];
	char digits[SDD_DIGEST_TEXT_SIZE];

	sdd_digest_bytes(text, length, digest);
	sdd_digest_text(digest, digits);
	snprintf(end, END + 1, "end %s\n", digits);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes of two digits each. */
static bool parse_bytes(const char *text, uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool parse_line(const char *line, struct sdd_digest *ret_digest)
{
	uint8_t state[8];

	ret_digest->state = 0;
	if (line[16] != ' ' || line[LINE - 1] != '\n' || !parse_bytes(line, state, sizeof(state)) ||
	    !parse_bytes(line + 17, ret_digest->bytes, SDD_DIGEST_SIZE))
		return false;
	for (size_t i = 0; i < sizeof(state); i++)
		ret_digest->state = ret_digest->state << 8 | state[i];
	return true;
}

/* text: length bytes and a NUL. */
static int parse(const char *text, size_t length, struct sdd_memo *digests)
{
	const size_t lines = length - HEADING - END;
	struct sdd_digest digest;
	char end[END + 1];

	write_end(text, length - END, end);
	if (lines % LINE != 0 || strncmp(text, heading, HEADING) != 0 ||
	    memcmp(text + length - END, end, END) != 0)
		return -EBADMSG;
	for (size_t at = 0; at < lines; at += LINE)
		if (!parse_line(text + HEADING + at, &digest))
			return -EBADMSG;
	for (size_t at = 0; at < lines; at += LINE)
		if (parse_line(text + HEADING + at, &digest))
			sdd_memo_add(digests, &digest);
	return 0;
}

int sdd_hash_store_read(const char *path, struct sdd_memo *digests)
{
	SDD_CLEANUP(sdd_closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	SDD_CLEANUP(sdd_freep) char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		return -EPERM;
	if (st.st_size < HEADING + END || st.st_size > BYTES_MAX)
		return -EBADMSG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	n = read(fd, text, (size_t)st.st_size);
	if (n != st.st_size)
		return n < 0 ? -errno : -EBADMSG;
	text[n] = '\0';
	return parse(text, (size_t)n, digests);
}

/* As many bytes as fit are filled; returns how many. */
static size_t format(const struct sdd_memo *digests, char *text)
{
	const struct sdd_digest *list = (const struct sdd_digest *)digests->entries;
	char *at = text, digits[SDD_DIGEST_TEXT_SIZE];

	at = stpcpy(at, heading);
	for (size_t i = 0; i < digests->n; i++) {
		const size_t oldest = digests->n < digests->limit ? 0 : digests->next;
		const struct sdd_digest *digest = &list[(oldest + i) % digests->n];

		sdd_digest_text(digest->bytes, digits);
		at += sprintf(at, "%016" PRIx64 " %s\n", digest->state, digits);
	}
	write_end(text, (size_t)(at - text), at);
	return (size_t)(at - text) + END;
}

/* That of the file, and the one above: ~/.cache of somebody who has none yet. */
static void make_folders(const char *path)
{
	char folder[PATH_MAX], *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	*slash = '\0';
	if (mkdir(folder, 0700) == 0 || errno != ENOENT)
		return;
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return;
	*slash = '\0';
	mkdir(folder, 0700);
	*slash = '/';
	mkdir(folder, 0700);
}

/* Left by who died, or another daemon's: that one's move then finds nothing, or something that the last line gives away. */
static int open_new(const char *path)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(path, flags, 0600);

	if (fd < 0 && errno == EEXIST && unlink(path) == 0)
		fd = open(path, flags, 0600);
	return fd;
}

int sdd_hash_store_write(const char *path, const struct sdd_memo *digests)
{
	SDD_CLEANUP(sdd_freep) char *text = malloc(BYTES_MAX + 1);
	SDD_CLEANUP(sdd_closep) int fd = -EBADF;
	char beside[PATH_MAX];
	size_t length;
	ssize_t n;
	int r = 0;

	if (!text)
		return -ENOMEM;
	if (*path != '/' ||
	    (size_t)snprintf(beside, sizeof(beside), "%s.new", path) >= sizeof(beside))
		return -ENAMETOOLONG;
	length = format(digests, text);
	make_folders(path);
	fd = open_new(beside);
	if (fd < 0)
		return -errno;
	n = write(fd, text, length);
	if (n != (ssize_t)length)
		r = n < 0 ? -errno : -ENOSPC;
	else if (rename(beside, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(beside);
	return r;
}
