/*
 * What tests have the system do, and ask it about a process.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include <cmocka.h>

/* Runs a command of the shell, as printf() writes it, which must succeed. */
static inline void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void run(const char *format, ...)
{
	char command[9216];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	assert_in_range(n, 0, sizeof(command) - 1);
	assert_int_equal(system(command), 0);
}

/* Bytes that a process has read so far, from wherever. */
static inline long bytes_read(pid_t pid)
{
	char path[64];
	long bytes = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "rchar: %ld", &bytes), 1);
	fclose(file);
	return bytes;
}
