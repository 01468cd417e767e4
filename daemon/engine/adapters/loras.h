/*
 * The LoRAs (and LoHas, LoKrs, ...) of a job: opened files with weights, and what they do to a model while its layers are bound.
 * The model's own tensors are neither copied nor changed. A change of low rank becomes a branch beside the layer; any other is
 * added to the layer's weight when a backend packs it, and lies nowhere else.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/adapters/names.h"
#include "daemon/engine/bind.h"

struct sde_loras;

/* One to apply: name for messages; a weight of 0 changes nothing, negative ones are legal. */
struct sde_lora_use {
	const char *name, *path;
	double weight;
};

/*
 * Open the files, which stay mapped. -EINVAL for a weight that is no finite number or a file made for another family than
 * sde_model_info's (its message: "LoRA x is for SDXL, the model is SD 1.x"), -EBADMSG for a file that cannot be used; all
 * messages name the LoRA. A pickle is refused and never executed.
 */
int sde_loras_new(const struct sde_lora_use *uses, size_t n, const char *family,
		  struct sde_loras **ret_loras, struct sde_error *error);
/* What was bound with it must be gone, programs included. */
struct sde_loras *sde_loras_free(struct sde_loras *loras);

/* Key of what they do: the files' content, weights and order. */
uint64_t sde_loras_content(const struct sde_loras *loras);

/* A patch of one part for sde_weights_set_patch, owned by loras. unet: of SDE_ADAPTER_UNET; borrowed. */
struct sde_patch *sde_loras_patch(struct sde_loras *loras, enum sde_adapter_part part,
				  const struct sde_unet_config *unet);
/* Layers of this part that were changed. */
size_t sde_loras_patched(const struct sde_loras *loras, enum sde_adapter_part part);
/* What a set takes in memory: its files' tensors, and weights that had to be merged, in the form backends pack. */
uint64_t sde_loras_bytes(const struct sde_loras *loras);

/*
 * After all parts of a model were bound: every tensor of every file must have found its layer. -EINVAL names one that did not.
 */
int sde_loras_finish(const struct sde_loras *loras, struct sde_error *error);
