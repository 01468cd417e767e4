/*
 * One error, as it travels: [code, name, message, {field, retry_ms, needed_bytes, free_bytes, remedy}]. Everything in protocol/ that can refuse a peer's
 * bytes fills one; the daemon sends it as it is, the client library hands it to the program.
 */
#pragma once

#include <stdint.h>

#include "protocol/schema.h"

struct sdp_error {
	int code;	  /* enum sdp_code; 0 = none */
	int64_t retry_ms; /* with SDP_CODE_BUSY: when to try again; else 0 */
	/* with SDP_CODE_NO_MEMORY at admission: what the job takes, what there is, and what would fit: a word, or "" */
	uint64_t needed_bytes, free_bytes;
	char remedy[32];
	char field[96];	   /* the field that is wrong ("image.width"), or "" */
	char message[512]; /* says what is wrong and what would be right; valid UTF-8 */
};

/* Fill *error (NULL is allowed) and return -EPROTO for SDP_CODE_BAD_MESSAGE, -ENOMEM for SDP_CODE_NO_MEMORY, else -EINVAL. */
int sdp_error_set(struct sdp_error *error, enum sdp_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with the field's name. */
int sdp_error_field(struct sdp_error *error, enum sdp_code code, const char *field,
		    const char *format, ...) __attribute__((format(printf, 4, 5)));
