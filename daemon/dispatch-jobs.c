/*
 * Handlers of job.*; see dispatch.h.
 */
#include "daemon/dispatch.h"
#include "daemon/events.h"
#include "daemon/jobs.h"
#include "daemon/runner.h"

#include <inttypes.h>

enum { LIST_MAX = 128 };

static int find_job(struct sdd_request *request, int index, struct sdd_job **ret_job,
		    struct sdp_error *ret_error)
{
	const uint64_t id = (uint64_t)sdp_record_int64(request->record, index);
	struct sdd_job *job;

	sdd_jobs_settle(request->session->server);
	job = sdd_jobs_find(request->session->server, request->session->uid, id);

	if (!job)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "job",
				       "no job %" PRIu64 " of yours; job.list names them", id);
	*ret_job = job;
	return 0;
}

int sdd_handle_job_submit(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_session *session = request->session;
	struct sdd_job *job;
	int r;

	r = sdp_job_check(request->record, ret_error);
	if (r == 0)
		r = sdd_jobs_submit(session, request->message, request->record, &job, ret_error);
	if (r < 0)
		return r;
	request->message = NULL; /* the job's now */
	if (job->detached)
		sdd_jobs_answer(session, request->msgid, job);
	sdd_events_job_queued(session->server, job);
	return 0;
}

int sdd_handle_job_cancel(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdd_server *server = request->session->server;
	struct sdd_job *job;
	uint64_t id;
	int r;

	r = find_job(request, SDP_JOB_REFERENCE_JOB, &job, ret_error);
	if (r < 0)
		return r;
	id = job->id;
	/* the answer describes the job; its own connection hears of the end separately */
	sdp_writer_response(&writer, request->msgid);
	if (job->state == SDP_JOB_STATE_QUEUED) {
		/* it ends here and now, and may be gone below */
		sdp_writer_uint(&writer, "job", id);
		sdp_writer_string(&writer, "state", "cancelled");
		sdp_writer_string(&writer, "kind", sdp_enum_job_kind.values[job->kind]);
		sdp_writer_string(&writer, "model", job->model);
		sdp_writer_bool(&writer, "detached", job->detached);
	} else {
		sdd_jobs_write_info(server, job, &writer);
	}
	sdd_jobs_cancel(server, job, "cancelled by job.cancel");
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

int sdd_handle_job_get(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_job *job;
	int r;

	r = find_job(request, SDP_JOB_REFERENCE_JOB, &job, ret_error);
	if (r < 0)
		return r;
	if (sdd_job_has_ended(job)) {
		sdd_jobs_answer(request->session, request->msgid, job);
		sdd_jobs_fetched(job, request->session);
		return 0;
	}
	if (!sdp_record_bool(request->record, SDP_JOB_GET_WAIT)) {
		sdd_jobs_answer(request->session, request->msgid, job);
		return 0;
	}
	if (sdd_job_add_waiter(job, request->session, request->msgid) != 0) {
		sdp_error_set(ret_error, SDP_CODE_BUSY, "%d connections wait for this job already",
			      SDD_JOB_WAITERS_MAX);
		ret_error->retry_ms = 1000;
		return -EINVAL;
	}
	return 0;
}

int sdd_handle_job_request_preview(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdd_job *job;
	int r;

	r = find_job(request, SDP_JOB_REFERENCE_JOB, &job, ret_error);
	if (r < 0)
		return r;
	if (sdd_job_has_ended(job))
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "job",
				       "job %" PRIu64 " has ended: job.get gives its picture",
				       job->id);
	sdd_runner_request_preview(request->session->server, job);
	sdp_writer_response(&writer, request->msgid);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

int sdd_handle_job_list(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	struct sdd_list *const lists[] = {&server->runner.jobs, &server->queue.jobs, &server->kept};
	struct sdp_writer writer = SDP_WRITER_INIT;
	const uid_t uid = request->session->uid;
	const struct sdd_job *job;
	int left = LIST_MAX;

	sdd_jobs_settle(server);
	sdp_writer_response(&writer, request->msgid);
	sdp_writer_list_begin(&writer, "jobs");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		sdd_list_for_each (job, lists[i], link) {
			if (job->user->uid != uid || left-- <= 0)
				continue;
			sdp_writer_map_begin(&writer, NULL);
			sdd_jobs_write_info(server, job, &writer);
			sdp_writer_end(&writer);
		}
	}
	sdp_writer_end(&writer);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}
