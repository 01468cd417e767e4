/*
 * Which backends exist, by name.
 */
#include "kernels/backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernels/pages.h"

int sdk_backend_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		     char *err, size_t err_size)
{
	const char *name = options->name ? options->name : "cpu";

	if (options->threads < 0) {
		snprintf(err, err_size, "%d threads: must be 0 (automatic) or more",
			 options->threads);
		return -EINVAL;
	}
	if (strncmp(name, SDK_FAULTY_PREFIX, strlen(SDK_FAULTY_PREFIX)) == 0)
		return sdk_faulty_open(options, ret_backend, err, err_size);
	if (strcmp(name, "ref") == 0)
		return sdk_ref_open(options, ret_backend, err, err_size);
	if (strcmp(name, "cpu") == 0)
		return sdk_cpu_open(options, ret_backend, err, err_size);
	snprintf(err, err_size, "no backend is called %s; there are cpu and ref", name);
	return -EINVAL;
}

struct sdk_backend *sdk_backend_close(struct sdk_backend *backend)
{
	if (!backend)
		return NULL;
	sdk_backend_trim(backend);
	backend->ops->free(backend);
	return NULL;
}

int sdk_backend_reserve(struct sdk_backend *backend, size_t bytes)
{
	if (bytes <= backend->arena_bytes)
		return 0;
	sdk_backend_trim(backend);
	backend->arena = sdk_pages_new(bytes);
	if (!backend->arena)
		return -ENOMEM;
	backend->arena_bytes = bytes;
	return 0;
}

void sdk_backend_trim(struct sdk_backend *backend)
{
	backend->arena = sdk_pages_free(backend->arena, backend->arena_bytes);
	backend->arena_bytes = 0;
}
