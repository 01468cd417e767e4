/*
 * config.json of a UNet2DConditionModel -> struct sde_unet_config, with the defaults of diffusers 0.42. What the forward
 * code does not implement is refused by name here, so that no checkpoint runs through the wrong arithmetic.
 */
#include "daemon/engine/denoisers/unet-config.h"

#include <string.h>

#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"

#define CHANNELS_MAX 16384

/* Keys that change the arithmetic, and the one value (besides null) that this implementation computes. */
static const struct {
	const char *key, *supported;
} only[] = {
	{"act_fn", "\"silu\""},
	{"attention_type", "\"default\""},
	{"center_input_sample", "false"},
	{"class_embed_type", NULL},
	{"class_embeddings_concat", "false"},
	{"conv_in_kernel", "3"},
	{"conv_out_kernel", "3"},
	{"cross_attention_norm", NULL},
	{"downsample_padding", "1"},
	{"dual_cross_attention", "false"},
	{"encoder_hid_dim", NULL},
	{"encoder_hid_dim_type", NULL},
	{"mid_block_scale_factor", "1"},
	{"num_attention_heads", NULL},
	{"num_class_embeds", NULL},
	{"time_embedding_act_fn", NULL},
	{"time_embedding_type", "\"positional\""},
	{"timestep_post_act", NULL},
};

static bool parse_block_type(struct sde_config_keys *keys, const char *key, size_t i, size_t n,
			     const char *plain, const char *attention, bool fallback)
{
	const char *name = sde_config_list_string(keys, key, i, n);

	if (!name)
		return fallback;
	if (strcmp(name, attention) == 0)
		return true;
	if (strcmp(name, plain) != 0)
		sde_config_fail(keys, "'%s' has '%.40s'; only %s and %s are supported", key, name,
				attention, plain);
	return false;
}

/*
 * An integer, one a level, or lists of one an attention, for which the way up needs its own:
 * reverse_transformer_layers_per_block, else transformer_layers_per_block backwards.
 */
static void parse_transformer_layers(struct sde_config_keys *keys, struct sde_unet_config *config)
{
	static const char *const up = "reverse_transformer_layers_per_block";
	const size_t n = config->n_levels, stride = SDE_UNET_LAYERS_MAX + 1;
	int up_counts[SDE_UNET_LEVELS_MAX];
	bool lists;

	for (size_t i = 0; i < n; i++)
		up_counts[i] = config->layers_per_block[n - 1 - i] + 1;
	lists = sde_config_int_rows(keys, "transformer_layers_per_block", 1,
				    config->transformer_layers[0], stride, config->layers_per_block,
				    n, 0, SDE_UNET_TRANSFORMER_LAYERS_MAX);
	if (sde_config_has(keys, up)) {
		sde_config_int_rows(keys, up, 1, config->up_transformer_layers[0], stride,
				    up_counts, n, 0, SDE_UNET_TRANSFORMER_LAYERS_MAX);
		return;
	}
	if (lists)
		sde_config_fail(keys, "'transformer_layers_per_block' has lists, so '%s' is needed",
				up);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < stride; k++)
			config->up_transformer_layers[i][k] =
				config->transformer_layers[n - 1 - i][0];
}

/* Here null is not the default: it means that there is no such block. */
static void parse_mid(struct sde_config_keys *keys, struct sde_unet_config *config)
{
	const char *name = sde_config_string(keys, "mid_block_type", "UNetMidBlock2DCrossAttn");

	if (json_is_null(json_object_get(keys->object, "mid_block_type")))
		config->mid = SDE_UNET_MID_NONE;
	else if (strcmp(name, "UNetMidBlock2D") == 0)
		config->mid = SDE_UNET_MID_RESNET;
	else if (strcmp(name, "UNetMidBlock2DCrossAttn") != 0)
		sde_config_fail(keys,
				"'mid_block_type' is '%.40s'; only UNetMidBlock2DCrossAttn, "
				"UNetMidBlock2D and null are supported",
				name);
}

/* One for all levels, or one a level. mid_block_only_cross_attention is of kinds of block that are refused. */
static void parse_only_cross(struct sde_config_keys *keys, struct sde_unet_config *config)
{
	static const char key[] = "only_cross_attention";
	const json_t *value = json_object_get(keys->object, key);
	const bool all = !json_is_array(value) && sde_config_bool(keys, key, false);

	if (json_is_array(value) && json_array_size(value) != config->n_levels)
		sde_config_fail(keys, "'%s' has %zu values; %zu blocks need as many", key,
				json_array_size(value), config->n_levels);
	for (size_t i = 0; i < config->n_levels; i++) {
		const json_t *one = json_array_get(value, i);

		if (one && !json_is_boolean(one))
			sde_config_fail(keys, "'%s' has a value that is not true or false", key);
		config->only_cross[i] = one ? json_is_true(one) : all;
	}
}

static void parse_time_scale_shift(struct sde_config_keys *keys, struct sde_unet_config *config)
{
	static const char key[] = "resnet_time_scale_shift";
	const char *name = sde_config_string(keys, key, "default");

	config->scale_shift = strcmp(name, "scale_shift") == 0;
	if (!config->scale_shift && strcmp(name, "default") != 0)
		sde_config_fail(keys, "'%s' is '%.40s'; default and scale_shift are supported", key,
				name);
}

static void parse_added_conditions(struct sde_config_keys *keys, struct sde_unet_config *config)
{
	const char *type = sde_config_string(keys, "addition_embed_type", NULL);

	config->time_cond_proj_dim = sde_config_int(keys, "time_cond_proj_dim", 0, 1, CHANNELS_MAX);
	if (!type)
		return;
	if (strcmp(type, "text_time") != 0) {
		sde_config_fail(keys,
				"'addition_embed_type' is '%.40s'; only text_time is supported",
				type);
		return;
	}
	config->text_time = true;
	config->addition_time_embed_dim =
		sde_config_int(keys, "addition_time_embed_dim", 256, 2, CHANNELS_MAX);
	config->projection_class_embeddings_input_dim =
		sde_config_int(keys, "projection_class_embeddings_input_dim", 0, 1, 1 << 20);
	if (config->projection_class_embeddings_input_dim == 0)
		sde_config_fail(keys, "'projection_class_embeddings_input_dim' is missing; "
				      "text_time conditioning needs it");
}

static bool has_attention(const struct sde_unet_config *config, size_t level)
{
	const size_t last = config->n_levels - 1;

	return config->down_attention[level] || config->up_attention[last - level] ||
	       (level == last && config->mid == SDE_UNET_MID_CROSS_ATTENTION);
}

static void check_divisibility(struct sde_config_keys *keys, const struct sde_unet_config *config)
{
	for (size_t i = 0; i < config->n_levels; i++) {
		const int channels = config->block_out_channels[i];

		if (channels % config->norm_num_groups != 0)
			sde_config_fail(
				keys,
				"'block_out_channels' has %d, not a multiple of the %d groups",
				channels, config->norm_num_groups);
		if (has_attention(config, i) && channels % config->heads[i] != 0)
			sde_config_fail(
				keys, "'block_out_channels' has %d, not a multiple of the %d heads",
				channels, config->heads[i]);
	}
	if (config->block_out_channels[0] % 2 != 0)
		sde_config_fail(keys, "'block_out_channels' begins with an odd number; the time "
				      "embedding needs an even one");
}

int sde_unet_config_parse(const json_t *object, const char *what,
			  struct sde_unet_config *ret_config, struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_unet_config config = {
		.n_levels = 4,
		.block_out_channels = {320, 640, 1280, 1280},
	};
	size_t n;

	config.in_channels = sde_config_int(&keys, "in_channels", 4, 1, 1024);
	config.out_channels = sde_config_int(&keys, "out_channels", 4, 1, 1024);
	config.sample_size = sde_config_int(&keys, "sample_size", 0, 1, 1 << 16);
	sde_config_int_list(&keys, "block_out_channels", config.block_out_channels,
			    &config.n_levels, SDE_UNET_LEVELS_MAX, 1, CHANNELS_MAX);
	n = config.n_levels;
	for (size_t i = 0; i < n; i++) {
		config.down_attention[i] =
			parse_block_type(&keys, "down_block_types", i, n, "DownBlock2D",
					 "CrossAttnDownBlock2D", i + 1 < n);
		config.up_attention[i] = parse_block_type(&keys, "up_block_types", i, n,
							  "UpBlock2D", "CrossAttnUpBlock2D", i > 0);
	}
	sde_config_ints(&keys, "layers_per_block", 2, config.layers_per_block, n, 1,
			SDE_UNET_LAYERS_MAX);
	parse_transformer_layers(&keys, &config);
	parse_mid(&keys, &config);
	sde_config_ints(&keys, "attention_head_dim", 8, config.heads, n, 1, 1024);
	config.cross_attention_dim =
		sde_config_int(&keys, "cross_attention_dim", 1280, 1, CHANNELS_MAX);
	config.use_linear_projection = sde_config_bool(&keys, "use_linear_projection", false);
	config.flip_sin_to_cos = sde_config_bool(&keys, "flip_sin_to_cos", true);
	config.freq_shift = sde_config_real(&keys, "freq_shift", 0, -1, 1);
	config.norm_num_groups = sde_config_int(&keys, "norm_num_groups", 32, 1, 1024);
	config.norm_eps = sde_config_real(&keys, "norm_eps", 1e-5, 0, 1);
	config.time_embed_dim = sde_config_int(&keys, "time_embedding_dim",
					       config.block_out_channels[0] * 4, 1, 1 << 17);
	parse_only_cross(&keys, &config);
	parse_time_scale_shift(&keys, &config);
	parse_added_conditions(&keys, &config);
	for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++)
		sde_config_only(&keys, only[i].key, only[i].supported);
	check_divisibility(&keys, &config);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}
