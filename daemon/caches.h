/*
 * How well the engine's caches do: the worker tells after each job, and what a worker counted is kept when it dies, so that hits and
 * misses only grow. What is in them is the worker's alone.
 */
#pragma once

#include "daemon/server.h"

/* A worker.caches event; what does not decode is passed over. */
void sdd_caches_take(struct sdd_server *server, struct sdp_message *message);
/* The worker has gone, and its caches with it. */
void sdd_caches_lost(struct sdd_server *server);
/* status's list "caches", into the map in work. */
void sdd_caches_write(const struct sdd_server *server, struct sdp_writer *writer);
