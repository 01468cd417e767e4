/*
 * The worker dies and hangs at every stage; clients stay connected, each affected job gets one structured answer, and
 * the next one is painted by the next worker.
 *
 *     test-worker [KILLS]      with a number: only kills, so many at each of five points
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run(sdc_client *client, int steps, sdc_error *ret_error)
{
	sdc_request *request = txt2img(steps, 1);
	int r = sdc_call(client, request, 60000, NULL, ret_error);

	sdc_request_free(request);
	return r;
}

static void kill_at(const char *fault)
{
	struct daemon daemon;
	sdc_client *client, *witness;
	sdc_error error = {0};
	pid_t pid;

	daemon_start(&daemon, fault, NULL);
	pid = daemon.pid;
	client = daemon_connect(&daemon);
	witness = daemon_connect(&daemon);
	/* every worker dies there, so every job is answered so: once, with the code and what to do */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run(client, 4, &error), SDC_E_WORKER_LOST);
		assert_non_null(strstr(error.message, "submit the job once more"));
	}
	assert_int_equal(sdc_client_dispatch(witness, &error), 0);
	assert_int_equal(daemon_status_int(&daemon, "jobs.failed"), 2);
	assert_true(daemon_count_log(&daemon, "worker lost: it was killed by signal 9") >= 2);
	assert_int_equal(daemon.pid, pid);
	sdc_client_free(client);
	sdc_client_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_killed_at_each_stage(void **state)
{
	SKIP_WITHOUT_WORKER();
	kill_at("SDD_FAULT=load:kill");
	kill_at("SDD_FAULT=encode:kill");
	kill_at("SDD_FAULT=steps@1:kill");
	kill_at("SDD_FAULT=decode:kill");
	kill_at("SDD_FAULT=send:kill");
}

static void test_next_worker_paints(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	pid_t first;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 2, &error), 0);
	first = (pid_t)daemon_status_int(&daemon, "worker.pid");
	kill(first, SIGKILL);
	/* it was idle: nobody loses anything */
	assert_int_equal(run(client, 2, &error), 0);
	assert_true(daemon_status_int(&daemon, "worker.pid") != first);
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 1);
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 2);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_hung_worker_is_replaced(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "SDD_FAULT=steps@1:stop", "--heartbeat-timeout=1s", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 4, &error), SDC_E_WORKER_LOST);
	assert_non_null(strstr(error.message, "hung"));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	/* stopped while idle: noticed when there is work, and the job, not begun, is given to the next one */
	daemon_start(&daemon, "--heartbeat-timeout=1s", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 2, &error), 0);
	kill((pid_t)daemon_status_int(&daemon, "worker.pid"), SIGSTOP);
	assert_int_equal(run(client, 2, &error), 0);
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 1);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* The process answers pings, but its engine thread is stuck. */
static void test_hung_engine_is_replaced(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "SDD_FAULT=steps@1:hang", "--engine-timeout=3s", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 4, &error), SDC_E_WORKER_LOST);
	assert_non_null(strstr(error.message, "its engine hung"));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	/* while a model loads: who waits for the model is told, the next worker is asked again by the next job */
	daemon_start(&daemon, "SDD_FAULT=load:hang", "--engine-timeout=2s", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 4, &error), SDC_E_WORKER_LOST);
	assert_non_null(strstr(error.message, "its engine hung"));
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 0);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A job longer than the timeout is none of its business. */
static void test_slow_engine_is_left_alone(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	int64_t began;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--engine-timeout=3s", NULL);
	client = daemon_connect(&daemon);
	began = now_ms();
	for (int steps = 100; now_ms() - began < 4000; steps *= 2)
		assert_int_equal(run(client, steps < 1000 ? steps : 1000, &error), 0);
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 0);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* After an error that no request explains, nothing of that process is believed: the next job gets a new one. */
static void test_nothing_after_a_fault(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	int done = 0, failed = 0;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--backend=faulty:ref@4000+", NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < 20 && failed < 2; i++) {
		int r = run(client, 2, &error);

		if (r == 0) {
			done++;
			continue;
		}
		assert_int_equal(r, SDC_E_INTERNAL);
		failed++;
		daemon_await_status(&daemon, "worker.pid", 0);
	}
	/* the same number of jobs before each fault: it was not the old process that painted on */
	assert_int_equal(failed, 2);
	assert_true(done >= 2 && done % 2 == 0);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_unusable_worker(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};

	if (!getenv("SDD_TEST_MODEL"))
		skip();
	daemon_start(&daemon, "--worker=/bin/false", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 2, &error), SDC_E_WORKER_LOST);
	assert_non_null(strstr(error.message, "cannot be started"));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	daemon_start(&daemon, "--worker=/no/such/worker", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 2, &error), SDC_E_WORKER_LOST);
	assert_non_null(strstr(error.message, "/no/such/worker"));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_worker_dies_with_daemon(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	pid_t worker;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(run(client, 2, &error), 0);
	worker = (pid_t)daemon_status_int(&daemon, "worker.pid");
	kill(daemon.pid, SIGKILL);
	daemon_wait(&daemon, 5000);
	for (int i = 0; i < 500 && kill(worker, 0) == 0; i++)
		sleep_ms(10);
	/* init may not have reaped it: a zombie has no memory left */
	assert_true(kill(worker, 0) < 0 || resident_kib(worker) <= 0);
	assert_int_equal(run(client, 2, &error), SDC_E_DISCONNECTED);
	sdc_client_free(client);
	daemon_clear(&daemon);
}

/* How often each point kills a worker; the storm says more. */
static int kills = 2;

struct painting {
	uint8_t bytes[1 << 18];
	size_t size;
};

/* 0 and a picture, which is the same as before; or the error. */
static int paint_same(sdc_client *client, struct painting *painting, sdc_error *ret_error)
{
	sdc_request *request = txt2img(4, 1);
	sdc_reply *reply = NULL;
	sdc_image image;
	int r;

	r = sdc_call(client, request, 60000, &reply, ret_error);
	sdc_request_free(request);
	if (r < 0)
		return r;
	assert_int_equal(sdc_reply_image(reply, "images.0.pixels", &image, ret_error), 0);
	if (painting->size == 0) {
		painting->size = image.stride * (size_t)image.height;
		assert_in_range(painting->size, 1, sizeof(painting->bytes));
		memcpy(painting->bytes, image.data, painting->size);
	}
	assert_int_equal(painting->size, image.stride * (size_t)image.height);
	assert_memory_equal(painting->bytes, image.data, painting->size);
	sdc_reply_free(reply);
	return 0;
}

static void unload(sdc_client *client)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.unload", &error);

	assert_int_equal(sdc_request_set_string(request, "model", HARNESS_MODEL, &error), 0);
	/* the worker may go meanwhile, and the model with it */
	sdc_call(client, request, 60000, NULL, &error);
	sdc_request_free(request);
}

/*
 * Each worker finishes a job and dies in a later one, at this point: the same daemon, one answer each, always the same bytes.
 * Only who loads a model is told that it was lost: no job has begun.
 */
static void kill_often(const char *point, int pass, struct painting *painting)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	char fault[64];
	int painted = 0, lost = 0, fds = 0;
	bool loads;

	snprintf(fault, sizeof(fault), "SDD_FAULT=%s@%d:kill", point, pass);
	loads = strcmp(point, "load") == 0;
	daemon_start(&daemon, fault, "--log-level=info", NULL);
	client = daemon_connect(&daemon);
	while (daemon_status_int(&daemon, "worker.restarts") < kills) {
		if (loads && painted > 0)
			unload(client);
		if (paint_same(client, painting, &error) == 0) {
			painted++;
		} else {
			assert_int_equal(error.code, SDC_E_WORKER_LOST);
			lost++;
		}
		assert_in_range(painted + lost, 0, 20 * kills);
		if (fds == 0)
			fds = count_fds(daemon.pid);
	}
	print_message("%s: %d workers killed, %d jobs painted, %d answered worker_lost\n", point,
		      kills, painted, lost);
	assert_true(painted > 0);
	assert_int_equal(paint_same(client, painting, &error) == 0 || loads, true);
	assert_in_range(lost, 0, loads ? kills : 0);
	assert_int_equal(daemon_status_int(&daemon, "pid"), daemon.pid);
	assert_int_equal(daemon_status_int(&daemon, "jobs.queued"), 0);
	sdc_client_free(client);
	for (int i = 0; i < 500 && count_fds(daemon.pid) > fds; i++)
		sleep_ms(10);
	assert_in_range(count_fds(daemon.pid), 1, fds);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_killed_often(void **state)
{
	static struct painting painting;

	SKIP_WITHOUT_WORKER();
	kill_often("load", 2, &painting);
	kill_often("encode", 3, &painting);
	kill_often("steps", 7, &painting);
	kill_often("decode", 3, &painting);
	kill_often("send", 2, &painting);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest often[] = {cmocka_unit_test(test_killed_often)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_at_each_stage),
		cmocka_unit_test(test_killed_often),
		cmocka_unit_test(test_next_worker_paints),
		cmocka_unit_test(test_hung_worker_is_replaced),
		cmocka_unit_test(test_hung_engine_is_replaced),
		cmocka_unit_test(test_slow_engine_is_left_alone),
		cmocka_unit_test(test_nothing_after_a_fault),
		cmocka_unit_test(test_unusable_worker),
		cmocka_unit_test(test_worker_dies_with_daemon),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1) {
		kills = atoi(argv[1]);
		return cmocka_run_group_tests(often, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
