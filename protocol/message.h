/*
 * One received message: its bytes, its parsed tree and its descriptors under one owner. Records (codec.h) and pixels
 * (pixels.h) made from it borrow from it, so whoever needs a job's parameters keeps the message.
 */
#pragma once

#include <msgpack.h>

#include "protocol/scanner.h"

struct sdp_message {
	enum sdp_kind kind;
	uint32_t msgid;			 /* request, response */
	const struct sdp_method *method; /* request, event: NULL when the name is unknown */
	char name[SDP_METHOD_MAX + 1];	 /* request, event */
	msgpack_object
		params; /* request, event: the map; response: the result, nil with an error */
	bool failed;	/* response: carries an error */
	struct sdp_error error; /* of a failed response */
	int fds[SDP_FDS_MAX];
	unsigned n_fds;
	size_t size; /* bytes on the wire */

	/* private */
	uint8_t *bytes;
	msgpack_zone *zone;
};

/*
 * Parse a message the scanner has found complete. Takes ownership of bytes (malloc'd) and of the fds, also on failure.
 * 0, -ENOMEM, or -EPROTO with *ret_error.
 */
int sdp_message_new(const struct sdp_scanner *scanner, uint8_t *bytes, size_t length,
		    const int *fds, unsigned n_fds, struct sdp_message **ret_message,
		    struct sdp_error *ret_error);
/* A message without content, as an owner of memory for sdp_record_new. 0 or -ENOMEM. */
int sdp_message_empty(struct sdp_message **ret_message);
/* Closes the descriptors. Returns NULL; NULL is allowed. */
struct sdp_message *sdp_message_free(struct sdp_message *message);
static inline void sdp_message_freep(struct sdp_message **message)
{
	*message = sdp_message_free(*message);
}
