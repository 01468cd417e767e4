/*
 * An 8000x6000 picture with a small selection, through the real sdd and worker: its 192 MB cross no socket and nobody
 * copies them. The memfd's own pages count apart: they exist once, whoever maps them.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WIDTH = 8000,
	HEIGHT = 6000,
	SIDE = 120,	   /* of the selection */
	FRONT_KIB = 512,   /* sdd may grow by so much */
	WORKER_KIB = 4096, /* sdd-worker, over a small picture; this one has 187,500 */
	SOCKET_BYTES = 65536,
};

/* What a process has of its own now: everything resident but shared pages of memfds. */
static long own_kib(pid_t pid)
{
	return status_kib(pid, "VmRSS:") - status_kib(pid, "RssShmem:");
}

static void new_picture(int width, int height, int channels, struct sdp_buffer *buffer,
			struct sdp_pixels *pixels)
{
	const size_t size = (size_t)width * (size_t)height * (size_t)channels;

	assert_int_equal(sdp_buffer_new("test-canvas", size, buffer), 0);
	/* every page of it exists */
	for (size_t i = 0; i < size; i += 61)
		buffer->data[i] = (uint8_t)(i >> 9);
	assert_int_equal(sdp_buffer_seal(buffer), 0);
	*pixels = SDP_PIXELS_INIT;
	pixels->width = width;
	pixels->height = height;
	pixels->channels = channels;
	pixels->type = SDP_SAMPLE_TYPE_U8;
	pixels->stride = (uint64_t)width * (uint64_t)channels;
	pixels->size = buffer->size;
	pixels->fd = buffer->fd;
}

struct peaks {
	long front, worker, worker_shared;
};

static void sample_peaks(const struct daemon *daemon, pid_t worker, struct peaks *peaks)
{
	const long front = own_kib(daemon->pid), own = own_kib(worker);
	const long shared = status_kib(worker, "RssShmem:");

	peaks->front = front > peaks->front ? front : peaks->front;
	peaks->worker = own > peaks->worker ? own : peaks->worker;
	peaks->worker_shared = shared > peaks->worker_shared ? shared : peaks->worker_shared;
}

/* Inpaint a square in the middle; returns the answer, with the largest figures on the way. */
static struct sdp_message *inpaint(const struct daemon *daemon, struct sdp_connection *connection,
				   int width, int height, bool with_mask, pid_t worker,
				   struct peaks *peaks)
{
	struct sdp_buffer buffer = SDP_BUFFER_INIT, mask_buffer = SDP_BUFFER_INIT;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message = NULL;
	struct sdp_pixels pixels, mask;

	new_picture(width, height, 4, &buffer, &pixels);
	sdp_writer_request(&writer, 9, "job.submit");
	sdp_writer_string(&writer, "kind", "inpaint");
	sdp_writer_string(&writer, "model", HARNESS_MODEL);
	sdp_writer_int(&writer, "steps", 4);
	sdp_writer_uint(&writer, "seed", 1);
	sdp_writer_pixels(&writer, "image", &pixels);
	if (with_mask) {
		const size_t size = (size_t)width * (size_t)height;

		assert_int_equal(sdp_buffer_new("test-mask", size, &mask_buffer), 0);
		for (int y = 0; y < SIDE; y++)
			memset(mask_buffer.data + (size_t)(height / 2 + y) * (size_t)width +
				       width / 2,
			       255, SIDE);
		assert_int_equal(sdp_buffer_seal(&mask_buffer), 0);
		mask = pixels;
		mask.channels = 1;
		mask.stride = (uint64_t)width;
		mask.size = size;
		mask.fd = mask_buffer.fd;
		sdp_writer_pixels(&writer, "mask", &mask);
	} else {
		sdp_writer_rect(&writer, "select",
				(struct sdp_rect){width / 2, height / 2, SIDE, SIDE});
	}
	raw_send(connection, &writer);
	while (!message || message->kind != SDP_RESPONSE) {
		sdp_message_free(message);
		message = raw_read(connection, 5);
		if (!message && errno != ETIMEDOUT)
			break;
		if (worker)
			sample_peaks(daemon, worker, peaks);
	}
	sdp_buffer_clear(&buffer);
	sdp_buffer_clear(&mask_buffer);
	assert_non_null(message);
	if (message->failed)
		fail_msg("%s", message->error.message);
	return message;
}

static void check_layer(struct sdp_message *message)
{
	const struct sdp_pixels *pixels;
	struct sdp_record *result;
	struct sdp_error error;

	assert_int_equal(
		sdp_record_decode(message, &sdp_struct_job_result, SDP_LENIENT, &result, &error),
		0);
	pixels = sdp_record_pixels(sdp_record_item(result, SDP_JOB_RESULT_IMAGES, 0)->record,
				   SDP_IMAGE_PIXELS);
	/* the layer is the selection with its soft edge, not the canvas */
	assert_in_range(pixels->width, SIDE, 4 * SIDE);
	assert_in_range(pixels->height, SIDE, 4 * SIDE);
	sdp_message_free(message);
}

static void test_large_canvas(void **state)
{
	struct sdp_connection_figures figures, before;
	struct sdp_connection *connection;
	struct daemon daemon;
	long front, worker_kib;
	pid_t worker;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	connection = raw_open(&daemon);
	raw_hello(connection);
	/* the model is in memory and the plans of this size are built */
	check_layer(inpaint(&daemon, connection, 512, 512, false, 0, NULL));
	worker = (pid_t)daemon_status_int(&daemon, "worker.pid");
	front = own_kib(daemon.pid);
	worker_kib = own_kib(worker);
	for (int with_mask = 0; with_mask < 2; with_mask++) {
		struct peaks peaks = {0};

		sdp_connection_figures(connection, &before);
		check_layer(inpaint(&daemon, connection, WIDTH, HEIGHT, with_mask, worker, &peaks));
		sdp_connection_figures(connection, &figures);
		figures.bytes_in -= before.bytes_in;
		figures.bytes_out -= before.bytes_out;
		print_message("%dx%d RGBA, %s of %dx%d: through the socket %llu + %llu bytes; "
			      "sdd %ld -> %ld KiB; sdd-worker %ld -> %ld KiB of its own, beside "
			      "%ld KiB of the picture's pages\n",
			      WIDTH, HEIGHT, with_mask ? "mask" : "rectangle", SIDE, SIDE,
			      (unsigned long long)figures.bytes_out,
			      (unsigned long long)figures.bytes_in, front, peaks.front, worker_kib,
			      peaks.worker, peaks.worker_shared);
		assert_in_range(figures.bytes_out + figures.bytes_in, 1, SOCKET_BYTES);
		/* a mask is looked through page by page */
		assert_true(with_mask || peaks.worker_shared < WIDTH * 4 / 1024 * HEIGHT / 4);
		if (MEMORY_IS_MEASURED) {
			assert_in_range(peaks.front, 1, front + FRONT_KIB);
			assert_in_range(peaks.worker, 1, worker_kib + WORKER_KIB);
			/* what came and went between two samples */
			assert_in_range(peak_kib(worker), 1,
					worker_kib + peaks.worker_shared + WORKER_KIB);
		}
	}
	/* nobody holds the picture any longer */
	assert_in_range(status_kib(worker, "RssShmem:"), 0, 1024);
	sdp_connection_free(connection);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_large_canvas)};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
