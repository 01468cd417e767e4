/*
 * CLIPTextModel (Radford et al. 2021; transformers' modeling_clip.py): the text encoder of SD 1.x (CLIP-L), SD 2.x
 * (OpenCLIP-H) and, with a projection, of SDXL and SD3. Causal self-attention over 77 tokens; padding is not masked.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"
#include "daemon/engine/text_encoders/clip-config.h"

struct sde_error;
struct sde_weights;

struct sde_clip_layer {
	struct sde_norm layer_norm1;
	struct sde_linear q_proj, k_proj, v_proj, out_proj;
	struct sde_norm layer_norm2;
	struct sde_linear fc1, fc2;
};

struct sde_clip {
	struct sde_clip_config config;
	struct sde_table token_embedding;    /* (vocab_size, hidden_size) */
	struct sde_table position_embedding; /* (max_position_embeddings, hidden_size) */
	struct sde_clip_layer *layers;	     /* config.num_hidden_layers, owned */
	struct sde_norm final_layer_norm;
	struct sde_linear text_projection; /* weight.data NULL when the file has none */
};

/*
 * Bind every tensor of the file; names with and without "text_model." are taken. The clip borrows weights. -EBADMSG,
 * -ENOENT, -ENOTSUP name the tensor; on failure *clip needs no clearing.
 */
int sde_clip_bind(struct sde_clip *clip, const struct sde_clip_config *config,
		  struct sde_weights *weights, struct sde_error *error);
void sde_clip_clear(struct sde_clip *clip);

/* Layer i behind "<prefix>encoder.layers.", and its recording: CLIP's image encoder has the same layers, without the mask. */
struct sde_binder;
void sde_clip_bind_layer(struct sde_binder *binder, const struct sde_clip_config *config,
			 struct sde_clip_layer *layer, const char *prefix, int i);
sdk_value sde_clip_record_layer(struct sdk_plan *plan, const struct sde_clip_config *config,
				const struct sde_clip_layer *layer, sdk_value x, bool causal);

/*
 * Record a forward pass over x: ids (batch, tokens), or with looked_up their vectors (batch, 1, tokens, hidden_size). hidden: room for num_hidden_layers + 1 values, transformers'
 * hidden_states: [0] the embeddings, [i] after layer i, before the final norm. Layers after `layers`
 * (0..num_hidden_layers) are not run and their entries not written.
 */
void sde_clip_record(struct sdk_plan *plan, const struct sde_clip *clip, sdk_value x,
		     bool looked_up, int layers, sdk_value *ret_hidden);
sdk_value sde_clip_record_final_norm(struct sdk_plan *plan, const struct sde_clip *clip,
				     sdk_value hidden);

/* Vectors that stand for ids beyond the vocabulary (textual inversion): id vocab_size + i is row i of (count, hidden_size). */
struct sde_clip_added {
	const float *rows; /* borrowed */
	int count;
};

/* -EINVAL for an id outside the vocabulary and the n_added behind it, or for more tokens than positions. */
int sde_clip_check_ids(const struct sde_clip *clip, const int32_t *ids, int batch, int tokens,
		       int n_added, struct sde_error *error);

/*
 * The token that is pooled: config.eos_token_id 2 (files of 2022) means the first largest id of the vocabulary, otherwise the first
 * eos_token_id, or token 0 when there is none (torch's argmax of all-false).
 */
int sde_clip_pooled_position(const struct sde_clip *clip, const int32_t *ids, int tokens);
