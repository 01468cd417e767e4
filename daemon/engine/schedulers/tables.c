/*
 * Noise schedules and timestep spacings: betas, their cumulated alphas, and the points at which a
 * sampler evaluates the model. These reproduce torch.linspace, torch.cumprod, np.linspace,
 * np.arange, np.round and np.interp where the last bit or an off-by-one of the length would show in
 * a picture. Sources: Ho et al. 2020 (betas), Nichol & Dhariwal 2021 (cosine), Karras et al. 2022
 * (rho = 7 ramp), Lin et al. 2023 (zero terminal SNR), Lu et al. 2022 (uniform log-SNR).
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/schedulers/beta.h"

#define MAX_BETA       0.999
#define KARRAS_RHO     7.0
#define BETA_SHAPE     0.6
#define ZERO_SNR_FLOOR 0x1p-24f

/* torch.linspace in float32: from both ends towards the middle */
static void linspace_f32(float start, float end, size_t n, float *out)
{
	float step = n > 1 ? (end - start) / (float)(n - 1) : 0;

	for (size_t i = 0; i < n; i++)
		out[i] = i < n / 2 || n == 1 ? start + step * (float)i
					     : end - step * (float)(n - 1 - i);
}

static double alpha_bar(enum sde_beta_schedule schedule, double t)
{
	double lambda, snr, c;

	switch (schedule) {
	case SDE_BETA_EXP:
		return exp(t * -12.0);
	case SDE_BETA_LAPLACE:
		lambda = -0.5 * copysign(1, 0.5 - t) * log(1 - 2 * fabs(0.5 - t) + 1e-6);
		snr = exp(lambda);
		return sqrt(snr / (1 + snr));
	default:
		c = cos((t + 0.008) / 1.008 * M_PI / 2);
		return c * c;
	}
}

static void make_betas(const struct sde_scheduler_config *config, float *betas)
{
	size_t n = (size_t)config->num_train_timesteps;
	double start = config->beta_start, end = config->beta_end;

	if (config->trained_betas) {
		memcpy(betas, config->trained_betas, n * sizeof(*betas));
		return;
	}
	switch (config->beta_schedule) {
	case SDE_BETA_LINEAR:
		linspace_f32((float)start, (float)end, n, betas);
		break;
	case SDE_BETA_SCALED_LINEAR:
		linspace_f32((float)sqrt(start), (float)sqrt(end), n, betas);
		for (size_t i = 0; i < n; i++)
			betas[i] *= betas[i];
		break;
	case SDE_BETA_SIGMOID:
		linspace_f32(-6, 6, n, betas);
		for (size_t i = 0; i < n; i++)
			betas[i] = 1 / (1 + expf(-betas[i])) * (float)(end - start) + (float)start;
		break;
	case SDE_BETA_SQUAREDCOS_CAP_V2:
	case SDE_BETA_EXP:
	case SDE_BETA_LAPLACE:
		for (size_t i = 0; i < n; i++) {
			double from = alpha_bar(config->beta_schedule, (double)i / (double)n);
			double to = alpha_bar(config->beta_schedule, (double)(i + 1) / (double)n);

			betas[i] = (float)fmin(1 - to / from, MAX_BETA);
		}
		break;
	}
}

/* torch.cumprod accumulates float32 in double */
static void cumulate_alphas(const float *betas, size_t n, float *alphas_cumprod)
{
	double product = 1;

	for (size_t i = 0; i < n; i++) {
		product *= 1.0f - betas[i];
		alphas_cumprod[i] = (float)product;
	}
}

static void rescale_zero_terminal_snr(float *betas, size_t n, float *scratch)
{
	float first, last, scale, previous = 1;

	cumulate_alphas(betas, n, scratch);
	for (size_t i = 0; i < n; i++)
		scratch[i] = sde_sched_sqrt(scratch[i]);
	first = scratch[0];
	last = scratch[n - 1];
	scale = first / (first - last);
	for (size_t i = 0; i < n; i++) {
		float root = (scratch[i] - last) * scale;
		float bar = root * root;

		betas[i] = 1 - (i ? bar / previous : bar);
		previous = bar;
	}
}

int sde_sched_make_alphas_cumprod(const struct sde_scheduler_config *config, enum zero_snr zero_snr,
				  float *alphas_cumprod, struct sde_error *error)
{
	size_t n = (size_t)config->num_train_timesteps;
	float *betas = malloc(n * sizeof(*betas));

	if (!betas)
		return sde_error_set(error, -ENOMEM, "no memory for a noise schedule");
	make_betas(config, betas);
	if (zero_snr != ZERO_SNR_IGNORED && config->rescale_betas_zero_snr)
		rescale_zero_terminal_snr(betas, n, alphas_cumprod);
	for (size_t i = 0; i < n; i++)
		if (!(betas[i] >= 0 && betas[i] <= 1)) {
			sde_error_set(error, -EINVAL,
				      "the scheduler configuration makes no noise schedule: beta "
				      "number %zu is %g, must be from 0 to 1",
				      i, betas[i]);
			free(betas);
			return -EINVAL;
		}
	cumulate_alphas(betas, n, alphas_cumprod);
	if (zero_snr == ZERO_SNR_FLOORED && config->rescale_betas_zero_snr)
		alphas_cumprod[n - 1] = ZERO_SNR_FLOOR;
	free(betas);
	return 0;
}

int sde_sched_alloc_timesteps(struct sde_scheduler *s, size_t n, struct sde_error *error)
{
	double *timesteps;

	if (n < 1 || n > SDE_TRAIN_TIMESTEPS_MAX)
		return sde_error_set(error, -EINVAL, "%zu timesteps, must be 1..%d", n,
				     SDE_TRAIN_TIMESTEPS_MAX);
	timesteps = realloc(s->timesteps, n * sizeof(*timesteps));
	if (!timesteps)
		return sde_error_set(error, -ENOMEM, "no memory for %zu timesteps", n);
	s->timesteps = timesteps;
	s->n_timesteps = n;
	return 0;
}

int sde_sched_copy_timesteps(struct sde_scheduler *s, const double *timesteps, size_t n,
			     struct sde_error *error)
{
	int r = sde_sched_alloc_timesteps(s, n, error);

	if (r < 0)
		return r;
	memcpy(s->timesteps, timesteps, n * sizeof(*timesteps));
	return 0;
}

/* round(np.arange(last, 0, -T/n)) - 1, with np.arange's length and its start + i * delta */
static int space_trailing(struct sde_scheduler *s, int last, size_t n, struct sde_error *error)
{
	double step = (double)s->config.num_train_timesteps / (double)n;
	double delta = (last - step) - last;
	int r = sde_sched_alloc_timesteps(s, (size_t)ceil((0.0 - last) / -step), error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_timesteps; i++)
		s->timesteps[i] = nearbyint(last + (double)i * delta) - 1;
	return 0;
}

int sde_sched_space_timesteps(struct sde_scheduler *s, bool plus_one, int last,
			      enum timestep_precision precision, struct sde_error *error)
{
	size_t n = (size_t)s->num_inference_steps;
	size_t points = n + plus_one;
	double step;
	int r;

	if (s->config.timestep_spacing == SDE_SPACING_TRAILING)
		return space_trailing(s, last, n, error);
	r = sde_sched_alloc_timesteps(s, n, error);
	if (r < 0)
		return r;
	if (s->config.timestep_spacing == SDE_SPACING_LEADING) {
		int ratio = last / (int)points;

		for (size_t i = 0; i < n; i++)
			s->timesteps[i] = (double)(points - 1 - i) * ratio + s->config.steps_offset;
		return 0;
	}
	step = points > 1 ? (double)(last - 1) / (double)(points - 1) : 0;
	for (size_t i = 0; i < n; i++) {
		size_t k = points - 1 - i;
		double t = k && k == points - 1 ? last - 1 : (double)k * step;

		s->timesteps[i] = precision == TIMESTEPS_INT64	   ? nearbyint(t)
				  : precision == TIMESTEPS_FLOAT32 ? (float)t
								   : t;
	}
	return 0;
}

int sde_sched_alloc_sigmas(struct sde_scheduler *s, size_t n, struct sde_error *error)
{
	float *sigmas = realloc(s->sigmas, n * sizeof(*sigmas));

	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	s->sigmas = sigmas;
	s->n_sigmas = n;
	return 0;
}

int sde_sched_set_sigmas(struct sde_scheduler *s, const double *sigmas, size_t n, double final,
			 struct sde_error *error)
{
	int r = sde_sched_alloc_sigmas(s, n + 1, error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		s->sigmas[i] = (float)sigmas[i];
	s->sigmas[n] = (float) final;
	return 0;
}

int sde_sched_check_table_range(const struct sde_scheduler *s, struct sde_error *error)
{
	for (size_t i = 0; i < s->n_timesteps; i++) {
		if (s->timesteps[i] >= 0 && s->timesteps[i] < s->config.num_train_timesteps)
			continue;
		return sde_error_set(
			error, -EINVAL,
			"timestep %g is outside the model's 0..%d; fewer steps or a smaller "
			"steps_offset would be right",
			s->timesteps[i], s->config.num_train_timesteps - 1);
	}
	return 0;
}

float sde_sched_train_sigma(const struct sde_scheduler *s, size_t i)
{
	return sde_sched_sqrt((1 - s->alphas_cumprod[i]) / s->alphas_cumprod[i]);
}

double sde_sched_interp_sigma(const struct sde_scheduler *s, double t)
{
	size_t last = (size_t)s->config.num_train_timesteps - 1, low;
	double a, b;

	if (!(t > 0))
		return sde_sched_train_sigma(s, 0);
	if (t >= (double)last)
		return sde_sched_train_sigma(s, last);
	low = (size_t)t;
	a = sde_sched_train_sigma(s, low);
	b = sde_sched_train_sigma(s, low + 1);
	return (b - a) * (t - (double)low) + a;
}

double sde_sched_sigma_to_t(const struct sde_scheduler *s, double sigma)
{
	double log_sigma = log(fmax(sigma, 1e-10)), low_log, high_log, w;
	size_t last = (size_t)s->config.num_train_timesteps - 1, low = 0;

	if (last == 0)
		return 0;
	for (size_t i = 0; i <= last; i++) {
		if (log_sigma >= logf(sde_sched_train_sigma(s, i)))
			low = i;
	}
	if (low > last - 1)
		low = last - 1;
	low_log = logf(sde_sched_train_sigma(s, low));
	high_log = logf(sde_sched_train_sigma(s, low + 1));
	w = fmin(fmax((low_log - log_sigma) / (low_log - high_log), 0), 1);
	return (1 - w) * (double)low + w * (double)(low + 1);
}

enum sigma_spacing sde_sched_sigma_spacing(const struct sde_scheduler_config *config)
{
	return config->use_karras_sigmas	? SIGMAS_KARRAS
	       : config->use_lu_lambdas		? SIGMAS_LU
	       : config->use_exponential_sigmas ? SIGMAS_EXPONENTIAL
	       : config->use_beta_sigmas	? SIGMAS_BETA
	       : config->use_flow_sigmas	? SIGMAS_FLOW
						: SIGMAS_TABLE;
}

void sde_sched_sigma_ramp(enum sigma_spacing spacing, double low, double high, size_t n,
			  double *sigmas)
{
	double low_root = pow(low, 1 / KARRAS_RHO), high_root = pow(high, 1 / KARRAS_RHO);

	for (size_t i = 0; i < n; i++) {
		double step = n > 1 ? 1 / (double)(n - 1) : 0;
		double ramp = i && i == n - 1 ? 1 : (double)i * step;

		switch (spacing) {
		case SIGMAS_KARRAS:
			sigmas[i] = pow(high_root + ramp * (low_root - high_root), KARRAS_RHO);
			break;
		case SIGMAS_EXPONENTIAL:
		case SIGMAS_LU:
			sigmas[i] = exp(log(high) + ramp * (log(low) - log(high)));
			break;
		default:
			sigmas[i] =
				low + sde_beta_ppf(1 - ramp, BETA_SHAPE, BETA_SHAPE) * (high - low);
			break;
		}
	}
}

static void ramp_between(const struct sde_scheduler *s, double first, double last, size_t n,
			 double *sigmas)
{
	double high = isnan(s->config.sigma_max) ? first : s->config.sigma_max;
	double low = isnan(s->config.sigma_min) ? last : s->config.sigma_min;

	sde_sched_sigma_ramp(sde_sched_sigma_spacing(&s->config), low, high, n, sigmas);
}

int sde_sched_sigma_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      enum timestep_precision precision, double **ret_sigmas,
			      struct sde_error *error)
{
	enum sigma_spacing spacing = sde_sched_sigma_spacing(&s->config);
	const size_t train_last = (size_t)s->config.num_train_timesteps - 1;
	double *sigmas, first, last;
	size_t n;
	int r;

	if (request->timesteps && spacing != SIGMAS_TABLE)
		return sde_error_set(
			error, -EINVAL,
			"custom timesteps cannot be combined with Karras, exponential or "
			"beta sigmas");
	if (request->timesteps)
		r = sde_sched_copy_timesteps(s, request->timesteps, request->n_timesteps, error);
	else
		r = sde_sched_space_timesteps(s, false, s->config.num_train_timesteps, precision,
					      error);
	if (r < 0)
		return r;
	first = sde_sched_interp_sigma(s, s->timesteps[0]);
	last = sde_sched_interp_sigma(s, s->timesteps[s->n_timesteps - 1]);
	if (spacing != SIGMAS_TABLE) {
		/* a ramp has exactly the points asked for, whatever length np.arange gave */
		r = sde_sched_alloc_timesteps(s, (size_t)s->num_inference_steps, error);
		if (r < 0)
			return r;
	}
	n = s->n_timesteps;
	sigmas = malloc(n * sizeof(*sigmas));
	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	if (spacing == SIGMAS_TABLE) {
		for (size_t i = 0; i < n; i++)
			sigmas[i] = sde_sched_interp_sigma(s, s->timesteps[i]);
	} else {
		if (s->config.class_id == SDE_SCHEDULER_EULER &&
		    s->config.log_linear_interpolation) {
			/* that interpolation spans the training range, and so does a ramp over it */
			first = expf(logf(sde_sched_train_sigma(s, train_last)));
			last = expf(logf(sde_sched_train_sigma(s, 0)));
		}
		ramp_between(s, first, last, n, sigmas);
		for (size_t i = 0; i < n; i++)
			s->timesteps[i] = sde_sched_sigma_to_t(s, sigmas[i]);
	}
	*ret_sigmas = sigmas;
	return 0;
}

int sde_sched_clipped_train_timesteps(const struct sde_scheduler *s)
{
	int n = s->config.num_train_timesteps, clipped = 0;

	/*
	 * the table is searched from its noisiest end for the first log-SNR that is not below the
	 * limit
	 */
	for (int i = n - 1; i >= 0; i--, clipped++) {
		float a = s->alphas_cumprod[i];
		float lambda = logf(sqrtf(a)) - logf(sqrtf(1 - a));

		if (lambda >= s->config.lambda_min_clipped)
			break;
	}
	return n - clipped;
}

/* sigmas of a rectified flow, evenly spaced then shifted; descending, without the final one */
static void flow_sigmas(const struct sde_scheduler *s, size_t n, double *sigmas)
{
	double end = 1.0 / s->config.num_train_timesteps, shift = s->config.flow_shift;

	for (size_t i = 0; i < n; i++) {
		size_t k = n - i;
		double alpha = k == n ? end : 1 + (double)k * ((end - 1) / (double)n);
		double sigma = 1 - alpha;

		sigmas[i] = shift * sigma / (1 + (shift - 1) * sigma);
	}
}

double sde_sched_time_shift(const struct sde_scheduler_config *config, double mu, double sigma)
{
	double weight = config->linear_time_shift ? mu : exp(mu);

	return weight / (weight + (1 / sigma - 1));
}

int sde_sched_set_mu(struct sde_scheduler *s, const struct sde_timesteps_request *request,
		     struct sde_error *error)
{
	if (!request->has_mu)
		return 0;
	if (!s->config.use_dynamic_shifting || s->config.linear_time_shift)
		return sde_error_set(error, -EINVAL,
				     "mu needs use_dynamic_shifting with exponential time shift");
	s->config.flow_shift = exp(request->mu);
	return 0;
}

void sde_sched_stretch_to_terminal(const struct sde_scheduler_config *config, double *sigmas,
				   size_t n)
{
	double scale;

	if (isnan(config->shift_terminal) || config->shift_terminal == 0)
		return;
	scale = (1 - sigmas[n - 1]) / (1 - config->shift_terminal);
	for (size_t i = 0; i < n; i++)
		sigmas[i] = 1 - (1 - sigmas[i]) / scale;
}

int sde_sched_multistep_timesteps(struct sde_scheduler *s,
				  const struct sde_timesteps_request *request, float final_sigma,
				  struct sde_error *error)
{
	enum sigma_spacing spacing = sde_sched_sigma_spacing(&s->config);
	size_t last = (size_t)s->config.num_train_timesteps - 1, n;
	/*
	 * Karras and Lu timesteps are rounded (except on the cosine schedule), the others truncated
	 */
	bool rounded = (spacing == SIGMAS_KARRAS || spacing == SIGMAS_LU) &&
		       !(s->config.class_id == SDE_SCHEDULER_DPM_MULTISTEP &&
			 s->config.beta_schedule == SDE_BETA_SQUAREDCOS_CAP_V2);
	double *sigmas;
	int r;

	if (spacing != SIGMAS_TABLE) {
		/* these have exactly as many points as asked, whatever np.arange would give */
		r = sde_sched_alloc_timesteps(s, (size_t)s->num_inference_steps, error);
		if (r < 0)
			return r;
		if (request->timesteps)
			return sde_error_set(error, -EINVAL,
					     "custom timesteps cannot be combined with Karras, Lu, "
					     "exponential, beta or flow sigmas");
	}
	n = s->n_timesteps;
	r = sde_sched_alloc_sigmas(s, n + 1, error);
	if (r < 0)
		return r;
	sigmas = malloc(n * sizeof(*sigmas));
	if (!sigmas)
		return sde_error_set(error, -ENOMEM, "no memory for %zu sigmas", n);
	if (spacing == SIGMAS_TABLE) {
		for (size_t i = 0; i < n; i++)
			sigmas[i] = sde_sched_interp_sigma(s, s->timesteps[i]);
	} else if (spacing == SIGMAS_FLOW) {
		flow_sigmas(s, n, sigmas);
		for (size_t i = 0; i < n; i++)
			s->timesteps[i] = trunc(sigmas[i] * s->config.num_train_timesteps);
	} else {
		ramp_between(s, sde_sched_train_sigma(s, last), sde_sched_train_sigma(s, 0), n,
			     sigmas);
		for (size_t i = 0; i < n; i++) {
			double t = sde_sched_sigma_to_t(s, sigmas[i]);

			s->timesteps[i] = rounded ? nearbyint(t) : trunc(t);
		}
	}
	for (size_t i = 0; i < n; i++)
		s->sigmas[i] = (float)sigmas[i];
	s->sigmas[n] = isnan(final_sigma) ? (float)sigmas[n - 1] : final_sigma;
	free(sigmas);
	return 0;
}
