/*
 * Connections, good and hostile, against a real sdd: deadlines, refusals, limits, churn. No worker is needed.
 */
#include "tests/integration/harness.h"

#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void ping(struct sdp_connection *connection, uint32_t msgid)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message;

	sdp_writer_request(&writer, msgid, "ping");
	raw_send(connection, &writer);
	message = raw_read(connection, 10000);
	assert_non_null(message);
	assert_int_equal(message->msgid, msgid);
	assert_false(message->failed);
	sdp_message_free(message);
}

/* The error code of the answer to this request. */
static int ask(struct sdp_connection *connection, struct sdp_writer *writer, char *field)
{
	struct sdp_message *message;
	int code;

	raw_send(connection, writer);
	message = raw_read(connection, 10000);
	assert_non_null(message);
	code = message->failed ? message->error.code : 0;
	if (field)
		strcpy(field, message->error.field);
	sdp_message_free(message);
	return code;
}

static void test_hello_deadline(void **state)
{
	struct daemon daemon;
	int64_t began;
	int fd;

	daemon_start(&daemon, "--hello-timeout=300ms", NULL);
	fd = raw_connect(&daemon);
	began = now_ms();
	assert_true(raw_closes(fd, 5000));
	assert_in_range(now_ms() - began, 250, 2000);
	close(fd);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_requests_are_checked(void **state)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_connection *connection;
	struct daemon daemon;
	char field[96];

	daemon_start(&daemon, NULL);
	connection = raw_open(&daemon);
	sdp_writer_request(&writer, 1, "status");
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_BAD_REQUEST);
	raw_hello(connection);
	sdp_writer_request(&writer, 2, "make.coffee");
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_UNKNOWN_METHOD);
	/* what is between sdd and its worker is not for clients */
	sdp_writer_request(&writer, 3, "worker.ping");
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_UNKNOWN_METHOD);
	sdp_writer_request(&writer, 4, "job.submit");
	sdp_writer_string(&writer, "kind", "txt2img");
	sdp_writer_int(&writer, "stepz", 4);
	assert_int_equal(ask(connection, &writer, field), SDP_CODE_UNKNOWN_FIELD);
	assert_string_equal(field, "stepz");
	sdp_writer_request(&writer, 5, "job.submit");
	sdp_writer_string(&writer, "kind", "txt2img");
	sdp_writer_int(&writer, "steps", 100000);
	assert_int_equal(ask(connection, &writer, field), SDP_CODE_BAD_VALUE);
	assert_string_equal(field, "steps");
	sdp_writer_request(&writer, 6, "job.submit");
	sdp_writer_string(&writer, "kind", "inpaint");
	assert_int_equal(ask(connection, &writer, field), SDP_CODE_MISSING_FIELD);
	sdp_writer_request(&writer, 7, "job.get");
	sdp_writer_int(&writer, "job", 99);
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_NOT_FOUND);
	sdp_writer_request(&writer, 8, "models.load");
	sdp_writer_string(&writer, "model", "no-such");
	assert_int_equal(ask(connection, &writer, field), SDP_CODE_NOT_FOUND);
	assert_string_equal(field, "model");
	ping(connection, 9);
	/* hello twice is wrong, but no reason to hang up */
	sdp_writer_request(&writer, 10, "hello");
	sdp_writer_string(&writer, "client", "again");
	sdp_writer_list_begin(&writer, "api");
	sdp_writer_int(&writer, NULL, 1);
	sdp_writer_int(&writer, NULL, 1);
	sdp_writer_end(&writer);
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_BAD_REQUEST);
	ping(connection, 11);
	/* clients only ask */
	sdp_writer_response(&writer, 12);
	assert_int_equal(ask(connection, &writer, NULL), SDP_CODE_BAD_MESSAGE);
	assert_null(raw_read(connection, 5000));
	assert_int_equal(errno, ECONNRESET);
	sdp_connection_free(connection);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_half_open_frames(void **state)
{
	/* [0, 1, "ping", [{}]], cut at every byte */
	static const uint8_t frame[] = {0x94, 0, 1, 0xa4, 'p', 'i', 'n', 'g', 0x91, 0x80};
	struct sdp_connection *witness;
	struct daemon daemon;
	int fds[sizeof(frame)], baseline;

	daemon_start(&daemon, "--hello-timeout=400ms", "--frame-timeout=400ms", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	baseline = count_fds(daemon.pid);
	for (size_t i = 0; i < sizeof(frame); i++) {
		fds[i] = raw_connect(&daemon);
		assert_int_equal(send(fds[i], frame, i, MSG_NOSIGNAL), (ssize_t)i);
	}
	ping(witness, 1);
	for (size_t i = 0; i < sizeof(frame); i++) {
		assert_true(raw_closes(fds[i], 5000));
		close(fds[i]);
	}
	ping(witness, 2);
	assert_int_equal(count_fds(daemon.pid), baseline);
	/* one that had said hello is no better; whole messages in dribbles are fine */
	for (size_t i = 0; i < sizeof(frame); i++) {
		assert_int_equal(send(sdp_connection_fd(witness), frame + i, 1, MSG_NOSIGNAL), 1);
		sleep_ms(10);
	}
	sdp_message_free(raw_read(witness, 5000));
	assert_int_equal(send(sdp_connection_fd(witness), frame, 5, MSG_NOSIGNAL), 5);
	assert_true(raw_closes(sdp_connection_fd(witness), 5000));
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_parse_bombs(void **state)
{
	static const uint8_t bombs[][7] = {
		{5, 0xdd, 3, 0, 0, 0},		      /* array32 of 50 million */
		{5, 0xdf, 3, 0, 0, 0},		      /* map32 */
		{6, 0xc9, 0xff, 0xff, 0xff, 0xff, 5}, /* ext32 */
		{5, 0x91, 0x91, 0x91, 0x91, 0x91},    /* not our shape */
		{2, 0xc1, 0xc1},
	};
	struct sdp_connection *witness;
	struct daemon daemon;
	long before;

	daemon_start(&daemon, NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	ping(witness, 1);
	before = resident_kib(daemon.pid);
	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
			int fd = raw_connect(&daemon);

			send(fd, bombs[i] + 1, bombs[i][0], MSG_NOSIGNAL);
			assert_true(raw_closes(fd, 5000));
			close(fd);
		}
	}
	ping(witness, 2);
	if (MEMORY_IS_MEASURED)
		assert_in_range(resident_kib(daemon.pid), 1, before + 512);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_connection_limit(void **state)
{
	sdc_client *clients[4], *refused = NULL;
	struct daemon daemon;
	sdc_error error = {0};

	daemon_start(&daemon, "--max-connections=4", NULL);
	for (int i = 0; i < 4; i++)
		clients[i] = daemon_connect(&daemon);
	assert_int_equal(sdc_connect(daemon.socket, "one too many", 0, 5000, &refused, &error),
			 SDC_E_BUSY);
	assert_true(error.retry_ms > 0);
	sdc_client_free(clients[0]);
	sleep_ms(50);
	clients[0] = daemon_connect(&daemon);
	for (int i = 0; i < 4; i++)
		sdc_client_free(clients[i]);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_foreign_user(void **state)
{
	struct daemon daemon;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	/* allow-user root opens the file's mode to everybody: the refusal is the daemon's, not the file system's */
	daemon_start(&daemon, "--allow-user=0", NULL);
	assert_int_equal(chmod(daemon.folder, 0755), 0);
	pid = fork();
	if (pid == 0) {
		sdc_client *client = NULL;
		sdc_error error = {0};

		if (setuid(65534) < 0)
			_exit(2);
		_exit(sdc_connect(daemon.socket, "stranger", 0, 5000, &client, &error) ==
				      SDC_E_PERMISSION
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(daemon_count_log(&daemon, "user 65534 refused"), 1);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_slow_reader(void **state)
{
	struct sdp_connection *witness, *slow;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct daemon daemon;
	int64_t began;

	daemon_start(&daemon, "--drain-timeout=1s", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	slow = raw_open(&daemon);
	raw_hello(slow);
	/* 300 answers of 50 KB each would be 15 MB: far more than socket and queue hold */
	for (int i = 0; i < 300; i++) {
		sdp_writer_request(&writer, (uint32_t)i, "api.info");
		assert_int_equal(sdp_connection_queue(slow, &writer, 0), 0);
	}
	while (sdp_connection_write(slow) > 0)
		sleep_ms(1);
	began = now_ms();
	for (int i = 0; daemon_count_log(&daemon, "client cut off") == 0; i++) {
		assert_in_range(now_ms() - began, 0, 8000);
		ping(witness, (uint32_t)i);
		sleep_ms(20);
	}
	assert_true(now_ms() - began >= 800);
	if (MEMORY_IS_MEASURED)
		assert_in_range(peak_kib(daemon.pid), 1, 16 * 1024);
	ping(witness, 100000);
	sdp_connection_free(slow);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_descriptors_run_out(void **state)
{
	struct sdp_connection *witness;
	struct daemon daemon;
	int fds[100];
	struct rlimit limit = {64, 64}, old;
	struct rusage before, after;
	int64_t cpu_ms;

	getrlimit(RLIMIT_NOFILE, &old);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, old.rlim_max});
	limit.rlim_max = 64;
	daemon_start(&daemon, NULL);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(prlimit(daemon.pid, RLIMIT_NOFILE, &limit, NULL), 0);
	witness = raw_open(&daemon);
	raw_hello(witness);
	for (int i = 0; i < 100; i++)
		fds[i] = raw_connect(&daemon);
	sleep_ms(1000);
	ping(witness, 1);
	assert_true(daemon_count_log(&daemon, "cannot accept") > 0);
	/* five tries a second, not a busy loop */
	assert_in_range(daemon_count_log(&daemon, "cannot accept"), 1, 20);
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	sleep_ms(600);
	sdc_client_free(daemon_connect(&daemon));
	sdp_connection_free(witness);
	getrusage(RUSAGE_CHILDREN, &before);
	assert_int_equal(daemon_stop(&daemon), 0);
	getrusage(RUSAGE_CHILDREN, &after);
	cpu_ms = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000 +
		 (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1000;
	assert_in_range(cpu_ms, 0, 500);
	daemon_clear(&daemon);
}

/* Milliseconds that it has computed so far. */
static long computed_ms(pid_t pid)
{
	unsigned long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				&user, &system),
			 2);
	fclose(file);
	return (long)(user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

/* Root is exempt from the limit on descriptors under way: what is started from now on is no such root. */
static void drop_exemptions(void)
{
	if (geteuid() == 0 && (prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN) < 0 ||
			       prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE) < 0))
		fail_msg("cannot drop capabilities: %s", strerror(errno));
}

/*
 * Somebody lets more descriptors lie unread than this user may have under way: a result waits until they are gone, nobody spins meanwhile, and
 * who needs none is served.
 */
static void test_descriptors_lie_unread(void **state)
{
	const struct rlimit few = {64, 64};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(100 * sizeof(int))];
	} control = {0};
	struct iovec vector = {"x", 1};
	struct msghdr header = {.msg_iov = &vector,
				.msg_iovlen = 1,
				.msg_control = control.space,
				.msg_controllen = sizeof(control.space)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&header);
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_connection *painter, *witness;
	struct sdp_message *message;
	sdc_request *request;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	int hoard[2];
	long before;

	SKIP_WITHOUT_WORKER();
	drop_exemptions();
	daemon_start(&daemon, NULL);
	painter = raw_open(&daemon);
	witness = raw_open(&daemon);
	raw_hello(painter);
	raw_hello(witness);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hoard), 0);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(100 * sizeof(int));
	for (int i = 0; i < 100; i++)
		memcpy(CMSG_DATA(h) + i * sizeof(int), &hoard[0], sizeof(int));
	assert_int_equal(sendmsg(hoard[0], &header, MSG_NOSIGNAL), 1);
	/* the worker has what it had when it was started */
	client = daemon_connect(&daemon);
	request = txt2img(1, 1);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	sdc_request_free(request);
	sdc_client_free(client);
	assert_int_equal(prlimit(daemon.pid, RLIMIT_NOFILE, &few, NULL), 0);
	sdp_writer_request(&writer, 7, "job.submit");
	sdp_writer_string(&writer, "kind", "txt2img");
	sdp_writer_int(&writer, "steps", 1);
	raw_send(painter, &writer);
	daemon_await_status(&daemon, "jobs.done", 2);
	before = computed_ms(daemon.pid);
	sleep_ms(1000);
	assert_in_range(computed_ms(daemon.pid) - before, 0, 150);
	ping(witness, 1);
	close(hoard[0]);
	close(hoard[1]);
	while ((message = raw_read(painter, 10000)) && message->kind != SDP_RESPONSE)
		sdp_message_free(message);
	assert_non_null(message);
	assert_false(message->failed);
	assert_int_equal(message->n_fds, 1);
	sdp_message_free(message);
	sdp_connection_free(painter);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_churn(void **state)
{
	const int rounds = 10000;
	struct sdp_connection *witness;
	struct daemon daemon;
	long before = 0, after;
	int fds;

	daemon_start(&daemon, "--log-level=info", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	fds = count_fds(daemon.pid);
	for (int i = 0; i < rounds; i++) {
		struct sdp_connection *connection = raw_open(&daemon);

		raw_hello(connection);
		sdp_connection_free(connection);
		if (i == rounds / 10)
			before = resident_kib(daemon.pid);
	}
	ping(witness, 1);
	after = resident_kib(daemon.pid);
	print_message("%d x connect, hello, close: resident %ld -> %ld KiB\n", rounds, before,
		      after);
	assert_int_equal(count_fds(daemon.pid), fds);
	if (MEMORY_IS_MEASURED) {
		assert_in_range(after, 1, before + 256);
		assert_in_range(after, 1, 8 * 1024);
	}
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello_deadline),
		cmocka_unit_test(test_requests_are_checked),
		cmocka_unit_test(test_half_open_frames),
		cmocka_unit_test(test_parse_bombs),
		cmocka_unit_test(test_connection_limit),
		cmocka_unit_test(test_foreign_user),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_descriptors_run_out),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_descriptors_lie_unread),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
