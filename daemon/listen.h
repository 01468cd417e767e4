/*
 * Where clients knock: sockets handed over by systemd, or the configured path, bound by us and guarded by a lock so that
 * a stale socket is replaced and a living daemon's is not.
 */
#pragma once

#include "daemon/server.h"

/* 0 with at least one listener, or a negative errno, already logged. */
int sdd_listen_open(struct sdd_server *server);
/* Stops accepting; removes the path we bound. */
void sdd_listen_close(struct sdd_server *server);
