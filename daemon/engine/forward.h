/*
 * Forward passes on host arrays: what a pipeline or a test calls. float32 throughout, images and latents NCHW as in
 * diffusers; the change to the backend's layout happens here.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/autoencoders/kl.h"
#include "daemon/engine/denoisers/unet.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/text_encoders/clip.h"
#include "daemon/engine/text_encoders/t5.h"

/* A hidden state that is wanted: hidden_states[-minus], with the final norm or without. last_hidden_state is {1, true}. */
struct sde_clip_wanted {
	int minus; /* 1..num_hidden_layers + 1 */
	bool final_norm;
};

/*
 * ids (batch, tokens), which may mean vectors of added (NULL: none) -> for each wanted state (batch, tokens, hidden_size). Layers above the highest wanted are not run.
 */
int sde_clip_forward(struct sde_runner *runner, const struct sde_clip *clip, const int32_t *ids,
		     const struct sde_clip_added *added, int batch, int tokens,
		     const struct sde_clip_wanted *wanted, int n_wanted, float *const *ret_states,
		     struct sde_error *error);

/*
 * last_hidden_state -> pooler_output (batch, hidden_size), or with a projection text_embeds (batch, projection_dim).
 */
int sde_clip_pool(struct sde_runner *runner, const struct sde_clip *clip, const int32_t *ids,
		  int batch, int tokens, const float *last_hidden_state, float *ret_pooled,
		  struct sde_error *error);

/*
 * ids (batch, tokens) -> last_hidden_state (batch, tokens, d_model). Every token looks at the first `keys`, 1..tokens: what stands behind
 * is padding under an attention mask. SD3 and FLUX mask nothing (keys = tokens).
 */
int sde_t5_forward(struct sde_runner *runner, const struct sde_t5 *t5, const int32_t *ids,
		   int batch, int tokens, int keys, float *ret_state, struct sde_error *error);

/* What adapters feed into a U-Net beside its inputs: host arrays (n, h, w, c), channels last. Borrowed. */
struct sde_unet_control {
	int n_residuals; /* 0, or as many as sde_unet_skip_shapes says */
	float *residuals[SDE_UNET_SKIPS_MAX + 1];
	int n_features; /* 0, or a feature a down block: shape of its last skip before it shrinks */
	float *features[SDE_UNET_LEVELS_MAX];
	const float *
		image_tokens; /* (batch, n_image_tokens, cross_attention_dim) of an IP-Adapter that is attached */
	int n_image_tokens;
};

struct sde_unet_call {
	const float *sample; /* (batch, in_channels, height, width) */
	int batch, height, width;
	const float *timesteps;		    /* batch */
	const float *encoder_hidden_states; /* (batch, tokens, cross_attention_dim) */
	int tokens;
	const float *timestep_cond; /* (batch, time_cond_proj_dim), when the config has it */
	const float *text_embeds;   /* text_time: (batch, text_width) */
	const float *time_ids;	    /* text_time: (batch, n_time_ids) */
	int text_width, n_time_ids;
	const struct sde_unet_control *control; /* NULL: none */
	const struct sdk_attention_watch
		*watch; /* who watches its attentions (sde_unet_site_is_cross); NULL: nobody */
};

/* The U-Net's inputs on the host, in the order in which programs take them; shared by U-Nets and ControlNets. */
struct sde_unet_host {
	float *arrays[3]; /* owned: sample, sinusoid, added */
	const void *inputs[SDE_PROGRAM_INPUTS_MAX];
	struct sdk_shape shapes[SDE_PROGRAM_INPUTS_MAX];
	int n;
};

/* Fill *host from a call without its control. On failure there is nothing to clear. */
int sde_unet_host_init(struct sde_unet_host *host, const struct sde_unet_config *config,
		       const struct sde_unet_call *call, struct sde_error *error);
void sde_unet_host_clear(struct sde_unet_host *host);
/* The same inputs while recording; returns how many they are. */
int sde_unet_host_values(const struct sde_unet_config *config, const sdk_value *inputs,
			 struct sde_unet_inputs *ret_values);

/* ret_output: (batch, out_channels, height, width). -EINVAL when text_time widths do not add up. */
int sde_unet_forward(struct sde_runner *runner, const struct sde_unet *unet,
		     const struct sde_unet_call *call, float *ret_output, struct sde_error *error);

/* ret_embedding: (batch, time_embed_dim), the output of diffusers' unet.time_embedding. */
int sde_unet_time_embedding(struct sde_runner *runner, const struct sde_unet *unet,
			    const float *timesteps, const float *timestep_cond, int batch,
			    float *ret_embedding, struct sde_error *error);

/* image (batch, in_channels, height, width) -> moments (batch, sde_kl_config_moments, height / f, width / f). */
int sde_kl_encode(struct sde_runner *runner, const struct sde_kl *kl, const float *image, int batch,
		  int height, int width, float *ret_moments, struct sde_error *error);
/* z (batch, latent_channels, height, width) -> image (batch, out_channels, height * f, width * f). */
int sde_kl_decode(struct sde_runner *runner, const struct sde_kl *kl, const float *z, int batch,
		  int height, int width, float *ret_image, struct sde_error *error);

/* Tile sides, in diffusers' terms. */
struct sde_kl_tiling {
	int sample_size, latent_size; /* tile_sample_min_size, tile_latent_min_size */
	double overlap;		      /* 0.25 */
};

/*
 * The same piecewise, with diffusers' overlaps and blending; whole when the picture fits one tile. The cancel flag is
 * polled between tiles.
 */
int sde_kl_encode_tiled(struct sde_runner *runner, const struct sde_kl *kl,
			const struct sde_kl_tiling *tiling, const float *image, int batch,
			int height, int width, float *ret_moments, struct sde_error *error);
int sde_kl_decode_tiled(struct sde_runner *runner, const struct sde_kl *kl,
			const struct sde_kl_tiling *tiling, const float *z, int batch, int height,
			int width, float *ret_image, struct sde_error *error);

/*
 * The diagonal Gaussian that moments describe: sample = mean + exp(clamp(logvar, -30, 20) / 2) * eps. n: latents, i.e.
 * latent_channels * height * width; moments (batch, 2 n). eps NULL: the mode.
 */
void sde_kl_posterior(const float *moments, const float *eps, int batch, size_t n,
		      float *ret_sample);
/*
 * VQModel: each of the pixels of z (batch, latent_channels, pixels) -> the nearest row of the codebook, and which it was:
 * ret_codes (batch, pixels), may be NULL. ret_quantized may be z. 0 or -ENOMEM.
 */
int sde_vq_quantize(const struct sde_kl *kl, const float *z, int batch, size_t pixels,
		    int32_t *ret_codes, float *ret_quantized, struct sde_error *error);
/* latents = (z - shift) * scale and back, in place. */
void sde_latents_scale(double scale, double shift, float *z, size_t n);
void sde_latents_unscale(double scale, double shift, float *latents, size_t n);
