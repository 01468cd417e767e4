/*
 * The transformers of SD3 and FLUX in their authors' layout (mmdit.py, flux/model.py): q, k and v stacked in one matrix, FLUX's single blocks with
 * the feed-forward's input below them; and two modulations (the last text block's and the final one) that give (shift, scale), which
 * diffusers stores the other way round.
 */
#include "daemon/engine/formats/ldm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 512
#define LAYERS_MAX 256

struct walk {
	struct sde_weights *weights;
	int last;      /* SD3: the last block, whose text half is modulated by two rows only */
	int64_t width; /* FLUX: rows of q, k and v each */
};

static const struct sde_rename sd3_stem[] = {
	{"x_embedder.proj.", "pos_embed.proj."},
	{"t_embedder.mlp.0.", "time_text_embed.timestep_embedder.linear_1."},
	{"t_embedder.mlp.2.", "time_text_embed.timestep_embedder.linear_2."},
	{"y_embedder.mlp.0.", "time_text_embed.text_embedder.linear_1."},
	{"y_embedder.mlp.2.", "time_text_embed.text_embedder.linear_2."},
	{"final_layer.linear.", "proj_out."},
	{NULL, NULL},
};

static const struct sde_rename sd3_image[] = {
	{"adaLN_modulation.1.", "norm1.linear."},
	{"attn.proj.", "attn.to_out.0."},
	{"attn.ln_q.", "attn.norm_q."},
	{"attn.ln_k.", "attn.norm_k."},
	{"attn2.proj.", "attn2.to_out.0."},
	{"attn2.ln_q.", "attn2.norm_q."},
	{"attn2.ln_k.", "attn2.norm_k."},
	{"mlp.fc1.", "ff.net.0.proj."},
	{"mlp.fc2.", "ff.net.2."},
	{NULL, NULL},
};

static const struct sde_rename sd3_text[] = {
	{"adaLN_modulation.1.", "norm1_context.linear."},
	{"attn.proj.", "attn.to_add_out."},
	{"attn.ln_q.", "attn.norm_added_q."},
	{"attn.ln_k.", "attn.norm_added_k."},
	{"mlp.fc1.", "ff_context.net.0.proj."},
	{"mlp.fc2.", "ff_context.net.2."},
	{NULL, NULL},
};

static const struct sde_rename flux_stem[] = {
	{"img_in.", "x_embedder."},
	{"txt_in.", "context_embedder."},
	{"time_in.in_layer.", "time_text_embed.timestep_embedder.linear_1."},
	{"time_in.out_layer.", "time_text_embed.timestep_embedder.linear_2."},
	{"vector_in.in_layer.", "time_text_embed.text_embedder.linear_1."},
	{"vector_in.out_layer.", "time_text_embed.text_embedder.linear_2."},
	{"guidance_in.in_layer.", "time_text_embed.guidance_embedder.linear_1."},
	{"guidance_in.out_layer.", "time_text_embed.guidance_embedder.linear_2."},
	{"final_layer.linear.", "proj_out."},
	{NULL, NULL},
};

static const struct sde_rename flux_double[] = {
	{"img_mod.lin.", "norm1.linear."},
	{"txt_mod.lin.", "norm1_context.linear."},
	{"img_attn.proj.", "attn.to_out.0."},
	{"txt_attn.proj.", "attn.to_add_out."},
	{"img_attn.norm.query_norm.scale", "attn.norm_q.weight"},
	{"img_attn.norm.key_norm.scale", "attn.norm_k.weight"},
	{"txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"},
	{"txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"},
	{"img_mlp.0.", "ff.net.0.proj."},
	{"img_mlp.2.", "ff.net.2."},
	{"txt_mlp.0.", "ff_context.net.0.proj."},
	{"txt_mlp.2.", "ff_context.net.2."},
	{NULL, NULL},
};

static const struct sde_rename flux_single[] = {
	{"modulation.lin.", "norm.linear."},
	{"linear2.", "proj_out."},
	{"norm.query_norm.scale", "attn.norm_q.weight"},
	{"norm.key_norm.scale", "attn.norm_k.weight"},
	{NULL, NULL},
};

static const char *const image_qkv[] = {"attn.to_q", "attn.to_k", "attn.to_v"};
static const char *const second_qkv[] = {"attn2.to_q", "attn2.to_k", "attn2.to_v"};
static const char *const text_qkv[] = {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"};

/* (shift, scale) -> (scale, shift): the two halves of the rows change places. */
static int add_swapped(struct walk *walk, const struct sde_tensor *tensor, const char *name,
		       struct sde_error *error)
{
	const size_t half = tensor->bytes / 2;
	char *data;

	if (tensor->rank < 1 || tensor->shape[0] % 2 != 0 || tensor->bytes % 2 != 0)
		return sde_error_set(error, -EBADMSG, "%s: tensor '%s' has no two halves",
				     tensor->file, tensor->name);
	data = malloc(tensor->bytes + 1);
	if (!data)
		return sde_error_set(error, -ENOMEM, "%s: no memory for tensor '%s'", tensor->file,
				     tensor->name);
	memcpy(data, (const char *)tensor->data + half, half);
	memcpy(data + half, tensor->data, half);
	return sde_weights_add(walk->weights, name, tensor, data, error);
}

/* Three stacked matrices of `rows` rows each under block + names; kind: "weight" or "bias". */
static int add_qkv(struct walk *walk, const struct sde_tensor *tensor, int64_t rows,
		   const char *block, const char *const *names, const char *kind,
		   struct sde_error *error)
{
	char to[NAME_BYTES];
	int r = 0;

	for (int i = 0; r >= 0 && i < 3; i++) {
		snprintf(to, sizeof(to), "%s%s.%s", block, names[i], kind);
		r = sde_weights_add_rows(walk->weights, to, tensor, i * rows, rows, error);
	}
	return r;
}

static int64_t third_of(const struct sde_tensor *tensor)
{
	return tensor->rank > 0 ? tensor->shape[0] / 3 : 0;
}

static int add_renamed(struct walk *walk, const struct sde_tensor *tensor, const char *block,
		       const struct sde_rename *rules, const char *rest, const char *name,
		       struct sde_error *error)
{
	char to[NAME_BYTES];
	const int start = snprintf(to, sizeof(to), "%s", block);

	if (!sde_rename(rules, rest, to + start, sizeof(to) - (size_t)start))
		return sde_weights_add(walk->weights, name, tensor, NULL, error);
	return sde_weights_add(walk->weights, to, tensor, NULL, error);
}

/* Both families end alike. */
static bool is_final_modulation(const char *name, char *to, size_t size)
{
	static const struct sde_rename rules[] = {
		{"final_layer.adaLN_modulation.1.", "norm_out.linear."},
		{NULL, NULL},
	};

	return sde_rename(rules, name, to, size);
}

static int add_sd3(void *userdata, const struct sde_tensor *tensor, const char *name,
		   struct sde_error *error)
{
	struct walk *walk = userdata;
	int layer, used = 0;
	char block[64], to[NAME_BYTES];
	const char *rest;
	bool text;

	if (!strcmp(name, "pos_embed"))
		return sde_weights_add(walk->weights, "pos_embed.pos_embed", tensor, NULL, error);
	if (is_final_modulation(name, to, sizeof(to)))
		return add_swapped(walk, tensor, to, error);
	if (sscanf(name, "joint_blocks.%d.%n", &layer, &used) != 1 || !used)
		return add_renamed(walk, tensor, "", sd3_stem, name, name, error);
	rest = name + used;
	text = !strncmp(rest, "context_block.", 14);
	if (!text && strncmp(rest, "x_block.", 8) != 0)
		return sde_weights_add(walk->weights, name, tensor, NULL, error);
	rest += text ? 14 : 8;
	snprintf(block, sizeof(block), "transformer_blocks.%d.", layer);
	if (!strncmp(rest, "attn.qkv.", 9))
		return add_qkv(walk, tensor, third_of(tensor), block, text ? text_qkv : image_qkv,
			       rest + 9, error);
	if (!text && !strncmp(rest, "attn2.qkv.", 10))
		return add_qkv(walk, tensor, third_of(tensor), block, second_qkv, rest + 10, error);
	if (text && layer == walk->last && !strncmp(rest, "adaLN_modulation.1.", 19)) {
		snprintf(to, sizeof(to), "%snorm1_context.linear.%s", block, rest + 19);
		return add_swapped(walk, tensor, to, error);
	}
	return add_renamed(walk, tensor, block, text ? sd3_text : sd3_image, rest, name, error);
}

static int add_single_block(struct walk *walk, const struct sde_tensor *tensor, const char *block,
			    const char *rest, const char *name, struct sde_error *error)
{
	char to[NAME_BYTES];
	int r;

	if (strncmp(rest, "linear1.", 8) != 0)
		return add_renamed(walk, tensor, block, flux_single, rest, name, error);
	r = add_qkv(walk, tensor, walk->width, block, image_qkv, rest + 8, error);
	snprintf(to, sizeof(to), "%sproj_mlp.%s", block, rest + 8);
	if (r >= 0)
		r = sde_weights_add_rows(walk->weights, to, tensor, 3 * walk->width,
					 tensor->shape[0] - 3 * walk->width, error);
	return r;
}

static int add_flux(void *userdata, const struct sde_tensor *tensor, const char *name,
		    struct sde_error *error)
{
	struct walk *walk = userdata;
	int layer, used = 0;
	char block[64], to[NAME_BYTES];

	if (is_final_modulation(name, to, sizeof(to)))
		return add_swapped(walk, tensor, to, error);
	if (sscanf(name, "single_blocks.%d.%n", &layer, &used) == 1 && used) {
		snprintf(block, sizeof(block), "single_transformer_blocks.%d.", layer);
		return add_single_block(walk, tensor, block, name + used, name, error);
	}
	if (sscanf(name, "double_blocks.%d.%n", &layer, &used) != 1 || !used)
		return add_renamed(walk, tensor, "", flux_stem, name, name, error);
	snprintf(block, sizeof(block), "transformer_blocks.%d.", layer);
	if (!strncmp(name + used, "img_attn.qkv.", 13))
		return add_qkv(walk, tensor, third_of(tensor), block, image_qkv, name + used + 13,
			       error);
	if (!strncmp(name + used, "txt_attn.qkv.", 13))
		return add_qkv(walk, tensor, third_of(tensor), block, text_qkv, name + used + 13,
			       error);
	return add_renamed(walk, tensor, block, flux_double, name + used, name, error);
}

int sde_map_sd3(const struct sde_part *part, struct sde_weights *weights, struct sde_error *error)
{
	struct walk walk = {.weights = weights, .last = -1};

	while (walk.last + 1 < LAYERS_MAX &&
	       sde_part_find(part, "joint_blocks.%d.x_block.attn.qkv.weight", walk.last + 1))
		walk.last++;
	return sde_part_each(part, add_sd3, &walk, error);
}

int sde_map_flux(const struct sde_part *part, struct sde_weights *weights, struct sde_error *error)
{
	const struct sde_tensor *first = sde_part_find(part, "img_in.weight");
	struct walk walk = {.weights = weights,
			    .width = first && first->rank == 2 ? first->shape[0] : 0};

	return sde_part_each(part, add_flux, &walk, error);
}
