/*
 * The gate in front of msgpack-c: finds where a message ends and refuses, at the header byte, whatever could make a
 * parser allocate or recurse without bound. Incremental (give it bytes as they come, one at a time if need be), constant
 * memory, no allocation. After SDP_SCAN_COMPLETE the message has the shape of a request, a response or an event, holds at
 * most SDP_DEPTH_MAX levels and SDP_ITEMS_MAX items, only string keys, no ext but "fd number k" in ascending order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/error.h"

#define SDP_DEPTH_MAX	16
#define SDP_ITEMS_MAX	4096
#define SDP_CONTROL_MAX (64 * 1024)	   /* bytes of a message without its inline pixels */
#define SDP_FDS_MAX	16		   /* descriptors of a message */
#define SDP_METHOD_MAX	32		   /* bytes of a method's name */
#define SDP_KEY_MAX	64		   /* bytes of a map's key */
#define SDP_INLINE_MAX	(64 * 1024 * 1024) /* the default of sdp_scanner_init's inline_max */
#define SDP_EXT_FD                                                                                 \
	1 /* ext type of "the next descriptor"; its one byte counts from 0 in each message */

enum sdp_kind { SDP_REQUEST = 0, SDP_RESPONSE = 1, SDP_EVENT = 2 };

enum sdp_scan {
	SDP_SCAN_MORE,	   /* all bytes taken, the message goes on */
	SDP_SCAN_COMPLETE, /* *ret_used bytes taken; the message ends there */
};

struct sdp_scanner {
	size_t inline_max;   /* bytes of large bin values a message may hold; 0 = none */
	bool inline_results; /* responses may hold them too (clients, and sdd towards its worker) */

	/* the message so far; valid once complete */
	enum sdp_kind kind;
	uint32_t msgid;			 /* request, response */
	char method[SDP_METHOD_MAX + 1]; /* request, event */
	unsigned n_fds;
	uint64_t total; /* bytes of it scanned */

	/* private */
	uint64_t
		control; /* bytes that count against SDP_CONTROL_MAX, announced payloads included */
	uint64_t inline_bytes; /* announced bytes of large bin values */
	uint64_t skip;	       /* payload bytes still to pass over */
	uint32_t items;	       /* announced so far */
	uint32_t pending;      /* announced and not begun */
	uint8_t header[9], header_have, header_need;
	uint8_t envelope; /* items in the outermost array */
	uint8_t capture;  /* bytes of the method's name still to come */
	uint8_t depth;
	bool ext_payload; /* the next byte is a descriptor's number */
	bool allow_inline, failed;
	struct {
		uint32_t left; /* items still to come at this level */
		bool map;
	} stack[SDP_DEPTH_MAX];
};

void sdp_scanner_init(struct sdp_scanner *scanner, size_t inline_max, bool inline_results);
/* Forget the message in work or the complete one, keep the options. */
void sdp_scanner_reset(struct sdp_scanner *scanner);
/*
 * Take up to length bytes. Returns SDP_SCAN_MORE or SDP_SCAN_COMPLETE, or -EPROTO with *ret_error filled; a scanner that
 * has refused refuses everything until reset. On MORE and COMPLETE *ret_used is the number of bytes taken; after COMPLETE
 * call sdp_scanner_reset before the next byte. Never reads beyond bytes + length.
 */
int sdp_scanner_feed(struct sdp_scanner *scanner, const uint8_t *bytes, size_t length,
		     size_t *ret_used, struct sdp_error *ret_error);
