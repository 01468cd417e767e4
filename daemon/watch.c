/*
 * Watches on roots, models and their components; see watch.h. After a change all watches are made anew, before the folders are
 * read, so that nothing that happens meanwhile is missed.
 */
#include "daemon/watch.h"
#include "daemon/events.h"
#include "daemon/hasher.h"
#include "daemon/log.h"
#include "daemon/runner.h"
#include "daemon/server.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"
#include "daemon/util/part-folders.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

enum {
	ENTRIES_MAX = 4096, /* of one folder */
	DEPTH = 1 +
		SDD_PART_FOLDERS_DEPTH, /* below a root: models and their components, or kinds of parts and what these are sorted into */
};

/* A file that is being copied is told when it is complete, and otherwise four times a second at most. */
static const uint64_t pause_us = 250000;

/* How old a scan may be that is taken for a new one: who asks all the time does not have the folders read all the time. */
static const uint64_t refresh_us = 1000000;

static const uint32_t changes = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
				IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

void sdd_watch_init(struct sdd_watch *watch)
{
	*watch = (struct sdd_watch){.fd = -EBADF};
}

static void complain(struct sdd_server *server, const char *path)
{
	if (!server->watch.complained)
		sdd_log(LOG_NOTICE, NULL,
			"%s cannot be watched for changes: %s; models.list looks for itself", path,
			strerrordesc_np(errno));
	server->watch.complained = true;
}

static void watch_folder(struct sdd_server *server, int fd, const char *path, int depth)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	char below[PATH_MAX];
	struct stat st;
	int seen = 0;

	if (!dir)
		return;
	if (inotify_add_watch(fd, path, changes | IN_ONLYDIR) < 0)
		complain(server, path);
	while (depth > 0 && (entry = readdir(dir)) && seen++ < ENTRIES_MAX) {
		if (entry->d_name[0] == '.' || entry->d_type == DT_REG ||
		    (size_t)snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >=
			    sizeof(below))
			continue;
		if (entry->d_type == DT_DIR || (stat(below, &st) == 0 && S_ISDIR(st.st_mode)))
			watch_folder(server, fd, below, depth - 1);
	}
	closedir(dir);
}

/* A root that is not there yet comes where a folder above it is. */
static void watch_root(struct sdd_server *server, int fd, const char *root)
{
	char path[PATH_MAX], *slash;
	struct stat st;

	if ((size_t)snprintf(path, sizeof(path), "%s", root) >= sizeof(path))
		return;
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			watch_folder(server, fd, path, DEPTH);
		else if (inotify_add_watch(fd, path, changes) < 0)
			complain(server, path);
		return;
	}
	while ((slash = strrchr(path, '/')) && slash > path) {
		*slash = '\0';
		if (inotify_add_watch(fd, path, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) >= 0)
			return;
	}
}

static int on_change(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_server *server = userdata;
	char buffer[4096];

	/* what it was does not matter; the next scan sees it */
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	server->watch.changes = true;
	sdd_watch_look(server);
	return 0;
}

static int watch_all(struct sdd_server *server)
{
	struct sdd_watch *watch = &server->watch;
	int r;

	watch->io = sd_event_source_disable_unref(watch->io);
	watch->fd = sdd_close(watch->fd);
	watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->fd < 0) {
		complain(server, server->registry.roots[0]);
		return 0;
	}
	for (size_t i = 0; i < server->registry.n_roots; i++)
		watch_root(server, watch->fd, server->registry.roots[i]);
	r = sd_event_add_io(server->event, &watch->io, watch->fd, EPOLLIN, on_change, server);
	return r < 0 ? r : sd_event_source_set_priority(watch->io, SD_EVENT_PRIORITY_NORMAL + 1);
}

/* Models whose files are gone give their memory back. */
static void release_lost(struct sdd_server *server)
{
	struct sdd_model *model;
	bool any = false;

	sdd_list_for_each (model, &server->registry.models, link) {
		const struct sdd_log_about about = {.model = model->name};

		if (model->seen || model->leaving || model->state != SDP_MODEL_STATE_LOADED)
			continue;
		sdd_log(LOG_INFO, &about, "model leaves: its files are gone");
		model->leaving = any = true;
		sdd_runner_request_unload(server, model->name);
	}
	if (any)
		sdd_runner_kick(server);
}

/* Everything is watched, and the kernel has nothing to tell; it says little of network file systems, hence the second. */
static bool is_current(void *userdata)
{
	const struct sdd_server *server = userdata;
	struct pollfd events = {server->watch.fd, POLLIN, 0};

	return sdd_now_us() - server->registry.scanned_us < refresh_us &&
	       !server->watch.complained && !server->watch.changes && server->watch.fd >= 0 &&
	       poll(&events, 1, 0) == 0;
}

int sdd_watch_refresh(struct sdd_server *server)
{
	return is_current(server) ? 0 : sdd_watch_scan(server);
}

int sdd_watch_scan(struct sdd_server *server)
{
	int r = sdd_registry_scan(&server->registry);

	if (r < 0)
		return r;
	if (server->watch.told != server->registry.changes)
		sdd_events_models_changed(server);
	server->watch.told = server->registry.changes;
	release_lost(server);
	sdd_hasher_kick(server);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_server *server = userdata;
	int r;

	server->watch.waits = server->watch.changes = false;
	r = watch_all(server);
	if (r >= 0)
		r = sdd_watch_scan(server);
	if (r < 0)
		sdd_log(LOG_WARNING, NULL, "model folders cannot be looked at: %s",
			strerrordesc_np(-r));
	return 0;
}

void sdd_watch_look(struct sdd_server *server)
{
	struct sdd_watch *watch = &server->watch;

	if (watch->waits || !watch->timer || server->stopping)
		return;
	watch->waits = true;
	sd_event_source_set_time_relative(watch->timer, pause_us);
	sd_event_source_set_enabled(watch->timer, SD_EVENT_ONESHOT);
}

int sdd_watch_start(struct sdd_server *server)
{
	int r = sd_event_add_time(server->event, &server->watch.timer, CLOCK_MONOTONIC, UINT64_MAX,
				  0, on_timer, server);

	if (r >= 0)
		r = sd_event_source_set_enabled(server->watch.timer, SD_EVENT_OFF);
	if (r >= 0)
		r = watch_all(server);
	server->registry.is_current = is_current;
	server->registry.userdata = server;
	/* what came between the first scan and the watches */
	return r < 0 ? r : sdd_watch_scan(server);
}

void sdd_watch_clear(struct sdd_server *server)
{
	server->watch.io = sd_event_source_disable_unref(server->watch.io);
	server->watch.timer = sd_event_source_disable_unref(server->watch.timer);
	server->watch.fd = sdd_close(server->watch.fd);
}
