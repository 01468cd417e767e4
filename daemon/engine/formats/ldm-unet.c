/*
 * The U-Net of CompVis' latent-diffusion (openaimodel.py): input_blocks and output_blocks count through all levels, so where a level
 * ends is seen by its resampler. diffusers counts levels, and inside them residual blocks, transformers and resamplers apart.
 */
#include "daemon/engine/formats/ldm.h"

#include <stdio.h>
#include <string.h>

#define BLOCKS_MAX 64
#define NAME_BYTES 512
#define RESAMPLER  (-1)

/* Where block i of the file stands in diffusers' count. */
struct place {
	int level, layer; /* layer RESAMPLER: a downsampler */
};

struct walk {
	struct sde_weights *weights;
	struct place in[BLOCKS_MAX], out[BLOCKS_MAX];
	int n_in, n_out;
};

const struct sde_rename sde_ldm_stem[] = {
	{"time_embed.0.", "time_embedding.linear_1."},
	{"time_embed.2.", "time_embedding.linear_2."},
	{"time_embed.cond_proj.", "time_embedding.cond_proj."},
	{"label_emb.0.0.", "add_embedding.linear_1."},
	{"label_emb.0.2.", "add_embedding.linear_2."},
	{"input_blocks.0.0.", "conv_in."},
	{"out.0.", "conv_norm_out."},
	{"out.2.", "conv_out."},
	{"middle_block.1.", "mid_block.attentions.0."},
	{NULL, NULL},
};

const struct sde_rename sde_ldm_resnet[] = {
	{"in_layers.0.", "norm1."},
	{"in_layers.2.", "conv1."},
	{"emb_layers.1.", "time_emb_proj."},
	{"out_layers.0.", "norm2."},
	{"out_layers.3.", "conv2."},
	{"skip_connection.", "conv_shortcut."},
	{NULL, NULL},
};

static void walk_blocks(const struct sde_part *part, struct walk *walk)
{
	struct place at = {0, 0};
	int i;

	walk->in[0] = at;
	for (i = 1; i < BLOCKS_MAX; i++) {
		if (sde_part_find(part, "input_blocks.%d.0.op.weight", i)) {
			walk->in[i] = (struct place){at.level++, RESAMPLER};
			at.layer = 0;
		} else if (sde_part_find(part, "input_blocks.%d.0.in_layers.0.weight", i)) {
			walk->in[i] = at;
			at.layer++;
		} else {
			break;
		}
	}
	walk->n_in = i;
	at = (struct place){0, 0};
	for (i = 0; i < BLOCKS_MAX; i++) {
		if (!sde_part_find(part, "output_blocks.%d.0.in_layers.0.weight", i))
			break;
		walk->out[i] = at;
		at.layer++;
		if (sde_part_find(part, "output_blocks.%d.1.conv.weight", i) ||
		    sde_part_find(part, "output_blocks.%d.2.conv.weight", i))
			at = (struct place){at.level + 1, 0};
	}
	walk->n_out = i;
}

static bool in_resnet(const char *block, int layer, const char *rest, char *to, size_t size)
{
	const int used = snprintf(to, size, "%s.resnets.%d.", block, layer);

	return sde_rename(sde_ldm_resnet, rest, to + used, size - (size_t)used);
}

/* rest: behind "input_blocks.i.j." or "output_blocks.i.j.". */
static bool in_block(const char *kind, struct place place, int j, const char *rest, char *to,
		     size_t size)
{
	char block[64];

	snprintf(block, sizeof(block), "%s.%d", kind, place.level);
	if (place.layer == RESAMPLER && !strncmp(rest, "op.", 3))
		snprintf(to, size, "%s.downsamplers.0.conv.%s", block, rest + 3);
	else if (j == 0)
		return in_resnet(block, place.layer, rest, to, size);
	else if (!strncmp(rest, "conv.", 5))
		snprintf(to, size, "%s.upsamplers.0.conv.%s", block, rest + 5);
	else
		snprintf(to, size, "%s.attentions.%d.%s", block, place.layer, rest);
	return true;
}

static bool translate(const struct walk *walk, const char *name, char *to, size_t size)
{
	int i, j, used = 0;

	if (sde_rename(sde_ldm_stem, name, to, size))
		return true;
	if (sscanf(name, "input_blocks.%d.%d.%n", &i, &j, &used) == 2 && used && i > 0 &&
	    i < walk->n_in)
		return in_block("down_blocks", walk->in[i], j, name + used, to, size);
	if (sscanf(name, "output_blocks.%d.%d.%n", &i, &j, &used) == 2 && used && i >= 0 &&
	    i < walk->n_out)
		return in_block("up_blocks", walk->out[i], j, name + used, to, size);
	if (!strncmp(name, "middle_block.0.", 15))
		return in_resnet("mid_block", 0, name + 15, to, size);
	if (!strncmp(name, "middle_block.2.", 15))
		return in_resnet("mid_block", 1, name + 15, to, size);
	return false;
}

static int add(void *userdata, const struct sde_tensor *tensor, const char *name,
	       struct sde_error *error)
{
	struct walk *walk = userdata;
	char to[NAME_BYTES];
	const bool known = translate(walk, name, to, sizeof(to));

	return sde_weights_add(walk->weights, known ? to : name, tensor, NULL, error);
}

int sde_map_ldm_unet(const struct sde_part *part, struct sde_weights *weights,
		     struct sde_error *error)
{
	struct walk walk = {.weights = weights};

	walk_blocks(part, &walk);
	return sde_part_each(part, add, &walk, error);
}
