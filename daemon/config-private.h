/*
 * What config.c and config-load.c share: the table of keys.
 */
#pragma once

#include "daemon/config.h"

#include <stdarg.h>

enum sdd_config_type {
	SDD_CONFIG_PATH,
	SDD_CONFIG_WORD,
	SDD_CONFIG_ROOT,
	SDD_CONFIG_UID,
	SDD_CONFIG_GID,
	SDD_CONFIG_COUNT,
	SDD_CONFIG_TIME,
	SDD_CONFIG_BYTES,
	SDD_CONFIG_LEVEL,
	SDD_CONFIG_FORM,
};

struct sdd_config_key {
	const char *name;
	enum sdd_config_type type;
	size_t offset; /* of the field in struct sdd_config; unused for lists */
	uint64_t minimum, maximum;
	const char *argument, *help;
};

extern const struct sdd_config_key sdd_config_keys[];
extern const size_t sdd_config_n_keys;

int sdd_config_fail(struct sdd_config_error *ret_error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
