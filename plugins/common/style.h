/*
 * Styles: names for a choice of words around the prompt, and the prompt of last resort. Own styles are read from
 * $XDG_CONFIG_HOME/sdd/styles.json, an object {"Name": {"prompt": "{prompt}, in ink", "negative": "photo"}}.
 */
#pragma once

#include "plugins/common/settings.h"

/* The i-th style's name as settings store it, NULL behind the last. Valid until the program ends. */
SDH_API const char *sdh_style_name(size_t i);
/* The same for people, translated where it is one of ours. */
SDH_API const char *sdh_style_label(size_t i);
/* Prompt and negative prompt of the settings, dressed by their style, into the request. */
int sdh_style_apply(sdc_request *request, const struct sdh_settings *settings, sdc_error *error);
