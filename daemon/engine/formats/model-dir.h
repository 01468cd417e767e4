/*
 * A model in the diffusers folder layout: model_index.json names the components, each has a folder with a config.json and its
 * weights. Finds what is there without reading weights; people's downloads differ in file names, variants and sharding. A checkpoint file
 * (checkpoint.h) is presented as such a folder, so that nobody behind this header needs to know which of the two it was.
 */
#pragma once

#include <stddef.h>

#include <jansson.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/checkpoint.h"
#include "daemon/engine/formats/weights.h"

struct sde_component {
	const char *name;	/* "unet", "vae", "text_encoder", "tokenizer", "scheduler", ... */
	const char *library;	/* "diffusers", "transformers"; NULL without a model_index.json */
	const char *class_name; /* "UNet2DConditionModel"; NULL without a model_index.json */
	char *path;		/* of its folder; of a checkpoint file: "FILE:name", for messages */
	const struct sde_checkpoint *checkpoint; /* NULL: a folder */
};

struct sde_model_dir {
	char *path;
	json_t *index;			   /* model_index.json; NULL when the folder has none */
	struct sde_checkpoint *checkpoint; /* NULL: a folder */
	struct sde_component *components;
	size_t count;
};

/*
 * Open a model folder or a checkpoint file. Components that model_index.json gives as [null, null] are left out; component names that are no plain
 * folder names and components whose folder is missing are -EBADMSG. A folder without model_index.json is accepted if it
 * holds at least one sub-folder of a known name.
 */
int sde_model_dir_open(const char *path, struct sde_model_dir **ret_dir, struct sde_error *error);
struct sde_model_dir *sde_model_dir_free(struct sde_model_dir *dir);

/* NULL if the model has no such component. */
const struct sde_component *sde_model_dir_find(const struct sde_model_dir *dir, const char *name);

/* Like find, but absence is -ENOENT with a message that names the folder. */
int sde_model_dir_require(const struct sde_model_dir *dir, const char *name,
			  const struct sde_component **ret_component, struct sde_error *error);

/*
 * What a person wants of this model: sdd.json beside model_index.json, or FILE.sdd.json. *ret_object is owned by the caller, NULL when
 * there is none.
 */
int sde_model_dir_settings(const struct sde_model_dir *dir, json_t **ret_object,
			   struct sde_error *error);

/* config.json of a component (scheduler: scheduler_config.json) as an object owned by the caller. */
int sde_component_config(const struct sde_component *component, json_t **ret_config,
			 struct sde_error *error);

/*
 * Path of a component's weights: model.safetensors or diffusion_pytorch_model.safetensors, else their .index.json, else the same
 * of the variants fp16 and bf16. -ENOENT says what was looked for, and when only pickles are there (.bin, .ckpt, .pt) says
 * that they are not executed. *ret_path is malloc()ed.
 */
int sde_component_weights_path(const struct sde_component *component, char **ret_path,
			       struct sde_error *error);

/* weights_path, then sde_weights_open. */
int sde_component_weights(const struct sde_component *component, struct sde_weights **ret_weights,
			  struct sde_error *error);

static inline void sde_model_dir_freep(struct sde_model_dir **dir)
{
	sde_model_dir_free(*dir);
}
