/*
 * JSON with limits: see json.h. One pass over the bytes before jansson checks the depth and replaces the literals of Python.
 */
#include "daemon/engine/formats/json.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"

static const struct literal {
	const char *python;
	const char *json; /* at most twice as long */
} literals[] = {
	{"-Infinity", "-1.7976931348e308"},
	{"Infinity", "1.7976931348e308"},
	{"NaN", "null"},
};

static const struct literal *literal_at(const char *text, size_t left)
{
	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		size_t length = strlen(literals[i].python);

		if (left >= length && !memcmp(text, literals[i].python, length))
			return &literals[i];
	}
	return NULL;
}

/* Depth check and literals outside strings; out (NULL: only count) must hold *ret_size bytes of the counting pass. */
static int prescan(const char *text, size_t size, char *out, size_t *ret_size)
{
	const struct literal *literal;
	bool in_string = false;
	size_t depth = 0, used = 0;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\' && i + 1 < size) {
				if (out)
					out[used] = c;
				used++;
				c = text[++i];
			} else if (c == '"') {
				in_string = false;
			}
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > SDE_JSON_DEPTH_MAX)
				return -EOVERFLOW;
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if ((c == '-' || c == 'I' || c == 'N') &&
			   (literal = literal_at(text + i, size - i))) {
			size_t length = strlen(literal->json);

			if (out)
				memcpy(out + used, literal->json, length);
			used += length;
			i += strlen(literal->python) - 1;
			continue;
		}
		if (out)
			out[used] = c;
		used++;
	}
	*ret_size = used;
	return 0;
}

int sde_json_parse(const char *text, size_t size, const char *origin, json_t **ret_value,
		   struct sde_error *error)
{
	_cleanup_free_ char *rewritten = NULL;
	json_error_t where;
	json_t *value;
	size_t length;

	if (prescan(text, size, NULL, &length) < 0)
		return sde_error_set(error, -EBADMSG, "%s: JSON nested deeper than %d levels",
				     origin, SDE_JSON_DEPTH_MAX);
	if (length != size) {
		rewritten = malloc(length);
		if (!rewritten)
			return sde_error_set(error, -ENOMEM, "%s: no memory for %zu bytes", origin,
					     length);
		prescan(text, size, rewritten, &length);
		text = rewritten;
	}
	value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
	if (!value)
		return sde_error_set(error,
				     json_error_code(&where) == json_error_out_of_memory ? -ENOMEM
											 : -EBADMSG,
				     "%s:%d: not valid JSON: %s", origin, where.line, where.text);
	*ret_value = value;
	return 0;
}

int sde_json_load(const char *path, size_t max_bytes, json_t **ret_object, struct sde_error *error)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_json_ json_t *object = NULL;
	size_t size;
	int r;

	r = sde_file_read(path, max_bytes, &data, &size, error);
	if (r < 0)
		return r;
	r = sde_json_parse(data, size, path, &object, error);
	if (r < 0)
		return r;
	if (!json_is_object(object))
		return sde_error_set(error, -EBADMSG, "%s: expected a JSON object, found an array",
				     path);
	*ret_object = object;
	object = NULL;
	return 0;
}
