/*
 * Starting, asking and ending a real daemon; see harness.h.
 */
#include "tests/integration/harness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OPTIONS_MAX = 32 };

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int ms)
{
	usleep((useconds_t)ms * 1000);
}

bool harness_has_worker(void)
{
	const char *worker = getenv("SDD_TEST_WORKER"), *model = getenv("SDD_TEST_MODEL");

	return worker && *worker && model && *model && access(model, F_OK) == 0;
}

static void make_folder(struct daemon *daemon)
{
	char path[160];
	const char *model = getenv("SDD_TEST_MODEL");

	strcpy(daemon->folder, "/tmp/sdd-test-XXXXXX");
	assert_non_null(mkdtemp(daemon->folder));
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/s", daemon->folder);
	snprintf(daemon->log, sizeof(daemon->log), "%s/log", daemon->folder);
	snprintf(path, sizeof(path), "%s/models", daemon->folder);
	assert_int_equal(mkdir(path, 0755), 0);
	if (model && *model) {
		snprintf(path, sizeof(path), "%s/models/" HARNESS_MODEL, daemon->folder);
		assert_int_equal(symlink(model, path), 0);
	}
}

void daemon_add_sketched(const struct daemon *daemon)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/models/" HARNESS_SKETCHED, daemon->folder);
	assert_int_equal(symlink(getenv("SDD_TEST_PREVIEW_MODEL"), path), 0);
}

static void link_into(const struct daemon *daemon, const char *name, const char *folder,
		      const char *target)
{
	char from[4096], to[192];

	assert_non_null(folder);
	snprintf(from, sizeof(from), "%s/%s", folder, target);
	snprintf(to, sizeof(to), "%s/models/%s", daemon->folder, name);
	assert_int_equal(symlink(from, to), 0);
}

void daemon_add_model(const struct daemon *daemon, const char *name)
{
	link_into(daemon, name, getenv("SDD_TEST_MODELS"), name);
}

void daemon_add_adapter(const struct daemon *daemon, const char *name, const char *target)
{
	const char *slash = strchr(name, '/');
	char folder[192];

	snprintf(folder, sizeof(folder), "%s/models/%.*s", daemon->folder,
		 slash ? (int)(slash - name) : 0, name);
	assert_true(!slash || mkdir(folder, 0700) == 0 || errno == EEXIST);
	link_into(daemon, name, getenv("SDD_TEST_ADAPTERS"), target);
}

static void open_notify(struct daemon *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	daemon->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(daemon->notify_fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", daemon->folder);
	assert_int_equal(
		bind(daemon->notify_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
}

static void exec_daemon(const struct daemon *daemon, const char *const *options)
{
	char socket_option[128], models[128], worker[256], notify[128], cache[128];
	const char *arguments[2 * OPTIONS_MAX + 8] = {
		"sdd", "--config=/dev/null", "--log-level=debug",
		/* who waits for whom is what most tests are about */
		"--batch-pixels=0"};
	const char *sdd = getenv("SDD_TEST_SDD");
	char *more = getenv("SDD_TEST_OPTIONS");
	int n = 4, log;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(socket_option, sizeof(socket_option), "--socket=%s", daemon->socket);
	snprintf(models, sizeof(models), "--models=%s/models", daemon->folder);
	snprintf(notify, sizeof(notify), "%s/notify", daemon->folder);
	arguments[n++] = socket_option;
	arguments[n++] = models;
	if (harness_has_worker()) {
		snprintf(worker, sizeof(worker), "--worker=%s", getenv("SDD_TEST_WORKER"));
		arguments[n++] = worker;
	}
	setenv("NOTIFY_SOCKET", notify, 1);
	snprintf(cache, sizeof(cache), "%s/cache", daemon->folder);
	setenv("XDG_CACHE_HOME", cache, 1);
	unsetenv("CACHE_DIRECTORY");
	while (more && n < OPTIONS_MAX && (arguments[n] = strsep(&more, " ")))
		n++;
	for (; *options; options++) {
		if (isupper((unsigned char)**options))
			putenv((char *)*options);
		else
			arguments[n++] = *options;
	}
	log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(log, STDERR_FILENO);
	execv(sdd, (char *const *)arguments);
	_exit(127);
}

void daemon_start_raw(struct daemon *daemon, const char *const *options)
{
	*daemon = (struct daemon){.notify_fd = -1};
	make_folder(daemon);
	open_notify(daemon);
	daemon->pid = fork();
	assert_true(daemon->pid >= 0);
	if (daemon->pid == 0)
		exec_daemon(daemon, options);
}

void daemon_start(struct daemon *daemon, ...)
{
	const char *options[OPTIONS_MAX] = {NULL};
	char notice[512];
	va_list ap;
	int n = 0;

	va_start(ap, daemon);
	while (n < OPTIONS_MAX - 1 && (options[n] = va_arg(ap, const char *)))
		n++;
	va_end(ap);
	daemon_start_raw(daemon, options);
	do {
		if (!daemon_next_notice(daemon, 20000, notice, sizeof(notice))) {
			daemon_show_log(daemon);
			fail_msg("sdd did not become ready");
		}
	} while (!strstr(notice, "READY=1"));
}

bool daemon_next_notice(struct daemon *daemon, int timeout_ms, char *text, size_t size)
{
	struct pollfd fd = {daemon->notify_fd, POLLIN, 0};
	ssize_t n;

	if (poll(&fd, 1, timeout_ms) <= 0)
		return false;
	n = recv(daemon->notify_fd, text, size - 1, 0);
	if (n < 0)
		return false;
	text[n] = '\0';
	return true;
}

int daemon_wait(struct daemon *daemon, int timeout_ms)
{
	const int64_t deadline = now_ms() + timeout_ms;
	int status;

	for (;;) {
		pid_t pid = waitpid(daemon->pid, &status, WNOHANG);

		if (pid == daemon->pid) {
			daemon->pid = 0;
			return status;
		}
		if (now_ms() > deadline) {
			daemon_show_log(daemon);
			fail_msg("sdd did not end in time");
		}
		sleep_ms(5);
	}
}

int daemon_stop(struct daemon *daemon)
{
	kill(daemon->pid, SIGTERM);
	return daemon_wait(daemon, 15000);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void daemon_clear(struct daemon *daemon)
{
	if (daemon->pid > 0) {
		kill(daemon->pid, SIGKILL);
		waitpid(daemon->pid, NULL, 0);
	}
	if (daemon->notify_fd >= 0)
		close(daemon->notify_fd);
	nftw(daemon->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void daemon_show_log(const struct daemon *daemon)
{
	char line[2048];
	FILE *file = fopen(daemon->log, "re");

	while (file && fgets(line, sizeof(line), file))
		fputs(line, stderr);
	if (file)
		fclose(file);
}

int daemon_count_log(const struct daemon *daemon, const char *text)
{
	FILE *file = fopen(daemon->log, "re");
	char line[2048];
	int n = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, text) != NULL;
	fclose(file);
	return n;
}

sdc_client *daemon_connect_flags(const struct daemon *daemon, unsigned flags)
{
	sdc_client *client = NULL;
	sdc_error error = {0};

	if (sdc_connect(daemon->socket, "test", flags, 10000, &client, &error) < 0)
		fail_msg("connect: %s", error.message);
	return client;
}

sdc_client *daemon_connect(const struct daemon *daemon)
{
	return daemon_connect_flags(daemon, 0);
}

static sdc_reply *get_status(const struct daemon *daemon)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("status", &error);
	sdc_reply *reply = NULL;

	if (sdc_call(client, request, 10000, &reply, &error) < 0)
		fail_msg("status: %s", error.message);
	sdc_request_free(request);
	sdc_client_free(client);
	return reply;
}

int64_t daemon_status_int(const struct daemon *daemon, const char *path)
{
	sdc_reply *reply = get_status(daemon);
	int64_t value = -1;

	assert_int_equal(sdc_reply_int(reply, path, &value), 0);
	sdc_reply_free(reply);
	return value;
}

void daemon_status_text(const struct daemon *daemon, const char *path, char *text, size_t size)
{
	sdc_reply *reply = get_status(daemon);
	const char *value = "";

	assert_int_equal(sdc_reply_string(reply, path, &value), 0);
	snprintf(text, size, "%s", value);
	sdc_reply_free(reply);
}

void daemon_await_status(const struct daemon *daemon, const char *path, int64_t value)
{
	const int64_t deadline = now_ms() + 10000;

	while (daemon_status_int(daemon, path) != value) {
		if (now_ms() > deadline) {
			daemon_show_log(daemon);
			fail_msg("status %s is %lld, not %lld", path,
				 (long long)daemon_status_int(daemon, path), (long long)value);
		}
		sleep_ms(10);
	}
}

sdc_request *txt2img(int steps, uint64_t seed)
{
	sdc_error error = {0};
	sdc_request *request = sdc_job_request_new("txt2img", &error);

	assert_non_null(request);
	assert_int_equal(sdc_request_set_string(request, "model", HARNESS_MODEL, &error), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt", "a red boat", &error), 0);
	assert_int_equal(sdc_request_set_int(request, "steps", steps, &error), 0);
	assert_int_equal(sdc_request_set_uint(request, "seed", seed, &error), 0);
	return request;
}

int call_job(sdc_client *client, const char *method, int64_t job, sdc_reply **ret_reply,
	     sdc_error *ret_error)
{
	sdc_request *request = sdc_request_new(method, ret_error);
	int r;

	assert_non_null(request);
	assert_int_equal(sdc_request_set_int(request, "job", job, ret_error), 0);
	r = sdc_call(client, request, 20000, ret_reply, ret_error);
	sdc_request_free(request);
	return r;
}

int raw_connect(const struct daemon *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon->socket);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

struct sdp_connection *raw_open(const struct daemon *daemon)
{
	const struct sdp_connection_options options = {.inline_max = SDP_INLINE_MAX,
						       .inline_results = true};
	struct sdp_connection *connection = NULL;
	int fd = raw_connect(daemon);

	assert_true(fd >= 0);
	assert_int_equal(sdp_connection_new(fd, &options, &connection), 0);
	return connection;
}

void raw_send(struct sdp_connection *connection, struct sdp_writer *writer)
{
	struct pollfd fd = {sdp_connection_fd(connection), POLLOUT, 0};

	assert_int_equal(sdp_connection_queue(connection, writer, 0), 0);
	while (sdp_connection_write(connection) > 0)
		poll(&fd, 1, 1000);
}

struct sdp_message *raw_read(struct sdp_connection *connection, int timeout_ms)
{
	const int64_t deadline = now_ms() + timeout_ms;
	struct pollfd fd = {sdp_connection_fd(connection), POLLIN, 0};
	struct sdp_message *message;
	struct sdp_error error;

	for (;;) {
		int left, r = sdp_connection_pop(connection, &message, &error);

		if (r > 0)
			return message;
		left = (int)(deadline - now_ms());
		errno = ETIMEDOUT;
		if (r < 0 || left <= 0)
			return NULL;
		if (poll(&fd, 1, left) > 0 && sdp_connection_read(connection, &error) < 0) {
			errno = ECONNRESET;
			return NULL;
		}
	}
}

static void say_hello(struct sdp_connection *connection, bool fds)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_message *message;

	sdp_writer_request(&writer, 7, "hello");
	sdp_writer_string(&writer, "client", "raw");
	sdp_writer_list_begin(&writer, "api");
	sdp_writer_int(&writer, NULL, 1);
	sdp_writer_int(&writer, NULL, 1);
	sdp_writer_end(&writer);
	sdp_writer_list_begin(&writer, "features");
	if (fds)
		sdp_writer_string(&writer, NULL, "fd");
	sdp_writer_end(&writer);
	raw_send(connection, &writer);
	message = raw_read(connection, 10000);
	assert_non_null(message);
	assert_int_equal(message->msgid, 7);
	assert_false(message->failed);
	sdp_message_free(message);
}

void raw_hello(struct sdp_connection *connection)
{
	say_hello(connection, true);
}

void raw_hello_inline(struct sdp_connection *connection)
{
	say_hello(connection, false);
}

bool raw_closes(int fd, int timeout_ms)
{
	const int64_t deadline = now_ms() + timeout_ms;
	struct pollfd poll_fd = {fd, POLLIN, 0};
	char buffer[4096];

	for (;;) {
		int left = (int)(deadline - now_ms());
		ssize_t n;

		if (left <= 0 || poll(&poll_fd, 1, left) <= 0)
			return false;
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return true;
	}
}

long status_kib(pid_t pid, const char *name)
{
	char path[64], line[256];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtol(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

long resident_kib(pid_t pid)
{
	return status_kib(pid, "VmRSS:");
}

long peak_kib(pid_t pid)
{
	return status_kib(pid, "VmHWM:");
}

int count_fds(pid_t pid)
{
	char path[64];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}
