/*
 * Handlers of models.* and status; see dispatch.h.
 */
#include "daemon/dispatch.h"
#include "daemon/admission.h"
#include "daemon/caches.h"
#include "daemon/residency.h"
#include "daemon/runner.h"
#include "daemon/metrics.h"
#include "daemon/util/clock.h"
#include "daemon/util/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int out_of_memory(struct sdp_error *ret_error)
{
	return sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
}

int sdd_handle_models_list(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_registry *registry = &request->session->server->registry;
	struct sdp_writer writer = SDP_WRITER_INIT;
	const struct sdd_model *model;

	if (sdd_watch_refresh(request->session->server) < 0)
		return out_of_memory(ret_error);
	sdd_hasher_want(request->session->server);
	sdp_writer_response(&writer, request->msgid);
	sdp_writer_list_begin(&writer, "models");
	sdd_list_for_each (model, &registry->models, link) {
		sdp_writer_map_begin(&writer, NULL);
		sdd_residency_write(request->session->server, model, &writer);
		sdp_writer_end(&writer);
	}
	sdp_writer_end(&writer);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

_Static_assert((int)SDP_MODEL_CHECK_MODEL == (int)SDP_MODEL_REFERENCE_MODEL, "first field");

static int request_model(struct sdd_request *request, enum sdd_model_wish wish,
			 struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	const char *name = sdp_record_string(request->record, SDP_MODEL_REFERENCE_MODEL);
	struct sdd_model *model = sdd_registry_find(&server->registry, name);
	const enum sdp_weights_form *form = NULL;
	struct sdd_admission admission;
	enum sdp_weights_form chosen;
	int r;

	if (server->stopping)
		return sdp_error_set(ret_error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
	if (!model)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "model",
				       "no model '%s'; models.list names what there is", name);
	if (wish == SDD_MODEL_LOAD &&
	    sdp_record_given(request->record, SDP_MODEL_REFERENCE_WEIGHTS)) {
		chosen = (enum sdp_weights_form)sdp_record_int(request->record,
							       SDP_MODEL_REFERENCE_WEIGHTS);
		form = &chosen;
	}
	if (wish != SDD_MODEL_UNLOAD &&
	    sdd_admission_check(server, model, NULL, form, &admission, ret_error) < 0)
		return -EINVAL;
	if (wish == SDD_MODEL_LOAD)
		sdd_residency_use(
			server, request->session, model,
			sdp_record_int64(request->record, SDP_MODEL_REFERENCE_KEEP_ALIVE_MS),
			sdp_record_bool(request->record, SDP_MODEL_REFERENCE_PIN));
	if (wish == SDD_MODEL_CHECK)
		sdd_residency_use(server, request->session, model, SDD_KEEP_ALIVE_DEFAULT, false);
	r = sdd_runner_request_model(request->session, request->msgid, model->name, wish, form);
	if (r < 0)
		return out_of_memory(ret_error);
	if (r > 0) {
		sdp_error_set(ret_error, SDP_CODE_BUSY, "%s",
			      wish == SDD_MODEL_CHECK ? "another check waits or runs"
						      : "too many models are being loaded");
		ret_error->retry_ms = 1000;
		return -EINVAL;
	}
	return 0;
}

int sdd_handle_models_load(struct sdd_request *request, struct sdp_error *ret_error)
{
	return request_model(request, SDD_MODEL_LOAD, ret_error);
}

int sdd_handle_models_unload(struct sdd_request *request, struct sdp_error *ret_error)
{
	return request_model(request, SDD_MODEL_UNLOAD, ret_error);
}

int sdd_handle_models_check(struct sdd_request *request, struct sdp_error *ret_error)
{
	return request_model(request, SDD_MODEL_CHECK, ret_error);
}

static void write_worker(const struct sdd_supervisor *supervisor, struct sdp_writer *writer)
{
	sdp_writer_map_begin(writer, "worker");
	sdp_writer_string(writer, "state", sdp_enum_worker_state.values[supervisor->state]);
	sdp_writer_int(writer, "pid", supervisor->pid);
	sdp_writer_uint(writer, "restarts", supervisor->n_restarts);
	sdp_writer_string(writer, "engine", supervisor->engine);
	if (supervisor->pid > 0)
		sdp_writer_uint(writer, "rss_bytes", sdd_resident_bytes(supervisor->pid));
	sdp_writer_end(writer);
}

int sdd_handle_status(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	struct sdp_writer writer = SDP_WRITER_INIT;
	const struct sdd_model *model;

	sdp_writer_response(&writer, request->msgid);
	sdp_writer_string(&writer, "version", SDD_VERSION);
	sdp_writer_string(&writer, "instance", server->instance);
	sdp_writer_int(&writer, "pid", getpid());
	sdp_writer_uint(&writer, "uptime_ms", (sdd_now_us() - server->started_us) / 1000);
	sdp_writer_uint(&writer, "rss_bytes", sdd_resident_bytes(getpid()));
	sdp_writer_uint(&writer, "connections", server->connections.used);
	sdp_writer_uint(&writer, "memory_budget", server->memory_budget_bytes);
	sdp_writer_map_begin(&writer, "jobs");
	sdp_writer_uint(&writer, "queued", server->queue.length);
	sdp_writer_uint(&writer, "running", server->runner.n_jobs);
	sdp_writer_uint(&writer, "done", server->n_done);
	sdp_writer_uint(&writer, "failed", server->n_failed);
	sdp_writer_uint(&writer, "cancelled", server->n_cancelled);
	sdp_writer_end(&writer);
	write_worker(&server->supervisor, &writer);
	sdp_writer_list_begin(&writer, "models");
	sdd_list_for_each (model, &server->registry.models, link) {
		if (model->state != SDP_MODEL_STATE_LOADED &&
		    model->state != SDP_MODEL_STATE_LOADING)
			continue;
		sdp_writer_map_begin(&writer, NULL);
		sdd_residency_write(server, model, &writer);
		sdp_writer_end(&writer);
	}
	sdp_writer_end(&writer);
	sdd_caches_write(server, &writer);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

/* text: taken. */
static int answer_text(struct sdd_request *request, char *text, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (!text)
		return out_of_memory(ret_error);
	sdp_writer_response(&writer, request->msgid);
	sdp_writer_string(&writer, "text", text);
	free(text);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

int sdd_handle_metrics(struct sdd_request *request, struct sdp_error *ret_error)
{
	return answer_text(request, sdd_metrics_text(request->session->server), ret_error);
}

int sdd_handle_config(struct sdd_request *request, struct sdp_error *ret_error)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return out_of_memory(ret_error);
	sdd_config_dump(request->session->server->config, file);
	if (fclose(file) != 0) {
		free(text);
		text = NULL;
	}
	return answer_text(request, text, ret_error);
}
