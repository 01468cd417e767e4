/*
 * Families of adapters; see family.h.
 */
#include "daemon/engine/adapters/family.h"

#include <errno.h>
#include <string.h>

#define SD1  "SD 1.x"
#define SD2  "SD 2.x"
#define SDXL "SDXL"
#define SD3  "SD 3"
#define FLUX "FLUX"

#define FLUX_WIDTH 3072

/* What only the names of one family hold. */
static const struct {
	const char *text, *family;
} marks[] = {
	{"lora_te2_", SDXL},
	{"text_encoder_2.", SDXL},
	{"lora_unet_input_blocks_", SDXL},
	{"lora_unet_output_blocks_", SDXL},
	{"lora_unet_double_blocks_", FLUX},
	{"lora_unet_single_blocks_", FLUX},
	{"single_transformer_blocks.", FLUX},
	{"lora_unet_joint_blocks_", SD3},
};

/* Width of the text that cross-attention looks at. */
static const struct {
	int64_t width;
	const char *family;
} widths[] = {{768, SD1}, {1024, SD2}, {2048, SDXL}};

static const char *by_width(const struct sde_tensor *tensor)
{
	const bool key = strstr(tensor->name, "attn2_to_k.lora_down") ||
			 strstr(tensor->name, "attn2.to_k.lora_A") ||
			 strstr(tensor->name, "attn2.to_k.lora.down") ||
			 strstr(tensor->name, "attn2.processor.to_k_lora.down");

	for (size_t i = 0; key && tensor->rank >= 2 && i < sizeof(widths) / sizeof(widths[0]); i++)
		if (tensor->shape[1] == widths[i].width)
			return widths[i].family;
	return NULL;
}

/* Joint attention is in both transformers; where no single block tells them apart, the width does. */
static const char *by_joint_attention(const struct sde_weights *weights)
{
	const struct sde_tensor *tensor;

	for (size_t i = 0; (tensor = sde_weights_at(weights, i)); i++)
		if (strstr(tensor->name, "add_k_proj.lora_A") && tensor->rank == 2)
			return tensor->shape[1] == FLUX_WIDTH ? FLUX : SD3;
	return NULL;
}

const char *sde_adapter_family(const struct sde_weights *weights)
{
	const struct sde_tensor *tensor;

	for (size_t i = 0; (tensor = sde_weights_at(weights, i)); i++) {
		const char *family = by_width(tensor);

		for (size_t k = 0; !family && k < sizeof(marks) / sizeof(marks[0]); k++)
			if (strstr(tensor->name, marks[k].text))
				family = marks[k].family;
		if (family)
			return family;
	}
	return by_joint_attention(weights);
}

const char *sde_family_words(const char *family)
{
	static const char *const words[][2] = {{"sd1", SD1},
					       {"sd2", SD2},
					       {"sdxl", SDXL},
					       {"sd3", SD3},
					       {"sd3.5", SD3},
					       {"flux", FLUX},
					       {"flux-schnell", FLUX},
					       {"flux-fill", FLUX},
					       {"sdxl-refiner", "the refiner of SDXL"}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i][0], family) == 0)
			return words[i][1];
	return family;
}

int sde_adapter_check_family(const char *what, const char *name, const struct sde_weights *weights,
			     const char *family, struct sde_error *error)
{
	const char *theirs = sde_adapter_family(weights), *ours = sde_family_words(family);

	if (!theirs || strcmp(theirs, ours) == 0)
		return 0;
	return sde_error_set(error, -EINVAL, "%s %s is for %s, the model is %s", what, name, theirs,
			     ours);
}
