/*
 * Jobs of several clients that run together: each ends once, with the bytes it gets alone, also when one of them is cancelled, all
 * make room for a job of a higher class, or the worker dies under them. Who may join is the rule's to say.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLIENTS = 4, STEPS = 30, LONG = 1000 };

/* The i-th client's job: of one shape with the others, else of its own. */
static sdc_request *request_of(int i, int steps)
{
	static const char *const prompts[] = {"a cat", "a (red:1.3) boat", "", "houses, at night"};
	static const char *const samplers[] = {"Euler a", "DPM++ 2M", "Heun", "DDIM"};
	sdc_request *request = txt2img(steps + i, 7 + (uint64_t)i);
	sdc_error error = {0};

	assert_int_equal(sdc_request_set_string(request, "prompt", prompts[i], &error), 0);
	assert_int_equal(sdc_request_set_string(request, "sampler", samplers[i], &error), 0);
	assert_int_equal(sdc_request_set_double(request, "guidance_scale", 2 + i, &error), 0);
	return request;
}

/* A counter of the metrics. */
static int counter(sdc_client *client, const char *name)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("metrics", &error);
	sdc_reply *reply = NULL;
	const char *text = "", *at;
	char line[64];
	int value;

	assert_int_equal(sdc_call(client, request, 10000, &reply, &error), 0);
	assert_int_equal(sdc_reply_string(reply, "text", &text), 0);
	snprintf(line, sizeof(line), "\n%s ", name);
	at = strstr(text, line);
	assert_non_null(at);
	value = atoi(at + strlen(line));
	sdc_reply_free(reply);
	sdc_request_free(request);
	return value;
}

static struct result right[CLIENTS];

/* Alone, one after the other. */
static int paint_right(void **state)
{
	struct daemon daemon;
	sdc_client *client;

	if (!harness_has_worker())
		return 0;
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < CLIENTS; i++) {
		sdc_reply *reply = call_request(client, request_of(i, STEPS));

		right[i] = result_of(reply);
		sdc_reply_free(reply);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	return 0;
}

static int drop_right(void **state)
{
	for (int i = 0; i < CLIENTS; i++)
		free(right[i].bytes);
	return 0;
}

/* All four clients' jobs to their ends; options of the daemon, NULL for none. */
static void run_together(const char *option, const char *fault, bool interrupt)
{
	sdc_client *clients[CLIENTS + 1];
	struct watch watches[CLIENTS], quick = {.done = 1};
	sdc_job *jobs[CLIENTS], *other = NULL;
	struct daemon daemon;
	bool all = false;

	daemon_start(&daemon, "--batch-pixels=65536", option, fault, NULL);
	for (int i = 0; i <= CLIENTS; i++)
		clients[i] = daemon_connect(&daemon);
	for (int i = 0; i < CLIENTS; i++)
		jobs[i] = submit_watched(clients[i], request_of(i, STEPS), "normal", &watches[i]);
	while (!all) {
		turn_clients(clients, CLIENTS + 1, 10);
		all = quick.done;
		for (int i = 0; i < CLIENTS; i++)
			all = all && watches[i].done;
		if (interrupt && !other && watches[0].step > 3)
			other = submit_watched(clients[CLIENTS], txt2img(2, 1), "interactive",
					       &quick);
	}
	for (int i = 0; i < CLIENTS; i++) {
		assert_int_equal(watches[i].done, 1);
		assert_int_equal(watches[i].code, 0);
		assert_result(&right[i], sdc_job_result(jobs[i]));
	}
	assert_int_equal(quick.code, 0);
	assert_int_equal(daemon_status_int(&daemon, "jobs.done"), CLIENTS + (other != NULL));
	assert_int_equal(daemon_status_int(&daemon, "jobs.running"), 0);
	assert_int_equal(daemon_status_int(&daemon, "jobs.failed"), 0);
	assert_in_range(counter(clients[0], "sdd_jobs_joined_total"), 1, 3 * CLIENTS);
	if (interrupt)
		assert_in_range(counter(clients[0], "sdd_jobs_interrupted_total"), 1, CLIENTS);
	if (fault)
		assert_in_range(daemon_status_int(&daemon, "worker.restarts"), 1, 100);
	for (int i = 0; i < CLIENTS; i++)
		sdc_job_free(jobs[i]);
	sdc_job_free(other);
	for (int i = 0; i <= CLIENTS; i++)
		sdc_client_free(clients[i]);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_same_bytes(void **state)
{
	SKIP_WITHOUT_WORKER();
	run_together("--dtype=auto", NULL, false);
}

static void test_all_make_room(void **state)
{
	SKIP_WITHOUT_WORKER();
	run_together("--dtype=auto", NULL, true);
}

/* Each worker is killed at the twentieth thing that it tells of steps. */
static void test_worker_dies_under_them(void **state)
{
	SKIP_WITHOUT_WORKER();
	run_together("--dtype=auto", "SDD_FAULT=steps@20:kill", false);
}

static void await_running(const struct daemon *daemon, sdc_client *const *clients, int n)
{
	for (int i = 0; daemon_status_int(daemon, "jobs.running") != n; i++) {
		assert_in_range(i, 0, 2000);
		turn_clients(clients, CLIENTS, 10);
	}
}

/* Cancelled, disconnected, shut down: each leaves the others where they are. */
static void test_each_its_own_end(void **state)
{
	sdc_client *clients[CLIENTS];
	struct watch watches[CLIENTS];
	sdc_job *jobs[CLIENTS];
	struct daemon daemon;
	sdc_error error = {0};
	int64_t worker;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--batch-pixels=65536", NULL);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = daemon_connect(&daemon);
		jobs[i] = submit_watched(clients[i], txt2img(LONG, (uint64_t)i), "normal",
					 &watches[i]);
	}
	await_running(&daemon, clients, CLIENTS);
	worker = daemon_status_int(&daemon, "worker.pid");
	assert_int_equal(sdc_job_cancel(jobs[1], &error), 0);
	while (!watches[1].done)
		turn_clients(clients, CLIENTS, 10);
	assert_int_equal(watches[1].code, SDC_E_CANCELLED);
	await_running(&daemon, clients, CLIENTS - 1);
	assert_int_equal(watches[0].done + watches[2].done + watches[3].done, 0);
	sdc_job_free(jobs[3]);
	sdc_client_free(clients[3]);
	clients[3] = daemon_connect(&daemon);
	await_running(&daemon, clients, CLIENTS - 2);
	assert_int_equal(daemon_status_int(&daemon, "worker.pid"), worker);
	kill(daemon.pid, SIGTERM);
	while (!watches[0].done || !watches[2].done)
		for (int i = 0; i < CLIENTS; i += 2) {
			struct pollfd fd = {sdc_client_fd(clients[i]), POLLIN, 0};

			poll(&fd, 1, 10);
			sdc_client_dispatch(clients[i], NULL);
		}
	assert_int_equal(watches[0].done, 1);
	assert_int_equal(watches[2].done, 1);
	assert_int_equal(watches[0].code, SDC_E_SHUTTING_DOWN);
	for (int i = 0; i < CLIENTS; i++) {
		if (i < 3)
			sdc_job_free(jobs[i]);
		sdc_client_free(clients[i]);
	}
	assert_int_equal(daemon_wait(&daemon, 15000), 0);
	daemon_clear(&daemon);
}

/* Of another shape, class, seamless or with tags in its prompt it waits, as does all where pictures are larger than the bound. */
static void test_who_does_not_join(void **state)
{
	static const char *const bounds[] = {"--batch-pixels=65536", "--batch-pixels=4095"};
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	for (int b = 0; b < 2; b++) {
		for (int i = 0; i < 5; i++) {
			struct watch watches[2];
			sdc_client *client;
			struct daemon daemon;
			sdc_job *jobs[2];
			sdc_request *request = txt2img(LONG, 2);

			daemon_start(&daemon, bounds[b], NULL);
			client = daemon_connect(&daemon);
			jobs[0] = submit_watched(client, txt2img(LONG, 1), "normal", &watches[0]);
			if (i == 1)
				assert_int_equal(sdc_request_set_int(request, "width", 96, &error),
						 0);
			if (i == 3)
				assert_int_equal(sdc_request_set_string(request, "prompt",
									"<lora:x:1>", &error),
						 0);
			if (i == 4)
				assert_int_equal(
					sdc_request_set_string(request, "tiling", "both", &error),
					0);
			while (watches[0].step < 1)
				turn_client(client, 10);
			jobs[1] = submit_watched(client, request, i == 2 ? "batch" : "normal",
						 &watches[1]);
			while (watches[0].step < 20)
				turn_client(client, 10);
			assert_int_equal(daemon_status_int(&daemon, "jobs.running"),
					 b == 0 && i == 0 ? 2 : 1);
			assert_int_equal(watches[1].done, 0);
			for (int k = 0; k < 2; k++) {
				assert_int_equal(sdc_job_cancel(jobs[k], &error), 0);
				while (!watches[k].done)
					turn_client(client, 10);
				sdc_job_free(jobs[k]);
			}
			sdc_client_free(client);
			assert_int_equal(daemon_stop(&daemon), 0);
			daemon_clear(&daemon);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_all_make_room),
		cmocka_unit_test(test_worker_dies_under_them),
		cmocka_unit_test(test_each_its_own_end),
		cmocka_unit_test(test_who_does_not_join),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, paint_right, drop_right);
}
