/*
 * Jobs: a call of job.submit together with the events that tell how it goes. A job is on its client's list exactly as
 * long as its call is.
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

static void unlink_job(struct sdc_job *job)
{
	for (struct sdc_job **j = &job->client->jobs; *j; j = &(*j)->next)
		if (*j == job) {
			*j = job->next;
			break;
		}
	job->client = NULL;
}

/* May run the last handler, which may free the job: nothing may touch it afterwards. */
void sdc_job_end(struct sdc_job *job, const sdc_reply *reply, const sdc_error *error)
{
	unlink_job(job);
	job->ended = true;
	if (reply) {
		job->result = sdc_reply_ref(reply);
		sdc_reply_int(reply, "job", &job->id);
	} else {
		job->error = *error;
	}
	if (job->orphan)
		sdc_job_free(job);
	else if (job->handlers.done)
		job->handlers.done(job, job->result, reply ? NULL : &job->error,
				   job->handlers.userdata);
}

static void ignore(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		   void *userdata)
{
}

static int send_cancel(struct sdc_job *job, sdc_error *error)
{
	sdc_request *request = sdc_request_new("job.cancel", error);

	if (!request)
		return error ? error->code : SDC_E_NO_MEMORY;
	int r = sdc_request_set_int(request, "job", job->id, error);
	int64_t call = r < 0 ? r : sdc_call_async(job->client, request, ignore, NULL, error);
	sdc_request_free(request);
	return call < 0 ? (int)call : 0;
}

static struct sdc_job *find_job(sdc_client *client, const sdc_reply *reply)
{
	uint64_t request = 0;
	int64_t id = 0;

	sdc_reply_int(reply, "job", &id);
	sdc_reply_uint(reply, "request", &request);
	for (struct sdc_job *job = client->jobs; job; job = job->next) {
		if (job->id == 0 && request == job->request)
			job->id = id;
		if (job->id == id)
			return job;
	}
	return NULL;
}

static void take_progress(struct sdc_job *job, const sdc_reply *reply)
{
	const char *stage = "";
	int64_t step = 0, total = 0, eta_ms = -1;

	sdc_reply_string(reply, "stage", &stage);
	sdc_reply_int(reply, "step", &step);
	sdc_reply_int(reply, "total", &total);
	sdc_reply_int(reply, "eta_ms", &eta_ms);
	for (size_t i = 0; i < sdp_enum_stage.n_values; i++)
		if (!strcmp(stage, sdp_enum_stage.values[i]))
			job->progress.stage = (int)i;
	job->progress.position = -1;
	job->progress.step = (int)step;
	job->progress.total = (int)total;
	job->progress.eta_ms = eta_ms;
}

void sdc_job_event(sdc_client *client, const struct sdp_message *message, const sdc_reply *reply)
{
	struct sdc_job *job = find_job(client, reply);
	int64_t position = 0;
	sdc_image image;

	if (!job)
		return;
	switch (message->method->id) {
	case SDP_EVENT_JOB_QUEUED:
		sdc_reply_int(reply, "position", &position);
		job->progress.position = (int)position;
		if (job->cancel) { /* asked before the daemon had told the job's number */
			job->cancel = false;
			send_cancel(job, NULL);
		}
		break;
	case SDP_EVENT_JOB_STARTED:
		job->progress.position = -1;
		break;
	case SDP_EVENT_JOB_PROGRESS:
		take_progress(job, reply);
		break;
	case SDP_EVENT_JOB_PREVIEW:
		if (job->handlers.preview && sdc_reply_image(reply, "pixels", &image, NULL) == 0)
			job->handlers.preview(job, &image, job->handlers.userdata);
		return;
	case SDP_EVENT_JOB_PICTURE:
		if (job->picture_fn && sdc_reply_image(reply, "image.pixels", &image, NULL) == 0)
			job->picture_fn(job, &image, reply, job->picture_userdata);
		return;
	default:
		return;
	}
	if (job->handlers.progress)
		job->handlers.progress(job, &job->progress, job->handlers.userdata);
}

SDC_API int sdc_job_submit(sdc_client *client, const sdc_request *request,
			   const sdc_job_handlers *handlers, sdc_job **ret_job,
			   sdc_error *ret_error)
{
	if (request->method->id != SDP_METHOD_JOB_SUBMIT)
		return sdc_fail(ret_error, SDC_E_BAD_REQUEST,
				"a job is made with sdc_job_request_new, not with a request for %s",
				request->method->name);
	struct sdc_job *job = calloc(1, sizeof(*job));
	struct call *call = calloc(1, sizeof(*call));
	if (!job || !call) {
		free(job);
		free(call);
		return sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
	}
	if (handlers)
		job->handlers = *handlers;
	job->detach = sdp_record_bool(request->record, SDP_JOB_SUBMIT_DETACH);
	job->progress = (sdc_progress){.stage = -1, .eta_ms = -1};
	call->job = job;
	int r = sdc_client_send(client, request, call, ret_error);
	if (r < 0) {
		free(job);
		free(call);
		return r;
	}
	job->request = call->id;
	job->client = client;
	job->next = client->jobs;
	client->jobs = job;
	*ret_job = job;
	return 0;
}

SDC_API void sdc_job_on_picture(sdc_job *job, sdc_picture_fn fn, void *userdata)
{
	job->picture_fn = fn;
	job->picture_userdata = userdata;
}

SDC_API int64_t sdc_job_id(const sdc_job *job)
{
	return job->id;
}

SDC_API sdc_progress sdc_job_progress(const sdc_job *job)
{
	return job->progress;
}

SDC_API int sdc_job_cancel(sdc_job *job, sdc_error *ret_error)
{
	if (job->ended)
		return 0;
	if (job->id == 0) {
		job->cancel = true;
		return 0;
	}
	return send_cancel(job, ret_error);
}

SDC_API int sdc_job_wait(sdc_job *job, int timeout_ms, sdc_error *ret_error)
{
	if (!job->ended) {
		int r = sdc_client_wait(job->client, &job->ended, sdc_deadline(timeout_ms),
					ret_error);
		if (r < 0)
			return r;
	}
	if (job->result)
		return 0;
	if (ret_error)
		*ret_error = job->error;
	return job->error.code;
}

SDC_API int sdc_job_ended(const sdc_job *job)
{
	return job->ended;
}

SDC_API const sdc_reply *sdc_job_result(const sdc_job *job)
{
	return job->result;
}

/* The job's call stays, without the job, to take the daemon's answer. */
static void abandon(struct sdc_job *job)
{
	if (!job->detach)
		send_cancel(job, NULL);
	for (struct call *c = job->client->calls; c; c = c->next)
		if (c->job == job)
			c->job = NULL;
	unlink_job(job);
}

SDC_API sdc_job *sdc_job_free(sdc_job *job)
{
	if (!job)
		return NULL;
	if (!job->ended && !job->detach && job->id == 0) {
		/* its number is still to come: sdc_job_event cancels it then, and sdc_job_end frees it */
		job->handlers = (sdc_job_handlers){0};
		job->picture_fn = NULL;
		job->cancel = job->orphan = true;
		return NULL;
	}
	if (job->client)
		abandon(job);
	sdc_reply_free(job->result);
	free(job);
	return NULL;
}
