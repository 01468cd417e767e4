/*
 * One client's connection: hello, deadlines, limits, and the way back for answers and events. A session never blocks and
 * never trusts: a peer that is silent, half-open, too slow or not allowed is cut off, and nobody else notices.
 */
#pragma once

#include "daemon/server.h"
#include "protocol/connection.h"

struct sdd_session {
	struct sdd_server *server;
	struct sdd_list link;
	uint64_t id;
	enum {
		SDD_SESSION_NEW,     /* has not said hello */
		SDD_SESSION_REFUSED, /* gets `refusal` as the answer to its first request */
		SDD_SESSION_READY,
		SDD_SESSION_CLOSED,
	} state;
	struct sdp_connection *connection;
	sd_event_source *io_source, *timer_source;
	sd_event_source *
		turn_source; /* goes on with what it has asked, a turn later; NULL: it never asked so much */
	pid_t pid;
	uid_t uid;
	struct sdd_user *user;
	struct sdd_charge charge, charge_user, charge_buffer;
	struct sdd_meter waiting; /* jobs of this connection that wait */
	struct sdd_list leases;	  /* struct sdd_lease */
	struct sdp_error refusal;
	uint64_t accepted_us;
	uint64_t
		result_bytes; /* of results among the queued frames: they do not count as slowness */
	sd_event_source *reader_source; /* NULL: nobody waits for it to read */
	uint64_t last_preview;		/* which of all it was sent */
	bool receives_fds, had_read_all;
	bool subscribed_jobs, subscribed_models, subscribed_previews;
};

/* Takes the accepted socket. A client that cannot be served is told why, if possible, and dropped. */
void sdd_session_accept(struct sdd_server *server, int fd);
/* Any number of times; the object itself goes at the end of the loop's turn. why is logged (debug). */
void sdd_session_close(struct sdd_session *session, const char *why);
/* Free those that were closed. */
void sdd_session_reap(struct sdd_server *server);

/* Answer a request with the writer's content; a content beyond the protocol's limits becomes the error too_large. */
void sdd_session_reply(struct sdd_session *session, uint32_t msgid, struct sdp_writer *writer);
/* The same for a result: its bytes are exempt from the limit on queued output. */
void sdd_session_reply_result(struct sdd_session *session, uint32_t msgid,
			      struct sdp_writer *writer);
void sdd_session_fail(struct sdd_session *session, uint32_t msgid, const struct sdp_error *error);
/* coalesce as in sdp_connection_queue. A client that lets events pile up is cut off. */
void sdd_session_event(struct sdd_session *session, struct sdp_writer *writer, uint64_t coalesce);
/* The same for one that carries a result: never replaced, its bytes exempt as those of sdd_session_reply_result. */
void sdd_session_event_result(struct sdd_session *session, struct sdp_writer *writer);
/*
 * Whether it has so much to read that a sketch more is none it asked for: each keeps its pixels alive until it is read, in the kernel
 * too, where nothing replaces it. Some twenty short messages.
 */
bool sdd_session_is_behind(const struct sdd_session *session);
/* When it has read so much that it is no longer behind, sdd_events_previews_due() follows. Lost when memory or descriptors are short. */
void sdd_session_await_reader(struct sdd_session *session);
/* Whether the client has read all that was said to it; for a closed one, whether it had. */
bool sdd_session_has_read_all(const struct sdd_session *session);
/* Whether everything said has been taken. */
bool sdd_session_is_drained(const struct sdd_session *session);
