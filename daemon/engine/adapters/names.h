/*
 * What adapter files call the layers of a model. Names with underscores are ambiguous ("_" stands for "." and for itself), so
 * they are never parsed: the model's own dotted names are turned into every name a file might use, and those are looked up.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/denoisers/unet-config.h"

enum sde_adapter_part {
	SDE_ADAPTER_UNET,
	SDE_ADAPTER_TEXT,	 /* the first text encoder, CLIP-L */
	SDE_ADAPTER_TEXT_2,	 /* SDXL's second, bigG */
	SDE_ADAPTER_TRANSFORMER, /* of SD3 and FLUX */
	SDE_ADAPTER_PARTS
};

#define SDE_ADAPTER_NAMES_MAX  8
#define SDE_ADAPTER_NAME_BYTES 320

/* A name, and where the layer lies when the file's is several of ours one below the other (q, k and v of FLUX and SD3). */
struct sde_adapter_name {
	char text[SDE_ADAPTER_NAME_BYTES];
	int first_row, rows; /* rows: outputs of the file's layer; 0: it is the layer itself */
};

/*
 * Names of the layer that the model calls path ("down_blocks.0.resnets.0.conv1") with so many inputs and outputs, best known
 * first; returns how many. unet: of SDE_ADAPTER_UNET, for the names of the original implementation
 * ("input_blocks.1.0.in_layers.2").
 */
size_t sde_adapter_names(enum sde_adapter_part part, const struct sde_unet_config *unet,
			 const char *path, int in, int out,
			 struct sde_adapter_name ret_names[SDE_ADAPTER_NAMES_MAX]);

/*
 * The original implementation's ("LDM", "sgm") name of a U-Net's layer or norm, without prefix and ".weight": 0, or -ENOENT when
 * path is none of diffusers' names.
 */
int sde_unet_ldm_name(const struct sde_unet_config *unet, const char *path, char *ret_name,
		      size_t size);

/* sde_adapter_names for SDE_ADAPTER_TRANSFORMER, in names-transformer.c. */
size_t sde_transformer_names(const char *path, int in, int out,
			     struct sde_adapter_name ret_names[SDE_ADAPTER_NAMES_MAX]);
/* prefix + path, in path '_' for every '.'. */
void sde_adapter_kohya_name(char to[SDE_ADAPTER_NAME_BYTES], const char *prefix, const char *path);
