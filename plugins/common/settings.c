/*
 * See settings.h. The table below is the only list of settings; adding one is adding a line.
 */
#include "plugins/common/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/selection.h"
#include "plugins/common/text.h"

#define TEXT_MAX 16384 /* the protocol's limit of a prompt */

const struct sdh_action_info sdh_actions[SDH_N_ACTIONS] = {
	[SDH_GENERATE] = {"generate", N_("Generate"),
			  N_("Paint a new picture over the canvas or into the selection."), false,
			  false},
	[SDH_REFINE] =
		{"refine", N_("Refine"),
		 N_("Repaint the canvas or the selection, keeping what is there by strength."),
		 false, true},
	[SDH_FILL] = {"fill", N_("Fill"),
		      N_("Fill the selection so that it fits its surroundings."), true, true},
	[SDH_EXPAND] = {"expand", N_("Expand"), N_("Continue the surroundings into the selection."),
			true, true},
	[SDH_ADD] = {"add", N_("Add"), N_("Add something new in the selection."), true, true},
	[SDH_REMOVE] = {"remove", N_("Remove"),
			N_("Remove what is selected and paint what lies behind it."), true, true},
	[SDH_BACKGROUND] = {"background", N_("Replace background"),
			    N_("Keep the selection and repaint everything else."), true, true},
	[SDH_OUTPAINT] = {"outpaint", N_("Outpaint"), N_("Grow the canvas and paint the new part."),
			  false, false},
	[SDH_UPSCALE] = {"upscale", N_("Upscale"),
			 N_("Make the whole picture larger and paint finer detail into it."), false,
			 true},
};

enum form { FORM_TEXT, FORM_FLAG, FORM_ACTION, FORM_CONTEXT, FORM_SELECTION };

static const struct setting {
	const char *name, *field; /* ours, the protocol's or NULL */
	enum form form;
} table[] = {
	{"action", NULL, FORM_ACTION},
	{"prompt", "prompt", FORM_TEXT},
	{"negative", "negative_prompt", FORM_TEXT},
	{"style", NULL, FORM_TEXT},
	{"model", "model", FORM_TEXT},
	{"steps", "steps", FORM_TEXT},
	{"guidance", "guidance_scale", FORM_TEXT},
	{"sampler", "sampler", FORM_TEXT},
	{"clip-skip", "clip_skip", FORM_TEXT},
	{"seed", "seed", FORM_TEXT},
	{"lock-seed", NULL, FORM_FLAG},
	{"count", "count", FORM_TEXT},
	{"strength", "strength", FORM_TEXT},
	{"exact", NULL, FORM_FLAG},
	{"grow", "grow", FORM_TEXT},
	{"feather", "feather", FORM_TEXT},
	{"padding", "padding", FORM_TEXT},
	{"context", NULL, FORM_CONTEXT},
	{"color-match", "color_match", FORM_TEXT},
	{"left", "left", FORM_TEXT},
	{"right", "right", FORM_TEXT},
	{"top", "top", FORM_TEXT},
	{"bottom", "bottom", FORM_TEXT},
	{"scale", "scale", FORM_TEXT},
	{"selection", NULL, FORM_SELECTION},
};

enum { N_SETTINGS = sizeof(table) / sizeof(table[0]) };

struct sdh_settings {
	char *values[N_SETTINGS]; /* NULL = "" */
};

struct sdh_settings *sdh_settings_new(void)
{
	return calloc(1, sizeof(struct sdh_settings));
}

struct sdh_settings *sdh_settings_free(struct sdh_settings *settings)
{
	for (size_t i = 0; settings && i < N_SETTINGS; i++)
		free(settings->values[i]);
	free(settings);
	return NULL;
}

struct sdh_settings *sdh_settings_copy(const struct sdh_settings *settings)
{
	struct sdh_settings *copy = sdh_settings_new();

	for (size_t i = 0; copy && i < N_SETTINGS; i++) {
		if (!settings->values[i])
			continue;
		copy->values[i] = strdup(settings->values[i]);
		if (!copy->values[i])
			return sdh_settings_free(copy);
	}
	return copy;
}

static int find(const char *name)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (!strcmp(table[i].name, name) ||
		    (table[i].field && !strcmp(table[i].field, name)))
			return (int)i;
	return -1;
}

const char *sdh_settings_name(size_t i)
{
	return i < N_SETTINGS ? table[i].name : NULL;
}

const char *sdh_settings_field(size_t i)
{
	return i < N_SETTINGS ? table[i].field : NULL;
}

static int unknown(const char *name, sdc_error *error)
{
	char names[384] = "";

	for (size_t i = 0; i < N_SETTINGS; i++) {
		strcat(names, i ? ", " : "");
		strcat(names, table[i].name);
	}
	return sdh_fail(error, SDC_E_UNKNOWN_FIELD,
			_("There is no setting “%.40s”. There are: %s."), name, names);
}

static bool is_flag(const char *value)
{
	static const char *const words[] = {"true", "false", "yes", "no", "1", "0"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(value, words[i]))
			return true;
	return false;
}

static bool is_context(const char *value)
{
	int x, y, width, height, end = 0;

	if (!strcmp(value, "auto") || !strcmp(value, "selection") || !strcmp(value, "image") ||
	    !strcmp(value, "layer"))
		return true;
	return sscanf(value, "%d,%d,%d,%d%n", &x, &y, &width, &height, &end) == 4 && !value[end];
}

static bool is_action(const char *value)
{
	for (size_t i = 0; i < SDH_N_ACTIONS; i++)
		if (!strcmp(sdh_actions[i].name, value))
			return true;
	return false;
}

/* Protocol fields are judged by a request that may carry them: inpaint, outpaint and upscale together carry all. */
static int check_field(const char *name, const char *field, const char *value, sdc_error *error)
{
	const bool side = !strcmp(field, "left") || !strcmp(field, "right") ||
			  !strcmp(field, "top") || !strcmp(field, "bottom");
	const char *kind = side ? "outpaint" : !strcmp(field, "scale") ? "upscale" : "inpaint";
	sdc_request *request = sdc_job_request_new(kind, error);
	int r;

	if (!request)
		return error ? error->code : SDC_E_NO_MEMORY;
	r = sdc_request_set_text(request, field, value, error);
	sdc_request_free(request);
	return r;
}

static int check(size_t i, const char *value, sdc_error *error)
{
	const char *name = table[i].name;
	struct sdh_rect bounds;

	switch (table[i].form) {
	case FORM_FLAG:
		return is_flag(value)
			       ? 0
			       : sdh_fail(error, SDC_E_BAD_VALUE,
					  _("%s is “%.40s”: it must be yes or no."), name, value);
	case FORM_ACTION:
		return is_action(value)
			       ? 0
			       : sdh_fail(error, SDC_E_BAD_VALUE,
					  _("There is no action “%.40s”. There are: generate, "
					    "refine, fill, expand, add, remove, background, "
					    "outpaint, upscale."),
					  value);
	case FORM_CONTEXT:
		return is_context(value)
			       ? 0
			       : sdh_fail(error, SDC_E_BAD_VALUE,
					  _("context is “%.40s”: it must be auto, "
					    "selection, image, layer or x,y,width,height."),
					  value);
	case FORM_SELECTION:
		return sdh_selection_bounds(value, &bounds)
			       ? 0
			       : sdh_fail(error, SDC_E_BAD_VALUE,
					  _("selection is “%.40s”: it must be x,y,width,height."),
					  value);
	case FORM_TEXT:
		break;
	}
	if (strlen(value) > TEXT_MAX)
		return sdh_fail(error, SDC_E_BAD_VALUE, _("%s is longer than %d bytes."), name,
				TEXT_MAX);
	return table[i].field ? check_field(name, table[i].field, value, error) : 0;
}

int sdh_settings_set(struct sdh_settings *settings, const char *name, const char *value,
		     sdc_error *error)
{
	const int i = find(name);
	char *copy = NULL;
	int r;

	if (i < 0)
		return unknown(name, error);
	if (value && *value) {
		r = check((size_t)i, value, error);
		if (r < 0)
			return r;
		copy = strdup(value);
		if (!copy)
			return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	}
	free(settings->values[i]);
	settings->values[i] = copy;
	return 0;
}

const char *sdh_settings_get(const struct sdh_settings *settings, const char *name)
{
	const int i = find(name);

	return i >= 0 && settings->values[i] ? settings->values[i] : "";
}

bool sdh_settings_flag(const struct sdh_settings *settings, const char *name)
{
	const char *value = sdh_settings_get(settings, name);

	return !strcmp(value, "true") || !strcmp(value, "yes") || !strcmp(value, "1");
}

enum sdh_action sdh_settings_action(const struct sdh_settings *settings)
{
	const char *name = sdh_settings_get(settings, "action");

	for (size_t i = 0; i < SDH_N_ACTIONS; i++)
		if (!strcmp(sdh_actions[i].name, name))
			return (enum sdh_action)i;
	return SDH_GENERATE;
}

/* One value: a word, or a text in quotes in which \ takes the next byte as it is. Returns the place behind it. */
static const char *read_value(const char *text, char *value)
{
	const char quote = *text == '"' || *text == '\'' ? *text++ : 0;

	while (*text && (quote ? *text != quote : !isspace((unsigned char)*text))) {
		if (quote && *text == '\\' && text[1])
			text++;
		*value++ = *text++;
	}
	*value = '\0';
	if (!quote)
		return text;
	return *text == quote ? text + 1 : NULL;
}

int sdh_settings_parse(struct sdh_settings *settings, const char *text, sdc_error *error)
{
	char *value = malloc(strlen(text) + 1);
	int r = value ? 0 : sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));

	while (r >= 0) {
		char name[64];
		size_t length;

		text += strspn(text, " \t\r\n");
		if (!*text)
			break;
		length = strcspn(text, "= \t\r\n");
		if (text[length] != '=' || length == 0 || length >= sizeof(name)) {
			r = sdh_fail(error, SDC_E_BAD_VALUE,
				     _("“%.40s”: write settings as name=value."), text);
			break;
		}
		memcpy(name, text, length);
		name[length] = '\0';
		text = read_value(text + length + 1, value);
		if (!text)
			r = sdh_fail(error, SDC_E_BAD_VALUE, _("%s: the closing quote is missing."),
				     name);
		else
			r = sdh_settings_set(settings, name, value, error);
	}
	free(value);
	return r;
}
