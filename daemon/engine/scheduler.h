/*
 * Noise schedules and samplers ("schedulers" in diffusers): when the denoiser is called, with which
 * scaled input, and how its output moves the sample one step. Every class and configuration key of
 * diffusers 0.42 that a Stable Diffusion, SDXL, SD3 or FLUX folder can carry is reproduced in the
 * same precision (float32 where torch is float32, float64 where numpy is), so that one seed gives
 * one picture. Samples are flat float arrays of n elements in any layout; nothing here knows a
 * shape.
 *
 * Life of a scheduler: config -> sde_scheduler_new() -> sde_scheduler_set_timesteps() [->
 * sde_scheduler_set_begin_index()] -> for each timestep from the begin index on: scale_model_input,
 * denoiser, step. Not thread safe; one job owns one scheduler.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

struct sde_error;

enum sde_scheduler_class {
	SDE_SCHEDULER_DDIM,
	SDE_SCHEDULER_DDIM_INVERSE,
	SDE_SCHEDULER_DDPM,
	SDE_SCHEDULER_PNDM,
	SDE_SCHEDULER_LMS,
	SDE_SCHEDULER_EULER,
	SDE_SCHEDULER_EULER_ANCESTRAL,
	SDE_SCHEDULER_HEUN,
	SDE_SCHEDULER_KDPM2,
	SDE_SCHEDULER_KDPM2_ANCESTRAL,
	SDE_SCHEDULER_DPM_SDE,
	SDE_SCHEDULER_DPM_MULTISTEP,
	SDE_SCHEDULER_DPM_SINGLESTEP,
	SDE_SCHEDULER_DEIS,
	SDE_SCHEDULER_UNIPC,
	SDE_SCHEDULER_LCM,
	SDE_SCHEDULER_TCD,
	SDE_SCHEDULER_FLOW_MATCH_EULER,
	SDE_SCHEDULER_FLOW_MATCH_HEUN,
	SDE_SCHEDULER_IPNDM,
	SDE_SCHEDULER_CLASSES,
};

enum sde_beta_schedule {
	SDE_BETA_LINEAR,
	SDE_BETA_SCALED_LINEAR,
	SDE_BETA_SQUAREDCOS_CAP_V2,
	SDE_BETA_EXP,
	SDE_BETA_LAPLACE,
	SDE_BETA_SIGMOID,
};

enum sde_prediction_type {
	SDE_PREDICTION_EPSILON,
	SDE_PREDICTION_SAMPLE,
	SDE_PREDICTION_V,
	SDE_PREDICTION_FLOW,
};

enum sde_timestep_spacing {
	SDE_SPACING_LEADING,
	SDE_SPACING_TRAILING,
	SDE_SPACING_LINSPACE,
};

enum sde_algorithm_type {
	SDE_ALGORITHM_DPMSOLVER,
	SDE_ALGORITHM_DPMSOLVER_PP,
	SDE_ALGORITHM_SDE_DPMSOLVER,
	SDE_ALGORITHM_SDE_DPMSOLVER_PP,
	SDE_ALGORITHM_DEIS,
};

enum sde_solver_type {
	SDE_SOLVER_MIDPOINT,
	SDE_SOLVER_HEUN,
	SDE_SOLVER_LOGRHO,
	SDE_SOLVER_BH1,
	SDE_SOLVER_BH2,
};

enum sde_variance_type {
	SDE_VARIANCE_NONE,
	SDE_VARIANCE_FIXED_SMALL,
	SDE_VARIANCE_FIXED_SMALL_LOG,
	SDE_VARIANCE_FIXED_LARGE,
};

#define SDE_TRAIN_TIMESTEPS_MAX                                                                    \
	100000 /* bound on num_train_timesteps and on any list of timesteps */
#define SDE_DISABLE_CORRECTOR_MAX 64

/*
 * One flat record with every key of every class; a class reads only its own. Filled with the
 * class's diffusers defaults by sde_scheduler_config_init(). trained_betas is owned: release with
 * sde_scheduler_config_clear().
 */
struct sde_scheduler_config {
	enum sde_scheduler_class class_id;

	int num_train_timesteps;
	double beta_start, beta_end;
	enum sde_beta_schedule beta_schedule;
	float *trained_betas; /* NULL, or the betas themselves: num_train_timesteps values */
	size_t n_trained_betas;
	bool rescale_betas_zero_snr;

	enum sde_prediction_type prediction_type;
	enum sde_timestep_spacing timestep_spacing;
	int steps_offset;
	bool set_alpha_to_one;
	bool clip_sample;
	double clip_sample_range;
	bool thresholding;
	double dynamic_thresholding_ratio, sample_max_value;
	enum sde_variance_type variance_type; /* DDPM */
	bool skip_prk_steps;		      /* PNDM */

	bool use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas;
	double sigma_min, sigma_max;   /* NAN: taken from the table */
	bool final_sigma_min;	       /* final_sigmas_type == "sigma_min" */
	bool log_linear_interpolation; /* interpolation_type == "log_linear" (Euler) */
	bool continuous_timesteps;     /* timestep_type == "continuous" (Euler) */

	enum sde_algorithm_type algorithm_type;
	enum sde_solver_type solver_type;
	int solver_order; /* 1..3 */
	bool lower_order_final, euler_at_final;
	double lambda_min_clipped; /* -INFINITY by default */
	bool predict_x0;	   /* UniPC */
	int disable_corrector[SDE_DISABLE_CORRECTOR_MAX];
	size_t n_disable_corrector;

	int original_inference_steps; /* LCM, TCD */
	double timestep_scaling;      /* LCM */

	bool use_flow_sigmas; /* multistep solvers on flow models */
	double flow_shift, shift;
	bool use_dynamic_shifting, linear_time_shift, invert_sigmas, stochastic_sampling;
	double base_shift, max_shift;
	int base_image_seq_len, max_image_seq_len;
	double shift_terminal; /* NAN: none */
};

/* Fill *config with the diffusers defaults of that class; config holds no allocation afterwards. */
void sde_scheduler_config_init(struct sde_scheduler_config *config,
			       enum sde_scheduler_class class_id);
void sde_scheduler_config_clear(struct sde_scheduler_config *config);

/*
 * Overlay the keys of a scheduler_config.json object. Unknown keys and null values are skipped, as
 * in diffusers' from_config; a known key of the wrong type or with an unknown word is -EINVAL and
 * names the key. *config is unchanged on failure.
 */
int sde_scheduler_config_apply_json(struct sde_scheduler_config *config, const json_t *object,
				    struct sde_error *error);

/* The class named by the object's "_class_name", its defaults, then its keys. */
int sde_scheduler_config_from_json(const json_t *object, struct sde_scheduler_config *ret_config,
				   struct sde_error *error);

/*
 * The sampler a person asked for, on the model's own noise schedule: diffusers'
 * `Class.from_config(model.config, ...)`. name is a diffusers class name ("EulerDiscreteScheduler")
 * or a people's name ("Euler a", "DPM++ 2M Karras", "ddim"; case, spaces and punctuation other than
 * '+' do not matter); object (may be NULL) is the model's scheduler_config.json: what it does not
 * say gets the default of the new class. -EINVAL for a name nobody knows, listing the known ones.
 */
int sde_scheduler_config_from_name(const char *name, const json_t *object,
				   struct sde_scheduler_config *ret_config,
				   struct sde_error *error);

/* diffusers class name -> enum, or -EINVAL. And back; never NULL for a valid enum. */
int sde_scheduler_class_from_string(const char *class_name);
const char *sde_scheduler_class_to_string(enum sde_scheduler_class class_id);

/* i-th people's name ("Euler a"), NULL past the end; ret_class may be NULL. For listings. */
const char *sde_scheduler_name(size_t i, enum sde_scheduler_class *ret_class);

struct sde_scheduler;

/*
 * Copies config. -EINVAL when the configuration is contradictory or not implemented by the class.
 */
int sde_scheduler_new(const struct sde_scheduler_config *config,
		      struct sde_scheduler **ret_scheduler, struct sde_error *error);
struct sde_scheduler *sde_scheduler_free(struct sde_scheduler *scheduler);

static inline void sde_scheduler_freep(struct sde_scheduler **scheduler)
{
	if (*scheduler)
		sde_scheduler_free(*scheduler);
}

/* What set_timesteps takes in diffusers. Zero-initialise, then set what is wanted. */
struct sde_timesteps_request {
	int num_inference_steps; /* 1..num_train_timesteps; ignored when a list is given */
	const double *timesteps; /* custom timesteps, descending (borrowed for the call) */
	size_t n_timesteps;
	const double
		*sigmas; /* custom sigmas; Euler: ending in the final sigma; flow: without it */
	size_t n_sigmas;
	bool has_mu;
	double mu;	 /* dynamic shifting (FLUX, SD3.5) */
	double strength; /* LCM and TCD only: fraction of the original grid; 0 means 1 */
	int original_inference_steps; /* LCM and TCD only: 0 means the configuration's */
};

/* Compute the tables and forget all history. Can be called again. */
int sde_scheduler_set_timesteps(struct sde_scheduler *scheduler,
				const struct sde_timesteps_request *request,
				struct sde_error *error);

/*
 * The list of denoiser calls. For order-2 samplers it is interleaved (2N-1 entries), for PNDM N+1.
 * With is_integer the values are int64 in diffusers, otherwise float32/float64. Owned by the
 * scheduler, valid until the next set_timesteps.
 */
const double *sde_scheduler_timesteps(const struct sde_scheduler *scheduler, size_t *ret_n);
bool sde_scheduler_timesteps_are_integers(const struct sde_scheduler *scheduler);

/*
 * diffusers' `sigmas` (interleaved like the timesteps, one more at the end); NULL and 0 for classes
 * without.
 */
const float *sde_scheduler_sigmas(const struct sde_scheduler *scheduler, size_t *ret_n);

/* num_train_timesteps values; NULL and 0 for flow and IPNDM. */
const float *sde_scheduler_alphas_cumprod(const struct sde_scheduler *scheduler, size_t *ret_n);

/* 2 for Heun, DPM2, DPM++ SDE: img2img starts at t_start * order. */
int sde_scheduler_order(const struct sde_scheduler *scheduler);

/*
 * Pure noise is multiplied by this to start; 1 where diffusers has no such attribute. Valid after
 * set_timesteps.
 */
float sde_scheduler_init_noise_sigma(const struct sde_scheduler *scheduler);

const struct sde_scheduler_config *sde_scheduler_get_config(const struct sde_scheduler *scheduler);

/*
 * True if steps are taken by position and add_noise follows the begin index (diffusers: has
 * set_begin_index).
 */
bool sde_scheduler_has_begin_index(const struct sde_scheduler *scheduler);

/*
 * Start at timesteps[begin_index] (order already multiplied in) and forget the history. -ERANGE
 * past the end.
 */
int sde_scheduler_set_begin_index(struct sde_scheduler *scheduler, size_t begin_index,
				  struct sde_error *error);

/* Position in timesteps of the next step. */
size_t sde_scheduler_step_index(const struct sde_scheduler *scheduler);

/* Input of the denoiser for the next step: out = sample * c(sigma); out may be sample. */
void sde_scheduler_scale_model_input(const struct sde_scheduler *scheduler, const float *sample,
				     float *out, size_t n);

/*
 * Noise source: fill out[0..n) with one draw of standard normal numbers. A negative return ends the
 * step with it.
 */
typedef int (*sde_noise_fn)(void *userdata, float *out, size_t n);

/* The keyword arguments of diffusers' step(); take SDE_STEP_ARGS_INIT and change what differs. */
struct sde_step_args {
	double eta;		       /* DDIM 0..1; TCD 0..1 (its customary value is 0.3) */
	bool use_clipped_model_output; /* DDIM */
	double s_churn, s_tmin, s_tmax, s_noise; /* Euler, flow Heun; s_noise also DPM++ SDE */
	int lms_order;				 /* LMS, default 4 */
	size_t batch;	    /* images in the array (n % batch == 0): thresholding is per image */
	sde_noise_fn noise; /* needed when sde_scheduler_noise_draws() > 0 */
	void *userdata;
};
#define SDE_STEP_ARGS_INIT                                                                         \
	((struct sde_step_args){                                                                   \
		.s_tmax = __builtin_inf(), .s_noise = 1.0, .lms_order = 4, .batch = 1})

/* How many noise draws of n elements the next step consumes (0 or 1; last steps included). */
int sde_scheduler_noise_draws(const struct sde_scheduler *scheduler,
			      const struct sde_step_args *args);

/*
 * One step: out = the sample at the next timestep, given the denoiser's output for the current one.
 * out may be sample or model_output. n must be the same in every step after
 * set_timesteps/set_begin_index (history is kept per element; the first step allocates it). args
 * NULL means SDE_STEP_ARGS_INIT. -ERANGE after the last timestep, -EINVAL for a bad argument,
 * -ENOMEM, or the noise source's error; on failure neither out nor the history has changed.
 */
int sde_scheduler_step(struct sde_scheduler *scheduler, const float *model_output,
		       const float *sample, float *out, size_t n, const struct sde_step_args *args,
		       struct sde_error *error);

/*
 * Noise `clean` to the level of timesteps[index] (add_noise, or scale_noise of flow classes); out
 * may be clean or noise. As in diffusers, of several equal timesteps the second one counts unless a
 * begin index was set or a step was taken.
 */
int sde_scheduler_add_noise(const struct sde_scheduler *scheduler, const float *clean,
			    const float *noise, float *out, size_t n, size_t index,
			    struct sde_error *error);

/*
 * The clean sample that model_output implies at timesteps[index]: what a preview shows. out may be either input. The same
 * errors as add_noise; nothing is clipped.
 */
int sde_scheduler_predict_clean(const struct sde_scheduler *scheduler, const float *model_output,
				const float *sample, float *out, size_t n, size_t index,
				struct sde_error *error);

/*
 * Preemption: everything a step depends on besides configuration and request. A job is resumed by
 * new(same config), set_timesteps(same request), state_load(); the remaining steps are then
 * bit-identical to the uninterrupted run. The buffer is host-endian and private to one build; load
 * checks lengths and class and returns -EBADMSG without changing anything.
 */
size_t sde_scheduler_state_size(const struct sde_scheduler *scheduler);
int sde_scheduler_state_save(const struct sde_scheduler *scheduler, void *buffer, size_t size);
int sde_scheduler_state_load(struct sde_scheduler *scheduler, const void *buffer, size_t size,
			     struct sde_error *error);
