/*
 * Expected times from measured ones; see estimate.h.
 */
#include "daemon/estimate.h"

static const double newest_weight = 0.5;

void sdd_estimate_init(struct sdd_estimate *estimate)
{
	*estimate = (struct sdd_estimate){-1.0, -1.0, -1.0, -1.0};
}

static void average(double *value, double measured)
{
	*value = *value < 0.0 ? measured : *value + newest_weight * (measured - *value);
}

void sdd_estimate_update(struct sdd_estimate *estimate, const struct sdd_measured *measured)
{
	average(&estimate->encode_us, (double)measured->encode_us);
	average(&estimate->decode_us, (double)measured->decode_us);
	if (measured->steps > 0)
		average(&estimate->step_us, (double)measured->steps_us / measured->steps);
}

int64_t sdd_estimate_job_us(const struct sdd_estimate *estimate, int steps)
{
	if (estimate->step_us < 0.0 || steps <= 0)
		return -1;
	return (int64_t)(estimate->encode_us + estimate->step_us * steps + estimate->decode_us);
}

int64_t sdd_estimate_rest_us(const struct sdd_estimate *estimate, int step, int total,
			     uint64_t steps_us)
{
	const double decode_us = estimate->decode_us < 0.0 ? 0.0 : estimate->decode_us;

	if (total <= 0)
		return -1;
	if (step > 0)
		return (int64_t)((double)steps_us / step * (total - step) + decode_us);
	return sdd_estimate_job_us(estimate, total);
}
