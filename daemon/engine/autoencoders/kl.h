/*
 * AutoencoderKL (Kingma and Welling 2014; Rombach et al. 2022; diffusers' autoencoder_kl.py): pictures to latents and
 * back. One struct serves SD 1/2, SDXL, SD3 and FLUX: they differ in width, latent channels and which 1x1 convolutions
 * exist. VQModel (van den Oord et al. 2017; diffusers' vq_model.py) is the same network around a codebook. Recording
 * functions only; forward.h has the arithmetic around them (posterior, codes, scaling, tiles).
 */
#pragma once

#include "daemon/engine/autoencoders/kl-config.h"
#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"

struct sde_weights;

struct sde_kl_resnet {
	struct sde_norm norm1;
	struct sde_conv conv1;
	struct sde_norm norm2;
	struct sde_conv conv2;
	struct sde_conv conv_shortcut; /* weight.data NULL when in == out */
};

/* One head over all positions. */
struct sde_kl_attention {
	struct sde_norm group_norm;
	struct sde_linear to_q, to_k, to_v, to_out;
};

struct sde_kl_block {
	int n_resnets;
	struct sde_kl_resnet *resnets; /* owned */
	struct sde_kl_attention
		*attentions;	  /* owned, one behind each resnet; NULL when the block has none */
	struct sde_conv resample; /* weight.data NULL when the block has none */
};

/* Encoder and decoder have the same parts in another order. */
struct sde_kl_half {
	struct sde_conv conv_in;
	struct sde_kl_block blocks[SDE_KL_LEVELS_MAX];
	struct sde_kl_resnet mid_resnets[2];
	struct sde_kl_attention mid_attention; /* used when config.mid_block_add_attention */
	struct sde_norm conv_norm_out;
	struct sde_conv conv_out;
};

struct sde_kl {
	struct sde_kl_config config;
	struct sde_kl_half encoder, decoder;
	struct sde_linear quant_conv, post_quant_conv;
	struct sde_table codebook; /* VQModel: (codes, latent_channels) */
};

/*
 * Bind every tensor of the file; the attention's names of 2022 (query, key, value, proj_attn; 2-D or 1x1 weights) are
 * taken too. Borrows weights. Errors name the tensor; on failure *kl needs no clearing.
 */
int sde_kl_bind(struct sde_kl *kl, const struct sde_kl_config *config, struct sde_weights *weights,
		struct sde_error *error);
void sde_kl_clear(struct sde_kl *kl);

/* image (batch, height, width, in_channels) in -1..1 -> moments (batch, height/f, width/f, m). */
sdk_value sde_kl_record_encode(struct sdk_plan *plan, const struct sde_kl *kl, sdk_value image);
/* z (batch, h, w, latent_channels) -> image (batch, h * f, w * f, out_channels). */
sdk_value sde_kl_record_decode(struct sdk_plan *plan, const struct sde_kl *kl, sdk_value z);
