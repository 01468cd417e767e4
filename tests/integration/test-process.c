/*
 * sdd as a process among others: socket activation, readiness and watchdog messages, stale sockets, a second daemon on
 * the same path, options and configuration that are wrong.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_notify_and_watchdog(void **state)
{
	struct daemon daemon;
	char notice[512];
	int watchdogs = 0;
	bool ready = false, stopping = false;

	daemon_start_raw(&daemon, (const char *const[]){"WATCHDOG_USEC=400000", NULL});
	for (int i = 0; i < 20 && watchdogs < 3; i++) {
		assert_true(daemon_next_notice(&daemon, 3000, notice, sizeof(notice)));
		watchdogs += strstr(notice, "WATCHDOG=1") != NULL;
		ready |= strstr(notice, "READY=1") != NULL;
	}
	assert_true(ready);
	assert_int_equal(watchdogs, 3);
	/* a stopped daemon sends none: systemd would replace it */
	kill(daemon.pid, SIGSTOP);
	while (daemon_next_notice(&daemon, 300, notice, sizeof(notice)))
		;
	assert_false(daemon_next_notice(&daemon, 800, notice, sizeof(notice)));
	kill(daemon.pid, SIGCONT);
	assert_int_equal(daemon_stop(&daemon), 0);
	while (daemon_next_notice(&daemon, 100, notice, sizeof(notice)))
		stopping |= strstr(notice, "STOPPING=1") != NULL;
	assert_true(stopping);
	daemon_clear(&daemon);
}

/* A service manager that never reads: everything goes on all the same. */
static void test_unread_notices_block_nothing(void **state)
{
	struct daemon daemon;

	daemon_start(&daemon, "WATCHDOG_USEC=2000", NULL);
	assert_true(daemon.notify_fd >= 0);
	/* hundreds of them: more than any socket queues */
	sleep_ms(1500);
	sdc_client_free(daemon_connect(&daemon));
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_idle_without_timers(void **state)
{
	struct daemon daemon;
	char path[64], line[512];
	unsigned long before = 0, after = 0;
	sdc_client *client;

	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	sleep_ms(200);
	snprintf(path, sizeof(path), "/proc/%d/status", daemon.pid);
	for (int i = 0; i < 2; i++) {
		FILE *file = fopen(path, "re");

		while (file && fgets(line, sizeof(line), file))
			sscanf(line, "voluntary_ctxt_switches: %lu", i ? &after : &before);
		fclose(file);
		if (i == 0)
			sleep_ms(2000);
	}
	/* an idle daemon with an idle client sleeps */
	assert_in_range(after - before, 0, 1);
	print_message("front process: %ld KiB resident\n", resident_kib(daemon.pid));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static int run_sdd(const char *socket_path, const char *option)
{
	const char *sdd = getenv("SDD_TEST_SDD");
	char text[160];
	int status, null_fd;
	pid_t pid = fork();

	if (pid == 0) {
		null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null_fd, STDERR_FILENO);
		unsetenv("NOTIFY_SOCKET");
		snprintf(text, sizeof(text), "--socket=%s", socket_path);
		execl(sdd, "sdd", "--config=/dev/null", text, option, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void test_one_daemon_a_path(void **state)
{
	struct daemon daemon;
	char path[128];

	daemon_start(&daemon, NULL);
	assert_int_equal(run_sdd(daemon.socket, "--threads=1"), 69);
	/* and the first one is not disturbed */
	sdc_client_free(daemon_connect(&daemon));
	/* killed, it leaves its socket behind; the next one replaces it */
	kill(daemon.pid, SIGKILL);
	daemon_wait(&daemon, 5000);
	assert_int_equal(access(daemon.socket, F_OK), 0);
	snprintf(path, sizeof(path), "%s/file", daemon.folder);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	/* a file that is no socket is never removed */
	assert_int_equal(run_sdd(path, "--threads=1"), 69);
	assert_int_equal(access(path, F_OK), 0);
	daemon_clear(&daemon);
}

static void test_bad_options(void **state)
{
	assert_int_equal(run_sdd("/tmp/unused", "--no-such-key=1"), 78);
	assert_int_equal(run_sdd("/tmp/unused", "--max-jobs=many"), 78);
	assert_int_equal(run_sdd("/tmp/unused", "--result-ttl=5parsecs"), 78);
	assert_int_equal(run_sdd("/tmp/unused", "--allow-user=no-such-user-here"), 78);
}

/* sdd behind a socket that somebody else holds; it starts with the first connection. */
static void start_activated(struct daemon *daemon, const char *option)
{
	char listen[128];
	int null_fd, fd = -1;

	*daemon = (struct daemon){.notify_fd = -1};
	strcpy(daemon->folder, "/tmp/sdd-test-XXXXXX");
	assert_non_null(mkdtemp(daemon->folder));
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/s", daemon->folder);
	daemon->pid = fork();
	if (daemon->pid == 0) {
		/* a test that fails leaves nobody behind who holds its output open */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null_fd, STDERR_FILENO);
		snprintf(listen, sizeof(listen), "--listen=%s", daemon->socket);
		execl("/usr/bin/systemd-socket-activate", "systemd-socket-activate", listen,
		      getenv("SDD_TEST_SDD"), "--config=/dev/null", "--socket=/nowhere/s", option,
		      (char *)NULL);
		_exit(127);
	}
	/* the file is there before anybody listens */
	for (int i = 0; i < 1000; i++) {
		fd = raw_connect(daemon);
		if (fd >= 0)
			break;
		sleep_ms(10);
	}
	close(fd);
}

static void assert_stays(const struct daemon *daemon, int ms)
{
	sleep_ms(ms);
	assert_int_equal(waitpid(daemon->pid, NULL, WNOHANG), 0);
}

static void test_socket_activation(void **state)
{
	struct daemon daemon;
	struct stat st;

	start_activated(&daemon, "--idle-exit=0");
	sdc_client_free(daemon_connect(&daemon));
	/* told to stay, it does */
	assert_stays(&daemon, 700);
	assert_int_equal(daemon_stop(&daemon), 0);
	/* the socket is systemd's: it stays */
	assert_int_equal(stat(daemon.socket, &st), 0);
	daemon_clear(&daemon);
}

static void test_idle_exit(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	struct stat st;

	start_activated(&daemon, "--idle-exit=300ms");
	client = daemon_connect(&daemon);
	/* a client that only stays connected holds it */
	assert_stays(&daemon, 1000);
	sdc_client_free(client);
	assert_int_equal(daemon_wait(&daemon, 5000), 0);
	assert_int_equal(stat(daemon.socket, &st), 0);
	daemon_clear(&daemon);

	/* who made its socket itself has nobody to start it again */
	daemon_start(&daemon, "--idle-exit=100ms", NULL);
	sdc_client_free(daemon_connect(&daemon));
	assert_stays(&daemon, 700);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notify_and_watchdog),
		cmocka_unit_test(test_unread_notices_block_nothing),
		cmocka_unit_test(test_idle_without_timers),
		cmocka_unit_test(test_one_daemon_a_path),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_socket_activation),
		cmocka_unit_test(test_idle_exit),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
