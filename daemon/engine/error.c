/*
 * Filling struct sde_error: see error.h. Truncation is silent on purpose: an error path must not fail itself.
 */
#include "daemon/engine/error.h"

#include <stdio.h>
#include <string.h>

int sde_error_set(struct sde_error *error, int code, const char *format, ...)
{
	va_list ap;

	if (!error)
		return code;
	error->code = code;
	va_start(ap, format);
	vsnprintf(error->message, sizeof(error->message), format, ap);
	va_end(ap);
	return code;
}

int sde_error_prefix(struct sde_error *error, const char *format, ...)
{
	const size_t size = sizeof(error->message);
	char prefix[sizeof(error->message)];
	size_t used, rest;
	va_list ap;

	if (!error)
		return 0;
	va_start(ap, format);
	vsnprintf(prefix, size - 2, format, ap);
	va_end(ap);
	strcat(prefix, ": ");
	used = strlen(prefix);
	rest = strnlen(error->message, size - 1 - used);
	memmove(error->message + used, error->message, rest);
	memcpy(error->message, prefix, used);
	error->message[used + rest] = '\0';
	return error->code;
}
