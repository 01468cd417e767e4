/*
 * A file of named tensors, whatever its container: what is inside is told from the first bytes, never from the file's name. Counted,
 * because the components of one checkpoint file (U-Net, autoencoder, text encoders) share its mapping.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/safetensors.h"

struct sde_tensor_file;

/*
 * Map a file and index its tensors by name. A file that is open already, reached by another link or as a copy of the same bytes, is the same
 * struct again, under its first path, so that two checkpoints share a text encoder or an autoencoder; one that has changed since is not. Errors
 * as of the container's reader; they name the file. Pickles are refused with the reason. Any thread.
 */
int sde_tensor_file_open(const char *path, struct sde_tensor_file **ret_file,
			 struct sde_error *error);
/* The same for whoever asked for it: checkpoints of torch (torch-file.h) are read too. Never shared. */
int sde_tensor_file_open_pickled(const char *path, struct sde_tensor_file **ret_file,
				 struct sde_error *error);
struct sde_tensor_file *sde_tensor_file_ref(struct sde_tensor_file *file);
struct sde_tensor_file *sde_tensor_file_unref(struct sde_tensor_file *file);

/* Give the pages of its mapping back to the system; they come again when they are touched. */
void sde_tensor_file_release(const struct sde_tensor_file *file);

/* Ask the system to read them now, a piece at a time while wanted says so. Blocks when the disk has enough to do. Any thread. */
void sde_tensor_file_read_ahead(const struct sde_tensor_file *file, bool (*wanted)(void *userdata),
				void *userdata);

const char *sde_tensor_file_path(const struct sde_tensor_file *file);
/* Which file it was, in which state, when it was opened; and what its path leads to now (sdd_hash_stat): the same while it has not changed. */
uint64_t sde_tensor_file_state(const struct sde_tensor_file *file);
uint64_t sde_tensor_file_state_now(const struct sde_tensor_file *file);

/* Tensors in order of their names (strcmp); NULL past the end. */
size_t sde_tensor_file_count(const struct sde_tensor_file *file);
const struct sde_tensor *sde_tensor_file_at(const struct sde_tensor_file *file, size_t index);
/* By exact name; NULL if absent. */
const struct sde_tensor *sde_tensor_file_find(const struct sde_tensor_file *file, const char *name);
/* Index of the first tensor whose name is not before the given one: where the names with a prefix begin. */
size_t sde_tensor_file_lower_bound(const struct sde_tensor_file *file, const char *name);

static inline void sde_tensor_file_unrefp(struct sde_tensor_file **file)
{
	sde_tensor_file_unref(*file);
}
