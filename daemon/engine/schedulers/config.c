/*
 * scheduler_config.json: the diffusers defaults of each class and the table of keys. Files carry
 * keys of other classes (a DDIM file with skip_prk_steps is common), so unknown keys pass; a known
 * key that makes no sense does not.
 */
#include "daemon/engine/scheduler.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

static const char *const class_names[SDE_SCHEDULER_CLASSES] = {
	[SDE_SCHEDULER_DDIM] = "DDIMScheduler",
	[SDE_SCHEDULER_DDIM_INVERSE] = "DDIMInverseScheduler",
	[SDE_SCHEDULER_DDPM] = "DDPMScheduler",
	[SDE_SCHEDULER_PNDM] = "PNDMScheduler",
	[SDE_SCHEDULER_LMS] = "LMSDiscreteScheduler",
	[SDE_SCHEDULER_EULER] = "EulerDiscreteScheduler",
	[SDE_SCHEDULER_EULER_ANCESTRAL] = "EulerAncestralDiscreteScheduler",
	[SDE_SCHEDULER_HEUN] = "HeunDiscreteScheduler",
	[SDE_SCHEDULER_KDPM2] = "KDPM2DiscreteScheduler",
	[SDE_SCHEDULER_KDPM2_ANCESTRAL] = "KDPM2AncestralDiscreteScheduler",
	[SDE_SCHEDULER_DPM_SDE] = "DPMSolverSDEScheduler",
	[SDE_SCHEDULER_DPM_MULTISTEP] = "DPMSolverMultistepScheduler",
	[SDE_SCHEDULER_DPM_SINGLESTEP] = "DPMSolverSinglestepScheduler",
	[SDE_SCHEDULER_DEIS] = "DEISMultistepScheduler",
	[SDE_SCHEDULER_UNIPC] = "UniPCMultistepScheduler",
	[SDE_SCHEDULER_LCM] = "LCMScheduler",
	[SDE_SCHEDULER_TCD] = "TCDScheduler",
	[SDE_SCHEDULER_FLOW_MATCH_EULER] = "FlowMatchEulerDiscreteScheduler",
	[SDE_SCHEDULER_FLOW_MATCH_HEUN] = "FlowMatchHeunDiscreteScheduler",
	[SDE_SCHEDULER_IPNDM] = "IPNDMScheduler",
};

struct word {
	const char *name;
	int value;
};

static const struct word beta_schedules[] = {
	{"linear", SDE_BETA_LINEAR},
	{"scaled_linear", SDE_BETA_SCALED_LINEAR},
	{"squaredcos_cap_v2", SDE_BETA_SQUAREDCOS_CAP_V2},
	{"exp", SDE_BETA_EXP},
	{"laplace", SDE_BETA_LAPLACE},
	{"sigmoid", SDE_BETA_SIGMOID},
	{NULL, 0},
};

static const struct word prediction_types[] = {
	{"epsilon", SDE_PREDICTION_EPSILON},	    {"sample", SDE_PREDICTION_SAMPLE},
	{"original_sample", SDE_PREDICTION_SAMPLE}, {"v_prediction", SDE_PREDICTION_V},
	{"flow_prediction", SDE_PREDICTION_FLOW},   {NULL, 0},
};

static const struct word timestep_spacings[] = {
	{"leading", SDE_SPACING_LEADING},
	{"trailing", SDE_SPACING_TRAILING},
	{"linspace", SDE_SPACING_LINSPACE},
	{NULL, 0},
};

static const struct word algorithm_types[] = {
	{"dpmsolver", SDE_ALGORITHM_DPMSOLVER},
	{"dpmsolver++", SDE_ALGORITHM_DPMSOLVER_PP},
	{"sde-dpmsolver", SDE_ALGORITHM_SDE_DPMSOLVER},
	{"sde-dpmsolver++", SDE_ALGORITHM_SDE_DPMSOLVER_PP},
	{"deis", SDE_ALGORITHM_DEIS},
	{NULL, 0},
};

static const struct word solver_types[] = {
	{"midpoint", SDE_SOLVER_MIDPOINT}, {"heun", SDE_SOLVER_HEUN}, {"logrho", SDE_SOLVER_LOGRHO},
	{"bh1", SDE_SOLVER_BH1},	   {"bh2", SDE_SOLVER_BH2},   {NULL, 0},
};

static const struct word variance_types[] = {
	{"fixed_small", SDE_VARIANCE_FIXED_SMALL},
	{"fixed_small_log", SDE_VARIANCE_FIXED_SMALL_LOG},
	{"fixed_large", SDE_VARIANCE_FIXED_LARGE},
	{NULL, 0},
};

static const struct word final_sigmas_types[] = {{"zero", false}, {"sigma_min", true}, {NULL, 0}};
static const struct word interpolation_types[] = {
	{"linear", false}, {"log_linear", true}, {NULL, 0}};
static const struct word timestep_types[] = {{"discrete", false}, {"continuous", true}, {NULL, 0}};
static const struct word time_shift_types[] = {{"exponential", false}, {"linear", true}, {NULL, 0}};

enum key_type {
	KEY_INT,
	KEY_DOUBLE,
	KEY_BOOL,
	KEY_WORD,      /* enum stored as int */
	KEY_BOOL_WORD, /* one of two words stored as bool */
};

struct key {
	const char *name;
	enum key_type type;
	size_t offset;
	const struct word *words;
};

#define KEY(key_type, field)                                                                       \
	{                                                                                          \
#field, key_type, offsetof(struct sde_scheduler_config, field), NULL               \
	}
#define KEY_OF(name, key_type, field, words)                                                       \
	{                                                                                          \
		name, key_type, offsetof(struct sde_scheduler_config, field), words                \
	}

static const struct key keys[] = {
	KEY(KEY_INT, num_train_timesteps),
	KEY(KEY_DOUBLE, beta_start),
	KEY(KEY_DOUBLE, beta_end),
	KEY_OF("beta_schedule", KEY_WORD, beta_schedule, beta_schedules),
	KEY(KEY_BOOL, rescale_betas_zero_snr),
	KEY_OF("prediction_type", KEY_WORD, prediction_type, prediction_types),
	KEY_OF("timestep_spacing", KEY_WORD, timestep_spacing, timestep_spacings),
	KEY(KEY_INT, steps_offset),
	KEY(KEY_BOOL, set_alpha_to_one),
	KEY_OF("set_alpha_to_zero", KEY_BOOL, set_alpha_to_one, NULL), /* old DDIMInverse name */
	KEY(KEY_BOOL, clip_sample),
	KEY(KEY_DOUBLE, clip_sample_range),
	KEY(KEY_BOOL, thresholding),
	KEY(KEY_DOUBLE, dynamic_thresholding_ratio),
	KEY(KEY_DOUBLE, sample_max_value),
	KEY_OF("variance_type", KEY_WORD, variance_type, variance_types),
	KEY(KEY_BOOL, skip_prk_steps),
	KEY(KEY_BOOL, use_karras_sigmas),
	KEY(KEY_BOOL, use_exponential_sigmas),
	KEY(KEY_BOOL, use_beta_sigmas),
	KEY(KEY_BOOL, use_lu_lambdas),
	KEY(KEY_DOUBLE, sigma_min),
	KEY(KEY_DOUBLE, sigma_max),
	KEY_OF("final_sigmas_type", KEY_BOOL_WORD, final_sigma_min, final_sigmas_types),
	KEY_OF("interpolation_type", KEY_BOOL_WORD, log_linear_interpolation, interpolation_types),
	KEY_OF("timestep_type", KEY_BOOL_WORD, continuous_timesteps, timestep_types),
	KEY_OF("algorithm_type", KEY_WORD, algorithm_type, algorithm_types),
	KEY_OF("solver_type", KEY_WORD, solver_type, solver_types),
	KEY(KEY_INT, solver_order),
	KEY(KEY_BOOL, lower_order_final),
	KEY(KEY_BOOL, euler_at_final),
	KEY(KEY_DOUBLE, lambda_min_clipped),
	KEY(KEY_BOOL, predict_x0),
	KEY(KEY_INT, original_inference_steps),
	KEY(KEY_DOUBLE, timestep_scaling),
	KEY(KEY_BOOL, use_flow_sigmas),
	KEY(KEY_DOUBLE, flow_shift),
	KEY(KEY_DOUBLE, shift),
	KEY(KEY_BOOL, use_dynamic_shifting),
	KEY_OF("time_shift_type", KEY_BOOL_WORD, linear_time_shift, time_shift_types),
	KEY(KEY_BOOL, invert_sigmas),
	KEY(KEY_BOOL, stochastic_sampling),
	KEY(KEY_DOUBLE, base_shift),
	KEY(KEY_DOUBLE, max_shift),
	KEY(KEY_INT, base_image_seq_len),
	KEY(KEY_INT, max_image_seq_len),
	KEY(KEY_DOUBLE, shift_terminal),
};

void sde_scheduler_config_init(struct sde_scheduler_config *config,
			       enum sde_scheduler_class class_id)
{
	*config = (struct sde_scheduler_config){
		.class_id = class_id,
		.num_train_timesteps = 1000,
		.beta_start = 0.0001,
		.beta_end = 0.02,
		.beta_schedule = SDE_BETA_LINEAR,
		.prediction_type = SDE_PREDICTION_EPSILON,
		.timestep_spacing = SDE_SPACING_LINSPACE,
		.set_alpha_to_one = true,
		.clip_sample_range = 1,
		.dynamic_thresholding_ratio = 0.995,
		.sample_max_value = 1,
		.sigma_min = NAN,
		.sigma_max = NAN,
		.algorithm_type = SDE_ALGORITHM_DPMSOLVER_PP,
		.solver_type = SDE_SOLVER_MIDPOINT,
		.solver_order = 2,
		.lower_order_final = true,
		.lambda_min_clipped = -INFINITY,
		.predict_x0 = true,
		.original_inference_steps = 50,
		.timestep_scaling = 10,
		.flow_shift = 1,
		.shift = 1,
		.base_shift = 0.5,
		.max_shift = 1.15,
		.base_image_seq_len = 256,
		.max_image_seq_len = 4096,
		.shift_terminal = NAN,
	};
	switch (class_id) {
	case SDE_SCHEDULER_DDPM:
		config->variance_type = SDE_VARIANCE_FIXED_SMALL;
		/* fall through */
	case SDE_SCHEDULER_DDIM:
	case SDE_SCHEDULER_DDIM_INVERSE:
		config->clip_sample = true;
		config->timestep_spacing = SDE_SPACING_LEADING;
		break;
	case SDE_SCHEDULER_PNDM:
		config->set_alpha_to_one = false;
		config->timestep_spacing = SDE_SPACING_LEADING;
		break;
	case SDE_SCHEDULER_LCM:
	case SDE_SCHEDULER_TCD:
		config->beta_schedule = SDE_BETA_SCALED_LINEAR;
		config->timestep_spacing = SDE_SPACING_LEADING;
		/* fall through */
	case SDE_SCHEDULER_HEUN:
	case SDE_SCHEDULER_KDPM2:
	case SDE_SCHEDULER_KDPM2_ANCESTRAL:
	case SDE_SCHEDULER_DPM_SDE:
		config->beta_start = 0.00085;
		config->beta_end = 0.012;
		break;
	case SDE_SCHEDULER_DPM_SINGLESTEP:
		config->lower_order_final = false;
		break;
	case SDE_SCHEDULER_UNIPC:
		config->solver_type = SDE_SOLVER_BH2;
		break;
	default:
		break;
	}
}

void sde_scheduler_config_clear(struct sde_scheduler_config *config)
{
	free(config->trained_betas);
	config->trained_betas = NULL;
	config->n_trained_betas = 0;
}

static int parse_double(const json_t *value, double *ret)
{
	const char *text;

	if (json_is_number(value)) {
		*ret = json_number_value(value);
		return 0;
	}
	/* a reader that has to keep Python's -Infinity may hand it over as a string */
	text = json_string_value(value);
	if (text && (!strcmp(text, "-Infinity") || !strcmp(text, "-inf"))) {
		*ret = -INFINITY;
		return 0;
	}
	return -EINVAL;
}

static int parse_int(const json_t *value, int *ret)
{
	double number = json_number_value(value);

	if (!json_is_number(value) || number != nearbyint(number) || fabs(number) > 1e9)
		return -EINVAL;
	*ret = (int)number;
	return 0;
}

static int parse_word(const json_t *value, const struct word *words, int *ret)
{
	const char *text = json_string_value(value);

	for (; text && words->name; words++) {
		if (!strcmp(words->name, text)) {
			*ret = words->value;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_key(struct sde_scheduler_config *config, const struct key *key,
		     const json_t *value, struct sde_error *error)
{
	void *field = (char *)config + key->offset;
	int number = 0, r = 0;
	bool flag;

	switch (key->type) {
	case KEY_DOUBLE:
		r = parse_double(value, field);
		break;
	case KEY_INT:
		r = parse_int(value, field);
		break;
	case KEY_BOOL:
		if (!json_is_boolean(value))
			r = -EINVAL;
		flag = json_is_true(value);
		memcpy(field, &flag, sizeof(flag));
		break;
	case KEY_WORD:
		r = parse_word(value, key->words, &number);
		memcpy(field, &number, sizeof(number));
		break;
	case KEY_BOOL_WORD:
		r = parse_word(value, key->words, &number);
		flag = number;
		memcpy(field, &flag, sizeof(flag));
		break;
	}
	if (r == 0)
		return 0;
	if (json_is_string(value))
		return sde_error_set(
			error, r,
			"scheduler configuration: %s is \"%.40s\", which is not supported",
			key->name, json_string_value(value));
	return sde_error_set(error, r, "scheduler configuration: %s has a value of the wrong type",
			     key->name);
}

static int parse_trained_betas(struct sde_scheduler_config *config, const json_t *value,
			       struct sde_error *error)
{
	size_t n = json_array_size(value);
	float *betas;

	if (n < 1 || n > SDE_TRAIN_TIMESTEPS_MAX)
		return sde_error_set(
			error, -EINVAL,
			"scheduler configuration: trained_betas must be a list of 1..%d numbers",
			SDE_TRAIN_TIMESTEPS_MAX);
	betas = malloc(n * sizeof(*betas));
	if (!betas)
		return sde_error_set(error, -ENOMEM, "no memory for trained_betas");
	for (size_t i = 0; i < n; i++) {
		double beta;

		if (parse_double(json_array_get(value, i), &beta) < 0) {
			free(betas);
			return sde_error_set(
				error, -EINVAL,
				"scheduler configuration: trained_betas[%zu] is not a number", i);
		}
		betas[i] = (float)beta;
	}
	config->trained_betas = betas;
	config->n_trained_betas = n;
	return 0;
}

static int parse_disable_corrector(struct sde_scheduler_config *config, const json_t *value,
				   struct sde_error *error)
{
	size_t n = json_array_size(value);

	if (!json_is_array(value) || n > SDE_DISABLE_CORRECTOR_MAX)
		return sde_error_set(error, -EINVAL,
				     "scheduler configuration: disable_corrector must be a list of "
				     "at most %d steps",
				     SDE_DISABLE_CORRECTOR_MAX);
	for (size_t i = 0; i < n; i++) {
		if (parse_int(json_array_get(value, i), &config->disable_corrector[i]) < 0)
			return sde_error_set(
				error, -EINVAL,
				"scheduler configuration: disable_corrector[%zu] is not a step", i);
	}
	config->n_disable_corrector = n;
	return 0;
}

int sde_scheduler_config_apply_json(struct sde_scheduler_config *config, const json_t *object,
				    struct sde_error *error)
{
	struct sde_scheduler_config parsed = *config;
	const json_t *value;
	int r = 0;

	if (!json_is_object(object))
		return sde_error_set(error, -EINVAL,
				     "scheduler configuration is not a JSON object");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		value = json_object_get(object, keys[i].name);
		if (!value || json_is_null(value))
			continue;
		/* only DDPM reads it; elsewhere it names networks this engine does not have */
		if (!strcmp(keys[i].name, "variance_type") &&
		    config->class_id != SDE_SCHEDULER_DDPM)
			continue;
		r = parse_key(&parsed, &keys[i], value, error);
		if (r < 0)
			return r;
	}
	value = json_object_get(object, "disable_corrector");
	if (value && !json_is_null(value)) {
		r = parse_disable_corrector(&parsed, value, error);
		if (r < 0)
			return r;
	}
	value = json_object_get(object, "trained_betas");
	if (value && !json_is_null(value)) {
		r = parse_trained_betas(&parsed, value, error);
		if (r < 0)
			return r;
		free(config->trained_betas);
	}
	*config = parsed;
	return 0;
}

int sde_scheduler_config_from_json(const json_t *object, struct sde_scheduler_config *ret_config,
				   struct sde_error *error)
{
	const char *name = json_string_value(json_object_get(object, "_class_name"));
	struct sde_scheduler_config config;
	int class_id, r;

	if (!name)
		return sde_error_set(error, -EINVAL,
				     "scheduler configuration has no \"_class_name\"");
	class_id = sde_scheduler_class_from_string(name);
	if (class_id < 0)
		return sde_error_set(error, -EINVAL, "scheduler class \"%.60s\" is not supported",
				     name);
	sde_scheduler_config_init(&config, (enum sde_scheduler_class)class_id);
	r = sde_scheduler_config_apply_json(&config, object, error);
	if (r < 0)
		return r;
	*ret_config = config;
	return 0;
}

int sde_scheduler_class_from_string(const char *class_name)
{
	for (int i = 0; i < SDE_SCHEDULER_CLASSES; i++) {
		if (!strcmp(class_names[i], class_name))
			return i;
	}
	return -EINVAL;
}

const char *sde_scheduler_class_to_string(enum sde_scheduler_class class_id)
{
	return class_names[class_id];
}
