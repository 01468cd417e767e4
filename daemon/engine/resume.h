/*
 * Where a job stands, as bytes: what another process needs to go on with it to the same bit. A job is one or more
 * sampling runs (pictures, passes, strips); of those that ended it keeps the final latents and the generator behind
 * them, of the one in work the latents, the generator and the sampler's history. What can be computed again from the request
 * (text, encoded pictures, decoding) is not kept: it costs no step.
 *
 * The bytes are host-endian and private to one build; what does not fit is refused, and the job then starts over.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/rng.h"
#include "daemon/engine/scheduler.h"

struct sde_resume_run {
	float *latents; /* owned */
	size_t n_latents;
	struct sde_rng rng, other; /* the second: of the seed that a sequence goes to */
};

enum { SDE_RESUME_RUNS_MAX = 1024 };

/* All zeros is a job that has not begun. */
struct sde_resume {
	struct sde_resume_run *ended; /* owned, n_ended */
	int n_ended;
	int step; /* steps done in run n_ended; 0 = it has not begun */
	struct sde_resume_run current;
	uint8_t *history; /* owned: the sampler's state */
	size_t n_history;
	uint8_t *bytes; /* owned: as last saved */
	size_t n_bytes, bytes_capacity;
};

void sde_resume_clear(struct sde_resume *resume);

/* From bytes of sde_resume_save; more may follow them. -EBADMSG or -ENOMEM leaves it empty. */
int sde_resume_load(struct sde_resume *resume, const void *bytes, size_t size);

/*
 * Run n_ended has done so many steps and stands at these latents: bytes and n_bytes say all. -ENOMEM, or an error of the
 * scheduler.
 */
int sde_resume_save(struct sde_resume *resume, int step, const float *latents, size_t n_latents,
		    const struct sde_rng *rng, const struct sde_rng *other,
		    const struct sde_scheduler *scheduler);

/* The run in work has ended with these latents. -ENOMEM, -E2BIG. */
int sde_resume_end_run(struct sde_resume *resume, const float *latents, size_t n_latents,
		       const struct sde_rng *rng, const struct sde_rng *other);
