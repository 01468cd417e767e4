/*
 * FLUX's transformer: configuration, tensors, rotary positions and the recorded pass.
 */
#include "daemon/engine/denoisers/flux.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"

#define CHANNELS_MAX 65536
#define LAYERS_MAX   256
#define ROPE_THETA   10000.0
#define MLP_RATIO    4

enum { DIM_IN, DIM_WIDTH, DIM_CONTEXT, DIM_HEAD, DIM_MODULATION, DIM_MLP, DIM_BOTH };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_flux, x_embedder, "x_embedder", LINEAR, DIM_IN, DIM_WIDTH),
	SDE_FIELD(sde_flux, context_embedder, "context_embedder", LINEAR, DIM_CONTEXT, DIM_WIDTH),
};

static const struct sde_field single_fields[] = {
	SDE_FIELD(sde_flux_single_block, modulation, "norm.linear", LINEAR, DIM_WIDTH,
		  DIM_MODULATION),
	SDE_FIELD(sde_flux_single_block, attention.q, "attn.to_q", LINEAR, DIM_WIDTH, DIM_WIDTH),
	SDE_FIELD(sde_flux_single_block, attention.k, "attn.to_k", LINEAR, DIM_WIDTH, DIM_WIDTH),
	SDE_FIELD(sde_flux_single_block, attention.v, "attn.to_v", LINEAR, DIM_WIDTH, DIM_WIDTH),
	SDE_FIELD(sde_flux_single_block, attention.norm_q, "attn.norm_q", NORM_NO_BIAS, DIM_HEAD,
		  DIM_HEAD),
	SDE_FIELD(sde_flux_single_block, attention.norm_k, "attn.norm_k", NORM_NO_BIAS, DIM_HEAD,
		  DIM_HEAD),
	SDE_FIELD(sde_flux_single_block, mlp_in, "proj_mlp", LINEAR, DIM_WIDTH, DIM_MLP),
	SDE_FIELD(sde_flux_single_block, proj_out, "proj_out", LINEAR, DIM_BOTH, DIM_WIDTH),
};

static void parse_axes(struct sde_config_keys *keys, struct sde_flux_config *config)
{
	static const int defaults[SDE_FLUX_AXES] = {16, 56, 56};
	size_t n = SDE_FLUX_AXES;
	int sum = 0;

	for (size_t i = 0; i < n; i++)
		config->axes_dims_rope[i] = defaults[i];
	sde_config_int_list(keys, "axes_dims_rope", config->axes_dims_rope, &n, SDE_FLUX_AXES, 2,
			    1024);
	for (size_t i = 0; i < n; i++) {
		sum += config->axes_dims_rope[i];
		if (config->axes_dims_rope[i] % 2 != 0)
			sde_config_fail(keys, "'axes_dims_rope' has %d, must be even",
					config->axes_dims_rope[i]);
	}
	if (n != SDE_FLUX_AXES || sum != config->attention_head_dim)
		sde_config_fail(keys,
				"'axes_dims_rope' must be %d numbers that sum up to "
				"'attention_head_dim', %d",
				SDE_FLUX_AXES, config->attention_head_dim);
}

int sde_flux_config_parse(const json_t *object, const char *what,
			  struct sde_flux_config *ret_config, struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_flux_config config = {
		.in_channels = sde_config_int(&keys, "in_channels", 64, 1, 4096),
		.num_layers = sde_config_int(&keys, "num_layers", 19, 0, LAYERS_MAX),
		.num_single_layers = sde_config_int(&keys, "num_single_layers", 38, 0, LAYERS_MAX),
		.num_attention_heads = sde_config_int(&keys, "num_attention_heads", 24, 1, 1024),
		.attention_head_dim = sde_config_int(&keys, "attention_head_dim", 128, 1, 1024),
		.joint_attention_dim =
			sde_config_int(&keys, "joint_attention_dim", 4096, 1, CHANNELS_MAX),
		.pooled_projection_dim =
			sde_config_int(&keys, "pooled_projection_dim", 768, 1, CHANNELS_MAX),
		.guidance_embeds = sde_config_bool(&keys, "guidance_embeds", false),
	};

	config.out_channels = sde_config_int(&keys, "out_channels", config.in_channels, 1, 4096);
	sde_config_only(&keys, "patch_size", "1");
	if (config.num_attention_heads * config.attention_head_dim > CHANNELS_MAX)
		sde_config_fail(&keys,
				"'num_attention_heads' x 'attention_head_dim' is %d, must be "
				"at most %d",
				config.num_attention_heads * config.attention_head_dim,
				CHANNELS_MAX);
	if (config.in_channels % 4 != 0 || config.out_channels % 4 != 0)
		sde_config_fail(&keys,
				"'in_channels' and 'out_channels' are %d and %d, must be "
				"multiples of 4: tokens are 2 x 2 latents",
				config.in_channels, config.out_channels);
	parse_axes(&keys, &config);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}

int sde_flux_bind(struct sde_flux *flux, const struct sde_flux_config *config,
		  struct sde_weights *weights, struct sde_error *error)
{
	const int width = config->num_attention_heads * config->attention_head_dim;
	const int dims[] = {
		[DIM_IN] = config->in_channels,
		[DIM_WIDTH] = width,
		[DIM_CONTEXT] = config->joint_attention_dim,
		[DIM_HEAD] = config->attention_head_dim,
		[DIM_MODULATION] = 3 * width,
		[DIM_MLP] = MLP_RATIO * width,
		[DIM_BOTH] = (1 + MLP_RATIO) * width,
	};
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_flux new = {
		.config = *config,
		.shape = {.width = width,
			  .heads = config->num_attention_heads,
			  .qk_norm = true,
			  .text_first = true},
	};
	char prefix[48];
	int r;

	new.blocks = calloc((size_t)config->num_layers + 1, sizeof(*new.blocks));
	new.single_blocks =
		calloc((size_t)config->num_single_layers + 1, sizeof(*new.single_blocks));
	if (!new.blocks || !new.single_blocks) {
		sde_flux_clear(&new);
		return sde_error_set(error, -ENOMEM, "no memory for a transformer's blocks");
	}
	SDE_BIND(&binder, stem_fields, dims, &new, "%s", "");
	sde_joint_condition_bind(&binder, &new.condition, width, config->pooled_projection_dim,
				 config->guidance_embeds);
	for (int i = 0; i < config->num_layers; i++) {
		snprintf(prefix, sizeof(prefix), "transformer_blocks.%d.", i);
		sde_joint_block_bind(&binder, &new.blocks[i], &new.shape, false, false, prefix);
	}
	for (int i = 0; i < config->num_single_layers; i++)
		SDE_BIND(&binder, single_fields, dims, &new.single_blocks[i],
			 "single_transformer_blocks.%d.", i);
	sde_joint_final_bind(&binder, &new.final, width, config->out_channels);
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_flux_clear(&new);
		return r;
	}
	*flux = new;
	return 0;
}

void sde_flux_clear(struct sde_flux *flux)
{
	free(flux->blocks);
	free(flux->single_blocks);
	*flux = (struct sde_flux){0};
}

float *sde_flux_rope(const struct sde_flux_config *config, int text, int rows, int columns)
{
	const size_t d = (size_t)config->attention_head_dim;
	float *table = malloc((size_t)(text + rows * columns) * 2 * d * sizeof(*table));

	for (int token = 0; table && token < text + rows * columns; token++) {
		const int at = token - text;
		const int position[SDE_FLUX_AXES] = {0, at < 0 ? 0 : at / columns,
						     at < 0 ? 0 : at % columns};
		float *cosines = table + (size_t)token * 2 * d, *sines = cosines + d;
		size_t c = 0;

		for (int axis = 0; axis < SDE_FLUX_AXES; axis++)
			for (int i = 0; i < config->axes_dims_rope[axis]; i++, c++) {
				const double pair = i / 2 * 2;
				const double angle =
					position[axis] /
					pow(ROPE_THETA, pair / config->axes_dims_rope[axis]);

				cosines[c] = (float)cos(angle);
				sines[c] = (float)sin(angle);
			}
	}
	return table;
}

static sdk_value record_single(struct sdk_plan *plan, const struct sde_joint_shape *shape,
			       const struct sde_flux_single_block *block, sdk_value condition,
			       sdk_value x)
{
	const sdk_value modulation = sde_record_linear(plan, condition, &block->modulation);
	const sdk_value shift = sde_joint_vector(plan, modulation, shape->width, 0);
	const sdk_value scale = sde_joint_vector(plan, modulation, shape->width, 1);
	const sdk_value gate = sde_joint_vector(plan, modulation, shape->width, 2);
	struct sde_joint_qkv qkv;
	sdk_value h, mlp;

	h = sdk_ada_layer_norm(plan, x, scale, shift, SDE_JOINT_EPS);
	mlp = sdk_activate(plan, sde_record_linear(plan, h, &block->mlp_in), SDK_GELU_TANH);
	qkv = sde_joint_project(plan, &block->attention, shape->heads, h);
	qkv.q = sdk_rope(plan, qkv.q, shape->heads, shape->rope);
	qkv.k = sdk_rope(plan, qkv.k, shape->heads, shape->rope);
	h = sde_record_attention(plan, qkv.q, qkv.k, qkv.v, shape->heads, false);
	h = sde_record_linear(plan, sdk_concat(plan, h, mlp), &block->proj_out);
	return sdk_add(plan, x, sdk_mul(plan, h, gate));
}

sdk_value sde_flux_record(struct sdk_plan *plan, const struct sde_flux *flux,
			  const struct sde_flux_inputs *inputs)
{
	const int n_text = sdk_plan_shape(plan, inputs->context).w;
	const int n_image = inputs->rows * inputs->columns;
	struct sde_joint_shape shape = flux->shape;
	sdk_value x, text, condition;

	shape.rope =
		sdk_plan_table(plan, n_text + n_image, 2 * flux->config.attention_head_dim,
			       sde_flux_rope(&flux->config, n_text, inputs->rows, inputs->columns));
	x = sde_record_linear(plan, inputs->tokens, &flux->x_embedder);
	text = sde_record_linear(plan, inputs->context, &flux->context_embedder);
	condition = sde_joint_condition_record(plan, &flux->condition, inputs->time,
					       inputs->guidance, inputs->pooled);
	condition = sdk_activate(plan, condition, SDK_SILU);
	for (int i = 0; i < flux->config.num_layers; i++)
		sde_joint_block_record(plan, &shape, &flux->blocks[i], condition, &x, &text);
	x = sde_record_join_tokens(plan, text, x);
	for (int i = 0; i < flux->config.num_single_layers; i++)
		x = record_single(plan, &shape, &flux->single_blocks[i], condition, x);
	x = sde_record_cut_tokens(plan, x, n_text, n_image);
	return sde_joint_final_record(plan, &flux->final, condition, x);
}
