/*
 * Names of layers in adapter files; see names.h.
 */
#include "daemon/engine/adapters/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/formats/ldm.h"

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

/* block.number.place. and what stands there calls inner: a residual block, or a transformer, whose inner names are the same. */
static int put_inner(const char *block, int number, int place, bool resnet, const char *inner,
		     char *ret_name, size_t size)
{
	const int used = snprintf(ret_name, size, "%s.%d.%d.", block, number, place);

	if (!resnet)
		snprintf(ret_name + used, size - (size_t)used, "%s", inner);
	else if (!sde_rename_back(sde_ldm_resnet, inner, ret_name + used, size - (size_t)used))
		return -ENOENT;
	return 0;
}

/* path ends with a '.' */
static int ldm_name(const struct sde_unet_config *unet, const char *path, char *ret_name,
		    size_t size)
{
	const int levels = (int)unet->n_levels;
	char kind[16];
	int level, i, at = 0;

	/* before the stem, whose list has the middle transformer too */
	if (sscanf(path, "mid_block.resnets.%d.%n", &i, &at) == 1 && at > 0) {
		const int used = snprintf(ret_name, size, "middle_block.%d.", 2 * i);

		return sde_rename_back(sde_ldm_resnet, path + at, ret_name + used,
				       size - (size_t)used)
			       ? 0
			       : -ENOENT;
	}
	if (sde_rename_back(sde_ldm_stem, path, ret_name, size))
		return 0;
	at = 0;
	if (sscanf(path, "down_blocks.%d.downsamplers.0.conv.%n", &level, &at) == 1 && at > 0 &&
	    level >= 0 && level < levels) {
		snprintf(ret_name, size, "input_blocks.%d.0.op.",
			 first_input_block(unet, level + 1) - 1);
		return 0;
	}
	at = 0;
	if (sscanf(path, "up_blocks.%d.upsamplers.0.conv.%n", &level, &at) == 1 && at > 0 &&
	    level >= 0 && level < levels) {
		snprintf(ret_name, size, "output_blocks.%d.%d.conv.",
			 first_output_block(unet, level + 1) - 1,
			 unet->up_attention[level] ? 2 : 1);
		return 0;
	}
	at = 0;
	if (sscanf(path, "down_blocks.%d.%15[a-z].%d.%n", &level, kind, &i, &at) == 3 && at > 0 &&
	    level >= 0 && level < levels)
		return put_inner("input_blocks", first_input_block(unet, level) + i,
				 strcmp(kind, "attentions") == 0, strcmp(kind, "resnets") == 0,
				 path + at, ret_name, size);
	at = 0;
	if (sscanf(path, "up_blocks.%d.%15[a-z].%d.%n", &level, kind, &i, &at) == 3 && at > 0 &&
	    level >= 0 && level < levels)
		return put_inner("output_blocks", first_output_block(unet, level) + i,
				 strcmp(kind, "attentions") == 0, strcmp(kind, "resnets") == 0,
				 path + at, ret_name, size);
	return -ENOENT;
}

int sde_unet_ldm_name(const struct sde_unet_config *unet, const char *path, char *ret_name,
		      size_t size)
{
	char dotted[SDE_ADAPTER_NAME_BYTES];
	int r;

	snprintf(dotted, sizeof(dotted), "%s.", path);
	r = ldm_name(unet, dotted, ret_name, size);
	if (r == 0)
		ret_name[strlen(ret_name) - 1] = '\0';
	return r;
}

void sde_adapter_kohya_name(char to[SDE_ADAPTER_NAME_BYTES], const char *prefix, const char *path)
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
			 struct sde_adapter_name *names)
{
	char ldm[SDE_ADAPTER_NAME_BYTES / 2];
	size_t n = 0;

	sde_adapter_kohya_name(names[n++].text, "lora_unet_", path);
	snprintf(names[n++].text, SDE_ADAPTER_NAME_BYTES, "unet.%s", path);
	if (sde_unet_ldm_name(unet, path, ldm, sizeof(ldm)) == 0)
		sde_adapter_kohya_name(names[n++].text, "lora_unet_", ldm);
	return n + put_processor(names[n].text, path);
}

static size_t text_names(const char *const *prefixes, const char *dotted, const char *path,
			 struct sde_adapter_name *names)
{
	char whole[SDE_ADAPTER_NAME_BYTES / 2];
	size_t n = 0;

	/* files of transformers 5 leave "text_model." out, adapters do not */
	snprintf(whole, sizeof(whole), "%s%s", strncmp(path, "text_", 5) == 0 ? "" : "text_model.",
		 path);
	for (; *prefixes; prefixes++)
		sde_adapter_kohya_name(names[n++].text, *prefixes, whole);
	snprintf(names[n++].text, SDE_ADAPTER_NAME_BYTES, "%s.%s", dotted, whole);
	return n;
}

size_t sde_adapter_names(enum sde_adapter_part part, const struct sde_unet_config *unet,
			 const char *path, int in, int out,
			 struct sde_adapter_name ret_names[SDE_ADAPTER_NAMES_MAX])
{
	static const char *const first[] = {"lora_te_", "lora_te1_", NULL};
	static const char *const second[] = {"lora_te2_", NULL};

	for (size_t i = 0; i < SDE_ADAPTER_NAMES_MAX; i++)
		ret_names[i] = (struct sde_adapter_name){.rows = 0};
	switch (part) {
	case SDE_ADAPTER_UNET:
		return unet_names(unet, path, ret_names);
	case SDE_ADAPTER_TEXT:
		return text_names(first, "text_encoder", path, ret_names);
	case SDE_ADAPTER_TEXT_2:
		return text_names(second, "text_encoder_2", path, ret_names);
	case SDE_ADAPTER_TRANSFORMER:
		return sde_transformer_names(path, in, out, ret_names);
	case SDE_ADAPTER_PARTS:
		break;
	}
	return 0;
}
