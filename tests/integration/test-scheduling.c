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

static sdc_job *submit(sdc_client *client, sdc_request *request, const char *priority,
		       const char *channel, struct watch *watch)
{
	const sdc_job_handlers handlers = {
		.progress = on_progress, .done = on_done, .userdata = watch};
	sdc_error error = {0};
	sdc_job *job;

	*watch = (struct watch){0};
	assert_int_equal(sdc_request_set_string(request, "priority", priority, &error), 0);
	assert_int_equal(sdc_request_set_string(request, "channel", channel, &error), 0);
	if (sdc_job_submit(client, request, &handlers, &job, &error) < 0)
		fail_msg("%s", error.message);
	sdc_request_free(request);
	return job;
}

/* An interactive job goes before a running batch job, again and again, and the batch job's picture is the same. */
static void test_interactive_interrupts_batch(void **state)
{
	static const char *const samplers[] = {"Euler a", "DPM++ 2M", "Heun"};
	struct watch batch, interactive;
	struct painting right, again;
	sdc_job *slow, *quick;
	struct daemon daemon;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < 3; i++) {
		int before = 0, waited = 0, worst = 0;

		right = paint(client, samplers[i]);
		slow = submit(client, request_of(samplers[i]), "batch", "", &batch);
		for (int round = 1; round <= 3; round++) {
			while (batch.step < 4 * round && !batch.done)
				turn(client, 10);
			assert_false(batch.done);
			before = batch.step;
			quick = submit(client, txt2img(2, 3), "interactive", "", &interactive);
			while (!interactive.done) {
				turn(client, 10);
				if (interactive.step == 0)
					waited = batch.step - before;
			}
			worst = waited > worst ? waited : worst;
			assert_int_equal(interactive.code, 0);
			assert_false(batch.done);
			sdc_job_free(quick);
		}
		while (!batch.done)
			turn(client, 10);
		assert_int_equal(batch.code, 0);
		again = take(sdc_job_result(slow));
		assert_same(&right, &again);
		free(right.bytes);
		sdc_job_free(slow);
		print_message("%s: interrupted 3 times, same bytes; an interactive job waited for "
			      "at most %d steps\n",
			      samplers[i], worst);
	}
	assert_int_equal(daemon_count_log(&daemon, "job waits to go on behind step"), 9);
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 0);
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
				submit(clients[c], txt2img(8, 1), "normal", "", &watches[c][i]);
		turn(clients[c], 0);
	}
	/* until one of the modest ones has all it wanted */
	do {
		all = false;
		for (int c = 0; c < CLIENTS; c++) {
			turn(clients[c], 2);
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
		jobs[i] = submit(client, txt2img(i < STROKES - 1 ? 1000 : 2, 1), "interactive",
				 "canvas", &watches[i]);
		while (i == 0 && watches[0].step < 2)
			turn(client, 10);
		if (i == 0) {
			/* other channels and other connections are not concerned */
			kept[0] = submit(client, txt2img(2, 1), "normal", "other", &other);
			kept[1] = submit(stranger, txt2img(2, 1), "normal", "canvas", &elsewhere);
			turn(stranger, 0);
		}
	}
	while (!watches[STROKES - 1].done || !other.done || !elsewhere.done) {
		turn(client, 5);
		turn(stranger, 5);
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
		cmocka_unit_test(test_worker_dies_on_the_way),
		cmocka_unit_test(test_no_step_twice),
		cmocka_unit_test(test_interactive_interrupts_batch),
		cmocka_unit_test(test_clients_take_turns),
		cmocka_unit_test(test_latest_of_a_channel_wins),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
