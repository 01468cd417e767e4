/*
 * Settings as JSON: in a layer's parasite or annotation, and in the file that remembers the values of last time.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/common/fail.h"
#include "plugins/common/settings.h"
#include "plugins/common/text.h"

char *sdh_settings_json(const struct sdh_settings *settings)
{
	json_t *object = json_object();
	char *text;

	for (size_t i = 0; sdh_settings_name(i); i++) {
		const char *value = sdh_settings_get(settings, sdh_settings_name(i));

		if (*value)
			json_object_set_new(object, sdh_settings_name(i), json_string(value));
	}
	text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	return text;
}

int sdh_settings_from_json(struct sdh_settings *settings, const char *text, sdc_error *error)
{
	json_error_t where;
	json_t *all = json_loads(text, 0, &where), *object = all, *value;
	const char *name;
	int r = 0;

	if (!json_is_object(all)) {
		json_decref(all);
		return sdh_fail(error, SDC_E_BAD_VALUE,
				_("The stored parameters cannot be read: %s."), where.text);
	}
	if (json_is_object(json_object_get(all, "settings"))) /* a layer's parameters */
		object = json_object_get(all, "settings");
	json_object_foreach (object, name, value) {
		sdc_error why;

		if (!json_is_string(value))
			continue;
		r = sdh_settings_set(settings, name, json_string_value(value), &why);
		if (r < 0 && r != SDC_E_UNKNOWN_FIELD) {
			if (error)
				*error = why;
			break;
		}
		r = 0;
	}
	json_decref(all);
	return r;
}

/* $XDG_CONFIG_HOME/sdd/plugins.json; false when there is no home. */
static bool memory_path(char path[PATH_MAX], bool make_folder)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (config && *config == '/')
		n = snprintf(path, PATH_MAX, "%s/sdd", config);
	else if (home && *home == '/')
		n = snprintf(path, PATH_MAX, "%s/.config/sdd", home);
	else
		return false;
	if (n < 0 || n > PATH_MAX - 32)
		return false;
	if (make_folder)
		for (char *slash = path; slash; slash = strchr(slash + 1, '/')) {
			char *next = strchr(slash + 1, '/');

			if (next)
				*next = '\0';
			if (mkdir(path, 0700) < 0 && errno != EEXIST)
				return false;
			if (next)
				*next = '/';
		}
	strcat(path, "/plugins.json");
	return true;
}

void sdh_settings_recall(struct sdh_settings *settings)
{
	char path[PATH_MAX], *text;
	json_t *object;

	if (!memory_path(path, false))
		return;
	object = json_load_file(path, 0, NULL);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text)
		sdh_settings_from_json(settings, text, NULL);
	free(text);
	json_decref(object);
}

/* Written beside and renamed, so that two editors at once never leave half a file. */
void sdh_settings_remember(const struct sdh_settings *settings)
{
	char path[PATH_MAX], temporary[PATH_MAX + 16], *text = NULL;
	struct sdh_settings *lasting = sdh_settings_copy(settings);
	size_t length;
	int fd;

	if (lasting) {
		sdh_settings_set(lasting, "selection", NULL, NULL); /* of one picture alone */
		text = sdh_settings_json(lasting);
		sdh_settings_free(lasting);
	}
	length = text ? strlen(text) : 0;

	if (text && memory_path(path, true)) {
		snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
		fd = mkostemp(temporary, O_CLOEXEC);
		if (fd >= 0) {
			const bool whole = write(fd, text, length) == (ssize_t)length;

			close(fd);
			if (!whole || rename(temporary, path) < 0)
				unlink(temporary);
		}
	}
	free(text);
}
