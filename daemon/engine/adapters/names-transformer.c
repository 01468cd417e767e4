/*
 * Layers of SD3 and FLUX as LoRA files call them: by diffusers' names, which are the model's own, or by those of the original
 * implementations, where q, k and v (and in FLUX's single blocks the feed-forward's first layer) are one.
 */
#include "daemon/engine/adapters/names.h"

#include <stdio.h>
#include <string.h>

enum { WHOLE, Q, K, V, MLP };

struct inner {
	const char *ours, *theirs;
	int part; /* of a fused layer: which; WHOLE: not fused */
};

/* Behind "transformer_blocks.N." -> behind "double_blocks.N.". */
static const struct inner flux_double[] = {
	{"norm1.linear", "img_mod.lin", WHOLE},
	{"norm1_context.linear", "txt_mod.lin", WHOLE},
	{"attn.to_q", "img_attn.qkv", Q},
	{"attn.to_k", "img_attn.qkv", K},
	{"attn.to_v", "img_attn.qkv", V},
	{"attn.add_q_proj", "txt_attn.qkv", Q},
	{"attn.add_k_proj", "txt_attn.qkv", K},
	{"attn.add_v_proj", "txt_attn.qkv", V},
	{"attn.to_out.0", "img_attn.proj", WHOLE},
	{"attn.to_add_out", "txt_attn.proj", WHOLE},
	{"ff.net.0.proj", "img_mlp.0", WHOLE},
	{"ff.net.2", "img_mlp.2", WHOLE},
	{"ff_context.net.0.proj", "txt_mlp.0", WHOLE},
	{"ff_context.net.2", "txt_mlp.2", WHOLE},
	{NULL, NULL, WHOLE},
};

/* Behind "single_transformer_blocks.N." -> behind "single_blocks.N.". */
static const struct inner flux_single[] = {
	{"norm.linear", "modulation.lin", WHOLE},
	{"attn.to_q", "linear1", Q},
	{"attn.to_k", "linear1", K},
	{"attn.to_v", "linear1", V},
	{"proj_mlp", "linear1", MLP},
	{"proj_out", "linear2", WHOLE},
	{NULL, NULL, WHOLE},
};

/* Behind "transformer_blocks.N." -> behind "joint_blocks.N.". */
static const struct inner sd3_joint[] = {
	{"attn.to_q", "x_block.attn.qkv", Q},
	{"attn.to_k", "x_block.attn.qkv", K},
	{"attn.to_v", "x_block.attn.qkv", V},
	{"attn.add_q_proj", "context_block.attn.qkv", Q},
	{"attn.add_k_proj", "context_block.attn.qkv", K},
	{"attn.add_v_proj", "context_block.attn.qkv", V},
	{"attn.to_out.0", "x_block.attn.proj", WHOLE},
	{"attn.to_add_out", "context_block.attn.proj", WHOLE},
	{"ff.net.0.proj", "x_block.mlp.fc1", WHOLE},
	{"ff.net.2", "x_block.mlp.fc2", WHOLE},
	{"ff_context.net.0.proj", "context_block.mlp.fc1", WHOLE},
	{"ff_context.net.2", "context_block.mlp.fc2", WHOLE},
	{NULL, NULL, WHOLE},
};

static const struct {
	const char *ours, *theirs;
	const struct inner *inner;
} blocks[] = {
	{"transformer_blocks.%d.%n", "double_blocks", flux_double},
	{"single_transformer_blocks.%d.%n", "single_blocks", flux_single},
	{"transformer_blocks.%d.%n", "joint_blocks", sd3_joint},
};

static const struct inner flux_outside[] = {
	{"x_embedder", "img_in", WHOLE},
	{"context_embedder", "txt_in", WHOLE},
	{"time_text_embed.timestep_embedder.linear_1", "time_in.in_layer", WHOLE},
	{"time_text_embed.timestep_embedder.linear_2", "time_in.out_layer", WHOLE},
	{"time_text_embed.text_embedder.linear_1", "vector_in.in_layer", WHOLE},
	{"time_text_embed.text_embedder.linear_2", "vector_in.out_layer", WHOLE},
	{"time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer", WHOLE},
	{"time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer", WHOLE},
	{"proj_out", "final_layer.linear", WHOLE},
	{NULL, NULL, WHOLE},
};

/* Rows of the fused layer; in a single block the feed-forward's follow q, k and v. */
static void set_rows(struct sde_adapter_name *name, int part, int in, int out, bool single)
{
	if (part == WHOLE)
		return;
	name->rows = single ? (part == MLP ? 3 * in + out : 7 * in) : 3 * out;
	name->first_row = part == MLP ? 3 * in : (part - Q) * out;
}

/* The name as kohya writes it, and with the prefix of ComfyUI's files. */
static size_t put_original(struct sde_adapter_name *names, const char *original, int part, int in,
			   int out, bool single)
{
	sde_adapter_kohya_name(names[0].text, "lora_unet_", original);
	snprintf(names[1].text, SDE_ADAPTER_NAME_BYTES, "diffusion_model.%s", original);
	for (int i = 0; i < 2; i++)
		set_rows(&names[i], part, in, out, single);
	return 2;
}

size_t sde_transformer_names(const char *path, int in, int out,
			     struct sde_adapter_name ret_names[SDE_ADAPTER_NAMES_MAX])
{
	char original[SDE_ADAPTER_NAME_BYTES / 2];
	size_t n = 0;

	snprintf(ret_names[n++].text, SDE_ADAPTER_NAME_BYTES, "transformer.%s", path);
	sde_adapter_kohya_name(ret_names[n++].text, "lora_transformer_", path);
	for (const struct inner *top = flux_outside; top->ours; top++)
		if (strcmp(top->ours, path) == 0)
			return n + put_original(ret_names + n, top->theirs, WHOLE, in, out, false);
	for (size_t b = 0; b < sizeof(blocks) / sizeof(blocks[0]); b++) {
		const struct inner *inner = blocks[b].inner;
		int number, used = 0;

		if (sscanf(path, blocks[b].ours, &number, &used) != 1 || used == 0)
			continue;
		while (inner->ours && strcmp(inner->ours, path + used) != 0)
			inner++;
		if (!inner->ours)
			continue;
		snprintf(original, sizeof(original), "%s.%d.%s", blocks[b].theirs, number,
			 inner->theirs);
		n += put_original(ret_names + n, original, inner->part, in, out,
				  blocks[b].inner == flux_single);
	}
	return n;
}
