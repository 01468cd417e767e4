/*
 * Which models stay in memory. Those that a connected client has used stay; those that nobody connected has used for a
 * while leave. When a model needs room within the budget, the one whose last use is longest ago leaves first, those
 * without a client before those with; a pinned one never. Where even that is not enough, the one who asks is told why.
 */
#pragma once

#include "daemon/session.h"

/* A connection's hold on a model; it ends with the connection. */
struct sdd_lease {
	struct sdd_list link; /* in the session */
	char model[129];
	bool pins;
};

enum { SDD_LEASES_MAX = 16 }; /* of a session; the oldest is forgotten */

int sdd_residency_init(struct sdd_server *server);

/* keep_alive_ms when the client does not say: what is configured. */
#define SDD_KEEP_ALIVE_DEFAULT (-2)

/*
 * The session (may be NULL) uses the model now. keep_alive_ms: how long it stays once no client holds it; -1 = until it
 * must make room.
 */
void sdd_residency_use(struct sdd_server *server, struct sdd_session *session,
		       struct sdd_model *model, int64_t keep_alive_ms, bool pins);
/* The session's leases end. */
void sdd_residency_forget_session(struct sdd_server *server, struct sdd_session *session);
/* After a model came, went, or was used: when to look again. */
void sdd_residency_update(struct sdd_server *server);

/*
 * What must leave before this model can be loaded, or its job run, in so many bytes: 1 and *ret_victim (ask again when it has left), 0 = there is room,
 * -EINVAL with *ret_error (no_memory: what is pinned, and what would help).
 */
int sdd_residency_make_room(struct sdd_server *server, const struct sdd_model *model,
			    uint64_t needed_bytes, struct sdd_model **ret_victim,
			    struct sdp_error *ret_error);

/* model_info's fields, who holds it included, into the map in work. */
void sdd_residency_write(struct sdd_server *server, const struct sdd_model *model,
			 struct sdp_writer *writer);

/* How many connections hold it; *ret_pinned whether one of them pins it. */
size_t sdd_residency_holders(const struct sdd_server *server, const struct sdd_model *model,
			     bool *ret_pinned);
/* Microseconds until it leaves by itself; -1 = not by time. */
int64_t sdd_residency_rest_us(const struct sdd_server *server, const struct sdd_model *model);
