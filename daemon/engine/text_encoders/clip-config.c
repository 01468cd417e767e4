/*
 * config.json of a CLIPTextModel -> struct sde_clip_config, with the defaults of transformers' CLIPTextConfig.
 */
#include "daemon/engine/text_encoders/clip-config.h"

#include "daemon/engine/error.h"
#include "daemon/engine/text_encoders/activation.h"

#define CHANNELS_MAX 65536

int sde_clip_config_parse(const json_t *object, const char *what,
			  struct sde_clip_config *ret_config, struct sde_error *error)
{
	const json_t *text_config = json_object_get(object, "text_config");
	struct sde_config_keys keys = {.object = json_is_object(text_config) ? text_config : object,
				       .what = what,
				       .error = error};
	struct sde_clip_config config = {
		.vocab_size = sde_config_int(&keys, "vocab_size", 49408, 1, 1 << 24),
		.hidden_size = sde_config_int(&keys, "hidden_size", 512, 1, CHANNELS_MAX),
		.intermediate_size = sde_config_int(&keys, "intermediate_size", 2048, 1, 1 << 20),
		.projection_dim = sde_config_int(&keys, "projection_dim", 512, 1, CHANNELS_MAX),
		.num_hidden_layers = sde_config_int(&keys, "num_hidden_layers", 12, 1, 256),
		.num_attention_heads = sde_config_int(&keys, "num_attention_heads", 8, 1, 1024),
		.max_position_embeddings =
			sde_config_int(&keys, "max_position_embeddings", 77, 3, 1 << 16),
		.hidden_act = sde_text_activation(
			&keys, "hidden_act", sde_config_string(&keys, "hidden_act", "quick_gelu")),
		.layer_norm_eps = sde_config_real(&keys, "layer_norm_eps", 1e-5, 0, 1),
		.eos_token_id = sde_config_int(&keys, "eos_token_id", 49407, 0, 1 << 24),
	};

	if (config.hidden_size % config.num_attention_heads != 0)
		sde_config_fail(&keys, "'hidden_size' %d is not a multiple of the %d heads",
				config.hidden_size, config.num_attention_heads);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}
