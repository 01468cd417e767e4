/*
 * config.json of an AutoencoderKL or VQModel -> struct sde_kl_config, with the defaults of diffusers 0.42 (files of 2022
 * name neither scaling_factor nor the quantisation convolutions).
 */
#include "daemon/engine/autoencoders/kl-config.h"

#include <string.h>

#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"

#define CHANNELS_MAX 16384

int sde_kl_config_factor(const struct sde_kl_config *config)
{
	return 1 << (config->n_levels - 1);
}

int sde_kl_config_moments(const struct sde_kl_config *config)
{
	return config->codes > 0 ? config->latent_channels : 2 * config->latent_channels;
}

static void parse_block_types(struct sde_config_keys *keys, const char *key, const char *plain,
			      const char *attention, size_t n, bool *ret_attention)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = sde_config_list_string(keys, key, i, n);

		ret_attention[i] = name && strcmp(name, attention) == 0;
		if (name && !ret_attention[i] && strcmp(name, plain) != 0)
			sde_config_fail(keys, "'%s' has '%.40s'; supported are %s and %s", key,
					name, plain, attention);
	}
}

/* What both classes have. */
static void parse_common(struct sde_config_keys *keys, struct sde_kl_config *config)
{
	config->in_channels = sde_config_int(keys, "in_channels", 3, 1, 64);
	config->out_channels = sde_config_int(keys, "out_channels", 3, 1, 64);
	sde_config_int_list(keys, "block_out_channels", config->block_out_channels,
			    &config->n_levels, SDE_KL_LEVELS_MAX, 1, CHANNELS_MAX);
	parse_block_types(keys, "down_block_types", "DownEncoderBlock2D", "AttnDownEncoderBlock2D",
			  config->n_levels, config->encoder_attention);
	parse_block_types(keys, "up_block_types", "UpDecoderBlock2D", "AttnUpDecoderBlock2D",
			  config->n_levels, config->decoder_attention);
	config->layers_per_block = sde_config_int(keys, "layers_per_block", 1, 1, 16);
	config->norm_num_groups = sde_config_int(keys, "norm_num_groups", 32, 1, 1024);
	config->mid_block_add_attention = sde_config_bool(keys, "mid_block_add_attention", true);
	config->scaling_factor = sde_config_real(keys, "scaling_factor", 0.18215, 1e-6, 1e6);
	config->sample_size = sde_config_int(keys, "sample_size", 32, 8, 1 << 16);
	sde_config_only(keys, "act_fn", "\"silu\"");
	for (size_t i = 0; i < config->n_levels; i++)
		if (config->block_out_channels[i] % config->norm_num_groups != 0)
			sde_config_fail(
				keys,
				"'block_out_channels' has %d, not a multiple of the %d groups",
				config->block_out_channels[i], config->norm_num_groups);
}

int sde_kl_config_parse(const json_t *object, const char *what, struct sde_kl_config *ret_config,
			struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_kl_config config = {.n_levels = 1, .block_out_channels = {64}};

	parse_common(&keys, &config);
	config.latent_channels = sde_config_int(&keys, "latent_channels", 4, 1, 1024);
	config.inner_channels = config.latent_channels;
	config.use_quant_conv = sde_config_bool(&keys, "use_quant_conv", true);
	config.use_post_quant_conv = sde_config_bool(&keys, "use_post_quant_conv", true);
	config.shift_factor = sde_config_real(&keys, "shift_factor", 0, -1e6, 1e6);
	sde_config_only(&keys, "latents_mean", NULL);
	sde_config_only(&keys, "latents_std", NULL);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}

int sde_vq_config_parse(const json_t *object, const char *what, struct sde_kl_config *ret_config,
			struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_kl_config config = {.n_levels = 1, .block_out_channels = {64}};

	parse_common(&keys, &config);
	config.inner_channels = sde_config_int(&keys, "latent_channels", 3, 1, 1024);
	config.latent_channels =
		sde_config_int(&keys, "vq_embed_dim", config.inner_channels, 1, 1024);
	config.codes = sde_config_int(&keys, "num_vq_embeddings", 256, 1, 1 << 20);
	config.use_quant_conv = config.use_post_quant_conv = true;
	sde_config_only(&keys, "norm_type", "\"group\"");
	sde_config_only(&keys, "lookup_from_codebook", "false");
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}
