/*
 * DPM-Solver++ SDE, "DPM++ SDE" (Lu et al. 2022; k-diffusion): a stochastic midpoint method with t
 * = -ln(sigma), two model calls and two noise draws a step; the last step, to sigma 0, is one plain
 * Euler step. diffusers takes its noise from a Brownian tree, which a seed cannot reproduce here:
 * the noise source decides.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

/* slot: the sample at the start of the step; state.filled: it is there, the second call is next */
enum { SAMPLE, SLOTS };

static int sde_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			     struct sde_error *error)
{
	double *sigmas, *list = NULL;
	size_t n;
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	r = sde_sched_sigma_timesteps(s, request, TIMESTEPS_FLOAT64, &sigmas, error);
	if (r < 0)
		return r;
	n = s->n_timesteps;
	r = sde_sched_alloc_sigmas(s, 2 * n, error);
	if (r == 0) {
		list = malloc((2 * n - 1) * sizeof(*list));
		r = list ? 0 : sde_error_set(error, -ENOMEM, "no memory for timesteps");
	}
	for (size_t i = 0; r == 0 && i < 2 * n - 1; i++) {
		size_t k = (i + 1) / 2;

		s->sigmas[i] = (float)sigmas[k];
		list[i] = s->timesteps[k];
		if (i % 2) {
			double t = -log(sigmas[k - 1]), t_next = -log(sigmas[k]);

			list[i] = sde_sched_sigma_to_t(s, exp(-(t + (t_next - t) * 0.5)));
		}
	}
	if (r == 0) {
		s->sigmas[2 * n - 1] = 0;
		r = sde_sched_copy_timesteps(s, list, 2 * n - 1, error);
	}
	free(list);
	free(sigmas);
	return r;
}

static float sde_input_sigma(const struct sde_scheduler *s)
{
	return s->state.filled ? s->state.midpoint_sigma : s->sigmas[s->state.step_index];
}

static float next_sigma(const struct sde_scheduler *s)
{
	return s->sigmas[s->state.filled ? s->state.step_index : s->state.step_index + 1];
}

static int sde_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return next_sigma(s) > 0;
}

static void euler_to_zero(struct sde_scheduler *s, const struct scheduler_step *step, float sigma)
{
	struct sigma_prediction p = sigma_prediction(s->config.prediction_type, sigma);

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];

		step->out[i] =
			x + (x - sigma_predict(&p, step->model_output[i], x)) / sigma * -sigma;
	}
}

static void sde_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	bool second = s->state.filled;
	size_t index = s->state.step_index;
	float sigma = s->sigmas[second ? index - 1 : index], next = next_sigma(s);
	float t = -logf(sigma), t_next = -logf(next), middle = t + (t_next - t) * 0.5f;
	float from = expf(-t), to, up, down, ancestral_t, ratio, weight, scale;
	struct sigma_prediction p;
	float *start = s->slot[SAMPLE];

	if (next == 0) {
		euler_to_zero(s, step, sigma);
		return;
	}
	p = sigma_prediction(s->config.prediction_type, second ? expf(-middle) : sigma);
	to = expf(-(second ? t_next : middle));
	up = fminf(to, sqrtf(to * to * (from * from - to * to) / (from * from)));
	down = sqrtf(to * to - up * up);
	ancestral_t = -logf(down);
	ratio = expf(-ancestral_t) / expf(-t);
	weight = expm1f(t - ancestral_t);
	scale = (float)step->args->s_noise;
	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];
		float clean = sigma_predict(&p, step->model_output[i], x);

		if (!second)
			start[i] = x;
		step->out[i] = ratio * start[i] - weight * clean + step->noise[i] * scale * up;
	}
	s->state.filled = !second;
	s->state.midpoint_sigma = second ? 0 : to;
}

const struct scheduler_class sde_sched_dpmpp_sde = {
	.order = 2,
	.slots = SLOTS,
	.begin_index = true,
	.scaled_by_sigma = true,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = sde_set_timesteps,
	.input_sigma = sde_input_sigma,
	.noise_draws = sde_noise_draws,
	.step = sde_step,
};
