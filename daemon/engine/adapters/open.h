/*
 * Adapters that are networks of their own come as one file, or as a folder with a config.json: opened alike.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/formats/weights.h"

/*
 * path: a file, or a folder of diffusers' layout. *ret_config (ret_config NULL: not wanted) is the config.json beside the file, and
 * stays as it is when there is none.
 */
int sde_adapter_open(const char *path, struct sde_weights **ret_weights, json_t **ret_config,
		     struct sde_error *error);
/* Hash of what is in it, weights (sde_weights_content) and configuration. Errors as of opening it. */
int sde_adapter_content(const char *path, uint64_t *ret_content, struct sde_error *error);
