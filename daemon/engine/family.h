/*
 * What makes a family of models besides its network: how its text encoders are read, and what a person gets who asks for
 * nothing. One row of a table a family, so that pipelines ask the row and not for a name.
 */
#pragma once

#include <stdbool.h>

struct sde_denoiser;

/* Which text encoders' pooled vectors the denoiser is given. */
enum sde_pooled { SDE_POOLED_NONE, SDE_POOLED_LAST };

struct sde_family {
	const char *name; /* "sd1" */
	bool penultimate; /* CLIP's states before the last layer and without the final norm; else the last, normed */
	enum sde_pooled pooled;
	int steps; /* the defaults */
	double guidance_scale;
	const char *sampler;
};

/* refiner: an SDXL model without the first text encoder that is told an aesthetic score. Never NULL. */
const struct sde_family *sde_family_of(const struct sde_denoiser *denoiser, bool refiner);
