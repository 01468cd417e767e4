/*
 * Running jobs and the worker's events of them; see running.h.
 */
#include "daemon/running.h"
#include "daemon/batch.h"
#include "daemon/caches.h"
#include "daemon/events.h"
#include "daemon/runner.h"
#include "daemon/util/clock.h"

struct sdd_job *sdd_runner_job(const struct sdd_server *server)
{
	return sdd_list_first(&server->runner.jobs, struct sdd_job, link);
}

struct sdd_job *sdd_runner_find(const struct sdd_server *server, uint64_t id)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &server->runner.jobs, link)
		if (job->id == id)
			return job;
	return NULL;
}

void sdd_runner_drop(struct sdd_server *server, struct sdd_job *job)
{
	sdd_list_remove(&job->link);
	server->runner.n_jobs--;
	sdd_job_keep_preview(job, NULL, NULL); /* who has not had it gets the result instead */
}

static void take_progress(struct sdd_server *server, struct sdp_message *message)
{
	struct sdp_record *progress;
	struct sdd_job *job;
	int step;

	if (sdp_record_decode(message, &sdp_struct_job_progress, SDP_LENIENT, &progress, NULL) < 0)
		return;
	job = sdd_runner_find(server, sdp_record_uint(progress, SDP_JOB_PROGRESS_JOB));
	if (!job)
		return;
	job->stage = (enum sdp_stage)sdp_record_int(progress, SDP_JOB_PROGRESS_STAGE);
	step = sdp_record_int(progress, SDP_JOB_PROGRESS_STEP);
	if (step > job->step)
		job->step = step;
	job->total = sdp_record_int(progress, SDP_JOB_PROGRESS_TOTAL);
	if (job->stage == SDP_STAGE_STEPS && !job->steps_started_us)
		job->steps_started_us = sdd_now_us();
	sdd_events_job_progress(server, job);
	/* time alone may have changed whose turn it is */
	sdd_runner_kick(server);
}

/* Takes the message. */
static void take_checkpoint(struct sdd_server *server, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;
	const struct sdp_pixels *state;
	struct sdp_record *record;
	struct sdd_job *job;

	if (sdp_record_decode(message, &sdp_struct_worker_checkpoint, SDP_LENIENT, &record, NULL) <
	    0)
		return;
	job = sdd_runner_find(server, sdp_record_uint(record, SDP_WORKER_CHECKPOINT_JOB));
	if (!job)
		return;
	state = sdp_record_pixels(record, SDP_WORKER_CHECKPOINT_STATE);
	sdd_job_keep_state(job, sdd_steal_pointer(owned), state,
			   sdp_record_int(record, SDP_WORKER_CHECKPOINT_STEP));
}

/* Takes the message. */
static void take_preview(struct sdd_server *server, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;
	struct sdp_record *preview;
	struct sdd_job *job;

	if (sdp_record_decode(message, &sdp_struct_job_preview, SDP_LENIENT, &preview, NULL) < 0)
		return;
	job = sdd_runner_find(server, sdp_record_uint(preview, SDP_JOB_PREVIEW_JOB));
	if (!job)
		return;
	job->preview_requested = false;
	sdd_job_keep_preview(job, sdd_steal_pointer(owned), preview);
	sdd_events_job_preview(server, job);
}

/* Those that an earlier run told of come again after a resumption; they are the same to the bit. */
static void take_picture(struct sdd_server *server, struct sdp_message *message)
{
	struct sdp_record *picture;
	struct sdd_job *job;

	if (sdp_record_decode(message, &sdp_struct_job_picture, SDP_LENIENT, &picture, NULL) < 0)
		return;
	job = sdd_runner_find(server, sdp_record_uint(picture, SDP_JOB_PICTURE_JOB));
	if (!job || sdp_record_int(picture, SDP_JOB_PICTURE_INDEX) < job->pictures_told)
		return;
	job->pictures_told = sdp_record_int(picture, SDP_JOB_PICTURE_INDEX) + 1;
	sdd_events_job_picture(job, picture);
}

static void take_batched(struct sdd_server *server, struct sdp_message *message)
{
	struct sdp_record *batched;
	struct sdd_job *job;

	if (sdp_record_decode(message, &sdp_struct_worker_batched, SDP_LENIENT, &batched, NULL) < 0)
		return;
	job = sdd_runner_find(server, sdp_record_uint(batched, SDP_WORKER_BATCHED_JOB));
	if (job)
		sdd_batch_learn(server, job, sdp_record_int(batched, SDP_WORKER_BATCHED_JOBS),
				sdp_record_double(batched, SDP_WORKER_BATCHED_SPEEDUP));
}

void sdd_running_take_event(struct sdd_server *server, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;

	if (message->method->id == SDP_EVENT_WORKER_PROGRESS)
		take_progress(server, message);
	else if (message->method->id == SDP_EVENT_WORKER_PREVIEW)
		take_preview(server, sdd_steal_pointer(owned));
	else if (message->method->id == SDP_EVENT_WORKER_PICTURE)
		take_picture(server, message);
	else if (message->method->id == SDP_EVENT_WORKER_BATCHED)
		take_batched(server, message);
	else if (message->method->id == SDP_EVENT_WORKER_CACHES)
		sdd_caches_take(server, message);
	else if (message->method->id == SDP_EVENT_WORKER_CHECKPOINT)
		take_checkpoint(server, sdd_steal_pointer(owned));
}

void sdd_running_learn_times(struct sdd_server *server, const struct sdd_job *job)
{
	struct sdd_model *model = sdd_registry_known(&server->registry, job->model);
	const struct sdp_record *timings = sdp_record_struct(job->result, SDP_JOB_RESULT_TIMINGS);
	struct sdd_measured measured;

	if (!model || !timings || job->had_company)
		return;
	measured = (struct sdd_measured){
		.encode_us = sdp_record_uint(timings, SDP_TIMINGS_ENCODE_MS) * 1000,
		.steps_us = sdp_record_uint(timings, SDP_TIMINGS_STEPS_MS) * 1000,
		.decode_us = sdp_record_uint(timings, SDP_TIMINGS_DECODE_MS) * 1000,
		.steps = job->total - job->resumed_step,
	};
	sdd_estimate_update(&model->estimate, &measured);
}
