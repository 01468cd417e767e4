/*
 * What happens to jobs as clients see it: admitted, found, cancelled, ended and answered, kept and fetched. Here every
 * job gets its one terminal answer; the runner only says what became of it.
 */
#pragma once

#include "daemon/session.h"

/*
 * Admit a checked job_submit: quotas, then the end of the queue. Takes the message on success only.
 * 0 and the job, or -EINVAL/-ENOMEM with *ret_error (busy, shutting_down, not_found, no_memory).
 */
int sdd_jobs_submit(struct sdd_session *session, struct sdp_message *message,
		    struct sdp_record *record, struct sdd_job **ret_job,
		    struct sdp_error *ret_error);

/* Queued, running or kept; NULL when there is none or it is another user's. */
struct sdd_job *sdd_jobs_find(struct sdd_server *server, uid_t uid, uint64_t id);

/* Queued: ends now. Running: ends within a step. Ended: nothing. The job may be gone afterwards. */
void sdd_jobs_cancel(struct sdd_server *server, struct sdd_job *job, const char *why);

/*
 * The end. The job is unlinked from the queue by then; it is answered, told to subscribers, and kept (detached) or freed.
 * error is ignored for done.
 */
void sdd_jobs_finish(struct sdd_server *server, struct sdd_job *job, enum sdp_job_state state,
		     const struct sdp_error *error);

/* Answer with the result or the error of an ended job, with the state of another. */
void sdd_jobs_answer(struct sdd_session *session, uint32_t msgid, struct sdd_job *job);
/* The kept result was sent to this session; it stays until it has been read there. */
void sdd_jobs_fetched(struct sdd_job *job, struct sdd_session *session);
/* Drop the kept results that have been read. */
void sdd_jobs_settle(struct sdd_server *server);
/* Drop kept results until time, bytes and number are within the limits: the oldest, of those who have most where there are too many. */
void sdd_jobs_expire(struct sdd_server *server);

/* Its attached jobs are cancelled, its waits forgotten; results it was sent and has not read wait for the next job.get. */
void sdd_jobs_forget_session(struct sdd_server *server, struct sdd_session *session);
/* The daemon stops: everything that waits ends with shutting_down. */
void sdd_jobs_stop(struct sdd_server *server);

/* Milliseconds until the job's end as far as can be known, else -1. */
int64_t sdd_jobs_eta_ms(struct sdd_server *server, const struct sdd_job *job);
/* job_info's fields into the map in work. */
void sdd_jobs_write_info(struct sdd_server *server, const struct sdd_job *job,
			 struct sdp_writer *writer);
