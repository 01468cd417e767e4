/*
 * Latent consistency models: LCM (Luo et al. 2023) and TCD, trajectory consistency distillation
 * (Zheng et al. 2024). Both pick their few timesteps from the grid the model was distilled on,
 * predict the clean sample and noise it again; the last step adds no noise.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

#define SIGMA_DATA 0.5

static int custom_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			    double strength, struct sde_error *error)
{
	size_t n = request->n_timesteps, run = (size_t)((double)n * strength);

	for (size_t i = 1; i < n; i++) {
		if (request->timesteps[i] >= request->timesteps[i - 1])
			return sde_error_set(error, -EINVAL,
					     "custom timesteps must be in descending order");
	}
	if (run < 1)
		return sde_error_set(error, -EINVAL,
				     "strength %g leaves none of %zu custom timesteps", strength,
				     n);
	return sde_sched_copy_timesteps(s, request->timesteps + (n - run), run, error);
}

/* the i-th of the descending distillation grid of `size` points */
static double grid_point(const struct sde_scheduler *s, size_t i, size_t size, int original_steps,
			 bool every_timestep)
{
	if (every_timestep)
		return (double)(size - 1 - i);
	return (double)(size - i) * (s->config.num_train_timesteps / original_steps) - 1;
}

static int consistency_set_timesteps(struct sde_scheduler *s,
				     const struct sde_timesteps_request *request,
				     struct sde_error *error)
{
	double strength = request->strength == 0 ? 1 : request->strength;
	int original = request->original_inference_steps ? request->original_inference_steps
							 : s->config.original_inference_steps;
	/* TCD with an explicit original_inference_steps uses the whole training grid */
	bool every = s->config.class_id == SDE_SCHEDULER_TCD && request->original_inference_steps;
	size_t n = (size_t)s->num_inference_steps, size;
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS | REQUEST_STRENGTH, error);

	if (r < 0)
		return r;
	if (!(strength > 0 && strength <= 1))
		return sde_error_set(error, -EINVAL,
				     "strength is %g, must be above 0 and at most 1", strength);
	if (original < 1 || original > s->config.num_train_timesteps)
		return sde_error_set(error, -EINVAL,
				     "original_inference_steps is %d, must be 1..%d", original,
				     s->config.num_train_timesteps);
	if (request->timesteps) {
		r = custom_timesteps(s, request, strength, error);
		return r < 0 ? r : sde_sched_check_table_range(s, error);
	}
	size = (size_t)((every ? s->config.num_train_timesteps : original) * strength);
	if (n > size || n > (size_t)original)
		return sde_error_set(
			error, -EINVAL,
			"%zu steps, but the grid of %d steps at strength %g has only %zu", n,
			original, strength, size);
	r = sde_sched_alloc_timesteps(s, n, error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		/* floor(np.linspace(0, size, n, endpoint=False)) */
		size_t k = (size_t)((double)i * ((double)size / (double)n));

		s->timesteps[i] = grid_point(s, k, size, original, every);
	}
	return sde_sched_check_table_range(s, error);
}

static bool is_last(const struct sde_scheduler *s)
{
	return s->state.step_index + 1 == (uint32_t)s->num_inference_steps;
}

static int lcm_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return !is_last(s);
}

static void lcm_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	int t = (int)s->timesteps[index];
	int prev = index + 1 < s->n_timesteps ? (int)s->timesteps[index + 1] : t;
	float alpha = sde_sched_alpha_at(s, t), alpha_prev = sde_sched_alpha_at(s, prev);
	float scaled = (float)t * (float)s->config.timestep_scaling;
	float squared = scaled * scaled + (float)(SIGMA_DATA * SIGMA_DATA);
	float c_skip = (float)(SIGMA_DATA * SIGMA_DATA) / squared, c_out = scaled / sqrtf(squared);
	float root_prev = sqrtf(alpha_prev), root_beta_prev = sqrtf(1 - alpha_prev);

	sde_sched_predict_x0(s, step, alpha);
	sde_sched_clip(s, s->work, step->n, step->args->batch);
	for (size_t i = 0; i < step->n; i++) {
		float denoised = c_out * s->work[i] + c_skip * step->sample[i];

		step->out[i] = step->noise ? root_prev * denoised + root_beta_prev * step->noise[i]
					   : denoised;
	}
}

static int tcd_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return args->eta > 0 && !is_last(s);
}

static void tcd_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	int t = (int)s->timesteps[index];
	int prev = index + 1 < s->n_timesteps ? (int)s->timesteps[index + 1] : 0;
	int inner = (int)floorf((float)(1 - step->args->eta) * (float)prev);
	float alpha = sde_sched_alpha_at(s, t), alpha_prev = sde_sched_alpha_at(s, prev);
	float alpha_s = sde_sched_alpha_at(s, inner);
	float root_alpha = sqrtf(alpha), root_beta = sqrtf(1 - alpha);
	float root_alpha_s = sqrtf(alpha_s), root_beta_s = sqrtf(1 - alpha_s);
	float keep = sqrtf(alpha_prev / alpha_s), add = sqrtf(1 - alpha_prev / alpha_s);

	sde_sched_predict_x0(s, step, alpha);
	for (size_t i = 0; i < step->n; i++) {
		float m = step->model_output[i], x = step->sample[i], noised;
		float eps = m;

		if (s->config.prediction_type == SDE_PREDICTION_V)
			eps = root_alpha * m + root_beta * x;
		else if (s->config.prediction_type == SDE_PREDICTION_SAMPLE)
			eps = (x - root_alpha * m) / root_beta;
		noised = root_alpha_s * s->work[i] + root_beta_s * eps;
		step->out[i] = step->noise ? keep * noised + add * step->noise[i] : noised;
	}
}

const struct scheduler_class sde_sched_lcm = {
	.order = 1,
	.begin_index = true,
	.zero_snr = ZERO_SNR_EXACT,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_ALPHAS,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.set_timesteps = consistency_set_timesteps,
	.noise_draws = lcm_noise_draws,
	.step = lcm_step,
};

const struct scheduler_class sde_sched_tcd = {
	.order = 1,
	.begin_index = true,
	.zero_snr = ZERO_SNR_EXACT,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_ALPHAS,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.set_timesteps = consistency_set_timesteps,
	.noise_draws = tcd_noise_draws,
	.step = tcd_step,
};
