/*
 * fork and exec of sdd-worker; see spawn.h.
 */
#include "daemon/spawn.h"
#include "daemon/util/cleanup.h"
#include "protocol/schema.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKER_FD = 3 };

/* systemd's words to us are not for the worker. */
static const char *const private_variables[] = {
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
	"LISTEN_FDS",	 "LISTEN_PID",	  "LISTEN_FDNAMES",
};

static _Noreturn void become_worker(const struct sdd_config *config, pid_t parent, int socket_fd,
				    int error_fd)
{
	char threads[24], cache_bytes[24], level[24];
	const char *const arguments[] = {"sdd-worker",
					 "--backend",
					 config->backend,
					 "--dtype",
					 config->dtype,
					 "--threads",
					 threads,
					 "--cache-bytes",
					 cache_bytes,
					 "--weights",
					 sdp_enum_weights_form.values[config->weights],
					 "--log-level",
					 level,
					 NULL};
	sigset_t none;
	int code, null_fd;

	snprintf(threads, sizeof(threads), "%" PRIu64, config->threads);
	snprintf(cache_bytes, sizeof(cache_bytes), "%" PRIu64, config->cache_bytes);
	snprintf(level, sizeof(level), "%" PRIu64, config->log_level);
	for (size_t i = 0; i < sizeof(private_variables) / sizeof(private_variables[0]); i++)
		unsetenv(private_variables[i]);
	/* threads that spin while they wait for each other lose hundredfold when an editor wants the processor too */
	setenv("OMP_WAIT_POLICY", "passive", 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* the parent may have died before the kernel knew that we die with it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		goto fail;
	/* move the pipe out of the way first: it may stand where the socket goes */
	error_fd = fcntl(error_fd, F_DUPFD_CLOEXEC, WORKER_FD + 1);
	socket_fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, WORKER_FD + 1);
	if (error_fd < 0 || socket_fd < 0 || dup2(socket_fd, WORKER_FD) < 0)
		goto fail;
	execv(config->worker, (char *const *)arguments);
fail:
	code = errno;
	if (write(error_fd, &code, sizeof(code)) < 0)
		_exit(EXIT_FAILURE);
	_exit(EXIT_FAILURE);
}

int sdd_spawn_worker(const struct sdd_config *config, int *ret_fd, pid_t *ret_pid)
{
	SDD_CLEANUP(sdd_closep) int ours = -EBADF;
	SDD_CLEANUP(sdd_closep) int theirs = -EBADF;
	SDD_CLEANUP(sdd_closep) int error_read = -EBADF;
	SDD_CLEANUP(sdd_closep) int error_write = -EBADF;
	int pair[2], code;
	pid_t parent = getpid(), pid;
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	error_read = pair[0];
	error_write = pair[1];

	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_worker(config, parent, theirs, error_write);
	error_write = sdd_close(error_write);
	do
		n = read(error_read, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(code)) {
		/* it never became the worker; its process is ours to reap, nobody watches it yet */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return -code;
	}
	*ret_fd = sdd_steal_fd(&ours);
	*ret_pid = pid;
	return 0;
}
