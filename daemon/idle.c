/*
 * The timer of idle-exit; see idle.h.
 */
#include "daemon/idle.h"

static bool is_needed(const struct sdd_server *server)
{
	return !sdd_list_is_empty(&server->sessions) || server->queue.length > 0 ||
	       server->runner.doing != SDD_RUNNER_IDLE || server->n_kept > 0;
}

void sdd_idle_touch(struct sdd_server *server)
{
	if (!server->idle || server->stopping)
		return;
	sd_event_source_set_time_relative(server->idle, server->config->idle_exit_us);
	sd_event_source_set_enabled(server->idle, SD_EVENT_ONESHOT);
}

static int on_idle(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_server *server = userdata;

	/* a job without its client, or a result not fetched yet: look again a period later */
	if (is_needed(server))
		sdd_idle_touch(server);
	else
		sdd_server_stop(server, "nobody needs the daemon; the next client starts it again");
	return 0;
}

int sdd_idle_start(struct sdd_server *server)
{
	if (server->config->idle_exit_us == 0 || server->owns_path)
		return 0;
	return sd_event_add_time_relative(server->event, &server->idle, CLOCK_MONOTONIC,
					  server->config->idle_exit_us, 0, on_idle, server);
}
