/*
 * The shape of a CLIPTextModel (with or without projection) as its config.json gives it.
 */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "kernels/plan.h"

struct sde_error;

struct sde_clip_config {
	int vocab_size, hidden_size, intermediate_size, projection_dim;
	int num_hidden_layers, num_attention_heads, max_position_embeddings;
	enum sdk_activation hidden_act;
	double layer_norm_eps;
	int eos_token_id; /* 2 selects the old rule: pool at the largest id */
};

/* -EINVAL names the key; absent keys get the transformers defaults. A full CLIP config is read from its text_config. */
int sde_clip_config_parse(const json_t *object, const char *what,
			  struct sde_clip_config *ret_config, struct sde_error *error);
