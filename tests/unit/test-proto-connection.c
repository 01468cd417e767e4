/*
 * The connection: messages survive any cutting of the stream, descriptors belong to exactly one message or the connection
 * fails, nothing leaks, and a peer that does not read is seen in the figures while only its queue grows.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "wire.h"

static const struct sdp_connection_options OPTIONS = {.inline_max = SDP_INLINE_MAX,
						      .inline_results = true};

struct fixture {
	int fds;
	int raw; /* the peer's end */
	struct sdp_connection *c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	f->fds = count_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->raw = pair[0];
	assert_int_equal(sdp_connection_new(pair[1], &OPTIONS, &f->c), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sdp_connection_free(f->c);
	if (f->raw >= 0)
		close(f->raw);
	assert_int_equal(count_fds(), f->fds);
	free(f);
	return 0;
}

/* Send bytes with n copies of a descriptor. */
static void send_raw(int fd, const void *bytes, size_t length, unsigned n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} control = {0};
	struct iovec vector = {(void *)bytes, length};
	struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};

	if (n > 0) {
		header.msg_control = control.space;
		header.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&header);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &header, MSG_NOSIGNAL), length);
}

/* Read and pop until a message, an error, or nothing more; counts messages. */
static int drain(struct fixture *f, unsigned *ret_messages)
{
	struct sdp_message *m;
	struct sdp_error error;
	int r;

	*ret_messages = 0;
	for (;;) {
		r = sdp_connection_read(f->c, &error);
		if (r <= 0)
			return r;
		while ((r = sdp_connection_pop(f->c, &m, &error)) > 0) {
			(*ret_messages)++;
			sdp_message_free(m);
		}
		if (r < 0)
			return r;
	}
}

static const char PING[] = "\x94\x00\x01\xa4ping\x91\x80";
static const char ONE_FD[] = "\x94\x00\x01\xa4ping\x91\x81\xa1x\xd4\x01\x00";
#define PING_SIZE   (sizeof(PING) - 1)
#define ONE_FD_SIZE (sizeof(ONE_FD) - 1)

static void test_dribble(void **state)
{
	struct fixture *f = *state;
	struct sdp_connection_figures figures;
	unsigned n;

	for (size_t i = 0; i < PING_SIZE; i++) {
		assert_int_equal(write(f->raw, PING + i, 1), 1);
		assert_int_equal(drain(f, &n), 0);
		assert_int_equal(n, i + 1 == PING_SIZE);
		sdp_connection_figures(f->c, &figures);
		assert_int_equal(figures.partial_bytes, i + 1 == PING_SIZE ? 0 : i + 1);
		assert_int_equal(figures.partial_since_us != 0, i + 1 != PING_SIZE);
	}
	assert_int_equal(figures.bytes_in, PING_SIZE);
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	char bytes[100 * PING_SIZE];
	unsigned n;

	for (int i = 0; i < 100; i++)
		memcpy(bytes + (size_t)i * PING_SIZE, PING, PING_SIZE);
	assert_int_equal(write(f->raw, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(drain(f, &n), 0);
	assert_int_equal(n, 100);
	close(f->raw);
	f->raw = -1;
	assert_int_equal(drain(f, &n), -ECONNRESET);
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	send_raw(f->raw, PING, PING_SIZE, 0);
	send_raw(f->raw, "GET / HTTP/1.1\r\n", 16, 1);
	assert_int_equal(drain(f, &n), -EPROTO);
	assert_int_equal(n, 1);
	assert_int_equal(drain(f, &n), -EPROTO); /* and stays refused */
}

static void test_fds_match(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	send_raw(f->raw, ONE_FD, ONE_FD_SIZE, 1);
	send_raw(f->raw, PING, PING_SIZE, 0);
	send_raw(f->raw, ONE_FD, 3, 1); /* the descriptor comes with the first bytes */
	send_raw(f->raw, ONE_FD + 3, ONE_FD_SIZE - 3, 0);
	assert_int_equal(drain(f, &n), 0);
	assert_int_equal(n, 3);
}

static void test_fds_too_few(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	send_raw(f->raw, ONE_FD, ONE_FD_SIZE, 0);
	assert_int_equal(drain(f, &n), -EPROTO);
	assert_int_equal(n, 0);
}

static void test_fds_left_over(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	send_raw(f->raw, PING, PING_SIZE, 1);
	assert_int_equal(drain(f, &n), -EPROTO);
}

static void test_fds_left_over_later(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	send_raw(f->raw, ONE_FD, 5, 1);
	send_raw(f->raw, ONE_FD + 5, ONE_FD_SIZE - 5, 1);
	assert_int_equal(drain(f, &n), -EPROTO);
}

/* The kernel drops the second of two descriptors for want of room: the one that came would fit the message. */
static void test_fds_truncated(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, tight;
	unsigned n;

	send_raw(f->raw, ONE_FD, ONE_FD_SIZE, 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	int next = dup(f->raw);
	tight = (struct rlimit){(rlim_t)next + 1, limit.rlim_max};
	close(next);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	int r = drain(f, &n);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(r, -EPROTO);
	assert_int_equal(n, 0);
}

/* A descriptor with every byte of a message that never ends. */
static void test_fds_hoarded(void **state)
{
	struct fixture *f = *state;
	unsigned n;
	int r = 0;

	send_raw(f->raw, "\x94\x00\x01\xa4ping\x91\x81\xa1x\xda\x10\x00", 15, 0);
	for (int i = 0; i < 100 && r == 0; i++) {
		send_raw(f->raw, "xxxxxxxx", 8, 8);
		r = drain(f, &n);
	}
	assert_int_equal(r, -EPROTO);
	assert_true(count_fds() < f->fds + 60);
}

/* A large inline picture and a small one by descriptor, through two connections. */
static void test_pictures(void **state)
{
	struct fixture *f = *state;
	struct sdp_connection *peer;
	struct sdp_buffer b;
	struct sdp_pixels p = sealed_pixels(1000, 500, 4, SDP_SAMPLE_TYPE_U8, 3, &b);
	struct sdp_writer w = {.inline_pixels = true};
	struct sdp_message *m[2] = {0};
	struct sdp_error error;
	int got = 0, wait = 1;

	assert_int_equal(sdp_pixels_check(&p, "image", &error), 0);
	assert_int_equal(sdp_connection_new(f->raw, &OPTIONS, &peer), 0);
	f->raw = -1;
	for (int i = 0; i < 2; i++, w.inline_pixels = false) {
		sdp_writer_request(&w, (uint32_t)i, "job.submit");
		sdp_writer_string(&w, "kind", "img2img");
		sdp_writer_pixels(&w, "image", &p);
		assert_int_equal(sdp_connection_queue(peer, &w, 0), 0);
	}
	assert_int_equal(sdp_connection_events(peer), POLLIN | POLLOUT);
	while (got < 2) {
		if (wait)
			wait = sdp_connection_write(peer);
		assert_true(wait >= 0);
		assert_true(sdp_connection_read(f->c, &error) >= 0);
		while (got < 2 && sdp_connection_pop(f->c, &m[got], &error) > 0)
			got++;
	}
	for (int i = 0; i < 2; i++) {
		struct sdp_record *r;
		struct sdp_mapping map;

		assert_int_equal(m[i]->n_fds, i);
		assert_int_equal(
			sdp_record_decode(m[i], &sdp_struct_job_submit, SDP_STRICT, &r, &error), 0);
		assert_int_equal(
			sdp_pixels_map(sdp_record_pixels(r, SDP_JOB_SUBMIT_IMAGE), &map, &error),
			0);
		assert_int_equal(map.data[1000 * 500 * 4 - 1], 3);
		sdp_mapping_clear(&map);
		sdp_message_free(m[i]);
	}
	sdp_connection_free(peer);
	sdp_buffer_clear(&b);
}

static void queue_progress(struct sdp_connection *c, int step, uint64_t coalesce)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_event(&w, "job.progress");
	sdp_writer_int(&w, "job", 1);
	sdp_writer_string(&w, "stage", "steps");
	sdp_writer_int(&w, "step", step);
	assert_int_equal(sdp_connection_queue(c, &w, coalesce), 0);
}

/* A peer that does not read: progress coalesces, the figures tell, and what it reads later is the latest, in order. */
static void test_slow_reader(void **state)
{
	struct fixture *f = *state;
	struct sdp_connection *peer;
	struct sdp_connection_figures figures;
	struct sdp_error error;
	struct sdp_message *m;
	int size = 4096, steps = 0, last = -1, wait = 1;

	assert_int_equal(
		setsockopt(sdp_connection_fd(f->c), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	assert_int_equal(sdp_connection_new(f->raw, &OPTIONS, &peer), 0);
	f->raw = -1;
	for (int i = 0; i < 5000; i++) {
		queue_progress(f->c, i, 77);
		assert_true(sdp_connection_write(f->c) >= 0);
	}
	queue_progress(f->c, 9999, 0); /* not coalesced: never dropped */
	sdp_connection_figures(f->c, &figures);
	assert_true(figures.queued_frames <= 3);
	assert_true(figures.queued_bytes < 512);
	assert_true(figures.stalled_since_us > 0);
	while (last != 9999) {
		struct sdp_record *r;

		if (wait)
			wait = sdp_connection_write(f->c);
		assert_true(wait >= 0);
		assert_true(sdp_connection_read(peer, &error) >= 0);
		while (sdp_connection_pop(peer, &m, &error) > 0) {
			assert_int_equal(
				sdp_record_decode(m, m->method->params, SDP_STRICT, &r, &error), 0);
			int step = sdp_record_int(r, SDP_JOB_PROGRESS_STEP);
			assert_true(step > last);
			assert_true(step != 9999 || last == 4999);
			last = step;
			steps++;
			sdp_message_free(m);
		}
	}
	assert_true(steps < 5000);
	sdp_connection_figures(f->c, &figures);
	assert_int_equal(figures.queued_bytes, 0);
	assert_int_equal(figures.queued_frames, 0);
	assert_int_equal(figures.stalled_since_us, 0);
	sdp_connection_free(peer);
}

static void queue_preview(struct sdp_connection *c, const uint8_t *data, int step)
{
	struct sdp_pixels p = {.width = 1000,
			       .height = 1000,
			       .channels = 1,
			       .fd = -EBADF,
			       .data = data,
			       .size = 1000000,
			       .stride = 1000};
	struct sdp_writer w = {.inline_pixels = true};

	sdp_writer_event(&w, "job.preview");
	sdp_writer_int(&w, "job", 1);
	sdp_writer_int(&w, "step", step);
	sdp_writer_pixels(&w, "pixels", &p);
	assert_int_equal(sdp_connection_queue(c, &w, 9), 0);
}

/* A frame that has begun to leave is finished; only what waits behind it is replaced. */
static void test_half_sent(void **state)
{
	struct fixture *f = *state;
	struct sdp_connection *peer;
	struct sdp_error error;
	struct sdp_message *m;
	uint8_t *data = calloc(1000, 1000);
	int steps[4] = {0}, n = 0;

	assert_int_equal(sdp_connection_new(f->raw, &OPTIONS, &peer), 0);
	f->raw = -1;
	for (int i = 1; i <= 3; i++) {
		queue_preview(f->c, data, i);
		assert_int_equal(sdp_connection_write(f->c), 1);
	}
	while (n < 2) {
		assert_true(sdp_connection_write(f->c) >= 0);
		assert_true(sdp_connection_read(peer, &error) >= 0);
		int r = sdp_connection_pop(peer, &m, &error);
		assert_true(r >= 0);
		if (r > 0) {
			struct sdp_record *record;

			assert_int_equal(sdp_record_decode(m, m->method->params, SDP_STRICT,
							   &record, &error),
					 0);
			steps[n++] = sdp_record_int(record, SDP_JOB_PREVIEW_STEP);
			sdp_message_free(m);
		}
	}
	assert_int_equal(steps[0], 1);
	assert_int_equal(steps[1], 3);
	assert_int_equal(sdp_connection_write(f->c), 0);
	sdp_connection_free(peer);
	free(data);
}

/* Frames with descriptors that never leave are closed with the connection; a write to a dead peer is an error. */
static void test_dead_peer(void **state)
{
	struct fixture *f = *state;
	struct sdp_buffer b;
	struct sdp_pixels p = sealed_pixels(8, 8, 1, SDP_SAMPLE_TYPE_U8, 0, &b);
	struct sdp_writer w = SDP_WRITER_INIT;

	for (int i = 0; i < 2; i++) {
		sdp_writer_event(&w, "job.preview");
		sdp_writer_int(&w, "job", 1);
		sdp_writer_pixels(&w, "pixels", &p);
		assert_int_equal(sdp_connection_queue(f->c, &w, 5), 0);
	}
	close(f->raw);
	f->raw = -1;
	assert_int_equal(sdp_connection_write(f->c), -EPIPE);
	sdp_buffer_clear(&b);
}

/* Of descriptors that this user has sent too many lie unread, with somebody else; 0 or the line that is wrong. */
static int wait_for_others(void)
{
	const struct rlimit few = {40, 40};
	struct sdp_connection *c, *peer;
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error error;
	struct sdp_message *m;
	struct sdp_buffer b;
	struct sdp_pixels p = sealed_pixels(8, 8, 4, SDP_SAMPLE_TYPE_U8, 3, &b);
	int pair[2], hoard[2];

	/* root is exempt */
	if ((geteuid() == 0 && setuid(65534) < 0) || setrlimit(RLIMIT_NOFILE, &few) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hoard) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    sdp_connection_new(pair[0], &OPTIONS, &peer) < 0 ||
	    sdp_connection_new(pair[1], &OPTIONS, &c) < 0)
		return __LINE__;
	send_raw(hoard[0], "x", 1, 60);
	sdp_writer_request(&w, 1, "job.submit");
	sdp_writer_string(&w, "kind", "img2img");
	sdp_writer_pixels(&w, "image", &p);
	if (sdp_connection_queue(c, &w, 0) < 0 || sdp_connection_waits_for_others(c) ||
	    sdp_connection_events(c) != (POLLIN | POLLOUT))
		return __LINE__;
	/* nobody is told to come again at once, and nothing is lost */
	for (int i = 0; i < 2; i++)
		if (sdp_connection_write(c) != 1 || !sdp_connection_waits_for_others(c) ||
		    sdp_connection_events(c) != POLLIN)
			return __LINE__;
	close(hoard[0]);
	close(hoard[1]);
	/* the kernel counts them back in its own time */
	for (int i = 0; sdp_connection_write(c) == 1; i++) {
		if (i == 1000)
			return __LINE__;
		usleep(10000);
	}
	if (sdp_connection_waits_for_others(c) || sdp_connection_events(c) != POLLIN ||
	    sdp_connection_read(peer, &error) < 0 || sdp_connection_pop(peer, &m, &error) != 1 ||
	    m->n_fds != 1)
		return __LINE__;
	return 0;
}

static void test_others_do_not_read(void **state)
{
	const pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(wait_for_others() % 256);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_dribble),
		T(test_many_at_once),
		T(test_garbage),
		T(test_fds_match),
		T(test_fds_too_few),
		T(test_fds_left_over),
		T(test_fds_left_over_later),
		T(test_fds_truncated),
		T(test_fds_hoarded),
		T(test_pictures),
		T(test_slow_reader),
		T(test_half_sent),
		T(test_dead_peer),
		T(test_others_do_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
