/*
 * UTF-8 by the table 3-7 of the Unicode standard: the second byte's range depends on the first.
 */
#include <string.h>

#include "protocol/utf8.h"

/* Bytes of the well-formed sequence at text, or 0. */
static size_t sequence(const unsigned char *text, size_t length)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (text[0] == 0)
		return 0;
	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		n = 2;
	else if ((text[0] & 0xf0) == 0xe0)
		n = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > length)
		return 0;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool sdp_utf8_valid(const char *text, size_t length)
{
	for (size_t i = 0; i < length;) {
		size_t n = sequence((const unsigned char *)text + i, length - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

void sdp_utf8_clean(char *to, const char *text, size_t length)
{
	for (size_t i = 0; i < length;) {
		size_t n = sequence((const unsigned char *)text + i, length - i);

		if (n == 0) {
			to[i++] = '?';
		} else {
			memcpy(to + i, text + i, n);
			i += n;
		}
	}
	to[length] = '\0';
}
