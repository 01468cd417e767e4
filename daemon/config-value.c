/*
 * The value syntax of sdd.conf(5); see config-value.h.
 */
#include "daemon/config-value.h"
#include "protocol/schema.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit time_units[] = {
	{"us", 1},	   {"ms", 1000},	 {"s", 1000000},
	{"min", 60000000}, {"h", 3600000000ULL}, {"d", 86400000000ULL},
};

static const struct unit byte_units[] = {
	{"K", 1ULL << 10},
	{"M", 1ULL << 20},
	{"G", 1ULL << 30},
	{"B", 1},
};

static const char *const level_names[] = {
	"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
};

static int parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	*ret = value;
	*ret_end = text;
	return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t n_units,
			   uint64_t bare_factor, uint64_t *ret)
{
	uint64_t value, factor = bare_factor;
	const char *end;
	int r;

	r = parse_digits(text, &value, &end);
	if (r < 0)
		return r;
	while (*end == ' ')
		end++;
	if (*end) {
		size_t i;

		for (i = 0; i < n_units && strcmp(end, units[i].name) != 0; i++)
			;
		if (i == n_units)
			return -EINVAL;
		factor = units[i].factor;
	}
	if (__builtin_mul_overflow(value, factor, &value))
		return -ERANGE;
	*ret = value;
	return 0;
}

int sdd_value_parse_count(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret)
{
	const char *end;
	uint64_t value;
	int r;

	r = parse_digits(text, &value, &end);
	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	if (value < minimum || value > maximum)
		return -ERANGE;
	*ret = value;
	return 0;
}

int sdd_value_parse_time(const char *text, uint64_t *ret_us)
{
	return parse_with_unit(text, time_units, sizeof(time_units) / sizeof(time_units[0]),
			       1000000, ret_us);
}

int sdd_value_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	return parse_with_unit(text, byte_units, sizeof(byte_units) / sizeof(byte_units[0]), 1,
			       ret_bytes);
}

/* A number; the two that mean "nobody in particular" to the kernel are neither users nor groups. */
static int parse_id(const char *text, uint32_t *ret)
{
	uint64_t number;

	if (sdd_value_parse_count(text, 0, UINT32_MAX - 1, &number) < 0 || number == 65535)
		return -EINVAL;
	*ret = (uint32_t)number;
	return 0;
}

int sdd_value_parse_uid(const char *text, uid_t *ret_uid)
{
	const struct passwd *entry;

	if (parse_id(text, ret_uid) == 0)
		return 0;
	entry = getpwnam(text);
	if (!entry)
		return -EINVAL;
	*ret_uid = entry->pw_uid;
	return 0;
}

int sdd_value_parse_gid(const char *text, gid_t *ret_gid)
{
	const struct group *entry;

	if (parse_id(text, ret_gid) == 0)
		return 0;
	entry = getgrnam(text);
	if (!entry)
		return -EINVAL;
	*ret_gid = entry->gr_gid;
	return 0;
}

int sdd_value_parse_level(const char *text, uint64_t *ret_level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*ret_level = i;
			return 0;
		}
	}
	return sdd_value_parse_count(text, 0, 7, ret_level);
}

int sdd_value_parse_form(const char *text, uint64_t *ret_form)
{
	for (size_t i = 0; i < sdp_enum_weights_form.n_values; i++)
		if (strcmp(text, sdp_enum_weights_form.values[i]) == 0) {
			*ret_form = i;
			return 0;
		}
	return -EINVAL;
}
