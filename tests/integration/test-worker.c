/*
 * The worker dies and hangs at every stage; clients stay connected, each affected job gets one structured answer, and
 * the next one is painted by the next worker.
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_at_each_stage),
		cmocka_unit_test(test_next_worker_paints),
		cmocka_unit_test(test_hung_worker_is_replaced),
		cmocka_unit_test(test_hung_engine_is_replaced),
		cmocka_unit_test(test_slow_engine_is_left_alone),
		cmocka_unit_test(test_nothing_after_a_fault),
		cmocka_unit_test(test_unusable_worker),
		cmocka_unit_test(test_worker_dies_with_daemon),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
