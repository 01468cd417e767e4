/*
 * Running out of memory: a whole client session with its n-th allocation failing, once or from then on, for every n until
 * the session needs fewer. Each time the program gets an error or its result, every callback comes once, and nothing
 * leaks (descriptors here, memory under the sanitizer). The linker wraps malloc, calloc and realloc (meson.build).
 */
#include <poll.h>
#include <pthread.h>

#include "wire.h"

#include "client/internal.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static long countdown; /* allocations until one fails */
static bool sticky, hit;
static _Thread_local bool armed;

static bool fails(void)
{
	if (!armed || (hit && !sticky))
		return false;
	if (!hit && countdown-- > 0)
		return false;
	hit = true;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

static void done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	++*(int *)userdata;
}

/* What the program does, as far as memory lets it; stops at the first error. */
static int program(int fd, int *done_calls)
{
	const sdc_job_handlers handlers = {.done = done, .userdata = done_calls};
	static const uint8_t grey[64];
	const sdc_image canvas = {.width = 8, .height = 8, .channels = 1, .data = grey};
	sdc_client *client = NULL;
	sdc_request *request = NULL;
	sdc_job *job = NULL;
	sdc_image image;
	sdc_error error = {0};

	int r = sdc_client_adopt(fd, "memory", 0, 1000, &client, &error);
	if (r == 0) {
		request = sdc_job_request_new("img2img", &error);
		r = request ? sdc_request_set_string(request, "prompt", "a barn", &error)
			    : error.code;
	}
	if (r == 0)
		r = sdc_request_set_image(request, "image", &canvas, &error);
	if (r == 0)
		r = sdc_job_submit(client, request, &handlers, &job, &error);
	if (r == 0) {
		r = sdc_job_wait(job, 1000, &error);
		assert_int_equal(*done_calls, 1);
	}
	if (r == 0)
		r = sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error);
	if (r == 0) {
		char *json = sdc_reply_json(sdc_job_result(job), "");
		r = json ? 0 : SDC_E_NO_MEMORY;
		free(json);
	}
	sdc_job_free(job);
	sdc_request_free(request);
	sdc_client_free(client);
	return r;
}

static void answer(struct sdp_connection *peer, const struct sdp_message *m,
		   const struct sdp_pixels *pixels)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_response(&w, m->msgid);
	if (m->method->id == SDP_METHOD_HELLO) {
		sdp_writer_string(&w, "server", "script");
		sdp_writer_int(&w, "api", 1);
		sdp_writer_string(&w, "instance", "x");
	} else if (m->method->id == SDP_METHOD_JOB_SUBMIT) {
		sdp_writer_int(&w, "job", 5);
		sdp_writer_string(&w, "state", "done");
		sdp_writer_list_begin(&w, "images");
		sdp_writer_map_begin(&w, NULL);
		sdp_writer_pixels(&w, "pixels", pixels);
	}
	sdp_connection_queue(peer, &w, 0);
	sdp_connection_write(peer);
}

/* The daemon's side, in a thread whose memory does not fail. Ends when the client hangs up. */
static void *serve(void *userdata)
{
	static const struct sdp_connection_options options = {0};
	struct sdp_buffer buffer;
	struct sdp_pixels pixels = sealed_pixels(8, 8, 4, SDP_SAMPLE_TYPE_U8, 3, &buffer);
	struct sdp_connection *peer = NULL;
	struct sdp_message *m;
	struct sdp_error error;
	struct pollfd p = {*(int *)userdata, POLLIN, 0};

	if (sdp_connection_new(p.fd, &options, &peer) < 0)
		abort();
	while (poll(&p, 1, -1) >= 0 && sdp_connection_read(peer, &error) >= 0)
		while (sdp_connection_pop(peer, &m, &error) > 0) {
			answer(peer, m, &pixels);
			sdp_message_free(m);
		}
	sdp_connection_free(peer);
	sdp_buffer_clear(&buffer);
	return NULL;
}

/* Returns the program's result with its n-th allocation failing. */
static int run(long n, bool from_then_on)
{
	int pair[2], done_calls = 0;
	pthread_t thread;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, &pair[0]), 0);
	countdown = n;
	sticky = from_then_on;
	hit = false;
	armed = true;
	int r = program(pair[1], &done_calls);
	armed = false;
	assert_true(done_calls <= 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return r;
}

static void test_each_allocation(void **state)
{
	int before = count_fds();

	for (int way = 0; way < 2; way++) {
		long n = 0;
		int r;

		do {
			r = run(n, way == 1);
			if (r != 0 && r != SDC_E_NO_MEMORY)
				fail_msg("allocation %ld (%s): %s", n,
					 way ? "and all after" : "alone", sdc_code_name(r));
			assert_true(r == 0 || hit);
			n++;
		} while (hit);
		assert_int_equal(r, 0);
		assert_true(n > 20); /* the wrapping works */
		assert_int_equal(count_fds(), before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
