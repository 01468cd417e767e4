/*
 * Finding adapters by name: below each folder of models lie loras/, controlnets/ and embeddings/. A name is a file's without its
 * ending, or a folder's; it never reaches out of there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/error.h"

#define SDE_ADAPTER_NAME_MAX 127 /* bytes */

/* Where to look; the first folder that has a name wins. Borrowed. */
struct sde_adapter_roots {
	const char *const *paths;
	size_t count;
};

/*
 * The file folder/NAME.safetensors, folder/NAME, or the folder folder/NAME below a root. what: "LoRA", for messages. -EINVAL for a
 * name that is none, -ENOENT, which says what there is. *ret_path is malloc()ed.
 */
int sde_adapter_find(const struct sde_adapter_roots *roots, const char *folder, const char *what,
		     const char *name, char **ret_path, struct sde_error *error);

/*
 * Call each with the name and path of all entries of folder, in no order, until it returns non-zero, which is returned. At most
 * some thousands are looked at.
 */
int sde_adapter_each(const struct sde_adapter_roots *roots, const char *folder,
		     int (*each)(void *userdata, const char *name, const char *path),
		     void *userdata);
