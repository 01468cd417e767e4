/*
 * Any bytes into the scanner, whole and in odd pieces: both ways must agree, and what passes must parse in msgpack-c.
 * The first byte sets the size of the pieces and whether responses may carry bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const struct sdp_scanner *scanner, const uint8_t *bytes, size_t length)
{
	struct sdp_message *message = NULL;
	struct sdp_error error;
	uint8_t *copy = malloc(length);

	memcpy(copy, bytes, length);
	/* descriptors are counted, but none came */
	if (sdp_message_new(scanner, copy, length, NULL, 0, &message, &error) == 0)
		sdp_message_free(message);
	else if (error.code != SDP_CODE_BAD_MESSAGE || scanner->kind != SDP_RESPONSE)
		abort(); /* only the inside of an error response may still be wrong */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sdp_scanner whole, pieces;
	size_t used_whole = 0, used = 0, at = 0;
	int r_whole, r = SDP_SCAN_MORE;

	if (size < 1)
		return 0;
	size_t piece = 1 + (data[0] & 0x3f);
	sdp_scanner_init(&whole, SDP_INLINE_MAX, data[0] & 0x80);
	pieces = whole;
	data++, size--;
	r_whole = sdp_scanner_feed(&whole, data, size, &used_whole, NULL);
	while (at < size && r == SDP_SCAN_MORE) {
		size_t n = size - at < piece ? size - at : piece;

		r = sdp_scanner_feed(&pieces, data + at, n, &used, NULL);
		at += r >= 0 ? used : 0;
	}
	if (r != r_whole || (r == SDP_SCAN_COMPLETE && at != used_whole))
		abort();
	if (r == SDP_SCAN_COMPLETE)
		parse(&whole, data, used_whole);
	return 0;
}
