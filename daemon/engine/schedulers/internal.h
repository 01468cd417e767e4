/*
 * What the families of samplers share: the scheduler object, the table of classes, and the helpers
 * that build noise tables. A family is one struct scheduler_class; scheduler.c does everything
 * common (checks, memory, noise draws, state).
 *
 * Arithmetic rule: scalars are float where diffusers holds them in a torch tensor and double where
 * it holds them in numpy or Python, in the same order of operations, so that coefficients agree to
 * the last bits.
 */
#pragma once

#include <math.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/scheduler.h"

#define SCHEDULER_SLOTS_MAX 6

/* what rescale_betas_zero_snr does; FLOORED: the last alphas_cumprod becomes 2^-24 instead of 0 */
enum zero_snr {
	ZERO_SNR_IGNORED,
	ZERO_SNR_EXACT,
	ZERO_SNR_FLOORED,
};

/* in what a class holds its timesteps in diffusers */
enum timestep_precision {
	TIMESTEPS_INT64,
	TIMESTEPS_FLOAT32,
	TIMESTEPS_FLOAT64,
};

enum add_noise_kind {
	ADD_NOISE_NONE,
	ADD_NOISE_ALPHAS,   /* sqrt(alphas_cumprod[t]) clean + sqrt(1 - alphas_cumprod[t]) noise */
	ADD_NOISE_SIGMA,    /* clean + sigma noise */
	ADD_NOISE_VP_SIGMA, /* alpha(sigma) clean + sigma(sigma) noise */
	ADD_NOISE_FLOW,	    /* (1 - sigma) clean + sigma noise */
};

enum sigma_spacing {
	SIGMAS_TABLE,
	SIGMAS_KARRAS,
	SIGMAS_EXPONENTIAL,
	SIGMAS_BETA,
	SIGMAS_LU,
	SIGMAS_FLOW,
};

#define RAMPS_KARRAS_EXPONENTIAL_BETA                                                              \
	(1 << SIGMAS_KARRAS | 1 << SIGMAS_EXPONENTIAL | 1 << SIGMAS_BETA)

/* The arguments of one step. out may be the same array as model_output or sample. */
struct scheduler_step {
	const float *model_output, *sample;
	float *out;
	const float *noise; /* n values when the class asked for a draw, else NULL */
	size_t n;
	const struct sde_step_args *args;
};

struct scheduler_class {
	int order;
	int slots;	  /* arrays of n floats kept between steps (each class names its own) */
	bool begin_index; /* diffusers' class has set_begin_index */
	enum zero_snr zero_snr;
	bool integer_timesteps;
	bool no_alphas;	      /* no noise schedule of betas */
	bool scaled_by_sigma; /* input x / sqrt(sigma^2 + 1), init_noise_sigma the largest sigma */
	enum add_noise_kind add_noise;
	unsigned int prediction_types; /* 1 << enum sde_prediction_type; 0: key not read */
	unsigned int ramps;	       /* 1 << enum sigma_spacing: use_*_sigmas keys read */

	/* further checks and tables; may be NULL */
	int (*init)(struct sde_scheduler *s, struct sde_error *error);
	int (*set_timesteps)(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			     struct sde_error *error);
	/* sigma by which the next input is scaled; NULL: sigmas[step_index] */
	float (*input_sigma)(const struct sde_scheduler *s);
	/* NULL: never */
	int (*noise_draws)(const struct sde_scheduler *s, const struct sde_step_args *args);
	/* computes out and updates slots and state other than step_index; cannot fail */
	void (*step)(struct sde_scheduler *s, const struct scheduler_step *step);
};

/* Everything that changes from step to step besides the slots' contents; saved as it is. */
struct scheduler_state {
	uint32_t step_index;
	uint32_t begin_index_set;
	uint32_t counter;     /* steps since the history was forgotten (PNDM) */
	uint32_t filled;      /* how many history entries are valid */
	uint32_t this_order;  /* UniPC */
	float dt;	      /* Heun */
	float midpoint_sigma; /* DPM++ SDE */
	uint32_t started;     /* a step was taken */
};

struct sde_scheduler {
	struct sde_scheduler_config config;
	const struct scheduler_class *class;

	float *alphas_cumprod; /* num_train_timesteps */

	int num_inference_steps;
	double *timesteps;
	size_t n_timesteps;
	float *sigmas;					  /* n_sigmas */
	float *sigmas_interpol, *sigmas_up, *sigmas_down; /* n_sigmas each, only DPM2 */
	size_t n_sigmas;
	size_t n_prk;	 /* PNDM: Runge-Kutta calls at the start */
	uint8_t *orders; /* DPM++ 2S: order of each step, n_timesteps */

	struct scheduler_state state;
	size_t n;      /* elements of the sample; 0 until the first step */
	float *memory; /* everything below */
	float *slot[SCHEDULER_SLOTS_MAX];
	float *noise;  /* this step's draw */
	float *work;   /* n floats: predicted clean sample */
	float *sorted; /* n floats when thresholding */
};

/* alpha and sigma of VP (or flow) space for a sigma of the table: x = alpha x0 + sigma eps. */
struct alpha_sigma {
	float alpha, sigma, lambda; /* lambda = ln(alpha) - ln(sigma) */
};

extern const struct scheduler_class sde_sched_ddim, sde_sched_ddim_inverse, sde_sched_ddpm,
	sde_sched_pndm, sde_sched_lms, sde_sched_euler, sde_sched_euler_ancestral, sde_sched_heun,
	sde_sched_dpmpp_2m, sde_sched_unipc, sde_sched_kdpm2, sde_sched_kdpm2_ancestral,
	sde_sched_dpmpp_sde, sde_sched_dpmpp_2s, sde_sched_deis, sde_sched_lcm, sde_sched_tcd,
	sde_sched_flow_euler, sde_sched_flow_heun, sde_sched_ipndm;

/* tables.c */

/* alphas_cumprod from the configuration's betas; num_train_timesteps values. */
int sde_sched_make_alphas_cumprod(const struct sde_scheduler_config *config, enum zero_snr zero_snr,
				  float *alphas_cumprod, struct sde_error *error);

/*
 * Replace s->timesteps by the configured spacing of num_inference_steps points: 0..T-1 for classic
 * samplers; with plus_one the multistep solvers' variant (n+1 points, the lowest dropped) over
 * 0..last-1, last <= T. Descending.
 */
int sde_sched_space_timesteps(struct sde_scheduler *s, bool plus_one, int last,
			      enum timestep_precision precision, struct sde_error *error);

/* Make s->timesteps n values (contents undefined); -EINVAL for a count out of bounds. */
int sde_sched_alloc_timesteps(struct sde_scheduler *s, size_t n, struct sde_error *error);

/* Replace s->timesteps by a copy of n values. */
int sde_sched_copy_timesteps(struct sde_scheduler *s, const double *timesteps, size_t n,
			     struct sde_error *error);

/* Allocate s->sigmas with n values (contents undefined). */
int sde_sched_alloc_sigmas(struct sde_scheduler *s, size_t n, struct sde_error *error);

/* Make s->sigmas the n values, rounded to float, and final after them. */
int sde_sched_set_sigmas(struct sde_scheduler *s, const double *sigmas, size_t n, double final,
			 struct sde_error *error);

/* Check an int64 timestep list against the table 0..T-1. */
int sde_sched_check_table_range(const struct sde_scheduler *s, struct sde_error *error);

/* sqrt(x) with the last bit of torch's: root.c. */
float sde_sched_sqrt(float x);

/* sqrt((1 - a) / a) of the training table at index i, in float32. */
float sde_sched_train_sigma(const struct sde_scheduler *s, size_t i);

/* np.interp of the training sigmas at timestep t. */
double sde_sched_interp_sigma(const struct sde_scheduler *s, double t);

/* Fractional timestep whose log sigma is log(sigma): inverse of the above on the logarithm. */
double sde_sched_sigma_to_t(const struct sde_scheduler *s, double sigma);

/* Which use_*_sigmas is on (Karras, Lu, exponential, beta, flow in that precedence). */
enum sigma_spacing sde_sched_sigma_spacing(const struct sde_scheduler_config *config);

/* n sigmas from high to low (both > 0) on one of the ramps KARRAS, EXPONENTIAL, BETA. */
void sde_sched_sigma_ramp(enum sigma_spacing spacing, double low, double high, size_t n,
			  double *sigmas);

/*
 * For the classes that keep sigmas at their own timesteps (Euler, LMS, Heun, DPM2, DPM++ SDE):
 * s->timesteps spaced as configured or as requested, *ret_sigmas (malloc'ed, n_timesteps values) at
 * them or on the configured ramp, s->timesteps then following the sigmas.
 */
int sde_sched_sigma_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			      enum timestep_precision precision, double **ret_sigmas,
			      struct sde_error *error);

/*
 * The same for the multistep solvers (DPM++ 2M/2S, DEIS): s->timesteps and s->sigmas (n_timesteps +
 * 1, the last one set to final_sigma or, if that is NAN, equal to the one before).
 */
int sde_sched_multistep_timesteps(struct sde_scheduler *s,
				  const struct sde_timesteps_request *request, float final_sigma,
				  struct sde_error *error);

/*
 * Number of timesteps left of the training table when log-SNRs below lambda_min_clipped are cut
 * off.
 */
int sde_sched_clipped_train_timesteps(const struct sde_scheduler *s);

/* Dynamic shift of a flow sigma by mu, exponential or linear as configured. */
double sde_sched_time_shift(const struct sde_scheduler_config *config, double mu, double sigma);

/* The multistep solvers' dynamic shifting: flow_shift = e^mu, if the request has a mu. */
int sde_sched_set_mu(struct sde_scheduler *s, const struct sde_timesteps_request *request,
		     struct sde_error *error);

/*
 * Stretch descending flow sigmas so that the last one is shift_terminal, if that is configured (and
 * not 0).
 */
void sde_sched_stretch_to_terminal(const struct sde_scheduler_config *config, double *sigmas,
				   size_t n);

/* predict.c */

/* Clip or threshold predicted clean samples in place, as configured. */
void sde_sched_clip(struct sde_scheduler *s, float *x0, size_t n, size_t batch);
void sde_sched_threshold(struct sde_scheduler *s, float *x0, size_t n, size_t batch);

/* Predicted clean sample into s->work, in VP space (alpha = alphas_cumprod[t]), unclipped. */
void sde_sched_predict_x0(struct sde_scheduler *s, const struct scheduler_step *step, float alpha);

/*
 * For the multistep solvers, whose alpha and sigma come from sigmas[step_index]: the predicted
 * clean sample (thresholded if so configured) or the predicted epsilon, into `to` (n floats).
 */
void sde_sched_vp_clean(struct sde_scheduler *s, const struct scheduler_step *step, float *to);
void sde_sched_vp_epsilon(const struct sde_scheduler *s, const struct scheduler_step *step,
			  float *to);

/* dpm_common.c */

/* out = sample * x + d0 D0 + d1 D1 + d2 D2 + noise * z, D the divided differences of the history */
struct dpm_update {
	float sample, d0, d1, d2, noise;
};

/*
 * The coefficients of one step of `order` from `from` to `to`, h = to.lambda - from.lambda, as
 * algorithm_type and solver_type say.
 */
struct dpm_update sde_dpm_update(const struct sde_scheduler *s, struct alpha_sigma to,
				 struct alpha_sigma from, float h, int order);

bool sde_dpm_data_prediction(const struct sde_scheduler *s); /* the ++ forms */
bool sde_dpm_stochastic(const struct sde_scheduler *s);

/* set_timesteps and noise_draws of DPM++ 2M and 2S: int64 timesteps, one draw a step for the SDE forms. */
int sde_dpm_set_timesteps(struct sde_scheduler *s, const struct sde_timesteps_request *request,
			  struct sde_error *error);
int sde_dpm_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args);

/*
 * What the algorithm remembers of the model's output: clean sample or epsilon, into `to` (n
 * floats).
 */
void sde_dpm_convert(struct sde_scheduler *s, const struct scheduler_step *step, float *to);

/* scheduler.c */

/* alphas_cumprod[t], before the table (t < 0) 1 or alphas_cumprod[0] as set_alpha_to_one says. */
float sde_sched_alpha_at(const struct sde_scheduler *s, int t);

/* -ENOTSUP if the request carries something this class does not take. */
enum request_part {
	REQUEST_TIMESTEPS = 1,
	REQUEST_SIGMAS = 2,
	REQUEST_MU = 4,
	REQUEST_STRENGTH = 8,
};
int sde_sched_check_request(const struct sde_scheduler *s,
			    const struct sde_timesteps_request *request, unsigned int allowed,
			    struct sde_error *error);

/*
 * Predicted clean sample of one element in sigma space (Karras et al.): x is the unscaled sample.
 */
struct sigma_prediction {
	enum sde_prediction_type type;
	float sigma, v_output, v_sample;
};

static inline struct sigma_prediction sigma_prediction(enum sde_prediction_type type, float sigma)
{
	float squared = sigma * sigma + 1;

	return (struct sigma_prediction){type, sigma, -sigma / sqrtf(squared), squared};
}

static inline float sigma_predict(const struct sigma_prediction *p, float model_output,
				  float sample)
{
	switch (p->type) {
	case SDE_PREDICTION_EPSILON:
		return sample - p->sigma * model_output;
	case SDE_PREDICTION_V:
		return model_output * p->v_output + sample / p->v_sample;
	default:
		return model_output;
	}
}

static inline struct alpha_sigma alpha_sigma(const struct sde_scheduler *s, size_t index)
{
	float sigma = s->sigmas[index];
	struct alpha_sigma r;

	if (s->config.use_flow_sigmas) {
		r.alpha = 1 - sigma;
		r.sigma = sigma;
	} else {
		r.alpha = 1 / sqrtf(sigma * sigma + 1);
		r.sigma = sigma * r.alpha;
	}
	r.lambda = logf(r.alpha) - logf(r.sigma);
	return r;
}

/*
 * Move the newest entry of a history of `length` slots starting at `first` to the end: slot[first]
 * becomes free at the end.
 */
static inline float *history_push(struct sde_scheduler *s, size_t first, size_t length)
{
	float *oldest = s->slot[first];

	memmove(&s->slot[first], &s->slot[first + 1], (length - 1) * sizeof(s->slot[0]));
	s->slot[first + length - 1] = oldest;
	return oldest;
}
