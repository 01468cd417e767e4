/*
 * The jobs that wait, in the order they will run. First come, first served for now; whatever becomes fairer one day
 * changes sdd_queue_next and nothing else.
 */
#pragma once

#include "daemon/job.h"

struct sdd_queue {
	struct sdd_list jobs;
	size_t length;
};

void sdd_queue_init(struct sdd_queue *queue);
/* The queue does not own jobs; the caller keeps them alive while they are linked. */
void sdd_queue_append(struct sdd_queue *queue, struct sdd_job *job);
/* Back to the front: its worker died before it began. */
void sdd_queue_prepend(struct sdd_queue *queue, struct sdd_job *job);
void sdd_queue_remove(struct sdd_queue *queue, struct sdd_job *job);
/* The job to run next, still in the queue; NULL when none waits. */
struct sdd_job *sdd_queue_next(struct sdd_queue *queue);
struct sdd_job *sdd_queue_find(struct sdd_queue *queue, uint64_t id);
/* Waiting jobs ahead of this one. */
size_t sdd_queue_position(const struct sdd_queue *queue, const struct sdd_job *job);
