/*
 * DPM-Solver and DPM-Solver++ multistep (Lu et al. 2022), orders 1 to 3, as ODE or SDE: "DPM++ 2M",
 * "2M SDE", "3M SDE". The ++ forms keep predicted clean samples, the others predicted epsilons; h
 * is the step in lambda = ln(alpha / sigma).
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>

#define HISTORY 3

static int multistep_init(struct sde_scheduler *s, struct sde_error *error)
{
	/* words that belong to sibling classes mean this class's default, as in diffusers */
	if (s->config.algorithm_type == SDE_ALGORITHM_DEIS)
		s->config.algorithm_type = SDE_ALGORITHM_DPMSOLVER_PP;
	if (s->config.solver_type != SDE_SOLVER_HEUN)
		s->config.solver_type = SDE_SOLVER_MIDPOINT;
	if (!sde_dpm_data_prediction(s) && !s->config.final_sigma_min)
		return sde_error_set(error, -EINVAL,
				     "algorithm_type dpmsolver needs final_sigmas_type sigma_min; "
				     "dpmsolver++ takes zero");
	if (!sde_dpm_data_prediction(s) && s->config.prediction_type == SDE_PREDICTION_FLOW)
		return sde_error_set(error, -EINVAL,
				     "flow_prediction needs algorithm_type dpmsolver++");
	if (s->config.algorithm_type == SDE_ALGORITHM_SDE_DPMSOLVER && s->config.solver_order == 3)
		return sde_error_set(error, -EINVAL,
				     "sde-dpmsolver has no third order; sde-dpmsolver++ has");
	return 0;
}

static int order_of_step(const struct sde_scheduler *s)
{
	size_t left = s->n_timesteps - s->state.step_index;
	bool lower = s->config.lower_order_final && s->n_timesteps < 15;

	if (left == 1 && (lower || s->config.euler_at_final || !s->config.final_sigma_min))
		return 1;
	if (s->config.solver_order == 1 || s->state.filled < 1)
		return 1;
	if (s->config.solver_order == 2 || s->state.filled < 2 || (left == 2 && lower))
		return 2;
	return 3;
}

static void multistep_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	struct alpha_sigma to = alpha_sigma(s, index + 1), from = alpha_sigma(s, index);
	float h = to.lambda - from.lambda, r0 = 1, r1 = 1;
	int order = order_of_step(s);
	struct dpm_update u = sde_dpm_update(s, to, from, h, order);
	const float *m0, *m1, *m2;

	/* into the slot that is about to be the newest; the sample is still needed below */
	sde_dpm_convert(s, step, history_push(s, 0, HISTORY));
	m0 = s->slot[2];
	m1 = s->slot[1];
	m2 = s->slot[0];
	if (order >= 2)
		r0 = (from.lambda - alpha_sigma(s, index - 1).lambda) / h;
	if (order == 3)
		r1 = (alpha_sigma(s, index - 1).lambda - alpha_sigma(s, index - 2).lambda) / h;
	for (size_t i = 0; i < step->n; i++) {
		float value = u.sample * step->sample[i] + u.d0 * m0[i];

		if (order == 2) {
			value += u.d1 * (1.0f / r0 * (m0[i] - m1[i]));
		} else if (order == 3) {
			float d10 = 1.0f / r0 * (m0[i] - m1[i]), d11 = 1.0f / r1 * (m1[i] - m2[i]);
			float d1 = d10 + r0 / (r0 + r1) * (d10 - d11);
			float d2 = 1.0f / (r0 + r1) * (d10 - d11);

			value += u.d1 * d1 + u.d2 * d2;
		}
		step->out[i] = step->noise ? value + u.noise * step->noise[i] : value;
	}
	if (s->state.filled < (uint32_t)s->config.solver_order)
		s->state.filled++;
}

const struct scheduler_class sde_sched_dpmpp_2m = {
	.order = 1,
	.slots = HISTORY,
	.begin_index = true,
	.zero_snr = ZERO_SNR_FLOORED,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_VP_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE |
			    1 << SDE_PREDICTION_V | 1 << SDE_PREDICTION_FLOW,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA | 1 << SIGMAS_LU | 1 << SIGMAS_FLOW,
	.init = multistep_init,
	.set_timesteps = sde_dpm_set_timesteps,
	.noise_draws = sde_dpm_noise_draws,
	.step = multistep_step,
};
