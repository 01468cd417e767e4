/*
 * Reading ahead: pages that were on the disk alone are in memory before anybody touches them, and who stops does not wait. The file
 * lies in the working directory, since a file of tmpfs is never on a disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/readahead.h"

#define FLOATS ((size_t)8 << 20) /* 32 MiB */

static char path[] = "sdd-test-readahead-XXXXXX";

static int write_file(void **state)
{
	char header[128];
	const uint64_t length = (uint64_t)snprintf(
		header, sizeof(header),
		"{\"w\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}   ", FLOATS,
		4 * FLOATS);
	const int fd = mkstemp(path);
	char *zeros = calloc(FLOATS, 4);
	bool done = fd >= 0 && zeros && write(fd, &length, sizeof(length)) == sizeof(length) &&
		    write(fd, header, length) == (ssize_t)length &&
		    write(fd, zeros, 4 * FLOATS) == (ssize_t)(4 * FLOATS) && fsync(fd) == 0;

	free(zeros);
	if (fd >= 0)
		close(fd);
	return done ? 0 : -1;
}

static int remove_file(void **state)
{
	return unlink(path);
}

/* The share of the file's pages that are in memory. */
static double resident(void)
{
	static unsigned char pages[(4 * FLOATS >> 12) + 2];
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const size_t size = (size_t)lseek(fd, 0, SEEK_END), count = (size + 4095) >> 12;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	size_t found = 0;

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mincore(map, size, pages), 0);
	munmap(map, size);
	close(fd);
	for (size_t i = 0; i < count; i++)
		found += pages[i] & 1;
	return (double)found / (double)count;
}

/* Until none of it is in memory, for what was just written may take a moment to leave. */
static void forget(const struct sde_weights *weights)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	sde_weights_release(weights);
	for (int i = 0; i < 100 && resident() > 0.1; i++) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		usleep(20000);
	}
	close(fd);
	assert_true(resident() < 0.1);
}

static void test_pages_come(void **state)
{
	struct sde_readahead ahead = {.parts = {NULL}};
	struct sde_weights *weights;
	struct sde_error error = {0};

	assert_int_equal(sde_weights_open(path, &weights, &error), 0);
	forget(weights);
	ahead.parts[1] = weights;
	sde_readahead_start(&ahead);
	for (int i = 0; i < 500 && resident() < 0.95; i++)
		usleep(20000);
	assert_true(resident() >= 0.95);
	sde_readahead_stop(&ahead);
	sde_weights_free(weights);
}

static bool never(void *userdata)
{
	(*(int *)userdata)++;
	return false;
}

/* Nobody who wants no more gets a page more; stop without start, and twice, is nothing. */
static void test_stop(void **state)
{
	struct sde_readahead ahead = {.parts = {NULL}};
	struct sde_weights *weights;
	struct sde_error error = {0};
	int asked = 0;

	assert_int_equal(sde_weights_open(path, &weights, &error), 0);
	forget(weights);
	sde_weights_read_ahead(weights, never, &asked);
	assert_int_equal(asked, 1);
	assert_true(resident() < 0.1);
	sde_readahead_stop(&ahead);
	sde_readahead_start(&ahead);
	sde_readahead_stop(&ahead);
	sde_readahead_stop(&ahead);
	sde_weights_free(weights);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_come),
		cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests_name("readahead", tests, write_file, remove_file);
}
