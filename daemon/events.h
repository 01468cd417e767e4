/*
 * Events to those who want them: the job's own connection, and subscribers of the same user.
 */
#pragma once

#include "daemon/session.h"

void sdd_events_job_queued(struct sdd_server *server, struct sdd_job *job);
/* Positions behind a job that left the queue have changed. */
void sdd_events_positions(struct sdd_server *server);
void sdd_events_job_started(struct sdd_server *server, struct sdd_job *job);
void sdd_events_job_progress(struct sdd_server *server, struct sdd_job *job);
/* picture is the worker's job_picture record; for the job's own connection. */
void sdd_events_job_picture(struct sdd_job *job, const struct sdp_record *picture);
/*
 * The job has a new preview. Who lags (sdd_session_is_behind) is sent the newest one of each job once it has caught up; until then
 * that one is kept with the job, whoever many wait for it, and nothing with them.
 */
void sdd_events_job_preview(struct sdd_server *server, struct sdd_job *job);
/* The session has caught up. */
void sdd_events_previews_due(struct sdd_session *session);
void sdd_events_job_done(struct sdd_server *server, struct sdd_job *job);
/* loaded false: it left memory. */
void sdd_events_model(struct sdd_server *server, const struct sdd_model *model, bool loaded);
/* models.list has another answer than before. */
void sdd_events_models_changed(struct sdd_server *server);
void sdd_events_stopping(struct sdd_server *server, const char *reason);
