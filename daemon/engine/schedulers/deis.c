/*
 * DEIS (Zhang & Chen 2022): exponential integrator whose multistep coefficients integrate Lagrange
 * polynomials in log rho, rho = sigma / alpha. Keeps predicted epsilons; ends at the lowest
 * training sigma, not at 0.
 */
#include "daemon/engine/schedulers/internal.h"

#define HISTORY 3

static int deis_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      struct sde_error *error)
{
	bool table = sde_sched_sigma_spacing(&s->config) == SIGMAS_TABLE;
	int r = sde_sched_check_request(s, request, REQUEST_MU, error);

	if (r < 0)
		return r;
	r = sde_sched_set_mu(s, request, error);
	if (r < 0)
		return r;
	r = sde_sched_space_timesteps(s, true, s->config.num_train_timesteps, TIMESTEPS_INT64,
				      error);
	if (r < 0)
		return r;
	return sde_sched_multistep_timesteps(s, request, table ? sde_sched_train_sigma(s, 0) : NAN,
					     error);
}

static int order_of_step(const struct sde_scheduler *s)
{
	size_t left = s->n_timesteps - s->state.step_index;
	bool lower = s->config.lower_order_final && s->n_timesteps < 15;

	if (s->config.solver_order == 1 || s->state.filled < 1 || (left == 1 && lower))
		return 1;
	if (s->config.solver_order == 2 || s->state.filled < 2 || (left == 2 && lower))
		return 2;
	return 3;
}

/*
 * antiderivatives of the Lagrange basis in log rho, divided differences spelled out (table 1 of the
 * paper's log-rho form)
 */
static float integral_2(float t, float b, float c)
{
	return t * (-logf(c) + logf(t) - 1) / (logf(b) - logf(c));
}

static float integral_3(float t, float b, float c, float d)
{
	float log_t = logf(t), log_c = logf(c), log_d = logf(d);
	float numerator = t * (log_c * (log_d - log_t + 1) - log_d * log_t + log_d + log_t * log_t -
			       2 * log_t + 2);

	return numerator / ((logf(b) - log_c) * (logf(b) - log_d));
}

static void deis_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	struct alpha_sigma to = alpha_sigma(s, index + 1), from = alpha_sigma(s, index);
	int order = order_of_step(s);
	float rho[4] = {to.sigma / to.alpha, from.sigma / from.alpha, 0, 0};
	float c0 = 0, c1 = 0, c2 = 0;
	/* of a flow it is the sigma itself, also where the sigmas are no flow's */
	const float noise_scale =
		s->config.prediction_type == SDE_PREDICTION_FLOW ? s->sigmas[index] : from.sigma;
	const float *m0, *m1, *m2;
	float *newest;

	sde_sched_vp_clean(s, step, s->work);
	newest = history_push(s, 0, HISTORY);
	for (size_t i = 0; i < step->n; i++)
		newest[i] = (step->sample[i] - from.alpha * s->work[i]) / noise_scale;
	m0 = s->slot[2];
	m1 = s->slot[1];
	m2 = s->slot[0];
	for (int k = 2; k <= order; k++) {
		struct alpha_sigma older = alpha_sigma(s, index + 1 - (size_t)k);

		rho[k] = older.sigma / older.alpha;
	}
	if (order == 2) {
		c0 = integral_2(rho[0], rho[1], rho[2]) - integral_2(rho[1], rho[1], rho[2]);
		c1 = integral_2(rho[0], rho[2], rho[1]) - integral_2(rho[1], rho[2], rho[1]);
	} else if (order == 3) {
		c0 = integral_3(rho[0], rho[1], rho[2], rho[3]) -
		     integral_3(rho[1], rho[1], rho[2], rho[3]);
		c1 = integral_3(rho[0], rho[2], rho[3], rho[1]) -
		     integral_3(rho[1], rho[2], rho[3], rho[1]);
		c2 = integral_3(rho[0], rho[3], rho[1], rho[2]) -
		     integral_3(rho[1], rho[3], rho[1], rho[2]);
	}
	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];

		if (order == 1)
			step->out[i] = to.alpha / from.alpha * x -
				       to.sigma * (expf(to.lambda - from.lambda) - 1.0f) * m0[i];
		else if (order == 2)
			step->out[i] = to.alpha * (x / from.alpha + c0 * m0[i] + c1 * m1[i]);
		else
			step->out[i] =
				to.alpha * (x / from.alpha + c0 * m0[i] + c1 * m1[i] + c2 * m2[i]);
	}
	if (s->state.filled < (uint32_t)s->config.solver_order)
		s->state.filled++;
}

const struct scheduler_class sde_sched_deis = {
	.order = 1,
	.slots = HISTORY,
	.begin_index = true,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_VP_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE |
			    1 << SDE_PREDICTION_V | 1 << SDE_PREDICTION_FLOW,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA | 1 << SIGMAS_FLOW,
	.set_timesteps = deis_set_timesteps,
	.step = deis_step,
};
