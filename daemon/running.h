/*
 * The jobs that run: which they are, and what the worker tells of them before it answers: progress, previews, the state to go on
 * from, what company is worth.
 */
#pragma once

#include "daemon/server.h"

/* A running job; NULL: none, or none of this number. */
struct sdd_job *sdd_runner_job(const struct sdd_server *server);
struct sdd_job *sdd_runner_find(const struct sdd_server *server, uint64_t id);
/* It does not run any more. */
void sdd_runner_drop(struct sdd_server *server, struct sdd_job *job);

/* An event of the worker; takes the message. */
void sdd_running_take_event(struct sdd_server *server, struct sdp_message *message);
/* One has ended: how long such jobs take. */
void sdd_running_learn_times(struct sdd_server *server, const struct sdd_job *job);
