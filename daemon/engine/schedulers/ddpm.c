/*
 * DDPM (Ho et al. 2020): ancestral sampling with the posterior variance between the timesteps that
 * are really run. No noise is drawn at timestep 0.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>

#define VARIANCE_FLOOR 1e-20f

static int ddpm_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      struct sde_error *error)
{
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS, error);

	if (r < 0)
		return r;
	if (request->timesteps) {
		for (size_t i = 1; i < request->n_timesteps; i++) {
			if (request->timesteps[i] >= request->timesteps[i - 1])
				return sde_error_set(
					error, -EINVAL,
					"custom timesteps must be in descending order");
		}
		r = sde_sched_copy_timesteps(s, request->timesteps, request->n_timesteps, error);
	} else {
		r = sde_sched_space_timesteps(s, false, s->config.num_train_timesteps,
					      TIMESTEPS_INT64, error);
	}
	if (r < 0)
		return r;
	return sde_sched_check_table_range(s, error);
}

static int ddpm_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return s->timesteps[s->state.step_index] > 0;
}

static float noise_scale(const struct sde_scheduler *s, float alpha, float alpha_prev, float beta)
{
	float variance = fmaxf((1 - alpha_prev) / (1 - alpha) * beta, VARIANCE_FLOOR);

	switch (s->config.variance_type) {
	case SDE_VARIANCE_FIXED_SMALL_LOG:
		return expf(0.5f * logf(variance));
	case SDE_VARIANCE_FIXED_LARGE:
		return sqrtf(beta);
	default:
		return sqrtf(variance);
	}
}

static void ddpm_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	bool last = index + 1 == s->n_timesteps;
	float alpha = sde_sched_alpha_at(s, (int)s->timesteps[index]);
	float alpha_prev = last ? 1 : sde_sched_alpha_at(s, (int)s->timesteps[index + 1]);
	float current_alpha = alpha / alpha_prev, current_beta = 1 - current_alpha;
	float clean = sqrtf(alpha_prev) * current_beta / (1 - alpha);
	float keep = sqrtf(current_alpha) * (1 - alpha_prev) / (1 - alpha);
	float scale = step->noise ? noise_scale(s, alpha, alpha_prev, current_beta) : 0;

	sde_sched_predict_x0(s, step, alpha);
	sde_sched_clip(s, s->work, step->n, step->args->batch);
	for (size_t i = 0; i < step->n; i++) {
		step->out[i] = clean * s->work[i] + keep * step->sample[i];
		if (step->noise)
			step->out[i] += scale * step->noise[i];
	}
}

const struct scheduler_class sde_sched_ddpm = {
	.order = 1,
	.zero_snr = ZERO_SNR_EXACT,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_ALPHAS,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.set_timesteps = ddpm_set_timesteps,
	.noise_draws = ddpm_noise_draws,
	.step = ddpm_step,
};
