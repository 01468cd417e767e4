/*
 * Life of the daemon: set up, serve, stop; see server.h.
 */
#include "daemon/server.h"
#include "daemon/budget.h"
#include "daemon/events.h"
#include "daemon/idle.h"
#include "daemon/jobs.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/questions.h"
#include "daemon/residency.h"
#include "daemon/runner.h"
#include "daemon/util/clock.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>

/* how long stopping may take: a step of a large picture on a slow machine, and slow readers */
static const uint64_t stop_timeout_us = 10 * 1000 * 1000;

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	sdd_server_stop(userdata, info->ssi_signo == SIGINT ? "interrupted" : "terminated");
	return 0;
}

static int on_reap(sd_event_source *source, void *userdata)
{
	sdd_session_reap(userdata);
	sdd_idle_touch(userdata);
	return 0;
}

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata)
{
	sdd_jobs_expire(userdata);
	return 0;
}

/* Every connection and every kept picture is a descriptor; the usual soft limit is below our own limits. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int add_sources(struct sdd_server *server)
{
	int r;

	r = sd_event_add_defer(server->event, &server->reaper, on_reap, server);
	if (r >= 0)
		r = sd_event_source_set_enabled(server->reaper, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_priority(server->reaper, SD_EVENT_PRIORITY_IMPORTANT);
	if (r >= 0)
		r = sd_event_add_time(server->event, &server->expiry, CLOCK_MONOTONIC, UINT64_MAX,
				      0, on_expiry, server);
	if (r >= 0)
		r = sd_event_source_set_enabled(server->expiry, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_signal(server->event, &server->sigterm, SIGTERM, on_signal,
					server);
	if (r >= 0)
		r = sd_event_add_signal(server->event, &server->sigint, SIGINT, on_signal, server);
	if (r >= 0)
		r = sdd_notify_watchdog(server->event, &server->watchdog);
	return r;
}

static int set_up(struct sdd_server *server, sdd_spawn_fn spawn)
{
	struct sdd_supervisor_handlers handlers = sdd_runner_handlers;
	sd_id128_t id;
	sigset_t mask;
	int r;

	/* sd-event takes these; the worker's process unblocks them again */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	r = sd_id128_randomize(&id);
	if (r < 0)
		return r;
	sd_id128_to_string(id, server->instance);
	r = sd_event_new(&server->event);
	if (r < 0)
		return r;
	r = add_sources(server);
	if (r < 0)
		return r;
	r = sdd_residency_init(server);
	if (r < 0)
		return r;
	handlers.userdata = server;
	r = sdd_supervisor_init(&server->supervisor, server->event, server->config, spawn,
				&handlers);
	if (r < 0)
		return r;
	r = sdd_registry_scan(&server->registry);
	if (r < 0)
		return r;
	if (server->registry.n_models == 0)
		sdd_log(LOG_NOTICE, NULL, "no models found; looked into %s%s",
			server->config->roots[0], server->config->n_roots > 1 ? " and more" : "");
	r = sdd_watch_start(server);
	if (r < 0)
		return r;
	r = sdd_listen_open(server);
	return r < 0 ? r : sdd_idle_start(server);
}

int sdd_server_new(const struct sdd_config *config, sdd_spawn_fn spawn,
		   struct sdd_server **ret_server)
{
	SDD_CLEANUP(sdd_server_freep) struct sdd_server *server = NULL;
	int r;

	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->config = config;
	server->started_us = sdd_now_us();
	server->lock_fd = -EBADF;
	server->connections.limit = config->max_connections;
	server->refused.limit = SDD_REFUSED_MAX;
	server->jobs.limit = config->max_jobs;
	server->inline_bytes.limit = SDD_INLINE_BUDGET;
	server->memory_budget_bytes = config->memory_budget
					      ? config->memory_budget
					      : sdd_budget_read(config->memory_reserve);
	server->types = sdd_types_expected(config->backend, config->dtype);
	server->adapter_headers = sdd_footprint_headers_new();
	sdd_list_init(&server->sessions);
	sdd_list_init(&server->kept);
	sdd_queue_init(&server->queue);
	server->queue.ageing_us = config->ageing_us;
	sdd_runner_init(server);
	sdd_questions_init(server);
	sdd_users_init(&server->users, config->max_connections_per_user, config->max_jobs_per_user);
	sdd_watch_init(&server->watch);
	sdd_hasher_init(&server->hasher);
	sdd_registry_init(&server->registry, config->roots, config->n_roots, config->default_model);
	raise_descriptor_limit();
	r = set_up(server, spawn);
	if (r < 0)
		return r;
	*ret_server = sdd_steal_pointer(server);
	return 0;
}

struct sdd_server *sdd_server_free(struct sdd_server *server)
{
	struct sdd_session *session;
	struct sdd_job *job, *following;

	if (!server)
		return NULL;
	server->stopping = true;
	server->stop_deadline = sd_event_source_disable_unref(server->stop_deadline);
	sdd_listen_close(server);
	if (server->reaper) {
		sdd_list_for_each (session, &server->sessions, link)
			sdd_session_close(session, "the daemon ends");
		sdd_session_reap(server);
	}
	if (server->event)
		sdd_supervisor_clear(&server->supervisor);
	sdd_watch_clear(server);
	sdd_hasher_clear(server);
	sdd_runner_clear(server);
	sdd_questions_clear(server);
	sdd_list_for_each_safe (job, following, &server->queue.jobs, link)
		sdd_job_free(job);
	sdd_list_for_each_safe (job, following, &server->kept, link)
		sdd_job_free(job);
	sdd_registry_clear(&server->registry);
	sdd_memo_clear(&server->adapter_headers);
	sd_event_source_disable_unref(server->sigterm);
	sd_event_source_disable_unref(server->sigint);
	sd_event_source_disable_unref(server->reaper);
	sd_event_source_disable_unref(server->expiry);
	sd_event_source_disable_unref(server->watchdog);
	sd_event_source_disable_unref(server->residency);
	sd_event_source_disable_unref(server->idle);
	sd_event_unref(server->event);
	free(server);
	return NULL;
}

void sdd_server_notify_status(struct sdd_server *server)
{
	if (server->stopping)
		return;
	sdd_notify("STATUS=%s, %zu waiting, %" PRIu64 " done",
		   server->runner.n_jobs > 0 ? "Painting" : "Idle", server->queue.length,
		   server->n_done);
}

int sdd_server_run(struct sdd_server *server)
{
	sdd_log(LOG_INFO, NULL, "sdd %s ready, %zu models, %" PRIu64 " MiB of memory to use",
		SDD_VERSION, server->registry.n_models, server->memory_budget_bytes >> 20);
	/* the one message that must arrive, and the first: it may be waited for */
	sd_notify(0, "READY=1\nSTATUS=Idle");
	return sd_event_loop(server->event);
}

static int on_stop_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_server *server = userdata;
	struct sdp_error error;
	struct sdd_job *job;

	sdd_log(LOG_WARNING, NULL, "not everything ended in time; stopping anyway");
	while ((job = sdd_runner_job(server))) {
		sdp_error_set(&error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
		sdd_runner_drop(server, job);
		sdd_jobs_finish(server, job, SDP_JOB_STATE_CANCELLED, &error);
	}
	return sd_event_exit(server->event, 0);
}

void sdd_server_stop(struct sdd_server *server, const char *reason)
{
	if (server->stopping)
		return;
	sdd_log(LOG_INFO, NULL, "stopping: %s", reason);
	sdd_notify("STOPPING=1\nSTATUS=Stopping");
	server->stopping = true;
	sdd_listen_close(server);
	sdd_events_stopping(server, reason);
	sdd_runner_stop(server);
	sdd_jobs_stop(server);
	if (sd_event_add_time_relative(server->event, &server->stop_deadline, CLOCK_MONOTONIC,
				       stop_timeout_us, 0, on_stop_deadline, server) < 0)
		sd_event_exit(server->event, 0);
	else
		sdd_server_check_stopped(server);
}

void sdd_server_check_stopped(struct sdd_server *server)
{
	const struct sdd_session *session;

	if (!server->event || server->runner.n_jobs > 0)
		return;
	sdd_list_for_each (session, &server->sessions, link)
		if (session->state == SDD_SESSION_READY && !sdd_session_is_drained(session))
			return;
	sd_event_exit(server->event, 0);
}
