/*
 * Reading a component's config.json: one sticky reader per file. Every accessor takes the default that diffusers or
 * transformers would use for an absent or null key (old folders lack most keys) and the range the program can live with;
 * the first bad key fills the error with "file: key is ..., must be ..." and turns the later calls into no-ops that
 * return the default, so that a config reads as one column of assignments followed by one check.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct sde_error;

struct sde_config_keys {
	const json_t *object; /* borrowed */
	const char *what;     /* prefix of messages: "unet/config.json" */
	int r;		      /* 0 or the first error */
	struct sde_error *error;
};

int sde_config_int(struct sde_config_keys *keys, const char *key, int fallback, int min, int max);
double sde_config_real(struct sde_config_keys *keys, const char *key, double fallback, double min,
		       double max);
bool sde_config_bool(struct sde_config_keys *keys, const char *key, bool fallback);
/* NULL stays NULL; the string belongs to the JSON object. */
const char *sde_config_string(struct sde_config_keys *keys, const char *key, const char *fallback);

/* An integer (repeated n times) or a list of exactly n integers into values[0..n); fallback is repeated. */
void sde_config_ints(struct sde_config_keys *keys, const char *key, int fallback, int *values,
		     size_t n, int min, int max);

/*
 * n rows of `stride` values: an integer for all rows, or a list of n entries, each an integer or a list of at least counts[i] integers for
 * the first values of its row (whose rest repeats the last of them). True when a row was a list.
 */
bool sde_config_int_rows(struct sde_config_keys *keys, const char *key, int fallback, int *values,
			 size_t stride, const int *counts, size_t n, int min, int max);

/*
 * A list of 1..max_n integers; absent leaves values and *n as the caller set them (the default list).
 */
void sde_config_int_list(struct sde_config_keys *keys, const char *key, int *values, size_t *n,
			 size_t max_n, int min, int max);

/* String i of a list, NULL when the key is absent; a list of another length than n is an error. */
const char *sde_config_list_string(struct sde_config_keys *keys, const char *key, size_t i,
				   size_t n);

bool sde_config_has(const struct sde_config_keys *keys, const char *key); /* present and not null */

/* A key whose only supported values are absent, null, or the given JSON text ("silu", false, 3). */
void sde_config_only(struct sde_config_keys *keys, const char *key, const char *supported);

/* Note an error that concerns one key: keys->r becomes -EINVAL unless an earlier error stands. */
void sde_config_fail(struct sde_config_keys *keys, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
