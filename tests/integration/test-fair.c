/*
 * What one client, or all of a user's, may not take from the others: the loop's time, the places of requests that wait, results that are
 * kept. And what nobody has the daemon do again and again: read folders.
 */
#include "tests/integration/harness.h"
#include "tests/shell.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRANGER = 65534 };

static void stop(struct daemon *daemon)
{
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_clear(daemon);
}

static void begin_job(struct sdp_writer *writer, uint32_t msgid, int steps, bool detach)
{
	sdp_writer_request(writer, msgid, "job.submit");
	sdp_writer_string(writer, "kind", "txt2img");
	sdp_writer_int(writer, "steps", steps);
	if (detach)
		sdp_writer_bool(writer, "detach", true);
}

/* Events are passed over. */
static struct sdp_message *read_first_answer(struct sdp_connection *connection)
{
	struct sdp_message *message;

	while ((message = raw_read(connection, 30000)) && message->kind != SDP_RESPONSE)
		sdp_message_free(message);
	assert_non_null(message);
	return message;
}

/* The answer to this request. */
static struct sdp_message *read_answer(struct sdp_connection *connection, uint32_t msgid)
{
	struct sdp_message *message;

	while ((message = read_first_answer(connection))->msgid != msgid)
		sdp_message_free(message);
	return message;
}

static int answer_code(struct sdp_connection *connection, uint32_t msgid)
{
	struct sdp_message *message = read_answer(connection, msgid);
	const int code = message->failed ? message->error.code : 0;

	sdp_message_free(message);
	return code;
}

static int64_t answer_job(struct sdp_connection *connection, uint32_t msgid)
{
	struct sdp_message *message = read_answer(connection, msgid);
	struct sdp_record *record = NULL;
	int64_t job;

	assert_false(message->failed);
	assert_int_equal(
		sdp_record_decode(message, &sdp_struct_job_result, SDP_LENIENT, &record, NULL), 0);
	job = sdp_record_int64(record, SDP_JOB_RESULT_JOB);
	sdp_message_free(message);
	return job;
}

/* Sixty requests come in one piece, some of other clients before and behind them, in whatever order they are heard: jobs are numbered by it. */
static void test_a_client_has_the_loop_for_some_requests(void **state)
{
	enum { FLOOD = 60, TURN = 8, OTHERS = 6 };
	struct sdp_connection *flood, *others[OTHERS];
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--max-jobs=1000", "--max-jobs-per-user=1000",
		     "--max-waiting-per-connection=1000", NULL);
	flood = raw_open(&daemon);
	raw_hello(flood);
	for (int i = 0; i < OTHERS; i++) {
		others[i] = raw_open(&daemon);
		raw_hello(others[i]);
	}
	for (int i = 0; i < FLOOD; i++) {
		begin_job(&writer, 1, 1000, true);
		assert_int_equal(sdp_connection_queue(flood, &writer, 0), 0);
	}
	assert_int_equal(kill(daemon.pid, SIGSTOP), 0);
	for (int i = 0; i <= OTHERS; i++) {
		if (i == OTHERS / 2)
			while (sdp_connection_write(flood) > 0)
				;
		if (i == OTHERS)
			break;
		begin_job(&writer, 2, 1000, true);
		raw_send(others[i], &writer);
	}
	assert_int_equal(kill(daemon.pid, SIGCONT), 0);
	for (int i = 0; i < OTHERS; i++) {
		assert_in_range(answer_job(others[i], 2), 1, 2 * TURN + OTHERS);
		sdp_connection_free(others[i]);
	}
	/* none of the flood is lost */
	for (int i = 0; i < FLOOD; i++)
		assert_in_range(answer_job(flood, 1), 1, FLOOD + OTHERS);
	sdp_connection_free(flood);
	stop(&daemon);
}

/* A model whose settings are read with every look at the folders: 200 KB that can be counted. */
#define LOOK 200000
static void add_costly_model(const struct daemon *daemon)
{
	run("cp -rL %s %s/costly && chmod -R u+w %s/costly && head -c %d /dev/zero | tr '\\0' ' ' "
	    ">%s/costly/sdd.json && echo '{}' >>%s/costly/sdd.json && mv %s/costly %s/models/",
	    getenv("SDD_TEST_MODEL"), daemon->folder, daemon->folder, LOOK, daemon->folder,
	    daemon->folder, daemon->folder, daemon->folder);
}

static int load(struct sdp_connection *connection, const char *model)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 9, "models.load");
	sdp_writer_string(&writer, "model", model);
	raw_send(connection, &writer);
	return answer_code(connection, 9);
}

static void test_folders_are_not_read_for_every_question(void **state)
{
	enum { TIMES = 100, LOOKS_MAX = 20 };
	struct sdp_connection *client;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct daemon daemon;
	long before;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = raw_open(&daemon);
	raw_hello(client);
	add_costly_model(&daemon);
	/* as long as something changes they are */
	for (int i = 0; i < 1000; i++) {
		before = bytes_read(daemon.pid);
		assert_int_equal(load(client, "none"), SDP_CODE_NOT_FOUND);
		if (bytes_read(daemon.pid) - before < LOOK)
			break;
		sleep_ms(10);
	}
	before = bytes_read(daemon.pid);
	for (int i = 0; i < TIMES; i++)
		assert_int_equal(load(client, "none"), SDP_CODE_NOT_FOUND);
	assert_in_range(bytes_read(daemon.pid) - before, 0, LOOKS_MAX * LOOK);
	before = bytes_read(daemon.pid);
	for (int i = 0; i < TIMES; i++) {
		sdp_writer_request(&writer, 3, "models.list");
		raw_send(client, &writer);
		assert_int_equal(answer_code(client, 3), 0);
	}
	assert_in_range(bytes_read(daemon.pid) - before, 0, LOOKS_MAX * LOOK);
	/* what has come this moment is found all the same */
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "new-%d", i);
		assert_int_equal(load(client, name), SDP_CODE_NOT_FOUND);
		run("ln -s %s %s/models/%s", getenv("SDD_TEST_MODEL"), daemon.folder, name);
		assert_int_equal(load(client, name), 0);
	}
	sdp_connection_free(client);
	stop(&daemon);
}

/* Jobs of a model that has gone are told of, each with those before it, without a look at the folders for every pair. */
static void test_jobs_of_a_lost_model_are_listed(void **state)
{
	enum { JOBS = 15, LOOKS_MAX = 5 };
	struct sdp_connection *client;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct daemon daemon;
	long before;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--max-waiting-per-connection=100", NULL);
	add_costly_model(&daemon);
	run("cp -rL %s %s/models/going", getenv("SDD_TEST_MODEL"), daemon.folder);
	client = raw_open(&daemon);
	raw_hello(client);
	begin_job(&writer, 1, 1000, true);
	sdp_writer_string(&writer, "model", HARNESS_MODEL);
	raw_send(client, &writer);
	assert_true(answer_job(client, 1) > 0);
	for (int i = 0; i < JOBS; i++) {
		begin_job(&writer, 2, 1000, true);
		sdp_writer_string(&writer, "model", "going");
		raw_send(client, &writer);
		assert_true(answer_job(client, 2) > 0);
	}
	run("rm -r %s/models/going", daemon.folder);
	before = bytes_read(daemon.pid);
	sdp_writer_request(&writer, 4, "job.list");
	raw_send(client, &writer);
	assert_int_equal(answer_code(client, 4), 0);
	assert_in_range(bytes_read(daemon.pid) - before, 0, LOOKS_MAX * LOOK);
	sdp_connection_free(client);
	stop(&daemon);
}

/* Before anything is looked up for a job, even its model. */
static void test_who_has_no_room_is_told_at_once(void **state)
{
	struct sdp_connection *client;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--max-jobs-per-user=1", NULL);
	client = raw_open(&daemon);
	raw_hello(client);
	begin_job(&writer, 1, 1000, true);
	raw_send(client, &writer);
	assert_true(answer_job(client, 1) > 0);
	begin_job(&writer, 2, 1000, false);
	sdp_writer_string(&writer, "model", "none");
	raw_send(client, &writer);
	assert_int_equal(answer_code(client, 2), SDP_CODE_BUSY);
	/* a job of a channel may take the place of another one, so it has to be a good one */
	begin_job(&writer, 3, 1000, false);
	sdp_writer_string(&writer, "model", "none");
	sdp_writer_string(&writer, "channel", "live");
	raw_send(client, &writer);
	assert_int_equal(answer_code(client, 3), SDP_CODE_NOT_FOUND);
	sdp_connection_free(client);
	stop(&daemon);
}

/* As another user in a process of its own; what it did is told by the byte it writes, and it ends when ours closes. */
struct stranger {
	pid_t pid;
	int from, to;
};

static struct stranger begin_stranger(const struct daemon *daemon,
				      int (*live)(const struct daemon *daemon, int from, int to))
{
	struct stranger stranger;
	int there[2], back[2];
	char byte;

	assert_int_equal(chmod(daemon->folder, 0755), 0);
	assert_int_equal(pipe(there), 0);
	assert_int_equal(pipe(back), 0);
	stranger.pid = fork();
	assert_true(stranger.pid >= 0);
	if (stranger.pid == 0) {
		close(there[1]);
		close(back[0]);
		_exit(setuid(STRANGER) < 0 ? 99 : live(daemon, there[0], back[1]));
	}
	close(there[0]);
	close(back[1]);
	stranger.to = there[1];
	stranger.from = back[0];
	assert_int_equal(read(stranger.from, &byte, 1), 1);
	return stranger;
}

/* Lets it go on to its end, which has to be a good one. */
static void end_stranger(struct stranger *stranger)
{
	int status;

	close(stranger->to);
	assert_int_equal(waitpid(stranger->pid, &status, 0), stranger->pid);
	close(stranger->from);
	assert_int_equal(status, 0);
}

static void tell_and_wait(int from, int to)
{
	char byte = 0;

	if (write(to, &byte, 1) != 1 || read(from, &byte, 1) != 0)
		_exit(98);
}

/* One small result, fetched at the end. */
static int keep_a_result(const struct daemon *daemon, int from, int to)
{
	struct sdp_connection *client = raw_open(daemon);
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message;
	int64_t job;
	int n_fds;

	raw_hello(client);
	begin_job(&writer, 1, 1, true);
	raw_send(client, &writer);
	job = answer_job(client, 1);
	daemon_await_status(daemon, "jobs.done", 1);
	tell_and_wait(from, to);
	sdp_writer_request(&writer, 2, "job.get");
	sdp_writer_int(&writer, "job", job);
	raw_send(client, &writer);
	message = read_answer(client, 2);
	n_fds = message->failed ? -1 : (int)message->n_fds;
	sdp_message_free(message);
	sdp_connection_free(client);
	return n_fds == 1 ? 0 : 1;
}

static void test_results_of_others_stay(void **state)
{
	enum { JOBS = 8 };
	struct sdp_connection *client;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct stranger stranger;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	if (geteuid() != 0)
		skip();
	daemon_start(&daemon, "--allow-user=65534", "--result-bytes=100K", NULL);
	stranger = begin_stranger(&daemon, keep_a_result);
	client = raw_open(&daemon);
	raw_hello(client);
	for (int i = 0; i < JOBS; i++) {
		begin_job(&writer, 1, 1, true);
		raw_send(client, &writer);
		assert_true(answer_job(client, 1) > 0);
		daemon_await_status(&daemon, "jobs.done", 2 + i);
	}
	/* ours have pushed out ours */
	assert_true(daemon_count_log(&daemon, "result dropped") > 0);
	end_stranger(&stranger);
	sdp_connection_free(client);
	stop(&daemon);
}

static void begin_count(struct sdp_writer *writer, uint32_t msgid)
{
	sdp_writer_request(writer, msgid, "prompt.count");
	sdp_writer_string(writer, "model", HARNESS_MODEL);
	sdp_writer_string(writer, "prompt", "a cat");
}

/* Asks and wishes as much as there is place for, and more, while the worker answers nobody. */
static int take_all_places(const struct daemon *daemon, int from, int to)
{
	enum { CONNECTIONS = 20, EACH = 8 };
	struct sdp_connection *clients[CONNECTIONS];
	struct sdp_writer writer = SDP_WRITER_INIT;

	for (int i = 0; i < CONNECTIONS; i++) {
		clients[i] = raw_open(daemon);
		raw_hello(clients[i]);
		for (int k = 0; k < EACH; k++) {
			begin_count(&writer, 1);
			raw_send(clients[i], &writer);
			sdp_writer_request(&writer, 2, "models.load");
			sdp_writer_string(&writer, "model", HARNESS_MODEL);
			raw_send(clients[i], &writer);
		}
		sdp_writer_request(&writer, 3, "ping");
		raw_send(clients[i], &writer);
		sdp_message_free(read_answer(clients[i], 3));
	}
	tell_and_wait(from, to);
	return 0;
}

static void test_places_of_others_are_free(void **state)
{
	struct sdp_connection *client;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message;
	struct stranger stranger;
	struct daemon daemon;
	pid_t worker;

	SKIP_WITHOUT_WORKER();
	if (geteuid() != 0)
		skip();
	daemon_start(&daemon, "--allow-user=65534", "--heartbeat-timeout=1h", NULL);
	client = raw_open(&daemon);
	raw_hello(client);
	assert_int_equal(load(client, HARNESS_MODEL), 0);
	worker = (pid_t)daemon_status_int(&daemon, "worker.pid");
	assert_true(worker > 0);
	assert_int_equal(kill(worker, SIGSTOP), 0);
	/* so that models' turn does not come either */
	begin_job(&writer, 1, 1000, true);
	raw_send(client, &writer);
	assert_true(answer_job(client, 1) > 0);
	stranger = begin_stranger(&daemon, take_all_places);
	begin_count(&writer, 5);
	raw_send(client, &writer);
	sdp_writer_request(&writer, 6, "models.load");
	sdp_writer_string(&writer, "model", HARNESS_MODEL);
	raw_send(client, &writer);
	sdp_writer_request(&writer, 7, "ping");
	raw_send(client, &writer);
	/* refusals would come before this */
	message = read_first_answer(client);
	if (message->msgid != 7)
		fail_msg("%u: %s", message->msgid, message->error.message);
	sdp_message_free(message);
	assert_int_equal(kill(worker, SIGCONT), 0);
	assert_int_equal(answer_code(client, 5), 0);
	end_stranger(&stranger);
	sdp_connection_free(client);
	stop(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_has_the_loop_for_some_requests),
		cmocka_unit_test(test_folders_are_not_read_for_every_question),
		cmocka_unit_test(test_jobs_of_a_lost_model_are_listed),
		cmocka_unit_test(test_who_has_no_room_is_told_at_once),
		cmocka_unit_test(test_results_of_others_stay),
		cmocka_unit_test(test_places_of_others_are_free),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
