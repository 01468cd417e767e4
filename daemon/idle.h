/*
 * Leaving when nobody needs us: with a socket that systemd holds, the daemon ends after a time without clients and jobs
 * (idle-exit in sdd.conf(5)) and gives all memory back; the next client's connect starts it again. Who connects in that
 * very moment waits in the socket's queue for the new one.
 */
#pragma once

#include "daemon/server.h"

/* Once the sockets are open. Does nothing where nobody would start us again. 0 or a negative errno. */
int sdd_idle_start(struct sdd_server *server);
/* A client has left: the time begins anew. */
void sdd_idle_touch(struct sdd_server *server);
