/*
 * prompt.count: tokenizers live in the worker, so a count goes there beside whatever else it does, and comes back to the session
 * that asked. A worker is started for it when none runs.
 */
#pragma once

#include "daemon/dispatch.h"

/* Handler of the method. */
int sdd_handle_prompt_count(struct sdd_request *request, struct sdp_error *ret_error);

void sdd_counts_init(struct sdd_server *server);
void sdd_counts_clear(struct sdd_server *server);
/* Whether some wait for a worker that takes them. */
bool sdd_counts_are_waiting(const struct sdd_server *server);
/* Hand over what waits, when there is a worker. Call after anything changed. */
void sdd_counts_send(struct sdd_server *server);
/* The worker's answer, if it is one to a count: true then. */
bool sdd_counts_take(struct sdd_server *server, struct sdp_message *message);
/* The worker went, or we stop: everybody gets this error. */
void sdd_counts_fail(struct sdd_server *server, const struct sdp_error *error);
void sdd_counts_forget_session(struct sdd_server *server, const struct sdd_session *session);
