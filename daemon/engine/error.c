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
	char message[sizeof(error->message)];
	va_list ap;
	int used;

	if (!error)
		return 0;
	va_start(ap, format);
	used = vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	if (used < 0 || (size_t)used >= sizeof(message))
		return error->code;
	snprintf(message + used, sizeof(message) - (size_t)used, ": %s", error->message);
	memcpy(error->message, message, sizeof(message));
	return error->code;
}
