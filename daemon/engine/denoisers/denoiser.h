/*
 * The network that takes the noise out of latents, whichever architecture it is: what a pipeline needs of any of them. An
 * architecture is a struct of its own with tables and a forward pass, and one struct sde_denoiser_class; nothing above this
 * line asks which one it talks to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/denoisers/flux.h"
#include "daemon/engine/denoisers/sd3.h"
#include "daemon/engine/denoisers/unet.h"

struct sde_denoiser;
struct sde_error;
struct sde_guides;
struct sde_runner;
struct sde_weights;

/* One forward pass. Arrays are float32; what the architecture does not use is not read. */
struct sde_denoiser_call {
	const float *sample; /* (batch, in_channels, height, width) */
	int batch, height, width;
	const float *timesteps; /* batch, as the scheduler gives them: 0..1000 */
	const float *context;	/* (batch, tokens, context_width) */
	int tokens;
	const float *pooled; /* (batch, pooled_width): pooled text */
	int pooled_width;
	const float *time_ids; /* SDXL: (batch, n_time_ids) */
	int n_time_ids;
	uint64_t skipped_layers; /* SD3: bit i leaves block i out (skip layer guidance) */
	const float
		*guidance_scales; /* batch, for a network that is told of it (guidance_embedding) */
	struct sde_guides
		*guides;    /* U-Nets: pictures that guide it (adapters/guides.h), NULL = none */
	size_t step, steps; /* of the run, for guides */
	const struct sdk_attention_watch
		*watch; /* U-Nets: who watches their attentions (kernels/watch.h), NULL = nobody */
};

struct sde_denoiser_class {
	const char *folder, *name; /* "unet", "UNet2DConditionModel" */
	/*
	 * Fill *denoiser from config, without tensors: what tells its family. what: prefix of messages. -EINVAL and -ENOTSUP
	 * name the key; nothing needs clearing.
	 */
	int (*configure)(struct sde_denoiser *denoiser, const json_t *config, const char *what,
			 struct sde_error *error);
	/*
	 * Configure, and bind every tensor of weights. On failure nothing needs clearing; -EINVAL, -ENOTSUP and -EBADMSG name
	 * the key or tensor.
	 */
	int (*bind)(struct sde_denoiser *denoiser, const json_t *config, const char *what,
		    struct sde_weights *weights, struct sde_error *error);
	/*
	 * Bind *denoiser once more like another of this class, from the same weights: for a patch set on them (bind.h), which
	 * sees every layer.
	 */
	int (*bind_like)(struct sde_denoiser *denoiser, const struct sde_denoiser *other,
			 struct sde_weights *weights, struct sde_error *error);
	void (*clear)(struct sde_denoiser *denoiser);
	/* ret_output: (batch, out_channels, height, width). -EINVAL says which part of the call does not fit. */
	int (*forward)(struct sde_runner *runner, const struct sde_denoiser *denoiser,
		       const struct sde_denoiser_call *call, float *ret_output,
		       struct sde_error *error);
};

struct sde_denoiser {
	const struct sde_denoiser_class *class; /* NULL: none is bound */
	int in_channels, out_channels;		/* of latents */
	int sample_size;   /* latent side it was trained at, 0: the config does not say */
	int patch;	   /* latent sides must be multiples of it */
	int side_max;	   /* latent side that it can take at most, 0: any */
	int context_width; /* channels of the context */
	int pooled_width; /* of the pooled text that it takes; 0: none, or the text encoders tell (SDXL) */
	int skippable_layers;	 /* blocks that a call may leave out */
	bool guidance_embedding; /* it is told the guidance scale: no classifier-free guidance */
	union {
		struct sde_unet unet;
		struct sde_sd3 sd3;
		struct sde_flux flux;
	};
};

extern const struct sde_denoiser_class sde_denoiser_unet, sde_denoiser_sd3, sde_denoiser_flux;

/* The classes there are; NULL past the end. */
const struct sde_denoiser_class *sde_denoiser_class_at(size_t i);

/* Drop the denoiser's programs from the runner, then its memory; one that is not bound is fine. */
void sde_denoiser_clear(struct sde_denoiser *denoiser, struct sde_runner *runner);

static inline int sde_denoiser_forward(struct sde_runner *runner,
				       const struct sde_denoiser *denoiser,
				       const struct sde_denoiser_call *call, float *ret_output,
				       struct sde_error *error)
{
	return denoiser->class->forward(runner, denoiser, call, ret_output, error);
}
