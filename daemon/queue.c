/*
 * Waiting jobs; see queue.h. At most a few dozen (the admission limit), so everything is a walk along a list.
 */
#include "daemon/queue.h"

void sdd_queue_init(struct sdd_queue *queue)
{
	sdd_list_init(&queue->jobs);
	queue->length = 0;
}

void sdd_queue_append(struct sdd_queue *queue, struct sdd_job *job)
{
	sdd_list_append(&queue->jobs, &job->link);
	queue->length++;
}

void sdd_queue_prepend(struct sdd_queue *queue, struct sdd_job *job)
{
	sdd_list_prepend(&queue->jobs, &job->link);
	queue->length++;
}

void sdd_queue_remove(struct sdd_queue *queue, struct sdd_job *job)
{
	sdd_list_remove(&job->link);
	queue->length--;
}

struct sdd_job *sdd_queue_next(struct sdd_queue *queue)
{
	return sdd_list_first(&queue->jobs, struct sdd_job, link);
}

struct sdd_job *sdd_queue_find(struct sdd_queue *queue, uint64_t id)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &queue->jobs, link)
		if (job->id == id)
			return job;
	return NULL;
}

size_t sdd_queue_position(const struct sdd_queue *queue, const struct sdd_job *job)
{
	const struct sdd_list *link;
	size_t position = 0;

	for (link = queue->jobs.next; link != &queue->jobs && link != &job->link; link = link->next)
		position++;
	return position;
}
