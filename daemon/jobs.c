/*
 * Admission, answers and kept results; see jobs.h.
 */
#include "daemon/jobs.h"
#include "daemon/admission.h"
#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/message-ids.h"
#include "daemon/residency.h"
#include "daemon/runner.h"
#include "daemon/util/clock.h"
#include "daemon/util/size.h"
#include "daemon/why.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

enum { RETRY_MS_DEFAULT = 2000, RETRY_MS_MAX = 60000 };

static int busy(struct sdd_server *server, struct sdp_error *ret_error, const char *text,
		uint64_t limit)
{
	const struct sdd_job *running = sdd_runner_job(server);
	int64_t eta_ms = running ? sdd_jobs_eta_ms(server, running) : -1;

	sdp_error_set(ret_error, SDP_CODE_BUSY, "%s (limit %" PRIu64 "); try again later", text,
		      limit);
	ret_error->retry_ms = eta_ms < 0 ? RETRY_MS_DEFAULT : eta_ms + 1;
	if (ret_error->retry_ms > RETRY_MS_MAX)
		ret_error->retry_ms = RETRY_MS_MAX;
	return -EINVAL;
}

static int charge(struct sdd_session *session, struct sdd_job *job, struct sdp_error *ret_error)
{
	struct sdd_server *server = session->server;

	if (sdd_charge_take(&job->charge_total, &server->jobs, 1) != 0)
		return busy(server, ret_error, "too many jobs in the daemon", server->jobs.limit);
	if (sdd_charge_take(&job->charge_user, &session->user->jobs, 1) != 0)
		return busy(server, ret_error, "too many jobs of this user",
			    session->user->jobs.limit);
	if (sdd_charge_take(&job->charge_waiting, &session->waiting, 1) != 0)
		return busy(server, ret_error, "too many jobs of this connection wait",
			    session->waiting.limit);
	if (sdd_charge_take(&job->charge_inline, &server->inline_bytes, job->message->size) != 0)
		return busy(server, ret_error, "too many bytes of inline pictures wait",
			    server->inline_bytes.limit);
	return 0;
}

/* Who has no more room is told so before anything is looked up for the job; a newer one of a channel may yet make room. */
static int check_room(struct sdd_session *session, struct sdp_message *message,
		      const struct sdp_record *record, struct sdp_error *ret_error)
{
	struct sdd_job probe = {.message = message};
	int r;

	if (*sdp_record_string(record, SDP_JOB_SUBMIT_CHANNEL))
		return 0;
	r = charge(session, &probe, ret_error);
	sdd_job_refund(&probe);
	return r;
}

/* The two choices that are the daemon's: they stand in the record, so that the result reports them. */
static int complete(struct sdd_server *server, struct sdp_record *record,
		    struct sdp_error *ret_error)
{
	const char *name = sdp_record_string(record, SDP_JOB_PARAMETERS_MODEL);
	struct sdd_admission admission;
	struct sdd_model *model = sdd_registry_choose(
		&server->registry, name,
		(enum sdp_job_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_KIND));
	uint32_t seed;

	if (!model && *name)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "model",
				       "no model '%s'; models.list names what there is", name);
	if (!model)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "model",
				       "no model is installed; put a diffusers folder into one of "
				       "the model folders of sdd.conf(5)");
	if (sdd_admission_check(server, model, record, NULL, &admission, ret_error) < 0)
		return -EINVAL;
	if (sdp_record_set_string(record, SDP_JOB_PARAMETERS_MODEL, model->name) < 0)
		return sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
	if (!sdp_record_given(record, SDP_JOB_PARAMETERS_SEED)) {
		if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
			seed = (uint32_t)sdd_now_us();
		sdp_record_set_uint(record, SDP_JOB_PARAMETERS_SEED, seed);
	}
	return 0;
}

/* The latest request of a channel wins: what this connection sent before on it is stale. */
static void cancel_stale(struct sdd_session *session, const char *channel)
{
	static const char why[] = "a newer request of its channel took its place";
	struct sdd_server *server = session->server;
	struct sdd_job *job, *following;

	if (!*channel)
		return;
	sdd_list_for_each_safe (job, following, &server->queue.jobs, link)
		if (job->session == session && strcmp(job->channel, channel) == 0)
			sdd_jobs_cancel(server, job, why);
	sdd_list_for_each_safe (job, following, &server->runner.jobs, link)
		if (job->session == session && strcmp(job->channel, channel) == 0)
			sdd_jobs_cancel(server, job, why);
}

int sdd_jobs_submit(struct sdd_session *session, struct sdp_message *message,
		    struct sdp_record *record, struct sdd_job **ret_job,
		    struct sdp_error *ret_error)
{
	struct sdd_server *server = session->server;
	struct sdd_model *model;
	struct sdd_job *job;
	int r;

	if (server->stopping)
		return sdp_error_set(ret_error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
	r = check_room(session, message, record, ret_error);
	if (r == 0)
		r = complete(server, record, ret_error);
	if (r < 0)
		return r;
	if (sdd_job_new(server->next_job_id + 1, message, record, session->user, &job) < 0)
		return sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
	cancel_stale(session, job->channel);
	r = charge(session, job, ret_error);
	if (r < 0) {
		job->message = NULL; /* stays the caller's */
		sdd_job_free(job);
		return r;
	}
	server->next_job_id++;
	job->session = session;
	job->msgid = message->msgid;
	job->detached = sdp_record_bool(record, SDP_JOB_SUBMIT_DETACH);
	job->submitted_us = job->queued_us = sdd_now_us();
	job->client = session->id;
	model = sdd_registry_known(&server->registry, job->model);
	if (model)
		sdd_residency_use(server, session, model, job->keep_alive_ms, false);
	sdd_queue_insert(&server->queue, job);
	*ret_job = job;
	return 0;
}

struct sdd_job *sdd_jobs_find(struct sdd_server *server, uid_t uid, uint64_t id)
{
	struct sdd_job *job = sdd_queue_find(&server->queue, id), *kept;

	if (!job)
		job = sdd_runner_find(server, id);
	if (!job)
		sdd_list_for_each (kept, &server->kept, link)
			if (kept->id == id)
				job = kept;
	return job && job->user->uid == uid ? job : NULL;
}

void sdd_jobs_cancel(struct sdd_server *server, struct sdd_job *job, const char *why)
{
	struct sdp_error error;

	sdp_error_set(&error, SDP_CODE_CANCELLED, "%s", why);
	if (job->state == SDP_JOB_STATE_QUEUED) {
		sdd_queue_remove(&server->queue, job);
		sdd_jobs_finish(server, job, SDP_JOB_STATE_CANCELLED, &error);
		sdd_events_positions(server);
	} else if (job->state == SDP_JOB_STATE_RUNNING) {
		sdd_runner_cancel(server, job, &error);
	}
}

static void write_result(const struct sdd_job *job, struct sdp_writer *writer)
{
	struct sdp_value *timings = &job->result->values[SDP_JOB_RESULT_TIMINGS];

	sdp_record_set_int(job->result, SDP_JOB_RESULT_JOB, (int64_t)job->id);
	sdp_record_set_int(job->result, SDP_JOB_RESULT_STATE, SDP_JOB_STATE_DONE);
	if (timings->given && timings->record) {
		sdp_record_set_uint(timings->record, SDP_TIMINGS_QUEUE_MS, job->waited_us / 1000);
		/* the worker's figures begin with a model that is loaded */
		sdp_record_set_uint(timings->record, SDP_TIMINGS_LOAD_MS, job->load_us / 1000);
	}
	sdp_writer_record(writer, job->result, &sdp_struct_job_result, 0);
}

void sdd_jobs_answer(struct sdd_session *session, uint32_t msgid, struct sdd_job *job)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (job->state == SDP_JOB_STATE_FAILED || job->state == SDP_JOB_STATE_CANCELLED) {
		sdd_session_fail(session, msgid, &job->error);
		return;
	}
	writer.inline_pixels = !session->receives_fds;
	sdp_writer_response(&writer, msgid);
	if (job->state == SDP_JOB_STATE_DONE && job->result) {
		write_result(job, &writer);
		sdd_session_reply_result(session, msgid, &writer);
	} else {
		sdp_writer_uint(&writer, "job", job->id);
		sdp_writer_string(&writer, "state", sdp_enum_job_state.values[job->state]);
		sdd_session_reply(session, msgid, &writer);
	}
	sdp_writer_clear(&writer);
}

static uint64_t result_bytes(const struct sdp_record *result)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < sdp_record_count(result, SDP_JOB_RESULT_IMAGES); i++) {
		const struct sdp_value *image = sdp_record_item(result, SDP_JOB_RESULT_IMAGES, i);
		const struct sdp_pixels *pixels =
			sdp_record_pixels(image->record, SDP_IMAGE_PIXELS);

		if (pixels)
			bytes = sdd_u64_add_saturated(bytes, pixels->size);
	}
	return bytes;
}

static void keep(struct sdd_server *server, struct sdd_job *job)
{
	job->session = NULL;
	sdd_job_drop_request(job);
	sdd_list_append(&server->kept, &job->link);
	server->n_kept++;
	job->result_bytes = job->result ? result_bytes(job->result) : 0;
	server->kept_bytes = sdd_u64_add_saturated(server->kept_bytes, job->result_bytes);
	sdd_jobs_expire(server);
}

static void drop(struct sdd_server *server, struct sdd_job *job)
{
	server->n_kept--;
	server->kept_bytes -= job->result_bytes;
	sdd_job_free(job);
}

void sdd_jobs_fetched(struct sdd_job *job, struct sdd_session *session)
{
	if (session->state != SDD_SESSION_CLOSED)
		job->fetcher = session;
}

void sdd_jobs_settle(struct sdd_server *server)
{
	struct sdd_job *job, *following;

	sdd_list_for_each_safe (job, following, &server->kept, link)
		if (job->fetcher && sdd_session_has_read_all(job->fetcher))
			drop(server, job);
}

/* Those it has read go; the others were not delivered. */
static void settle_session(struct sdd_server *server, struct sdd_session *session)
{
	struct sdd_job *job;

	sdd_jobs_settle(server);
	sdd_list_for_each (job, &server->kept, link)
		if (job->fetcher == session)
			job->fetcher = NULL;
}

/* Of the user who has most of what is short: so nobody's results push out another's. */
static struct sdd_job *oldest_of_the_greediest(struct sdd_server *server)
{
	const bool bytes = server->kept_bytes > server->config->result_bytes;
	struct sdd_job *job, *other, *greediest = NULL;
	uint64_t most = 0;

	sdd_list_for_each (job, &server->kept, link) {
		uint64_t has = 0;

		sdd_list_for_each (other, &server->kept, link)
			if (other->user == job->user)
				has = sdd_u64_add_saturated(has, bytes ? other->result_bytes : 1);
		if (!greediest || has > most) {
			greediest = job;
			most = has;
		}
	}
	return greediest;
}

void sdd_jobs_expire(struct sdd_server *server)
{
	const struct sdd_config *config = server->config;
	const uint64_t now = sdd_now_us();
	struct sdd_job *oldest, *next;

	while ((oldest = sdd_list_first(&server->kept, struct sdd_job, link))) {
		next = oldest;
		if (server->kept_bytes > config->result_bytes || server->n_kept > SDD_KEPT_MAX)
			next = oldest_of_the_greediest(server);
		else if (oldest->ended_us + config->result_ttl_us > now)
			break;
		if (!next->fetcher) {
			const struct sdd_log_about about = {
				.job = next->id, .message_id = SDD_MESSAGE_RESULT_DROPPED};

			sdd_log(LOG_NOTICE, &about, "result dropped: nobody fetched it in time");
		}
		drop(server, next);
	}
	if (oldest)
		sd_event_source_set_time(server->expiry, oldest->ended_us + config->result_ttl_us);
	sd_event_source_set_enabled(server->expiry, oldest ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void count(struct sdd_server *server, enum sdp_job_state state)
{
	if (state == SDP_JOB_STATE_DONE)
		server->n_done++;
	else if (state == SDP_JOB_STATE_FAILED)
		server->n_failed++;
	else
		server->n_cancelled++;
}

void sdd_jobs_finish(struct sdd_server *server, struct sdd_job *job, enum sdp_job_state state,
		     const struct sdp_error *error)
{
	const struct sdd_log_about about = {.job = job->id, .model = job->model};

	if (sdd_job_set_state(job, state) < 0) {
		sdd_log(LOG_ERR, &about, "a job that has ended cannot end again");
		return;
	}
	job->ended_us = sdd_now_us();
	if (state == SDP_JOB_STATE_DONE)
		job->error = (struct sdp_error){0}; /* a cancel that came too late */
	else
		job->error = *error;
	count(server, state);
	sdd_log(state == SDP_JOB_STATE_FAILED ? LOG_WARNING : LOG_INFO, &about,
		"job %s after %" PRIu64 " ms%s%s", sdp_enum_job_state.values[state],
		(job->ended_us - job->submitted_us) / 1000, job->error.code ? ": " : "",
		job->error.message);
	sdd_job_refund(job);
	if (job->session && !job->detached)
		sdd_jobs_answer(job->session, job->msgid, job);
	for (size_t i = 0; i < job->n_waiters; i++) {
		sdd_jobs_answer(job->waiters[i].session, job->waiters[i].msgid, job);
		sdd_jobs_fetched(job, job->waiters[i].session);
	}
	job->n_waiters = 0;
	sdd_events_job_done(server, job);
	if (job->detached)
		keep(server, job);
	else
		sdd_job_free(job);
	sdd_server_notify_status(server);
}

void sdd_jobs_forget_session(struct sdd_server *server, struct sdd_session *session)
{
	const char *const why = "its connection closed";
	struct sdd_job *job, *following;

	sdd_list_for_each_safe (job, following, &server->queue.jobs, link) {
		const bool own = job->session == session;

		sdd_job_forget_session(job, session);
		if (own && !job->detached)
			sdd_jobs_cancel(server, job, why);
	}
	settle_session(server, session);
	sdd_list_for_each_safe (job, following, &server->runner.jobs, link) {
		const bool own = job->session == session;

		sdd_job_forget_session(job, session);
		if (own && !job->detached)
			sdd_jobs_cancel(server, job, why);
	}
}

void sdd_jobs_stop(struct sdd_server *server)
{
	struct sdd_job *job, *following;
	struct sdp_error error;

	sdp_error_set(&error, SDP_CODE_SHUTTING_DOWN,
		      "the daemon is stopping; submit the job again when it is back");
	while ((job = sdd_queue_next(&server->queue))) {
		sdd_queue_remove(&server->queue, job);
		sdd_jobs_finish(server, job, SDP_JOB_STATE_CANCELLED, &error);
	}
	sdd_list_for_each_safe (job, following, &server->runner.jobs, link)
		sdd_runner_cancel(server, job, &error);
}

static int64_t rest_us(struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdd_model *model;

	model = sdd_registry_known(&server->registry, job->model);
	if (!model)
		return -1;
	/* the steps before it was interrupted were not made in the time measured here */
	return sdd_estimate_rest_us(&model->estimate, job->step - job->resumed_step,
				    job->total > 0 ? job->total - job->resumed_step : 0,
				    job->steps_started_us ? sdd_now_us() - job->steps_started_us
							  : 0);
}

int64_t sdd_jobs_eta_ms(struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdd_job *other;
	int64_t sum = 0;

	if (job->state == SDP_JOB_STATE_RUNNING) {
		sum = rest_us(server, job);
		return sum < 0 ? -1 : sum / 1000;
	}
	if (job->state != SDP_JOB_STATE_QUEUED)
		return -1;
	/* together they end when the last one does */
	sdd_list_for_each (other, &server->runner.jobs, link) {
		const int64_t rest = rest_us(server, other);

		sum = sum < 0 || rest < 0 ? -1 : rest > sum ? rest : sum;
	}
	sdd_list_for_each (other, &server->queue.jobs, link) {
		const struct sdd_model *model = sdd_registry_known(&server->registry, other->model);
		int steps = sdp_record_int(other->record, SDP_JOB_PARAMETERS_STEPS);
		int64_t job_us;

		if (sdd_queue_position(&server->queue, other) >
		    sdd_queue_position(&server->queue, job))
			continue;
		if (model && steps == 0)
			steps = model->facts.default_steps;
		job_us = model ? sdd_estimate_job_us(&model->estimate, steps - other->kept_step)
			       : -1;
		if (sum < 0 || job_us < 0)
			return -1;
		sum += job_us;
	}
	return sum / 1000;
}

void sdd_jobs_write_info(struct sdd_server *server, const struct sdd_job *job,
			 struct sdp_writer *writer)
{
	char why[200]; /* a list of them must fit into a message */

	sdp_writer_uint(writer, "job", job->id);
	sdp_writer_string(writer, "state", sdp_enum_job_state.values[job->state]);
	sdp_writer_string(writer, "kind", sdp_enum_job_kind.values[job->kind]);
	sdp_writer_string(writer, "model", job->model);
	sdp_writer_bool(writer, "detached", job->detached);
	sdp_writer_string(writer, "priority", sdp_enum_priority.values[job->priority]);
	if (job->state == SDP_JOB_STATE_QUEUED)
		sdp_writer_uint(writer, "position",
				sdd_queue_position(&server->queue, job) + server->runner.n_jobs);
	if (job->state == SDP_JOB_STATE_RUNNING) {
		sdp_writer_string(writer, "stage", sdp_enum_stage.values[job->stage]);
		sdp_writer_int(writer, "step", job->step);
		sdp_writer_int(writer, "total", job->total);
	} else if (job->state == SDP_JOB_STATE_QUEUED && job->kept_step > 0) {
		sdp_writer_int(writer, "step", job->kept_step);
		sdp_writer_int(writer, "total", job->total);
	}
	sdp_writer_int(writer, "eta_ms", sdd_jobs_eta_ms(server, job));
	sdp_writer_uint(writer, "age_ms", (sdd_now_us() - job->submitted_us) / 1000);
	if (job->error.code) {
		sdp_writer_string(writer, "error", job->error.message);
		return;
	}
	sdd_job_why(server, job, why, sizeof(why));
	sdp_writer_string(writer, "why", why);
}
