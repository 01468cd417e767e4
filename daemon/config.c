/*
 * The table of keys, and what applies one key: see config.h. Reading files and the command line is config-load.c.
 */
#include "daemon/config.h"
#include "daemon/config-private.h"
#include "daemon/config-value.h"
#include "daemon/util/cleanup.h"
#include "protocol/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Far from where adding a time to the clock would overflow. */
static const uint64_t time_max_us = 366 * 86400ULL * 1000000;

#define FIELD(_name) offsetof(struct sdd_config, _name)

const struct sdd_config_key sdd_config_keys[] = {
	{"socket", SDD_CONFIG_PATH, FIELD(socket), 0, 0, "PATH", "socket to listen on"},
	{"models", SDD_CONFIG_ROOT, 0, 0, 0, "DIR", "folder of model folders (repeatable)"},
	{"default-model", SDD_CONFIG_WORD, FIELD(default_model), 0, 0, "NAME",
	 "model of jobs that name none; else the first by name"},
	{"worker", SDD_CONFIG_PATH, FIELD(worker), 0, 0, "PATH", "the sdd-worker program"},
	{"backend", SDD_CONFIG_WORD, FIELD(backend), 0, 0, "NAME", "auto, cpu or ref"},
	{"dtype", SDD_CONFIG_WORD, FIELD(dtype), 0, 0, "TYPE", "activations: auto, f32 or bf16"},
	{"threads", SDD_CONFIG_COUNT, FIELD(threads), 0, 1024, "N",
	 "compute threads; 0 = all the cores given to us"},
	{"keep-alive", SDD_CONFIG_TIME, FIELD(keep_alive_us), 0, 0, "TIME",
	 "how long a model stays that no connected client uses"},
	{"memory-budget", SDD_CONFIG_BYTES, FIELD(memory_budget), 0, 0, "SIZE",
	 "memory for models; 0 = what machine and control group leave"},
	{"memory-reserve", SDD_CONFIG_BYTES, FIELD(memory_reserve), 0, 0, "SIZE",
	 "memory left to the desktop; 0 = a quarter, at least 1G"},
	{"cache-bytes", SDD_CONFIG_BYTES, FIELD(cache_bytes), 0, 0, "SIZE",
	 "memory for what jobs have in common; 0 = nothing is kept"},
	{"weights", SDD_CONFIG_FORM, FIELD(weights), 0, 0, "FORM",
	 "of models whose sdd.json names none: auto, stored, f16, bf16 or q8_0"},
	{"allow-user", SDD_CONFIG_UID, 0, 0, 0, "USER",
	 "another user who may connect (repeatable)"},
	{"allow-group", SDD_CONFIG_GID, 0, 0, 0, "GROUP", "whose members may connect (repeatable)"},
	{"log-level", SDD_CONFIG_LEVEL, FIELD(log_level), 0, 7, "LEVEL",
	 "err, warning, notice, info or debug"},
	{"max-connections", SDD_CONFIG_COUNT, FIELD(max_connections), 1, 100000, "N",
	 "clients connected at once"},
	{"max-connections-per-user", SDD_CONFIG_COUNT, FIELD(max_connections_per_user), 1, 100000,
	 "N", "clients of one user connected at once"},
	{"max-jobs", SDD_CONFIG_COUNT, FIELD(max_jobs), 1, 100000, "N",
	 "jobs waiting or running, all users together"},
	{"max-jobs-per-user", SDD_CONFIG_COUNT, FIELD(max_jobs_per_user), 1, 100000, "N",
	 "jobs waiting or running, one user"},
	{"max-waiting-per-connection", SDD_CONFIG_COUNT, FIELD(max_waiting_per_connection), 1,
	 100000, "N", "jobs waiting, one connection"},
	{"batch-pixels", SDD_CONFIG_COUNT, FIELD(batch_pixels), 0, 1 << 24, "N",
	 "largest picture whose jobs may run as one batch; 0 = one job at a time"},
	{"ageing", SDD_CONFIG_TIME, FIELD(ageing_us), 0, 0, "TIME",
	 "a job counts as a class higher for each such time it has waited; 0 = never"},
	{"result-ttl", SDD_CONFIG_TIME, FIELD(result_ttl_us), 1000, 0, "TIME",
	 "how long the result of a detached job is kept"},
	{"result-bytes", SDD_CONFIG_BYTES, FIELD(result_bytes), 0, 0, "SIZE",
	 "kept results in all; the oldest goes first"},
	{"hello-timeout", SDD_CONFIG_TIME, FIELD(hello_timeout_us), 1000, 0, "TIME",
	 "a new client must say hello within"},
	{"frame-timeout", SDD_CONFIG_TIME, FIELD(frame_timeout_us), 1000, 0, "TIME",
	 "a begun message must be complete within"},
	{"drain-timeout", SDD_CONFIG_TIME, FIELD(drain_timeout_us), 1000, 0, "TIME",
	 "a client that reads nothing is cut off after"},
	{"heartbeat-timeout", SDD_CONFIG_TIME, FIELD(heartbeat_timeout_us), 1000, 0, "TIME",
	 "a busy worker that is silent is replaced after"},
	{"engine-timeout", SDD_CONFIG_TIME, FIELD(engine_timeout_us), 1000, 0, "TIME",
	 "a busy worker whose engine makes no headway is replaced after"},
	{"worker-start-timeout", SDD_CONFIG_TIME, FIELD(worker_start_timeout_us), 1000, 0, "TIME",
	 "a new worker must report within"},
	{"idle-exit", SDD_CONFIG_TIME, FIELD(idle_exit_us), 0, 0, "TIME",
	 "end after this time without clients and jobs, if a socket unit starts us; 0 = never"},
};

const size_t sdd_config_n_keys = sizeof(sdd_config_keys) / sizeof(sdd_config_keys[0]);

int sdd_config_fail(struct sdd_config_error *ret_error, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(ret_error->message, sizeof(ret_error->message), format, ap);
	va_end(ap);
	return code;
}

void sdd_config_init(struct sdd_config *config)
{
	*config = (struct sdd_config){
		.log_level = 6,
		.max_connections = 2048,
		.max_connections_per_user = 1024,
		.max_jobs = 64,
		.max_jobs_per_user = 16,
		.max_waiting_per_connection = 4,
		.result_ttl_us = 3600ULL * 1000000,
		.result_bytes = 1ULL << 30,
		.cache_bytes = 512ULL << 20,
		.hello_timeout_us = 5 * 1000000,
		.frame_timeout_us = 10 * 1000000,
		.drain_timeout_us = 10 * 1000000,
		.heartbeat_timeout_us = 10 * 1000000,
		.batch_pixels = 256 * 256,
		.ageing_us = 300 * 1000000ULL,
		.keep_alive_us = 300 * 1000000ULL,
		.engine_timeout_us = 300 * 1000000ULL,
		.worker_start_timeout_us = 30 * 1000000,
		.idle_exit_us = 10 * 60 * 1000000ULL,
	};
}

void sdd_config_clear(struct sdd_config *config)
{
	free(config->socket);
	free(config->worker);
	free(config->default_model);
	free(config->backend);
	free(config->dtype);
	for (size_t i = 0; i < config->n_roots; i++)
		free(config->roots[i]);
	*config = (struct sdd_config){0};
}

static const struct sdd_config_key *find_key(const char *name)
{
	for (size_t i = 0; i < sdd_config_n_keys; i++)
		if (strcmp(name, sdd_config_keys[i].name) == 0)
			return &sdd_config_keys[i];
	return NULL;
}

/* The key that shares the longest beginning with a mistyped one: a hint, not a guess that is acted on. */
static const char *nearest_key(const char *name)
{
	const char *nearest = "socket";
	size_t best = 0;

	for (size_t i = 0; i < sdd_config_n_keys; i++) {
		const char *candidate = sdd_config_keys[i].name;
		size_t n = 0;

		while (name[n] && name[n] == candidate[n])
			n++;
		if (n > best) {
			best = n;
			nearest = candidate;
		}
	}
	return nearest;
}

static int add_root(struct sdd_config *config, const char *origin, const char *value,
		    struct sdd_config_error *ret_error)
{
	char *copy;

	if (config->replace_roots)
		while (config->n_roots > 0)
			free(config->roots[--config->n_roots]);
	config->replace_roots = false;
	if (config->n_roots == SDD_CONFIG_ROOTS_MAX)
		return sdd_config_fail(ret_error, -EINVAL, "%s: more than %d model folders", origin,
				       SDD_CONFIG_ROOTS_MAX);
	copy = strdup(value);
	if (!copy)
		return sdd_config_fail(ret_error, -ENOMEM, "%s: out of memory", origin);
	config->roots[config->n_roots++] = copy;
	return 0;
}

static int add_uid(struct sdd_config *config, const char *origin, const char *value,
		   struct sdd_config_error *ret_error)
{
	uid_t uid;

	if (config->n_allowed_uids == SDD_CONFIG_UIDS_MAX)
		return sdd_config_fail(ret_error, -EINVAL, "%s: more than %d allowed users", origin,
				       SDD_CONFIG_UIDS_MAX);
	if (sdd_value_parse_uid(value, &uid) < 0)
		return sdd_config_fail(ret_error, -EINVAL,
				       "%s: '%s' is no user of this machine; give a name or a uid",
				       origin, value);
	config->allowed_uids[config->n_allowed_uids++] = uid;
	return 0;
}

static int add_gid(struct sdd_config *config, const char *origin, const char *value,
		   struct sdd_config_error *ret_error)
{
	gid_t gid;

	if (config->n_allowed_gids == SDD_CONFIG_GIDS_MAX)
		return sdd_config_fail(ret_error, -EINVAL, "%s: more than %d allowed groups",
				       origin, SDD_CONFIG_GIDS_MAX);
	if (sdd_value_parse_gid(value, &gid) < 0)
		return sdd_config_fail(ret_error, -EINVAL,
				       "%s: '%s' is no group of this machine; give a name or a gid",
				       origin, value);
	config->allowed_gids[config->n_allowed_gids++] = gid;
	return 0;
}

static int set_text(struct sdd_config *config, const struct sdd_config_key *key, const char *origin,
		    const char *value, struct sdd_config_error *ret_error)
{
	char **place = (char **)((char *)config + key->offset);
	char *copy;

	if (!*value)
		return sdd_config_fail(ret_error, -EINVAL, "%s: '%s' needs a %s", origin, key->name,
				       key->argument);
	copy = strdup(value);
	if (!copy)
		return sdd_config_fail(ret_error, -ENOMEM, "%s: out of memory", origin);
	free(*place);
	*place = copy;
	return 0;
}

static int set_number(struct sdd_config *config, const struct sdd_config_key *key,
		      const char *origin, const char *value, struct sdd_config_error *ret_error)
{
	uint64_t *place = (uint64_t *)((char *)config + key->offset);
	uint64_t number = 0;

	switch (key->type) {
	case SDD_CONFIG_TIME:
		if (sdd_value_parse_time(value, &number) < 0 || number < key->minimum ||
		    number > time_max_us)
			return sdd_config_fail(
				ret_error, -EINVAL,
				"%s: '%s' is no time for '%s'; write 500ms, 5s, 10min, 1h, at most "
				"366d",
				origin, value, key->name);
		break;
	case SDD_CONFIG_BYTES:
		if (sdd_value_parse_bytes(value, &number) < 0)
			return sdd_config_fail(ret_error, -EINVAL,
					       "%s: '%s' is no size for '%s'; write 64K, 256M, 2G",
					       origin, value, key->name);
		break;
	case SDD_CONFIG_LEVEL:
		if (sdd_value_parse_level(value, &number) < 0)
			return sdd_config_fail(
				ret_error, -EINVAL,
				"%s: '%s' is no log level; use err, warning, notice, info or debug",
				origin, value);
		break;
	case SDD_CONFIG_FORM:
		if (sdd_value_parse_form(value, &number) < 0)
			return sdd_config_fail(ret_error, -EINVAL,
					       "%s: '%s' is no form of weights; use auto, stored, "
					       "f16, bf16 or q8_0",
					       origin, value);
		break;
	default:
		if (sdd_value_parse_count(value, key->minimum, key->maximum, &number) < 0)
			return sdd_config_fail(
				ret_error, -EINVAL,
				"%s: '%s' is not a number from %" PRIu64 " to %" PRIu64 " for '%s'",
				origin, value, key->minimum, key->maximum, key->name);
	}
	*place = number;
	return 0;
}

int sdd_config_set(struct sdd_config *config, const char *origin, const char *key,
		   const char *value, struct sdd_config_error *ret_error)
{
	const struct sdd_config_key *entry = find_key(key);

	if (!entry)
		return sdd_config_fail(
			ret_error, -EINVAL,
			"%s: no key '%s' (did you mean '%s'?); sdd.conf(5) lists all", origin, key,
			nearest_key(key));
	switch (entry->type) {
	case SDD_CONFIG_ROOT:
		if (!*value)
			return sdd_config_fail(ret_error, -EINVAL, "%s: 'models' needs a DIR",
					       origin);
		return add_root(config, origin, value, ret_error);
	case SDD_CONFIG_UID:
		return add_uid(config, origin, value, ret_error);
	case SDD_CONFIG_GID:
		return add_gid(config, origin, value, ret_error);
	case SDD_CONFIG_PATH:
	case SDD_CONFIG_WORD:
		return set_text(config, entry, origin, value, ret_error);
	default:
		return set_number(config, entry, origin, value, ret_error);
	}
}

void sdd_config_dump(const struct sdd_config *config, FILE *to)
{
	for (size_t i = 0; i < sdd_config_n_keys; i++) {
		const struct sdd_config_key *key = &sdd_config_keys[i];
		const void *place = (const char *)config + key->offset;

		switch (key->type) {
		case SDD_CONFIG_ROOT:
			for (size_t n = 0; n < config->n_roots; n++)
				fprintf(to, "models = %s\n", config->roots[n]);
			break;
		case SDD_CONFIG_UID:
			for (size_t n = 0; n < config->n_allowed_uids; n++)
				fprintf(to, "allow-user = %u\n", config->allowed_uids[n]);
			break;
		case SDD_CONFIG_GID:
			for (size_t n = 0; n < config->n_allowed_gids; n++)
				fprintf(to, "allow-group = %u\n", config->allowed_gids[n]);
			break;
		case SDD_CONFIG_PATH:
		case SDD_CONFIG_WORD:
			if (*(char *const *)place)
				fprintf(to, "%s = %s\n", key->name, *(char *const *)place);
			break;
		case SDD_CONFIG_FORM:
			fprintf(to, "%s = %s\n", key->name,
				sdp_enum_weights_form.values[*(const uint64_t *)place]);
			break;
		default:
			fprintf(to, "%s = %" PRIu64 "%s\n", key->name, *(const uint64_t *)place,
				key->type == SDD_CONFIG_TIME ? "us" : "");
		}
	}
}

void sdd_config_help(FILE *to)
{
	fputs("sdd - keeps diffusion models loaded and paints for its clients\n"
	      "\n"
	      "Usage: sdd [OPTION...]\n"
	      "\n"
	      "  --config FILE                     read FILE instead of the usual sdd.conf\n"
	      "  --dump-config                     print the effective configuration and exit\n"
	      "  --help, --version                 print and exit\n"
	      "\n"
	      "Every key of sdd.conf(5) is an option too:\n",
	      to);
	for (size_t i = 0; i < sdd_config_n_keys; i++) {
		const struct sdd_config_key *key = &sdd_config_keys[i];
		int used = fprintf(to, "  --%s %s", key->name, key->argument);

		fprintf(to, "%*s%s\n", used < 36 ? 36 - used : 1, "", key->help);
	}
}
