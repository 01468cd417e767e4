/*
 * The image projection of IP-Adapter plus (Ye et al. 2023, resampler.py; the perceiver of Flamingo): a few learnt queries look at all the states
 * that the image encoder has before its last layer, block after block, and become the picture's tokens.
 */
#pragma once

#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"
#include "daemon/engine/layers.h"

struct sde_runner;

struct sde_resampler_layer {
	struct sde_norm norm_states, norm_latents, ff_norm;
	struct sde_linear to_q, to_kv, to_out, ff_in, ff_out;
};

struct sde_resampler {
	int queries, hidden, in, out, heads;
	struct sde_table latents; /* (queries, hidden) */
	struct sde_linear proj_in, proj_out;
	struct sde_norm norm_out;
	struct sde_resampler_layer *layers; /* owned */
	int n_layers;
};

/*
 * Bind what begins with "image_proj." of weights, borrowed. in: width of the image encoder; out: of the U-Net's context. -EINVAL and the like name the
 * tensor that does not fit. On failure nothing needs clearing.
 */
int sde_resampler_bind(struct sde_resampler *resampler, struct sde_weights *weights, int in,
		       int out, struct sde_error *error);
void sde_resampler_clear(struct sde_resampler *resampler);

/* states (tokens, in) -> ret_tokens (queries, out). */
int sde_resampler_run(struct sde_runner *runner, const struct sde_resampler *resampler,
		      const float *states, int tokens, float *ret_tokens, struct sde_error *error);
