/*
 * The activations of text encoders by the names that transformers' configurations give them.
 */
#include "daemon/engine/text_encoders/activation.h"

#include <string.h>

static const struct {
	const char *name;
	enum sdk_activation activation;
} activations[] = {
	{"quick_gelu", SDK_QUICK_GELU},
	{"gelu", SDK_GELU},
	{"gelu_new", SDK_GELU_TANH},
	{"gelu_pytorch_tanh", SDK_GELU_TANH},
	{"relu", SDK_RELU},
	{"silu", SDK_SILU},
	{"swish", SDK_SILU},
};

enum sdk_activation sde_text_activation(struct sde_config_keys *keys, const char *key,
					const char *name)
{
	for (size_t i = 0; i < sizeof(activations) / sizeof(activations[0]); i++)
		if (strcmp(name, activations[i].name) == 0)
			return activations[i].activation;
	sde_config_fail(keys,
			"'%s' has '%.40s'; quick_gelu, gelu, gelu_new, relu and silu are supported",
			key, name);
	return SDK_GELU;
}
