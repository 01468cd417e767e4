/*
 * Waiting jobs; see queue.h. At most a few dozen (the admission limit), so everything is a walk along a list.
 */
#include "daemon/queue.h"
#include "daemon/util/clock.h"

/* More than anybody waits for: behind so many the order is by age alone. */
enum { RANKED_MAX = 512 };
/* Of the ageing time: how long a job that rose runs as what it rose to. */
enum { RAISED_SHARE = 10 };

void sdd_queue_init(struct sdd_queue *queue)
{
	*queue = (struct sdd_queue){0};
	sdd_list_init(&queue->jobs);
}

void sdd_queue_insert(struct sdd_queue *queue, struct sdd_job *job)
{
	struct sdd_job *other;

	queue->length++;
	queue->changed = true;
	sdd_list_for_each (other, &queue->jobs, link)
		if (other->id > job->id) {
			sdd_list_append(&other->link, &job->link);
			return;
		}
	sdd_list_append(&queue->jobs, &job->link);
}

void sdd_queue_remove(struct sdd_queue *queue, struct sdd_job *job)
{
	sdd_list_remove(&job->link);
	queue->length--;
	queue->changed = true;
}

static uint64_t turn_of(const struct sdd_queue *queue, uint64_t client)
{
	for (size_t i = 0; i < SDD_QUEUE_CLIENTS_MAX; i++)
		if (queue->turns[i].client == client)
			return queue->turns[i].turn;
	return 0;
}

/* Whether a, the older one, goes before b. */
static bool goes_before(const struct sdd_job *a, const struct sdd_job *b)
{
	if (a->counts_as != b->counts_as)
		return a->counts_as < b->counts_as;
	if ((a->kept_step > 0) != (b->kept_step > 0))
		return a->kept_step > 0;
	return a->turn <= b->turn;
}

static struct sdd_job *first_unplaced(struct sdd_queue *queue)
{
	struct sdd_job *job, *best = NULL;

	sdd_list_for_each (job, &queue->jobs, link)
		if (!job->placed && (!best || !goes_before(best, job)))
			best = job;
	return best;
}

/* Classes by waiting. */
static void age(struct sdd_queue *queue, uint64_t now_us)
{
	struct sdd_job *job;

	queue->next_rise_us = UINT64_MAX;
	sdd_list_for_each (job, &queue->jobs, link) {
		uint64_t rises;

		job->counts_as = job->priority;
		if (queue->ageing_us == 0)
			continue;
		rises = (now_us - job->queued_us) / queue->ageing_us;
		if (rises >= (uint64_t)job->priority) {
			job->counts_as = SDP_PRIORITY_INTERACTIVE;
			continue;
		}
		job->counts_as -= (enum sdp_priority)rises;
		if (job->queued_us + (rises + 1) * queue->ageing_us < queue->next_rise_us)
			queue->next_rise_us = job->queued_us + (rises + 1) * queue->ageing_us;
	}
}

/* As if the jobs ran one after the other, each turn counted. */
static void rank(struct sdd_queue *queue)
{
	const uint64_t now_us = sdd_now_us();
	struct sdd_job *job, *next;
	size_t place = 0;

	if (!queue->changed && now_us < queue->next_rise_us)
		return;
	queue->changed = false;
	age(queue, now_us);
	sdd_list_for_each (job, &queue->jobs, link) {
		job->turn = turn_of(queue, job->client);
		job->placed = false;
		job->position = place++;
	}
	for (place = 0; place < RANKED_MAX && (next = first_unplaced(queue)); place++) {
		next->placed = true;
		next->position = place;
		sdd_list_for_each (job, &queue->jobs, link)
			if (job->client == next->client)
				job->turn = queue->n_turns + 1 + place;
	}
}

struct sdd_job *sdd_queue_next(struct sdd_queue *queue)
{
	struct sdd_job *job;

	rank(queue);
	sdd_list_for_each (job, &queue->jobs, link)
		if (job->placed && job->position == 0)
			return job;
	return NULL;
}

void sdd_queue_take(struct sdd_queue *queue, struct sdd_job *job)
{
	size_t place = 0;

	/* where this client stands, else where the one does whose turn is longest ago */
	for (size_t i = 0; i < SDD_QUEUE_CLIENTS_MAX; i++) {
		if (queue->turns[i].client == job->client) {
			place = i;
			break;
		}
		if (queue->turns[i].turn < queue->turns[place].turn)
			place = i;
	}
	job->raised_until_us = sdd_now_us() + queue->ageing_us / RAISED_SHARE;
	queue->turns[place].client = job->client;
	queue->turns[place].turn = ++queue->n_turns;
	sdd_queue_remove(queue, job);
}

bool sdd_queue_interrupts(struct sdd_queue *queue, const struct sdd_job *running)
{
	const struct sdd_job *next = sdd_queue_next(queue);
	const bool raised = sdd_now_us() < running->raised_until_us;

	return next && next->counts_as < (raised ? running->counts_as : running->priority);
}

struct sdd_job *sdd_queue_find(struct sdd_queue *queue, uint64_t id)
{
	struct sdd_job *job;

	sdd_list_for_each (job, &queue->jobs, link)
		if (job->id == id)
			return job;
	return NULL;
}

size_t sdd_queue_position(struct sdd_queue *queue, const struct sdd_job *job)
{
	rank(queue);
	return job->position;
}
