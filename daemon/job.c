/*
 * The life of a job: a state table and what it charges; see job.h.
 */
#include "daemon/job.h"

#include <errno.h>
#include <stdlib.h>

int sdd_job_new(uint64_t id, struct sdp_message *message, struct sdp_record *record,
		struct sdd_user *user, struct sdd_job **ret_job)
{
	struct sdd_job *job;

	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->id = id;
	job->state = SDP_JOB_STATE_QUEUED;
	sdd_list_init(&job->link);
	job->message = message;
	job->record = record;
	job->kind = (enum sdp_job_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_KIND);
	job->priority = (enum sdp_priority)sdp_record_int(record, SDP_JOB_SUBMIT_PRIORITY);
	job->counts_as = job->priority;
	job->keep_alive_ms = sdp_record_int64(record, SDP_JOB_SUBMIT_KEEP_ALIVE_MS);
	snprintf(job->channel, sizeof(job->channel), "%s",
		 sdp_record_string(record, SDP_JOB_SUBMIT_CHANNEL));
	snprintf(job->model, sizeof(job->model), "%s",
		 sdp_record_string(record, SDP_JOB_PARAMETERS_MODEL));
	job->user = sdd_user_ref(user);
	*ret_job = job;
	return 0;
}

struct sdd_job *sdd_job_free(struct sdd_job *job)
{
	if (!job)
		return NULL;
	sdd_list_remove(&job->link);
	sdd_job_refund(job);
	sdd_user_unref(job->user);
	sdp_message_free(job->message);
	sdp_message_free(job->result_message);
	sdp_message_free(job->kept_message);
	sdp_message_free(job->preview_message);
	free(job);
	return NULL;
}

int sdd_job_set_state(struct sdd_job *job, enum sdp_job_state state)
{
	static const unsigned int allowed[SDP_JOB_STATE_COUNT] = {
		[SDP_JOB_STATE_QUEUED] = 1u << SDP_JOB_STATE_RUNNING |
					 1u << SDP_JOB_STATE_CANCELLED | 1u << SDP_JOB_STATE_FAILED,
		[SDP_JOB_STATE_RUNNING] = 1u << SDP_JOB_STATE_DONE | 1u << SDP_JOB_STATE_FAILED |
					  1u << SDP_JOB_STATE_CANCELLED |
					  1u << SDP_JOB_STATE_QUEUED,
	};

	if (!(allowed[job->state] & 1u << state))
		return -EINVAL;
	job->state = state;
	return 0;
}

bool sdd_job_has_ended(const struct sdd_job *job)
{
	return job->state != SDP_JOB_STATE_QUEUED && job->state != SDP_JOB_STATE_RUNNING;
}

void sdd_job_refund_waiting(struct sdd_job *job)
{
	sdd_charge_refund(&job->charge_waiting);
}

void sdd_job_refund(struct sdd_job *job)
{
	sdd_job_refund_waiting(job);
	sdd_charge_refund(&job->charge_total);
	sdd_charge_refund(&job->charge_user);
	sdd_charge_refund(&job->charge_inline);
}

int sdd_job_add_waiter(struct sdd_job *job, struct sdd_session *session, uint32_t msgid)
{
	if (job->n_waiters == SDD_JOB_WAITERS_MAX)
		return SDD_QUOTA_E_EXCEEDED;
	job->waiters[job->n_waiters++] = (struct sdd_waiter){session, msgid};
	return 0;
}

void sdd_job_forget_session(struct sdd_job *job, const struct sdd_session *session)
{
	size_t kept = 0;

	if (job->session == session) {
		job->session = NULL;
		/* the meter lives in the session */
		sdd_job_refund_waiting(job);
	}
	for (size_t i = 0; i < job->n_waiters; i++)
		if (job->waiters[i].session != session)
			job->waiters[kept++] = job->waiters[i];
	job->n_waiters = kept;
}

void sdd_job_keep_state(struct sdd_job *job, struct sdp_message *message,
			const struct sdp_pixels *state, int step)
{
	sdp_message_free(job->kept_message);
	job->kept_message = message;
	job->kept_state = state;
	job->kept_step = step;
}

void sdd_job_keep_preview(struct sdd_job *job, struct sdp_message *message,
			  struct sdp_record *preview)
{
	sdp_message_free(job->preview_message);
	job->preview_message = message;
	job->preview = preview;
}

void sdd_job_drop_request(struct sdd_job *job)
{
	job->kept_message = sdp_message_free(job->kept_message);
	job->kept_state = NULL;
	job->message = sdp_message_free(job->message);
	job->record = NULL;
}
