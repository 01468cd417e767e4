/*
 * What adapter files call the layers of a model. Names with underscores are ambiguous ("_" stands for "." and for itself), so
 * they are never parsed: the model's own dotted names are turned into every name a file might use, and those are looked up.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/denoisers/unet-config.h"

enum sde_adapter_part {
	SDE_ADAPTER_UNET,
	SDE_ADAPTER_TEXT,   /* the first text encoder, CLIP-L */
	SDE_ADAPTER_TEXT_2, /* SDXL's second, bigG */
};

#define SDE_ADAPTER_NAMES_MAX  4
#define SDE_ADAPTER_NAME_BYTES 320

/*
 * Names of the layer that the model calls path ("down_blocks.0.resnets.0.conv1"), best known first; returns how many. unet: of
 * SDE_ADAPTER_UNET, for the names of the original implementation ("input_blocks.1.0.in_layers.2").
 */
size_t sde_adapter_names(enum sde_adapter_part part, const struct sde_unet_config *unet,
			 const char *path, char (*ret_names)[SDE_ADAPTER_NAME_BYTES]);

/*
 * The original implementation's ("LDM", "sgm") name of a U-Net's layer or norm, without prefix and ".weight": 0, or -ENOENT when
 * path is none of diffusers' names.
 */
int sde_unet_ldm_name(const struct sde_unet_config *unet, const char *path, char *ret_name,
		      size_t size);
