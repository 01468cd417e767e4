/*
 * Euler on the probability-flow ODE in sigma (Karras et al. 2022, algorithm 2 with churn) and its
 * ancestral variant, which removes more noise than the step needs and adds the difference anew.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

static int custom_sigmas(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			 struct sde_error *error)
{
	size_t n = request->n_sigmas - 1;
	int r;

	if (request->n_sigmas < 2)
		return sde_error_set(
			error, -EINVAL,
			"custom sigmas need at least two values, the last one usually 0");
	for (size_t i = 0; i < n; i++) {
		if (!(request->sigmas[i] > 0))
			return sde_error_set(error, -EINVAL,
					     "custom sigmas[%zu] is %g, must be above 0", i,
					     request->sigmas[i]);
	}
	r = sde_sched_copy_timesteps(s, request->sigmas, n, error);
	if (r < 0)
		return r;
	s->num_inference_steps = (int)n;
	for (size_t i = 0; i < n; i++)
		s->timesteps[i] = sde_sched_sigma_to_t(s, (float)request->sigmas[i]);
	return sde_sched_set_sigmas(s, request->sigmas, n, request->sigmas[n], error);
}

/*
 * interpolation_type log_linear: n + 1 sigmas over the whole training range, whatever the
 * timesteps, and the final one after them; diffusers really does have one more than steps.
 */
static int log_linear_sigmas(struct sde_scheduler *s, double final, struct sde_error *error)
{
	size_t points = (size_t)s->num_inference_steps + 1;
	size_t last = (size_t)s->config.num_train_timesteps - 1;
	float start = logf(sde_sched_train_sigma(s, last)), end = logf(sde_sched_train_sigma(s, 0));
	float step = (end - start) / (float)(points - 1);
	int r = sde_sched_alloc_sigmas(s, points + 1, error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < points; i++)
		s->sigmas[i] = expf(i < points / 2 ? start + step * (float)i
						   : end - step * (float)(points - 1 - i));
	s->sigmas[points] = (float) final;
	return 0;
}

static int euler_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			       struct sde_error *error)
{
	bool continuous =
		s->config.continuous_timesteps && s->config.prediction_type == SDE_PREDICTION_V;
	double *sigmas, final;
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS | REQUEST_SIGMAS, error);

	if (r < 0)
		return r;
	if (request->timesteps && (request->sigmas || continuous))
		return sde_error_set(
			error, -EINVAL,
			"custom timesteps exclude custom sigmas and continuous timesteps");
	final = s->config.final_sigma_min ? sde_sched_train_sigma(s, 0) : 0;
	if (request->sigmas) {
		r = custom_sigmas(s, request, error);
	} else {
		r = sde_sched_sigma_timesteps(s, request, TIMESTEPS_FLOAT32, &sigmas, error);
		if (r < 0)
			return r;
		if (s->config.log_linear_interpolation &&
		    sde_sched_sigma_spacing(&s->config) == SIGMAS_TABLE)
			r = log_linear_sigmas(s, final, error);
		else
			r = sde_sched_set_sigmas(s, sigmas, s->n_timesteps, final, error);
		free(sigmas);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_timesteps; i++)
		s->timesteps[i] = continuous ? 0.25f * logf(s->sigmas[i]) : (float)s->timesteps[i];
	return 0;
}

static int ancestral_set_timesteps(struct sde_scheduler *s,
				   const struct sde_timesteps_request *request,
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
	free(sigmas);
	return r;
}

static float churn(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	float sigma = s->sigmas[s->state.step_index];

	if (!(sigma >= args->s_tmin && sigma <= args->s_tmax))
		return 0;
	return (float)fmin(args->s_churn / (double)(s->n_sigmas - 1), sqrt(2) - 1);
}

static int euler_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return churn(s, args) > 0;
}

static void euler_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	float sigma = s->sigmas[s->state.step_index], next = s->sigmas[s->state.step_index + 1];
	float sigma_hat = sigma * (churn(s, step->args) + 1);
	float added = sqrtf(sigma_hat * sigma_hat - sigma * sigma);
	float s_noise = (float)step->args->s_noise, dt = next - sigma_hat;
	/* only epsilon is read at the raised noise level */
	struct sigma_prediction p = sigma_prediction(
		s->config.prediction_type,
		s->config.prediction_type == SDE_PREDICTION_EPSILON ? sigma_hat : sigma);

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i], clean;

		if (step->noise)
			x += step->noise[i] * s_noise * added;
		clean = sigma_predict(&p, step->model_output[i], x);
		step->out[i] = x + (x - clean) / sigma_hat * dt;
	}
}

static int ancestral_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return 1;
}

static void ancestral_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	float sigma = s->sigmas[s->state.step_index], to = s->sigmas[s->state.step_index + 1];
	float up = sqrtf(to * to * (sigma * sigma - to * to) / (sigma * sigma));
	float down = sqrtf(to * to - up * up), dt = down - sigma;
	struct sigma_prediction p = sigma_prediction(s->config.prediction_type, sigma);

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];
		float clean = sigma_predict(&p, step->model_output[i], x);

		step->out[i] = x + (x - clean) / sigma * dt + step->noise[i] * up;
	}
}

const struct scheduler_class sde_sched_euler = {
	.order = 1,
	.begin_index = true,
	.scaled_by_sigma = true,
	.zero_snr = ZERO_SNR_FLOORED,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = euler_set_timesteps,
	.noise_draws = euler_noise_draws,
	.step = euler_step,
};

const struct scheduler_class sde_sched_euler_ancestral = {
	.order = 1,
	.begin_index = true,
	.scaled_by_sigma = true,
	.zero_snr = ZERO_SNR_FLOORED,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_V,
	.set_timesteps = ancestral_set_timesteps,
	.noise_draws = ancestral_noise_draws,
	.step = ancestral_step,
};
