/*
 * The worker's life; see supervisor.h.
 */
#include "daemon/supervisor.h"
#include "daemon/log.h"
#include "daemon/message-ids.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

static const uint64_t backoff_first_us = 100 * 1000, backoff_max_us = 10 * 1000 * 1000;
/* a worker that lived this long was a good one: the next pause is short again */
static const uint64_t backoff_forget_us = 60 * 1000 * 1000;
static const unsigned int heartbeats_in_timeout = 4;

static void worker_gone(struct sdd_supervisor *supervisor, const char *why);

static void log_about(const struct sdd_supervisor *supervisor, int level, const char *text)
{
	const struct sdd_log_about about = {.worker_pid = supervisor->pid};

	sdd_log(level, &about, "%s", text);
}

static void set_timer(struct sdd_supervisor *supervisor, uint64_t delay_us)
{
	if (delay_us == 0) {
		sd_event_source_set_enabled(supervisor->timer_source, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(supervisor->timer_source, delay_us);
	sd_event_source_set_enabled(supervisor->timer_source, SD_EVENT_ONESHOT);
}

static void update_io(struct sdd_supervisor *supervisor)
{
	short events;

	if (!supervisor->connection)
		return;
	events = sdp_connection_events(supervisor->connection);
	sd_event_source_set_io_events(supervisor->io_source,
				      EPOLLIN | (events & POLLOUT ? EPOLLOUT : 0u));
	if (!sdp_connection_waits_for_others(supervisor->connection))
		return;
	sd_event_source_set_time_relative(supervisor->retry_source, SDP_OTHERS_RETRY_MS * 1000);
	sd_event_source_set_enabled(supervisor->retry_source, SD_EVENT_ONESHOT);
}

static void drop_connection(struct sdd_supervisor *supervisor)
{
	supervisor->io_source = sd_event_source_disable_unref(supervisor->io_source);
	supervisor->connection = sdp_connection_free(supervisor->connection);
}

void sdd_supervisor_kill(struct sdd_supervisor *supervisor, const char *why)
{
	if (!supervisor->connection || supervisor->dying)
		return;
	supervisor->dying = true;
	snprintf(supervisor->reason, sizeof(supervisor->reason), "%s", why);
	if (supervisor->pid > 0)
		kill(supervisor->pid, SIGKILL); /* its end comes as a child event */
	else
		worker_gone(supervisor, why);
}

static void take_ready(struct sdd_supervisor *supervisor, struct sdp_message *message)
{
	struct sdp_record *record;
	struct sdp_error error;

	if (supervisor->dying)
		return;
	if (supervisor->state != SDP_WORKER_STATE_STARTING ||
	    sdp_record_decode(message, &sdp_struct_worker_ready, SDP_LENIENT, &record, &error) <
		    0) {
		sdd_supervisor_kill(supervisor, "it spoke out of turn");
		return;
	}
	snprintf(supervisor->engine, sizeof(supervisor->engine), "%s",
		 sdp_record_string(record, SDP_WORKER_READY_ENGINE));
	supervisor->state = SDP_WORKER_STATE_IDLE;
	supervisor->wanted = false;
	supervisor->n_failures = 0;
	set_timer(supervisor, 0);
	log_about(supervisor, LOG_INFO, "worker ready");
	supervisor->handlers.ready(supervisor->handlers.userdata);
}

/* The process lives; its engine only if it has done something since. */
static void take_pong(struct sdd_supervisor *supervisor, struct sdp_message *message)
{
	struct sdp_record *record;
	uint64_t pulse;

	if (message->failed ||
	    sdp_record_decode(message, &sdp_struct_worker_pong, SDP_LENIENT, &record, NULL) < 0)
		return;
	if (!sdp_record_given(record, SDP_WORKER_PONG_PULSE))
		return; /* the answer to worker.cancel */
	pulse = sdp_record_uint(record, SDP_WORKER_PONG_PULSE);
	if (pulse == supervisor->pulse)
		return;
	supervisor->pulse = pulse;
	supervisor->pulse_us = sdd_now_us();
}

static void take_message(struct sdd_supervisor *supervisor, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;

	if (message->kind == SDP_EVENT && message->method &&
	    message->method->id == SDP_EVENT_WORKER_READY) {
		take_ready(supervisor, message);
		return;
	}
	if (message->kind == SDP_RESPONSE && message->msgid == 0) {
		take_pong(supervisor, message);
		return;
	}
	supervisor->handlers.message(supervisor->handlers.userdata, sdd_steal_pointer(owned));
}

/* Returns false once the connection is of no more use. */
static bool drain(struct sdd_supervisor *supervisor)
{
	struct sdp_message *message;
	struct sdp_error error = {0};
	int r;

	r = sdp_connection_read(supervisor->connection, &error);
	if (r > 0)
		supervisor->heard_us = sdd_now_us();
	while (r >= 0 && supervisor->connection) {
		int popped = sdp_connection_pop(supervisor->connection, &message, &error);

		if (popped <= 0) {
			r = popped < 0 ? popped : r;
			break;
		}
		take_message(supervisor, message);
	}
	if (r == -EPROTO)
		sdd_log(LOG_ERR, NULL, "the worker sent nonsense: %s", error.message);
	return r >= 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_supervisor *supervisor = userdata;
	bool usable = true;

	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		usable = drain(supervisor);
	if (usable && supervisor->connection && revents & EPOLLOUT)
		usable = sdp_connection_write(supervisor->connection) >= 0;
	if (!usable && supervisor->connection) {
		/* no more to hear from it; whether it died or broke the protocol, the process must go */
		sd_event_source_set_enabled(supervisor->io_source, SD_EVENT_OFF);
		if (supervisor->pid > 0) {
			supervisor->dying = true;
			kill(supervisor->pid, SIGKILL);
		} else {
			worker_gone(supervisor, "its thread ended");
		}
	} else {
		update_io(supervisor);
	}
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_supervisor *supervisor = userdata;

	return supervisor->io_source ? on_io(supervisor->io_source, -EBADF, EPOLLOUT, supervisor)
				     : 0;
}

static void describe_exit(const siginfo_t *info, char *text, size_t size)
{
	if (info->si_code == CLD_EXITED)
		snprintf(text, size, "it exited with status %d", info->si_status);
	else
		snprintf(text, size, "it was killed by signal %d (%s)", info->si_status,
			 sigdescr_np(info->si_status) ? sigdescr_np(info->si_status) : "?");
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct sdd_supervisor *supervisor = userdata;
	char why[256];

	/* what it sent before it died still counts */
	while (supervisor->connection && sdp_connection_fd(supervisor->connection) >= 0) {
		uint64_t heard = supervisor->heard_us;

		if (!drain(supervisor) || supervisor->heard_us == heard)
			break;
	}
	if (supervisor->reason[0])
		snprintf(why, sizeof(why), "%s", supervisor->reason);
	else
		describe_exit(info, why, sizeof(why));
	worker_gone(supervisor, why);
	return 0;
}

/* why must not be supervisor->reason itself */
static void worker_gone(struct sdd_supervisor *supervisor, const char *why)
{
	const bool was_starting = supervisor->state == SDP_WORKER_STATE_STARTING;
	const uint64_t lived_us = sdd_now_us() - supervisor->started_us;
	const struct sdd_log_about about = {.worker_pid = supervisor->pid,
					    .message_id = SDD_MESSAGE_WORKER_LOST};

	sdd_log(LOG_WARNING, &about, "worker lost: %s", why);
	drop_connection(supervisor);
	supervisor->child_source = sd_event_source_disable_unref(supervisor->child_source);
	supervisor->pid = 0;
	supervisor->dying = false;
	supervisor->reason[0] = '\0';
	if (lived_us > backoff_forget_us)
		supervisor->backoff_us = 0;
	supervisor->backoff_us =
		supervisor->backoff_us == 0 ? backoff_first_us : supervisor->backoff_us * 2;
	if (supervisor->backoff_us > backoff_max_us)
		supervisor->backoff_us = backoff_max_us;
	supervisor->state = SDP_WORKER_STATE_WAITING;
	set_timer(supervisor, supervisor->backoff_us);
	if (was_starting && ++supervisor->n_failures >= SDD_SUPERVISOR_FAILURES_MAX)
		supervisor->handlers.unusable(supervisor->handlers.userdata, why);
	supervisor->handlers.lost(supervisor->handlers.userdata, why);
}

static void start(struct sdd_supervisor *supervisor)
{
	const struct sdp_connection_options options = {.inline_max = SDP_INLINE_MAX,
						       .inline_results = true};
	char why[256];
	int fd, r;

	supervisor->started_us = supervisor->heard_us = sdd_now_us();
	supervisor->state = SDP_WORKER_STATE_STARTING;
	if (supervisor->ever_started)
		supervisor->n_restarts++;
	supervisor->ever_started = true;
	r = supervisor->spawn(supervisor->config, &fd, &supervisor->pid);
	if (r < 0) {
		snprintf(why, sizeof(why), "cannot start %s: %s", supervisor->config->worker,
			 strerror(-r));
		worker_gone(supervisor, why);
		return;
	}
	r = sdp_connection_new(fd, &options, &supervisor->connection);
	if (r == 0)
		r = sd_event_add_io(supervisor->event, &supervisor->io_source,
				    sdp_connection_fd(supervisor->connection), EPOLLIN, on_io,
				    supervisor);
	if (r >= 0 && supervisor->pid > 0)
		r = sd_event_add_child(supervisor->event, &supervisor->child_source,
				       supervisor->pid, WEXITED, on_child, supervisor);
	if (r < 0) {
		if (supervisor->pid > 0) {
			kill(supervisor->pid, SIGKILL);
			waitpid(supervisor->pid, NULL, 0);
		}
		worker_gone(supervisor, "out of memory or descriptors");
		return;
	}
	set_timer(supervisor, supervisor->config->worker_start_timeout_us);
	log_about(supervisor, LOG_DEBUG, "worker started");
}

static uint64_t heartbeat_us(const struct sdd_supervisor *supervisor)
{
	const struct sdd_config *config = supervisor->config;
	const uint64_t nearest = config->heartbeat_timeout_us < config->engine_timeout_us
					 ? config->heartbeat_timeout_us
					 : config->engine_timeout_us;

	return nearest / heartbeats_in_timeout;
}

static void ping(struct sdd_supervisor *supervisor)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_request(&writer, 0, "worker.ping");
	sdd_supervisor_send(supervisor, &writer);
	sdp_writer_clear(&writer);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_supervisor *supervisor = userdata;
	const uint64_t timeout_us = supervisor->config->heartbeat_timeout_us;

	switch (supervisor->state) {
	case SDP_WORKER_STATE_STARTING:
		sdd_supervisor_kill(supervisor, "it did not report in time after its start");
		break;
	case SDP_WORKER_STATE_BUSY:
		if (sdd_now_us() - supervisor->heard_us > timeout_us) {
			sdd_supervisor_kill(supervisor, "it hung: no sign of life in time");
			break;
		}
		if (sdd_now_us() - supervisor->pulse_us > supervisor->config->engine_timeout_us) {
			sdd_supervisor_kill(supervisor, "its engine hung: no headway in time");
			break;
		}
		ping(supervisor);
		set_timer(supervisor, heartbeat_us(supervisor));
		break;
	case SDP_WORKER_STATE_WAITING:
		supervisor->state = SDP_WORKER_STATE_STOPPED;
		if (supervisor->wanted)
			start(supervisor);
		break;
	default:
		break;
	}
	return 0;
}

int sdd_supervisor_init(struct sdd_supervisor *supervisor, sd_event *event,
			const struct sdd_config *config, sdd_spawn_fn spawn,
			const struct sdd_supervisor_handlers *handlers)
{
	int r;

	*supervisor = (struct sdd_supervisor){
		.event = event,
		.config = config,
		.spawn = spawn,
		.handlers = *handlers,
		.state = SDP_WORKER_STATE_STOPPED,
	};
	r = sd_event_add_time_relative(event, &supervisor->timer_source, CLOCK_MONOTONIC, 0, 0,
				       on_timer, supervisor);
	if (r < 0)
		return r;
	r = sd_event_add_time(event, &supervisor->retry_source, CLOCK_MONOTONIC, UINT64_MAX, 0,
			      on_retry, supervisor);
	if (r >= 0)
		r = sd_event_source_set_enabled(supervisor->retry_source, SD_EVENT_OFF);
	if (r < 0)
		return r;
	/* after the sockets: what arrived while we were stopped or busy is heard before silence is judged */
	sd_event_source_set_priority(supervisor->timer_source, SD_EVENT_PRIORITY_IDLE);
	return sd_event_source_set_enabled(supervisor->timer_source, SD_EVENT_OFF);
}

void sdd_supervisor_clear(struct sdd_supervisor *supervisor)
{
	supervisor->child_source = sd_event_source_disable_unref(supervisor->child_source);
	supervisor->timer_source = sd_event_source_disable_unref(supervisor->timer_source);
	supervisor->retry_source = sd_event_source_disable_unref(supervisor->retry_source);
	drop_connection(supervisor);
	if (supervisor->pid > 0) {
		kill(supervisor->pid, SIGKILL);
		while (waitpid(supervisor->pid, NULL, 0) < 0 && errno == EINTR)
			;
		supervisor->pid = 0;
	}
	supervisor->state = SDP_WORKER_STATE_STOPPED;
}

void sdd_supervisor_want(struct sdd_supervisor *supervisor)
{
	supervisor->wanted = true;
	if (supervisor->state == SDP_WORKER_STATE_STOPPED)
		start(supervisor);
}

void sdd_supervisor_unwant(struct sdd_supervisor *supervisor)
{
	supervisor->wanted = false;
}

void sdd_supervisor_set_busy(struct sdd_supervisor *supervisor, bool busy)
{
	if (supervisor->state != SDP_WORKER_STATE_IDLE &&
	    supervisor->state != SDP_WORKER_STATE_BUSY)
		return;
	supervisor->state = busy ? SDP_WORKER_STATE_BUSY : SDP_WORKER_STATE_IDLE;
	if (busy) {
		/* silence counts from here: an idle worker was not listened to */
		supervisor->heard_us = supervisor->pulse_us = sdd_now_us();
		ping(supervisor);
		set_timer(supervisor, heartbeat_us(supervisor));
	} else {
		/* it has finished something: should it die one day, the next is started at once */
		supervisor->backoff_us = 0;
		set_timer(supervisor, 0);
	}
}

int sdd_supervisor_send(struct sdd_supervisor *supervisor, struct sdp_writer *writer)
{
	int r;

	if (!supervisor->connection || supervisor->dying)
		return -ENOTCONN;
	r = sdp_connection_queue(supervisor->connection, writer, 0);
	if (r < 0)
		return r;
	update_io(supervisor);
	return 0;
}
