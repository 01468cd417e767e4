/*
 * T5EncoderModel (Raffel et al. 2020; v1.1: Shazeer 2020; transformers' modeling_t5.py): the long text encoder of SD3 and
 * FLUX. Pre-norm blocks without biases, RMS norm, a gated (v1.1) or plain feed-forward; positions come in as a bias by distance,
 * learnt once and shared by all blocks; scores are not scaled; padding is looked at or not, as the caller says.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"

struct sde_error;
struct sde_weights;

struct sde_t5_config {
	int vocab_size, d_model, d_kv, d_ff; /* d_kv per head: heads * d_kv need not be d_model */
	int num_layers, num_heads;
	int relative_attention_num_buckets, relative_attention_max_distance;
	double layer_norm_epsilon;
	bool gated;
	enum sdk_activation activation; /* of the feed-forward */
};

struct sde_t5_layer {
	struct sde_norm attention_norm;
	struct sde_linear q, k, v, o;
	struct sde_norm ff_norm;
	struct sde_linear wi_0, wi_1, wo; /* wo(gelu(wi_0 x) * wi_1 x); plain: wo(relu(wi_0 x)) */
};

struct sde_t5 {
	struct sde_t5_config config;
	struct sde_table shared;		  /* (vocab_size, d_model) */
	struct sde_table relative_attention_bias; /* (buckets, heads) */
	struct sde_t5_layer *layers;		  /* config.num_layers, owned */
	struct sde_norm final_layer_norm;
};

/* -EINVAL names the key. */
int sde_t5_config_parse(const json_t *object, const char *what, struct sde_t5_config *ret_config,
			struct sde_error *error);

/* Bind every tensor of the file; a second copy of the token table is taken for what it is. Borrows weights. */
int sde_t5_bind(struct sde_t5 *t5, const struct sde_t5_config *config, struct sde_weights *weights,
		struct sde_error *error);
void sde_t5_clear(struct sde_t5 *t5);

/* The bucket of key position minus query position, seen in both directions: 0 .. num_buckets - 1. */
int sde_t5_bucket(int relative_position, int num_buckets, int max_distance);

/*
 * ids (batch, tokens); buckets: ids (1, tokens + keys - 1), of the distances 1 - tokens to keys - 1, which also say that every token
 * looks at the first `keys` ones. Returns last_hidden_state (batch, 1, tokens, d_model).
 */
sdk_value sde_t5_record(struct sdk_plan *plan, const struct sde_t5 *t5, sdk_value ids,
			sdk_value buckets);

/* -EINVAL for an id outside the vocabulary. */
int sde_t5_check_ids(const struct sde_t5 *t5, const int32_t *ids, int batch, int tokens,
		     struct sde_error *error);
