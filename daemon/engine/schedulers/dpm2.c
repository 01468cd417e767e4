/*
 * KDPM2, "DPM2" and "DPM2 a" (Karras et al. 2022, appendix; k-diffusion): a midpoint method whose
 * middle sigma is the geometric mean of the step's ends. The ancestral form aims lower and adds the
 * difference as noise on the second call of each step.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

/* slot: the sample at the start of the step; state.filled: it is there, the second call is next */
enum { SAMPLE, SLOTS };

/* torch.lerp at 0.5, then exp: the geometric mean, 0 if either is 0 */
static float geometric_middle(float a, float b)
{
	float start, end;

	if (a <= 0 || b <= 0)
		return 0;
	start = logf(a);
	end = logf(b);
	return expf(end - (end - start) * 0.5f);
}

/* values[k] for k = 0..n: the first once, the others twice, the last once more (2n + 2 in all) */
static void interleave(const float *values, size_t n, float *out)
{
	for (size_t i = 0; i < 2 * n + 2; i++) {
		size_t k = (i + 1) / 2;

		out[i] = values[k < n ? k : n];
	}
}

struct tables {
	float *memory, *sigma, *middle, *up, *down; /* n + 1 each */
};

static int alloc_tables(struct sde_scheduler *s, size_t n, struct tables *t,
			struct sde_error *error)
{
	size_t count = 2 * n + 2;

	free(s->sigmas_interpol);
	free(s->sigmas_up);
	free(s->sigmas_down);
	s->sigmas_interpol = malloc(count * sizeof(float));
	s->sigmas_up = malloc(count * sizeof(float));
	s->sigmas_down = malloc(count * sizeof(float));
	t->memory = calloc(4 * (n + 1), sizeof(float));
	t->sigma = t->memory;
	t->middle = t->memory + (n + 1);
	t->up = t->memory + 2 * (n + 1);
	t->down = t->memory + 3 * (n + 1);
	if (!s->sigmas_interpol || !s->sigmas_up || !s->sigmas_down || !t->memory)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", count);
	return sde_sched_alloc_sigmas(s, count, error);
}

static void fill_tables(const double *sigmas, size_t n, bool ancestral, struct tables *t)
{
	for (size_t i = 0; i < n; i++)
		t->sigma[i] = (float)sigmas[i];
	for (size_t i = 0; i < n; i++) {
		float from = t->sigma[i], to = t->sigma[i + 1];

		t->up[i] = sde_sched_sqrt(to * to * (from * from - to * to) / (from * from));
		t->down[i] = sde_sched_sqrt(to * to - t->up[i] * t->up[i]);
	}
	/*
	 * the plain sampler keeps the middle at the end of its interval, the ancestral one at its
	 * start
	 */
	for (size_t i = 0; i < n; i++) {
		if (ancestral && i + 1 < n)
			t->middle[i] = geometric_middle(t->sigma[i], t->down[i]);
		else if (!ancestral && i > 0)
			t->middle[i] = geometric_middle(t->sigma[i], t->sigma[i - 1]);
	}
}

static int interleave_timesteps(struct sde_scheduler *s, const struct tables *t, bool ancestral,
				struct sde_error *error)
{
	bool rounded = s->config.use_karras_sigmas;
	size_t n = s->n_timesteps;
	double *list = malloc((2 * n - 1) * sizeof(*list));
	int r;

	if (!list)
		return sde_error_set(error, -ENOMEM, "no memory for %zu timesteps", 2 * n - 1);
	for (size_t i = 0; i < 2 * n - 1; i++) {
		size_t k = (i + 1) / 2;

		if (i % 2)
			list[i] = sde_sched_sigma_to_t(s, t->middle[ancestral ? k - 1 : k]);
		else
			list[i] = rounded ? nearbyint(s->timesteps[k]) : s->timesteps[k];
	}
	r = sde_sched_copy_timesteps(s, list, 2 * n - 1, error);
	free(list);
	return r;
}

static int set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			 bool ancestral, struct sde_error *error)
{
	struct tables t = {NULL};
	double *sigmas;
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	r = sde_sched_sigma_timesteps(s, request, TIMESTEPS_FLOAT32, &sigmas, error);
	if (r < 0)
		return r;
	r = alloc_tables(s, s->n_timesteps, &t, error);
	if (r == 0) {
		fill_tables(sigmas, s->n_timesteps, ancestral, &t);
		interleave(t.sigma, s->n_timesteps, s->sigmas);
		interleave(t.middle, s->n_timesteps, s->sigmas_interpol);
		interleave(t.up, s->n_timesteps, s->sigmas_up);
		interleave(t.down, s->n_timesteps, s->sigmas_down);
		r = interleave_timesteps(s, &t, ancestral, error);
	}
	free(t.memory);
	free(sigmas);
	return r;
}

static int kdpm2_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			       struct sde_error *error)
{
	return set_timesteps(s, request, false, error);
}

static int ancestral_set_timesteps(struct sde_scheduler *s,
				   const struct sde_timesteps_request *request,
				   struct sde_error *error)
{
	return set_timesteps(s, request, true, error);
}

static float kdpm2_input_sigma(const struct sde_scheduler *s)
{
	size_t index = s->state.step_index;

	return s->state.filled ? s->sigmas_interpol[index] : s->sigmas[index];
}

static float ancestral_input_sigma(const struct sde_scheduler *s)
{
	size_t index = s->state.step_index;

	return s->state.filled ? s->sigmas_interpol[index - 1] : s->sigmas[index];
}

/* out = start + (x - clean(x)) / at * (target - sigma), x seen at sigma `at` */
static void move(struct sde_scheduler *s, const struct scheduler_step *step, float sigma, float at,
		 float target, float up)
{
	struct sigma_prediction p = sigma_prediction(s->config.prediction_type, at);
	bool second = s->state.filled;
	float dt = target - sigma, *start = s->slot[SAMPLE];

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i];
		float derivative = (x - sigma_predict(&p, step->model_output[i], x)) / at;

		if (!second)
			start[i] = x;
		step->out[i] = start[i] + derivative * dt;
		if (step->noise)
			step->out[i] += step->noise[i] * up;
	}
	s->state.filled = !second;
}

static void kdpm2_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;

	if (s->state.filled)
		move(s, step, s->sigmas[index - 1], s->sigmas_interpol[index], s->sigmas[index], 0);
	else
		move(s, step, s->sigmas[index], s->sigmas[index], s->sigmas_interpol[index + 1], 0);
}

static int ancestral_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return s->state.filled;
}

static void ancestral_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;

	if (s->state.filled)
		move(s, step, s->sigmas[index - 1], s->sigmas_interpol[index - 1],
		     s->sigmas_down[index - 1], s->sigmas_up[index - 1]);
	else
		move(s, step, s->sigmas[index], s->sigmas[index], s->sigmas_interpol[index], 0);
}

const struct scheduler_class sde_sched_kdpm2 = {
	.order = 2,
	.slots = SLOTS,
	.begin_index = true,
	.scaled_by_sigma = true,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = kdpm2_set_timesteps,
	.input_sigma = kdpm2_input_sigma,
	.step = kdpm2_step,
};

const struct scheduler_class sde_sched_kdpm2_ancestral = {
	.order = 2,
	.slots = SLOTS,
	.begin_index = true,
	.scaled_by_sigma = true,
	.add_noise = ADD_NOISE_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_V,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = ancestral_set_timesteps,
	.input_sigma = ancestral_input_sigma,
	.noise_draws = ancestral_noise_draws,
	.step = ancestral_step,
};
