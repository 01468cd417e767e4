/*
 * The names under which people know samplers ("Euler a", "DPM++ 2M Karras"), as web front ends have
 * spread them, and what they mean in diffusers' terms: a class and a few keys on top of the model's
 * own noise schedule.
 */
#include "daemon/engine/scheduler.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/error.h"

#define NAME_MAX_LENGTH 64

enum preset {
	PRESET_KARRAS = 1 << 0,
	PRESET_EXPONENTIAL = 1 << 1,
	PRESET_BETA = 1 << 2,
	PRESET_SDE = 1 << 3,
	PRESET_THIRD_ORDER = 1 << 4,
	PRESET_HEUN = 1 << 5,
	PRESET_ALIAS = 1 << 6, /* another spelling: understood, not listed */
};

static const struct sampler_name {
	const char *name;
	enum sde_scheduler_class class_id;
	unsigned int presets;
} names[] = {
	{"DDIM", SDE_SCHEDULER_DDIM, 0},
	{"DDPM", SDE_SCHEDULER_DDPM, 0},
	{"PNDM", SDE_SCHEDULER_PNDM, 0},
	{"PLMS", SDE_SCHEDULER_PNDM, PRESET_ALIAS},
	{"LMS", SDE_SCHEDULER_LMS, 0},
	{"LMS Karras", SDE_SCHEDULER_LMS, PRESET_KARRAS},
	{"Euler", SDE_SCHEDULER_EULER, 0},
	{"Euler Karras", SDE_SCHEDULER_EULER, PRESET_KARRAS},
	{"Euler a", SDE_SCHEDULER_EULER_ANCESTRAL, 0},
	{"Euler ancestral", SDE_SCHEDULER_EULER_ANCESTRAL, PRESET_ALIAS},
	{"Heun", SDE_SCHEDULER_HEUN, 0},
	{"Heun Karras", SDE_SCHEDULER_HEUN, PRESET_KARRAS},
	{"DPM2", SDE_SCHEDULER_KDPM2, 0},
	{"DPM2 Karras", SDE_SCHEDULER_KDPM2, PRESET_KARRAS},
	{"KDPM2", SDE_SCHEDULER_KDPM2, PRESET_ALIAS},
	{"DPM2 a", SDE_SCHEDULER_KDPM2_ANCESTRAL, 0},
	{"DPM2 a Karras", SDE_SCHEDULER_KDPM2_ANCESTRAL, PRESET_KARRAS},
	{"DPM2 ancestral", SDE_SCHEDULER_KDPM2_ANCESTRAL, PRESET_ALIAS},
	{"KDPM2 ancestral", SDE_SCHEDULER_KDPM2_ANCESTRAL, PRESET_ALIAS},
	{"DPM++ SDE", SDE_SCHEDULER_DPM_SDE, 0},
	{"DPM++ SDE Karras", SDE_SCHEDULER_DPM_SDE, PRESET_KARRAS},
	{"DPM++ 2M", SDE_SCHEDULER_DPM_MULTISTEP, 0},
	{"DPM++ 2M Karras", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_KARRAS},
	{"DPM++ 2M SDE", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_SDE},
	{"DPM++ 2M SDE Karras", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_SDE | PRESET_KARRAS},
	{"DPM++ 2M SDE Heun", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_SDE | PRESET_HEUN},
	{"DPM++ 3M", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_THIRD_ORDER},
	{"DPM++ 3M SDE", SDE_SCHEDULER_DPM_MULTISTEP, PRESET_SDE | PRESET_THIRD_ORDER},
	{"DPM++ 3M SDE Karras", SDE_SCHEDULER_DPM_MULTISTEP,
	 PRESET_SDE | PRESET_THIRD_ORDER | PRESET_KARRAS},
	{"DPM++ 3M SDE Exponential", SDE_SCHEDULER_DPM_MULTISTEP,
	 PRESET_SDE | PRESET_THIRD_ORDER | PRESET_EXPONENTIAL},
	{"DPM++ 2S", SDE_SCHEDULER_DPM_SINGLESTEP, 0},
	{"DPM++ 2S Karras", SDE_SCHEDULER_DPM_SINGLESTEP, PRESET_KARRAS},
	{"DEIS", SDE_SCHEDULER_DEIS, 0},
	{"UniPC", SDE_SCHEDULER_UNIPC, 0},
	{"UniPC Karras", SDE_SCHEDULER_UNIPC, PRESET_KARRAS},
	{"LCM", SDE_SCHEDULER_LCM, 0},
	{"TCD", SDE_SCHEDULER_TCD, 0},
	{"IPNDM", SDE_SCHEDULER_IPNDM, PRESET_ALIAS},
	{"DDIM inverse", SDE_SCHEDULER_DDIM_INVERSE, PRESET_ALIAS},
	{"Flow Euler", SDE_SCHEDULER_FLOW_MATCH_EULER, PRESET_ALIAS},
	{"Flow Heun", SDE_SCHEDULER_FLOW_MATCH_HEUN, PRESET_ALIAS},
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

/* lower case, only letters, digits and '+' */
static void normalise(const char *name, char ret[NAME_MAX_LENGTH])
{
	size_t n = 0;

	for (; *name && n < NAME_MAX_LENGTH - 1; name++) {
		unsigned char c = (unsigned char)*name;

		if (c < 0x80 && (isalnum(c) || c == '+'))
			ret[n++] = (char)tolower(c);
	}
	ret[n] = '\0';
}

static const struct sampler_name *find(const char *normalised)
{
	for (size_t i = 0; i < N_NAMES; i++) {
		char candidate[NAME_MAX_LENGTH];

		normalise(names[i].name, candidate);
		if (!strcmp(candidate, normalised))
			return &names[i];
	}
	return NULL;
}

/* "... karras" and the like on any sampler that has sigmas */
static const struct sampler_name *find_with_suffix(char *normalised, unsigned int *ret_presets)
{
	static const struct {
		const char *text;
		unsigned int preset;
	} suffixes[] = {{"karras", PRESET_KARRAS},
			{"exponential", PRESET_EXPONENTIAL},
			{"beta", PRESET_BETA}};
	size_t length = strlen(normalised);

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t tail = strlen(suffixes[i].text);
		const struct sampler_name *found;

		if (length <= tail || strcmp(normalised + length - tail, suffixes[i].text))
			continue;
		normalised[length - tail] = '\0';
		found = find(normalised);
		if (!found || found->class_id <= SDE_SCHEDULER_PNDM ||
		    found->class_id == SDE_SCHEDULER_EULER_ANCESTRAL ||
		    found->class_id >= SDE_SCHEDULER_LCM)
			return NULL;
		*ret_presets = suffixes[i].preset;
		return found;
	}
	return NULL;
}

static int list_names(const char *name, struct sde_error *error)
{
	char list[320] = "";
	size_t used = 0;

	for (size_t i = 0; i < N_NAMES && used < sizeof(list) - 40; i++) {
		if (names[i].presets)
			continue;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "",
					 names[i].name);
	}
	return sde_error_set(error, -EINVAL,
			     "no sampler is called \"%.40s\"; known: %s (some also with Karras)",
			     name, list);
}

static bool is_flow(enum sde_scheduler_class class_id)
{
	return class_id == SDE_SCHEDULER_FLOW_MATCH_EULER ||
	       class_id == SDE_SCHEDULER_FLOW_MATCH_HEUN;
}

/* A rectified-flow model needs a sampler that knows flows; returns the class to use or -EINVAL. */
static int adapt_to_flow(enum sde_scheduler_class class_id, struct sde_error *error)
{
	switch (class_id) {
	case SDE_SCHEDULER_EULER:
	case SDE_SCHEDULER_FLOW_MATCH_EULER:
		return SDE_SCHEDULER_FLOW_MATCH_EULER;
	case SDE_SCHEDULER_HEUN:
	case SDE_SCHEDULER_FLOW_MATCH_HEUN:
		return SDE_SCHEDULER_FLOW_MATCH_HEUN;
	case SDE_SCHEDULER_DPM_MULTISTEP:
	case SDE_SCHEDULER_DPM_SINGLESTEP:
	case SDE_SCHEDULER_DEIS:
	case SDE_SCHEDULER_UNIPC:
		return class_id;
	default:
		return sde_error_set(
			error, -EINVAL,
			"%s cannot sample a flow model; Euler, Heun, DPM++ 2M, DEIS or "
			"UniPC can",
			sde_scheduler_class_to_string(class_id));
	}
}

static void apply_presets(struct sde_scheduler_config *config, unsigned int presets)
{
	if (presets & (PRESET_KARRAS | PRESET_EXPONENTIAL | PRESET_BETA)) {
		config->use_karras_sigmas = presets & PRESET_KARRAS;
		config->use_exponential_sigmas = presets & PRESET_EXPONENTIAL;
		config->use_beta_sigmas = presets & PRESET_BETA;
	}
	if (presets & PRESET_SDE)
		config->algorithm_type = SDE_ALGORITHM_SDE_DPMSOLVER_PP;
	if (presets & PRESET_HEUN)
		config->solver_type = SDE_SOLVER_HEUN;
	if (presets & PRESET_THIRD_ORDER)
		config->solver_order = 3;
}

int sde_scheduler_config_from_name(const char *name, const json_t *object,
				   struct sde_scheduler_config *ret_config, struct sde_error *error)
{
	const char *model_name = json_string_value(json_object_get(object, "_class_name"));
	int model_class = model_name ? sde_scheduler_class_from_string(model_name) : -EINVAL;
	int class_id = sde_scheduler_class_from_string(name);
	struct sde_scheduler_config config;
	unsigned int presets = 0;
	int r;

	if (class_id < 0) {
		const struct sampler_name *found;
		char normalised[NAME_MAX_LENGTH];

		normalise(name, normalised);
		found = find(normalised);
		if (!found)
			found = find_with_suffix(normalised, &presets);
		if (!found)
			return list_names(name, error);
		class_id = (int)found->class_id;
		presets |= found->presets;
	}
	if (model_class >= 0 && is_flow((enum sde_scheduler_class)model_class)) {
		class_id = adapt_to_flow((enum sde_scheduler_class)class_id, error);
		if (class_id < 0)
			return class_id;
	} else if (model_class >= 0 && is_flow((enum sde_scheduler_class)class_id)) {
		return sde_error_set(
			error, -EINVAL, "%s samples only flow models",
			sde_scheduler_class_to_string((enum sde_scheduler_class)class_id));
	}
	sde_scheduler_config_init(&config, (enum sde_scheduler_class)class_id);
	if (object) {
		r = sde_scheduler_config_apply_json(&config, object, error);
		if (r < 0)
			return r;
	}
	if (model_class >= 0 && is_flow((enum sde_scheduler_class)model_class) &&
	    !is_flow((enum sde_scheduler_class)class_id)) {
		config.prediction_type = SDE_PREDICTION_FLOW;
		config.use_flow_sigmas = true;
		config.flow_shift = config.shift;
	}
	apply_presets(&config, presets);
	*ret_config = config;
	return 0;
}

const char *sde_scheduler_name(size_t i, enum sde_scheduler_class *ret_class)
{
	for (size_t k = 0; k < N_NAMES; k++) {
		if (names[k].presets & PRESET_ALIAS)
			continue;
		if (i-- == 0) {
			if (ret_class)
				*ret_class = names[k].class_id;
			return names[k].name;
		}
	}
	return NULL;
}
