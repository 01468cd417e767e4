/*
 * Which family of models an adapter file was made for, told from names and shapes, so that a person who took the wrong file
 * hears that, and not of a tensor.
 */
#pragma once

#include "daemon/engine/formats/weights.h"

/* "SD 1.x", "SD 2.x", "SDXL", "SD 3", "FLUX", or NULL when nothing tells. */
const char *sde_adapter_family(const struct sde_weights *weights);
/* The same words for sde_model_info's family. */
const char *sde_family_words(const char *family);

/* 0, or -EINVAL: "LoRA x is for SDXL, the model is SD 1.x". family: sde_model_info's; what: "LoRA". */
int sde_adapter_check_family(const char *what, const char *name, const struct sde_weights *weights,
			     const char *family, struct sde_error *error);
