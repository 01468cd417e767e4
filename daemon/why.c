/*
 * Sentences put together from the state of queue, worker and model; see why.h.
 */
#include "daemon/why.h"
#include "daemon/runner.h"

#include <inttypes.h>
#include <stdarg.h>

struct text {
	char *at;
	size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text->at, text->left, format, ap);
	va_end(ap);
	if (n < 0 || text->left == 0)
		return;
	if ((size_t)n >= text->left)
		n = (int)text->left - 1;
	text->at += n;
	text->left -= (size_t)n;
}

/* Behind what was said before. */
static void begin_clause(struct text *text, const char *begin)
{
	if (text->at > begin)
		say(text, "; ");
}

/* What the engine's process does, apart from jobs, that a job waits for; NULL: nothing. */
static const char *engine_says(const struct sdd_server *server)
{
	switch (server->supervisor.state) {
	case SDP_WORKER_STATE_WAITING:
		return "the engine's process died and is started again after a pause";
	case SDP_WORKER_STATE_STARTING:
		return "the engine's process starts";
	default:
		return NULL;
	}
}

/* Another user's job has no number here. */
static void say_running(const struct sdd_server *server, const struct sdd_job *job,
			const struct sdd_job *running, struct text *text)
{
	const size_t more = server->runner.n_jobs - 1;

	if (running->user == job->user)
		say(text, "it waits for job %" PRIu64, running->id);
	else
		say(text, "it waits for another user's job");
	if (more > 0)
		say(text, " and %zu more", more);
	if (running->total > 0)
		say(text, " (step %d of %d)", running->step, running->total);
	if (running->yielding)
		say(text, ", asked to make room");
}

static void say_before(struct sdd_server *server, const struct sdd_job *job, struct text *text)
{
	const size_t position = sdd_queue_position(&server->queue, job);
	const struct sdd_job *other;
	size_t higher = 0;

	if (position == 0)
		return;
	sdd_list_for_each (other, &server->queue.jobs, link)
		higher += other->counts_as < job->counts_as;
	say(text, "; %zu job%s%s %s before it", position, position == 1 ? "" : "s",
	    higher == position ? " of a higher class" : "", position == 1 ? "goes" : "go");
	if (higher > 0 && higher < position)
		say(text, ", %zu of a higher class", higher);
}

/* The runner's errand that comes first; false: none. */
static bool say_errand(const struct sdd_server *server, struct text *text, const char *begin)
{
	const char *what;

	if (server->runner.doing == SDD_RUNNER_UNLOADING)
		what = "leaves memory";
	else if (server->runner.doing == SDD_RUNNER_CHECKING)
		what = "is checked";
	else if (server->runner.doing == SDD_RUNNER_LOADING && server->runner.n_jobs == 0)
		what = "is loaded";
	else
		return false;
	begin_clause(text, begin);
	say(text, "the model '%s' %s", server->runner.model, what);
	return true;
}

static void say_queued(struct sdd_server *server, const struct sdd_job *job, struct text *text)
{
	const struct sdd_job *running = sdd_runner_job(server);
	const char *const engine = engine_says(server), *const begin = text->at;
	const struct sdd_model *model;
	bool told = false;

	if (job->kept_step > 0)
		say(text, "%d of %d steps are made and kept", job->kept_step, job->total);
	if (engine || running) {
		begin_clause(text, begin);
		if (engine)
			say(text, "%s", engine);
		else
			say_running(server, job, running, text);
		told = true;
	}
	told = say_errand(server, text, begin) || told;
	if (!told) {
		begin_clause(text, begin);
		say(text, "its turn comes");
	}
	say_before(server, job, text);
	model = sdd_registry_known(&server->registry, job->model);
	if (model && model->state != SDP_MODEL_STATE_LOADED)
		say(text, "; its model '%s' must be loaded, %" PRIu64 " MiB", model->name,
		    model->weight_bytes >> 20);
	if (job->counts_as != job->priority)
		say(text, "; after so long it counts as %s",
		    sdp_enum_priority.values[job->counts_as]);
}

static void say_stage(const struct sdd_job *job, struct text *text)
{
	switch (job->stage) {
	case SDP_STAGE_LOAD:
		say(text, "its model '%s' is made ready", job->model);
		break;
	case SDP_STAGE_ENCODE:
		say(text, "its words and pictures are read");
		break;
	case SDP_STAGE_STEPS:
		say(text, "%d of %d steps are made", job->step, job->total);
		break;
	case SDP_STAGE_DECODE:
		say(text, "the picture is put together");
		break;
	default:
		say(text, "it runs");
	}
}

void sdd_job_why(struct sdd_server *server, const struct sdd_job *job, char *buffer, size_t size)
{
	struct text text = {buffer, size};

	buffer[0] = '\0';
	switch (job->state) {
	case SDP_JOB_STATE_QUEUED:
		say_queued(server, job, &text);
		break;
	case SDP_JOB_STATE_RUNNING:
		say_stage(job, &text);
		if (job->resumed_step > 0)
			say(&text, "; it was interrupted behind step %d", job->resumed_step);
		if (server->runner.n_jobs > 1)
			say(&text, "; in one batch with %zu more", server->runner.n_jobs - 1);
		break;
	case SDP_JOB_STATE_DONE:
		say(&text, "it is done; its result waits to be fetched");
		break;
	default:
		say(&text, "%s", job->error.message);
	}
}
