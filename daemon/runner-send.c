/*
 * What the runner writes to the worker, a request a function; see runner-send.h.
 */
#include "daemon/runner-send.h"
#include "daemon/model-stamp.h"
#include "daemon/util/clock.h"

static void begin(struct sdd_server *server, int doing)
{
	server->runner.doing = doing;
	server->runner.op_started_us = sdd_now_us();
	sdd_supervisor_set_busy(&server->supervisor, true);
}

/* Hand over a request; when that fails the worker goes, and its loss answers everybody. */
static void send_request(struct sdd_server *server, struct sdp_writer *writer)
{
	if (sdd_supervisor_send(&server->supervisor, writer) < 0)
		sdd_supervisor_kill(&server->supervisor, "it could not be given its work");
	sdp_writer_clear(writer);
}

static uint32_t next_msgid(struct sdd_server *server)
{
	/* 0 belongs to heartbeats */
	if (++server->runner.last_msgid == 0)
		server->runner.last_msgid = 1;
	return server->runner.last_msgid;
}

void sdd_runner_send_load(struct sdd_server *server, struct sdd_model *model)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	snprintf(server->runner.model, sizeof(server->runner.model), "%s", model->name);
	model->state = SDP_MODEL_STATE_LOADING;
	model->loaded_stamp = sdd_model_stamp(model->path);
	model->error[0] = '\0';
	server->runner.msgid = next_msgid(server);
	sdp_writer_request(&writer, server->runner.msgid, "worker.load");
	sdp_writer_string(&writer, "model", model->name);
	sdp_writer_string(&writer, "path", model->path);
	if (model->has_chosen_weights)
		sdp_writer_string(&writer, "weights",
				  sdp_enum_weights_form.values[model->chosen_weights]);
	begin(server, SDD_RUNNER_LOADING);
	send_request(server, &writer);
}

void sdd_runner_send_unload(struct sdd_server *server, struct sdd_model *model)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	snprintf(server->runner.model, sizeof(server->runner.model), "%s", model->name);
	server->runner.msgid = next_msgid(server);
	sdp_writer_request(&writer, server->runner.msgid, "worker.unload");
	sdp_writer_string(&writer, "model", model->name);
	begin(server, SDD_RUNNER_UNLOADING);
	send_request(server, &writer);
}

void sdd_runner_send_preview_request(struct sdd_server *server, const struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 0, "worker.request_preview");
	sdp_writer_uint(&writer, "job", job->id);
	send_request(server, &writer);
}

void sdd_runner_send_run(struct sdd_server *server, struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	job->attempts++;
	job->run_msgid = next_msgid(server);
	sdp_writer_request(&writer, job->run_msgid, "worker.run");
	sdp_writer_record(&writer, job->record, &sdp_struct_worker_run, 0);
	sdp_writer_uint(&writer, "job", job->id);
	sdp_writer_bool(&writer, "staged", job->staged);
	sdp_writer_uint(&writer, "user", job->user->uid);
	sdp_writer_list_begin(&writer, "roots");
	for (size_t i = 0; i < server->registry.n_roots; i++)
		sdp_writer_string(&writer, NULL, server->registry.roots[i]);
	sdp_writer_end(&writer);
	if (job->kept_state)
		sdp_writer_pixels(&writer, "resume", job->kept_state);
	if (server->runner.doing != SDD_RUNNER_RUNNING)
		begin(server, SDD_RUNNER_RUNNING);
	send_request(server, &writer);
	if (job->preview_requested)
		sdd_runner_send_preview_request(server, job);
}

void sdd_runner_send_check(struct sdd_server *server, const struct sdd_model *model)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	snprintf(server->runner.model, sizeof(server->runner.model), "%s", model->name);
	server->runner.msgid = next_msgid(server);
	sdp_writer_request(&writer, server->runner.msgid, "worker.check");
	sdp_writer_string(&writer, "model", model->name);
	begin(server, SDD_RUNNER_CHECKING);
	send_request(server, &writer);
}

void sdd_runner_send_yield(struct sdd_server *server, struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	job->yielding = true;
	sdp_writer_request(&writer, 0, "worker.yield");
	sdp_writer_uint(&writer, "job", job->id);
	send_request(server, &writer);
}

void sdd_runner_send_cancel(struct sdd_server *server, const struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 0, "worker.cancel");
	sdp_writer_uint(&writer, "job", job->id);
	send_request(server, &writer);
}
