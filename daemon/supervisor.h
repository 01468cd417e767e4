/*
 * Keeps one sdd-worker alive while there is work: starts it on demand, listens to its heartbeat while it is busy, kills
 * it when it, or its engine alone, hangs, and waits a growing while before it starts one again that died. It moves messages and knows nothing
 * of jobs. An idle worker costs no timer.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/spawn.h"
#include "protocol/connection.h"

#include <systemd/sd-event.h>

enum {
	SDD_SUPERVISOR_FAILURES_MAX =
		3, /* starts in a row without worker.ready before waiting jobs are failed */
};

struct sdd_supervisor_handlers {
	/* It said worker.ready, or has nothing to do again. */
	void (*ready)(void *userdata);
	/* Any other message; owned by the handler. */
	void (*message)(void *userdata, struct sdp_message *message);
	/* It is gone, with everything in it. why is for people. */
	void (*lost)(void *userdata, const char *why);
	/* It cannot be started, several times in a row. */
	void (*unusable)(void *userdata, const char *why);
	void *userdata;
};

struct sdd_supervisor {
	sd_event *event;
	const struct sdd_config *config;
	sdd_spawn_fn spawn;
	struct sdd_supervisor_handlers handlers;
	enum sdp_worker_state state;
	pid_t pid;
	struct sdp_connection *connection;
	sd_event_source *io_source, *child_source, *timer_source;
	sd_event_source *
		retry_source; /* of writing, where no event tells when (sdp_connection_waits_for_others) */
	char engine[256];
	char reason[256]; /* why we killed it, "" = it died by itself */
	uint64_t started_us, heard_us, backoff_us;
	uint64_t pulse, pulse_us; /* of its engine, and when it was last seen to change */
	uint64_t n_restarts, n_failures;
	bool ever_started, wanted;
	bool dying; /* its end is certain but not yet reported: give it nothing */
};

int sdd_supervisor_init(struct sdd_supervisor *supervisor, sd_event *event,
			const struct sdd_config *config, sdd_spawn_fn spawn,
			const struct sdd_supervisor_handlers *handlers);
/* Kills and reaps what runs. */
void sdd_supervisor_clear(struct sdd_supervisor *supervisor);

/* There is work: start a worker unless one runs, starts, or must wait its time. */
void sdd_supervisor_want(struct sdd_supervisor *supervisor);
/* Nothing waits any more: a pending restart is dropped. */
void sdd_supervisor_unwant(struct sdd_supervisor *supervisor);
/* Between the first message of an operation and its answer the worker must show signs of life. */
void sdd_supervisor_set_busy(struct sdd_supervisor *supervisor, bool busy);
/* Queue a message; the writer is empty afterwards. 0 or a negative errno (the message is lost). */
int sdd_supervisor_send(struct sdd_supervisor *supervisor, struct sdp_writer *writer);
/* It misbehaves: kill it; handlers.lost follows with this reason. */
void sdd_supervisor_kill(struct sdd_supervisor *supervisor, const char *why);
