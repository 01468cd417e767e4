/*
 * What an artist has chosen: a flat record of named texts, so that a dialog, a script ("strength=0.6 seed=7"), a layer's
 * stored parameters and the values remembered from last time are the same thing. "" means: the daemon's default. Most
 * names are fields of job.submit, and the client library checks their values by the protocol's own tables.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/sdclient.h"

#define SDH_API __attribute__((visibility("default")))

enum sdh_action {
	SDH_GENERATE,
	SDH_REFINE,
	SDH_FILL,
	SDH_EXPAND,
	SDH_ADD,
	SDH_REMOVE,
	SDH_BACKGROUND,
	SDH_OUTPAINT,
	SDH_UPSCALE,
	SDH_N_ACTIONS,
};

struct sdh_action_info {
	const char *name;  /* "fill": in scripts and stored parameters */
	const char *label; /* "Fill", to be translated */
	const char *help;  /* one sentence, to be translated */
	bool needs_selection, uses_strength;
};

SDH_API extern const struct sdh_action_info sdh_actions[SDH_N_ACTIONS];

struct sdh_settings;

SDH_API struct sdh_settings *sdh_settings_new(void);
SDH_API struct sdh_settings *sdh_settings_copy(const struct sdh_settings *settings);
SDH_API struct sdh_settings *sdh_settings_free(struct sdh_settings *settings);

/*
 * Set a value from text; NULL and "" mean the default. SDC_E_UNKNOWN_FIELD names the settings there are; SDC_E_BAD_VALUE
 * says what would be right. A failure leaves the setting as it was.
 */
SDH_API int sdh_settings_set(struct sdh_settings *settings, const char *name, const char *value,
			     sdc_error *ret_error);
/* Never NULL; "" for the default and for unknown names. Valid until the setting is set again. */
SDH_API const char *sdh_settings_get(const struct sdh_settings *settings, const char *name);
/* The i-th setting's name, NULL behind the last. */
SDH_API const char *sdh_settings_name(size_t i);
bool sdh_settings_flag(const struct sdh_settings *settings, const char *name);
enum sdh_action sdh_settings_action(const struct sdh_settings *settings);

/* Named values as a script writes them: `strength=0.6 negative="blurry, dark" seed=7`. Stops at the first error. */
SDH_API int sdh_settings_parse(struct sdh_settings *settings, const char *text,
			       sdc_error *ret_error);
/* One line of JSON with what is not default; malloc'd, NULL when memory runs out. */
SDH_API char *sdh_settings_json(const struct sdh_settings *settings);
/* From such a line, or from a layer's stored parameters. Names of a newer version are passed over. */
SDH_API int sdh_settings_from_json(struct sdh_settings *settings, const char *json,
				   sdc_error *ret_error);

/* The values of last time, of all hosts: $XDG_CONFIG_HOME/sdd/plugins.json. A missing or broken file is no error. */
SDH_API void sdh_settings_recall(struct sdh_settings *settings);
SDH_API void sdh_settings_remember(const struct sdh_settings *settings);

/* The protocol's name of the i-th setting, NULL when it is the plug-ins' own. */
const char *sdh_settings_field(size_t i);
