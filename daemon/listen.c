/*
 * Listening and accepting; see listen.h.
 */
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/session.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

enum { ACCEPT_BUDGET = 32, BACKLOG = 128 };
static const uint64_t accept_again_us = 200 * 1000;

static void set_accepting(struct sdd_server *server, bool accepting)
{
	for (size_t i = 0; i < server->n_listeners; i++)
		sd_event_source_set_enabled(server->listeners[i].source,
					    accepting ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_accept_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	set_accepting(userdata, true);
	return 0;
}

/* No descriptors left: the waiting client keeps the socket readable, so look away for a moment instead of spinning. */
static void pause_accepting(struct sdd_server *server, int code)
{
	sdd_log(LOG_WARNING, NULL, "cannot accept a connection: %s; trying again soon",
		strerror(code));
	set_accepting(server, false);
	sd_event_source_set_time_relative(server->accept_again, accept_again_us);
	sd_event_source_set_enabled(server->accept_again, SD_EVENT_ONESHOT);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_listener *listener = userdata;

	for (int i = 0; i < ACCEPT_BUDGET; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			sdd_session_accept(listener->server, client);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			pause_accepting(listener->server, errno);
		if (errno != EINTR && errno != ECONNABORTED)
			break;
	}
	return 0;
}

static int add_listener(struct sdd_server *server, int fd)
{
	struct sdd_listener *listener = &server->listeners[server->n_listeners];
	int r;

	*listener = (struct sdd_listener){.server = server, .fd = fd};
	r = sd_event_add_io(server->event, &listener->source, fd, EPOLLIN, on_connection, listener);
	if (r < 0)
		return r;
	/* new clients wait until those already here were served */
	sd_event_source_set_priority(listener->source, SD_EVENT_PRIORITY_NORMAL + 1);
	server->n_listeners++;
	return 0;
}

static int open_passed(struct sdd_server *server, int n)
{
	int r;

	if (n > SDD_LISTENERS_MAX) {
		sdd_log(LOG_ERR, NULL, "%d sockets passed; at most %d", n, SDD_LISTENERS_MAX);
		return -E2BIG;
	}
	for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++) {
		if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0) {
			sdd_log(LOG_ERR, NULL,
				"the passed descriptor %d is no listening unix stream socket", fd);
			return -EINVAL;
		}
		r = fcntl(fd, F_SETFL, O_NONBLOCK);
		if (r == 0)
			r = add_listener(server, fd);
		if (r < 0)
			return r;
	}
	sdd_log(LOG_INFO, NULL, "listening on %d passed socket%s", n, n == 1 ? "" : "s");
	return 0;
}

/* Create the socket's own folder if it is missing, for us alone; its parents must exist. */
static int make_folder(const char *path)
{
	char folder[PATH_MAX];
	char *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return 0;
	*slash = '\0';
	if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
		int code = errno;

		sdd_log(LOG_ERR, NULL, "cannot create %s: %s", folder, strerror(code));
		return -code;
	}
	return 0;
}

/* Only one daemon may own a path; the lock dies with its holder, the socket file does not. */
static int lock_path(struct sdd_server *server, const char *path)
{
	char lock[PATH_MAX];
	int code;

	if ((size_t)snprintf(lock, sizeof(lock), "%s.lock", path) >= sizeof(lock))
		return -ENAMETOOLONG;
	server->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (server->lock_fd < 0) {
		code = errno;
		sdd_log(LOG_ERR, NULL, "cannot open %s: %s", lock, strerror(code));
		return -code;
	}
	if (flock(server->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		sdd_log(LOG_ERR, NULL, "another sdd serves %s already; stop it or choose --socket",
			path);
		return -EADDRINUSE;
	}
	return 0;
}

static bool somebody_answers(const struct sockaddr_un *address)
{
	SDD_CLEANUP(sdd_closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* EAGAIN: somebody listens but is too busy to take one more */
	return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
			   errno == EAGAIN);
}

static int clear_stale(const struct sockaddr_un *address)
{
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode)) {
		sdd_log(LOG_ERR, NULL, "%s exists and is no socket; it stays as it is",
			address->sun_path);
		return -EEXIST;
	}
	if (somebody_answers(address)) {
		sdd_log(LOG_ERR, NULL, "another program answers on %s; choose another --socket",
			address->sun_path);
		return -EADDRINUSE;
	}
	sdd_log(LOG_INFO, NULL, "replacing the stale socket %s", address->sun_path);
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int open_path(struct sdd_server *server, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	SDD_CLEANUP(sdd_closep) int fd = -EBADF;
	mode_t mask;
	int r;

	if (strlen(path) >= sizeof(address.sun_path)) {
		sdd_log(LOG_ERR, NULL, "the socket's path has more than %zu bytes: %s",
			sizeof(address.sun_path) - 1, path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	r = make_folder(path);
	if (r == 0)
		r = lock_path(server, path);
	if (r == 0)
		r = clear_stale(&address);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		sdd_log(LOG_ERR, NULL, "cannot listen on %s: %s", path, strerror(-r));
		return r;
	}
	server->owns_path = true;
	r = add_listener(server, fd);
	if (r < 0)
		return r;
	sdd_steal_fd(&fd);
	/* another user can only knock if the file lets him; who he is is checked on the socket itself */
	if (server->config->n_allowed_uids + server->config->n_allowed_gids > 0)
		chmod(path, 0666);
	sdd_log(LOG_INFO, NULL, "listening on %s", path);
	return 0;
}

int sdd_listen_open(struct sdd_server *server)
{
	int n, r;

	r = sd_event_add_time_relative(server->event, &server->accept_again, CLOCK_MONOTONIC, 0, 0,
				       on_accept_again, server);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(server->accept_again, SD_EVENT_OFF);
	n = sd_listen_fds(1);
	if (n < 0)
		return n;
	return n > 0 ? open_passed(server, n) : open_path(server, server->config->socket);
}

void sdd_listen_close(struct sdd_server *server)
{
	server->accept_again = sd_event_source_disable_unref(server->accept_again);
	for (size_t i = 0; i < server->n_listeners; i++) {
		sd_event_source_disable_unref(server->listeners[i].source);
		close(server->listeners[i].fd);
	}
	server->n_listeners = 0;
	if (server->owns_path)
		unlink(server->config->socket);
	server->owns_path = false;
	server->lock_fd = sdd_close(server->lock_fd);
}
