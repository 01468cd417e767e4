/*
 * How long the rest of a job will take, from how long steps, encoding and decoding took before with the same model.
 * An exponential average: the newest job counts most, because the picture size and the load of the machine change.
 */
#pragma once

#include <stdint.h>

struct sdd_estimate {
	double encode_us, step_us, decode_us; /* negative = nothing measured yet */
	double load_us;
};

struct sdd_measured {
	uint64_t encode_us, steps_us, decode_us;
	int steps;
};

void sdd_estimate_init(struct sdd_estimate *estimate);
void sdd_estimate_update(struct sdd_estimate *estimate, const struct sdd_measured *measured);
/* Time for a whole job of this many steps (0 = not known), -1 = no idea. */
int64_t sdd_estimate_job_us(const struct sdd_estimate *estimate, int steps);
/*
 * Time left for a running job with `step` of `total` denoising steps done, the first of them begun steps_us ago.
 * Its own steps outweigh the average of earlier jobs. -1 = no idea.
 */
int64_t sdd_estimate_rest_us(const struct sdd_estimate *estimate, int step, int total,
			     uint64_t steps_us);
