/*
 * Jobs through the real sdd and the real worker: answers, cancels, detaching, limits, sharing, stopping.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG = 1000 }; /* steps of a job that will not end by itself in time */

static void dispatch_for(sdc_client *client, int ms)
{
	const int64_t deadline = now_ms() + ms;
	int left;

	while ((left = (int)(deadline - now_ms())) > 0) {
		struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

		poll(&fd, 1, left < 20 ? left : 20);
		if (sdc_client_dispatch(client, NULL) < 0)
			return;
	}
}

static void await_steps(sdc_client *client, struct watch *watcher, int steps)
{
	for (int i = 0; i < 3000 && watcher->step < steps && !watcher->done; i++)
		dispatch_for(client, 5);
	assert_true(watcher->step >= steps);
}

static void await_done(sdc_client *client, struct watch *watcher)
{
	for (int i = 0; i < 3000 && !watcher->done; i++)
		dispatch_for(client, 5);
	assert_int_equal(watcher->done, 1);
}

static void test_paints(void **state)
{
	struct watch watcher;
	struct daemon daemon;
	sdc_client *client;
	const sdc_reply *result;
	sdc_image image;
	sdc_error error = {0};
	const char *text;
	sdc_job *job;
	uint64_t seed;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	job = submit_watched(client, txt2img(3, 5), "normal", &watcher);
	assert_int_equal(sdc_job_wait(job, 60000, &error), 0);
	assert_int_equal(watcher.done, 1);
	assert_int_equal(watcher.step, 3);
	result = sdc_job_result(job);
	assert_int_equal(sdc_reply_string(result, "state", &text), 0);
	assert_string_equal(text, "done");
	assert_int_equal(sdc_reply_uint(result, "images.0.seed", &seed), 0);
	assert_int_equal(seed, 5);
	assert_int_equal(sdc_reply_string(result, "parameters.model", &text), 0);
	assert_string_equal(text, HARNESS_MODEL);
	assert_int_equal(sdc_reply_image(result, "images.0.pixels", &image, &error), 0);
	assert_true(image.width > 0 && image.channels == 4);
	sdc_job_free(job);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void on_preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	assert_int_equal(image->channels, 3);
	(*(int *)userdata)++;
}

/* A client that does not read gets the latest preview later, costs the job no step and is not cut off. */
static void test_previews_do_not_wait(void **state)
{
	int previews = 0;
	const sdc_job_handlers handlers = {.preview = on_preview, .userdata = &previews};
	sdc_request *request;
	sdc_client *client;
	sdc_error error = {0};
	struct daemon daemon;
	sdc_job *job;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	daemon_add_sketched(&daemon);
	client = daemon_connect_flags(&daemon, SDC_INLINE_PIXELS);
	request = txt2img(40, 5);
	assert_int_equal(sdc_request_set_string(request, "model", HARNESS_SKETCHED, &error), 0);
	assert_int_equal(sdc_request_set_int(request, "preview", 1, &error), 0);
	assert_int_equal(sdc_job_submit(client, request, &handlers, &job, &error), 0);
	sdc_request_free(request);
	assert_int_equal(sdc_client_dispatch(client, &error), 0);
	for (int i = 0; i < 600 && daemon_status_int(&daemon, "jobs.done") < 1; i++)
		usleep(100000);
	assert_int_equal(daemon_status_int(&daemon, "jobs.done"), 1);
	assert_int_equal(sdc_job_wait(job, 10000, &error), 0);
	assert_in_range(previews, 1, 39); /* 12 KiB each: more than the socket holds */
	sdc_job_free(job);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void await_previews(sdc_client *client, const int *previews, int n)
{
	for (int i = 0; *previews < n; i++) {
		assert_in_range(i, 0, 6000);
		turn_client(client, 10);
	}
}

/* One for each request, from whichever connection, to whoever listens; waiting jobs show one when they run. */
static void test_previews_on_demand(void **state)
{
	int previews = 0, waiting_previews = 0, heard = 0;
	const sdc_job_handlers handlers = {.preview = on_preview, .userdata = &previews};
	const sdc_job_handlers waiting_handlers = {.preview = on_preview,
						   .userdata = &waiting_previews};
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_connection *listener;
	struct sdp_message *message;
	sdc_job *job, *waiting;
	sdc_request *request;
	sdc_client *client;
	sdc_error error = {0};
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	daemon_add_sketched(&daemon);
	client = daemon_connect(&daemon);
	listener = raw_open(&daemon);
	raw_hello(listener);
	sdp_writer_request(&writer, 2, "events.subscribe");
	sdp_writer_bool(&writer, "jobs", true);
	sdp_writer_bool(&writer, "previews", true);
	raw_send(listener, &writer);
	request = txt2img(1000, 5);
	assert_int_equal(sdc_request_set_string(request, "model", HARNESS_SKETCHED, &error), 0);
	assert_int_equal(sdc_job_submit(client, request, &handlers, &job, &error), 0);
	assert_int_equal(sdc_job_submit(client, request, &waiting_handlers, &waiting, &error), 0);
	sdc_request_free(request);
	while (sdc_job_progress(job).step < 2 || sdc_job_id(waiting) == 0)
		turn_client(client, 10);
	assert_int_equal(previews, 0);
	assert_int_equal(call_job(client, "job.request_preview", sdc_job_id(job), NULL, &error), 0);
	await_previews(client, &previews, 1);
	assert_int_equal(call_job(client, "job.request_preview", sdc_job_id(job), NULL, &error), 0);
	await_previews(client, &previews, 2);
	assert_int_equal(call_job(client, "job.request_preview", sdc_job_id(waiting), NULL, &error),
			 0);
	assert_int_equal(call_job(client, "job.request_preview", 12345, NULL, &error),
			 SDC_E_NOT_FOUND);
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	await_previews(client, &waiting_previews, 1);
	assert_int_equal(sdc_job_cancel(waiting, &error), 0);
	assert_int_equal(sdc_job_wait(waiting, 60000, &error), SDC_E_CANCELLED);
	assert_int_equal(previews, 2);
	assert_int_equal(waiting_previews, 1);
	while (heard < 3 && (message = raw_read(listener, 20000))) {
		heard += message->kind == SDP_EVENT && strcmp(message->name, "job.preview") == 0;
		sdp_message_free(message);
	}
	assert_in_range(heard, 2, 3); /* it has not read: two of a job may have become one */
	sdp_connection_free(listener);
	sdc_job_free(job);
	sdc_job_free(waiting);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* The picture of this seed, malloc'd. */
static uint8_t *paint(sdc_client *client, uint64_t seed, size_t *ret_size)
{
	struct watch watcher;
	sdc_job *job = submit_watched(client, txt2img(2, seed), "normal", &watcher);
	sdc_error error = {0};
	sdc_image image;
	uint8_t *copy;

	if (sdc_job_wait(job, 60000, &error) < 0)
		fail_msg("job: %s", error.message);
	assert_int_equal(sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error),
			 0);
	*ret_size = (size_t)image.width * (size_t)image.height * 4;
	copy = malloc(*ret_size);
	assert_non_null(copy);
	for (int y = 0; y < image.height; y++)
		memcpy(copy + (size_t)y * (size_t)image.width * 4,
		       (const uint8_t *)image.data + (size_t)y * image.stride,
		       (size_t)image.width * 4);
	sdc_job_free(job);
	return copy;
}

static void test_inline_and_shared_model(void **state)
{
	struct daemon daemon;
	sdc_client *with_fds, *inlined;
	uint8_t *a, *b;
	size_t a_size, b_size;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	with_fds = daemon_connect(&daemon);
	inlined = daemon_connect_flags(&daemon, SDC_INLINE_PIXELS);
	a = paint(with_fds, 9, &a_size);
	b = paint(inlined, 9, &b_size);
	assert_int_equal(a_size, b_size);
	assert_memory_equal(a, b, a_size);
	free(a);
	free(b);
	/* two clients, one load */
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 1);
	sdc_client_free(with_fds);
	sdc_client_free(inlined);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_cancel(void **state)
{
	struct watch running, waiting;
	sdc_job *first, *second;
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	int64_t began;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	first = submit_watched(client, txt2img(LONG, 1), "normal", &running);
	await_steps(client, &running, 2);
	second = submit_watched(client, txt2img(LONG, 2), "normal", &waiting);
	dispatch_for(client, 50);
	assert_int_equal(sdc_job_progress(second).position, 1);
	assert_int_equal(sdc_job_cancel(second, &error), 0);
	await_done(client, &waiting);
	assert_int_equal(waiting.code, SDC_E_CANCELLED);
	assert_int_equal(running.done, 0);
	began = now_ms();
	assert_int_equal(sdc_job_cancel(first, &error), 0);
	await_done(client, &running);
	assert_int_equal(running.code, SDC_E_CANCELLED);
	print_message("cancel answered after %lld ms, in step %d\n", (long long)(now_ms() - began),
		      running.step);
	dispatch_for(client, 100);
	assert_int_equal(running.done, 1);
	assert_int_equal(waiting.done, 1);
	daemon_await_status(&daemon, "jobs.cancelled", 2);
	sdc_job_free(first);
	sdc_job_free(second);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_closing_cancels(void **state)
{
	struct watch watcher[2];
	struct daemon daemon;
	sdc_client *client;
	sdc_job *jobs[2];

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < 2; i++)
		jobs[i] = submit_watched(client, txt2img(LONG, 1), "normal", &watcher[i]);
	await_steps(client, &watcher[0], 1);
	sdc_client_free(client);
	for (int i = 0; i < 2; i++)
		sdc_job_free(jobs[i]);
	daemon_await_status(&daemon, "jobs.cancelled", 2);
	assert_int_equal(daemon_status_int(&daemon, "jobs.running"), 0);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static int64_t submit_detached(sdc_client *client, int steps)
{
	sdc_request *request = txt2img(steps, 3);
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	int64_t id = 0;

	assert_int_equal(sdc_request_set_bool(request, "detach", 1, &error), 0);
	if (sdc_call(client, request, 10000, &reply, &error) < 0)
		fail_msg("detach: %s", error.message);
	assert_int_equal(sdc_reply_int(reply, "job", &id), 0);
	sdc_reply_free(reply);
	sdc_request_free(request);
	return id;
}

static void test_detach(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	const char *text;
	int64_t id;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--result-ttl=2s", NULL);
	client = daemon_connect(&daemon);
	id = submit_detached(client, 2);
	sdc_client_free(client);
	daemon_await_status(&daemon, "jobs.done", 1);
	client = daemon_connect(&daemon);
	assert_int_equal(call_job(client, "job.get", id, &reply, &error), 0);
	assert_int_equal(sdc_reply_string(reply, "state", &text), 0);
	assert_string_equal(text, "done");
	assert_int_equal(sdc_reply_count(reply, "images"), 1);
	sdc_reply_free(reply);
	/* fetched once */
	assert_int_equal(call_job(client, "job.get", id, NULL, &error), SDC_E_NOT_FOUND);
	/* not fetched in time */
	id = submit_detached(client, 2);
	daemon_await_status(&daemon, "jobs.done", 2);
	sleep_ms(3000);
	assert_int_equal(call_job(client, "job.get", id, NULL, &error), SDC_E_NOT_FOUND);
	assert_int_equal(daemon_count_log(&daemon, "nobody fetched it in time"), 1);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A client that dies between asking for a result and reading it loses nothing. */
static void test_unread_result_is_kept(void **state)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_connection *dying;
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};
	int64_t id;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (int wait = 0; wait < 2; wait++) {
		id = submit_detached(client, 2);
		if (!wait)
			daemon_await_status(&daemon, "jobs.done", 1);
		dying = raw_open(&daemon);
		raw_hello(dying);
		sdp_writer_request(&writer, 8, "job.get");
		sdp_writer_int(&writer, "job", id);
		sdp_writer_bool(&writer, "wait", wait);
		raw_send(dying, &writer);
		daemon_await_status(&daemon, "jobs.done", wait + 1);
		sleep_ms(50);
		sdp_connection_free(dying);
		sleep_ms(50);
		assert_int_equal(call_job(client, "job.get", id, NULL, &error), 0);
		assert_int_equal(call_job(client, "job.get", id, NULL, &error), SDC_E_NOT_FOUND);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_limits(void **state)
{
	struct watch watcher[8];
	sdc_job *jobs[8] = {NULL};
	struct daemon daemon;
	sdc_client *client, *other;
	sdc_request *request;
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--max-jobs-per-user=6", NULL);
	client = daemon_connect(&daemon);
	other = daemon_connect(&daemon);
	jobs[0] = submit_watched(client, txt2img(LONG, 0), "normal", &watcher[0]);
	await_steps(client, &watcher[0], 1);
	/* one runs, four wait, the next of this connection is one too many */
	for (int i = 1; i <= 5; i++)
		jobs[i] = submit_watched(client, txt2img(LONG, 0), "normal", &watcher[i]);
	await_done(client, &watcher[5]);
	assert_int_equal(watcher[5].code, SDC_E_BUSY);
	/* another connection of the same user gets the sixth job, and no seventh */
	jobs[6] = submit_watched(other, txt2img(LONG, 0), "normal", &watcher[6]);
	dispatch_for(other, 50);
	assert_int_equal(watcher[6].done, 0);
	request = txt2img(LONG, 0);
	assert_int_equal(sdc_call(other, request, 10000, NULL, &error), SDC_E_BUSY);
	assert_true(error.retry_ms > 0);
	sdc_request_free(request);
	assert_int_equal(daemon_status_int(&daemon, "jobs.queued"), 5);
	for (int i = 0; i < 8; i++)
		sdc_job_free(jobs[i]);
	sdc_client_free(client);
	sdc_client_free(other);
	daemon_await_status(&daemon, "jobs.queued", 0);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_users_are_apart(void **state)
{
	struct watch watcher;
	struct daemon daemon;
	sdc_client *client;
	int status;
	pid_t pid;
	sdc_job *job;
	int64_t id;

	SKIP_WITHOUT_WORKER();
	if (geteuid() != 0)
		skip();
	daemon_start(&daemon, "--allow-user=65534", NULL);
	assert_int_equal(chmod(daemon.folder, 0755), 0);
	client = daemon_connect(&daemon);
	job = submit_watched(client, txt2img(LONG, 0), "normal", &watcher);
	await_steps(client, &watcher, 1);
	id = sdc_job_id(job);
	pid = fork();
	if (pid == 0) {
		sdc_client *stranger = NULL;
		sdc_request *list;
		sdc_reply *reply = NULL;
		sdc_error error = {0};

		if (setuid(65534) < 0 ||
		    sdc_connect(daemon.socket, "other", 0, 5000, &stranger, &error) < 0)
			_exit(1);
		if (call_job(stranger, "job.cancel", id, NULL, &error) != SDC_E_NOT_FOUND ||
		    call_job(stranger, "job.get", id, NULL, &error) != SDC_E_NOT_FOUND)
			_exit(2);
		list = sdc_request_new("job.list", &error);
		if (sdc_call(stranger, list, 5000, &reply, &error) < 0 ||
		    sdc_reply_count(reply, "jobs") != 0)
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(watcher.done, 0);
	sdc_job_free(job);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_stop_answers(void **state)
{
	struct watch running, waiting;
	struct daemon daemon;
	sdc_client *client;
	sdc_job *first, *second;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	first = submit_watched(client, txt2img(LONG, 1), "normal", &running);
	await_steps(client, &running, 1);
	second = submit_watched(client, txt2img(LONG, 1), "normal", &waiting);
	dispatch_for(client, 50);
	kill(daemon.pid, SIGTERM);
	await_done(client, &running);
	await_done(client, &waiting);
	assert_int_equal(running.code, SDC_E_SHUTTING_DOWN);
	assert_int_equal(waiting.code, SDC_E_SHUTTING_DOWN);
	assert_int_equal(daemon_wait(&daemon, 15000), 0);
	assert_int_equal(access(daemon.socket, F_OK), -1);
	sdc_job_free(first);
	sdc_job_free(second);
	sdc_client_free(client);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_previews_do_not_wait),
		cmocka_unit_test(test_previews_on_demand),
		cmocka_unit_test(test_paints),
		cmocka_unit_test(test_inline_and_shared_model),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_closing_cancels),
		cmocka_unit_test(test_detach),
		cmocka_unit_test(test_unread_result_is_kept),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_stop_answers),
		cmocka_unit_test(test_users_are_apart),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
