/*
 * Building and spreading events; see events.h.
 */
#include "daemon/events.h"
#include "daemon/jobs.h"

/* Frames that may replace each other: one number a job and kind. 0 would mean "never replace". */
#define COALESCE_MODELS UINT64_MAX
enum { COALESCE_QUEUED = 1, COALESCE_PROGRESS = 2, COALESCE_PREVIEW = 3 };

static uint64_t coalesce(const struct sdd_job *job, unsigned int kind)
{
	return job->id * 4 + kind;
}

static bool wants(const struct sdd_session *session, const struct sdd_job *job)
{
	return session->state == SDD_SESSION_READY &&
	       (job->session == session ||
		(session->subscribed_jobs && session->uid == job->user->uid));
}

void sdd_events_job_queued(struct sdd_server *server, struct sdd_job *job)
{
	const size_t ahead = sdd_queue_position(&server->queue, job) + server->runner.n_jobs;
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (!wants(session, job))
			continue;
		sdp_writer_event(&writer, "job.queued");
		sdp_writer_uint(&writer, "job", job->id);
		if (job->session == session)
			sdp_writer_uint(&writer, "request", job->msgid);
		sdp_writer_uint(&writer, "position", ahead);
		sdd_session_event(session, &writer, coalesce(job, COALESCE_QUEUED));
		sdp_writer_clear(&writer);
	}
}

void sdd_events_positions(struct sdd_server *server)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &server->queue.jobs, link)
		sdd_events_job_queued(server, job);
}

void sdd_events_job_started(struct sdd_server *server, struct sdd_job *job)
{
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (!wants(session, job))
			continue;
		sdp_writer_event(&writer, "job.started");
		sdp_writer_uint(&writer, "job", job->id);
		sdd_session_event(session, &writer, 0);
		sdp_writer_clear(&writer);
	}
}

void sdd_events_job_progress(struct sdd_server *server, struct sdd_job *job)
{
	const int64_t eta_ms = sdd_jobs_eta_ms(server, job);
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (!wants(session, job))
			continue;
		sdp_writer_event(&writer, "job.progress");
		sdp_writer_uint(&writer, "job", job->id);
		sdp_writer_string(&writer, "stage", sdp_enum_stage.values[job->stage]);
		sdp_writer_int(&writer, "step", job->step);
		sdp_writer_int(&writer, "total", job->total);
		sdp_writer_int(&writer, "eta_ms", eta_ms);
		sdd_session_event(session, &writer, coalesce(job, COALESCE_PROGRESS));
		sdp_writer_clear(&writer);
	}
}

static bool wants_preview(const struct sdd_session *session, const struct sdd_job *job)
{
	return job->preview && job->preview_turn > session->last_preview && wants(session, job) &&
	       (job->session == session || session->subscribed_previews);
}

/* Of those that a session has not had the one that came first; NULL: it has had all. */
static struct sdd_job *next_preview(const struct sdd_session *session)
{
	struct sdd_job *job, *next = NULL;

	sdd_list_for_each (job, &session->server->runner.jobs, link)
		if (wants_preview(session, job) &&
		    (!next || job->preview_turn < next->preview_turn))
			next = job;
	return next;
}

static void send_preview(struct sdd_session *session, struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	writer.inline_pixels = !session->receives_fds;
	sdp_writer_event(&writer, "job.preview");
	sdp_writer_record(&writer, job->preview, &sdp_struct_job_preview, 0);
	session->last_preview = job->preview_turn;
	sdd_session_event(session, &writer, coalesce(job, COALESCE_PREVIEW));
	sdp_writer_clear(&writer);
}

/* True when it has had all. */
static bool send_previews(struct sdd_session *session)
{
	struct sdd_job *job;

	while ((job = next_preview(session))) {
		if (sdd_session_is_behind(session)) {
			sdd_session_await_reader(session);
			return false;
		}
		send_preview(session, job);
	}
	return true;
}

/* What nobody waits for takes no memory. */
static void drop_old_previews(struct sdd_server *server)
{
	const struct sdd_session *session;
	struct sdd_job *job;
	bool wanted;

	sdd_list_for_each (job, &server->runner.jobs, link) {
		wanted = false;
		sdd_list_for_each (session, &server->sessions, link)
			wanted |= wants_preview(session, job);
		if (!wanted)
			sdd_job_keep_preview(job, NULL, NULL);
	}
}

void sdd_events_job_preview(struct sdd_server *server, struct sdd_job *job)
{
	struct sdd_session *session;

	job->preview_turn = ++server->last_preview;
	sdd_list_for_each (session, &server->sessions, link)
		send_previews(session);
	drop_old_previews(server);
}

void sdd_events_previews_due(struct sdd_session *session)
{
	if (send_previews(session))
		drop_old_previews(session->server);
}

void sdd_events_job_picture(struct sdd_job *job, const struct sdp_record *picture)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (!job->session || job->detached)
		return;
	writer.inline_pixels = !job->session->receives_fds;
	sdp_writer_event(&writer, "job.picture");
	sdp_writer_record(&writer, picture, &sdp_struct_job_picture, 0);
	sdd_session_event_result(job->session, &writer);
	sdp_writer_clear(&writer);
}

void sdd_events_job_done(struct sdd_server *server, struct sdd_job *job)
{
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (!session->subscribed_jobs || !wants(session, job))
			continue;
		sdp_writer_event(&writer, "job.done");
		sdp_writer_uint(&writer, "job", job->id);
		sdp_writer_string(&writer, "state", sdp_enum_job_state.values[job->state]);
		if (job->error.code)
			sdp_writer_string(&writer, "error", job->error.message);
		sdd_session_event(session, &writer, 0);
		sdp_writer_clear(&writer);
	}
}

void sdd_events_model(struct sdd_server *server, const struct sdd_model *model, bool loaded)
{
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (session->state != SDD_SESSION_READY || !session->subscribed_models)
			continue;
		sdp_writer_event(&writer, loaded ? "model.loaded" : "model.unloaded");
		sdd_model_write(model, sdd_registry_is_default(&server->registry, model), &writer);
		sdd_session_event(session, &writer, 0);
		sdp_writer_clear(&writer);
	}
}

void sdd_events_models_changed(struct sdd_server *server)
{
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		if (session->state != SDD_SESSION_READY || !session->subscribed_models)
			continue;
		sdp_writer_event(&writer, "models.changed");
		sdd_session_event(session, &writer, COALESCE_MODELS);
		sdp_writer_clear(&writer);
	}
}

void sdd_events_stopping(struct sdd_server *server, const char *reason)
{
	struct sdd_session *session;

	sdd_list_for_each (session, &server->sessions, link) {
		struct sdp_writer writer = SDP_WRITER_INIT;

		sdp_writer_event(&writer, "server.stopping");
		sdp_writer_string(&writer, "reason", reason);
		sdd_session_event(session, &writer, 0);
		sdp_writer_clear(&writer);
	}
}
