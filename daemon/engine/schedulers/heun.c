/*
 * Heun's second-order method in sigma (Karras et al. 2022, algorithm 1 without churn): two model
 * calls a step, so every timestep but the first stands twice in the list.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

/* slots: what the second call needs of the first */
enum { DERIVATIVE, SAMPLE, SLOTS };

static int heun_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      struct sde_error *error)
{
	double *sigmas, *list = NULL;
	size_t n;
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS, error);

	if (r < 0)
		return r;
	r = sde_sched_sigma_timesteps(s, request, TIMESTEPS_FLOAT32, &sigmas, error);
	if (r < 0)
		return r;
	n = s->n_timesteps;
	r = sde_sched_alloc_sigmas(s, 2 * n, error);
	if (r == 0) {
		list = malloc((2 * n - 1) * sizeof(*list));
		r = list ? 0 : sde_error_set(error, -ENOMEM, "no memory for timesteps");
	}
	for (size_t i = 0; r == 0 && i < 2 * n - 1; i++) {
		s->sigmas[i] = (float)sigmas[(i + 1) / 2];
		list[i] = (float)s->timesteps[(i + 1) / 2];
	}
	if (r == 0) {
		s->sigmas[2 * n - 1] = 0;
		r = sde_sched_copy_timesteps(s, list, 2 * n - 1, error);
	}
	free(list);
	free(sigmas);
	return r;
}

static void heun_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	bool second = s->state.filled;
	float sigma = s->sigmas[second ? index - 1 : index];
	float next = s->sigmas[second ? index : index + 1];
	float at = second ? next : sigma, dt = second ? s->state.dt : next - sigma;
	struct sigma_prediction p = sigma_prediction(s->config.prediction_type, at);
	float range = s->config.clip_sample ? (float)s->config.clip_sample_range : INFINITY;

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];
		float clean = sigma_predict(&p, step->model_output[i], x);
		float derivative = (x - fminf(fmaxf(clean, -range), range)) / at;

		if (second) {
			derivative = (s->slot[DERIVATIVE][i] + derivative) / 2;
			x = s->slot[SAMPLE][i];
		} else {
			s->slot[DERIVATIVE][i] = derivative;
			s->slot[SAMPLE][i] = x;
		}
		step->out[i] = x + derivative * dt;
	}
	s->state.filled = !second;
	s->state.dt = dt;
}

const struct scheduler_class sde_sched_heun = {
	.order = 2,
	.slots = SLOTS,
	.begin_index = true,
	.scaled_by_sigma = true,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types =
		1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = heun_set_timesteps,
	.step = heun_step,
};
