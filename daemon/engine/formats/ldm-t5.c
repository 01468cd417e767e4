/*
 * T5 encoders inside checkpoint files and sets: transformers' names behind a prefix, or llama.cpp's, which GGUF files of text encoders
 * have.
 */
#include "daemon/engine/formats/ldm.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES 512

static const struct sde_rename stem[] = {
	{"token_embd.", "shared."},
	{"enc.output_norm.", "encoder.final_layer_norm."},
	{NULL, NULL},
};

static const struct sde_rename block[] = {
	{"attn_q.", "layer.0.SelfAttention.q."},
	{"attn_k.", "layer.0.SelfAttention.k."},
	{"attn_v.", "layer.0.SelfAttention.v."},
	{"attn_o.", "layer.0.SelfAttention.o."},
	{"attn_rel_b.", "layer.0.SelfAttention.relative_attention_bias."},
	{"attn_norm.", "layer.0.layer_norm."},
	{"ffn_gate.", "layer.1.DenseReluDense.wi_0."},
	{"ffn_up.", "layer.1.DenseReluDense.wi_1."},
	{"ffn_down.", "layer.1.DenseReluDense.wo."},
	{"ffn_norm.", "layer.1.layer_norm."},
	{NULL, NULL},
};

static int add_t5(void *userdata, const struct sde_tensor *tensor, const char *name,
		  struct sde_error *error)
{
	/* tokenizers that ComfyUI packs beside the weights, and bookkeeping */
	if (!strcmp(name, "spiece_model") || !strcmp(name, "logit_scale"))
		return 0;
	return sde_weights_add(userdata, name, tensor, NULL, error);
}

int sde_map_t5(const struct sde_part *part, struct sde_weights *weights, struct sde_error *error)
{
	return sde_part_each(part, add_t5, weights, error);
}

static int add_llama(void *userdata, const struct sde_tensor *tensor, const char *name,
		     struct sde_error *error)
{
	char to[NAME_BYTES];
	int layer, used = 0, start;

	if (sde_rename(stem, name, to, sizeof(to)))
		return sde_weights_add(userdata, to, tensor, NULL, error);
	if (sscanf(name, "enc.blk.%d.%n", &layer, &used) != 1 || !used)
		return sde_weights_add(userdata, name, tensor, NULL, error);
	start = snprintf(to, sizeof(to), "encoder.block.%d.", layer);
	if (!sde_rename(block, name + used, to + start, sizeof(to) - (size_t)start))
		return sde_weights_add(userdata, name, tensor, NULL, error);
	return sde_weights_add(userdata, to, tensor, NULL, error);
}

int sde_map_t5_llama(const struct sde_part *part, struct sde_weights *weights,
		     struct sde_error *error)
{
	return sde_part_each(part, add_llama, weights, error);
}
