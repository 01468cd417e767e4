/*
 * Reaching the daemon, and saying what to do when there is none. sdctl starts nothing unless --spawn asks for it.
 */
#include "client/sdctl/sdctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_TRIES    100
#define SPAWN_PAUSE_MS 100

extern char **environ;

/* Where sdd may stand as seen from our own folder: installed beside us, or in the build folder we were built in. */
static const char *const neighbours[] = {"sdd", "../../daemon/sdd"};

/* The daemon that belongs to this sdctl, an absolute path; false when it must be found by name. */
static bool find_daemon(char path[PATH_MAX])
{
	char self[PATH_MAX - 32], candidate[PATH_MAX];
	const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length <= 0)
		return false;
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < sizeof(neighbours) / sizeof(neighbours[0]); i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s", self, neighbours[i]);
		if (access(candidate, X_OK) == 0 && realpath(candidate, path))
			return true;
	}
	return false;
}

/* Whether a shell that is told "sdd" finds this program. */
static bool is_on_path(const char *program)
{
	const char *folder = getenv("PATH");
	char candidate[PATH_MAX], resolved[PATH_MAX];

	while (folder && *folder) {
		const int length = (int)strcspn(folder, ":");

		snprintf(candidate, sizeof(candidate), "%.*s/sdd", length, folder);
		if (access(candidate, X_OK) == 0)
			return realpath(candidate, resolved) && strcmp(resolved, program) == 0;
		folder += length + (folder[length] == ':');
	}
	return false;
}

/* As a shell must be given it. */
static void print_word(const char *word)
{
	if (word[strspn(
		    word,
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./+,:@%")] ==
	    '\0') {
		fputs(word, stderr);
		return;
	}
	fputc('\'', stderr);
	for (; *word; word++) {
		if (*word == '\'')
			fputs("'\\''", stderr);
		else
			fputc(*word, stderr);
	}
	fputc('\'', stderr);
}

static void print_how_to_start(const struct context *context)
{
	char daemon[PATH_MAX];

	fputs("start the daemon with: ", stderr);
	print_word(find_daemon(daemon) && !is_on_path(daemon) ? daemon : "sdd");
	if (context->socket) {
		fputs(" --socket ", stderr);
		print_word(context->socket);
	}
	fputs(" &\n(or let `sdctl --spawn` do it)\n", stderr);
}

static int connect_once(const struct context *context, sdc_client **ret_client, sdc_error *error)
{
	return sdc_connect(context->socket, "sdctl", context->inline_pixels ? SDC_INLINE_PIXELS : 0,
			   -1, ret_client, error);
}

/* SOCKET.log; its folder is made as sdd itself would make it. */
static void log_path(const struct context *context, char path[PATH_MAX])
{
	char socket[PATH_MAX - 8];
	char *slash;

	if (context->socket)
		snprintf(socket, sizeof(socket), "%s", context->socket);
	else
		sdc_default_socket(socket, sizeof(socket));
	snprintf(path, PATH_MAX, "%s.log", socket);
	slash = strrchr(socket, '/');
	if (slash && slash != socket) {
		*slash = '\0';
		mkdir(socket, 0700);
	}
}

/* Detached from this terminal, so that ^C here does not reach it; it goes on after sdctl has ended. */
static int spawn_daemon(const struct context *context, const char *log, pid_t *ret_pid)
{
	char *argv[] = {(char *)"sdd", (char *)"--socket", (char *)context->socket, NULL};
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char daemon[PATH_MAX];
	int r;

	if (!context->socket)
		argv[1] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, flags, 0600);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	if (find_daemon(daemon))
		r = posix_spawn(ret_pid, daemon, &actions, &attributes, argv, environ);
	else
		r = posix_spawnp(ret_pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* What it said before it ended. */
static void print_log(const char *path)
{
	FILE *log = fopen(path, "re");
	char line[1024];

	while (log && fgets(line, sizeof(line), log))
		fputs(line[0] == '<' && line[2] == '>' ? line + 3 : line, stderr);
	if (log)
		fclose(log);
}

static int spawn_and_connect(const struct context *context, sdc_client **ret_client,
			     sdc_error *error)
{
	char log[PATH_MAX];
	pid_t pid;
	int r;

	log_path(context, log);
	r = spawn_daemon(context, log, &pid);
	if (r < 0) {
		complain("cannot start sdd with its log in %s: %s", log, strerror(-r));
		return EXIT_NO_DAEMON;
	}
	for (int i = 0; i < SPAWN_TRIES; i++) {
		if (connect_once(context, ret_client, error) == 0)
			return EXIT_OK;
		if (waitpid(pid, NULL, WNOHANG) == pid) {
			print_log(log);
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
	print_how_to_start(context);
	return r;
}
