/*
 * JSON of unknown origin (config.json, model_index.json, safetensors headers, tokenizer vocabularies) through jansson, with the
 * limits jansson leaves to its caller: size, depth, duplicate keys. Python's json module writes three literals that are not
 * JSON, and diffusers' dumped scheduler configurations contain them; they are read here instead of being an error.
 */
#pragma once

#include <stddef.h>

#include <jansson.h>

#include "daemon/engine/error.h"

#define SDE_JSON_CONFIG_MAX (4u << 20)	/* bytes of a configuration file; real ones have a few KB */
#define SDE_JSON_INDEX_MAX  (32u << 20) /* bytes of an index or a vocabulary; real ones < 3 MB */
#define SDE_JSON_DEPTH_MAX  64

/*
 * Parse one JSON object or array of size bytes (no terminator needed). Rejected: duplicate keys, anything behind the value,
 * invalid UTF-8, more than SDE_JSON_DEPTH_MAX levels. The literals -Infinity and Infinity become -DBL_MAX and DBL_MAX (jansson
 * has no infinities; as bounds they mean the same), NaN becomes null. Strings may hold U+0000, keys may not.
 * origin names the text in errors. *ret_value is owned by the caller.
 */
int sde_json_parse(const char *text, size_t size, const char *origin, json_t **ret_value,
		   struct sde_error *error);

/* Read and parse a file of at most max_bytes whose value must be an object. Errors name the file and the line. */
int sde_json_load(const char *path, size_t max_bytes, json_t **ret_object, struct sde_error *error);
