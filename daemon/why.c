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

static void say_engine(const struct sdd_server *server, struct text *text)
{
	if (server->supervisor.state == SDP_WORKER_STATE_WAITING)
		say(text, "the engine's process died and is started again after a pause");
	else if (server->supervisor.state == SDP_WORKER_STATE_STARTING)
		say(text, "the engine's process starts");
}

static void say_running(const struct sdd_server *server, const struct sdd_job *job,
			struct text *text)
{
	const struct sdd_job *running = sdd_runner_job(server);

	if (!running)
		return;
	/* another user's job has no number here */
	if (running->user == job->user)
		say(text, "job %" PRIu64 " runs", running->id);
	else
		say(text, "another user's job runs");
	if (running->total > 0)
		say(text, ", step %d of %d", running->step, running->total);
	if (server->runner.n_jobs > 1)
		say(text, " with %zu more", server->runner.n_jobs - 1);
	if (running->yielding)
		say(text, ", and was asked to make room");
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
	say(text, "; %zu %s before it", position, position == 1 ? "job goes" : "jobs go");
	if (higher > 0)
		say(text, ", %zu of a higher class", higher);
}

static void say_queued(struct sdd_server *server, const struct sdd_job *job, struct text *text)
{
	const struct sdd_model *model;
	char *const begin = text->at;

	if (job->kept_step > 0)
		say(text, "interrupted behind step %d, from where it goes on; ", job->kept_step);
	say(text, "it waits (class %s", sdp_enum_priority.values[job->priority]);
	if (job->counts_as != job->priority)
		say(text, ", which counts as %s after so long",
		    sdp_enum_priority.values[job->counts_as]);
	say(text, "): ");
	say_engine(server, text);
	say_running(server, job, text);
	if (server->runner.doing == SDD_RUNNER_UNLOADING)
		say(text, "the model '%s' leaves memory", server->runner.model);
	else if (server->runner.doing == SDD_RUNNER_CHECKING)
		say(text, "the model '%s' is checked", server->runner.model);
	else if (server->runner.doing == SDD_RUNNER_LOADING && server->runner.n_jobs == 0)
		say(text, "the model '%s' is loaded", server->runner.model);
	say_before(server, job, text);
	model = sdd_registry_find(&server->registry, job->model);
	if (model && model->state != SDP_MODEL_STATE_LOADED)
		say(text, "; its model '%s' must be loaded, %" PRIu64 " MiB", model->name,
		    model->weight_bytes >> 20);
	if (text->at == begin)
		say(text, "its turn comes now");
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
		say(&text, "it runs: %s", sdp_enum_stage.values[job->stage]);
		if (job->total > 0)
			say(&text, ", step %d of %d", job->step, job->total);
		if (job->resumed_step > 0)
			say(&text, ", going on behind step %d", job->resumed_step);
		if (server->runner.n_jobs > 1)
			say(&text, ", together with %zu more of its shape",
			    server->runner.n_jobs - 1);
		break;
	case SDP_JOB_STATE_DONE:
		say(&text, "it is done; its result waits to be fetched");
		break;
	default:
		say(&text, "%s", job->error.message);
	}
}
