/*
 * The worker's programme; see runner.h.
 */
#include "daemon/runner.h"
#include "daemon/admission.h"
#include "daemon/model-stamp.h"
#include "daemon/batch.h"
#include "daemon/caches.h"
#include "daemon/events.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/message-ids.h"
#include "daemon/model-requests.h"
#include "daemon/questions.h"
#include "daemon/residency.h"
#include "daemon/runner-send.h"
#include "daemon/util/clock.h"

#include <inttypes.h>
#include <string.h>

static void leave(struct sdd_server *server, struct sdd_model *victim,
		  const struct sdd_model *wanted)
{
	const struct sdd_log_about about = {.model = victim->name};

	sdd_log(LOG_INFO, &about, "model leaves: '%s' needs its room", wanted->name);
	sdd_runner_send_unload(server, victim);
}

/* A model larger than the budget is mapped all the same where its jobs run part after part. */
static uint64_t room_to_load(struct sdd_server *server, struct sdd_model *model)
{
	struct sdd_admission admission;

	if (model->weight_bytes <= server->memory_budget_bytes ||
	    sdd_admission_check(server, model, NULL, NULL, &admission, NULL) < 0)
		return model->weight_bytes;
	return admission.needed_bytes;
}

/* A model in memory whose files are others now leaves; true when it was told to. */
static bool drop_stale(struct sdd_server *server, struct sdd_model *model)
{
	const struct sdd_log_about about = {.model = model->name};

	if (model->state != SDP_MODEL_STATE_LOADED ||
	    model->loaded_stamp == sdd_model_stamp(model->path))
		return false;
	sdd_log(LOG_INFO, &about, "model leaves: its files have changed");
	sdd_runner_send_unload(server, model);
	return true;
}

/* What a request chooses holds from its turn on. A model that is there in another form leaves; true when it was told to. */
static bool choose_form(struct sdd_server *server, struct sdd_model *model,
			const struct sdd_model_request *request)
{
	const struct sdd_log_about about = {.model = model->name};

	if (request->wish == SDD_MODEL_UNLOAD)
		model->has_chosen_weights &= !request->session;
	if (!request->has_form)
		return false;
	model->has_chosen_weights = true;
	model->chosen_weights = request->form;
	if (model->state != SDP_MODEL_STATE_LOADED || model->weights == request->form)
		return false;
	sdd_log(LOG_INFO, &about, "model leaves: its weights are wanted in %s",
		sdp_enum_weights_form.values[request->form]);
	sdd_runner_send_unload(server, model);
	return true;
}

/* Answers requests that need no work; true when one was sent to the worker. */
static bool serve_model_request(struct sdd_server *server)
{
	struct sdd_model_request *request;
	struct sdd_model *model, *victim;
	struct sdp_error error;
	int r;

	while ((request =
			sdd_list_first(&server->runner.requests, struct sdd_model_request, link))) {
		model = sdd_registry_find(&server->registry, request->model);
		if (!model) {
			sdp_error_field(&error, SDP_CODE_NOT_FOUND, "model",
					"the model '%s' has vanished", request->model);
			sdd_model_request_answer(server, request, NULL, NULL, &error);
		} else if (choose_form(server, model, request) ||
			   (request->wish != SDD_MODEL_UNLOAD && !request->was_loaded &&
			    drop_stale(server, model))) {
			return true;
		} else if (request->wish == SDD_MODEL_CHECK &&
			   model->state == SDP_MODEL_STATE_LOADED) {
			sdd_runner_send_check(server, model);
			return true;
		} else if ((request->wish == SDD_MODEL_UNLOAD) ==
			   (model->state != SDP_MODEL_STATE_LOADED)) {
			sdd_model_request_answer(server, request, model, NULL, NULL);
		} else if (request->wish == SDD_MODEL_UNLOAD) {
			sdd_runner_send_unload(server, model);
			return true;
		} else {
			r = sdd_residency_make_room(server, model, room_to_load(server, model),
						    &victim, &error);
			if (r > 0)
				leave(server, victim, model);
			else if (r == 0)
				sdd_runner_send_load(server, model);
			if (r >= 0)
				return true;
			sdd_model_request_answer(server, request, NULL, NULL, &error);
		}
	}
	return false;
}

static void note_company(struct sdd_server *server)
{
	struct sdd_job *job;

	if (server->runner.n_jobs == 1)
		sdd_runner_job(server)->had_company = false;
	else
		sdd_list_for_each (job, &server->runner.jobs, link)
			job->had_company = true;
}

static void start_job(struct sdd_server *server, struct sdd_job *job)
{
	struct sdd_model *model = sdd_registry_find(&server->registry, job->model);
	struct sdd_admission admission = {0};
	struct sdp_error error;

	/* who joins another job takes what that one has; else the files as they are now, and room */
	if (model && server->runner.n_jobs == 0) {
		struct sdd_model *victim;
		int r;

		if (drop_stale(server, model))
			return;
		r = sdd_admission_check(server, model, job->record, NULL, &admission, &error);
		if (r >= 0)
			r = sdd_residency_make_room(server, model, admission.needed_bytes, &victim,
						    &error);
		if (r > 0) {
			/* the job keeps its place until there is room */
			leave(server, victim, model);
			return;
		}
		if (r < 0) {
			sdd_queue_take(&server->queue, job);
			sdd_jobs_finish(server, job, SDP_JOB_STATE_FAILED, &error);
			return;
		}
	}
	sdd_queue_take(&server->queue, job);
	if (!model) {
		sdp_error_field(&error, SDP_CODE_NOT_FOUND, "model", "the model '%s' has vanished",
				job->model);
		sdd_jobs_finish(server, job, SDP_JOB_STATE_FAILED, &error);
		return;
	}
	job->staged = admission.staged;
	sdd_job_set_state(job, SDP_JOB_STATE_RUNNING);
	sdd_job_refund_waiting(job);
	job->started_us = sdd_now_us();
	job->waited_us += job->started_us - job->queued_us;
	job->steps_started_us = 0;
	job->step = job->resumed_step = job->kept_step;
	sdd_list_append(&server->runner.jobs, &job->link);
	server->runner.n_jobs++;
	job->yielding = false;
	note_company(server);
	sdd_events_job_started(server, job);
	sdd_events_positions(server);
	sdd_server_notify_status(server);
	job->stage = SDP_STAGE_LOAD;
	sdd_residency_use(server, job->session, model, job->keep_alive_ms, false);
	if (model->state == SDP_MODEL_STATE_LOADED) {
		sdd_runner_send_run(server, job);
	} else {
		model->state =
			SDP_MODEL_STATE_LOADING; /* so that no scan of the folders frees it */
		sdd_events_job_progress(server, job);
		sdd_runner_send_load(server, model);
	}
}

static bool has_work(struct sdd_server *server)
{
	return server->queue.length > 0 || !sdd_list_is_empty(&server->runner.requests) ||
	       sdd_questions_are_waiting(server);
}

/* Who wants to know what is wrong with a model shall not wait for the end of a batch. */
static void make_way_for_check(struct sdd_server *server)
{
	struct sdd_job *job;

	if (server->runner.doing != SDD_RUNNER_RUNNING || !sdd_model_requests_check_waits(server))
		return;
	sdd_list_for_each (job, &server->runner.jobs, link)
		if (!job->yielding && !job->cancel_requested &&
		    job->priority > SDP_PRIORITY_INTERACTIVE)
			sdd_runner_send_yield(server, job);
}

/* While jobs run: some make room, or the next one joins them. */
static void look_at_running(struct sdd_server *server)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &server->runner.jobs, link)
		if (!job->yielding && !job->cancel_requested &&
		    sdd_queue_interrupts(&server->queue, job))
			sdd_runner_send_yield(server, job);
	/* who waits for a model must not wait for ever behind jobs that come one after the other */
	if (!sdd_list_is_empty(&server->runner.requests) || server->supervisor.dying)
		return;
	while ((job = sdd_queue_next(&server->queue)) && sdd_batch_joins(server, job)) {
		sdd_batch_note_join(server, job);
		server->n_joined++;
		start_job(server, job);
	}
}

void sdd_runner_kick(struct sdd_server *server)
{
	struct sdd_runner *runner = &server->runner;
	struct sdd_job *job;

	if (server->stopping || runner->kicking)
		return;
	/* what happens below may come back here */
	runner->kicking = true;
	make_way_for_check(server);
	sdd_questions_send(server);
	while (runner->doing == SDD_RUNNER_IDLE && has_work(server)) {
		if (server->supervisor.dying)
			break;
		if (server->supervisor.state != SDP_WORKER_STATE_IDLE) {
			sdd_supervisor_want(&server->supervisor);
			break;
		}
		if (serve_model_request(server))
			break;
		job = sdd_queue_next(&server->queue);
		if (job)
			start_job(server, job);
	}
	if (runner->doing == SDD_RUNNER_IDLE && !has_work(server))
		sdd_supervisor_unwant(&server->supervisor);
	if (runner->doing == SDD_RUNNER_RUNNING)
		look_at_running(server);
	runner->kicking = false;
}

static void rest(struct sdd_server *server)
{
	server->runner.doing = SDD_RUNNER_IDLE;
	sdd_supervisor_set_busy(&server->supervisor, false);
	sdd_runner_kick(server);
	if (server->stopping)
		sdd_server_check_stopped(server);
}

/* Its model's time without a client begins with the end of the work, not with its begin. */
static void note_use(struct sdd_server *server, const struct sdd_job *job)
{
	struct sdd_model *model = sdd_registry_known(&server->registry, job->model);

	if (model && model->state == SDP_MODEL_STATE_LOADED)
		sdd_residency_use(server, job->session, model, job->keep_alive_ms, false);
}

static void end_job(struct sdd_server *server, struct sdd_job *job, enum sdp_job_state state,
		    const struct sdp_error *error)
{
	sdd_runner_drop(server, job);
	note_use(server, job);
	sdd_jobs_finish(server, job, state, error);
}

/* Back into the queue: it goes on when its turn comes. */
static void requeue(struct sdd_server *server, struct sdd_job *job)
{
	const struct sdd_log_about about = {.job = job->id, .model = job->model};

	if (job->kept_step > job->resumed_step)
		job->attempts = 0;
	sdd_log(LOG_INFO, &about, "job waits to go on behind step %d of %d", job->kept_step,
		job->total);
	sdd_runner_drop(server, job);
	job->queued_us = sdd_now_us();
	sdd_job_set_state(job, SDP_JOB_STATE_QUEUED);
	job->yielding = false;
	server->n_interrupted++;
	sdd_queue_insert(&server->queue, job);
	sdd_events_positions(server);
}

static void take_loaded(struct sdd_server *server, struct sdp_message *message)
{
	struct sdd_model *model = sdd_registry_known(&server->registry, server->runner.model);
	struct sdd_log_about about = {.model = server->runner.model,
				      .worker_pid = server->supervisor.pid};
	struct sdp_record *info = NULL;
	struct sdp_error error = message->error;
	struct sdd_job *job = sdd_runner_job(server);

	if (!message->failed &&
	    sdp_record_decode(message, &sdp_struct_model_info, SDP_LENIENT, &info, &error) < 0)
		info = NULL;
	if (!model || !info) {
		if (model) {
			model->state = SDP_MODEL_STATE_FAILED;
			snprintf(model->error, sizeof(model->error), "%s", error.message);
			sdd_events_model(server, model, true);
		}
		about.message_id = SDD_MESSAGE_MODEL_REFUSED;
		sdd_log(LOG_WARNING, &about, "model cannot be loaded: %s", error.message);
		sdd_model_requests_fail_load(server, server->runner.model, &error);
		if (job)
			end_job(server, job, SDP_JOB_STATE_FAILED, &error);
		rest(server);
		return;
	}
	model->state = SDP_MODEL_STATE_LOADED;
	sdd_model_learn(model, info);
	model->used_us = sdd_now_us();
	server->n_loads++;
	sdd_residency_update(server);
	sdd_log(LOG_INFO, &about, "model loaded in %" PRIu64 " ms, %" PRIu64 " MiB of weights",
		model->load_ms, model->weight_bytes >> 20);
	sdd_events_model(server, model, true);
	sdd_model_requests_answer(server, model->name, SDD_MODEL_LOAD, model, NULL, NULL);
	sdd_model_requests_note_loaded(server, model->name);
	if (job)
		job->load_us += sdd_now_us() - server->runner.op_started_us;
	if (job && !sdd_queue_interrupts(&server->queue, job)) {
		sdd_runner_send_run(server, job);
	} else {
		if (job)
			requeue(server, job);
		rest(server);
	}
}

static void take_unloaded(struct sdd_server *server, const struct sdp_message *message)
{
	struct sdd_model *model = sdd_registry_known(&server->registry, server->runner.model);
	const struct sdd_log_about about = {.model = server->runner.model,
					    .worker_pid = server->supervisor.pid};

	if (model && !message->failed) {
		model->state = SDP_MODEL_STATE_UNLOADED;
		sdd_residency_update(server);
		sdd_log(LOG_INFO, &about, "model unloaded");
		sdd_events_model(server, model, false);
		if (!model->seen)
			sdd_watch_look(server);
	}
	sdd_model_requests_answer(server, server->runner.model, SDD_MODEL_UNLOAD, model, NULL,
				  message->failed ? &message->error : NULL);
	rest(server);
}

/* A backend that fails for no reason of the request's may be broken for good. */
static void kill_if_faulty(struct sdd_server *server, const struct sdp_error *error)
{
	if (error && error->code == SDP_CODE_INTERNAL)
		sdd_supervisor_kill(&server->supervisor, "its engine failed");
}

static void take_checked(struct sdd_server *server, struct sdp_message *message)
{
	struct sdp_error error = message->error;
	struct sdp_record *health = NULL;
	const bool good = !message->failed && sdp_record_decode(message, &sdp_struct_model_health,
								SDP_LENIENT, &health, &error) >= 0;

	sdd_model_requests_answer(server, server->runner.model, SDD_MODEL_CHECK, NULL, health,
				  good ? NULL : &error);
	kill_if_faulty(server, good ? NULL : &error);
	rest(server);
}

static struct sdd_job *find_run(const struct sdd_server *server, uint32_t msgid)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &server->runner.jobs, link)
		if (job->run_msgid == msgid)
			return job;
	return NULL;
}

/* Takes the message. */
static void take_result(struct sdd_server *server, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;
	struct sdd_job *job = find_run(server, message->msgid);
	struct sdp_error error;

	if (!job)
		return; /* the answer to worker.cancel, say */
	if (message->failed) {
		bool cancelled = message->error.code == SDP_CODE_CANCELLED;

		error = cancelled && job->cancel_requested ? job->error : message->error;
		end_job(server, job, cancelled ? SDP_JOB_STATE_CANCELLED : SDP_JOB_STATE_FAILED,
			&error);
		kill_if_faulty(server, &error);
	} else if (sdp_record_decode(message, &sdp_struct_job_result, SDP_LENIENT, &job->result,
				     &error) < 0) {
		job->result = NULL;
		end_job(server, job, SDP_JOB_STATE_FAILED, &error);
	} else if (sdp_record_int(job->result, SDP_JOB_RESULT_STATE) == SDP_JOB_STATE_QUEUED) {
		job->result = NULL;
		job->attempts = 0; /* nothing died */
		if (job->cancel_requested) {
			error = job->error;
			end_job(server, job, SDP_JOB_STATE_CANCELLED, &error);
		} else {
			requeue(server, job); /* it made room for another one */
		}
	} else {
		job->result_message = sdd_steal_pointer(owned);
		sdd_running_learn_times(server, job);
		end_job(server, job, SDP_JOB_STATE_DONE, NULL);
	}
	if (server->runner.n_jobs == 0)
		rest(server);
	else
		sdd_runner_kick(server);
}

static void on_message(void *userdata, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;
	struct sdd_server *server = userdata;

	if (message->kind == SDP_EVENT && message->method) {
		sdd_running_take_event(server, sdd_steal_pointer(owned));
		return;
	}
	if (message->kind == SDP_RESPONSE && sdd_questions_take(server, message))
		return;
	if (message->kind != SDP_RESPONSE)
		return;
	if (server->runner.doing != SDD_RUNNER_RUNNING && message->msgid != server->runner.msgid)
		return; /* the answer to worker.cancel */
	switch (server->runner.doing) {
	case SDD_RUNNER_LOADING:
		take_loaded(server, message);
		make_way_for_check(server);
		break;
	case SDD_RUNNER_UNLOADING:
		take_unloaded(server, message);
		break;
	case SDD_RUNNER_CHECKING:
		take_checked(server, message);
		break;
	case SDD_RUNNER_RUNNING:
		take_result(server, sdd_steal_pointer(owned));
		break;
	default:
		break;
	}
}

static void on_ready(void *userdata)
{
	sdd_runner_kick(userdata);
}

/* All models went with it. */
static void forget_models(struct sdd_server *server)
{
	struct sdd_model *model;

	sdd_list_for_each (model, &server->registry.models, link) {
		if (model->state != SDP_MODEL_STATE_LOADED &&
		    model->state != SDP_MODEL_STATE_LOADING)
			continue;
		model->state = SDP_MODEL_STATE_UNLOADED;
		sdd_events_model(server, model, false);
	}
}

/* As long as each worker gets further than the one before. A job that kills every worker at the same place ends. */
static bool may_run_again(const struct sdd_job *job)
{
	return job->kept_step > job->resumed_step || job->attempts < SDD_JOB_ATTEMPTS_MAX;
}

static void on_lost(void *userdata, const char *why)
{
	struct sdd_server *server = userdata;
	struct sdd_runner *runner = &server->runner;
	const bool company = runner->n_jobs > 1;
	const int doing = runner->doing;
	struct sdp_error error, cancelled;
	struct sdd_job *job;

	runner->doing = SDD_RUNNER_IDLE;
	forget_models(server);
	sdd_caches_lost(server);
	sdp_error_set(&error, SDP_CODE_WORKER_LOST,
		      "the engine process was lost while it worked on this: %s; "
		      "it is started again, submit the job once more",
		      why);
	if (doing == SDD_RUNNER_LOADING || doing == SDD_RUNNER_CHECKING)
		sdd_model_requests_fail_load(server, runner->model, &error);
	else if (doing == SDD_RUNNER_UNLOADING)
		sdd_model_requests_answer(server, runner->model, SDD_MODEL_UNLOAD, NULL, NULL,
					  &error);
	sdd_questions_fail(server, &error);
	while ((job = sdd_runner_job(server))) {
		if (company) {
			/* nobody knows whose fault it was */
			job->keeps_apart = true;
			job->attempts--;
		}
		if (job->cancel_requested) {
			cancelled = job->error;
			end_job(server, job, SDP_JOB_STATE_CANCELLED, &cancelled);
		} else if (doing == SDD_RUNNER_RUNNING && may_run_again(job) && !server->stopping) {
			requeue(server, job);
		} else {
			end_job(server, job, SDP_JOB_STATE_FAILED, &error);
		}
	}
	sdd_runner_kick(server);
	if (server->stopping)
		sdd_server_check_stopped(server);
}

static void on_unusable(void *userdata, const char *why)
{
	struct sdd_server *server = userdata;
	struct sdp_error error;
	struct sdd_job *job;

	sdp_error_set(&error, SDP_CODE_WORKER_LOST,
		      "the engine process cannot be started: %s; the daemon's log says more", why);
	while ((job = sdd_queue_next(&server->queue))) {
		sdd_queue_remove(&server->queue, job);
		sdd_jobs_finish(server, job, SDP_JOB_STATE_FAILED, &error);
	}
	sdd_model_requests_fail_all(server, &error);
	sdd_questions_fail(server, &error);
}

const struct sdd_supervisor_handlers sdd_runner_handlers = {
	.ready = on_ready,
	.message = on_message,
	.lost = on_lost,
	.unusable = on_unusable,
};

void sdd_runner_init(struct sdd_server *server)
{
	sdd_list_init(&server->runner.requests);
	sdd_list_init(&server->runner.jobs);
}

void sdd_runner_clear(struct sdd_server *server)
{
	struct sdd_model_request *request, *following;
	struct sdd_job *job;

	sdd_list_for_each_safe (request, following, &server->runner.requests, link) {
		sdd_list_remove(&request->link);
		free(request);
	}
	while ((job = sdd_runner_job(server))) {
		sdd_runner_drop(server, job);
		sdd_job_free(job);
	}
}

void sdd_runner_cancel(struct sdd_server *server, struct sdd_job *job,
		       const struct sdp_error *error)
{
	if (server->runner.doing == SDD_RUNNER_LOADING) {
		/* a load cannot be stopped, but nobody has to wait for it; the model stays for the next job */
		end_job(server, job, SDP_JOB_STATE_CANCELLED, error);
		return;
	}
	if (job->cancel_requested)
		return;
	job->cancel_requested = true;
	job->error = *error;
	sdd_runner_send_cancel(server, job);
}

void sdd_runner_request_preview(struct sdd_server *server, struct sdd_job *job)
{
	const bool asked = job->preview_requested;

	job->preview_requested = true;
	if (!asked && job->state == SDP_JOB_STATE_RUNNING &&
	    server->runner.doing == SDD_RUNNER_RUNNING)
		sdd_runner_send_preview_request(server, job);
}

void sdd_runner_forget_session(struct sdd_server *server, const struct sdd_session *session)
{
	struct sdd_model_request *request;

	sdd_list_for_each (request, &server->runner.requests, link)
		if (request->session == session)
			request->session = NULL;
}

void sdd_runner_stop(struct sdd_server *server)
{
	struct sdp_error error;

	sdp_error_set(&error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
	sdd_model_requests_fail_all(server, &error);
	sdd_questions_fail(server, &error);
}
