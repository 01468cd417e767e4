/*
 * What can be configured, from the least to the most specific: built-in defaults, /etc/sdd/sdd.conf, the user's
 * sdd.conf (or the one --config names, which replaces both files), the command line. One table serves files, options
 * and --help, so that every key exists in all three and is documented in sdd.conf(5).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
	SDD_CONFIG_ROOTS_MAX = 32,
	SDD_CONFIG_UIDS_MAX = 16,
	SDD_CONFIG_GIDS_MAX = 16,
};

struct sdd_config {
	char *socket; /* path; NULL until sdd_config_finish() */
	char *worker; /* path of sdd-worker */
	char *roots[SDD_CONFIG_ROOTS_MAX];
	size_t n_roots;
	bool replace_roots; /* the next root drops those of less specific sources */
	uid_t allowed_uids[SDD_CONFIG_UIDS_MAX]; /* beside the daemon's own uid and root */
	size_t n_allowed_uids;
	gid_t allowed_gids[SDD_CONFIG_GIDS_MAX];
	size_t n_allowed_gids;
	char *default_model;	/* NULL = the first one found */
	char *backend;		/* "auto", "cpu", "ref"; passed on to the worker, which judges it */
	char *dtype;		/* "auto", "f32", "bf16" */
	uint64_t threads;	/* 0 = what affinity and cgroup allow */
	uint64_t keep_alive_us; /* of a model that no connected client has used */
	uint64_t memory_budget; /* bytes; 0 = sdd_budget_read() */
	uint64_t memory_reserve; /* bytes that sdd_budget_read() leaves; 0 = its own choice */
	uint64_t cache_bytes;	 /* of the engine's caches together */
	uint64_t weights;	 /* enum sdp_weights_form, of models whose sdd.json names none */
	uint64_t log_level;	 /* 0..7 as syslog(3) */
	uint64_t max_connections, max_connections_per_user;
	uint64_t max_jobs, max_jobs_per_user, max_waiting_per_connection;
	uint64_t batch_pixels;		      /* largest picture in company; 0 = none; batch.h */
	uint64_t ageing_us;		      /* 0 = never; queue.h */
	uint64_t result_ttl_us, result_bytes; /* for detached jobs nobody has fetched yet */
	uint64_t hello_timeout_us, frame_timeout_us, drain_timeout_us;
	uint64_t heartbeat_timeout_us, engine_timeout_us, worker_start_timeout_us;
	uint64_t idle_exit_us; /* 0 = never; for a daemon that a socket unit starts */
};

struct sdd_config_error {
	char message[512]; /* "FILE:LINE: what is wrong and what would be right" */
};

/* What the command line asks for beside configuration. */
enum sdd_config_action {
	SDD_CONFIG_RUN,
	SDD_CONFIG_HELP,
	SDD_CONFIG_VERSION,
	SDD_CONFIG_DUMP, /* --dump-config: print the effective configuration */
};

void sdd_config_init(struct sdd_config *config);
void sdd_config_clear(struct sdd_config *config);

/* Set one key as a file would; origin ("FILE:LINE" or "--key") begins the message. 0, -EINVAL or -ENOMEM. */
int sdd_config_set(struct sdd_config *config, const char *origin, const char *key,
		   const char *value, struct sdd_config_error *ret_error);

/* Read `key = value` lines ('#' comments) from text of this length; name is for messages. 0, -EINVAL, -ENOMEM. */
int sdd_config_parse(struct sdd_config *config, const char *name, const char *text, size_t length,
		     struct sdd_config_error *ret_error);

/*
 * Everything at once: files, then options, then defaults that depend on the environment (socket, roots, worker).
 * Returns 0, or -EINVAL, -ENOENT (a file named by --config is missing), -EIO, -ENOMEM with *ret_error filled.
 */
int sdd_config_load(struct sdd_config *config, int argc, char **argv,
		    enum sdd_config_action *ret_action, struct sdd_config_error *ret_error);

void sdd_config_help(FILE *to);
/* Prints the configuration in the syntax of sdd.conf(5). */
void sdd_config_dump(const struct sdd_config *config, FILE *to);
