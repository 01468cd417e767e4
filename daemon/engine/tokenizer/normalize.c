/*
 * The normal form of a text before it is cut into pieces: see internal.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/tokenizer/internal.h"

/* PCRE2's \s would add U+180E. */
bool sde_is_white_space(int32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

int sde_check_utf8(const char *text, size_t length, struct sde_error *error)
{
	size_t at = 0;

	while (at < length) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
						      (utf8proc_ssize_t)(length - at), &c);

		if (n <= 0)
			return sde_error_set(error, -EILSEQ, "text is not UTF-8 at byte %zu", at);
		at += (size_t)n;
	}
	return 0;
}

static size_t put_lower(utf8proc_int32_t c, char *out)
{
	size_t used;

	if (c != 0x130)
		return (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)out);
	/* the one character whose full lower-case mapping has two: LATIN CAPITAL LETTER I WITH DOT ABOVE */
	used = (size_t)utf8proc_encode_char('i', (utf8proc_uint8_t *)out);
	return used + (size_t)utf8proc_encode_char(0x307, (utf8proc_uint8_t *)out + used);
}

int sde_normalize_text(const char *text, size_t length, char **ret_text, size_t *ret_length,
		       struct sde_error *error)
{
	_cleanup_free_ utf8proc_uint8_t *composed = NULL;
	utf8proc_ssize_t size;
	size_t at = 0, used = 0;
	bool blank = false;
	char *out;
	int r;

	r = sde_check_utf8(text, length, error);
	if (r < 0)
		return r;
	size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &composed,
			    UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	/* 2 bytes may become 3 (U+0130, U+023A), never more than twice as many */
	out = size >= 0 ? malloc(2 * (size_t)size + 1) : NULL;
	if (!out)
		return sde_error_set(error, -ENOMEM, "no memory to normalise %zu bytes of text",
				     length);
	while (at < (size_t)size) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n =
			utf8proc_iterate(composed + at, size - (utf8proc_ssize_t)at, &c);

		if (n <= 0)
			break;
		at += (size_t)n;
		if (sde_is_white_space(c)) {
			if (!blank)
				out[used++] = ' ';
			blank = true;
			continue;
		}
		blank = false;
		used += put_lower(c, out + used);
	}
	out[used] = '\0';
	*ret_length = used;
	*ret_text = out;
	return 0;
}
