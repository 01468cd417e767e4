/*
 * Jobs that are interrupted: by the death of the worker, and by jobs that go first. They go on behind the last step that
 * was made and end with the bytes of an undisturbed run.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 20 };

struct painting {
	uint8_t *bytes; /* malloc'd */
	size_t size;
};

static struct painting take(const sdc_reply *reply)
{
	struct painting painting = {0};
	sdc_error error = {0};
	sdc_image image;

	assert_int_equal(sdc_reply_image(reply, "images.0.pixels", &image, &error), 0);
	painting.size = image.stride * (size_t)image.height;
	painting.bytes = malloc(painting.size);
	assert_non_null(painting.bytes);
	memcpy(painting.bytes, image.data, painting.size);
	return painting;
}

static sdc_request *request_of(const char *sampler)
{
	sdc_request *request = txt2img(STEPS, 11);
	sdc_error error = {0};

	assert_int_equal(sdc_request_set_string(request, "sampler", sampler, &error), 0);
	return request;
}

static struct painting paint(sdc_client *client, const char *sampler)
{
	sdc_request *request = request_of(sampler);
	struct painting painting;
	sdc_reply *reply = NULL;
	sdc_error error = {0};

	if (sdc_call(client, request, 120000, &reply, &error) < 0)
		fail_msg("%s", error.message);
	painting = take(reply);
	sdc_reply_free(reply);
	sdc_request_free(request);
	return painting;
}

static void assert_same(struct painting *a, struct painting *b)
{
	assert_int_equal(a->size, b->size);
	assert_memory_equal(a->bytes, b->bytes, a->size);
	free(b->bytes);
	b->bytes = NULL;
}

/* Every worker dies at the sixth thing it reports; four lives of five steps make a job of twenty. */
static void test_worker_dies_on_the_way(void **state)
{
	static const char *const samplers[] = {"Euler a", "DPM++ 2M"};
	struct painting right[2], again;
	struct daemon daemon;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < 2; i++)
		right[i] = paint(client, samplers[i]);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	daemon_start(&daemon, "SDD_FAULT=steps@6:kill", NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < 2; i++) {
		again = paint(client, samplers[i]);
		assert_same(&right[i], &again);
		free(right[i].bytes);
	}
	assert_in_range(daemon_status_int(&daemon, "worker.restarts"), 6, 12);
	assert_int_equal(daemon_status_int(&daemon, "jobs.failed"), 0);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

struct watch {
	int step, done, code;
};

static void on_progress(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	struct watch *watch = userdata;

	assert_true(progress->step >= watch->step);
	watch->step = progress->step;
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct watch *watch = userdata;

	watch->done++;
	watch->code = error ? error->code : 0;
}

static void turn(sdc_client *client, int ms)
{
	struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

	poll(&fd, 1, ms);
	assert_true(sdc_client_dispatch(client, NULL) >= 0);
}

/* The step behind which a job was last put back, from the log. */
static int kept_step(const struct daemon *daemon)
{
	char line[2048], *at;
	FILE *file = fopen(daemon->log, "re");
	int step = -1;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		at = strstr(line, "go on behind step ");
		if (at)
			step = atoi(at + strlen("go on behind step "));
	}
	fclose(file);
	return step;
}

/* kill -9 from outside while it steps: whatever a client has been told of is not made again. */
static void test_no_step_twice(void **state)
{
	struct watch watch = {0};
	const sdc_job_handlers handlers = {
		.progress = on_progress, .done = on_done, .userdata = &watch};
	sdc_request *request;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	int seen, kept;
	sdc_job *job;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	request = txt2img(1000, 1);
	assert_int_equal(sdc_job_submit(client, request, &handlers, &job, &error), 0);
	sdc_request_free(request);
	for (int round = 1; round <= 3; round++) {
		while (watch.step < 100 * round && !watch.done)
			turn(client, 10);
		assert_false(watch.done);
		seen = watch.step;
		kill((pid_t)daemon_status_int(&daemon, "worker.pid"), SIGKILL);
		while (daemon_count_log(&daemon, "go on behind step") < round)
			turn(client, 10);
		kept = kept_step(&daemon);
		assert_true(kept >= seen);
		while (watch.step <= kept && !watch.done)
			turn(client, 10);
	}
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	while (!watch.done)
		turn(client, 10);
	assert_int_equal(watch.done, 1);
	assert_int_equal(watch.code, SDC_E_CANCELLED);
	sdc_job_free(job);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worker_dies_on_the_way),
		cmocka_unit_test(test_no_step_twice),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
