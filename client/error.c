/*
 * Errors of the ABI: the daemon's codes negated, and a few of the library's own.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/internal.h"

int sdc_fail(sdc_error *error, int code, const char *format, ...)
{
	va_list args;

	if (!error)
		return code;
	memset(error, 0, sizeof(*error));
	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return code;
}

int sdc_fail_with(sdc_error *error, const struct sdp_error *from)
{
	int code = from->code > 0 && from->code < 100 ? -from->code : SDC_E_INTERNAL;

	sdc_fail(error, code, "%s", from->message);
	if (error) {
		memcpy(error->field, from->field, sizeof(error->field));
		error->field[sizeof(error->field) - 1] = '\0';
		error->retry_ms = (int)from->retry_ms;
	}
	return code;
}

SDC_API const char *sdc_code_name(int code)
{
	switch (code) {
	case SDC_OK:
		return "ok";
	case SDC_E_CONNECT:
		return "connect";
	case SDC_E_DISCONNECTED:
		return "disconnected";
	case SDC_E_PROTOCOL:
		return "protocol";
	case SDC_E_SYSTEM:
		return "system";
	default:
		return sdp_code_name(-code);
	}
}

SDC_API const char *sdc_version(void)
{
	return SDD_VERSION;
}
