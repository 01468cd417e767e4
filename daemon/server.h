/*
 * The daemon as one object: sockets, sessions, jobs and the worker's supervisor on one sd-event loop, one thread, no
 * locks. Everything else in daemon/ is a part of it or works on it.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/hasher.h"
#include "daemon/queue.h"
#include "daemon/quota.h"
#include "daemon/registry.h"
#include "daemon/supervisor.h"
#include "daemon/watch.h"

#include <stdbool.h>

enum {
	SDD_LISTENERS_MAX = 4,
	SDD_INLINE_BUDGET =
		256 * 1024 * 1024, /* bytes of messages held in memory, all clients together */
	SDD_REFUSED_MAX = 64,	   /* connections over the limit that still get a polite answer */
	SDD_BATCH_MAX = 4,	   /* jobs that run together; the engine's SDE_GROUP_MAX */
	SDD_BATCH_SHAPES_MAX = 16,
	SDD_KEPT_MAX = 256, /* ended detached jobs nobody has fetched */
};

struct sdd_listener {
	struct sdd_server *server;
	sd_event_source *source;
	int fd;
};

/* What the worker does now, and what it was asked to do between jobs; runner.h. */
struct sdd_runner {
	enum {
		SDD_RUNNER_IDLE,
		SDD_RUNNER_LOADING,
		SDD_RUNNER_RUNNING,
		SDD_RUNNER_UNLOADING,
		SDD_RUNNER_CHECKING
	} doing;
	/*
	 * Running together (batch.h), or the one that waits for its model, unless it was answered before the worker was done
	 * with it.
	 */
	struct sdd_list jobs;
	size_t n_jobs;
	char model[129];     /* being loaded, unloaded or checked */
	uint32_t msgid;	     /* of that */
	uint32_t last_msgid; /* given to any request */
	uint64_t op_started_us;
	struct sdd_list requests; /* struct sdd_model_request */
	bool kicking;
};

/* One of the engine's caches; caches.h. */
struct sdd_cache_figures {
	uint64_t entries, bytes, hits, misses;
	uint64_t hits_before, misses_before; /* of workers that have gone */
};

/* What the worker was asked on behalf of clients; questions.h. */
struct sdd_questions {
	struct sdd_list list;
	uint32_t next_msgid;
};

/* What is known of jobs of a shape in company, by their number; batch.h. */
struct sdd_batch_shape {
	char model[129];
	bool guided;
	int width, height, select_width, select_height;
};

struct sdd_batch_figures {
	struct sdd_batch_shape shape;
	uint64_t since_us;
	bool told[SDD_BATCH_MAX + 1];
	unsigned int tries[SDD_BATCH_MAX + 1];
	double speedup[SDD_BATCH_MAX + 1];
};

struct sdd_server {
	const struct sdd_config *config;
	sd_event *event;
	char instance[33];
	uint64_t started_us;

	struct sdd_listener listeners[SDD_LISTENERS_MAX];
	size_t n_listeners;
	sd_event_source *accept_again; /* after descriptors ran out */
	int lock_fd;		       /* held while we own the socket's path */
	bool owns_path;

	struct sdd_users users;
	struct sdd_meter connections, refused, jobs, inline_bytes;
	struct sdd_list sessions; /* struct sdd_session */
	sd_event_source *reaper;
	uint64_t next_session_id, next_job_id;
	uint64_t last_preview; /* previews so far */

	struct sdd_registry registry;
	struct sdd_watch watch;
	struct sdd_hasher hasher;
	struct sdd_queue queue;
	struct sdd_supervisor supervisor;
	struct sdd_runner runner;
	struct sdd_questions questions;

	struct sdd_list kept; /* ended detached jobs, oldest first */
	size_t n_kept;
	uint64_t kept_bytes;
	sd_event_source *expiry;

	uint64_t n_done, n_failed, n_cancelled, n_interrupted, n_loads;
	struct sdd_cache_figures caches[SDP_CACHE_KIND_COUNT];
	struct sdd_batch_figures batch[SDD_BATCH_SHAPES_MAX];
	size_t next_batch;
	uint64_t n_joined; /* jobs that began beside others */
	sd_event_source *residency;
	bool stopping;
	sd_event_source *stop_deadline;
	sd_event_source *sigterm, *sigint, *watchdog;
	sd_event_source *idle; /* NULL = we do not end by ourselves */
	uint64_t memory_budget_bytes;
	struct sdd_types types;		 /* what the worker will compute in */
	struct sdd_memo adapter_headers; /* footprint.h */
};

/* The configuration must outlive the server. 0 or a negative errno. */
int sdd_server_new(const struct sdd_config *config, sdd_spawn_fn spawn,
		   struct sdd_server **ret_server);
struct sdd_server *sdd_server_free(struct sdd_server *server);
SDD_DEFINE_CLEANUP(struct sdd_server *, sdd_server_free)

/* Serves until it is told to stop. 0, or a negative errno of the event loop. */
int sdd_server_run(struct sdd_server *server);

/* Tell clients, cancel jobs, and leave the loop once everybody has the answer (or a deadline has passed). */
void sdd_server_stop(struct sdd_server *server, const char *reason);
/* While stopping: look whether all is said, and leave the loop then. */
void sdd_server_check_stopped(struct sdd_server *server);
/* Tell the service manager what we are doing. */
void sdd_server_notify_status(struct sdd_server *server);
