/*
 * What hostile and unlucky peers may not do to a daemon: noise, stalls, deaf subscribers, clients and daemons that die at
 * the worst moment. Counts and bytes are asserted, never times.
 *
 *     test-promises [full]     full: the counts of a release, minutes
 */
#include "tests/integration/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* How often: noisy connections, clients killed at each stage, daemons killed. */
static struct {
	int noise, clients, daemons;
} counts = {2000, 8, 30};

static void ping(struct sdp_connection *connection)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message;

	sdp_writer_request(&writer, 1, "ping");
	raw_send(connection, &writer);
	message = raw_read(connection, 10000);
	assert_non_null(message);
	assert_false(message->failed);
	sdp_message_free(message);
}

static void await_fds(pid_t pid, int expected)
{
	for (int i = 0; i < 1000 && count_fds(pid) > expected; i++)
		sleep_ms(10);
	assert_int_equal(count_fds(pid), expected);
}

/* Deep nesting and random bytes behind a good beginning: refused, at no cost. */
static void test_noise(void **state)
{
	static const uint8_t beginning[] = {0x94, 0, 1, 0xa4, 'p', 'i', 'n', 'g', 0x91};
	static const size_t depths[] = {17, 33, 100, 1000, 10000};
	struct sdp_connection *witness;
	uint8_t bytes[sizeof(beginning) + 30000];
	struct daemon daemon;
	long before = 0;
	int fds;

	daemon_start(&daemon, "--log-level=err", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	fds = count_fds(daemon.pid);
	memcpy(bytes, beginning, sizeof(beginning));
	srand(5);
	for (int round = 0; round < counts.noise; round++) {
		const size_t depth = depths[round % 5];
		size_t length = sizeof(beginning);
		int fd = raw_connect(&daemon);

		if (round % 4 == 0)
			for (size_t i = 0; i < depth; i++) {
				bytes[length++] = 0x81;
				bytes[length++] = 0xa1;
				bytes[length++] = 'a';
			}
		else
			for (size_t i = 0; i < 600; i++)
				bytes[length++] = (uint8_t)rand();
		send(fd, bytes, length, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		assert_true(raw_closes(fd, 10000));
		close(fd);
		if (round == 200)
			before = resident_kib(daemon.pid);
	}
	ping(witness);
	await_fds(daemon.pid, fds);
	print_message("%d x noise: resident %ld -> %ld KiB\n", counts.noise, before,
		      resident_kib(daemon.pid));
	if (MEMORY_IS_MEASURED)
		assert_in_range(resident_kib(daemon.pid), 1, before + 64);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* Some whole requests; returns how many bytes of them are in the buffer. */
static size_t requests(uint8_t *bytes)
{
	static const char *const methods[] = {"status", "models.list", "job.list", "api.info"};
	struct sdp_writer writer = SDP_WRITER_INIT;
	size_t length = 0;

	sdp_writer_request(&writer, 7, "hello");
	sdp_writer_string(&writer, "client", "cut");
	sdp_writer_list_begin(&writer, "api");
	sdp_writer_int(&writer, NULL, 1);
	sdp_writer_int(&writer, NULL, 1);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(sdp_writer_finish(&writer), 0);
		memcpy(bytes + length, writer.bytes, writer.length);
		length += writer.length;
		sdp_writer_clear(&writer);
		sdp_writer_request(&writer, 8, methods[i]);
	}
	sdp_writer_clear(&writer);
	return length;
}

static void test_cut_at_every_byte(void **state)
{
	struct sdp_connection *witness;
	uint8_t bytes[4096];
	const size_t length = requests(bytes);
	struct daemon daemon;
	int fds;

	daemon_start(&daemon, "--log-level=err", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	fds = count_fds(daemon.pid);
	for (size_t cut = 1; cut < length; cut++) {
		int fd = raw_connect(&daemon);

		assert_int_equal(send(fd, bytes, cut, MSG_NOSIGNAL), (ssize_t)cut);
		close(fd);
	}
	ping(witness);
	await_fds(daemon.pid, fds);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_stalled_connections(void **state)
{
	enum { STALLED = 2000 };
	struct sdp_connection *witness;
	struct daemon daemon;
	struct rlimit limit;
	int fds[STALLED], baseline;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < STALLED + 200) {
		limit.rlim_cur = limit.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_true(limit.rlim_cur >= STALLED + 200);
	}
	daemon_start(&daemon, "--log-level=err", "--max-connections=3000",
		     "--max-connections-per-user=3000", "--hello-timeout=1s", NULL);
	witness = raw_open(&daemon);
	raw_hello(witness);
	baseline = count_fds(daemon.pid);
	for (int i = 0; i < STALLED; i++) {
		fds[i] = raw_connect(&daemon);
		assert_true(fds[i] >= 0);
		send(fds[i], "\x94\x00", 2, MSG_NOSIGNAL);
		if (i % 500 == 0)
			ping(witness);
	}
	for (int i = 0; i < STALLED; i++) {
		assert_true(raw_closes(fds[i], 10000));
		close(fds[i]);
	}
	ping(witness);
	await_fds(daemon.pid, baseline);
	sdp_connection_free(witness);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A thousand editors that do nothing cost little; one more than allowed is told so. */
static void test_many_idle_clients(void **state)
{
	enum { CLIENTS = 1000 };
	static struct sdp_connection *clients[CLIENTS];
	sdc_client *refused = NULL;
	struct daemon daemon;
	sdc_error error = {0};
	long before;

	daemon_start(&daemon, "--log-level=err", "--max-connections=1000", NULL);
	clients[0] = raw_open(&daemon);
	raw_hello(clients[0]);
	before = resident_kib(daemon.pid);
	for (int i = 1; i < CLIENTS; i++) {
		clients[i] = raw_open(&daemon);
		raw_hello(clients[i]);
	}
	print_message("1000 idle connections: sdd %ld -> %ld KiB\n", before,
		      resident_kib(daemon.pid));
	if (MEMORY_IS_MEASURED)
		assert_in_range(resident_kib(daemon.pid), 1, 8 * 1024);
	assert_int_equal(sdc_connect(daemon.socket, "one too many", 0, 5000, &refused, &error),
			 SDC_E_BUSY);
	for (int i = 0; i < CLIENTS; i++)
		sdp_connection_free(clients[i]);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* What sdd may grow by for subscribers that do not read, its first job included: the largest preview, 192 KiB inline, and events. */
enum { DEAF_KIB = 384 };

static void subscribe(struct sdp_connection *connection, bool previews)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 2, "events.subscribe");
	sdp_writer_bool(&writer, "jobs", true);
	sdp_writer_bool(&writer, "previews", previews);
	raw_send(connection, &writer);
}

/* Among what lies there unread, up to the end of so many jobs. */
static int count_previews(struct sdp_connection *connection, int jobs)
{
	struct sdp_message *message;
	int n = 0;

	while (jobs > 0) {
		message = raw_read(connection, 20000);
		assert_non_null(message);
		n += message->kind == SDP_EVENT && strcmp(message->name, "job.preview") == 0;
		jobs -= message->kind == SDP_EVENT && strcmp(message->name, "job.done") == 0;
		sdp_message_free(message);
	}
	return n;
}

/*
 * They want all previews and do not read, one gets them as descriptors, one inline: the job ends all the same, neither is cut off, and
 * no more than some pictures are alive for them, in the front process or in the kernel, where nothing replaces them.
 */
static void test_deaf_to_previews(void **state)
{
	enum { STEPS = 1000, LARGE_STEPS = 12, ALIVE_MAX = 24 };
	struct sdp_connection *deaf[2];
	sdc_request *request;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	long before;
	int fds;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--drain-timeout=1h", NULL);
	daemon_add_sketched(&daemon);
	for (int i = 0; i < 2; i++)
		deaf[i] = raw_open(&daemon);
	raw_hello(deaf[0]);
	raw_hello_inline(deaf[1]);
	for (int i = 0; i < 2; i++)
		subscribe(deaf[i], true);
	client = daemon_connect(&daemon);
	before = resident_kib(daemon.pid);
	fds = count_fds(daemon.pid);
	for (int i = 0; i < 2; i++) {
		request = txt2img(i == 0 ? LARGE_STEPS : STEPS, 1);
		assert_int_equal(sdc_request_set_string(request, "model", HARNESS_SKETCHED, &error),
				 0);
		assert_int_equal(sdc_request_set_int(request, "preview", 1, &error), 0);
		/* the largest there are first */
		if (i == 0) {
			assert_int_equal(sdc_request_set_int(request, "width", 256, &error), 0);
			assert_int_equal(sdc_request_set_int(request, "height", 256, &error), 0);
		}
		assert_int_equal(sdc_call(client, request, 120000, NULL, &error), 0);
		sdc_request_free(request);
	}
	assert_int_equal(daemon_count_log(&daemon, "client cut off"), 0);
	/* and one for each, by which it is seen to read again */
	assert_in_range(count_fds(daemon.pid), 1, fds + 4 + 2);
	print_message("deaf to previews: sdd %ld -> %ld KiB\n", before, resident_kib(daemon.pid));
	if (MEMORY_IS_MEASURED)
		assert_in_range(resident_kib(daemon.pid), 1, before + DEAF_KIB);
	for (int i = 0; i < 2; i++) {
		assert_in_range(count_previews(deaf[i], 2), 1, ALIVE_MAX);
		sdp_connection_free(deaf[i]);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void request(struct sdp_connection *connection, const char *method, int64_t job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 5, method);
	sdp_writer_int(&writer, "job", job);
	raw_send(connection, &writer);
}

/* The next event of this name that has come so far: its record, which lives with the message. */
static struct sdp_record *read_event(struct sdp_connection *connection, const char *event,
				     const struct sdp_struct *type,
				     struct sdp_message **ret_message)
{
	struct sdp_record *record = NULL;
	struct sdp_message *message;

	for (;;) {
		message = raw_read(connection, 20000);
		assert_non_null(message);
		/* it has to come before the end */
		assert_false(message->kind == SDP_EVENT && strcmp(message->name, "job.done") == 0);
		if (message->kind == SDP_EVENT && strcmp(message->name, event) == 0)
			break;
		sdp_message_free(message);
	}
	assert_int_equal(sdp_record_decode(message, type, SDP_LENIENT, &record, NULL), 0);
	*ret_message = message;
	return record;
}

static int preview_step(struct sdp_connection *connection)
{
	struct sdp_message *message;
	const struct sdp_record *preview =
		read_event(connection, "job.preview", &sdp_struct_job_preview, &message);
	const int step = sdp_record_int(preview, SDP_JOB_PREVIEW_STEP);

	assert_non_null(sdp_record_pixels(preview, SDP_JOB_PREVIEW_PIXELS));
	sdp_message_free(message);
	return step;
}

/* Who has much unread when previews come gets the newest one as soon as it has read, though no other comes, and only that one. */
static void test_lagging_reader_gets_the_newest_preview(void **state)
{
	enum { LAGGING = 2, UNREAD = 60 };
	struct sdp_connection *lagging[LAGGING], *painter;
	struct sdp_writer writer = SDP_WRITER_INIT;
	const struct sdp_record *progress;
	struct sdp_message *message;
	struct daemon daemon;
	int64_t job;
	int step = 0;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--drain-timeout=1h", NULL);
	daemon_add_sketched(&daemon);
	painter = raw_open(&daemon);
	raw_hello(painter);
	for (int i = 0; i < LAGGING; i++) {
		lagging[i] = raw_open(&daemon);
		if (i == 0)
			raw_hello(lagging[i]);
		else
			raw_hello_inline(lagging[i]);
		subscribe(lagging[i], true);
	}
	sdp_writer_request(&writer, 2, "job.submit");
	sdp_writer_string(&writer, "kind", "txt2img");
	sdp_writer_string(&writer, "model", HARNESS_SKETCHED);
	sdp_writer_int(&writer, "steps", 1000);
	raw_send(painter, &writer);
	do {
		progress = read_event(painter, "job.progress", &sdp_struct_job_progress, &message);
		step = sdp_record_int(progress, SDP_JOB_PROGRESS_STEP);
		job = sdp_record_int64(progress, SDP_JOB_PROGRESS_JOB);
		sdp_message_free(message);
	} while (step < UNREAD);
	for (int i = 0; i < 3; i++) {
		request(painter, "job.request_preview", job);
		step = preview_step(painter);
	}
	for (int i = 0; i < LAGGING; i++) {
		assert_int_equal(preview_step(lagging[i]), step);
		sdp_connection_free(lagging[i]);
	}
	sdp_connection_free(painter);
	daemon_await_status(&daemon, "jobs.running", 0);
	assert_int_equal(daemon_count_log(&daemon, "client cut off"), 0);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* It subscribes and never reads: the painter notices nothing, and the daemon does not hoard for it. */
static void test_deaf_subscriber(void **state)
{
	struct sdp_connection *deaf;
	sdc_request *request;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	long before;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--drain-timeout=1s", NULL);
	deaf = raw_open(&daemon);
	raw_hello(deaf);
	subscribe(deaf, false);
	client = daemon_connect(&daemon);
	before = resident_kib(daemon.pid);
	request = txt2img(500, 1);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	sdc_request_free(request);
	print_message("deaf subscriber: sdd %ld -> %ld KiB\n", before, resident_kib(daemon.pid));
	if (MEMORY_IS_MEASURED)
		assert_in_range(resident_kib(daemon.pid), 1, before + DEAF_KIB);
	for (int i = 0; i < 1000 && daemon_count_log(&daemon, "client cut off") == 0; i++)
		sleep_ms(10);
	assert_int_equal(daemon_count_log(&daemon, "client cut off"), 1);
	sdp_connection_free(deaf);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

enum stage { CONNECTED, GREETED, UPLOADING, QUEUED, RUNNING, RESULT, N_STAGES };

static void submit(struct sdp_connection *connection, uint32_t msgid, int steps)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, msgid, "job.submit");
	sdp_writer_string(&writer, "kind", "txt2img");
	sdp_writer_string(&writer, "model", HARNESS_MODEL);
	sdp_writer_int(&writer, "steps", steps);
	raw_send(connection, &writer);
}

static void await_event(struct sdp_connection *connection, const char *event)
{
	struct sdp_message *message;

	while ((message = raw_read(connection, 20000))) {
		const bool found = message->kind == SDP_EVENT && strcmp(message->name, event) == 0;

		sdp_message_free(message);
		if (found)
			return;
	}
	_exit(1);
}

/* Half a job.submit, its picture's descriptor sent with the first byte. */
static void upload_half(struct sdp_connection *connection)
{
	struct sdp_buffer buffer = SDP_BUFFER_INIT;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	uint8_t bytes[] = {0x94, 0, 9, 0xaa, 'j', 'o', 'b'};
	struct iovec vector = {bytes, sizeof(bytes)};
	struct msghdr header = {.msg_iov = &vector,
				.msg_iovlen = 1,
				.msg_control = control.space,
				.msg_controllen = sizeof(control.space)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&header);

	if (sdp_buffer_new("test-upload", 65536, &buffer) < 0 || sdp_buffer_seal(&buffer) < 0)
		_exit(1);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &buffer.fd, sizeof(int));
	if (sendmsg(sdp_connection_fd(connection), &header, MSG_NOSIGNAL) != sizeof(bytes))
		_exit(1);
}

/* The child's life up to the moment it will be killed in. */
static void live(const struct daemon *daemon, enum stage stage)
{
	struct sdp_connection *connection = raw_open(daemon);
	int64_t done;

	if (stage == CONNECTED)
		return;
	raw_hello(connection);
	if (stage == UPLOADING)
		upload_half(connection);
	if (stage == QUEUED || stage == RUNNING) {
		submit(connection, 2, 1000);
		await_event(connection, "job.started");
	}
	if (stage == QUEUED) {
		submit(connection, 3, 1000);
		await_event(connection, "job.queued");
	}
	if (stage == RESULT) {
		/* the answer lies in the socket, unread: the daemon counted the job behind queueing it, in the same turn */
		done = daemon_status_int(daemon, "jobs.done");
		submit(connection, 2, 1);
		daemon_await_status(daemon, "jobs.done", done + 1);
	}
}

static void die_at(const struct daemon *daemon, enum stage stage)
{
	int pair[2], status;
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		live(daemon, stage);
		if (write(pair[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	close(pair[0]);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void test_clients_die(void **state)
{
	sdc_request *request;
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	int fds, worker_fds;
	pid_t worker;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	request = txt2img(1, 1);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	worker = (pid_t)daemon_status_int(&daemon, "worker.pid");
	sleep_ms(100); /* the connection that asked is gone by now */
	fds = count_fds(daemon.pid);
	worker_fds = count_fds(worker);
	for (int stage = CONNECTED; stage < N_STAGES; stage++)
		for (int i = 0; i < counts.clients; i++)
			die_at(&daemon, (enum stage)stage);
	/* whatever they had running stops by itself, and nothing of theirs is left */
	daemon_await_status(&daemon, "jobs.running", 0);
	daemon_await_status(&daemon, "jobs.queued", 0);
	assert_int_equal(daemon_status_int(&daemon, "jobs.cancelled"), 3 * counts.clients);
	/* those that had their result, and the first one */
	assert_int_equal(daemon_status_int(&daemon, "jobs.done"), counts.clients + 1);
	await_fds(daemon.pid, fds);
	await_fds(worker, worker_fds);
	assert_int_equal(daemon_status_int(&daemon, "worker.pid"), worker);
	print_message("%d x %d clients killed: sdd has %d descriptors, the worker %d, as before\n",
		      counts.clients, N_STAGES, fds, worker_fds);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	sdc_request_free(request);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* sdd as a service manager starts it: the listening socket is ours and outlives every daemon. */
static pid_t start_activated(const struct daemon *daemon, int listener)
{
	char pid_text[24], log[128];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	snprintf(log, sizeof(log), "%s/log", daemon->folder);
	if (!freopen(log, "ae", stderr) || dup2(listener, 3) < 0)
		_exit(126);
	snprintf(pid_text, sizeof(pid_text), "%d", getpid());
	setenv("LISTEN_PID", pid_text, 1);
	setenv("LISTEN_FDS", "1", 1);
	unsetenv("NOTIFY_SOCKET");
	execl(getenv("SDD_TEST_SDD"), "sdd", "--config=/dev/null", "--socket=/nowhere/s",
	      (char *)NULL);
	_exit(127);
}

static void test_daemons_die(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct daemon daemon = {.notify_fd = -1};
	sdc_request *request;
	sdc_error error = {0};
	sdc_client *client;
	int fd, listener, refused = 0;
	pid_t pid;

	strcpy(daemon.folder, "/tmp/sdd-test-XXXXXX");
	assert_non_null(mkdtemp(daemon.folder));
	snprintf(daemon.socket, sizeof(daemon.socket), "%s/s", daemon.folder);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon.socket);
	/* away from 3, where the daemon wants it */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	listener = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	close(fd);
	assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 128), 0);
	request = sdc_request_new("status", &error);
	for (int i = 0; i < counts.daemons; i++) {
		/* nobody serves yet: the connection waits in the backlog */
		int early = raw_connect(&daemon);

		refused += early < 0;
		pid = start_activated(&daemon, listener);
		client = daemon_connect(&daemon);
		assert_int_equal(sdc_call(client, request, 20000, NULL, &error), 0);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		/* the library says what happened and does not hang */
		assert_int_equal(sdc_call(client, request, 20000, NULL, &error),
				 SDC_E_DISCONNECTED);
		sdc_client_free(client);
		assert_true(raw_closes(early, 10000));
		close(early);
	}
	assert_int_equal(refused, 0);
	print_message("%d daemons killed, %d connections refused\n", counts.daemons, refused);
	sdc_request_free(request);
	close(listener);
	daemon_clear(&daemon);
}

static void paint(const char *threads, uint8_t *bytes, size_t size, bool first, int rounds)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_error error = {0};

	daemon_start(&daemon, threads, NULL);
	client = daemon_connect(&daemon);
	for (int i = 0; i < rounds; i++) {
		sdc_request *request = txt2img(3, 77);
		sdc_reply *reply = NULL;
		sdc_image image;

		assert_int_equal(sdc_call(client, request, 60000, &reply, &error), 0);
		assert_int_equal(sdc_reply_image(reply, "images.0.pixels", &image, &error), 0);
		assert_true(image.stride * (size_t)image.height <= size);
		if (first && i == 0)
			memcpy(bytes, image.data, image.stride * (size_t)image.height);
		else
			assert_memory_equal(bytes, image.data, image.stride * (size_t)image.height);
		sdc_reply_free(reply);
		sdc_request_free(request);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* Same seed, same bytes: fifty times, in two processes, with one thread and with two. */
static void test_determinism(void **state)
{
	static uint8_t bytes[1 << 20];

	SKIP_WITHOUT_WORKER();
	paint("--threads=1", bytes, sizeof(bytes), true, 25);
	paint("--threads=2", bytes, sizeof(bytes), false, 25);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_stalled_connections),
		cmocka_unit_test(test_many_idle_clients),
		cmocka_unit_test(test_deaf_subscriber),
		cmocka_unit_test(test_deaf_to_previews),
		cmocka_unit_test(test_lagging_reader_gets_the_newest_preview),
		cmocka_unit_test(test_clients_die),
		cmocka_unit_test(test_daemons_die),
		cmocka_unit_test(test_determinism),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "full") == 0) {
		counts.noise = 100000;
		counts.clients = 200;
		counts.daemons = 100;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
