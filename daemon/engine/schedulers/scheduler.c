/*
 * The part of a scheduler that every class shares: construction, the checks around a step, noise
 * draws, noising of clean samples and saved state. The classes' own arithmetic is in the files
 * beside this one.
 */
#include "daemon/engine/schedulers/internal.h"

#include <errno.h>
#include <stdlib.h>

#define KEEP_MIN    1e-4f
#define STATE_MAGIC 0x31484353u /* "SCH1" */

struct state_header {
	uint32_t magic;
	uint32_t class_id;
	uint64_t n_timesteps;
	uint64_t n;
	struct scheduler_state state;
};

static const struct scheduler_class *const classes[SDE_SCHEDULER_CLASSES] = {
	[SDE_SCHEDULER_DDIM] = &sde_sched_ddim,
	[SDE_SCHEDULER_DDIM_INVERSE] = &sde_sched_ddim_inverse,
	[SDE_SCHEDULER_DDPM] = &sde_sched_ddpm,
	[SDE_SCHEDULER_PNDM] = &sde_sched_pndm,
	[SDE_SCHEDULER_LMS] = &sde_sched_lms,
	[SDE_SCHEDULER_EULER] = &sde_sched_euler,
	[SDE_SCHEDULER_EULER_ANCESTRAL] = &sde_sched_euler_ancestral,
	[SDE_SCHEDULER_HEUN] = &sde_sched_heun,
	[SDE_SCHEDULER_DPM_MULTISTEP] = &sde_sched_dpmpp_2m,
	[SDE_SCHEDULER_UNIPC] = &sde_sched_unipc,
	[SDE_SCHEDULER_KDPM2] = &sde_sched_kdpm2,
	[SDE_SCHEDULER_KDPM2_ANCESTRAL] = &sde_sched_kdpm2_ancestral,
	[SDE_SCHEDULER_DPM_SDE] = &sde_sched_dpmpp_sde,
	[SDE_SCHEDULER_DPM_SINGLESTEP] = &sde_sched_dpmpp_2s,
	[SDE_SCHEDULER_DEIS] = &sde_sched_deis,
	[SDE_SCHEDULER_LCM] = &sde_sched_lcm,
	[SDE_SCHEDULER_TCD] = &sde_sched_tcd,
	[SDE_SCHEDULER_FLOW_MATCH_EULER] = &sde_sched_flow_euler,
	[SDE_SCHEDULER_FLOW_MATCH_HEUN] = &sde_sched_flow_heun,
	[SDE_SCHEDULER_IPNDM] = &sde_sched_ipndm,
};

/* Numbers of a configuration file and the range in which the formulas mean something; NAN is "not given". */
static const struct {
	const char *name;
	size_t offset;
	double low, high;
} ranges[] = {
	{"beta_start", offsetof(struct sde_scheduler_config, beta_start), 0, 1},
	{"beta_end", offsetof(struct sde_scheduler_config, beta_end), 0, 1},
	{"clip_sample_range", offsetof(struct sde_scheduler_config, clip_sample_range), 0, 1e6},
	{"dynamic_thresholding_ratio",
	 offsetof(struct sde_scheduler_config, dynamic_thresholding_ratio), 0, 1},
	{"sample_max_value", offsetof(struct sde_scheduler_config, sample_max_value), 0, 1e6},
	{"sigma_min", offsetof(struct sde_scheduler_config, sigma_min), 0, 1e6},
	{"sigma_max", offsetof(struct sde_scheduler_config, sigma_max), 0, 1e6},
	{"timestep_scaling", offsetof(struct sde_scheduler_config, timestep_scaling), 0, 1e6},
	{"flow_shift", offsetof(struct sde_scheduler_config, flow_shift), 1e-6, 1e6},
	{"shift", offsetof(struct sde_scheduler_config, shift), 1e-6, 1e6},
	{"base_shift", offsetof(struct sde_scheduler_config, base_shift), -100, 100},
	{"max_shift", offsetof(struct sde_scheduler_config, max_shift), -100, 100},
	{"shift_terminal", offsetof(struct sde_scheduler_config, shift_terminal), 0, 1},
};

static int check_ranges(const struct sde_scheduler_config *config, struct sde_error *error)
{
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		double value;

		memcpy(&value, (const char *)config + ranges[i].offset, sizeof(value));
		if (isnan(value) || (value >= ranges[i].low && value <= ranges[i].high))
			continue;
		return sde_error_set(error, -EINVAL, "%s is %g, must be from %g to %g",
				     ranges[i].name, value, ranges[i].low, ranges[i].high);
	}
	return 0;
}

static int check_config(const struct sde_scheduler_config *config,
			const struct scheduler_class *class, struct sde_error *error)
{
	const char *name = sde_scheduler_class_to_string(config->class_id);

	if (config->num_train_timesteps < 1 ||
	    config->num_train_timesteps > SDE_TRAIN_TIMESTEPS_MAX)
		return sde_error_set(error, -EINVAL, "num_train_timesteps is %d, must be 1..%d",
				     config->num_train_timesteps, SDE_TRAIN_TIMESTEPS_MAX);
	if (config->trained_betas && !class->no_alphas &&
	    config->n_trained_betas != (size_t)config->num_train_timesteps)
		return sde_error_set(error, -EINVAL,
				     "trained_betas has %zu values, num_train_timesteps is %d",
				     config->n_trained_betas, config->num_train_timesteps);
	if (config->solver_order < 1 || config->solver_order > 3)
		return sde_error_set(error, -EINVAL, "solver_order is %d, must be 1, 2 or 3",
				     config->solver_order);
	if (config->use_karras_sigmas + config->use_exponential_sigmas + config->use_beta_sigmas >
	    1)
		return sde_error_set(error, -EINVAL,
				     "only one of use_karras_sigmas, use_exponential_sigmas and "
				     "use_beta_sigmas can be set");
	if (class->prediction_types && !(class->prediction_types & 1u << config->prediction_type))
		return sde_error_set(error, -EINVAL,
				     "%s cannot sample a model with this prediction_type", name);
	if (config->steps_offset < 0 || config->steps_offset >= config->num_train_timesteps)
		return sde_error_set(error, -EINVAL, "steps_offset is %d, must be 0..%d",
				     config->steps_offset, config->num_train_timesteps - 1);
	return check_ranges(config, error);
}

static int copy_config(struct sde_scheduler *s, const struct sde_scheduler_config *config)
{
	s->config = *config;
	s->config.trained_betas = NULL;
	if (!config->trained_betas)
		return 0;
	s->config.trained_betas = malloc(config->n_trained_betas * sizeof(float));
	if (!s->config.trained_betas)
		return -ENOMEM;
	memcpy(s->config.trained_betas, config->trained_betas,
	       config->n_trained_betas * sizeof(float));
	return 0;
}

/* A file may carry keys of another class; those a class does not have must not act on it. */
static void drop_foreign_keys(struct sde_scheduler_config *config, unsigned int ramps)
{
	config->use_karras_sigmas &= !!(ramps & 1u << SIGMAS_KARRAS);
	config->use_exponential_sigmas &= !!(ramps & 1u << SIGMAS_EXPONENTIAL);
	config->use_beta_sigmas &= !!(ramps & 1u << SIGMAS_BETA);
	config->use_lu_lambdas &= !!(ramps & 1u << SIGMAS_LU);
	config->use_flow_sigmas &= !!(ramps & 1u << SIGMAS_FLOW);
}

int sde_scheduler_new(const struct sde_scheduler_config *config,
		      struct sde_scheduler **ret_scheduler, struct sde_error *error)
{
	__attribute__((cleanup(sde_scheduler_freep))) struct sde_scheduler *s = NULL;
	const struct scheduler_class *class;
	int r;

	if ((unsigned int)config->class_id >= SDE_SCHEDULER_CLASSES || !classes[config->class_id])
		return sde_error_set(error, -ENOTSUP, "this scheduler class is not implemented");
	class = classes[config->class_id];
	s = calloc(1, sizeof(*s));
	if (!s || copy_config(s, config) < 0)
		return sde_error_set(error, -ENOMEM, "no memory for a scheduler");
	s->class = class;
	drop_foreign_keys(&s->config, class->ramps);
	r = check_config(&s->config, class, error);
	if (r < 0)
		return r;
	if (!class->no_alphas) {
		s->alphas_cumprod = malloc((size_t)config->num_train_timesteps * sizeof(float));
		if (!s->alphas_cumprod)
			return sde_error_set(error, -ENOMEM, "no memory for a noise schedule");
		r = sde_sched_make_alphas_cumprod(&s->config, class->zero_snr, s->alphas_cumprod,
						  error);
		if (r < 0)
			return r;
	}
	if (class->init) {
		r = class->init(s, error);
		if (r < 0)
			return r;
	}
	*ret_scheduler = s;
	s = NULL;
	return 0;
}

struct sde_scheduler *sde_scheduler_free(struct sde_scheduler *s)
{
	if (!s)
		return NULL;
	sde_scheduler_config_clear(&s->config);
	free(s->alphas_cumprod);
	free(s->timesteps);
	free(s->sigmas);
	free(s->sigmas_interpol);
	free(s->sigmas_up);
	free(s->sigmas_down);
	free(s->orders);
	free(s->memory);
	free(s);
	return NULL;
}

static void forget_history(struct sde_scheduler *s)
{
	memset(&s->state, 0, sizeof(s->state));
	free(s->memory);
	s->memory = NULL;
	s->n = 0;
}

int sde_sched_check_request(const struct sde_scheduler *s,
			    const struct sde_timesteps_request *request, unsigned int allowed,
			    struct sde_error *error)
{
	const char *name = sde_scheduler_class_to_string(s->config.class_id);

	if (request->timesteps && !(allowed & REQUEST_TIMESTEPS))
		return sde_error_set(error, -ENOTSUP, "%s takes no custom timesteps", name);
	if (request->sigmas && !(allowed & REQUEST_SIGMAS))
		return sde_error_set(error, -ENOTSUP, "%s takes no custom sigmas", name);
	if (request->has_mu && !(allowed & REQUEST_MU))
		return sde_error_set(error, -ENOTSUP, "%s takes no mu", name);
	if ((request->strength != 0 || request->original_inference_steps) &&
	    !(allowed & REQUEST_STRENGTH))
		return sde_error_set(error, -ENOTSUP,
				     "%s takes neither strength nor original_inference_steps",
				     name);
	return 0;
}

static int check_counts(const struct sde_scheduler *s, const struct sde_timesteps_request *request,
			struct sde_error *error)
{
	if (request->timesteps || request->sigmas) {
		if ((request->timesteps && (request->n_timesteps < 1 ||
					    request->n_timesteps > SDE_TRAIN_TIMESTEPS_MAX)) ||
		    (request->sigmas &&
		     (request->n_sigmas < 1 || request->n_sigmas > SDE_TRAIN_TIMESTEPS_MAX)))
			return sde_error_set(error, -EINVAL, "a custom list must have 1..%d values",
					     SDE_TRAIN_TIMESTEPS_MAX);
		return 0;
	}
	if (request->num_inference_steps < 1 ||
	    request->num_inference_steps > s->config.num_train_timesteps)
		return sde_error_set(error, -EINVAL, "number of steps is %d, must be 1..%d",
				     request->num_inference_steps, s->config.num_train_timesteps);
	return 0;
}

/* Values that are each in range can still contradict one another; no step is taken on such tables. */
static int check_tables(const struct sde_scheduler *s, struct sde_error *error)
{
	for (size_t i = 0; i < s->n_timesteps; i++)
		if (!isfinite(s->timesteps[i]))
			return sde_error_set(error, -EINVAL,
					     "the scheduler configuration makes no noise schedule: "
					     "timestep number %zu is %g",
					     i, s->timesteps[i]);
	for (size_t i = 0; i < s->n_sigmas; i++)
		if (isnan(s->sigmas[i]))
			return sde_error_set(error, -EINVAL,
					     "the scheduler configuration makes no noise schedule: "
					     "sigma number %zu is not a number",
					     i);
	return 0;
}

int sde_scheduler_set_timesteps(struct sde_scheduler *s,
				const struct sde_timesteps_request *request,
				struct sde_error *error)
{
	int r = check_counts(s, request, error);

	if (r < 0)
		return r;
	forget_history(s);
	s->num_inference_steps = request->sigmas      ? (int)request->n_sigmas
				 : request->timesteps ? (int)request->n_timesteps
						      : request->num_inference_steps;
	r = s->class->set_timesteps(s, request, error);
	if (r >= 0)
		r = check_tables(s, error);
	if (r < 0)
		s->n_timesteps = 0;
	return r;
}

const double *sde_scheduler_timesteps(const struct sde_scheduler *s, size_t *ret_n)
{
	*ret_n = s->n_timesteps;
	return s->timesteps;
}

bool sde_scheduler_timesteps_are_integers(const struct sde_scheduler *s)
{
	return s->class->integer_timesteps;
}

const float *sde_scheduler_sigmas(const struct sde_scheduler *s, size_t *ret_n)
{
	*ret_n = s->n_sigmas;
	return s->n_sigmas ? s->sigmas : NULL;
}

const float *sde_scheduler_alphas_cumprod(const struct sde_scheduler *s, size_t *ret_n)
{
	*ret_n = s->alphas_cumprod ? (size_t)s->config.num_train_timesteps : 0;
	return s->alphas_cumprod;
}

int sde_scheduler_order(const struct sde_scheduler *s)
{
	return s->class->order;
}

float sde_scheduler_init_noise_sigma(const struct sde_scheduler *s)
{
	float highest = 0;

	if (!s->class->scaled_by_sigma)
		return 1;
	for (size_t i = 0; i < s->n_sigmas; i++)
		highest = fmaxf(highest, s->sigmas[i]);
	if (s->config.timestep_spacing == SDE_SPACING_LEADING)
		return sqrtf(highest * highest + 1);
	return highest;
}

const struct sde_scheduler_config *sde_scheduler_get_config(const struct sde_scheduler *s)
{
	return &s->config;
}

bool sde_scheduler_has_begin_index(const struct sde_scheduler *s)
{
	return s->class->begin_index;
}

int sde_scheduler_set_begin_index(struct sde_scheduler *s, size_t begin_index,
				  struct sde_error *error)
{
	if (begin_index >= s->n_timesteps)
		return sde_error_set(error, -ERANGE, "begin index %zu, but there are %zu timesteps",
				     begin_index, s->n_timesteps);
	forget_history(s);
	s->state.begin_index_set = 1;
	s->state.step_index = (uint32_t)begin_index;
	return 0;
}

size_t sde_scheduler_step_index(const struct sde_scheduler *s)
{
	return s->state.step_index;
}

void sde_scheduler_scale_model_input(const struct sde_scheduler *s, const float *sample, float *out,
				     size_t n)
{
	float sigma, scale;

	if (!s->class->scaled_by_sigma || s->state.step_index >= s->n_timesteps) {
		memmove(out, sample, n * sizeof(*out));
		return;
	}
	sigma = s->class->input_sigma ? s->class->input_sigma(s) : s->sigmas[s->state.step_index];
	scale = sqrtf(sigma * sigma + 1);
	for (size_t i = 0; i < n; i++)
		out[i] = sample[i] / scale;
}

int sde_scheduler_noise_draws(const struct sde_scheduler *s, const struct sde_step_args *args)
{
	if (s->state.step_index >= s->n_timesteps || !s->class->noise_draws)
		return 0;
	return s->class->noise_draws(s, args ? args : &SDE_STEP_ARGS_INIT);
}

/* Slots, noise, work and, if needed, the sorted copy: one block of arrays of n floats. */
static int alloc_history(struct sde_scheduler *s, size_t n, struct sde_error *error)
{
	size_t arrays = (size_t)s->class->slots + 2 + s->config.thresholding, count;
	float *memory;

	if (__builtin_mul_overflow(arrays, n, &count))
		return sde_error_set(error, -ENOMEM, "a sample of %zu values is too large", n);
	memory = calloc(count, sizeof(*memory));
	if (!memory)
		return sde_error_set(error, -ENOMEM, "no memory for the history of %zu values", n);
	free(s->memory);
	s->memory = memory;
	s->n = n;
	for (int i = 0; i < s->class->slots; i++, memory += n)
		s->slot[i] = memory;
	s->noise = memory;
	s->work = memory + n;
	s->sorted = s->config.thresholding ? memory + 2 * n : NULL;
	return 0;
}

static int check_step(struct sde_scheduler *s, size_t n, const struct sde_step_args *args,
		      struct sde_error *error)
{
	if (s->state.step_index >= s->n_timesteps)
		return sde_error_set(error, -ERANGE,
				     "step after the last timestep; call set_timesteps first");
	if (n == 0 || args->batch == 0 || n % args->batch)
		return sde_error_set(error, -EINVAL, "sample of %zu values for a batch of %zu", n,
				     args->batch);
	if (args->lms_order < 1 || args->lms_order > 4)
		return sde_error_set(error, -EINVAL, "LMS order is %d, must be 1..4",
				     args->lms_order);
	if (!(args->eta >= 0 && args->eta <= 1))
		return sde_error_set(error, -EINVAL, "eta is %g, must be between 0 and 1",
				     args->eta);
	if (s->n && s->n != n)
		return sde_error_set(error, -EINVAL,
				     "sample of %zu values, the steps before had %zu", n, s->n);
	return s->n ? 0 : alloc_history(s, n, error);
}

int sde_scheduler_step(struct sde_scheduler *s, const float *model_output, const float *sample,
		       float *out, size_t n, const struct sde_step_args *args,
		       struct sde_error *error)
{
	struct scheduler_step step = {model_output, sample, out,
				      NULL,	    n,	    args ? args : &SDE_STEP_ARGS_INIT};
	int r;

	r = check_step(s, n, step.args, error);
	if (r < 0)
		return r;
	if (sde_scheduler_noise_draws(s, step.args)) {
		if (!step.args->noise)
			return sde_error_set(error, -EINVAL, "%s needs a noise source",
					     sde_scheduler_class_to_string(s->config.class_id));
		r = step.args->noise(step.args->userdata, s->noise, n);
		if (r < 0)
			return sde_error_set(error, r, "the noise source failed");
		step.noise = s->noise;
	}
	s->class->step(s, &step);
	s->state.step_index++;
	s->state.started = 1;
	return 0;
}

float sde_sched_alpha_at(const struct sde_scheduler *s, int t)
{
	int last = s->config.num_train_timesteps - 1;

	if (t < 0)
		return s->config.set_alpha_to_one ? 1 : s->alphas_cumprod[0];
	return s->alphas_cumprod[t < last ? t : last];
}

/*
 * diffusers looks a timestep up in the list and takes the second of equal ones, until a position is
 * known
 */
static size_t noise_index(const struct sde_scheduler *s, size_t index)
{
	if (s->state.begin_index_set || s->state.started)
		return index;
	for (size_t i = 0, found = 0; i < s->n_timesteps; i++) {
		if (s->timesteps[i] == s->timesteps[index] && ++found == 2)
			return i;
	}
	return index;
}

/* sample = keep * clean + add * noise at timesteps[index] */
static int noise_level(const struct sde_scheduler *s, size_t index, float *ret_keep, float *ret_add,
		       struct sde_error *error)
{
	if (index >= s->n_timesteps)
		return sde_error_set(error, -ERANGE,
				     "noise of timestep number %zu, but there are %zu timesteps",
				     index, s->n_timesteps);
	if (s->class->add_noise == ADD_NOISE_ALPHAS) {
		float alpha = sde_sched_alpha_at(s, (int)s->timesteps[index]);

		*ret_keep = sqrtf(alpha);
		*ret_add = sqrtf(1 - alpha);
	} else if (s->class->add_noise == ADD_NOISE_SIGMA) {
		*ret_keep = 1;
		*ret_add = s->sigmas[noise_index(s, index)];
	} else if (s->class->add_noise == ADD_NOISE_VP_SIGMA) {
		struct alpha_sigma a = alpha_sigma(s, noise_index(s, index));

		*ret_keep = a.alpha;
		*ret_add = a.sigma;
	} else if (s->class->add_noise == ADD_NOISE_FLOW) {
		*ret_add = s->sigmas[noise_index(s, index)];
		*ret_keep = 1 - *ret_add;
	} else {
		return sde_error_set(error, -ENOTSUP, "%s cannot noise a clean sample",
				     sde_scheduler_class_to_string(s->config.class_id));
	}
	return 0;
}

int sde_scheduler_add_noise(const struct sde_scheduler *s, const float *clean, const float *noise,
			    float *out, size_t n, size_t index, struct sde_error *error)
{
	float keep, add;
	int r;

	r = noise_level(s, index, &keep, &add, error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		out[i] = keep * clean[i] + add * noise[i];
	return 0;
}

int sde_scheduler_predict_clean(const struct sde_scheduler *s, const float *model_output,
				const float *sample, float *out, size_t n, size_t index,
				struct sde_error *error)
{
	const bool flow = s->class->add_noise == ADD_NOISE_FLOW ||
			  s->config.prediction_type == SDE_PREDICTION_FLOW;
	float keep, add, from_sample, from_output, norm;
	int r;

	r = noise_level(s, index, &keep, &add, error);
	if (r < 0)
		return r;
	norm = keep * keep + add * add;
	if (flow) {
		from_sample = 1;
		from_output = -s->sigmas[noise_index(s, index)];
	} else if (s->config.prediction_type == SDE_PREDICTION_V) {
		from_sample = keep / norm;
		from_output = -add / sqrtf(norm);
	} else if (s->config.prediction_type == SDE_PREDICTION_EPSILON) {
		/* at zero signal nothing can be predicted; keep it finite */
		from_sample = 1 / fmaxf(keep, KEEP_MIN);
		from_output = -add * from_sample;
	} else {
		from_sample = 0;
		from_output = 1;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = from_sample * sample[i] + from_output * model_output[i];
	return 0;
}

size_t sde_scheduler_state_size(const struct sde_scheduler *s)
{
	return sizeof(struct state_header) + (size_t)s->class->slots * s->n * sizeof(float);
}

int sde_scheduler_state_save(const struct sde_scheduler *s, void *buffer, size_t size)
{
	struct state_header header;
	char *p = buffer;

	if (size != sde_scheduler_state_size(s))
		return -EINVAL;
	memset(&header, 0, sizeof(header));
	header.magic = STATE_MAGIC;
	header.class_id = s->config.class_id;
	header.n_timesteps = s->n_timesteps;
	header.n = s->class->slots ? s->n : 0;
	header.state = s->state;
	memcpy(p, &header, sizeof(header));
	p += sizeof(header);
	for (int i = 0; s->n && i < s->class->slots; i++, p += s->n * sizeof(float))
		memcpy(p, s->slot[i], s->n * sizeof(float));
	return 0;
}

int sde_scheduler_state_load(struct sde_scheduler *s, const void *buffer, size_t size,
			     struct sde_error *error)
{
	struct state_header header;
	const char *p = buffer;
	size_t slots = (size_t)s->class->slots, bytes;
	int r;

	if (size < sizeof(header))
		return sde_error_set(error, -EBADMSG, "saved sampler state is cut short");
	memcpy(&header, p, sizeof(header));
	p += sizeof(header);
	if (header.magic != STATE_MAGIC || header.class_id != s->config.class_id ||
	    header.n_timesteps != s->n_timesteps || header.state.step_index > s->n_timesteps ||
	    header.state.filled > SCHEDULER_SLOTS_MAX || header.state.this_order > 3 ||
	    header.state.counter > s->n_timesteps)
		return sde_error_set(
			error, -EBADMSG,
			"saved sampler state belongs to another sampler or step count");
	if (__builtin_mul_overflow(header.n, slots * sizeof(float), &bytes) ||
	    bytes != size - sizeof(header))
		return sde_error_set(error, -EBADMSG,
				     "saved sampler state has %zu bytes of history",
				     size - sizeof(header));
	if (header.n && header.n != s->n) {
		r = alloc_history(s, header.n, error);
		if (r < 0)
			return r;
	}
	if (!header.n)
		forget_history(s);
	s->state = header.state;
	for (size_t i = 0; header.n && i < slots; i++, p += header.n * sizeof(float))
		memcpy(s->slot[i], p, header.n * sizeof(float));
	return 0;
}
