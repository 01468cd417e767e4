/*
 * IPNDM: fourth-order Adams-Bashforth on the angle of a cosine-like schedule that depends only on
 * the number of steps; used by the Versatile Diffusion family. Timesteps are fractions from 1 down.
 * With trained_betas these are the schedule, one step from each to the next whatever count is asked for.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>

#define HISTORY 4

static int ipndm_init(struct sde_scheduler *s, struct sde_error *error)
{
	const struct sde_scheduler_config *config = &s->config;

	if (config->trained_betas && config->n_trained_betas < 2)
		return sde_error_set(error, -EINVAL,
				     "IPNDMScheduler needs trained_betas of two values or more");
	for (size_t i = 0; i < config->n_trained_betas; i++)
		if (!(config->trained_betas[i] >= 0 && config->trained_betas[i] <= 1))
			return sde_error_set(
				error, -EINVAL,
				"trained_betas[%zu] is %g, IPNDMScheduler needs 0 to 1", i,
				(double)config->trained_betas[i]);
	return 0;
}

/* sin^2 of the remaining fraction of a quarter turn, 0 at index n; or the trained one */
static float beta_at(const struct sde_scheduler *s, size_t index)
{
	size_t n = (size_t)s->num_inference_steps;
	float step = -1.0f / (float)n, sine;
	float fraction =
		index < (n + 1) / 2 ? 1 + step * (float)index : 0 - step * (float)(n - index);

	if (s->config.trained_betas)
		return s->config.trained_betas[index];
	sine = sinf(fraction * (float)M_PI / 2);
	return sine * sine;
}

static float alpha_at(const struct sde_scheduler *s, size_t index)
{
	float beta = beta_at(s, index);

	return sqrtf(1 - beta * beta);
}

static int ipndm_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			       struct sde_error *error)
{
	int r = sde_sched_check_request(s, request, 0, error);

	if (r == 0)
		r = sde_sched_alloc_timesteps(s,
					      s->config.trained_betas
						      ? s->config.n_trained_betas - 1
						      : (size_t)s->num_inference_steps,
					      error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_timesteps; i++)
		s->timesteps[i] = atan2f(beta_at(s, i), alpha_at(s, i)) / (float)M_PI * 2;
	return 0;
}

static void ipndm_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	float alpha = alpha_at(s, index), beta = beta_at(s, index);
	float next_alpha = alpha_at(s, index + 1), next_beta = beta_at(s, index + 1);
	float *newest = history_push(s, 0, HISTORY);
	const float *e0 = s->slot[3], *e1 = s->slot[2], *e2 = s->slot[1], *e3 = s->slot[0];

	for (size_t i = 0; i < step->n; i++)
		newest[i] = step->sample[i] * beta + step->model_output[i] * alpha;
	if (s->state.filled < HISTORY)
		s->state.filled++;
	for (size_t i = 0; i < step->n; i++) {
		float e = e0[i], clean;

		if (s->state.filled == 2)
			e = (3 * e0[i] - e1[i]) / 2;
		else if (s->state.filled == 3)
			e = (23 * e0[i] - 16 * e1[i] + 5 * e2[i]) / 12;
		else if (s->state.filled == 4)
			e = (1.0f / 24) * (55 * e0[i] - 59 * e1[i] + 37 * e2[i] - 9 * e3[i]);
		clean = (step->sample[i] - beta * e) / fmaxf(alpha, 1e-8f);
		step->out[i] = next_alpha * clean + e * next_beta;
	}
}

const struct scheduler_class sde_sched_ipndm = {
	.order = 1,
	.slots = HISTORY,
	.begin_index = true,
	.no_alphas = true,
	.init = ipndm_init,
	.set_timesteps = ipndm_set_timesteps,
	.step = ipndm_step,
};
