/*
 * The update formulas that DPM-Solver's multistep and singlestep forms share (Lu et al. 2022,
 * algorithms 1-2 and the SDE versions): with the same order and step h in lambda only the points
 * behind the divided differences D1, D2 differ.
 */
#include "daemon/engine/schedulers/internal.h"

bool sde_dpm_data_prediction(const struct sde_scheduler *s)
{
	return s->config.algorithm_type == SDE_ALGORITHM_DPMSOLVER_PP ||
	       s->config.algorithm_type == SDE_ALGORITHM_SDE_DPMSOLVER_PP;
}

bool sde_dpm_stochastic(const struct sde_scheduler *s)
{
	return s->config.algorithm_type == SDE_ALGORITHM_SDE_DPMSOLVER ||
	       s->config.algorithm_type == SDE_ALGORITHM_SDE_DPMSOLVER_PP;
}

void sde_dpm_convert(struct sde_scheduler *s, const struct scheduler_step *step, float *to)
{
	struct alpha_sigma a = alpha_sigma(s, s->state.step_index);

	if (sde_dpm_data_prediction(s)) {
		sde_sched_vp_clean(s, step, to);
		return;
	}
	sde_sched_vp_epsilon(s, step, to);
	if (!s->config.thresholding)
		return;
	for (size_t i = 0; i < step->n; i++)
		s->work[i] = (step->sample[i] - a.sigma * to[i]) / a.alpha;
	sde_sched_threshold(s, s->work, step->n, step->args->batch);
	for (size_t i = 0; i < step->n; i++)
		to[i] = (step->sample[i] - a.alpha * s->work[i]) / a.sigma;
}

static struct dpm_update update_data(const struct sde_scheduler *s, struct alpha_sigma to,
				     struct alpha_sigma from, float h, int order)
{
	float e = expf(-h) - 1.0f;
	struct dpm_update u = {to.sigma / from.sigma, -(to.alpha * e), 0, 0, 0};

	if (order == 2 && s->config.solver_type == SDE_SOLVER_MIDPOINT)
		u.d1 = -0.5f * (to.alpha * e);
	else if (order >= 2)
		u.d1 = to.alpha * (e / h + 1.0f);
	if (order == 3)
		u.d2 = -(to.alpha * ((e + h) / (h * h) - 0.5f));
	return u;
}

static struct dpm_update update_noise(const struct sde_scheduler *s, struct alpha_sigma to,
				      struct alpha_sigma from, float h, int order)
{
	float e = expf(h) - 1.0f;
	struct dpm_update u = {to.alpha / from.alpha, -(to.sigma * e), 0, 0, 0};

	if (order == 2 && s->config.solver_type == SDE_SOLVER_MIDPOINT)
		u.d1 = -0.5f * (to.sigma * e);
	else if (order >= 2)
		u.d1 = -(to.sigma * (e / h - 1.0f));
	if (order == 3)
		u.d2 = -(to.sigma * ((e - h) / (h * h) - 0.5f));
	return u;
}

static struct dpm_update update_sde_data(const struct sde_scheduler *s, struct alpha_sigma to,
					 struct alpha_sigma from, float h, int order)
{
	float e = 1.0f - expf(-2.0f * h);
	struct dpm_update u = {to.sigma / from.sigma * expf(-h), to.alpha * e, 0, 0,
			       to.sigma * sqrtf(1.0f - expf(-2 * h))};

	if (order == 2 && s->config.solver_type == SDE_SOLVER_MIDPOINT)
		u.d1 = 0.5f * (to.alpha * e);
	else if (order >= 2)
		u.d1 = to.alpha * (e / (-2.0f * h) + 1.0f);
	if (order == 3)
		u.d2 = to.alpha * ((e - 2.0f * h) / (4.0f * h * h) - 0.5f);
	return u;
}

static struct dpm_update update_sde_noise(const struct sde_scheduler *s, struct alpha_sigma to,
					  struct alpha_sigma from, float h, int order)
{
	float e = expf(h) - 1.0f;
	struct dpm_update u = {to.alpha / from.alpha, -2.0f * (to.sigma * e), 0, 0,
			       to.sigma * sqrtf(expf(2 * h) - 1.0f)};

	if (order == 2 && s->config.solver_type == SDE_SOLVER_MIDPOINT)
		u.d1 = -(to.sigma * e);
	else if (order == 2)
		u.d1 = -2.0f * (to.sigma * (e / h - 1.0f));
	return u;
}

struct dpm_update sde_dpm_update(const struct sde_scheduler *s, struct alpha_sigma to,
				 struct alpha_sigma from, float h, int order)
{
	switch (s->config.algorithm_type) {
	case SDE_ALGORITHM_DPMSOLVER:
		return update_noise(s, to, from, h, order);
	case SDE_ALGORITHM_SDE_DPMSOLVER:
		return update_sde_noise(s, to, from, h, order);
	case SDE_ALGORITHM_SDE_DPMSOLVER_PP:
		return update_sde_data(s, to, from, h, order);
	default:
		return update_data(s, to, from, h, order);
	}
}

int sde_dpm_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			  struct sde_error *error)
{
	float final = s->config.final_sigma_min ? sde_sched_train_sigma(s, 0) : 0;
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS | REQUEST_MU, error);

	if (r < 0)
		return r;
	r = sde_sched_set_mu(s, request, error);
	if (r < 0)
		return r;
	if (request->timesteps)
		r = sde_sched_copy_timesteps(s, request->timesteps, request->n_timesteps, error);
	else
		r = sde_sched_space_timesteps(s, true, sde_sched_clipped_train_timesteps(s),
					      TIMESTEPS_INT64, error);
	if (r < 0)
		return r;
	return sde_sched_multistep_timesteps(s, request, final, error);
}

int sde_dpm_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return sde_dpm_stochastic(s);
}
