/*
 * The daemon's log: one line an event, quiet when clients behave. Under systemd the lines go to the journal with
 * fields (SDD_JOB=, SDD_CLIENT=, SDD_MODEL=, SDD_WORKER_PID=, MESSAGE_ID=), elsewhere to stderr with the same facts as text.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

/* What an event is about; zero or NULL fields are left out. */
struct sdd_log_about {
	uint64_t job;
	uint64_t session;
	pid_t peer_pid;
	pid_t worker_pid;
	const char *model;
	const char *message_id; /* of message-ids.h; for the journal only */
};

/* identifier is "sdd" or "sdd-worker". Decides once where lines go: the journal if stderr is connected to it. */
void sdd_log_open(const char *identifier, int level);
void sdd_log_set_level(int level);

/* level is one of LOG_ERR .. LOG_DEBUG; about may be NULL. Keeps errno. */
void sdd_log(int level, const struct sdd_log_about *about, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
