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
	const char *backend, *dtype;   /* "auto" = the engine's choice */
	int threads;		       /* 0 = what affinity and cgroup allow */
	uint64_t cache_bytes;	       /* for what jobs have in common */
	enum sde_weights_form weights; /* of models whose sdd.json names none */
};

/* A request for the engine thread. */
struct sdd_worker_task {
	struct sdd_list link;
	struct sdp_message *message;
	struct sdp_record *record;
	uint64_t job; /* of worker.run, else 0 */
	/* set by the control thread, before its turn comes as well */
	atomic_int cancel;
	atomic_int yield;   /* stop behind the next checkpoint */
	atomic_int preview; /* one is asked for; the engine takes it back */
};

/* A message on its way out. */
struct sdd_worker_letter {
	struct sdd_list link;
	struct sdp_writer writer;
	uint64_t coalesce;
};

_Static_assert(SDE_GROUP_MAX == 4, "SDD_BATCH_MAX of daemon/server.h");

struct sdd_loaded_model {
	struct sdd_list link;
	char name[129];
	struct sde_model *model;
	struct sde_group *group; /* its running jobs */
};

struct sdd_worker {
	const struct sdd_worker_options *options;
	struct sdp_connection *connection; /* control thread only */
	uint64_t n_taken;		   /* control thread only: letters out of the outbox */
	struct sdd_list counters; /* control thread only: struct sdd_worker_counter, latest first */
	int wake_fd; /* eventfd: the outbox has something, or the engine thread has ended */

	pthread_mutex_t lock; /* guards all of this block */
	pthread_cond_t changed;
	struct sdd_list tasks, outbox;
	struct sdd_list running; /* tasks the engine thread is at */
	bool quit, engine_ended;
	uint64_t n_posted, n_sent; /* letters, since the start */
	pthread_cond_t sent;	   /* n_sent has grown, or quit */

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
/* Hand a message to the control thread; the writer is empty afterwards. coalesce as in sdp_connection_queue. Returns the letter's number. */
uint64_t sdd_worker_post(struct sdd_worker *worker, struct sdp_writer *writer, uint64_t coalesce);
/*
 * Engine thread: wait until this letter has left the process, so that its death cannot take it along; for at most a second, since a front
 * process that stands still is no reason to stand still too.
 */
void sdd_worker_await_sent(struct sdd_worker *worker, uint64_t letter);
/* Engine thread: tell how the caches do. */
void sdd_worker_post_caches(struct sdd_worker *worker);
/*
 * Engine thread: let the group begin a worker.run, whose task stays the caller's. NULL when it could not begin, which has been
 * answered.
 */
struct sdd_worker_run;
struct sdd_worker_run *sdd_worker_run_begin(struct sdd_worker *worker, struct sdd_worker_task *task,
					    struct sde_group *group);
/* One that has ended in the group, answered and freed: its task. NULL: none has. */
struct sdd_worker_task *sdd_worker_run_end(struct sdd_worker *worker, struct sde_group *group);
/* Control thread: write the answer to a worker.count; and drop the tokenizers kept for it. */
void sdd_worker_count(struct sdd_worker *worker, uint32_t msgid, const struct sdp_record *record,
		      struct sdp_writer *writer);
void sdd_worker_drop_counters(struct sdd_worker *worker);
/* What the engine's errno means to a client. */
void sdd_worker_translate_error(const struct sde_error *from, bool loading, struct sdp_error *to);
/* plan.c: where a request says what to do with which part of the canvas. */
void sdd_worker_fill_geometry(const struct sdp_record *record, struct sde_job *job);
/* A view of a client's picture, mapped as long as the mapping; errors name `what`. */
int sdd_worker_map_picture(const struct sdp_pixels *pixels, const char *what,
			   struct sdp_mapping *mapping, struct sde_image *image,
			   struct sdp_error *ret_error);
/* latents.c: where a request says what to do in latent space; what the job then borrows. */
struct sdd_worker_latents {
	struct sde_waypoint waypoints[SDE_WAYPOINTS_MAX];
	double positions[SDE_POSITIONS_MAX];
	struct sde_direction directions[SDE_DIRECTIONS_MAX];
	struct sde_image images[SDE_WAYPOINTS_MAX + 2 * SDE_DIRECTIONS_MAX];
	struct sdp_mapping mappings[SDE_WAYPOINTS_MAX + 2 * SDE_DIRECTIONS_MAX];
	size_t n_images;
};
int sdd_worker_fill_latents(const struct sdp_record *record, struct sde_job *job,
			    struct sdd_worker_latents *latents, struct sdp_error *ret_error);
void sdd_worker_latents_clear(struct sdd_worker_latents *latents);
/* Any thread: the answer to worker.plan into *writer. */
int sdd_worker_plan(const struct sdp_message *message, const struct sdp_record *record,
		    struct sdp_writer *writer, struct sdp_error *ret_error);
