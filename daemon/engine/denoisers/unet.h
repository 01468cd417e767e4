/*
 * UNet2DConditionModel (Ronneberger et al. 2015; Rombach et al. 2022; diffusers' unet_2d_condition.py): the denoiser of
 * SD 1.x, 2.x, SDXL and their inpainting and LCM variants. General in block types, depths, heads and input channels, so
 * that a family is a config, not a file. Activations are NHWC while recording; see record.h.
 */
#pragma once

#include "daemon/engine/denoisers/unet-config.h"
#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"

struct sde_error;
struct sde_weights;

/* ResnetBlock2D: norm1, SiLU, conv1, + projected time, norm2, SiLU, conv2, + shortcut; with scale_shift time acts behind norm2. */
struct sde_unet_resnet {
	struct sde_norm norm1;
	struct sde_conv conv1;
	struct sde_linear time_emb_proj;
	struct sde_norm norm2;
	struct sde_conv conv2;
	struct sde_conv conv_shortcut; /* weight.data NULL when in == out */
};

/* An IP-Adapter's keys and values of a picture's tokens, attended to beside the text. */
struct sde_ip_attention {
	struct sde_linear to_k, to_v;
	float scale;
};

/*
 * BasicTransformerBlock: self-attention (or a first one to the text: only_cross), cross-attention, GEGLU feed-forward, each
 * pre-normed with a residual.
 */
struct sde_unet_transformer_layer {
	bool only_cross;
	struct sde_norm norm1;
	struct sde_linear q1, k1, v1, out1;
	struct sde_norm norm2;
	struct sde_linear q2, k2, v2, out2;
	struct sde_norm norm3;
	struct sde_linear ff_in, ff_out;   /* ff_in makes value and gate */
	const struct sde_ip_attention *ip; /* NULL: none; borrowed */
};

/* Transformer2DModel. */
struct sde_unet_transformer {
	struct sde_norm norm; /* eps 1e-6 whatever norm_eps says */
	struct sde_linear proj_in, proj_out;
	int heads, n_layers;
	struct sde_unet_transformer_layer *layers; /* owned */
};

/* A down, mid or up block. */
struct sde_unet_block {
	int n_resnets, n_transformers;	 /* the mid block has one resnet more, or none of both */
	struct sde_unet_resnet *resnets; /* owned */
	struct sde_unet_transformer *transformers; /* owned, NULL without cross-attention */
	struct sde_conv
		resample; /* downsampler or upsampler, weight.data NULL when the block has none */
};

struct sde_unet {
	struct sde_unet_config config;
	struct sde_conv conv_in;
	struct sde_linear time_linear_1, time_linear_2, time_cond_proj;
	struct sde_linear add_linear_1, add_linear_2; /* text_time */
	struct sde_unet_block down[SDE_UNET_LEVELS_MAX], mid, up[SDE_UNET_LEVELS_MAX];
	struct sde_norm conv_norm_out;
	struct sde_conv conv_out;
};

/*
 * Bind every tensor of the file to the architecture that config describes; borrows weights. -EBADMSG, -ENOENT and
 * -ENOTSUP name the tensor; on failure *unet needs no clearing.
 */
int sde_unet_bind(struct sde_unet *unet, const struct sde_unet_config *config,
		  struct sde_weights *weights, struct sde_error *error);
void sde_unet_clear(struct sde_unet *unet);

/* What a forward pass takes. Values that the config does not use are not read. */
struct sde_unet_inputs {
	sdk_value sample; /* (batch, height, width, in_channels) */
	sdk_value
		time_sinusoid; /* (batch, 1, 1, block_out_channels[0]), see sde_timestep_embedding */
	sdk_value encoder_hidden_states; /* (batch, 1, tokens, cross_attention_dim) */
	sdk_value timestep_cond;	 /* (batch, 1, 1, time_cond_proj_dim) */
	sdk_value added;		 /* (batch, 1, 1, projection_class_embeddings_input_dim) */
	/* from adapters; counts 0 and false: none */
	bool has_hint;
	sdk_value hint; /* added behind conv_in: how a ControlNet sees its picture */
	int n_residuals;
	const sdk_value *
		residuals; /* added to each skip, and the last behind the middle block (ControlNet) */
	bool has_image;
	sdk_value
		image_tokens; /* (batch, 1, n, cross_attention_dim): layers with an IP-Adapter look at them */
	int n_features;
	const sdk_value *
		features; /* added at the end of each down block, before it shrinks (T2I-Adapter) */
	int *next_site;	  /* NULL: attentions are not watched; else counts them (sde_unet_site) */
};

/* Names of watched attentions: those of the transformer layers in the order they run, self before cross. */
static inline bool sde_unet_site_is_cross(int site)
{
	return site % 2 != 0;
}

/* conv_in, and per level its resnets and a downsampler */
#define SDE_UNET_SKIPS_MAX (1 + SDE_UNET_LEVELS_MAX * (SDE_UNET_LAYERS_MAX + 1))

/* Shapes of the skips for a sample of (batch, height, width), then of the middle block; returns how many, that one included. */
int sde_unet_skip_shapes(const struct sde_unet_config *config, int batch, int height, int width,
			 struct sdk_shape ret_shapes[SDE_UNET_SKIPS_MAX + 1]);

/* Shapes of the features: of each down block's last skip before it shrinks; returns how many. */
int sde_unet_feature_shapes(const struct sde_unet_config *config, int batch, int height, int width,
			    struct sdk_shape ret_shapes[SDE_UNET_LEVELS_MAX]);

/*
 * The half of a U-Net that a ControlNet has too: conv_in, time and added embeddings, the down blocks and the middle one. Binds
 * those of *unet from its config.
 */
struct sde_binder;
void sde_unet_bind_encoder(struct sde_binder *binder, struct sde_unet *unet);
/* Record it: skips and, behind them, the middle block's output; returns how many, that one included. */
int sde_unet_record_encoder(struct sdk_plan *plan, const struct sde_unet *unet,
			    const struct sde_unet_inputs *inputs, sdk_value temb,
			    sdk_value ret_skips[SDE_UNET_SKIPS_MAX + 1]);
/* SiLU of the time embedding and what is added to it, (batch, 1, 1, time_embed_dim): every residual block projects this. */
sdk_value sde_unet_record_embedding(struct sdk_plan *plan, const struct sde_unet *unet,
				    const struct sde_unet_inputs *inputs);

/* Record one forward pass: (batch, height, width, out_channels). Any latent size; odd ones follow the skips' sizes. */
sdk_value sde_unet_record(struct sdk_plan *plan, const struct sde_unet *unet,
			  const struct sde_unet_inputs *inputs);

/* The time embedding alone, (batch, 1, 1, time_embed_dim), before SDXL's added conditions and the blocks' SiLU. */
sdk_value sde_unet_record_time(struct sdk_plan *plan, const struct sde_unet *unet,
			       const struct sde_unet_inputs *inputs);

/* Blocks, in unet-blocks.c; temb is SiLU(time embedding), (batch, 1, 1, time_embed_dim). */
sdk_value sde_unet_record_resnet(struct sdk_plan *plan, const struct sde_unet_config *config,
				 const struct sde_unet_resnet *resnet, sdk_value x, sdk_value temb);
sdk_value sde_unet_record_transformer(struct sdk_plan *plan, const struct sde_unet_config *config,
				      const struct sde_unet_transformer *transformer, sdk_value x,
				      const struct sde_unet_inputs *inputs);
