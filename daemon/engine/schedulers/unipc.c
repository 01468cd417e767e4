/*
 * UniPC (Zhao et al. 2023): a predictor of order up to 3 and a corrector of the same order that
 * reuses the model call of the next step. B(h) is h (bh1) or e^h - 1 (bh2). Names R, b, rho follow
 * the paper.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

#define HISTORY	       3
#define NEARLY_ONE_GAP 1e-6

/*
 * slots: converted outputs, oldest first; the sample the last prediction started from; the current
 * converted output
 */
enum { LAST_SAMPLE = HISTORY, CURRENT, SLOTS };

static int unipc_init(struct sde_scheduler *s, struct sde_error *error)
{
	if (s->config.solver_type != SDE_SOLVER_BH1)
		s->config.solver_type = SDE_SOLVER_BH2;
	if (!s->config.predict_x0 && s->config.prediction_type == SDE_PREDICTION_FLOW)
		return sde_error_set(error, -EINVAL, "flow_prediction needs predict_x0");
	if (!isnan(s->config.shift_terminal) && !s->config.use_flow_sigmas)
		return sde_error_set(error, -EINVAL, "shift_terminal needs use_flow_sigmas");
	return 0;
}

/* rectified-flow sigmas: even (or given), shifted, optionally stretched to a terminal value */
static int flow_schedule(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			 struct sde_error *error)
{
	size_t n = (size_t)s->num_inference_steps;
	double end = 1.0 / s->config.num_train_timesteps, shift = s->config.flow_shift;
	double *sigmas = malloc(n * sizeof(*sigmas));
	int r;

	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	for (size_t i = 0; i < n; i++) {
		double sigma = request->sigmas ? request->sigmas[i]
					       : 1 + (double)i * ((end - 1) / (double)n);

		sigmas[i] = s->config.use_dynamic_shifting
				    ? sde_sched_time_shift(&s->config, request->mu, sigma)
				    : shift * sigma / (1 + (shift - 1) * sigma);
	}
	sde_sched_stretch_to_terminal(&s->config, sigmas, n);
	if (fabs(sigmas[0] - 1) < NEARLY_ONE_GAP)
		sigmas[0] -= NEARLY_ONE_GAP; /* ln(1 - sigma) must stay finite */
	r = sde_sched_copy_timesteps(s, sigmas, n, error);
	if (r == 0)
		r = sde_sched_alloc_sigmas(s, n + 1, error);
	for (size_t i = 0; r == 0 && i < n; i++) {
		s->sigmas[i] = (float)sigmas[i];
		s->timesteps[i] = trunc(sigmas[i] * s->config.num_train_timesteps);
	}
	if (r == 0)
		s->sigmas[n] = s->config.final_sigma_min ? s->sigmas[n - 1] : 0;
	free(sigmas);
	return r;
}

/* Karras sigmas on a flow model: sigma / (sigma + 1) */
static void karras_to_flow(struct sde_scheduler *s)
{
	for (size_t i = 0; i < s->n_timesteps; i++) {
		double sigma = s->sigmas[i] / (s->sigmas[i] + 1.0);

		s->sigmas[i] = (float)sigma;
		s->timesteps[i] = trunc(sigma * s->config.num_train_timesteps);
	}
	if (s->config.final_sigma_min)
		s->sigmas[s->n_timesteps] = s->sigmas[s->n_timesteps - 1];
}

static int unipc_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			       struct sde_error *error)
{
	enum sigma_spacing spacing = sde_sched_sigma_spacing(&s->config);
	float final = 0;
	int r = sde_sched_check_request(s, request, REQUEST_SIGMAS | REQUEST_MU, error);

	if (r < 0)
		return r;
	if (s->config.use_dynamic_shifting && !request->has_mu)
		return sde_error_set(error, -EINVAL, "use_dynamic_shifting needs mu");
	if (request->sigmas && spacing != SIGMAS_FLOW)
		return sde_error_set(error, -EINVAL,
				     "custom sigmas need use_flow_sigmas and no other sigma ramp");
	if (spacing == SIGMAS_FLOW)
		return flow_schedule(s, request, error);
	r = sde_sched_space_timesteps(s, true, s->config.num_train_timesteps, TIMESTEPS_INT64,
				      error);
	if (r < 0)
		return r;
	if (s->config.final_sigma_min) /* a ramp ends in its own last sigma */
		final = spacing == SIGMAS_TABLE ? sde_sched_train_sigma(s, 0) : NAN;
	r = sde_sched_multistep_timesteps(s, request, final, error);
	if (r == 0 && s->config.use_flow_sigmas && spacing == SIGMAS_KARRAS)
		karras_to_flow(s);
	return r;
}

/*
 * The system shared by predictor and corrector, for the interval from sigmas[from] to sigmas[from +
 * 1].
 */
struct unipc_system {
	struct alpha_sigma to, from;
	float rks[HISTORY]; /* relative positions of the older points, then 1 */
	float rows[HISTORY][HISTORY], b[HISTORY];
	float h_phi_1, b_h;
};

static void make_system(const struct sde_scheduler *s, size_t from, int order,
			struct unipc_system *sys)
{
	float h, hh, h_phi_k, factorial = 1;

	sys->to = alpha_sigma(s, from + 1);
	sys->from = alpha_sigma(s, from);
	h = sys->to.lambda - sys->from.lambda;
	for (int i = 1; i < order; i++)
		sys->rks[i - 1] = (alpha_sigma(s, from - (size_t)i).lambda - sys->from.lambda) / h;
	sys->rks[order - 1] = 1;
	hh = s->config.predict_x0 ? -h : h;
	sys->h_phi_1 = expm1f(hh);
	sys->b_h = s->config.solver_type == SDE_SOLVER_BH1 ? hh : expm1f(hh);
	h_phi_k = sys->h_phi_1 / hh - 1;
	for (int i = 1; i <= order; i++) {
		for (int k = 0; k < order; k++)
			sys->rows[i - 1][k] = powf(sys->rks[k], (float)(i - 1));
		sys->b[i - 1] = h_phi_k * factorial / sys->b_h;
		factorial *= (float)(i + 1);
		h_phi_k = h_phi_k / hh - 1 / factorial;
	}
}

/* Gaussian elimination with partial pivoting of the leading n x n part */
static void solve(const struct unipc_system *sys, int n, float rhos[HISTORY])
{
	double a[HISTORY][HISTORY + 1];

	for (int i = 0; i < n; i++) {
		for (int k = 0; k < n; k++)
			a[i][k] = sys->rows[i][k];
		a[i][n] = sys->b[i];
	}
	for (int c = 0; c < n; c++) {
		int pivot = c;

		for (int i = c + 1; i < n; i++)
			pivot = fabs(a[i][c]) > fabs(a[pivot][c]) ? i : pivot;
		for (int k = c; k <= n; k++) {
			double t = a[c][k];

			a[c][k] = a[pivot][k];
			a[pivot][k] = t;
		}
		for (int i = 0; i < n; i++) {
			double f = a[i][c] / a[c][c];

			for (int k = c; i != c && k <= n; k++)
				a[i][k] -= f * a[c][k];
		}
	}
	for (int i = 0; i < n; i++)
		rhos[i] = (float)(a[i][n] / a[i][i]);
}

/*
 * out = exact linear part of x - B(h) * (sum rho_k D1_k + rho_t (current - m0)). older: how many of
 * the history's points before m0 enter; current NULL for the predictor. history: newest last.
 */
static void combine(const struct sde_scheduler *s, const struct unipc_system *sys, int older,
		    const float rhos[HISTORY], float rho_t, const float *current, const float *x,
		    float *out, size_t n)
{
	bool x0 = s->config.predict_x0;
	float ratio = x0 ? sys->to.sigma / sys->from.sigma : sys->to.alpha / sys->from.alpha;
	float scale = x0 ? sys->to.alpha : sys->to.sigma;
	float linear = scale * sys->h_phi_1, nonlinear = scale * sys->b_h;
	const float *m0 = s->slot[HISTORY - 1];

	for (size_t i = 0; i < n; i++) {
		float value = ratio * x[i] - linear * m0[i], residual = 0;

		for (int k = 0; k < older; k++)
			residual += rhos[k] * ((s->slot[HISTORY - 2 - k][i] - m0[i]) / sys->rks[k]);
		if (current)
			residual += rho_t * (current[i] - m0[i]);
		out[i] = value - nonlinear * residual;
	}
}

static bool corrects(const struct sde_scheduler *s)
{
	size_t index = s->state.step_index;

	if (index == 0 || !s->state.filled)
		return false;
	for (size_t i = 0; i < s->config.n_disable_corrector; i++) {
		if (s->config.disable_corrector[i] == (int)index - 1)
			return false;
	}
	return true;
}

static int order_of_step(const struct sde_scheduler *s)
{
	int order = s->config.solver_order, known = (int)s->state.filled + 1;
	size_t left = s->n_timesteps - s->state.step_index;

	if (s->config.lower_order_final && left < (size_t)order)
		order = (int)left;
	return order < known ? order : known;
}

static void unipc_step(struct sde_scheduler *s, const struct scheduler_step *step)
{
	size_t index = s->state.step_index;
	float rhos[HISTORY] = {0.5f, 0.5f, 0.5f};
	const float *sample = step->sample;
	struct unipc_system sys;
	float *newest;
	int order;

	if (s->config.predict_x0)
		sde_sched_vp_clean(s, step, s->slot[CURRENT]);
	else
		sde_sched_vp_epsilon(s, step, s->slot[CURRENT]);
	if (corrects(s)) {
		order = (int)s->state.this_order;
		make_system(s, index - 1, order, &sys);
		if (order > 1)
			solve(&sys, order, rhos);
		combine(s, &sys, order - 1, rhos, rhos[order - 1], s->slot[CURRENT],
			s->slot[LAST_SAMPLE], s->work, step->n);
		sample = s->work;
	}
	newest = history_push(s, 0, HISTORY);
	memcpy(newest, s->slot[CURRENT], step->n * sizeof(*newest));
	memcpy(s->slot[LAST_SAMPLE], sample, step->n * sizeof(*sample));

	order = order_of_step(s);
	make_system(s, index, order, &sys);
	if (order == 2)
		rhos[0] = 0.5f;
	else if (order == 3)
		solve(&sys, order - 1, rhos);
	combine(s, &sys, order - 1, rhos, 0, NULL, s->slot[LAST_SAMPLE], step->out, step->n);
	s->state.this_order = (uint32_t)order;
	if (s->state.filled < (uint32_t)s->config.solver_order)
		s->state.filled++;
}

const struct scheduler_class sde_sched_unipc = {
	.order = 1,
	.slots = SLOTS,
	.begin_index = true,
	.zero_snr = ZERO_SNR_FLOORED,
	.integer_timesteps = true,
	.add_noise = ADD_NOISE_VP_SIGMA,
	.prediction_types = 1 << SDE_PREDICTION_EPSILON | 1 << SDE_PREDICTION_SAMPLE |
			    1 << SDE_PREDICTION_V | 1 << SDE_PREDICTION_FLOW,
	.ramps = RAMPS_KARRAS_EXPONENTIAL_BETA | 1 << SIGMAS_FLOW,
	.init = unipc_init,
	.set_timesteps = unipc_set_timesteps,
	.step = unipc_step,
};
