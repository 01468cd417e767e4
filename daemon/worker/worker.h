/*
 * sdd-worker: two threads around the engine. The control thread owns the socket, answers heartbeats and takes cancels
 * while the engine thread computes; they share a queue of tasks, an outbox of finished messages, and one atomic that the
 * engine polls between steps.
 */
#pragma once

#include "daemon/engine/engine.h"
#include "daemon/util/list.h"
#include "protocol/connection.h"

#include <pthread.h>
#include <stdatomic.h>

struct sdd_worker_options {
	const char *backend, *dtype; /* "auto" = the engine's choice */
	int threads;		     /* 0 = what affinity and cgroup allow */
	uint64_t cache_bytes;	     /* for what jobs have in common */
};

/* A request for the engine thread. */
struct sdd_worker_task {
	struct sdd_list link;
	struct sdp_message *message;
	struct sdp_record *record;
	uint64_t job;	/* of worker.run, else 0 */
	bool yields;	/* it was asked to before its turn came */
	bool cancelled; /* before its turn came */
	bool previewed; /* a preview was asked for before its turn came */
};

/* A message on its way out. */
struct sdd_worker_letter {
	struct sdd_list link;
	struct sdp_writer writer;
	uint64_t coalesce;
};

struct sdd_loaded_model {
	struct sdd_list link;
	char name[129];
	struct sde_model *model;
};

struct sdd_worker {
	const struct sdd_worker_options *options;
	struct sdp_connection *connection; /* control thread only */
	struct sdd_list counters; /* control thread only: struct sdd_worker_counter, latest first */
	int wake_fd; /* eventfd: the outbox has something, or the engine thread has ended */

	pthread_mutex_t lock; /* guards all of this block */
	pthread_cond_t changed;
	struct sdd_list tasks, outbox;
	uint64_t running_job;
	bool quit, engine_ended;

	atomic_int preview; /* of the running job: one is asked for; the engine takes it back */
	atomic_int yield;   /* of the running job: stop behind the next checkpoint */
	atomic_int cancel;  /* of the running job */
	atomic_ulong pulse; /* counted up by the engine between ops */

	/* engine thread only */
	struct sde_engine *engine;
	struct sdd_list models;
};

/*
 * Serve on this socket (taken) until the other side closes it. 0 then, or a negative errno: the engine could not be
 * made, the peer broke the protocol, no memory.
 */
int sdd_worker_serve(int fd, const struct sdd_worker_options *options);

/* Engine thread: its main function; userdata is the worker. */
void *sdd_worker_engine_thread(void *userdata);
/* Hand a message to the control thread; the writer is empty afterwards. coalesce as in sdp_connection_queue. */
void sdd_worker_post(struct sdd_worker *worker, struct sdp_writer *writer, uint64_t coalesce);
/* Engine thread: tell how the caches do. */
void sdd_worker_post_caches(struct sdd_worker *worker);
/* Run one worker.run on the engine thread and post its answer. */
void sdd_worker_run_job(struct sdd_worker *worker, struct sdd_worker_task *task,
			struct sde_model *model);
/* Control thread: write the answer to a worker.count; and drop the tokenizers kept for it. */
void sdd_worker_count(struct sdd_worker *worker, uint32_t msgid, const struct sdp_record *record,
		      struct sdp_writer *writer);
void sdd_worker_drop_counters(struct sdd_worker *worker);
/* What the engine's errno means to a client. */
void sdd_worker_translate_error(const struct sde_error *from, bool loading, struct sdp_error *to);
