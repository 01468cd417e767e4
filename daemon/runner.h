/*
 * What the worker does next, and what its answers mean: models are loaded when the first job needs them and stay; jobs
 * run one at a time, or a few together where that is faster (batch.h). If the worker dies, the job in it goes on with the next worker behind the last step whose state was
 * kept; one that kills two of them at the same place ends with worker_lost.
 */
#pragma once

#include "daemon/running.h"
#include "daemon/session.h"

enum sdd_model_wish { SDD_MODEL_LOAD, SDD_MODEL_UNLOAD, SDD_MODEL_CHECK };

void sdd_runner_init(struct sdd_server *server);
void sdd_runner_clear(struct sdd_server *server);
/* Look whether there is something to do and a worker to do it. Call after anything changed. */
void sdd_runner_kick(struct sdd_server *server);

/*
 * 0, -ENOMEM, or SDD_QUOTA_E_EXCEEDED: too many wait, or another check does. Answered when it is done. form: of the weights of a model to
 * load, NULL = as it is chosen already.
 */
int sdd_runner_request_model(struct sdd_session *session, uint32_t msgid, const char *model,
			     enum sdd_model_wish wish, const enum sdp_weights_form *form);
/* Take a model out of memory when there is nothing better to do; nobody is answered. Lost when memory is short. */
void sdd_runner_request_unload(struct sdd_server *server, const char *model);
/* Stop a running job; it ends with this error within a step, or at once while its model loads. */
void sdd_runner_cancel(struct sdd_server *server, struct sdd_job *job,
		       const struct sdp_error *error);
/* A preview behind the job's next step, whenever that is made. */
void sdd_runner_request_preview(struct sdd_server *server, struct sdd_job *job);
void sdd_runner_forget_session(struct sdd_server *server, const struct sdd_session *session);
/* The daemon stops: model requests that wait are answered. */
void sdd_runner_stop(struct sdd_server *server);

/* The supervisor's handlers; userdata is the server. */
extern const struct sdd_supervisor_handlers sdd_runner_handlers;
