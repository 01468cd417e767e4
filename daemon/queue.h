/*
 * The jobs that wait, and in which order they will run: the highest class first; within it what was interrupted goes on,
 * then the clients take turns, each with its oldest job. A client is a connection: one that floods the queue delays
 * itself. The order is worked out anew after each change, when somebody asks.
 *
 * Ageing: for each ageing time that a job has waited it counts as a class higher, so that nobody waits for ever. Once it runs it
 * counts as that for a tenth of that time, in which only jobs of a class above it interrupt it; then as its own again.
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
	uint64_t ageing_us;    /* 0 = classes stay as they are */
	uint64_t next_rise_us; /* when a waiting job counts as a higher class next */
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
/* Whether the job that waits first goes before this running one, between two of its steps. */
bool sdd_queue_interrupts(struct sdd_queue *queue, const struct sdd_job *running);
/* How many waiting jobs would run before this one if nothing else came. */
size_t sdd_queue_position(struct sdd_queue *queue, const struct sdd_job *job);
