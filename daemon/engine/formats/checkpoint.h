/*
 * A model as one checkpoint file, or as a set of files that hold a component each (ComfyUI's way; parts.h finds them): which components a file
 * holds is told by the names of its tensors, what they are by their shapes. Gives the same as a diffusers folder would: a config.json and
 * weights under diffusers' names for each component.
 *
 * Beside FILE.safetensors there may be a FILE.sdd.json: the defaults that a folder has in sdd.json, and under "components" keys that
 * override what was inferred, e.g. {"components": {"scheduler": {"prediction_type": "v_prediction"}}}.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"

struct sde_checkpoint;

/*
 * -EBADMSG when a file is no container of tensors, or none of its tensors belong to a component known here; the message names the
 * file. *ret_checkpoint is owned by the caller.
 */
int sde_checkpoint_open(const char *path, struct sde_checkpoint **ret_checkpoint,
			struct sde_error *error);
/*
 * A set of n >= 1 files, checkpoints of torch among them if pickles or the settings' "allow_pickle" say so; settings stand beside the first. -EBADMSG also when two of them hold the same component. The two halves of a TAESD
 * (encoder and decoder files) are one component.
 */
int sde_checkpoint_open_set(const char *const *paths, size_t n, bool pickles,
			    struct sde_checkpoint **ret_checkpoint, struct sde_error *error);
/*
 * The same a file at a time. path: of the file, or of the folder, whose settings count; nothing of it is in the set yet. What add complains
 * about leaves a checkpoint that can only be freed.
 */
int sde_checkpoint_new(const char *path, struct sde_checkpoint **ret_checkpoint,
		       struct sde_error *error);
int sde_checkpoint_add(struct sde_checkpoint *checkpoint, const char *path, bool pickles,
		       struct sde_error *error);
struct sde_checkpoint *sde_checkpoint_free(struct sde_checkpoint *checkpoint);

/* "unet", "vae", "text_encoder", ... in the order found, "scheduler" and the tokenizers of the encoders among them; NULL past the end. */
const char *sde_checkpoint_component(const struct sde_checkpoint *checkpoint, size_t index);

/* config.json of a component (scheduler_config.json of "scheduler"), owned by the caller. -ENOENT if the file has none of that name. */
int sde_checkpoint_config(const struct sde_checkpoint *checkpoint, const char *component,
			  json_t **ret_config, struct sde_error *error);
/* Its weights; they keep the file mapped beyond the checkpoint. */
int sde_checkpoint_weights(const struct sde_checkpoint *checkpoint, const char *component,
			   struct sde_weights **ret_weights, struct sde_error *error);

/* The file that a component lies in, NULL when it has no tensors of its own or is not there. Borrowed. */
const char *sde_checkpoint_file(const struct sde_checkpoint *checkpoint, const char *component);

/* Opened as a folder of files rather than as one. */
bool sde_checkpoint_is_folder(const struct sde_checkpoint *checkpoint);

/* A file named in the settings, which stands beside them unless it begins with '/': its path, malloc()ed; NULL when out of memory. */
char *sde_checkpoint_resolve(const struct sde_checkpoint *checkpoint, const char *name);

/* FILE.sdd.json, NULL when there is none. Borrowed. */
const json_t *sde_checkpoint_settings(const struct sde_checkpoint *checkpoint);

/* FILE.sdd.json of FILE.safetensors, as a malloc()ed path; NULL when out of memory. */
char *sde_checkpoint_settings_path(const char *path);

static inline void sde_checkpoint_freep(struct sde_checkpoint **checkpoint)
{
	sde_checkpoint_free(*checkpoint);
}
