/*
 * The one error type of the engine: a negative errno for the program and a sentence for the person.
 * The engine never logs; every failing public function fills one of these, and the caller decides who hears it.
 */
#pragma once

#include <stdarg.h>

struct sde_error {
	int code; /* 0 or a negative errno (-EINVAL, -ENOMEM, -ECANCELED, -EBADMSG, -ENOTSUP, ...) */
	char message
		[384]; /* says what is wrong and what would be right; never empty when code != 0 */
};

/* Fill *error (NULL is allowed) and return code, so that `return sde_error_set(...)` reads well. code must be negative. */
int sde_error_set(struct sde_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the message already there (which file, which component), truncating at the buffer's end. */
int sde_error_prefix(struct sde_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
