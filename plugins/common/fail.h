/*
 * Errors of the plug-ins' own, in the client library's form, so that a host has one kind of error to show.
 */
#pragma once

#include "client/sdclient.h"

/* Fills *error (may be NULL) and returns code. */
int sdh_fail(sdc_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
