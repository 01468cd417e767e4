/*
 * LMS: Adams-Bashforth on the probability-flow ODE in sigma, with the coefficients for uneven steps
 * (k-diffusion's sampler). The coefficients are integrals of Lagrange polynomials of degree <= 3,
 * exact here with four Gauss points.
 */
#include "daemon/engine/schedulers/internal.h"

#include <stdlib.h>

#define LMS_HISTORY 4

static int lms_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			     struct sde_error *error)
{
	double *sigmas;
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	r = sde_sched_sigma_timesteps(s, request, TIMESTEPS_FLOAT32, &sigmas, error);
	if (r < 0)
		return r;
	r = sde_sched_set_sigmas(s, sigmas, s->n_timesteps, 0, error);
	for (size_t i = 0; r == 0 && i < s->n_timesteps; i++)
		s->timesteps[i] = (float)s->timesteps[i];
	free(sigmas);
	return r;
}

/*
 * integral from sigmas[t] to sigmas[t + 1] of the basis polynomial that is 1 at sigmas[t - current]
 */
static double lms_coefficient(const float *sigmas, size_t t, size_t order, size_t current)
{
	static const double points[4] = {-0.8611363115940526, -0.3399810435848563,
					 0.3399810435848563, 0.8611363115940526};
	static const double weights[4] = {0.3478548451374538, 0.6521451548625461,
					  0.6521451548625461, 0.3478548451374538};
	double half = ((double)sigmas[t + 1] - sigmas[t]) / 2, sum = 0;

	for (int g = 0; g < 4; g++) {
		double tau = sigmas[t] + half * (1 + points[g]), product = 1;

		for (size_t k = 0; k < order; k++) {
			if (k != current)
				product *= (tau - sigmas[t - k]) /
					   ((double)sigmas[t - current] - sigmas[t - k]);
		}
		sum += weights[g] * product;
	}
	return half * sum;
}

static void lms_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index, limit = (size_t)step->args->lms_order;
	size_t order = index + 1 < limit ? index + 1 : limit, known;
	struct sigma_prediction p = sigma_prediction(s->config.prediction_type, s->sigmas[index]);
	float *newest = history_push(s, 0, LMS_HISTORY), coefficients[LMS_HISTORY];

	for (size_t i = 0; i < step->n; i++)
		newest[i] = (step->sample[i] -
			     sigma_predict(&p, step->model_output[i], step->sample[i])) /
			    p.sigma;
	if (s->state.filled < limit)
		s->state.filled++;
	/* started in the middle, the order is that of the position though the history is shorter */
	known = s->state.filled < order ? s->state.filled : order;
	for (size_t k = 0; k < known; k++)
		coefficients[k] = (float)lms_coefficient(s->sigmas, index, order, k);
	for (size_t i = 0; i < step->n; i++) {
		float sum = 0;

		for (size_t k = 0; k < known; k++)
			sum += coefficients[k] * s->slot[LMS_HISTORY - 1 - k][i];
		step->out[i] = step->sample[i] + sum;
	}
}

const struct scheduler_class sde_sched_lms = {
	.order = 1,
	.slots = LMS_HISTORY,
	.begin_index = true,
	.scaled_by_sigma = true,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = lms_set_timesteps,
	.step = lms_step,
};
