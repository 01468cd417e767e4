/*
 * FluxTransformer2DModel (Black Forest Labs 2024; diffusers' transformer_flux.py): FLUX.1 dev, schnell and fill. Latents are
 * packed 2 x 2 into tokens; double blocks keep text and image apart as in SD3, single blocks run both as one sequence with
 * attention and feed-forward side by side. Positions are rotary, by row and column of the image; text is at the origin.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/denoisers/joint.h"

struct sde_error;
struct sde_weights;

#define SDE_FLUX_AXES 3 /* of a position: picture, row, column */
#define SDE_FLUX_PACK 2 /* latents a side of a token */

struct sde_flux_config {
	int in_channels, out_channels; /* of packed tokens: 4 times the latents' */
	int num_layers, num_single_layers;
	int num_attention_heads, attention_head_dim;
	int joint_attention_dim; /* channels of the context */
	int pooled_projection_dim;
	bool guidance_embeds;
	int axes_dims_rope[SDE_FLUX_AXES]; /* channels of a head that each axis turns */
};

/* out([attention, gelu_tanh(mlp_in x)]), gated; modulation: shift, scale, gate. */
struct sde_flux_single_block {
	struct sde_linear modulation;
	struct sde_joint_attention attention; /* without `out` */
	struct sde_linear mlp_in, proj_out;
};

struct sde_flux {
	struct sde_flux_config config;
	struct sde_joint_shape shape; /* rope NULL: a table belongs to a plan */
	struct sde_linear x_embedder, context_embedder;
	struct sde_joint_condition condition;
	struct sde_joint_block *blocks;		     /* config.num_layers, owned */
	struct sde_flux_single_block *single_blocks; /* config.num_single_layers, owned */
	struct sde_joint_final final;
};

/* -EINVAL names the key. what: prefix of messages, e.g. "transformer/config.json". */
int sde_flux_config_parse(const json_t *object, const char *what,
			  struct sde_flux_config *ret_config, struct sde_error *error);

/* Bind every tensor of the file; borrows weights. Errors name the tensor; on failure *flux needs no clearing. */
int sde_flux_bind(struct sde_flux *flux, const struct sde_flux_config *config,
		  struct sde_weights *weights, struct sde_error *error);
void sde_flux_clear(struct sde_flux *flux);

/*
 * The table of sdk_rope for `text` tokens at the origin and rows x columns of image tokens: malloc()ed, (text + rows * columns) x
 * 2 * attention_head_dim; NULL when out of memory. Angles are made in double, as in diffusers.
 */
float *sde_flux_rope(const struct sde_flux_config *config, int text, int rows, int columns);

/* (n, channels, height, width) <-> (n, height / 2 * width / 2, channels * 4): channel c * 4 + dy * 2 + dx. */
void sde_flux_pack(const float *latents, float *ret_tokens, int n, int channels, int height,
		   int width);
void sde_flux_unpack(const float *tokens, float *ret_latents, int n, int channels, int height,
		     int width);

struct sde_flux_inputs {
	sdk_value tokens;  /* (n, 1, rows * columns, in_channels) */
	int rows, columns; /* of image tokens */
	sdk_value time,
		guidance; /* (n, 1, 1, SDE_JOINT_SINUSOID); guidance not read without guidance_embeds */
	sdk_value context; /* (n, 1, text tokens, joint_attention_dim) */
	sdk_value pooled;  /* (n, 1, 1, pooled_projection_dim) */
};

/* Record one forward pass: (n, 1, rows * columns, out_channels). */
sdk_value sde_flux_record(struct sdk_plan *plan, const struct sde_flux *flux,
			  const struct sde_flux_inputs *inputs);
