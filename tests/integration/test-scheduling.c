/*
 * Who goes first: clients in turns, the latest request of a channel; and a killed worker costs no step that a client has been told of.
 * That interrupted jobs end with the same bytes is test-interrupted.c's.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
	struct watch watch;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	int seen, kept;
	sdc_job *job;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	job = submit_watched(client, txt2img(1000, 1), "normal", &watch);
	for (int round = 1; round <= 3; round++) {
		while (watch.step < 100 * round && !watch.done)
			turn_client(client, 10);
		assert_false(watch.done);
		seen = watch.step;
		kill((pid_t)daemon_status_int(&daemon, "worker.pid"), SIGKILL);
		while (daemon_count_log(&daemon, "go on behind step") < round)
			turn_client(client, 10);
		kept = kept_step(&daemon);
		assert_true(kept >= seen);
		while (watch.step <= kept && !watch.done)
			turn_client(client, 10);
	}
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	while (!watch.done)
		turn_client(client, 10);
	assert_int_equal(watch.done, 1);
	assert_int_equal(watch.code, SDC_E_CANCELLED);
	sdc_job_free(job);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* One client floods, seven do not: whoever has something waiting gets as many turns as any other. */
static void test_clients_take_turns(void **state)
{
	enum { CLIENTS = 8, EACH = 3, FLOOD = 12 };
	struct watch watches[CLIENTS][FLOOD];
	sdc_job *jobs[CLIENTS][FLOOD] = {{NULL}};
	sdc_client *clients[CLIENTS];
	struct daemon daemon;
	double sum = 0, squares = 0;
	int done[CLIENTS];
	bool all;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--max-jobs-per-user=64", "--max-waiting-per-connection=16", NULL);
	for (int c = 0; c < CLIENTS; c++) {
		clients[c] = daemon_connect(&daemon);
		for (int i = 0; i < (c == 0 ? FLOOD : EACH); i++)
			jobs[c][i] =
				submit_watched(clients[c], txt2img(8, 1), "normal", &watches[c][i]);
		turn_client(clients[c], 0);
	}
	/* until one of the modest ones has all it wanted */
	do {
		all = false;
		for (int c = 0; c < CLIENTS; c++) {
			turn_client(clients[c], 2);
			done[c] = 0;
			for (int i = 0; i < (c == 0 ? FLOOD : EACH); i++)
				done[c] += watches[c][i].done;
			all |= c > 0 && done[c] == EACH;
		}
	} while (!all);
	for (int c = 0; c < CLIENTS; c++) {
		sum += done[c];
		squares += (double)done[c] * done[c];
		assert_in_range(done[c], EACH - 1, EACH + 1);
	}
	print_message("Jain's index of %d clients: %.3f\n", CLIENTS,
		      sum * sum / (CLIENTS * squares));
	for (int c = 0; c < CLIENTS; c++) {
		for (int i = 0; i < FLOOD; i++)
			sdc_job_free(jobs[c][i]);
		sdc_client_free(clients[c]);
	}
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static sdc_request *stroke(int steps, const char *channel)
{
	sdc_request *request = txt2img(steps, 1);
	sdc_error error = {0};

	assert_int_equal(sdc_request_set_string(request, "channel", channel, &error), 0);
	return request;
}

/* Ten strokes in a row: the last one is painted, those before end at once, waiting or running. */
static void test_latest_of_a_channel_wins(void **state)
{
	enum { STROKES = 10 };
	struct watch watches[STROKES], other, elsewhere;
	sdc_job *jobs[STROKES], *kept[2] = {NULL};
	sdc_client *client, *stranger;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	stranger = daemon_connect(&daemon);
	for (int i = 0; i < STROKES; i++) {
		jobs[i] = submit_watched(client, stroke(i < STROKES - 1 ? 1000 : 2, "canvas"),
					 "interactive", &watches[i]);
		while (i == 0 && watches[0].step < 2)
			turn_client(client, 10);
		if (i == 0) {
			/* other channels and other connections are not concerned */
			kept[0] = submit_watched(client, stroke(2, "other"), "normal", &other);
			kept[1] =
				submit_watched(stranger, stroke(2, "canvas"), "normal", &elsewhere);
			turn_client(stranger, 0);
		}
	}
	while (!watches[STROKES - 1].done || !other.done || !elsewhere.done) {
		turn_client(client, 5);
		turn_client(stranger, 5);
	}
	for (int i = 0; i < STROKES; i++) {
		assert_int_equal(watches[i].done, 1);
		assert_int_equal(watches[i].code, i < STROKES - 1 ? SDC_E_CANCELLED : 0);
		sdc_job_free(jobs[i]);
	}
	assert_int_equal(other.code, 0);
	assert_int_equal(elsewhere.code, 0);
	sdc_job_free(kept[0]);
	sdc_job_free(kept[1]);
	sdc_client_free(client);
	sdc_client_free(stranger);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_step_twice),
		cmocka_unit_test(test_clients_take_turns),
		cmocka_unit_test(test_latest_of_a_channel_wins),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
