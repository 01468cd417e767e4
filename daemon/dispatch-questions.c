/*
 * Handlers of prompt.count and job.plan, which pass on to the worker what a client asks; see questions.h.
 */
#include "daemon/dispatch.h"
#include "daemon/questions.h"

#include <string.h>

static int refuse(const struct sdd_request *request, const char *name,
		  const struct sdd_model *model, struct sdp_error *ret_error)
{
	if (request->session->server->stopping)
		return sdp_error_set(ret_error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
	if (!model)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "model",
				       "no model '%s'; models.list names what there is", name);
	return 0;
}

int sdd_handle_prompt_count(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	const struct sdp_record *record = request->record;
	const char *name = sdp_record_string(record, SDP_PROMPT_COUNT_MODEL);
	const struct sdd_model *model = sdd_registry_find(&server->registry, name);
	struct sdp_writer writer = SDP_WRITER_INIT;
	int r;

	r = refuse(request, name, model, ret_error);
	if (r < 0)
		return r;
	sdp_writer_request(&writer, sdd_questions_msgid(server), "worker.count");
	sdp_writer_string(&writer, "model", model->name);
	sdp_writer_string(&writer, "path", model->path);
	sdp_writer_string(&writer, "prompt", sdp_record_string(record, SDP_PROMPT_COUNT_PROMPT));
	sdp_writer_string(&writer, "negative_prompt",
			  sdp_record_string(record, SDP_PROMPT_COUNT_NEGATIVE_PROMPT));
	sdp_writer_list_begin(&writer, "roots");
	for (size_t i = 0; i < server->registry.n_roots; i++)
		sdp_writer_string(&writer, NULL, server->registry.roots[i]);
	sdp_writer_end(&writer);
	return sdd_questions_ask(request, &writer, &sdp_struct_prompt_count_result, ret_error);
}

static int check_plan(struct sdp_record *record, struct sdp_error *ret_error)
{
	const struct sdp_rect canvas = sdp_record_rect(record, SDP_JOB_PARAMETERS_CANVAS);
	const int kind = sdp_record_int(record, SDP_JOB_PARAMETERS_KIND);

	if (kind != SDP_JOB_KIND_INPAINT && kind != SDP_JOB_KIND_OUTPAINT)
		return sdp_error_field(ret_error, SDP_CODE_BAD_REQUEST, "kind",
				       "%s jobs have no part of a canvas to plan; inpaint and "
				       "outpaint have",
				       sdp_enum_job_kind.values[kind]);
	if (!sdp_record_given(record, SDP_JOB_PARAMETERS_CANVAS))
		return sdp_error_field(ret_error, SDP_CODE_MISSING_FIELD, "canvas",
				       "canvas is missing: [0, 0, width, height] of the canvas");
	if (canvas.x != 0 || canvas.y != 0)
		return sdp_error_field(ret_error, SDP_CODE_BAD_VALUE, "canvas",
				       "canvas begins at %d,%d: a plan is made for all of it, from "
				       "0,0 on",
				       canvas.x, canvas.y);
	return sdp_job_check(record, ret_error);
}

int sdd_handle_job_plan(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	struct sdp_record *record = request->record;
	const char *name = sdp_record_string(record, SDP_JOB_PARAMETERS_MODEL);
	struct sdp_writer writer = SDP_WRITER_INIT;
	const struct sdd_model *model;
	int r;

	r = check_plan(record, ret_error);
	if (r < 0)
		return r;
	model = sdd_registry_choose(
		&server->registry, name,
		(enum sdp_job_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_KIND));
	r = refuse(request, name, model, ret_error);
	if (r < 0)
		return r;
	sdp_writer_request(&writer, sdd_questions_msgid(server), "worker.plan");
	sdp_writer_record(&writer, record, &sdp_struct_job_plan, 0);
	sdp_writer_string(&writer, "path", model->path);
	return sdd_questions_ask(request, &writer, &sdp_struct_job_plan_result, ret_error);
}
