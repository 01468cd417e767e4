/*
 * Looking at the model folders again when something in them changes (inotify), so that who subscribes hears of a model that came, went or
 * was replaced, and its memory is given back. Where the kernel cannot watch (network file systems, watches used up) models.list
 * and every job still look for themselves.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

struct sdd_server;

struct sdd_watch {
	int fd; /* of inotify */
	sd_event_source *io, *timer;
	bool waits, complained;
	bool changes;  /* a new folder is not watched before the scan that waits */
	uint64_t told; /* registry.changes that subscribers have heard of */
};

void sdd_watch_init(struct sdd_watch *watch);
/* After the first scan. 0 or a negative errno. */
int sdd_watch_start(struct sdd_server *server);
void sdd_watch_clear(struct sdd_server *server);
/* Scan the folders now, and tell. 0 or -ENOMEM. */
int sdd_watch_scan(struct sdd_server *server);
/* The same for who asks for the list: once a second at most as long as nothing is known to have changed. */
int sdd_watch_refresh(struct sdd_server *server);
/* The same soon: several reasons become one scan. */
void sdd_watch_look(struct sdd_server *server);
