/*
 * Requests of clients to their handlers, and the small handlers themselves; see dispatch.h.
 */
#include "daemon/dispatch.h"
#include "daemon/jobs.h"
#include "daemon/runner.h"

#include <string.h>

static int handle_hello(struct sdd_request *request, struct sdp_error *ret_error)
{
	const struct sdd_config *config = request->session->server->config;
	const struct sdp_record *record = request->record;
	struct sdp_writer writer = SDP_WRITER_INIT;
	int64_t lowest, highest;

	if (request->session->state == SDD_SESSION_READY)
		return sdp_error_set(ret_error, SDP_CODE_BAD_REQUEST,
				     "hello was said already on this connection");
	lowest = sdp_record_item(record, SDP_HELLO_API, 0)->integer;
	highest = sdp_record_item(record, SDP_HELLO_API, 1)->integer;
	if (lowest > highest)
		return sdp_error_field(ret_error, SDP_CODE_BAD_VALUE, "api",
				       "api is [lowest, highest]; [%lld, %lld] is the wrong way "
				       "round",
				       (long long)lowest, (long long)highest);
	if (lowest > SDP_API_LEVEL || highest < SDP_API_MINIMUM)
		return sdp_error_field(ret_error, SDP_CODE_UNSUPPORTED, "api",
				       "no common API level: this daemon speaks %d to %d, the "
				       "client %lld to %lld",
				       SDP_API_MINIMUM, SDP_API_LEVEL, (long long)lowest,
				       (long long)highest);
	for (size_t i = 0; i < sdp_record_count(record, SDP_HELLO_FEATURES); i++)
		if (strcmp(sdp_record_item(record, SDP_HELLO_FEATURES, i)->string.text, "fd") == 0)
			request->session->receives_fds = true;
	request->session->state = SDD_SESSION_READY;

	sdp_writer_response(&writer, request->msgid);
	sdp_writer_string(&writer, "server", "sdd");
	sdp_writer_string(&writer, "version", SDD_VERSION);
	sdp_writer_int(&writer, "api", highest < SDP_API_LEVEL ? highest : SDP_API_LEVEL);
	sdp_writer_list_begin(&writer, "features");
	sdp_writer_string(&writer, NULL, "fd");
	sdp_writer_string(&writer, NULL, "inline");
	sdp_writer_end(&writer);
	sdp_writer_map_begin(&writer, "limits");
	sdp_writer_uint(&writer, "message_bytes", SDP_CONTROL_MAX);
	sdp_writer_uint(&writer, "inline_bytes", SDP_INLINE_MAX);
	sdp_writer_uint(&writer, "prompt_bytes",
			(uint64_t)sdp_struct_job_parameters.fields[SDP_JOB_PARAMETERS_PROMPT].max);
	sdp_writer_uint(&writer, "image_side",
			(uint64_t)sdp_struct_pixels.fields[SDP_PIXELS_WIDTH].max);
	sdp_writer_uint(&writer, "jobs", config->max_jobs);
	sdp_writer_uint(&writer, "jobs_user", config->max_jobs_per_user);
	sdp_writer_uint(&writer, "jobs_connection", config->max_waiting_per_connection);
	sdp_writer_uint(&writer, "result_ms", config->result_ttl_us / 1000);
	sdp_writer_end(&writer);
	sdp_writer_string(&writer, "instance", request->session->server->instance);
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

static int handle_ping(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_response(&writer, request->msgid);
	sdp_writer_string(&writer, "token", sdp_record_string(request->record, SDP_PING_TOKEN));
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

static int handle_api_info(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_response(&writer, request->msgid);
	sdp_writer_int(&writer, "api", SDP_API_LEVEL);
	sdp_writer_string(&writer, "metadata", sdp_api_json());
	sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

static int handle_events_subscribe(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdd_session *session = request->session;

	session->subscribed_jobs = sdp_record_bool(request->record, SDP_EVENTS_SUBSCRIBE_JOBS);
	session->subscribed_models = sdp_record_bool(request->record, SDP_EVENTS_SUBSCRIBE_MODELS);
	if (session->subscribed_models)
		sdd_hasher_want(session->server);
	session->subscribed_previews =
		sdp_record_bool(request->record, SDP_EVENTS_SUBSCRIBE_PREVIEWS);
	sdp_writer_response(&writer, request->msgid);
	sdd_session_reply(session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return 0;
}

typedef int (*handler_fn)(struct sdd_request *request, struct sdp_error *ret_error);

static const handler_fn handlers[SDP_METHOD_COUNT] = {
	[SDP_METHOD_HELLO] = handle_hello,
	[SDP_METHOD_API_INFO] = handle_api_info,
	[SDP_METHOD_PING] = handle_ping,
	[SDP_METHOD_STATUS] = sdd_handle_status,
	[SDP_METHOD_METRICS] = sdd_handle_metrics,
	[SDP_METHOD_MODELS_LIST] = sdd_handle_models_list,
	[SDP_METHOD_ADAPTERS_LIST] = sdd_handle_adapters_list,
	[SDP_METHOD_MODELS_LOAD] = sdd_handle_models_load,
	[SDP_METHOD_MODELS_UNLOAD] = sdd_handle_models_unload,
	[SDP_METHOD_PROMPT_COUNT] = sdd_handle_prompt_count,
	[SDP_METHOD_MODELS_CHECK] = sdd_handle_models_check,
	[SDP_METHOD_CONFIG] = sdd_handle_config,
	[SDP_METHOD_JOB_SUBMIT] = sdd_handle_job_submit,
	[SDP_METHOD_JOB_PLAN] = sdd_handle_job_plan,
	[SDP_METHOD_JOB_CANCEL] = sdd_handle_job_cancel,
	[SDP_METHOD_JOB_GET] = sdd_handle_job_get,
	[SDP_METHOD_JOB_REQUEST_PREVIEW] = sdd_handle_job_request_preview,
	[SDP_METHOD_JOB_LIST] = sdd_handle_job_list,
	[SDP_METHOD_EVENTS_SUBSCRIBE] = handle_events_subscribe,
};

static int handle(struct sdd_request *request, struct sdp_error *ret_error)
{
	const struct sdp_method *method = request->message->method;
	int r;

	/* what passes between us and the worker does not exist for clients */
	if (!method || method->internal || !handlers[method->id])
		return sdp_error_set(ret_error, SDP_CODE_UNKNOWN_METHOD,
				     "no method '%s'; api.info lists all", request->message->name);
	if (request->session->state == SDD_SESSION_NEW && method->id != SDP_METHOD_HELLO)
		return sdp_error_set(ret_error, SDP_CODE_BAD_REQUEST,
				     "the first request must be hello, not %s", method->name);
	r = sdp_record_decode(request->message, method->params, SDP_STRICT, &request->record,
			      ret_error);
	if (r < 0) {
		if (r == -ENOMEM)
			sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
		return r;
	}
	return handlers[method->id](request, ret_error);
}

void sdd_dispatch(struct sdd_session *session, struct sdp_message *message)
{
	struct sdd_server *server = session->server;
	struct sdd_request request = {
		.session = session, .message = message, .msgid = message->msgid};
	struct sdp_error error = {0};

	if (message->kind != SDP_REQUEST) {
		sdp_error_set(&error, SDP_CODE_BAD_MESSAGE,
			      "clients send requests only; this was %s",
			      message->kind == SDP_EVENT ? "an event" : "a response");
		sdd_session_fail(session, 0, &error);
		sdd_session_close(session, "it sent something that is no request");
	} else if (handle(&request, &error) < 0) {
		sdd_session_fail(session, request.msgid, &error);
	}
	sdp_message_free(request.message);
	sdd_runner_kick(server);
}
