/*
 * Is it UTF-8? Asked of every string that a peer sends, and made true of every string we send. Needs no tables, so it
 * stays out of a Unicode library that the client library would then depend on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL bytes. */
bool sdp_utf8_valid(const char *text, size_t length);
/* Copy length bytes and a NUL to `to`; each byte that does not belong to well-formed UTF-8, or is NUL, becomes '?'. */
void sdp_utf8_clean(char *to, const char *text, size_t length);
