/*
 * Words around a prompt; see style.h.
 */
#include "plugins/common/style.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/text.h"

#define STYLES_MAX 64

static struct style {
	const char *name, *label, *prompt, *negative;
} styles[STYLES_MAX + 1] = {
	{"photograph", N_("Photograph"), "photograph of {prompt}, natural light, sharp focus",
	 "drawing, painting, cartoon"},
	{"oil", N_("Oil painting"), "oil painting of {prompt}, visible brush strokes",
	 "photograph"},
	{"watercolour", N_("Watercolour"), "watercolour of {prompt}, paper texture, soft edges",
	 "photograph"},
	{"ink", N_("Ink drawing"), "ink drawing of {prompt}, clean lines", "photograph, colour"},
	{"concept", N_("Concept art"), "concept art of {prompt}, detailed", "blurry"},
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? strdup(text) : NULL;
}

/* Own styles stay in memory until the program ends: plug-ins are short-lived and the list is read once. */
static void load(void)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME"), *name;
	char path[PATH_MAX];
	static bool loaded;
	json_t *all, *style;
	size_t n = 0;

	if (loaded)
		return;
	loaded = true;
	while (styles[n].name)
		n++;
	if (config && *config == '/')
		snprintf(path, sizeof(path), "%s/sdd/styles.json", config);
	else
		snprintf(path, sizeof(path), "%s/.config/sdd/styles.json", home ? home : "");
	all = json_load_file(path, 0, NULL);
	json_object_foreach (all, name, style) {
		if (n == STYLES_MAX || !json_is_object(style))
			continue;
		styles[n].name = strdup(name);
		styles[n].label = styles[n].name;
		styles[n].prompt = text_of(style, "prompt");
		styles[n].negative = text_of(style, "negative");
		n++;
	}
	json_decref(all);
}

const char *sdh_style_name(size_t i)
{
	load();
	return i < STYLES_MAX ? styles[i].name : NULL;
}

const char *sdh_style_label(size_t i)
{
	const char *label;

	load();
	label = i < STYLES_MAX ? styles[i].label : NULL;
	return label && *label ? _(label) : label;
}

static const struct style *find(const char *name, sdc_error *error)
{
	char names[512] = "";
	size_t used = 0;

	load();
	for (size_t i = 0; styles[i].name; i++) {
		if (!strcmp(styles[i].name, name))
			return &styles[i];
		if (used < sizeof(names))
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
						 i ? ", " : "", styles[i].name);
	}
	sdh_fail(error, SDC_E_BAD_VALUE, _("There is no style “%.60s”. There are: %s."), name,
		 names);
	return NULL;
}

/* The template with {prompt} replaced; without the mark the template follows the prompt. malloc'd or NULL. */
static char *dress(const char *pattern, const char *prompt)
{
	const char *mark = strstr(pattern, "{prompt}");
	char *text = NULL;
	int n;

	if (!*prompt)
		return strdup("");
	if (mark)
		n = asprintf(&text, "%.*s%s%s", (int)(mark - pattern), pattern, prompt,
			     mark + strlen("{prompt}"));
	else
		n = asprintf(&text, "%s, %s", prompt, pattern);
	return n < 0 ? NULL : text;
}

int sdh_style_apply(sdc_request *request, const struct sdh_settings *settings, sdc_error *error)
{
	const char *name = sdh_settings_get(settings, "style");
	const char *prompt = sdh_settings_get(settings, "prompt");
	const char *negative = sdh_settings_get(settings, "negative");
	const struct style *style = *name ? find(name, error) : NULL;
	char *text = NULL;
	int r = 0;

	if (*name && !style)
		return error ? error->code : SDC_E_BAD_VALUE;
	if (!*prompt && sdh_settings_action(settings) == SDH_REMOVE)
		prompt = "background scenery";
	if (style && style->prompt) {
		text = dress(style->prompt, prompt);
		if (!text)
			return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
		prompt = text;
	}
	if (*prompt)
		r = sdc_request_set_string(request, "prompt", prompt, error);
	free(text);
	text = NULL;
	if (r >= 0 && style && style->negative) {
		if (asprintf(&text, "%s%s%s", negative, *negative ? ", " : "", style->negative) < 0)
			return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
		r = sdc_request_set_string(request, "negative_prompt", text, error);
		free(text);
	}
	return r;
}
