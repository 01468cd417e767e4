/*
 * SD3Transformer2DModel (Esser et al. 2024; diffusers' transformer_sd3.py): the MM-DiT of Stable Diffusion 3 and 3.5. Latents
 * are cut into patches of 2 x 2 with a learnt table of positions; 3.5 norms queries and keys and gives some blocks a second
 * attention of the image alone.
 */
#pragma once

#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/denoisers/joint.h"

struct sde_error;
struct sde_runner;
struct sde_weights;

#define SDE_SD3_LAYERS_MAX 64 /* so that a set of them is a uint64_t */

struct sde_sd3_config {
	int in_channels, out_channels;
	int sample_size; /* latent side it was trained at */
	int patch_size;	 /* 2 */
	int num_layers, num_attention_heads, attention_head_dim;
	int joint_attention_dim; /* channels of the context */
	int pooled_projection_dim;
	int pos_embed_max_size; /* patches a side that the table of positions has */
	bool qk_norm;
	uint64_t dual_attention_layers; /* bit i: block i has a second attention */
};

struct sde_sd3 {
	struct sde_sd3_config config;
	struct sde_joint_shape shape;
	struct sde_conv patches;    /* pos_embed.proj */
	struct sde_table positions; /* (pos_embed_max_size^2, width) */
	struct sde_linear context_embedder;
	struct sde_joint_condition condition;
	struct sde_joint_block *blocks; /* config.num_layers, owned */
	struct sde_joint_final final;
};

/* -EINVAL names the key. what: prefix of messages, e.g. "transformer/config.json". */
int sde_sd3_config_parse(const json_t *object, const char *what, struct sde_sd3_config *ret_config,
			 struct sde_error *error);

/* Bind every tensor of the file; borrows weights. Errors name the tensor; on failure *sd3 needs no clearing. */
int sde_sd3_bind(struct sde_sd3 *sd3, const struct sde_sd3_config *config,
		 struct sde_weights *weights, struct sde_error *error);
void sde_sd3_clear(struct sde_sd3 *sd3);

struct sde_sd3_inputs {
	sdk_value sample;  /* (n, height, width, in_channels), sides multiples of patch_size */
	sdk_value time;	   /* (n, 1, 1, SDE_JOINT_SINUSOID) */
	sdk_value context; /* (n, 1, tokens, joint_attention_dim) */
	sdk_value pooled;  /* (n, 1, 1, pooled_projection_dim) */
};

/*
 * Record one forward pass: (n, 1, patches, patch_size^2 * out_channels), channels last within a patch. Blocks whose bit in skipped
 * is set are left out.
 */
sdk_value sde_sd3_record(struct sdk_plan *plan, const struct sde_sd3 *sd3,
			 const struct sde_sd3_inputs *inputs, uint64_t skipped);
