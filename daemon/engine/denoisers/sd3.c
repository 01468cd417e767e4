/*
 * SD3's transformer: configuration, tensors, and the recorded pass.
 */
#include "daemon/engine/denoisers/sd3.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"

#define CHANNELS_MAX 65536

enum { DIM_IN, DIM_WIDTH, DIM_CONTEXT, DIM_POSITIONS };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_sd3, patches, "pos_embed.proj", CONV2, DIM_IN, DIM_WIDTH),
	SDE_FIELD(sde_sd3, positions, "pos_embed.pos_embed", POSITIONS, DIM_WIDTH, DIM_POSITIONS),
	SDE_FIELD(sde_sd3, context_embedder, "context_embedder", LINEAR, DIM_CONTEXT, DIM_WIDTH),
};

static void parse_dual_layers(struct sde_config_keys *keys, struct sde_sd3_config *config)
{
	const json_t *list = json_object_get(keys->object, "dual_attention_layers");
	int layers[SDE_SD3_LAYERS_MAX];
	size_t n = 0;

	if (!json_is_array(list) || json_array_size(list) > 0)
		sde_config_int_list(keys, "dual_attention_layers", layers, &n, SDE_SD3_LAYERS_MAX,
				    0, config->num_layers - 1);
	for (size_t i = 0; i < n; i++)
		config->dual_attention_layers |= UINT64_C(1) << layers[i];
}

int sde_sd3_config_parse(const json_t *object, const char *what, struct sde_sd3_config *ret_config,
			 struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_sd3_config config = {
		.in_channels = sde_config_int(&keys, "in_channels", 16, 1, 1024),
		.out_channels = sde_config_int(&keys, "out_channels", 16, 1, 1024),
		.sample_size = sde_config_int(&keys, "sample_size", 128, 1, 1 << 16),
		.patch_size = sde_config_int(&keys, "patch_size", 2, 2, 2),
		.num_layers = sde_config_int(&keys, "num_layers", 18, 1, SDE_SD3_LAYERS_MAX),
		.num_attention_heads = sde_config_int(&keys, "num_attention_heads", 18, 1, 1024),
		.attention_head_dim = sde_config_int(&keys, "attention_head_dim", 64, 1, 1024),
		.joint_attention_dim =
			sde_config_int(&keys, "joint_attention_dim", 4096, 1, CHANNELS_MAX),
		.pooled_projection_dim =
			sde_config_int(&keys, "pooled_projection_dim", 2048, 1, CHANNELS_MAX),
		.pos_embed_max_size = sde_config_int(&keys, "pos_embed_max_size", 96, 1, 4096),
		.qk_norm = sde_config_has(&keys, "qk_norm"),
	};
	const int width = config.num_attention_heads * config.attention_head_dim;

	sde_config_only(&keys, "qk_norm", "\"rms_norm\"");
	if (width > CHANNELS_MAX)
		sde_config_fail(&keys,
				"'num_attention_heads' x 'attention_head_dim' is %d, must be "
				"at most %d",
				width, CHANNELS_MAX);
	if (sde_config_int(&keys, "caption_projection_dim", 1152, 1, CHANNELS_MAX) != width)
		sde_config_fail(&keys,
				"'caption_projection_dim' must be 'num_attention_heads' x "
				"'attention_head_dim', %d",
				width);
	parse_dual_layers(&keys, &config);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}

int sde_sd3_bind(struct sde_sd3 *sd3, const struct sde_sd3_config *config,
		 struct sde_weights *weights, struct sde_error *error)
{
	const int width = config->num_attention_heads * config->attention_head_dim;
	const int dims[] = {
		[DIM_IN] = config->in_channels,
		[DIM_WIDTH] = width,
		[DIM_CONTEXT] = config->joint_attention_dim,
		[DIM_POSITIONS] = config->pos_embed_max_size * config->pos_embed_max_size,
	};
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_sd3 new = {
		.config = *config,
		.shape = {.width = width,
			  .heads = config->num_attention_heads,
			  .qk_norm = config->qk_norm},
	};
	char prefix[48];
	int r;

	new.blocks = calloc((size_t)config->num_layers, sizeof(*new.blocks));
	if (!new.blocks)
		return sde_error_set(error, -ENOMEM, "no memory for a transformer's blocks");
	SDE_BIND(&binder, stem_fields, dims, &new, "%s", "");
	sde_joint_condition_bind(&binder, &new.condition, width, config->pooled_projection_dim,
				 false);
	for (int i = 0; i < config->num_layers; i++) {
		snprintf(prefix, sizeof(prefix), "transformer_blocks.%d.", i);
		sde_joint_block_bind(&binder, &new.blocks[i], &new.shape,
				     config->dual_attention_layers >> i & 1,
				     i == config->num_layers - 1, prefix);
	}
	sde_joint_final_bind(&binder, &new.final, width,
			     config->patch_size * config->patch_size * config->out_channels);
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_sd3_clear(&new);
		return r;
	}
	*sd3 = new;
	return 0;
}

void sde_sd3_clear(struct sde_sd3 *sd3)
{
	free(sd3->blocks);
	*sd3 = (struct sde_sd3){0};
}

/* The middle rows x columns of the square table of positions. NULL latches -ENOMEM in the plan. */
static float *crop_positions(const struct sde_sd3 *sd3, int rows, int columns)
{
	const struct sdk_tensor *table = &sd3->positions.weight;
	const int side = sd3->config.pos_embed_max_size;
	const size_t width = (size_t)sd3->positions.columns, row = (size_t)columns * width;
	const size_t first = (size_t)((side - rows) / 2 * side + (side - columns) / 2);
	float *positions = malloc((size_t)rows * row * sizeof(*positions));

	for (int y = 0; positions && y < rows; y++)
		sdk_widen(table->type,
			  (const char *)table->data +
				  (first + (size_t)(y * side)) * sdk_type_bytes(table->type, width),
			  positions + (size_t)y * row, row);
	return positions;
}

sdk_value sde_sd3_record(struct sdk_plan *plan, const struct sde_sd3 *sd3,
			 const struct sde_sd3_inputs *inputs, uint64_t skipped)
{
	const struct sdk_shape size = sdk_plan_shape(plan, inputs->sample);
	const int rows = size.h / sd3->config.patch_size, columns = size.w / sd3->config.patch_size;
	const struct sdk_tensor *positions;
	sdk_value x, text, condition;

	positions = sdk_plan_table(plan, rows * columns, sd3->shape.width,
				   crop_positions(sd3, rows, columns));
	x = sdk_conv2d(plan, inputs->sample, &sd3->patches.weight, &sd3->patches.bias,
		       sd3->config.patch_size, 0, 0, 0, 0);
	x = sdk_add_rows(plan, sde_record_image_to_tokens(plan, x), positions);
	condition =
		sde_joint_condition_record(plan, &sd3->condition, inputs->time, -1, inputs->pooled);
	condition = sdk_activate(plan, condition, SDK_SILU);
	text = sde_record_linear(plan, inputs->context, &sd3->context_embedder);
	for (int i = 0; i < sd3->config.num_layers; i++)
		if (!(skipped >> i & 1))
			sde_joint_block_record(plan, &sd3->shape, &sd3->blocks[i], condition, &x,
					       &text);
	return sde_joint_final_record(plan, &sd3->final, condition, x);
}
