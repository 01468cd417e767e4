/*
 * Digests that outlive a daemon: what was written is read; what is cut, changed in one bit, somebody else's or too large is passed over
 * whole; what cannot be written leaves what was there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/hash-store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], path[128];
static struct sdd_memo digests;

static int setup(void **state)
{
	strcpy(root, "/tmp/sdd-store-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/cache/sdd/hashes", root);
	digests = sdd_digests_new();
	return 0;
}

static int teardown(void **state)
{
	char command[96];

	sdd_memo_clear(&digests);
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static struct sdd_digest digest_of(uint64_t n)
{
	struct sdd_digest digest = {.state = n * UINT64_C(0x9e3779b97f4a7c15)};

	for (size_t i = 0; i < SDD_DIGEST_SIZE; i++)
		digest.bytes[i] = (uint8_t)(n * 7 + i * 31);
	return digest;
}

static void assert_knows(const struct sdd_memo *memo, uint64_t n, bool known)
{
	const struct sdd_digest right = digest_of(n);
	const struct sdd_digest *found = sdd_memo_find(memo, right.state);

	assert_int_equal(found != NULL, known);
	if (found)
		assert_memory_equal(found->bytes, right.bytes, SDD_DIGEST_SIZE);
}

static void put(uint64_t first, uint64_t last)
{
	for (uint64_t n = first; n <= last; n++) {
		const struct sdd_digest digest = digest_of(n);

		sdd_memo_add(&digests, &digest);
	}
}

/* How many digests a new daemon would find there; r of reading. */
static size_t found(int *ret)
{
	struct sdd_memo memo = sdd_digests_new();
	size_t n;

	*ret = sdd_hash_store_read(path, &memo);
	n = memo.n;
	sdd_memo_clear(&memo);
	return n;
}

static void test_what_was_written_is_read(void **state)
{
	struct sdd_memo memo = sdd_digests_new();
	char beside[160];
	struct stat st;
	int r;

	assert_int_equal(found(&r), 0);
	assert_int_equal(r, 0);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(found(&r), 0);
	assert_int_equal(r, 0);
	put(1, 5);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(sdd_hash_store_read(path, &memo), 0);
	for (uint64_t n = 0; n < 7; n++)
		assert_knows(&memo, n, n >= 1 && n <= 5);
	sdd_memo_clear(&memo);
	/* the newest stay, the oldest is the next to go, and the file is bounded */
	put(6, SDD_DIGESTS_MAX + 10);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 1, 90 * SDD_DIGESTS_MAX);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sdd_hash_store_read(path, &memo), 0);
	assert_int_equal(memo.n, SDD_DIGESTS_MAX);
	assert_knows(&memo, 10, false);
	assert_knows(&memo, 11, true);
	assert_knows(&memo, SDD_DIGESTS_MAX + 10, true);
	sdd_memo_add(&memo, &(struct sdd_digest){.state = 1});
	assert_knows(&memo, 11, false);
	sdd_memo_clear(&memo);
	snprintf(beside, sizeof(beside), "%s.new", path);
	assert_int_equal(access(beside, F_OK), -1);
}

static void test_damage_is_passed_over(void **state)
{
	char text[1024];
	FILE *file;
	size_t n;
	int r;

	put(1, 3);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	file = fopen(path, "r+e");
	assert_non_null(file);
	n = fread(text, 1, sizeof(text), file);
	assert_in_range(n, 100, sizeof(text) - 1);
	for (size_t i = 0; i < n; i++) {
		const char bit = (char)(1 << i % 8);

		for (int back = 0; back < 2; back++) {
			text[i] ^= bit;
			assert_int_equal(fseek(file, 0, SEEK_SET), 0);
			assert_int_equal(fwrite(text, n, 1, file), 1);
			assert_int_equal(fflush(file), 0);
			assert_int_equal(found(&r), back ? 3 : 0);
			assert_int_equal(r, back ? 0 : -EBADMSG);
		}
	}
	for (size_t length = 0; length < n; length++) {
		assert_int_equal(truncate(path, 0), 0);
		assert_int_equal(fseek(file, 0, SEEK_SET), 0);
		assert_int_equal(fwrite(text, 1, length, file), length);
		assert_int_equal(fflush(file), 0);
		assert_int_equal(found(&r), 0);
		assert_int_equal(r, -EBADMSG);
	}
	assert_int_equal(ftruncate(fileno(file), 1 << 20), 0);
	assert_int_equal(found(&r), 0);
	assert_int_equal(r, -EBADMSG);
	fclose(file);
	/* and is mended by the next that is written */
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(found(&r), 3);
}

static void test_what_others_may_write_is_not_believed(void **state)
{
	char elsewhere[160];
	int r;

	put(1, 3);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(chmod(path, 0620), 0);
	assert_int_equal(found(&r), 0);
	assert_int_equal(r, -EPERM);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(found(&r), 3);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(found(&r), 0);
		assert_int_equal(r, -EPERM);
	}
	/* a link is none of ours; it is replaced, what it points to is left alone */
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", root);
	assert_int_equal(rename(path, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, path), 0);
	assert_int_equal(found(&r), 0);
	assert_int_equal(r, -ELOOP);
	put(4, 5);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(found(&r), 5);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(found(&r), 0);
	assert_int_equal(r, -EPERM);
}

static void test_what_cannot_be_written_leaves_what_was(void **state)
{
	const struct rlimit small = {300, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
	char beside[160];
	int r;

	put(1, 2);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	put(3, 100);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	r = sdd_hash_store_write(path, &digests);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(found(&r), 2);
	snprintf(beside, sizeof(beside), "%s.new", path);
	assert_int_equal(access(beside, F_OK), -1);
	/* left by who died in the middle */
	assert_int_equal(symlink("/nowhere/at/all", beside), 0);
	assert_int_equal(sdd_hash_store_write(path, &digests), 0);
	assert_int_equal(found(&r), 100);
	assert_int_equal(sdd_hash_store_write("/proc/no/hashes", &digests), -ENOENT);
}

static void assert_path(const char *cache, const char *base, const char *home, int r,
			const char *expected)
{
	static const char *const names[] = {"CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME"};
	const char *const values[] = {cache, base, home};
	char text[64] = "";

	for (size_t i = 0; i < 3; i++)
		if (values[i])
			setenv(names[i], values[i], 1);
		else
			unsetenv(names[i]);
	assert_int_equal(sdd_hash_store_path(text, sizeof(text)), r);
	if (r == 0)
		assert_string_equal(text, expected);
}

static void test_where_it_lies(void **state)
{
	assert_path("/var/cache/sdd", "/x", "/h", 0, "/var/cache/sdd/hashes");
	assert_path("/var/cache/sdd:/more", NULL, NULL, 0, "/var/cache/sdd/hashes");
	assert_path(NULL, "/x", "/h", 0, "/x/sdd/hashes");
	assert_path("", "relative", "/h", 0, "/h/.cache/sdd/hashes");
	assert_path(NULL, NULL, NULL, -ENOENT, NULL);
	assert_path(NULL, "/0123456789012345678901234567890123456789012345678901234567890123", NULL,
		    -ENAMETOOLONG, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage_is_passed_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_others_may_write_is_not_believed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_written_leaves_what_was, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_where_it_lies, setup, teardown),
	};

	/* a file that may grow no further is an error, not the end */
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
