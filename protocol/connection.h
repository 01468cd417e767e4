/*
 * A non-blocking stream socket that speaks messages: scanner and descriptor FIFO on the way in, a queue of frames on the
 * way out. It holds no timers and never blocks; its owner polls, and reads the figures below to decide when a peer is too
 * slow or has left a message half open. One thread.
 *
 * Descriptors travel with the first byte of their message. The connection fails (and the owner must close it) when a
 * message announces more than came, when some are left over at a message's end, or when the kernel truncated them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/codec.h"
#include "protocol/message.h"

struct sdp_connection;

struct sdp_connection_options {
	size_t inline_max; /* as sdp_scanner_init */
	bool inline_results;
};

/* Takes the socket (also on failure), makes it non-blocking. 0 or -ENOMEM. */
int sdp_connection_new(int fd, const struct sdp_connection_options *options,
		       struct sdp_connection **ret_connection);
/* Closes the socket and every descriptor in flight. Returns NULL; NULL is allowed. */
struct sdp_connection *sdp_connection_free(struct sdp_connection *connection);
static inline void sdp_connection_freep(struct sdp_connection **connection)
{
	*connection = sdp_connection_free(*connection);
}
int sdp_connection_fd(const struct sdp_connection *connection);
/* POLLIN, with POLLOUT while frames wait for room in the socket. */
short sdp_connection_events(const struct sdp_connection *connection);
/*
 * Frames wait for somebody else: of the descriptors that this user has sent, to whomever, too many lie unread (ETOOMANYREFS). The socket seems
 * to have room all the while, and nothing tells when that ends: write again after this time.
 */
bool sdp_connection_waits_for_others(const struct sdp_connection *connection);
#define SDP_OTHERS_RETRY_MS 100

/*
 * Receive once, at most SDP_READ_MAX bytes, so that one peer cannot hold the loop. 1 = there may be messages to pop,
 * 0 = nothing there now, -ECONNRESET = the peer closed, -EPROTO with *ret_error, or another negative errno. Pop until 0
 * before the next read (a read with bytes still to pop returns 1 and receives nothing). -ENOMEM closes it too: nothing was received.
 */
#define SDP_READ_MAX (64 * 1024)
int sdp_connection_read(struct sdp_connection *connection, struct sdp_error *ret_error);
/*
 * The next complete message: 1 and *ret_message (owned by the caller), 0 when none is complete, or -EPROTO with *ret_error
 * (close the connection, perhaps after sending the error), -ENOMEM.
 */
int sdp_connection_pop(struct sdp_connection *connection, struct sdp_message **ret_message,
		       struct sdp_error *ret_error);

/*
 * Finish the writer and queue its frame; the writer is empty afterwards, also on failure (its sticky error is returned).
 * coalesce 0: never dropped. Otherwise a waiting frame with the same number that has not begun to leave is replaced: the
 * latest progress of a job, its latest preview.
 */
int sdp_connection_queue(struct sdp_connection *connection, struct sdp_writer *writer,
			 uint64_t coalesce);
/* Send what the socket takes. 1 = frames still wait, 0 = all sent, -EPIPE/-ECONNRESET = the peer is gone. */
int sdp_connection_write(struct sdp_connection *connection);

/*
 * What the peer has not read yet: frames that wait, and what the kernel holds for it, which counts the memory of its messages, some
 * hundred bytes for the shortest. 0 when the kernel does not say.
 */
size_t sdp_connection_unread(const struct sdp_connection *connection);
/* Whether the peer has read everything that was queued; false also when the kernel does not say. */
bool sdp_connection_is_read(struct sdp_connection *connection);

/* Figures for deadlines and limits. Times are CLOCK_MONOTONIC microseconds, 0 = not so now. */
struct sdp_connection_figures {
	size_t queued_bytes;
	size_t queued_frames;
	uint64_t stalled_since_us; /* frames wait and the socket has taken nothing since */
	uint64_t partial_since_us; /* a message has begun to arrive and is not complete */
	size_t partial_bytes;
	uint64_t bytes_in, bytes_out;
};
void sdp_connection_figures(const struct sdp_connection *connection,
			    struct sdp_connection_figures *ret_figures);
