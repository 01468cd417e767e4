/*
 * What makes a family of models besides its network: how its text encoders are read, and what a person gets who asks for
 * nothing. One row of a table a family, so that pipelines ask the row and not for a name.
 */
#pragma once

#include <stdbool.h>

struct sde_denoiser;

/* Which text encoders' pooled vectors the denoiser is given. */
enum sde_pooled { SDE_POOLED_NONE, SDE_POOLED_LAST, SDE_POOLED_ALL };

/* How a denoiser that takes more than latents is given the mask of what to repaint. */
enum sde_mask_form {
	SDE_MASK_LATENT, /* one channel at the latents' resolution, before the masked picture's latents */
	SDE_MASK_PIXELS, /* all pixels of a latent as its channels, behind them (FLUX fill) */
};

struct sde_family {
	const char *name; /* "sd1" */
	bool penultimate; /* CLIP's states before the last layer and without the final norm; else the last, normed */
	enum sde_pooled pooled;
	const char *t5;	  /* component with a T5, NULL: none */
	bool t5_optional; /* without it its part of the context is zeros */
	bool t5_alone;	  /* the context is T5's; CLIP gives the pooled text only */
	int t5_tokens;	  /* that it reads of a prompt, the end token included */
	bool flow; /* rectified flow: noise and picture are mixed in proportion (Liu et al. 2022) */
	bool even_sigmas; /* flow: the schedule begins as 1, 1 - 1/n ... 1/n, then is shifted (FLUX) */
	bool distilled; /* guidance_scale is at most told to the network: no classifier-free guidance */
	enum sde_mask_form mask_form;
	int steps; /* the defaults */
	double guidance_scale;
	const char *sampler;
	double guidance_most; /* above it pictures burn out; 0: the network knows no guidance */
	int native_size;      /* pixels a side, for configurations that do not say */
};

/* refiner: an SDXL model without the first text encoder that is told an aesthetic score. Never NULL. */
const struct sde_family *sde_family_of(const struct sde_denoiser *denoiser, bool refiner);
