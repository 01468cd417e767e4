/*
 * DDIM (Song et al. 2020) and its inversion, which runs the same update from the clean sample
 * towards noise. With eta = 1 the step is ancestral (DDPM's variance). The last step goes to
 * alphas_cumprod[0] or to 1, as set_alpha_to_one says.
 */
#include "daemon/engine/schedulers/internal.h"

/* slots: neither class has a history; the one slot is scratch for epsilon */
enum { EPSILON, SLOTS };

static int ddim_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      struct sde_error *error)
{
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	r = sde_sched_space_timesteps(s, false, s->config.num_train_timesteps, TIMESTEPS_INT64,
				      error);
	if (r < 0)
		return r;
	return sde_sched_check_table_range(s, error);
}

static int inverse_init(struct sde_scheduler *s, struct sde_error *error)
{
	s->config.thresholding = false; /* not a key of this class */
	return 0;
}

static int inverse_set_timesteps(struct sde_scheduler *s,
				 const struct sde_timesteps_request *request,
				 struct sde_error *error)
{
	int r = ddim_set_timesteps(s, request, error);

	if (r < 0)
		return r;
	for (size_t i = 0, k = s->n_timesteps - 1; i < k; i++, k--) {
		double t = s->timesteps[i];

		s->timesteps[i] = s->timesteps[k];
		s->timesteps[k] = t;
	}
	return 0;
}

/* the epsilon that goes with a clean sample x0 */
static void epsilon_from_clean(const struct scheduler_step *step, float alpha, const float *x0,
			       float *eps)
{
	float root_alpha = sqrtf(alpha), root_beta = sqrtf(1 - alpha);

	for (size_t i = 0; i < step->n; i++)
		eps[i] = (step->sample[i] - root_alpha * x0[i]) / root_beta;
}

/*
 * s->work = predicted clean sample, clipped; slot EPSILON = predicted epsilon, of the unclipped one
 * unless asked otherwise
 */
static void predict(struct sde_scheduler *s, const struct scheduler_step *step, float alpha)
{
	float root_alpha = sqrtf(alpha), root_beta = sqrtf(1 - alpha);
	float *eps = s->slot[EPSILON];

	sde_sched_predict_x0(s, step, alpha);
	switch (s->config.prediction_type) {
	case SDE_PREDICTION_EPSILON:
		memcpy(eps, step->model_output, step->n * sizeof(*eps));
		break;
	case SDE_PREDICTION_V:
		for (size_t i = 0; i < step->n; i++)
			eps[i] = root_alpha * step->model_output[i] + root_beta * step->sample[i];
		break;
	default:
		epsilon_from_clean(step, alpha, s->work, eps);
		break;
	}
	sde_sched_clip(s, s->work, step->n, step->args->batch);
	if (step->args->use_clipped_model_output)
		epsilon_from_clean(step, alpha, s->work, eps);
}

static void move(const struct sde_scheduler *s, const struct scheduler_step *step, float alpha_prev,
		 float deviation)
{
	float root_prev = sqrtf(alpha_prev);
	float direction = sqrtf(1 - alpha_prev - deviation * deviation);
	const float *eps = s->slot[EPSILON];

	for (size_t i = 0; i < step->n; i++) {
		step->out[i] = root_prev * s->work[i] + direction * eps[i];
		if (step->noise)
			step->out[i] += deviation * step->noise[i];
	}
}

static int ddim_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return args->eta > 0;
}

static void ddim_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	int t = (int)s->timesteps[s->state.step_index];
	int stride = s->config.num_train_timesteps / s->num_inference_steps;
	float alpha = sde_sched_alpha_at(s, t);
	float alpha_prev = sde_sched_alpha_at(s, t - stride);
	float variance = (1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev);

	predict(s, step, alpha);
	move(s, step, alpha_prev, (float)step->args->eta * sqrtf(variance));
}

static void inverse_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	int t = (int)s->timesteps[s->state.step_index];
	int stride = s->config.num_train_timesteps / s->num_inference_steps;

	predict(s, step, sde_sched_alpha_at(s, t - stride));
	move(s, step, sde_sched_alpha_at(s, t), 0);
}

const struct scheduler_class sde_sched_ddim = {
	.order = 1,
	.slots = SLOTS,
	.zero_snr = ZERO_SNR_EXACT,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_ALPHAS,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.set_timesteps = ddim_set_timesteps,
	.noise_draws = ddim_noise_draws,
	.step = ddim_step,
};

const struct scheduler_class sde_sched_ddim_inverse = {
	.order = 1,
	.slots = SLOTS,
	.zero_snr = ZERO_SNR_EXACT,
	.integer_timesteps = true,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.init = inverse_init,
	.set_timesteps = inverse_set_timesteps,
	.step = inverse_step,
};
