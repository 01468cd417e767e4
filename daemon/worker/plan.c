/*
 * The geometry of a request: its fields into the engine's struct, for a job that runs, and the answer to worker.plan, which only asks what one
 * would look at.
 */
#include "daemon/worker/worker.h"

#include <errno.h>

void sdd_worker_fill_geometry(const struct sdp_record *record, struct sde_job *job)
{
	const int context = SDP_JOB_PARAMETERS_CONTEXT;
	struct sdp_rect rect;

	job->has_select = sdp_record_given(record, SDP_JOB_PARAMETERS_SELECT);
	rect = sdp_record_rect(record, SDP_JOB_PARAMETERS_SELECT);
	job->select_x = rect.x;
	job->select_y = rect.y;
	job->select_width = rect.width;
	job->select_height = rect.height;
	job->has_canvas = sdp_record_given(record, SDP_JOB_PARAMETERS_CANVAS);
	rect = sdp_record_rect(record, SDP_JOB_PARAMETERS_CANVAS);
	job->canvas_x = rect.x;
	job->canvas_y = rect.y;
	job->canvas_width = rect.width;
	job->canvas_height = rect.height;
	job->feather = sdp_record_double(record, SDP_JOB_PARAMETERS_FEATHER);
	job->grow = sdp_record_int(record, SDP_JOB_PARAMETERS_GROW);
	job->padding = sdp_record_double(record, SDP_JOB_PARAMETERS_PADDING);
	job->fill = (enum sde_fill)sdp_record_int(record, SDP_JOB_PARAMETERS_FILL);
	job->color_match = sdp_record_bool(record, SDP_JOB_PARAMETERS_COLOR_MATCH);
	job->left = sdp_record_int(record, SDP_JOB_PARAMETERS_LEFT);
	job->right = sdp_record_int(record, SDP_JOB_PARAMETERS_RIGHT);
	job->top = sdp_record_int(record, SDP_JOB_PARAMETERS_TOP);
	job->bottom = sdp_record_int(record, SDP_JOB_PARAMETERS_BOTTOM);
	/* the place after the last name means a rectangle of the client's own, here as in the engine */
	job->context = (enum sde_context)sdp_record_int(record, context);
	if (job->context == SDE_CONTEXT_RECT) {
		rect = sdp_record_rect(record, context);
		job->context_x = rect.x;
		job->context_y = rect.y;
		job->context_width = rect.width;
		job->context_height = rect.height;
	}
}

static void write_rect(struct sdp_writer *writer, const char *name, struct sde_rect rect)
{
	sdp_writer_rect(writer, name, (struct sdp_rect){rect.x, rect.y, rect.width, rect.height});
}

int sdd_worker_plan(const struct sdp_message *message, const struct sdp_record *record,
		    struct sdp_writer *writer, struct sdp_error *ret_error)
{
	struct sde_job job = {
		.kind = (enum sde_job_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_KIND),
		.strength = sdp_record_double(record, SDP_JOB_PARAMETERS_STRENGTH),
		.tiles = (enum sde_tile_use)sdp_record_int(record, SDP_JOB_PARAMETERS_TILES),
	};
	struct sde_error engine_error = {0};
	struct sde_job_area area;
	int r;

	sdd_worker_fill_geometry(record, &job);
	r = sde_job_area(sdp_record_string(record, SDP_WORKER_PLAN_PATH), &job, &area,
			 &engine_error);
	if (r < 0) {
		engine_error.code = r;
		sdd_worker_translate_error(&engine_error, false, ret_error);
		return r;
	}
	sdp_writer_response(writer, message->msgid);
	write_rect(writer, "needed", area.needed);
	write_rect(writer, "result", area.result);
	sdp_writer_int(writer, "work_width", area.work_width);
	sdp_writer_int(writer, "work_height", area.work_height);
	return 0;
}
