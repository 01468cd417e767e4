/*
 * Rectified flow (Liu et al. 2022; Esser et al. 2024: SD3, FLUX): x = sigma noise + (1 - sigma)
 * clean, the model predicts the velocity noise - clean. Euler and Heun along a schedule of sigmas
 * that is shifted towards noise, by a constant or by the image's size (mu).
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

static double shifted(double sigma, double shift)
{
	return shift * sigma / (1 + (shift - 1) * sigma);
}

/*
 * sigmas of n even timesteps between the ends of the training schedule. The ends are those of the
 * shifted float32 table, and what comes out here is shifted once more by the caller: diffusers does
 * both.
 */
static void even_sigmas(const struct sde_scheduler *s, bool table_shifted, size_t n, double *sigmas)
{
	double train = s->config.num_train_timesteps;
	float low = 1.0f / (float)train, high = 1, shift = (float)s->config.shift;
	double first, last, step;

	if (table_shifted) {
		low = shift * low / (1 + (shift - 1) * low);
		high = shift * high / (1 + (shift - 1) * high);
	}
	first = high * train;
	last = low * train;
	step = n > 1 ? (last - first) / (double)(n - 1) : 0;
	for (size_t i = 0; i < n; i++)
		sigmas[i] = (i && i == n - 1 ? last : first + (double)i * step) / train;
}

static void ramp(const struct sde_scheduler *s, double *sigmas, size_t n)
{
	enum sigma_spacing spacing = sde_sched_sigma_spacing(&s->config);
	double high = isnan(s->config.sigma_max) ? sigmas[0] : s->config.sigma_max;
	double low = isnan(s->config.sigma_min) ? sigmas[n - 1] : s->config.sigma_min;

	if (spacing != SIGMAS_TABLE)
		sde_sched_sigma_ramp(spacing, low, high, n, sigmas);
}

static int store(struct sde_scheduler *s, const struct sde_timesteps_request *request,
		 const double *sigmas, size_t n, struct sde_error *error)
{
	bool invert = s->config.invert_sigmas;
	int r = sde_sched_alloc_sigmas(s, n + 1, error);

	if (r == 0)
		r = sde_sched_copy_timesteps(s, request->timesteps ? request->timesteps : sigmas, n,
					     error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		s->sigmas[i] = invert ? 1 - (float)sigmas[i] : (float)sigmas[i];
		if (request->timesteps && !invert)
			s->timesteps[i] = (float)s->timesteps[i];
		else
			s->timesteps[i] = s->sigmas[i] * (float)s->config.num_train_timesteps;
	}
	s->sigmas[n] = invert;
	return 0;
}

static int check_flow_request(const struct sde_scheduler *s,
			      const struct sde_timesteps_request *request, struct sde_error *error)
{
	int r = sde_sched_check_request(s, request, REQUEST_TIMESTEPS | REQUEST_SIGMAS | REQUEST_MU,
					error);

	if (r < 0)
		return r;
	if (s->config.use_dynamic_shifting && !request->has_mu)
		return sde_error_set(
			error, -EINVAL,
			"use_dynamic_shifting needs mu (from the image's token count)");
	if (request->sigmas && request->timesteps && request->n_sigmas != request->n_timesteps)
		return sde_error_set(error, -EINVAL, "%zu custom sigmas but %zu custom timesteps",
				     request->n_sigmas, request->n_timesteps);
	return 0;
}

static int flow_euler_set_timesteps(struct sde_scheduler *s,
				    const struct sde_timesteps_request *request,
				    struct sde_error *error)
{
	size_t n = (size_t)s->num_inference_steps;
	bool dynamic = s->config.use_dynamic_shifting;
	double *sigmas;
	int r = check_flow_request(s, request, error);

	if (r < 0)
		return r;
	sigmas = malloc(n * sizeof(*sigmas));
	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	if (!request->sigmas && !request->timesteps)
		even_sigmas(s, !dynamic, n, sigmas);
	for (size_t i = 0; i < n; i++) {
		if (request->sigmas)
			sigmas[i] = (float)request->sigmas[i];
		else if (request->timesteps)
			sigmas[i] =
				(float)request->timesteps[i] / (float)s->config.num_train_timesteps;
		sigmas[i] = dynamic ? sde_sched_time_shift(&s->config, request->mu, sigmas[i])
				    : shifted(sigmas[i], s->config.shift);
	}
	sde_sched_stretch_to_terminal(&s->config, sigmas, n);
	ramp(s, sigmas, n);
	r = store(s, request, sigmas, n, error);
	free(sigmas);
	return r;
}

static int flow_euler_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return s->config.stochastic_sampling;
}

static void flow_euler_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	float sigma = s->sigmas[s->state.step_index], next = s->sigmas[s->state.step_index + 1];
	float dt = next - sigma;

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i], v = step->model_output[i];

		step->out[i] = step->noise ? (1 - next) * (x - sigma * v) + next * step->noise[i]
					   : x + dt * v;
	}
}

/* slots of Heun: what the second call needs of the first; state.filled: it is there */
enum { DERIVATIVE, SAMPLE, SLOTS };

static int flow_heun_set_timesteps(struct sde_scheduler *s,
				   const struct sde_timesteps_request *request,
				   struct sde_error *error)
{
	size_t n = (size_t)s->num_inference_steps;
	double *sigmas;
	int r = sde_sched_check_request(s, request, 0, error);

	if (r < 0)
		return r;
	sigmas = malloc(2 * n * sizeof(*sigmas));
	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	even_sigmas(s, true, n, sigmas);
	r = sde_sched_alloc_sigmas(s, 2 * n, error);
	if (r == 0)
		r = sde_sched_copy_timesteps(s, sigmas, 2 * n - 1, error);
	for (size_t i = 0; r == 0 && i < 2 * n - 1; i++) {
		s->sigmas[i] = (float)shifted(sigmas[(i + 1) / 2], s->config.shift);
		s->timesteps[i] = s->sigmas[i] * (float)s->config.num_train_timesteps;
	}
	if (r == 0)
		s->sigmas[2 * n - 1] = 0;
	free(sigmas);
	return r;
}

static float churn(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	float sigma = s->sigmas[s->state.step_index - (s->state.filled ? 1 : 0)];

	if (!(sigma >= args->s_tmin && sigma <= args->s_tmax))
		return 0;
	return (float)fmin(args->s_churn / (double)(s->n_sigmas - 1), sqrt(2) - 1);
}

static int flow_heun_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	return churn(s, args) > 0;
}

static void flow_heun_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	bool second = s->state.filled;
	size_t index = s->state.step_index;
	float sigma = s->sigmas[second ? index - 1 : index];
	float next = s->sigmas[second ? index : index + 1];
	float sigma_hat = sigma * (churn(s, step->args) + 1);
	float added = sqrtf(sigma_hat * sigma_hat - sigma * sigma);
	float scale = (float)step->args->s_noise, dt = second ? s->state.dt : next - sigma_hat;
	float at = second ? next : sigma, divisor = second ? next : sigma_hat;

	for (size_t i = 0; i < step->n; i++) {
		float x = step->sample[i], derivative;

		if (step->noise)
			x += step->noise[i] * scale * added;
		derivative = (x - (x - step->model_output[i] * at)) / divisor;
		if (second) {
			derivative = 0.5f * (s->slot[DERIVATIVE][i] + derivative);
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

const struct scheduler_class sde_sched_flow_euler = {
	.order = 1,
	.begin_index = true,
	.no_alphas = true,
	.add_noise = ADD_NOISE_FLOW,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA,
	.set_timesteps = flow_euler_set_timesteps,
	.noise_draws = flow_euler_noise_draws,
	.step = flow_euler_step,
};

const struct scheduler_class sde_sched_flow_heun = {
	.order = 2,
	.slots = SLOTS,
	.begin_index = true,
	.no_alphas = true,
	.add_noise = ADD_NOISE_FLOW,
	.set_timesteps = flow_heun_set_timesteps,
	.noise_draws = flow_heun_noise_draws,
	.step = flow_heun_step,
};
