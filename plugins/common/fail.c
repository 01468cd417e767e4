/*
 * One error form for everything; see fail.h.
 */
#include "plugins/common/fail.h"

#include <stdarg.h>
#include <stdio.h>

int sdh_fail(sdc_error *error, int code, const char *format, ...)
{
	va_list ap;

	if (!error)
		return code;
	*error = (sdc_error){.code = code};
	va_start(ap, format);
	vsnprintf(error->message, sizeof(error->message), format, ap);
	va_end(ap);
	return code;
}
