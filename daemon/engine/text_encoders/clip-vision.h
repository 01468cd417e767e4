/*
 * CLIPVisionModelWithProjection (Radford et al. 2021; transformers' modeling_clip.py): the image encoder of IP-Adapters. A vision
 * transformer over patches with a class token, whose state is projected; its layers are those of the text model, without a mask.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/text_encoders/clip.h"

struct sde_runner;

struct sde_clip_vision {
	struct sde_clip_config config; /* of the layers; vocabulary and positions are not used */
	int image_size, patch_size;
	struct sde_linear patch; /* (hidden, 3 * patch * patch), from a convolution */
	struct sdk_tensor class_embedding, positions; /* (hidden), (1 + patches, hidden) */
	struct sde_norm pre_norm, post_norm;
	struct sde_clip_layer *layers; /* owned */
	struct sde_linear projection;
};

/* Bind every tensor of weights, borrowed. On failure nothing needs clearing. */
int sde_clip_vision_bind(struct sde_clip_vision *vision, const json_t *config, const char *what,
			 struct sde_weights *weights, struct sde_error *error);
void sde_clip_vision_clear(struct sde_clip_vision *vision);

/* pixel_values (3, image_size, image_size), normalised -> ret_embeds (projection_dim). */
int sde_clip_vision_forward(struct sde_runner *runner, const struct sde_clip_vision *vision,
			    const float *pixel_values, float *ret_embeds, struct sde_error *error);
/* The same up to the last layer, which is left out: ret_states (sde_clip_vision_tokens, hidden_size), the class token first. */
int sde_clip_vision_states(struct sde_runner *runner, const struct sde_clip_vision *vision,
			   const float *pixel_values, float *ret_states, struct sde_error *error);
/* Patches and the class token. */
int sde_clip_vision_tokens(const struct sde_clip_vision *vision);
