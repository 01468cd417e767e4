/*
 * The requests that the runner (runner.c) sends to the worker. None of them fails: a worker that cannot be given its work goes,
 * and its loss answers everybody who waits.
 */
#pragma once

#include "daemon/jobs.h"

/* The runner is LOADING, UNLOADING or CHECKING this model until the worker answers. */
void sdd_runner_send_load(struct sdd_server *server, struct sdd_model *model);
void sdd_runner_send_unload(struct sdd_server *server, struct sdd_model *model);
void sdd_runner_send_check(struct sdd_server *server, const struct sdd_model *model);
/* A job, with the state it goes on from when one was kept; the runner is RUNNING. */
void sdd_runner_send_run(struct sdd_server *server, struct sdd_job *job);
/* Stop behind the next step and let others go first. */
void sdd_runner_send_yield(struct sdd_server *server, struct sdd_job *job);
void sdd_runner_send_preview_request(struct sdd_server *server, const struct sdd_job *job);
/* Stop within a step; it answers as cancelled. */
void sdd_runner_send_cancel(struct sdd_server *server, const struct sdd_job *job);
