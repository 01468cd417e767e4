/*
 * Names of layers in adapter files; see names.h.
 */
#include "daemon/engine/adapters/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Inside a residual block, and where there is no block: {diffusers, original}. */
static const char *const resnet_names[][2] = {
	{"norm1", "in_layers.0"},  {"conv1", "in_layers.2"},  {"time_emb_proj", "emb_layers.1"},
	{"norm2", "out_layers.0"}, {"conv2", "out_layers.3"}, {"conv_shortcut", "skip_connection"},
};

static const char *const stem_names[][2] = {
	{"conv_in", "input_blocks.0.0"},
	{"time_embedding.linear_1", "time_embed.0"},
	{"time_embedding.linear_2", "time_embed.2"},
	{"add_embedding.linear_1", "label_emb.0.0"},
	{"add_embedding.linear_2", "label_emb.0.2"},
	{"conv_norm_out", "out.0"},
	{"conv_out", "out.2"},
};

static const char *translate(const char *const (*names)[2], size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i][0], name) == 0)
			return names[i][1];
	return NULL;
}

#define TRANSLATE(names, name) translate(names, sizeof(names) / sizeof((names)[0]), name)

/* Number of the input block of down level's first resnet; of the output block of up level's. */
static int first_input_block(const struct sde_unet_config *unet, int level)
{
	int n = 1;

	for (int i = 0; i < level; i++)
		n += unet->layers_per_block[i] + 1;
	return n;
}

static int first_output_block(const struct sde_unet_config *unet, int level)
{
	int n = 0;

	for (int i = 0; i < level; i++)
		n += unet->layers_per_block[(int)unet->n_levels - 1 - i] + 1;
	return n;
}

/* What stands at block.place: a residual block, a transformer (whose inner names are the same) */
static int put_inner(const char *block, int number, int place, const char *kind, const char *inner,
		     char *ret_name, size_t size)
{
	if (strcmp(kind, "resnets") == 0)
		inner = TRANSLATE(resnet_names, inner);
	if (!inner)
		return -ENOENT;
	snprintf(ret_name, size, "%s.%d.%d.%s", block, number, place, inner);
	return 0;
}

int sde_unet_ldm_name(const struct sde_unet_config *unet, const char *path, char *ret_name,
		      size_t size)
{
	const char *stem = TRANSLATE(stem_names, path), *inner;
	const int levels = (int)unet->n_levels;
	char kind[16];
	int level, i, at = 0;

	if (stem) {
		snprintf(ret_name, size, "%s", stem);
		return 0;
	}
	if (sscanf(path, "down_blocks.%d.downsamplers.0.con%n", &level, &at) == 1 && at > 0 &&
	    level >= 0 && level < levels) {
		snprintf(ret_name, size, "input_blocks.%d.0.op",
			 first_input_block(unet, level + 1) - 1);
		return 0;
	}
	at = 0;
	if (sscanf(path, "up_blocks.%d.upsamplers.0.con%n", &level, &at) == 1 && at > 0 &&
	    level >= 0 && level < levels) {
		snprintf(ret_name, size, "output_blocks.%d.%d.conv",
			 first_output_block(unet, level + 1) - 1,
			 unet->up_attention[level] ? 2 : 1);
		return 0;
	}
	at = 0;
	if (sscanf(path, "down_blocks.%d.%15[a-z].%d.%n", &level, kind, &i, &at) == 3 && at > 0 &&
	    level >= 0 && level < levels)
		return put_inner("input_blocks", first_input_block(unet, level) + i,
				 strcmp(kind, "attentions") == 0, kind, path + at, ret_name, size);
	at = 0;
	if (sscanf(path, "up_blocks.%d.%15[a-z].%d.%n", &level, kind, &i, &at) == 3 && at > 0 &&
	    level >= 0 && level < levels)
		return put_inner("output_blocks", first_output_block(unet, level) + i,
				 strcmp(kind, "attentions") == 0, kind, path + at, ret_name, size);
	at = 0;
	if (sscanf(path, "mid_block.%15[a-z].%d.%n", kind, &i, &at) != 2 || at == 0)
		return -ENOENT;
	/* a residual block, the transformer, a residual block */
	i = strcmp(kind, "attentions") == 0 ? 1 : 2 * i;
	inner = i == 1 ? path + at : TRANSLATE(resnet_names, path + at);
	if (!inner)
		return -ENOENT;
	snprintf(ret_name, size, "middle_block.%d.%s", i, inner);
	return 0;
}

static void put_kohya(char *to, const char *prefix, const char *path)
{
	const size_t n = strlen(prefix);

	snprintf(to, SDE_ADAPTER_NAME_BYTES, "%s%s", prefix, path);
	for (char *c = to + (n < SDE_ADAPTER_NAME_BYTES ? n : 0); *c; c++)
		if (*c == '.')
			*c = '_';
}

/* "attn1.to_q" was "attn1.processor.to_q_lora", "attn1.to_out.0" "attn1.processor.to_out_lora". */
static size_t put_processor(char *to, const char *path)
{
	const char *at = strstr(path, ".to_");
	size_t length;

	if (!at || !strstr(path, ".attn"))
		return 0;
	length = strcspn(at + 1, ".");
	snprintf(to, SDE_ADAPTER_NAME_BYTES, "unet.%.*s.processor.%.*s_lora", (int)(at - path),
		 path, (int)length, at + 1);
	return 1;
}

static size_t unet_names(const struct sde_unet_config *unet, const char *path,
			 char (*names)[SDE_ADAPTER_NAME_BYTES])
{
	char ldm[SDE_ADAPTER_NAME_BYTES / 2];
	size_t n = 0;

	put_kohya(names[n++], "lora_unet_", path);
	snprintf(names[n++], SDE_ADAPTER_NAME_BYTES, "unet.%s", path);
	if (sde_unet_ldm_name(unet, path, ldm, sizeof(ldm)) == 0)
		put_kohya(names[n++], "lora_unet_", ldm);
	return n + put_processor(names[n], path);
}

static size_t text_names(const char *const *prefixes, const char *dotted, const char *path,
			 char (*names)[SDE_ADAPTER_NAME_BYTES])
{
	char whole[SDE_ADAPTER_NAME_BYTES / 2];
	size_t n = 0;

	/* files of transformers 5 leave "text_model." out, adapters do not */
	snprintf(whole, sizeof(whole), "%s%s", strncmp(path, "text_", 5) == 0 ? "" : "text_model.",
		 path);
	for (; *prefixes; prefixes++)
		put_kohya(names[n++], *prefixes, whole);
	snprintf(names[n++], SDE_ADAPTER_NAME_BYTES, "%s.%s", dotted, whole);
	return n;
}

size_t sde_adapter_names(enum sde_adapter_part part, const struct sde_unet_config *unet,
			 const char *path, char (*ret_names)[SDE_ADAPTER_NAME_BYTES])
{
	static const char *const first[] = {"lora_te_", "lora_te1_", NULL};
	static const char *const second[] = {"lora_te2_", NULL};

	switch (part) {
	case SDE_ADAPTER_UNET:
		return unet_names(unet, path, ret_names);
	case SDE_ADAPTER_TEXT:
		return text_names(first, "text_encoder", path, ret_names);
	case SDE_ADAPTER_TEXT_2:
		return text_names(second, "text_encoder_2", path, ret_names);
	}
	return 0;
}
