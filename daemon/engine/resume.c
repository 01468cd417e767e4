/*
 * A header, the ended runs, the run in work; see resume.h.
 */
#include "daemon/engine/resume.h"

#include "daemon/engine/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'s', 'd', 'd', '-', 'j', 'o', 'b', '2'};

struct header {
	char magic[8];
	uint64_t total; /* bytes, header included */
	uint32_t n_ended, step;
	uint64_t n_history;
};

/* Bytes read or written one behind the other. */
struct cursor {
	uint8_t *at;
	size_t left;
};

static void put(struct cursor *cursor, const void *data, size_t size)
{
	memcpy(cursor->at, data, size);
	cursor->at += size;
	cursor->left -= size;
}

static bool get(struct cursor *cursor, void *data, size_t size)
{
	if (size > cursor->left)
		return false;
	memcpy(data, cursor->at, size);
	cursor->at += size;
	cursor->left -= size;
	return true;
}

void sde_resume_clear(struct sde_resume *resume)
{
	for (int i = 0; i < resume->n_ended; i++)
		free(resume->ended[i].latents);
	free(resume->ended);
	free(resume->current.latents);
	free(resume->history);
	free(resume->bytes);
	*resume = (struct sde_resume){0};
}

static size_t run_size(size_t n_latents)
{
	return sizeof(uint64_t) + n_latents * sizeof(float) + 2 * sde_rng_state_size();
}

static void put_rng(struct cursor *cursor, const struct sde_rng *rng)
{
	sde_rng_state_save(rng, cursor->at);
	cursor->at += sde_rng_state_size();
	cursor->left -= sde_rng_state_size();
}

static void put_run(struct cursor *cursor, const float *latents, size_t n_latents,
		    const struct sde_rng *rng, const struct sde_rng *other)
{
	const uint64_t n = n_latents;

	put(cursor, &n, sizeof(n));
	put(cursor, latents, n_latents * sizeof(float));
	put_rng(cursor, rng);
	put_rng(cursor, other);
}

static bool get_rng(struct cursor *cursor, struct sde_rng *ret_rng)
{
	struct sde_error ignored;

	if (cursor->left < sde_rng_state_size() ||
	    sde_rng_state_load(ret_rng, cursor->at, sde_rng_state_size(), &ignored) < 0)
		return false;
	cursor->at += sde_rng_state_size();
	cursor->left -= sde_rng_state_size();
	return true;
}

static int get_run(struct cursor *cursor, struct sde_resume_run *ret_run)
{
	uint64_t n;

	if (!get(cursor, &n, sizeof(n)) || n > cursor->left / sizeof(float))
		return -EBADMSG;
	ret_run->latents = malloc((size_t)n * sizeof(float) + 1);
	if (!ret_run->latents)
		return -ENOMEM;
	ret_run->n_latents = (size_t)n;
	return get(cursor, ret_run->latents, (size_t)n * sizeof(float)) &&
			       get_rng(cursor, &ret_run->rng) && get_rng(cursor, &ret_run->other)
		       ? 0
		       : -EBADMSG;
}

static int load(struct sde_resume *resume, struct cursor *cursor)
{
	struct header header;
	int r;

	if (!get(cursor, &header, sizeof(header)) ||
	    memcmp(header.magic, magic, sizeof(magic)) != 0 ||
	    header.n_ended > SDE_RESUME_RUNS_MAX || header.step > INT32_MAX ||
	    header.total < sizeof(header) || header.total - sizeof(header) > cursor->left)
		return -EBADMSG;
	cursor->left = (size_t)header.total - sizeof(header);
	resume->ended = calloc(header.n_ended + 1, sizeof(*resume->ended));
	if (!resume->ended)
		return -ENOMEM;
	for (uint32_t i = 0; i < header.n_ended; i++) {
		/* counted first, so that clearing finds what a failure leaves */
		r = get_run(cursor, &resume->ended[resume->n_ended++]);
		if (r < 0)
			return r;
	}
	resume->step = (int)header.step;
	if (resume->step == 0)
		return 0;
	r = get_run(cursor, &resume->current);
	if (r < 0)
		return r;
	if (header.n_history != cursor->left)
		return -EBADMSG;
	resume->n_history = cursor->left;
	resume->history = malloc(resume->n_history + 1);
	if (!resume->history)
		return -ENOMEM;
	get(cursor, resume->history, resume->n_history);
	return 0;
}

int sde_resume_load(struct sde_resume *resume, const void *bytes, size_t size)
{
	/* only read from */
	struct cursor cursor = {(uint8_t *)bytes, size};
	int r;

	*resume = (struct sde_resume){0};
	r = load(resume, &cursor);
	if (r < 0)
		sde_resume_clear(resume);
	return r;
}

int sde_resume_save(struct sde_resume *resume, int step, const float *latents, size_t n_latents,
		    const struct sde_rng *rng, const struct sde_rng *other,
		    const struct sde_scheduler *scheduler)
{
	struct header header = {.n_ended = (uint32_t)resume->n_ended,
				.step = (uint32_t)step,
				.n_history = sde_scheduler_state_size(scheduler)};
	size_t total = sizeof(header) + run_size(n_latents) + (size_t)header.n_history;
	struct cursor cursor;

	memcpy(header.magic, magic, sizeof(magic));
	for (int i = 0; i < resume->n_ended; i++)
		total += run_size(resume->ended[i].n_latents);
	header.total = total;
	if (total > resume->bytes_capacity) {
		uint8_t *grown = realloc(resume->bytes, total);

		if (!grown)
			return -ENOMEM;
		resume->bytes = grown;
		resume->bytes_capacity = total;
	}
	cursor = (struct cursor){resume->bytes, total};
	put(&cursor, &header, sizeof(header));
	for (int i = 0; i < resume->n_ended; i++)
		put_run(&cursor, resume->ended[i].latents, resume->ended[i].n_latents,
			&resume->ended[i].rng, &resume->ended[i].other);
	put_run(&cursor, latents, n_latents, rng, other);
	resume->n_bytes = total;
	return sde_scheduler_state_save(scheduler, cursor.at, cursor.left);
}

int sde_resume_end_run(struct sde_resume *resume, const float *latents, size_t n_latents,
		       const struct sde_rng *rng, const struct sde_rng *other)
{
	struct sde_resume_run *grown, run = {.n_latents = n_latents, .rng = *rng, .other = *other};

	if (resume->n_ended >= SDE_RESUME_RUNS_MAX)
		return -E2BIG;
	grown = realloc(resume->ended, ((size_t)resume->n_ended + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	resume->ended = grown;
	run.latents = malloc(n_latents * sizeof(float) + 1);
	if (!run.latents)
		return -ENOMEM;
	memcpy(run.latents, latents, n_latents * sizeof(float));
	resume->ended[resume->n_ended++] = run;
	resume->step = 0;
	return 0;
}
