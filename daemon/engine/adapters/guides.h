/*
 * The guiding pictures of one sampling run: ControlNets and T2I-Adapters with their scales and the part of the steps in which they
 * count. What depends on the picture alone is computed once; each step then gives what the U-Net is fed.
 */
#pragma once

#include "daemon/engine/adapters/controlnet.h"
#include "daemon/engine/adapters/t2i-adapter.h"
#include "daemon/engine/engine.h"

#define SDE_GUIDES_MAX SDE_CONTROLS_MAX

/* One picture and who looks at it; borrowed. */
struct sde_guide {
	const struct sde_controlnet *controlnet; /* or */
	const struct sde_t2i_adapter *t2i;
	const float *picture; /* (3, 8 latent height, 8 latent width), 0..1 */
	double scale;
	double start, end; /* step i of n counts unless i / n < start or (i + 1) / n > end */
};

struct sde_guides_options {
	const struct sde_guide *guides;
	size_t count;
	/* guess mode: ControlNets see the half with the prompt alone and count less in fine resolutions */
	bool guess;
	bool guidance; /* the batch is [negative..., positive...] */
	/* of an attached IP-Adapter: tokens of no picture, then of the picture, n_image_tokens * context width each; borrowed */
	const float *image_tokens;
	int n_image_tokens;
};

struct sde_guides;

/* For runs of this U-Net at (batch, height, width). -EINVAL names the guide that does not fit. */
int sde_guides_new(struct sde_runner *runner, const struct sde_unet_config *unet,
		   const struct sde_guides_options *options, int batch, int height, int width,
		   struct sde_guides **ret_guides, struct sde_error *error);
/* Step i of n, call without control. *ret_control: NULL when no guide counts now, else owned by guides until the next step. */
int sde_guides_step(struct sde_guides *guides, const struct sde_unet_call *call, size_t i, size_t n,
		    const struct sde_unet_control **ret_control, struct sde_error *error);
struct sde_guides *sde_guides_free(struct sde_guides *guides);
