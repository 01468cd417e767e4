/*
 * Questions of clients that only the worker can answer, since sdd links no engine, and that wait for no job: it answers them beside whatever
 * else it does (worker/control.c). A worker is started for them when none runs.
 */
#pragma once

#include "daemon/dispatch.h"

/* A number for the next question to the worker, which its request must carry. */
uint32_t sdd_questions_msgid(struct sdd_server *server);
/*
 * Ask the worker with this request (taken, whatever comes of it) on behalf of a client, who gets the answer's fields that `result`
 * knows, or its error. 0, or negative with *ret_error when too many wait.
 */
int sdd_questions_ask(struct sdd_request *request, struct sdp_writer *writer,
		      const struct sdp_struct *result, struct sdp_error *ret_error);

void sdd_questions_init(struct sdd_server *server);
void sdd_questions_clear(struct sdd_server *server);
/* Whether some wait for a worker that takes them. */
bool sdd_questions_are_waiting(const struct sdd_server *server);
/* Hand over what waits, when there is a worker. Call after anything changed. */
void sdd_questions_send(struct sdd_server *server);
/* The worker's answer, if it is one to a question: true then. */
bool sdd_questions_take(struct sdd_server *server, struct sdp_message *message);
/* The worker went, or we stop: everybody gets this error. */
void sdd_questions_fail(struct sdd_server *server, const struct sdp_error *error);
void sdd_questions_forget_session(struct sdd_server *server, const struct sdd_session *session);
