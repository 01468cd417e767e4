/*
 * Opening a file or a folder; see open.h.
 */
#include "daemon/engine/adapters/open.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/model-dir.h"
#include "daemon/util/hash.h"

int sde_adapter_open(const char *path, struct sde_weights **ret_weights, json_t **ret_config,
		     struct sde_error *error)
{
	_cleanup_free_ char *folder = strdup(path), *config = NULL;
	const struct sde_component component = {.name = "adapter", .path = folder};
	struct stat st;
	int r;

	if (!folder)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		r = sde_component_weights(&component, ret_weights, error);
	} else {
		if (strrchr(folder, '/'))
			*strrchr(folder, '/') = '\0';
		r = sde_weights_open(path, ret_weights, error);
	}
	if (r < 0 || !ret_config)
		return r;
	if (asprintf(&config, "%s/config.json", folder) < 0) {
		config = NULL;
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	}
	return stat(config, &st) == 0
		       ? sde_json_load(config, SDE_JSON_CONFIG_MAX, ret_config, error)
		       : 0;
}

int sde_adapter_content(const char *path, uint64_t *ret_content, struct sde_error *error)
{
	struct sde_weights *weights __attribute__((cleanup(sde_weights_freep))) = NULL;
	_cleanup_json_ json_t *config = NULL;
	int r;

	r = sde_adapter_open(path, &weights, &config, error);
	if (r >= 0)
		*ret_content = sdd_hash_mix(sde_weights_content(weights), sde_json_content(config));
	return r;
}
