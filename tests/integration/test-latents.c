/*
 * Sequences of pictures through the real sdd and worker: each picture is there as soon as it is finished, once, also where the job
 * is interrupted, cancelled or its worker killed; and what a request may not say is refused before it waits.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES	   4
#define STEPS	   4
#define BYTES_MOST (64 * 64 * 4)

static struct daemon server;

struct seen {
	int done, code, n, steps;
	size_t size;
	uint8_t pictures[FRAMES][BYTES_MOST];
};

static int start(void **state)
{
	daemon_start(&server, NULL);
	return 0;
}

static int stop(void **state)
{
	assert_int_equal(daemon_stop(&server), 0);
	daemon_clear(&server);
	return 0;
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct seen *seen = userdata;

	seen->done++;
	seen->code = error ? error->code : 0;
}

static void on_progress(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	struct seen *seen = userdata;

	seen->steps = progress->step;
}

static void on_picture(sdc_job *job, const sdc_image *image, const sdc_reply *picture,
		       void *userdata)
{
	struct seen *seen = userdata;
	int64_t index = -1;

	assert_int_equal(seen->done, 0);
	assert_int_equal(sdc_reply_int(picture, "index", &index), 0);
	assert_int_equal(index, seen->n);
	seen->size = image->stride * (size_t)image->height;
	assert_in_range(seen->size, 1, BYTES_MOST);
	memcpy(seen->pictures[seen->n++], image->data, seen->size);
}

static sdc_request *sequence(const char *sampler)
{
	static const double positions[FRAMES] = {0, 0.5, 1, 1.5};
	static const uint64_t seed = 9;
	sdc_request *request = txt2img(STEPS, 3);
	sdc_error error = {0};

	if (sdc_request_set_string(request, "prompt", "a house", &error) < 0 ||
	    sdc_request_set_string(request, "sampler", sampler, &error) < 0 ||
	    sdc_request_set_bool(request, "stream", 1, &error) < 0 ||
	    sdc_request_set_doubles(request, "positions", positions, FRAMES, &error) < 0 ||
	    sdc_request_add_waypoint(request, "a boat", &seed, NULL, &error) < 0 ||
	    sdc_request_add_waypoint(request, "a tree", NULL, NULL, &error) < 0)
		fail_msg("%s", error.message);
	return request;
}

static sdc_job *submit(sdc_client *client, sdc_request *request, const char *priority,
		       struct seen *seen)
{
	const sdc_job_handlers handlers = {
		.progress = on_progress, .done = on_done, .userdata = seen};
	sdc_error error = {0};
	sdc_job *job = NULL;

	*seen = (struct seen){0};
	if (sdc_request_set_string(request, "priority", priority, &error) < 0 ||
	    sdc_job_submit(client, request, &handlers, &job, &error) < 0)
		fail_msg("%s", error.message);
	sdc_job_on_picture(job, on_picture, seen);
	sdc_request_free(request);
	return job;
}

static void turn(sdc_client *client)
{
	struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

	poll(&fd, 1, 10);
	assert_true(sdc_client_dispatch(client, NULL) >= 0);
}

/* The result holds what was told. */
static void assert_all_told(const sdc_job *job, const struct seen *seen)
{
	sdc_error error = {0};
	char path[32];
	sdc_image image;

	assert_int_equal(seen->code, 0);
	assert_int_equal(seen->n, FRAMES);
	assert_int_equal(sdc_reply_count(sdc_job_result(job), "images"), FRAMES);
	for (int i = 0; i < FRAMES; i++) {
		snprintf(path, sizeof(path), "images.%d.pixels", i);
		assert_int_equal(sdc_reply_image(sdc_job_result(job), path, &image, &error), 0);
		assert_memory_equal(image.data, seen->pictures[i], seen->size);
	}
}

/* What the plain job gives, and that the sequence's picture is it. */
static void assert_plain(sdc_client *client, const char *prompt, uint64_t seed,
			 const uint8_t *picture)
{
	sdc_request *request = txt2img(STEPS, seed);
	sdc_error error = {0};
	sdc_reply *reply;
	sdc_image image;

	sdc_request_set_string(request, "prompt", prompt, &error);
	sdc_request_set_string(request, "sampler", "Euler a", &error);
	if (sdc_call(client, request, 60000, &reply, &error) < 0 ||
	    sdc_reply_image(reply, "images.0.pixels", &image, &error) < 0)
		fail_msg("%s", error.message);
	assert_memory_equal(image.data, picture, image.stride * (size_t)image.height);
	sdc_reply_free(reply);
	sdc_request_free(request);
}

/* In order and before the end, with descriptors and inline; at whole positions the plain jobs' bytes; nothing unasked. */
static void test_pictures_come_as_they_are_finished(void **state)
{
	SKIP_WITHOUT_WORKER();
	for (unsigned flags = 0; flags <= SDC_INLINE_PIXELS; flags += SDC_INLINE_PIXELS) {
		sdc_client *client = daemon_connect_flags(&server, flags);
		sdc_request *unasked = sequence("Euler a");
		sdc_error error = {0};
		struct seen seen;
		sdc_job *job = submit(client, sequence("Euler a"), "normal", &seen);

		while (!seen.done)
			turn(client);
		assert_all_told(job, &seen);
		assert_plain(client, "a house", 3, seen.pictures[0]);
		assert_plain(client, "a boat", 9, seen.pictures[2]);
		assert_memory_not_equal(seen.pictures[1], seen.pictures[0], seen.size);
		sdc_job_free(job);
		assert_int_equal(sdc_request_set_bool(unasked, "stream", 0, &error), 0);
		job = submit(client, unasked, "normal", &seen);
		while (!seen.done)
			turn(client);
		assert_int_equal(seen.code, 0);
		assert_int_equal(seen.n, 0);
		sdc_job_free(job);
		sdc_client_free(client);
	}
}

/* A job of a higher class goes first, then the worker is killed: each picture once all the same, and the same bytes. */
static void test_interrupted(void **state)
{
	struct seen plain, seen, quick;
	sdc_client *client;
	sdc_job *job, *other;

	SKIP_WITHOUT_WORKER();
	client = daemon_connect(&server);
	job = submit(client, sequence("Euler a"), "batch", &plain);
	while (!plain.done)
		turn(client);
	assert_all_told(job, &plain);
	sdc_job_free(job);

	job = submit(client, sequence("Euler a"), "batch", &seen);
	while (seen.n < 1 && !seen.done)
		turn(client);
	other = submit(client, txt2img(1, 5), "interactive", &quick);
	while (!quick.done)
		turn(client);
	assert_int_equal(quick.code, 0);
	assert_int_equal(seen.done, 0);
	sdc_job_free(other);
	while (seen.n < 2 && !seen.done)
		turn(client);
	kill((pid_t)daemon_status_int(&server, "worker.pid"), SIGKILL);
	while (!seen.done)
		turn(client);
	assert_all_told(job, &seen);
	assert_memory_equal(seen.pictures, plain.pictures, sizeof(seen.pictures));
	assert_true(daemon_count_log(&server, "job waits to go on behind step") >= 2);
	sdc_job_free(job);
	sdc_client_free(client);
}

static void test_cancelled(void **state)
{
	sdc_error error = {0};
	sdc_client *client;
	struct seen seen;
	sdc_job *job;

	SKIP_WITHOUT_WORKER();
	client = daemon_connect(&server);
	job = submit(client, sequence("Euler a"), "normal", &seen);
	while (seen.n < 2 && !seen.done)
		turn(client);
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	while (!seen.done)
		turn(client);
	assert_int_equal(seen.code, SDC_E_CANCELLED);
	assert_in_range(seen.n, 2, FRAMES - 1);
	sdc_job_free(job);
	sdc_client_free(client);
}

/* A request of the kind with one wrong thing. */
struct wrong {
	const char *kind, *field;
	int code;
	int waypoints, positions, pictures, count; /* 0: none */
	const char *name, *value;
};

static void test_refused(void **state)
{
	static const double ways[17] = {0, 0.1, 0.2, 0.3, 3};
	static const uint8_t pixel[3] = {1, 2, 3};
	static const sdc_image image = {
		.width = 1, .height = 1, .channels = 3, .type = SDC_U8, .data = pixel};
	static const struct wrong wrongs[] = {
		{"txt2img", "positions", SDC_E_MISSING_FIELD, 1, 0, 0, 0, NULL, NULL},
		{"txt2img", "waypoints", SDC_E_MISSING_FIELD, 0, 2, 0, 0, NULL, NULL},
		{"txt2img", "positions.4", SDC_E_BAD_VALUE, 2, 5, 0, 0, NULL, NULL},
		{"txt2img", "count", SDC_E_BAD_REQUEST, 1, 2, 0, 2, NULL, NULL},
		{"txt2img", "waypoints.0.image", SDC_E_BAD_REQUEST, 1, 2, 1, 0, NULL, NULL},
		{"inpaint", "positions", SDC_E_BAD_REQUEST, 0, 2, 0, 0, NULL, NULL},
		{"txt2img", "noising", SDC_E_BAD_REQUEST, 0, 0, 0, 0, "noising", "invert"},
		{"img2img", "source_prompt", SDC_E_MISSING_FIELD, 0, 0, 0, 0, "noising", "invert"},
		{"img2img", "source_prompt", SDC_E_BAD_REQUEST, 0, 0, 0, 0, "source_prompt", "x"},
	};
	sdc_client *client = daemon_connect(&server);

	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		const struct wrong *w = &wrongs[i];
		sdc_error error = {0};
		sdc_request *request = sdc_job_request_new(w->kind, &error);

		for (int k = 0; k < w->waypoints; k++)
			assert_int_equal(sdc_request_add_waypoint(request, "x", NULL,
								  w->pictures ? &image : NULL,
								  &error),
					 0);
		if (w->positions > 0)
			assert_int_equal(sdc_request_set_doubles(request, "positions", ways,
								 (size_t)w->positions, &error),
					 0);
		if (w->count)
			sdc_request_set_int(request, "count", w->count, NULL);
		if (w->name)
			sdc_request_set_string(request, w->name, w->value, NULL);
		if (strcmp(w->kind, "txt2img") != 0)
			sdc_request_set_image(request, "image", &image, NULL);
		if (strcmp(w->kind, "inpaint") == 0)
			sdc_request_set_rect(request, "select", 0, 0, 1, 1, NULL);
		assert_int_equal(sdc_call(client, request, 10000, NULL, &error), w->code);
		assert_string_equal(error.field, w->field);
		sdc_request_free(request);
	}
	for (int most = 0; most < 2; most++) {
		sdc_error error = {0};
		sdc_request *request = sdc_job_request_new("txt2img", &error);

		assert_int_equal(
			sdc_request_set_doubles(request, "positions", ways, most ? 17 : 16, &error),
			most ? SDC_E_BAD_VALUE : 0);
		for (int k = 0; k < 8; k++)
			assert_int_equal(sdc_request_add_waypoint(request, "x", NULL, NULL, &error),
					 0);
		assert_int_equal(sdc_request_add_waypoint(request, "x", NULL, NULL, &error),
				 SDC_E_BAD_VALUE);
		sdc_request_free(request);
	}
	sdc_client_free(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pictures_come_as_they_are_finished),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
