/*
 * The autoencoder of CompVis' latent-diffusion (taming transformers' model.py). Its decoder counts levels from the finest, diffusers
 * from the coarsest; its attention stores 1x1 convolutions, which the tables take as they are.
 */
#include "daemon/engine/formats/ldm.h"

#include <stdio.h>
#include <string.h>

#define LEVELS_MAX 16
#define NAME_BYTES 512

struct walk {
	struct sde_weights *weights;
	int n_levels;
};

static const struct sde_rename half[] = {
	{"norm_out.", "conv_norm_out."},
	{"mid.block_1.", "mid_block.resnets.0."},
	{"mid.block_2.", "mid_block.resnets.1."},
	{"mid.attn_1.norm.", "mid_block.attentions.0.group_norm."},
	{"mid.attn_1.q.", "mid_block.attentions.0.to_q."},
	{"mid.attn_1.k.", "mid_block.attentions.0.to_k."},
	{"mid.attn_1.v.", "mid_block.attentions.0.to_v."},
	{"mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."},
	{NULL, NULL},
};

static const struct sde_rename attention[] = {
	{"norm.", "group_norm."},   {"q.", "to_q."}, {"k.", "to_k."}, {"v.", "to_v."},
	{"proj_out.", "to_out.0."}, {NULL, NULL},
};

/* rest: behind "encoder." or "decoder.". */
static bool in_half(const struct walk *walk, const char *rest, char *to, size_t size)
{
	int level, layer, used = 0;
	char block[64];

	if (sde_rename(half, rest, to, size))
		return true;
	if (sscanf(rest, "down.%d.%n", &level, &used) == 1 && used)
		snprintf(block, sizeof(block), "down_blocks.%d", level);
	else if (sscanf(rest, "up.%d.%n", &level, &used) == 1 && used)
		snprintf(block, sizeof(block), "up_blocks.%d", walk->n_levels - 1 - level);
	else
		return false;
	rest += used;
	used = 0;
	if (!strncmp(rest, "downsample.conv.", 16)) {
		snprintf(to, size, "%s.downsamplers.0.conv.%s", block, rest + 16);
	} else if (!strncmp(rest, "upsample.conv.", 14)) {
		snprintf(to, size, "%s.upsamplers.0.conv.%s", block, rest + 14);
	} else if (sscanf(rest, "block.%d.%n", &layer, &used) == 1 && used) {
		snprintf(to, size, "%s.resnets.%d.%s", block, layer, rest + used);
	} else if (sscanf(rest, "attn.%d.%n", &layer, &used) == 1 && used) {
		const int start = snprintf(to, size, "%s.attentions.%d.", block, layer);

		return sde_rename(attention, rest + used, to + start, size - (size_t)start);
	} else {
		return false;
	}
	return true;
}

static bool translate(const struct walk *walk, const char *name, char *to, size_t size)
{
	char *shortcut;
	int start;

	if (strncmp(name, "encoder.", 8) != 0 && strncmp(name, "decoder.", 8) != 0)
		return false;
	start = snprintf(to, size, "%.8s", name);
	if (!in_half(walk, name + 8, to + start, size - (size_t)start))
		return false;
	shortcut = strstr(to, ".nin_shortcut.");
	if (shortcut) {
		char rest[64];

		snprintf(rest, sizeof(rest), "%s", shortcut + strlen(".nin_shortcut."));
		snprintf(shortcut, size - (size_t)(shortcut - to), ".conv_shortcut.%s", rest);
	}
	return true;
}

/* What stands beside a VAE that is a file of its own: the discriminator and averages of its training. */
static bool is_foreign(const char *name)
{
	return !strncmp(name, "loss.", 5) || !strncmp(name, "model_ema.", 10);
}

static int add(void *userdata, const struct sde_tensor *tensor, const char *name,
	       struct sde_error *error)
{
	struct walk *walk = userdata;
	char to[NAME_BYTES];

	if (is_foreign(name))
		return 0;
	return sde_weights_add(walk->weights, translate(walk, name, to, sizeof(to)) ? to : name,
			       tensor, NULL, error);
}

int sde_map_ldm_vae(const struct sde_part *part, struct sde_weights *weights,
		    struct sde_error *error)
{
	struct walk walk = {.weights = weights};

	while (walk.n_levels < LEVELS_MAX &&
	       sde_part_find(part, "decoder.up.%d.block.0.conv1.weight", walk.n_levels))
		walk.n_levels++;
	return sde_part_each(part, add, &walk, error);
}
