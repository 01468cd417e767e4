/*
 * The sticky config.json reader. A key that is present but null counts as absent, as `config.get(key)` does in diffusers.
 */
#include "daemon/engine/config-keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

void sde_config_fail(struct sde_config_keys *keys, const char *format, ...)
{
	char text[256];
	va_list ap;

	if (keys->r < 0)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	keys->r = sde_error_set(keys->error, -EINVAL, "%s: %s", keys->what, text);
}

static const json_t *lookup(const struct sde_config_keys *keys, const char *key)
{
	const json_t *value = json_object_get(keys->object, key);

	return value && !json_is_null(value) ? value : NULL;
}

bool sde_config_has(const struct sde_config_keys *keys, const char *key)
{
	return lookup(keys, key) != NULL;
}

/* Python writes 8.0 where an integer is meant now and then; a whole real number is taken. */
static int to_int(struct sde_config_keys *keys, const char *key, const json_t *value, int fallback,
		  int min, int max)
{
	double number;

	if (keys->r < 0)
		return fallback;
	number = json_is_number(value) ? json_number_value(value) : 0.5;
	if (number < min || number > max || number != (double)(int)number) {
		sde_config_fail(keys, "'%s' must be a whole number from %d to %d", key, min, max);
		return fallback;
	}
	return (int)number;
}

int sde_config_int(struct sde_config_keys *keys, const char *key, int fallback, int min, int max)
{
	const json_t *value = lookup(keys, key);

	return value ? to_int(keys, key, value, fallback, min, max) : fallback;
}

double sde_config_real(struct sde_config_keys *keys, const char *key, double fallback, double min,
		       double max)
{
	const json_t *value = lookup(keys, key);
	double number;

	if (!value || keys->r < 0)
		return fallback;
	number = json_number_value(value);
	if (!json_is_number(value) || !(number >= min && number <= max)) {
		sde_config_fail(keys, "'%s' must be a number from %g to %g", key, min, max);
		return fallback;
	}
	return number;
}

bool sde_config_bool(struct sde_config_keys *keys, const char *key, bool fallback)
{
	const json_t *value = lookup(keys, key);

	if (!value || keys->r < 0)
		return fallback;
	if (!json_is_boolean(value)) {
		sde_config_fail(keys, "'%s' must be true or false", key);
		return fallback;
	}
	return json_is_true(value);
}

const char *sde_config_string(struct sde_config_keys *keys, const char *key, const char *fallback)
{
	const json_t *value = lookup(keys, key);

	if (!value || keys->r < 0)
		return fallback;
	if (!json_is_string(value)) {
		sde_config_fail(keys, "'%s' must be a string", key);
		return fallback;
	}
	return json_string_value(value);
}

void sde_config_ints(struct sde_config_keys *keys, const char *key, int fallback, int *values,
		     size_t n, int min, int max)
{
	const json_t *value = lookup(keys, key);

	if (json_is_array(value) && json_array_size(value) != n)
		sde_config_fail(keys, "'%s' has %zu entries, there are %zu blocks", key,
				json_array_size(value), n);
	for (size_t i = 0; i < n; i++) {
		if (!value)
			values[i] = fallback;
		else if (!json_is_array(value))
			values[i] = to_int(keys, key, value, fallback, min, max);
		else
			values[i] = to_int(keys, key, json_array_get(value, i), fallback, min, max);
	}
}

bool sde_config_int_rows(struct sde_config_keys *keys, const char *key, int fallback, int *values,
			 size_t stride, const int *counts, size_t n, int min, int max)
{
	const json_t *value = lookup(keys, key), *row, *item;
	bool lists = false;

	if (json_is_array(value) && json_array_size(value) != n)
		sde_config_fail(keys, "'%s' has %zu entries, there are %zu blocks", key,
				json_array_size(value), n);
	for (size_t i = 0; i < n; i++, values += stride) {
		row = json_is_array(value) ? json_array_get(value, i) : value;
		if (json_is_array(row) && json_array_size(row) < (size_t)counts[i])
			sde_config_fail(keys, "'%s' has %zu entries for block %zu, which has %d",
					key, json_array_size(row), i, counts[i]);
		lists = lists || json_is_array(row);
		for (size_t k = 0; k < stride; k++) {
			item = json_is_array(row) ? json_array_get(row, k) : row;
			if (k > 0 && (!json_is_array(row) || k >= (size_t)counts[i]))
				values[k] = values[k - 1];
			else
				values[k] = value ? to_int(keys, key, item, fallback, min, max)
						  : fallback;
		}
	}
	return lists;
}

void sde_config_int_list(struct sde_config_keys *keys, const char *key, int *values, size_t *n,
			 size_t max_n, int min, int max)
{
	const json_t *value = lookup(keys, key);
	size_t size;

	if (!value || keys->r < 0)
		return;
	size = json_array_size(value);
	if (!json_is_array(value) || size < 1 || size > max_n) {
		sde_config_fail(keys, "'%s' must be a list of 1 to %zu numbers", key, max_n);
		return;
	}
	for (size_t i = 0; i < size; i++)
		values[i] = to_int(keys, key, json_array_get(value, i), 1, min, max);
	*n = size;
}

const char *sde_config_list_string(struct sde_config_keys *keys, const char *key, size_t i,
				   size_t n)
{
	const json_t *value = lookup(keys, key);

	if (!value || keys->r < 0)
		return NULL;
	if (!json_is_array(value) || json_array_size(value) != n ||
	    !json_is_string(json_array_get(value, i))) {
		sde_config_fail(keys, "'%s' must be a list of %zu names", key, n);
		return NULL;
	}
	return json_string_value(json_array_get(value, i));
}

void sde_config_only(struct sde_config_keys *keys, const char *key, const char *supported)
{
	const json_t *value = lookup(keys, key);
	json_t *wanted;
	bool equal;

	if (!value || keys->r < 0)
		return;
	wanted = supported ? json_loads(supported, JSON_DECODE_ANY, NULL) : NULL;
	equal = json_is_number(wanted) && json_is_number(value)
			? json_number_value(wanted) == json_number_value(value)
			: json_equal(wanted, value);
	json_decref(wanted);
	if (!equal) {
		char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

		sde_config_fail(keys, "'%s' is %.60s; only %s is supported", key, text ? text : "?",
				supported ? supported : "null");
		free(text);
	}
}
