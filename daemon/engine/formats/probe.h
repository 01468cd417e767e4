/*
 * Recognising the parts of a model in a file: a part is known by one tensor that only it has, under the prefixes that programs give it. What a
 * file is called says nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/formats/ldm.h"
#include "daemon/engine/formats/tensor-file.h"

/* What a part is, hence what its configuration is inferred by. */
enum sde_part_kind {
	SDE_PART_UNET,
	SDE_PART_KL,
	SDE_PART_TINY,
	SDE_PART_CLIP,
	SDE_PART_T5,
	SDE_PART_SD3,
	SDE_PART_FLUX,
};

struct sde_probe {
	const char *component; /* as diffusers calls it; a FLUX's T5 is number 3 here, too */
	const char *prefix, *tensor;
	enum sde_part_kind kind;
	sde_part_map_fn *map;
};

/* The next part in the file, *position counting on from 0; NULL when there is no more. */
const struct sde_probe *sde_probe_next(struct sde_tensor_file *file, size_t *position);

/* One of TAESD's two files, which make one component. */
bool sde_probe_is_half(const struct sde_probe *probe);

/* What fits parts to each other: of text encoders the width, of autoencoders the latent channels; 0 of others and of what has no such tensor. */
int sde_probe_width(const struct sde_probe *probe, struct sde_tensor_file *file);

static inline bool sde_part_is_denoiser(enum sde_part_kind kind)
{
	return kind == SDE_PART_UNET || kind == SDE_PART_SD3 || kind == SDE_PART_FLUX;
}
