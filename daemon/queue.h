/*
 * The jobs that wait, and in which order they will run: the highest class first; within it what was interrupted goes on,
 * then the clients take turns, each with its oldest job. A client is a connection: one that floods the queue delays
 * itself. The order is worked out anew after each change, when somebody asks.
 */
#pragma once

#include "daemon/job.h"

enum { SDD_QUEUE_CLIENTS_MAX = 256 }; /* whose last turn is remembered */

struct sdd_queue {
	struct sdd_list jobs; /* in the order they were submitted */
	size_t length;
	struct {
		uint64_t client, turn; /* 0 = never had one */
	} turns[SDD_QUEUE_CLIENTS_MAX];
	uint64_t n_turns;
	bool changed;
};

void sdd_queue_init(struct sdd_queue *queue);
/* To its place by age. The queue does not own jobs; the caller keeps them alive while they are linked. */
void sdd_queue_insert(struct sdd_queue *queue, struct sdd_job *job);
void sdd_queue_remove(struct sdd_queue *queue, struct sdd_job *job);
/* The job to run next, still in the queue; NULL when none waits. */
struct sdd_job *sdd_queue_next(struct sdd_queue *queue);
/* Take it out to run it: its client has had its turn. */
void sdd_queue_take(struct sdd_queue *queue, struct sdd_job *job);
struct sdd_job *sdd_queue_find(struct sdd_queue *queue, uint64_t id);
/* How many waiting jobs would run before this one if nothing else came. */
size_t sdd_queue_position(struct sdd_queue *queue, const struct sdd_job *job);
