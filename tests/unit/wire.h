/*
 * Helpers of the protocol and client tests: messages from a few lines, a count of this process's descriptors, sealed
 * buffers, and a scripted peer that speaks for the daemon.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/connection.h"

static inline int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Parse a finished writer into a message of its own, taking its bytes and descriptors. */
static inline struct sdp_message *message_of(struct sdp_writer *w)
{
	struct sdp_scanner scanner;
	struct sdp_message *message = NULL;
	struct sdp_error error;
	size_t used;

	assert_int_equal(sdp_writer_finish(w), 0);
	sdp_scanner_init(&scanner, SDP_INLINE_MAX, true);
	assert_int_equal(sdp_scanner_feed(&scanner, w->bytes, w->length, &used, &error),
			 SDP_SCAN_COMPLETE);
	assert_int_equal(
		sdp_message_new(&scanner, w->bytes, w->length, w->fds, w->n_fds, &message, &error),
		0);
	*w = SDP_WRITER_INIT;
	return message;
}

/* A sealed picture of one colour; the caller clears the buffer. */
static inline struct sdp_pixels sealed_pixels(int width, int height, int channels,
					      enum sdp_sample_type type, uint8_t value,
					      struct sdp_buffer *buffer)
{
	uint64_t size;

	assert_int_equal(sdp_pixels_bytes(width, height, channels, type, &size), 0);
	assert_int_equal(sdp_buffer_new("test", size, buffer), 0);
	memset(buffer->data, value, size);
	assert_int_equal(sdp_buffer_seal(buffer), 0);
	return (struct sdp_pixels){.width = width,
				   .height = height,
				   .channels = channels,
				   .type = type,
				   .fd = buffer->fd};
}
