/*
 * The shape of a UNet2DConditionModel as its config.json gives it: levels, channels, heads, conditioning. Kept apart from
 * the forward code so that the loader, the pipelines and the tests can ask for a size without touching weights.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct sde_error;

#define SDE_UNET_LEVELS_MAX		8
#define SDE_UNET_LAYERS_MAX		8
#define SDE_UNET_TRANSFORMER_LAYERS_MAX 32

enum sde_unet_mid {
	SDE_UNET_MID_CROSS_ATTENTION,
	SDE_UNET_MID_RESNET, /* UNetMidBlock2D: a single residual block (SSD-1B) */
	SDE_UNET_MID_NONE,   /* mid_block_type null (BK-SDM-Tiny) */
};

struct sde_unet_config {
	int in_channels, out_channels;
	int sample_size; /* latent side the model was trained at, 0 if the file does not say */
	size_t n_levels;
	int block_out_channels[SDE_UNET_LEVELS_MAX]; /* down-block order */
	bool down_attention[SDE_UNET_LEVELS_MAX];    /* CrossAttnDownBlock2D, else DownBlock2D */
	bool up_attention[SDE_UNET_LEVELS_MAX];	     /* up-block order (lowest resolution first) */
	int layers_per_block[SDE_UNET_LEVELS_MAX];   /* down-block order; up blocks have one more */
	/* of each attention: down-block order, up-block order */
	int transformer_layers[SDE_UNET_LEVELS_MAX][SDE_UNET_LAYERS_MAX + 1];
	int up_transformer_layers[SDE_UNET_LEVELS_MAX][SDE_UNET_LAYERS_MAX + 1];
	enum sde_unet_mid mid;		      /* as deep as the first attention of the last level */
	int heads[SDE_UNET_LEVELS_MAX];	      /* NUMBER of heads (attention_head_dim, a misnomer) */
	int cross_attention_dim;	      /* channels of encoder_hidden_states */
	bool only_cross[SDE_UNET_LEVELS_MAX]; /* attn1, too, looks at the text; down-block order */
	bool scale_shift; /* time scales and shifts behind norm2, else it is added before */
	bool use_linear_projection; /* proj_in/out are Linear, else 1x1 convolutions */
	bool flip_sin_to_cos;	    /* [cos | sin] */
	double freq_shift;
	int norm_num_groups;
	double norm_eps;
	int time_embed_dim;
	int time_cond_proj_dim; /* LCM's guidance embedding, 0 = none */
	bool text_time;		/* SDXL: pooled text and time ids join the time embedding */
	int addition_time_embed_dim;
	int projection_class_embeddings_input_dim;
};

/* -EINVAL names the key; absent keys get the diffusers defaults. what: prefix of messages, e.g. "unet/config.json". */
int sde_unet_config_parse(const json_t *object, const char *what,
			  struct sde_unet_config *ret_config, struct sde_error *error);
