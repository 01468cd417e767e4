/*
 * Reaching the daemon, and saying what to do when there is none. sdctl starts nothing unless --spawn asks for it.
 */
#include "client/sdctl/sdctl.h"

#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_TRIES    100
#define SPAWN_PAUSE_MS 100

extern char **environ;

static int connect_once(const struct context *context, sdc_client **ret_client, sdc_error *error)
{
	return sdc_connect(context->socket, "sdctl", context->inline_pixels ? SDC_INLINE_PIXELS : 0,
			   -1, ret_client, error);
}

/* Detached from this terminal, so that ^C here does not reach it; it goes on after sdctl has ended. */
static int spawn_daemon(const struct context *context, pid_t *ret_pid)
{
	char *argv[] = {(char *)"sdd", (char *)"--socket", (char *)context->socket, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r;

	if (!context->socket)
		argv[1] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	r = posix_spawnp(ret_pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int spawn_and_connect(const struct context *context, sdc_client **ret_client,
			     sdc_error *error)
{
	pid_t pid;
	int r;

	r = spawn_daemon(context, &pid);
	if (r < 0) {
		complain("cannot start sdd: %s", strerror(-r));
		return EXIT_NO_DAEMON;
	}
	for (int i = 0; i < SPAWN_TRIES; i++) {
		if (connect_once(context, ret_client, error) == 0)
			return EXIT_OK;
		if (waitpid(pid, NULL, WNOHANG) == pid) {
			complain("sdd was started but ended at once; its message stands above");
			return EXIT_NO_DAEMON;
		}
		poll(NULL, 0, SPAWN_PAUSE_MS);
	}
	return fail(error);
}

int reach_daemon(const struct context *context, sdc_client **ret_client)
{
	sdc_error error = {0};
	int r;

	r = connect_once(context, ret_client, &error);
	if (r == 0)
		return EXIT_OK;
	if (r != SDC_E_CONNECT)
		return fail(&error);
	if (context->spawn)
		return spawn_and_connect(context, ret_client, &error);
	r = fail(&error);
	if (context->socket)
		fprintf(stderr, "start the daemon with: sdd --socket %s\n", context->socket);
	else
		fprintf(stderr, "start the daemon with: sdd\n");
	return r;
}
