/*
 * Many cancels and worker kills at random times: every job gets exactly one terminal answer, the daemon stays the same
 * process, and afterwards it still paints.
 *
 *     storm CANCELS KILLS [STEPS [SEED]]
 *
 * Jobs have 1 to STEPS steps.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int n_cancels, n_kills, max_steps;

struct tally {
	int n_done, codes[128];
};

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct tally *tally = userdata;
	const int code = error ? -error->code : 0;

	tally->n_done++;
	tally->codes[code >= 0 && code < 128 ? code : 127]++;
}

static void dispatch(sdc_client *client, int ms)
{
	struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

	poll(&fd, 1, ms);
	assert_true(sdc_client_dispatch(client, NULL) >= 0);
}

/* One job, disturbed after a random time. */
static void disturb(struct daemon *daemon, sdc_client *client, bool kill_worker,
		    struct tally *total)
{
	struct tally tally = {0};
	const sdc_job_handlers handlers = {.done = on_done, .userdata = &tally};
	const int64_t began = now_ms(), at = began + rand() % 80;
	sdc_request *request = txt2img(1 + rand() % max_steps, (uint64_t)rand());
	sdc_error error = {0};
	sdc_job *job = NULL;
	bool disturbed = false;

	assert_int_equal(sdc_job_submit(client, request, &handlers, &job, &error), 0);
	sdc_request_free(request);
	while (tally.n_done == 0) {
		if (now_ms() - began > 60000) {
			daemon_show_log(daemon);
			fail_msg("no answer");
		}
		dispatch(client, 3);
		if (disturbed || now_ms() < at || sdc_job_id(job) == 0)
			continue;
		disturbed = true;
		if (kill_worker) {
			pid_t pid = (pid_t)daemon_status_int(daemon, "worker.pid");

			if (pid > 0)
				kill(pid, SIGKILL);
		} else {
			sdc_job_cancel(job, &error);
		}
	}
	/* a second answer would come now */
	dispatch(client, 2);
	dispatch(client, 2);
	assert_int_equal(tally.n_done, 1);
	for (size_t i = 0; i < 128; i++)
		total->codes[i] += tally.codes[i];
	total->n_done += tally.n_done;
	sdc_job_free(job);
}

static void report(const char *what, const struct tally *tally)
{
	printf("%s: %d jobs, %d answers: %d done, %d cancelled, %d worker_lost\n", what,
	       tally->n_done, tally->n_done, tally->codes[0], tally->codes[-SDC_E_CANCELLED],
	       tally->codes[-SDC_E_WORKER_LOST]);
	assert_int_equal(tally->codes[0] + tally->codes[-SDC_E_CANCELLED] +
				 tally->codes[-SDC_E_WORKER_LOST],
			 tally->n_done);
}

static void test_storm(void **state)
{
	struct tally cancels = {0}, kills = {0}, last = {0};
	struct daemon daemon;
	sdc_client *client;
	int fds;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--log-level=info", NULL);
	client = daemon_connect(&daemon);
	disturb(&daemon, client, false, &last);
	fds = count_fds(daemon.pid);
	for (int i = 0; i < n_cancels; i++)
		disturb(&daemon, client, false, &cancels);
	report("cancels", &cancels);
	for (int i = 0; i < n_kills; i++)
		disturb(&daemon, client, true, &kills);
	report("kills", &kills);
	assert_int_equal(cancels.n_done, n_cancels);
	assert_int_equal(kills.n_done, n_kills);
	/* the same daemon, no descriptor more, and it paints */
	assert_int_equal(daemon_status_int(&daemon, "pid"), daemon.pid);
	sdc_client_free(client);
	client = daemon_connect(&daemon);
	{
		sdc_request *request = txt2img(2, 1);
		sdc_error error = {0};

		assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
		sdc_request_free(request);
	}
	sleep_ms(100);
	assert_in_range(count_fds(daemon.pid), 1, fds);
	printf("front process: %ld KiB resident at the end\n", resident_kib(daemon.pid));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm)};

	n_cancels = argc > 1 ? atoi(argv[1]) : 20;
	n_kills = argc > 2 ? atoi(argv[2]) : 5;
	max_steps = argc > 3 ? atoi(argv[3]) : 60;
	srand(argc > 4 ? (unsigned)atoi(argv[4]) : 1);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
