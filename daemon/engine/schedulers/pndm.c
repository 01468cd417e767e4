/*
 * PNDM (Liu et al. 2022): linear multistep on the pseudo-numerical transfer, started either by
 * repeating the second timestep (PLMS, what Stable Diffusion ships: N+1 model calls) or by three
 * Runge-Kutta steps of four calls each.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

#define PNDM_ORDER 4

/*
 * slots: the last outputs, oldest first, then the sample a compound step started from, and the
 * Runge-Kutta sum
 */
enum { HISTORY, CURRENT_SAMPLE = HISTORY + PNDM_ORDER, RK_SUM, SLOTS };

static double *append(double *to, double t, size_t times)
{
	while (times--)
		*to++ = t;
	return to;
}

/* timesteps descending -> PLMS: the second one twice */
static double *plms_list(const struct sde_scheduler *s, double *to)
{
	for (size_t i = 0; i < s->n_timesteps; i++)
		to = append(to, s->timesteps[i], i == 1 ? 2 : 1);
	return to;
}

/*
 * Runge-Kutta over the first three intervals: t, t - h, t - h, next, next, ..., with h half a
 * stride; then PLMS from the fourth timestep on.
 */
static double *prk_list(struct sde_scheduler *s, double *to)
{
	double half = s->config.num_train_timesteps / s->num_inference_steps / 2;
	const double *begin = to;

	for (size_t i = 0; i < 3; i++) {
		to = append(to, s->timesteps[i], i ? 2 : 1);
		to = append(to, s->timesteps[i + 1] + half, 2);
	}
	to = append(to, s->timesteps[3], 1);
	s->n_prk = (size_t)(to - begin);
	for (size_t i = 3; i < s->n_timesteps; i++)
		to = append(to, s->timesteps[i], 1);
	return to;
}

static int pndm_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      struct sde_error *error)
{
	double *list, *end;
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	r = sde_sched_space_timesteps(s, false, s->config.num_train_timesteps, TIMESTEPS_INT64,
				      error);
	if (r < 0)
		return r;
	if (!s->config.skip_prk_steps && s->n_timesteps < PNDM_ORDER)
		return sde_error_set(error, -EINVAL,
				     "PNDM with Runge-Kutta steps needs at least 4 steps, not %zu",
				     s->n_timesteps);
	list = malloc((s->n_timesteps + 4 * PNDM_ORDER) * sizeof(*list));
	if (!list)
		return sde_error_set(error, -ENOMEM, "no memory for timesteps");
	s->n_prk = 0;
	end = s->config.skip_prk_steps ? plms_list(s, list) : prk_list(s, list);
	r = sde_sched_copy_timesteps(s, list, (size_t)(end - list), error);
	free(list);
	if (r < 0)
		return r;
	return sde_sched_check_table_range(s, error);
}

/*
 * formula (9) of the paper: from timestep t to prev along the output e, which is an epsilon or, by
 * configuration, a velocity
 */
static void transfer(const struct sde_scheduler *s, const float *sample, const float *e, int t,
		     int prev, float *out, size_t n)
{
	float alpha = sde_sched_alpha_at(s, t), alpha_prev = sde_sched_alpha_at(s, prev);
	float beta = 1 - alpha, beta_prev = 1 - alpha_prev;
	float keep = sqrtf(alpha_prev / alpha), difference = alpha_prev - alpha;
	float denominator = alpha * sqrtf(beta_prev) + sqrtf(alpha * beta * alpha_prev);
	bool velocity = s->config.prediction_type == SDE_PREDICTION_V;
	float root_alpha = sqrtf(alpha), root_beta = sqrtf(beta);

	for (size_t i = 0; i < n; i++) {
		float eps = velocity ? root_alpha * e[i] + root_beta * sample[i] : e[i];

		out[i] = keep * sample[i] - difference * eps / denominator;
	}
}

static void remember(struct sde_scheduler *s, const float *model_output, size_t n)
{
	memcpy(history_push(s, HISTORY, PNDM_ORDER), model_output, n * sizeof(float));
	if (s->state.filled < PNDM_ORDER)
		s->state.filled++;
}

static void step_prk(struct sde_scheduler *s, const struct scheduler_step *step)
{
	static const float weights[4] = {1.0f / 6, 1.0f / 3, 1.0f / 3, 1.0f / 6};
	uint32_t phase = s->state.counter % 4;
	int stride = s->config.num_train_timesteps / s->num_inference_steps;
	int prev = (int)s->timesteps[s->state.step_index] - (s->state.counter % 2 ? 0 : stride / 2);
	int t = (int)s->timesteps[s->state.counter / 4 * 4];
	float *sum = s->slot[RK_SUM];
	const float *e = step->model_output;

	if (phase == 0) {
		remember(s, step->model_output, step->n);
		memcpy(s->slot[CURRENT_SAMPLE], step->sample, step->n * sizeof(float));
		memset(sum, 0, step->n * sizeof(float));
	}
	for (size_t i = 0; i < step->n; i++)
		sum[i] += weights[phase] * step->model_output[i];
	if (phase == 3)
		e = sum;
	transfer(s, s->slot[CURRENT_SAMPLE], e, t, prev, step->out, step->n);
}

/* Adams-Bashforth combination of the remembered outputs into s->work */
static void combine(struct sde_scheduler *s, size_t n)
{
	const float *e0 = s->slot[HISTORY + 3], *e1 = s->slot[HISTORY + 2];
	const float *e2 = s->slot[HISTORY + 1], *e3 = s->slot[HISTORY];

	for (size_t i = 0; i < n; i++) {
		switch (s->state.filled) {
		case 1:
			s->work[i] = e0[i];
			break;
		case 2:
			s->work[i] = (3 * e0[i] - e1[i]) / 2;
			break;
		case 3:
			s->work[i] = (23 * e0[i] - 16 * e1[i] + 5 * e2[i]) / 12;
			break;
		default:
			s->work[i] =
				(1.0f / 24) * (55 * e0[i] - 59 * e1[i] + 37 * e2[i] - 9 * e3[i]);
			break;
		}
	}
}

static void step_plms(struct sde_scheduler *s, const struct scheduler_step *step)
{
	int stride = s->config.num_train_timesteps / s->num_inference_steps;
	int t = (int)s->timesteps[s->state.step_index], prev = t - stride;
	const float *sample = step->sample, *e0 = s->slot[HISTORY + 3];

	if (s->state.counter == 1) {
		/* the repeated timestep: redo the first interval with the mean of both ends */
		for (size_t i = 0; i < step->n; i++)
			s->work[i] = (step->model_output[i] + e0[i]) / 2;
		sample = s->slot[CURRENT_SAMPLE];
		prev = t;
		t += stride;
	} else {
		remember(s, step->model_output, step->n);
		combine(s, step->n);
		if (s->state.counter == 0)
			memcpy(s->slot[CURRENT_SAMPLE], step->sample, step->n * sizeof(float));
	}
	transfer(s, sample, s->work, t, prev, step->out, step->n);
}

static void pndm_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	if (s->state.counter < s->n_prk)
		step_prk(s, step);
	else
		step_plms(s, step);
	s->state.counter++;
}

const struct scheduler_class sde_sched_pndm = {
	.order = 1,
	.slots = SLOTS,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_ALPHAS,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_V,
	.set_timesteps = pndm_set_timesteps,
	.step = pndm_step,
};
