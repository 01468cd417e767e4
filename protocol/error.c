/*
 * Filling a struct sdp_error, the one way any part of protocol/ refuses something.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/error.h"

static int fill(struct sdp_error *error, enum sdp_code code, const char *field, const char *format,
		va_list args)
{
	if (error) {
		error->code = code;
		error->retry_ms = 0;
		error->needed_bytes = error->free_bytes = 0;
		error->remedy[0] = '\0';
		snprintf(error->field, sizeof(error->field), "%s", field);
		vsnprintf(error->message, sizeof(error->message), format, args);
	}
	return code == SDP_CODE_BAD_MESSAGE ? -EPROTO
	       : code == SDP_CODE_NO_MEMORY ? -ENOMEM
					    : -EINVAL;
}

int sdp_error_set(struct sdp_error *error, enum sdp_code code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int r = fill(error, code, "", format, args);
	va_end(args);
	return r;
}

int sdp_error_field(struct sdp_error *error, enum sdp_code code, const char *field,
		    const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int r = fill(error, code, field, format, args);
	va_end(args);
	return r;
}
