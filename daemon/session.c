/*
 * Connections of clients; see session.h.
 */
#include "daemon/session.h"
#include "daemon/dispatch.h"
#include "daemon/events.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/message-ids.h"
#include "daemon/peer.h"
#include "daemon/questions.h"
#include "daemon/residency.h"
#include "daemon/runner.h"
#include "daemon/util/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	QUEUE_MAX =
		256 *
		1024, /* bytes of answers and events, results aside, before we call it too slow */
	QUEUE_THROTTLE = 64 * 1024, /* bytes from which on no further request is read */
	REQUESTS_A_TURN = 8,	    /* before the others' turn comes */
	BEHIND = 16 * 1024,	    /* bytes unread, from which on it is sent no previews */
	RETRY_MS = 1000,
};
static const uint64_t refused_timeout_us = 2 * 1000 * 1000;

static void about(const struct sdd_session *session, struct sdd_log_about *ret)
{
	*ret = (struct sdd_log_about){.session = session->id, .peer_pid = session->pid};
}

static size_t queued_bytes(const struct sdd_session *session)
{
	struct sdp_connection_figures figures;

	sdp_connection_figures(session->connection, &figures);
	return figures.queued_bytes > session->result_bytes
		       ? figures.queued_bytes - session->result_bytes
		       : 0;
}

void sdd_session_close(struct sdd_session *session, const char *why)
{
	struct sdd_server *server = session->server;
	struct sdd_log_about whom;

	if (session->state == SDD_SESSION_CLOSED)
		return;
	about(session, &whom);
	sdd_log(LOG_DEBUG, &whom, "connection closed: %s", why);
	session->state = SDD_SESSION_CLOSED;
	session->io_source = sd_event_source_disable_unref(session->io_source);
	session->timer_source = sd_event_source_disable_unref(session->timer_source);
	session->reader_source = sd_event_source_disable_unref(session->reader_source);
	session->turn_source = sd_event_source_disable_unref(session->turn_source);
	/* the last words leave if the socket takes them at once */
	if (session->connection)
		sdp_connection_write(session->connection);
	session->had_read_all = session->connection && sdp_connection_is_read(session->connection);
	session->connection = sdp_connection_free(session->connection);
	sdd_charge_refund(&session->charge);
	sdd_charge_refund(&session->charge_user);
	sdd_charge_refund(&session->charge_buffer);
	/* it stays in the list until the turn's end, so that walks along the sessions may close any of them */
	sd_event_source_set_enabled(server->reaper, SD_EVENT_ONESHOT);
}

void sdd_session_reap(struct sdd_server *server)
{
	struct sdd_session *session, *following;

	sdd_list_for_each_safe (session, following, &server->sessions, link) {
		if (session->state != SDD_SESSION_CLOSED)
			continue;
		sdd_runner_forget_session(server, session);
		sdd_questions_forget_session(server, session);
		sdd_jobs_forget_session(server, session);
		sdd_residency_forget_session(server, session);
		sdd_list_remove(&session->link);
		sdd_user_unref(session->user);
		free(session);
	}
	if (server->stopping)
		sdd_server_check_stopped(server);
}

/* The nearest of the deadlines that hold now, 0 = none. */
static uint64_t deadline_us(const struct sdd_session *session,
			    const struct sdp_connection_figures *figures, const char **ret_why)
{
	const struct sdd_config *config = session->server->config;
	uint64_t nearest = 0, candidate;

	if (session->state == SDD_SESSION_NEW) {
		nearest = session->accepted_us + config->hello_timeout_us;
		*ret_why = "no hello within the deadline";
	} else if (session->state == SDD_SESSION_REFUSED) {
		nearest = session->accepted_us + refused_timeout_us;
		*ret_why = "refused";
	}
	candidate = figures->stalled_since_us + config->drain_timeout_us;
	if (figures->stalled_since_us && (!nearest || candidate < nearest)) {
		nearest = candidate;
		*ret_why = "the client does not read what it is sent";
	}
	candidate = figures->partial_since_us + config->frame_timeout_us;
	if (figures->partial_since_us && (!nearest || candidate < nearest)) {
		nearest = candidate;
		*ret_why = "a message was begun and not finished within the deadline";
	}
	return nearest;
}

/* 0 = never. */
static uint64_t sooner(uint64_t a_us, uint64_t b_us)
{
	return a_us && a_us < b_us ? a_us : b_us;
}

/* After any traffic: what to poll for, which deadline holds, and what the half message in memory costs. */
static void update(struct sdd_session *session)
{
	struct sdp_connection_figures figures;
	uint64_t deadline;
	const char *why;
	short events;

	if (session->state == SDD_SESSION_CLOSED)
		return;
	sdp_connection_figures(session->connection, &figures);
	if (figures.queued_frames == 0)
		session->result_bytes = 0;
	sdd_charge_refund(&session->charge_buffer);
	if ((session->state != SDD_SESSION_READY && figures.partial_bytes > SDP_CONTROL_MAX) ||
	    sdd_charge_take(&session->charge_buffer, &session->server->inline_bytes,
			    figures.partial_bytes) != 0) {
		sdd_session_close(session, "its unfinished message needs more memory than is left");
		return;
	}
	events = sdp_connection_events(session->connection);
	sd_event_source_set_io_events(session->io_source,
				      (queued_bytes(session) < QUEUE_THROTTLE ? EPOLLIN : 0u) |
					      (events & POLLOUT ? EPOLLOUT : 0u));
	deadline = deadline_us(session, &figures, &why);
	if (sdp_connection_waits_for_others(session->connection))
		deadline = sooner(deadline, sdd_now_us() + SDP_OTHERS_RETRY_MS * 1000);
	if (deadline)
		sd_event_source_set_time(session->timer_source, deadline);
	sd_event_source_set_enabled(session->timer_source,
				    deadline ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_session *session = userdata;
	struct sdp_connection_figures figures;
	struct sdp_error error;
	struct sdd_log_about whom;
	const char *why = "";
	uint64_t deadline;

	sdp_connection_figures(session->connection, &figures);
	deadline = deadline_us(session, &figures, &why);
	if (!deadline || sdd_now_us() < deadline) {
		if (sdp_connection_waits_for_others(session->connection))
			on_io(session->io_source, -EBADF, EPOLLOUT, session);
		else
			update(session);
		return 0;
	}
	about(session, &whom);
	whom.message_id = SDD_MESSAGE_CLIENT_CUT_OFF;
	sdd_log(LOG_NOTICE, &whom, "client cut off: %s", why);
	sdp_error_set(&error, SDP_CODE_TIMEOUT, "%s", why);
	if (session->state != SDD_SESSION_REFUSED)
		sdd_session_fail(session, 0, &error);
	sdd_session_close(session, why);
	return 0;
}

/* The stream cannot be read any further: say why, as far as that goes, and hang up. */
static void break_off(struct sdd_session *session, const struct sdp_error *error)
{
	struct sdd_log_about whom;

	about(session, &whom);
	whom.message_id = SDD_MESSAGE_CLIENT_CUT_OFF;
	sdd_log(LOG_NOTICE, &whom, "client cut off: %s", error->message);
	sdd_session_fail(session, 0, error);
	sdd_session_close(session, error->message);
}

static void process(struct sdd_session *session);

/* With what has come already; what is new waits in the socket. */
static int on_turn(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_session *session = userdata;

	process(session);
	update(session);
	if (session->server->stopping)
		sdd_server_check_stopped(session->server);
	return 0;
}

/* Behind whoever is ready now; a deferred source would not do, as it counts as waiting since it was made and so goes before everybody. */
static void go_on_later(struct sdd_session *session)
{
	int r;

	if (session->turn_source) {
		sd_event_source_set_time(session->turn_source, 0);
		r = sd_event_source_set_enabled(session->turn_source, SD_EVENT_ONESHOT);
	} else {
		r = sd_event_add_time(session->server->event, &session->turn_source,
				      CLOCK_MONOTONIC, 0, 1, on_turn, session);
	}
	if (r < 0)
		sdd_session_close(session, "out of memory");
}

static void process(struct sdd_session *session)
{
	struct sdp_error error = {0};
	struct sdp_message *message;
	int r = 1, left = REQUESTS_A_TURN;

	while (session->state != SDD_SESSION_CLOSED && queued_bytes(session) < QUEUE_THROTTLE &&
	       left > 0 && (r = sdp_connection_pop(session->connection, &message, &error)) > 0) {
		left--;
		if (session->state == SDD_SESSION_REFUSED) {
			sdd_session_fail(session, message->msgid, &session->refusal);
			sdp_message_free(message);
			sdd_session_close(session, session->refusal.message);
		} else {
			sdd_dispatch(session, message);
		}
	}
	if (r < 0)
		break_off(session, &error);
	/* there may be more; some requests cost a look into folders, and nobody has the loop for himself */
	else if (left == 0 && session->state != SDD_SESSION_CLOSED)
		go_on_later(session);
}

static void receive(struct sdd_session *session)
{
	struct sdp_error error = {0};
	int r;

	r = sdp_connection_read(session->connection, &error);
	process(session);
	if (r >= 0 || session->state == SDD_SESSION_CLOSED)
		return;
	if (r == -EPROTO)
		break_off(session, &error);
	else
		sdd_session_close(session, r == -ECONNRESET ? "by the client" : "broken");
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_session *session = userdata;

	if (revents & EPOLLOUT) {
		if (sdp_connection_write(session->connection) < 0)
			sdd_session_close(session, "by the client while we wrote");
		else
			process(session);
	}
	if (session->state != SDD_SESSION_CLOSED && revents & EPOLLIN)
		receive(session);
	else if (session->state != SDD_SESSION_CLOSED && revents & (EPOLLHUP | EPOLLERR))
		sdd_session_close(session, "by the client");
	update(session);
	if (session->server->stopping)
		sdd_server_check_stopped(session->server);
	return 0;
}

/* Who it is, and whether it may be here. Fills refusal and returns false if not. */
static bool admit(struct sdd_session *session, int fd)
{
	struct sdd_server *server = session->server;
	struct ucred peer;
	struct sdd_log_about whom;

	if (sdd_peer_read(fd, &peer) < 0) {
		sdp_error_set(&session->refusal, SDP_CODE_PERMISSION,
			      "the system does not say who you are");
		return false;
	}
	session->pid = peer.pid;
	session->uid = peer.uid;
	if (!sdd_peer_is_allowed(server->config, fd, &peer)) {
		about(session, &whom);
		whom.message_id = SDD_MESSAGE_CLIENT_REFUSED;
		sdd_log(LOG_NOTICE, &whom,
			"user %u refused: neither in allow-user nor in a group of allow-group",
			peer.uid);
		sdp_error_set(&session->refusal, SDP_CODE_PERMISSION,
			      "this daemon serves user %u; its settings allow-user or allow-group "
			      "would have to name user %u or a group of theirs",
			      geteuid(), peer.uid);
		return false;
	}
	if (sdd_users_get(&server->users, peer.uid, &session->user) < 0 ||
	    sdd_charge_take(&session->charge, &server->connections, 1) != 0 ||
	    sdd_charge_take(&session->charge_user, &session->user->connections, 1) != 0) {
		sdp_error_set(&session->refusal, SDP_CODE_BUSY,
			      "too many connections (%llu open); close one or try again",
			      (unsigned long long)server->connections.used);
		session->refusal.retry_ms = RETRY_MS;
		return false;
	}
	return true;
}

void sdd_session_accept(struct sdd_server *server, int fd)
{
	const struct sdp_connection_options options = {.inline_max = SDP_INLINE_MAX};
	struct sdd_session *session;
	int r;

	session = calloc(1, sizeof(*session));
	if (!session) {
		close(fd);
		return;
	}
	session->server = server;
	sdd_list_init(&session->leases);
	session->id = ++server->next_session_id;
	session->accepted_us = sdd_now_us();
	session->waiting.limit = server->config->max_waiting_per_connection;
	sdd_list_append(&server->sessions, &session->link);
	if (!admit(session, fd)) {
		sdd_charge_refund(&session->charge);
		session->state = SDD_SESSION_REFUSED;
		/* politeness is bounded too */
		if (sdd_charge_take(&session->charge, &server->refused, 1) != 0) {
			close(fd);
			sdd_session_close(session, "too many refused connections");
			return;
		}
	}
	r = sdp_connection_new(fd, &options, &session->connection);
	if (r == 0)
		r = sd_event_add_io(server->event, &session->io_source, fd, EPOLLIN, on_io,
				    session);
	if (r >= 0)
		r = sd_event_add_time(server->event, &session->timer_source, CLOCK_MONOTONIC,
				      UINT64_MAX, 0, on_timer, session);
	if (r < 0) {
		sdd_session_close(session, "out of memory");
		return;
	}
	update(session);
}

static void queue(struct sdd_session *session, uint32_t msgid, struct sdp_writer *writer,
		  bool result)
{
	struct sdp_error error;
	struct sdd_log_about whom;
	size_t length;
	int r;

	if (session->state == SDD_SESSION_CLOSED) {
		sdp_writer_clear(writer);
		return;
	}
	length = writer->length;
	r = sdp_connection_queue(session->connection, writer, 0);
	if (r == 0) {
		if (result)
			session->result_bytes += length;
		update(session);
		return;
	}
	about(session, &whom);
	sdd_log(LOG_WARNING, &whom, "an answer could not be sent: %s", strerrordesc_np(-r));
	if (r == -E2BIG)
		sdp_error_set(&error, SDP_CODE_TOO_LARGE,
			      "the answer is larger than a message may be; ask for descriptors "
			      "(feature fd) or for a smaller picture");
	else
		sdp_error_set(&error, SDP_CODE_NO_MEMORY,
			      "no memory or descriptors left for the answer; try again");
	sdp_writer_failure(writer, msgid, &error);
	if (sdp_connection_queue(session->connection, writer, 0) < 0)
		sdd_session_close(session, "no memory for an answer");
	else
		update(session);
}

void sdd_session_reply(struct sdd_session *session, uint32_t msgid, struct sdp_writer *writer)
{
	queue(session, msgid, writer, false);
}

void sdd_session_reply_result(struct sdd_session *session, uint32_t msgid,
			      struct sdp_writer *writer)
{
	queue(session, msgid, writer, true);
}

void sdd_session_fail(struct sdd_session *session, uint32_t msgid, const struct sdp_error *error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_failure(&writer, msgid, error);
	queue(session, msgid, &writer, false);
	sdp_writer_clear(&writer);
}

void sdd_session_event(struct sdd_session *session, struct sdp_writer *writer, uint64_t coalesce)
{
	struct sdd_log_about whom;

	if (session->state != SDD_SESSION_READY) {
		sdp_writer_clear(writer);
		return;
	}
	/* an event that finds no memory is lost; answers never are */
	if (sdp_connection_queue(session->connection, writer, coalesce) < 0)
		return;
	if (queued_bytes(session) > QUEUE_MAX) {
		about(session, &whom);
		whom.message_id = SDD_MESSAGE_CLIENT_CUT_OFF;
		sdd_log(LOG_NOTICE, &whom, "client cut off: it does not read its events");
		sdd_session_close(session, "too many events unread");
		return;
	}
	update(session);
}

void sdd_session_event_result(struct sdd_session *session, struct sdp_writer *writer)
{
	const size_t length = writer->length;

	if (session->state != SDD_SESSION_READY)
		return;
	/* one that finds no memory comes with the answer */
	if (sdp_connection_queue(session->connection, writer, 0) < 0)
		return;
	session->result_bytes += length;
	update(session);
}

bool sdd_session_is_behind(const struct sdd_session *session)
{
	return session->state != SDD_SESSION_CLOSED &&
	       sdp_connection_unread(session->connection) >= BEHIND;
}

/* The peer has read something, and there is room again. */
static int on_reader(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_session *session = userdata;

	if (sdd_session_is_behind(session))
		return 0;
	session->reader_source = sd_event_source_disable_unref(session->reader_source);
	sdd_events_previews_due(session);
	return 0;
}

/* Edges tell of every message that is read, where the level says only that a quarter of the buffer is free; they need a descriptor of their own. */
void sdd_session_await_reader(struct sdd_session *session)
{
	int fd;

	if (session->reader_source || session->state != SDD_SESSION_READY)
		return;
	fd = fcntl(sdp_connection_fd(session->connection), F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return;
	if (sd_event_add_io(session->server->event, &session->reader_source, fd, EPOLLOUT | EPOLLET,
			    on_reader, session) < 0) {
		close(fd);
		return;
	}
	sd_event_source_set_io_fd_own(session->reader_source, true);
}

bool sdd_session_has_read_all(const struct sdd_session *session)
{
	return session->state == SDD_SESSION_CLOSED ? session->had_read_all
						    : sdp_connection_is_read(session->connection);
}

bool sdd_session_is_drained(const struct sdd_session *session)
{
	struct sdp_connection_figures figures;

	if (session->state == SDD_SESSION_CLOSED)
		return true;
	sdp_connection_figures(session->connection, &figures);
	return figures.queued_frames == 0;
}
