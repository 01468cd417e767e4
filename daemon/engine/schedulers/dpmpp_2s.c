/*
 * DPM-Solver++ singlestep ("DPM++ 2S"; Lu et al. 2022): blocks of 1, 2, ... order steps that all
 * start from the sample at the block's beginning. The last block is shortened so that a final sigma
 * of 0 is reached by a first-order step.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

/* slots: converted outputs, oldest first, and the sample at the beginning of the block */
enum { HISTORY = 3, BLOCK_SAMPLE = HISTORY, SLOTS };

static int singlestep_init(struct sde_scheduler *s, struct sde_error *error)
{
	s->config.timestep_spacing = SDE_SPACING_LINSPACE; /* not a key of this class */
	if (s->config.algorithm_type == SDE_ALGORITHM_DEIS)
		s->config.algorithm_type = SDE_ALGORITHM_DPMSOLVER_PP;
	if (s->config.solver_type != SDE_SOLVER_HEUN)
		s->config.solver_type = SDE_SOLVER_MIDPOINT;
	if (s->config.algorithm_type == SDE_ALGORITHM_SDE_DPMSOLVER)
		return sde_error_set(error, -EINVAL,
				     "the singlestep solver has no sde-dpmsolver; sde-dpmsolver++ "
				     "would be right");
	if (!sde_dpm_data_prediction(s) && !s->config.final_sigma_min)
		return sde_error_set(error, -EINVAL,
				     "algorithm_type dpmsolver needs final_sigmas_type sigma_min; "
				     "dpmsolver++ takes zero");
	if (!sde_dpm_data_prediction(s) && s->config.prediction_type == SDE_PREDICTION_FLOW)
		return sde_error_set(error, -EINVAL,
				     "flow_prediction needs algorithm_type dpmsolver++");
	return 0;
}

static int make_orders(struct sde_scheduler *s, struct sde_error *error)
{
	size_t n = s->n_timesteps, order = (size_t)s->config.solver_order;
	uint8_t *orders = realloc(s->orders, n);

	if (!orders)
		return sde_error_set(error, -ENOMEM, "no memory for %zu steps", n);
	s->orders = orders;
	/* a count that does not divide, or a final sigma of 0, forces lower_order_final */
	if (n % order || !s->config.final_sigma_min)
		s->config.lower_order_final = true;
	for (size_t i = 0; i < n; i++)
		orders[i] = (uint8_t)(i % order + 1);
	if (!s->config.final_sigma_min || (s->config.lower_order_final && n % order == 0))
		orders[n - 1] = 1;
	return 0;
}

static int singlestep_set_timesteps(struct sde_scheduler *s,
				    const struct sde_timesteps_request *request,
				    struct sde_error *error)
{
	int r = sde_dpm_set_timesteps(s, request, error);

	return r < 0 ? r : make_orders(s, error);
}

/* D1, D2 of the third order from the points at ratios r1 < r0 of the block's h */
static float third_order_terms(const struct dpm_update *u, bool midpoint, float m0, float m1,
			       float m2, float r0, float r1)
{
	float d10 = 1.0f / r1 * (m1 - m2), d11 = 1.0f / r0 * (m0 - m2);

	if (midpoint)
		return u->d1 * d11;
	return u->d1 * ((r0 * d10 - r1 * d11) / (r0 - r1)) +
	       u->d2 * (2.0f * (d11 - d10) / (r0 - r1));
}

static void singlestep_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	bool midpoint = s->config.solver_type == SDE_SOLVER_MIDPOINT;
	int order = s->orders[index];
	struct alpha_sigma to = alpha_sigma(s, index + 1), begin;
	const float *m0, *m1, *m2, *sample = s->slot[BLOCK_SAMPLE];
	struct dpm_update u;
	float h, r0 = 1, r1 = 1;

	sde_dpm_convert(s, step, history_push(s, 0, HISTORY));
	m0 = s->slot[2];
	m1 = s->slot[1];
	m2 = s->slot[0];
	if (s->state.filled < (uint32_t)s->config.solver_order)
		s->state.filled++;
	if (order > (int)s->state.filled)
		order = (int)s->state.filled;
	if (order == 1)
		memcpy(s->slot[BLOCK_SAMPLE], step->sample, step->n * sizeof(float));
	begin = alpha_sigma(s, index + 1 - (size_t)order);
	h = to.lambda - begin.lambda;
	u = sde_dpm_update(s, to, begin, h, order);
	if (order >= 2)
		r0 = (alpha_sigma(s, index).lambda - begin.lambda) / h;
	if (order == 3)
		r1 = (alpha_sigma(s, index - 1).lambda - begin.lambda) / h;
	for (size_t i = 0; i < step->n; i++) {
		float value = u.sample * sample[i];

		if (order == 1)
			value += u.d0 * m0[i];
		else if (order == 2)
			value = value + u.d0 * m1[i] + u.d1 * (1.0f / r0 * (m0[i] - m1[i]));
		else
			value = value + u.d0 * m2[i] +
				third_order_terms(&u, midpoint, m0[i], m1[i], m2[i], r0, r1);
		step->out[i] = step->noise ? value + u.noise * step->noise[i] : value;
	}
}

const struct scheduler_class sde_sched_dpmpp_2s = {
	.order = 1,
	.slots = SLOTS,
	.begin_index = true,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_VP_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE |
			    1 << SDE_PREDICTION_V | 1 << SDE_PREDICTION_FLOW,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA | 1 << SIGMAS_FLOW,
	.init = singlestep_init,
	.set_timesteps = singlestep_set_timesteps,
	.noise_draws = sde_dpm_noise_draws,
	.step = singlestep_step,
};
