/*
 * The socket. Bytes come into one fixed chunk; the scanner cuts messages out of it, a message that spans chunks is
 * gathered in a buffer that never grows beyond what the scanner allows. Frames leave in order, each with its descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/connection.h"

#define RECEIVE_FDS_MAX                                                                            \
	32 /* descriptors of one recvmsg; more are truncated, which fails the connection */
#define FIFO_MAX (SDP_FDS_MAX + RECEIVE_FDS_MAX)

struct frame {
	struct frame *next;
	uint64_t coalesce;
	uint8_t *bytes;
	size_t length, sent;
	int fds[SDP_FDS_MAX];
	unsigned n_fds;
};

struct sdp_connection {
	int fd;
	struct sdp_scanner scanner;
	bool broken, reset, waits_for_others;

	uint8_t *
		chunk; /* SDP_READ_MAX; only while it holds something: most connections are idle most of the time */
	size_t chunk_begin, chunk_end;
	uint8_t *partial; /* the message in work, as far as earlier chunks held it */
	size_t partial_length, partial_capacity;
	uint64_t partial_since_us;
	uint64_t consumed, received; /* stream positions: scanned, received */
	struct {
		int fd;
		uint64_t position; /* end of the bytes it came with */
	} fifo[FIFO_MAX];
	unsigned n_fifo;

	struct frame *first, **last;
	size_t queued_bytes, queued_frames;
	uint64_t stalled_since_us, bytes_out;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static struct frame *frame_free(struct frame *frame)
{
	for (unsigned i = 0; i < frame->n_fds; i++)
		close(frame->fds[i]);
	free(frame->bytes);
	free(frame);
	return NULL;
}

int sdp_connection_new(int fd, const struct sdp_connection_options *options,
		       struct sdp_connection **ret_connection)
{
	struct sdp_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->last = &c->first;
	sdp_scanner_init(&c->scanner, options->inline_max, options->inline_results);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	*ret_connection = c;
	return 0;
}

struct sdp_connection *sdp_connection_free(struct sdp_connection *c)
{
	if (!c)
		return NULL;
	for (struct frame *frame = c->first, *next; frame; frame = next) {
		next = frame->next;
		frame_free(frame);
	}
	for (unsigned i = 0; i < c->n_fifo; i++)
		close(c->fifo[i].fd);
	close(c->fd);
	free(c->chunk);
	free(c->partial);
	free(c);
	return NULL;
}

int sdp_connection_fd(const struct sdp_connection *c)
{
	return c->fd;
}

short sdp_connection_events(const struct sdp_connection *c)
{
	return (short)(c->first && !c->waits_for_others ? POLLIN | POLLOUT : POLLIN);
}

bool sdp_connection_waits_for_others(const struct sdp_connection *c)
{
	return c->waits_for_others;
}

/* ------------------------------------------------------------------ in */

/* Every descriptor that came is kept or closed, whatever else is wrong with the message. */
static int take_fds(struct sdp_connection *c, struct msghdr *header, struct sdp_error *error)
{
	bool too_many = false;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(header); h; h = CMSG_NXTHDR(header, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (c->n_fifo < FIFO_MAX) {
				c->fifo[c->n_fifo].fd = fd;
				c->fifo[c->n_fifo++].position = c->received;
			} else {
				close(fd);
				too_many = true;
			}
		}
	}
	if (header->msg_flags & MSG_CTRUNC)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "descriptors were lost on the way: too many at once");
	if (too_many)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "more descriptors than a message may hold");
	return 0;
}

static void empty_chunk(struct sdp_connection *c)
{
	free(c->chunk);
	c->chunk = NULL;
	c->chunk_begin = c->chunk_end = 0;
}

int sdp_connection_read(struct sdp_connection *c, struct sdp_error *error)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(RECEIVE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec vector = {NULL, SDP_READ_MAX};
	struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};

	if (c->broken)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "this stream was refused before");
	if (c->chunk_begin < c->chunk_end)
		return 1;
	vector.iov_base = c->chunk = malloc(SDP_READ_MAX);
	if (!c->chunk)
		return -ENOMEM;
	ssize_t n = recvmsg(c->fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n <= 0) {
		int code = errno;

		empty_chunk(c);
		if (n == 0)
			return -ECONNRESET;
		c->reset |= code == ECONNRESET;
		return code == EAGAIN || code == EINTR ? 0 : -code;
	}
	c->received += (uint64_t)n;
	c->chunk_begin = 0;
	c->chunk_end = (size_t)n;
	int r = take_fds(c, &header, error);
	if (r < 0) {
		c->broken = true;
		return r;
	}
	return 1;
}

static int gather(struct sdp_connection *c, const uint8_t *bytes, size_t length)
{
	size_t need = c->partial_length + length; /* bounded by the scanner */

	if (need > c->partial_capacity) {
		size_t capacity = c->partial_capacity ? c->partial_capacity : 4096;

		while (capacity < need)
			capacity *= 2;
		uint8_t *partial = realloc(c->partial, capacity);
		if (!partial)
			return -ENOMEM;
		c->partial = partial;
		c->partial_capacity = capacity;
	}
	if (c->partial_length == 0)
		c->partial_since_us = now_us();
	memcpy(c->partial + c->partial_length, bytes, length);
	c->partial_length = need;
	return 0;
}

/* The scanner has found the end: hand the bytes and the descriptors to a message. */
static int cut(struct sdp_connection *c, const uint8_t *bytes, size_t length,
	       struct sdp_message **ret_message, struct sdp_error *error)
{
	unsigned n_fds = c->scanner.n_fds;
	int fds[SDP_FDS_MAX];
	uint8_t *whole;
	int r;

	if (n_fds > c->n_fifo)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "the message names %u descriptors, but only %u came", n_fds,
				     c->n_fifo);
	if (n_fds < c->n_fifo && c->fifo[n_fds].position <= c->consumed)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "more descriptors came than the message names");
	if (c->partial_length > 0) {
		r = gather(c, bytes, length);
		if (r < 0)
			return r;
		whole = c->partial;
		length = c->partial_length;
		c->partial = NULL;
		c->partial_length = c->partial_capacity = 0;
		c->partial_since_us = 0;
	} else {
		whole = malloc(length);
		if (!whole)
			return -ENOMEM;
		memcpy(whole, bytes, length);
	}
	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = c->fifo[i].fd;
	c->n_fifo -= n_fds;
	memmove(c->fifo, c->fifo + n_fds, c->n_fifo * sizeof(c->fifo[0]));
	return sdp_message_new(&c->scanner, whole, length, fds, n_fds, ret_message, error);
}

int sdp_connection_pop(struct sdp_connection *c, struct sdp_message **ret_message,
		       struct sdp_error *error)
{
	const uint8_t *bytes;
	size_t used = 0;
	int r = -EPROTO;

	if (c->broken)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "this stream was refused before");
	if (c->chunk_begin == c->chunk_end)
		return 0;
	bytes = c->chunk + c->chunk_begin;
	int scan =
		sdp_scanner_feed(&c->scanner, bytes, c->chunk_end - c->chunk_begin, &used, error);
	if (scan >= 0) {
		c->chunk_begin += used;
		c->consumed += used;
		r = scan == SDP_SCAN_MORE ? gather(c, bytes, used)
					  : cut(c, bytes, used, ret_message, error);
		if (r == -ENOMEM)
			sdp_error_set(error, SDP_CODE_NO_MEMORY, "out of memory");
	}
	if (c->chunk_begin == c->chunk_end)
		empty_chunk(c);
	if (r < 0) {
		c->broken = true;
		return r;
	}
	if (scan == SDP_SCAN_MORE)
		return 0;
	sdp_scanner_reset(&c->scanner);
	return 1;
}

/* ------------------------------------------------------------------ out */

static struct frame **find_waiting(struct sdp_connection *c, uint64_t coalesce)
{
	for (struct frame **f = &c->first; *f; f = &(*f)->next)
		if ((*f)->coalesce == coalesce && (*f)->sent == 0)
			return f;
	return NULL;
}

int sdp_connection_queue(struct sdp_connection *c, struct sdp_writer *w, uint64_t coalesce)
{
	struct frame *frame = NULL, **place = NULL;
	int r = sdp_writer_finish(w);

	if (r == 0) {
		frame = calloc(1, sizeof(*frame));
		r = frame ? 0 : -ENOMEM;
	}
	if (r < 0) {
		sdp_writer_clear(w);
		return r;
	}
	/* a queue may hold many frames: give back what the writer had to spare */
	uint8_t *bytes = realloc(w->bytes, w->length);
	frame->bytes = bytes ? bytes : w->bytes;
	frame->length = w->length;
	frame->coalesce = coalesce;
	memcpy(frame->fds, w->fds, sizeof(frame->fds));
	frame->n_fds = w->n_fds;
	*w = (struct sdp_writer){.inline_pixels = w->inline_pixels};

	if (coalesce)
		place = find_waiting(c, coalesce);
	c->queued_bytes += frame->length;
	if (place) {
		struct frame *old = *place;

		frame->next = old->next;
		*place = frame;
		if (c->last == &old->next)
			c->last = &frame->next;
		c->queued_bytes -= old->length;
		frame_free(old);
	} else {
		if (!c->first)
			c->stalled_since_us = now_us();
		*c->last = frame;
		c->last = &frame->next;
		c->queued_frames++;
	}
	return 0;
}

static ssize_t send_frame(struct sdp_connection *c, struct frame *f)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SDP_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec vector = {f->bytes + f->sent, f->length - f->sent};
	struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};

	if (f->n_fds > 0) {
		header.msg_control = control.space;
		header.msg_controllen = CMSG_SPACE(f->n_fds * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&header);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(f->n_fds * sizeof(int));
		memcpy(CMSG_DATA(h), f->fds, f->n_fds * sizeof(int));
	}
	return sendmsg(c->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int sdp_connection_write(struct sdp_connection *c)
{
	while (c->first) {
		struct frame *f = c->first;
		ssize_t n = send_frame(c, f);

		c->waits_for_others = n < 0 && errno == ETOOMANYREFS;
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR || errno == ETOOMANYREFS)
				return 1;
			c->reset = true;
			return -errno;
		}
		for (unsigned i = 0; i < f->n_fds; i++)
			close(f->fds[i]);
		f->n_fds = 0;
		f->sent += (size_t)n;
		c->bytes_out += (uint64_t)n;
		c->queued_bytes -= (size_t)n;
		c->stalled_since_us = now_us();
		if (f->sent < f->length)
			continue;
		c->first = f->next;
		if (!c->first)
			c->last = &c->first;
		c->queued_frames--;
		frame_free(f);
	}
	c->stalled_since_us = 0;
	return 0;
}

/* What the kernel holds unread; negative when it does not say. */
static int held_by_kernel(const struct sdp_connection *c)
{
	int unread = 0;

	return ioctl(c->fd, SIOCOUTQ, &unread) == 0 ? unread : -1;
}

size_t sdp_connection_unread(const struct sdp_connection *c)
{
	const int held = held_by_kernel(c);

	return c->queued_bytes + (held > 0 ? (size_t)held : 0);
}

bool sdp_connection_is_read(struct sdp_connection *c)
{
	socklen_t size = sizeof(int);
	int code = 0;

	/* a local peer that closes with bytes unread resets the connection, and the kernel's count of them is gone */
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 || code != 0)
		c->reset = true;
	return !c->first && !c->reset && held_by_kernel(c) == 0;
}

void sdp_connection_figures(const struct sdp_connection *c, struct sdp_connection_figures *ret)
{
	*ret = (struct sdp_connection_figures){
		.queued_bytes = c->queued_bytes,
		.queued_frames = c->queued_frames,
		.stalled_since_us = c->first ? c->stalled_since_us : 0,
		.partial_since_us = c->partial_since_us,
		.partial_bytes = c->partial_length,
		.bytes_in = c->received,
		.bytes_out = c->bytes_out,
	};
}
