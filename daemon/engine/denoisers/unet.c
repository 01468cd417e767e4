/*
 * The U-Net as a whole: tensor tables of every block, and the recorded path down, through the middle and up with its skip
 * connections. Every residual block's and downsampler's output and conv_in's is kept; the way up takes them back in
 * reverse order, concatenated behind the features.
 */
#include "daemon/engine/denoisers/unet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"

enum {
	DIM_IN,
	DIM_OUT,
	DIM_TIME,
	DIM_TIMED, /* what time gives a residual block */
	DIM_SEEN,  /* channels of what attn1 looks at */
	DIM_CONTEXT,
	DIM_GEGLU,
	DIM_FF,
	DIM_FIRST,
	DIM_COND,
	DIM_ADDED
};

static const struct sde_field resnet_fields[] = {
	SDE_FIELD(sde_unet_resnet, norm1, "norm1", NORM, DIM_IN, DIM_IN),
	SDE_FIELD(sde_unet_resnet, conv1, "conv1", CONV3, DIM_IN, DIM_OUT),
	SDE_FIELD(sde_unet_resnet, time_emb_proj, "time_emb_proj", LINEAR, DIM_TIME, DIM_TIMED),
	SDE_FIELD(sde_unet_resnet, norm2, "norm2", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_resnet, conv2, "conv2", CONV3, DIM_OUT, DIM_OUT),
};

static const struct sde_field shortcut_fields[] = {
	SDE_FIELD(sde_unet_resnet, conv_shortcut, "conv_shortcut", CONV1, DIM_IN, DIM_OUT),
};

static const struct sde_field transformer_fields[] = {
	SDE_FIELD(sde_unet_transformer, norm, "norm", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer, proj_in, "proj_in", POINTWISE, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer, proj_out, "proj_out", POINTWISE, DIM_OUT, DIM_OUT),
};

static const struct sde_field layer_fields[] = {
	SDE_FIELD(sde_unet_transformer_layer, norm1, "norm1", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, q1, "attn1.to_q", LINEAR_NO_BIAS, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, k1, "attn1.to_k", LINEAR_NO_BIAS, DIM_SEEN, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, v1, "attn1.to_v", LINEAR_NO_BIAS, DIM_SEEN, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, out1, "attn1.to_out.0", LINEAR, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, norm2, "norm2", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, q2, "attn2.to_q", LINEAR_NO_BIAS, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, k2, "attn2.to_k", LINEAR_NO_BIAS, DIM_CONTEXT,
		  DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, v2, "attn2.to_v", LINEAR_NO_BIAS, DIM_CONTEXT,
		  DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, out2, "attn2.to_out.0", LINEAR, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, norm3, "norm3", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_unet_transformer_layer, ff_in, "ff.net.0.proj", LINEAR, DIM_OUT, DIM_GEGLU),
	SDE_FIELD(sde_unet_transformer_layer, ff_out, "ff.net.2", LINEAR, DIM_FF, DIM_OUT),
};

static const struct sde_field downsampler_fields[] = {
	SDE_FIELD(sde_unet_block, resample, "downsamplers.0.conv", CONV3, DIM_OUT, DIM_OUT),
};

static const struct sde_field upsampler_fields[] = {
	SDE_FIELD(sde_unet_block, resample, "upsamplers.0.conv", CONV3, DIM_OUT, DIM_OUT),
};

/* Here DIM_IN and DIM_OUT are the sample's channels, DIM_FIRST the first level's. */
static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_unet, conv_in, "conv_in", CONV3, DIM_IN, DIM_FIRST),
	SDE_FIELD(sde_unet, time_linear_1, "time_embedding.linear_1", LINEAR, DIM_FIRST, DIM_TIME),
	SDE_FIELD(sde_unet, time_linear_2, "time_embedding.linear_2", LINEAR, DIM_TIME, DIM_TIME),
};

static const struct sde_field out_fields[] = {
	SDE_FIELD(sde_unet, conv_norm_out, "conv_norm_out", NORM, DIM_FIRST, DIM_FIRST),
	SDE_FIELD(sde_unet, conv_out, "conv_out", CONV3, DIM_FIRST, DIM_OUT),
};

static const struct sde_field time_cond_fields[] = {
	SDE_FIELD(sde_unet, time_cond_proj, "time_embedding.cond_proj", LINEAR_NO_BIAS, DIM_COND,
		  DIM_FIRST),
};

static const struct sde_field text_time_fields[] = {
	SDE_FIELD(sde_unet, add_linear_1, "add_embedding.linear_1", LINEAR, DIM_ADDED, DIM_TIME),
	SDE_FIELD(sde_unet, add_linear_2, "add_embedding.linear_2", LINEAR, DIM_TIME, DIM_TIME),
};

static void bind_resnet(struct sde_binder *binder, const struct sde_unet_config *config,
			struct sde_unet_resnet *resnet, int in, int out, const char *prefix)
{
	const int dims[] = {[DIM_IN] = in,
			    [DIM_OUT] = out,
			    [DIM_TIME] = config->time_embed_dim,
			    [DIM_TIMED] = config->scale_shift ? 2 * out : out};

	SDE_BIND(binder, resnet_fields, dims, resnet, "%s", prefix);
	if (in != out)
		SDE_BIND(binder, shortcut_fields, dims, resnet, "%s", prefix);
}

static void bind_transformer(struct sde_binder *binder, const struct sde_unet_config *config,
			     struct sde_unet_transformer *transformer, int channels, int heads,
			     int n_layers, bool only_cross, const char *prefix)
{
	const int dims[] = {[DIM_OUT] = channels,
			    [DIM_SEEN] = only_cross ? config->cross_attention_dim : channels,
			    [DIM_CONTEXT] = config->cross_attention_dim,
			    [DIM_GEGLU] = channels * 8,
			    [DIM_FF] = channels * 4};

	transformer->heads = heads;
	transformer->layers = calloc((size_t)n_layers + 1, sizeof(*transformer->layers));
	if (!transformer->layers) {
		if (binder->r >= 0)
			binder->r = sde_error_set(binder->error, -ENOMEM, "no memory for a U-Net");
		return;
	}
	transformer->n_layers = n_layers;
	SDE_BIND(binder, transformer_fields, dims, transformer, "%s", prefix);
	for (int i = 0; i < n_layers; i++) {
		transformer->layers[i].only_cross = only_cross;
		SDE_BIND(binder, layer_fields, dims, &transformer->layers[i],
			 "%stransformer_blocks.%d.", prefix, i);
	}
}

static int block_new(struct sde_binder *binder, struct sde_unet_block *block, int n_resnets,
		     int n_transformers)
{
	block->resnets = calloc((size_t)n_resnets, sizeof(*block->resnets));
	if (n_transformers > 0)
		block->transformers = calloc((size_t)n_transformers, sizeof(*block->transformers));
	if (!block->resnets || (n_transformers > 0 && !block->transformers)) {
		if (binder->r >= 0)
			binder->r = sde_error_set(binder->error, -ENOMEM, "no memory for a U-Net");
		return binder->r;
	}
	block->n_resnets = n_resnets;
	block->n_transformers = n_transformers;
	return binder->r;
}

static void bind_down_block(struct sde_binder *binder, struct sde_unet *unet, size_t level)
{
	const struct sde_unet_config *config = &unet->config;
	struct sde_unet_block *block = &unet->down[level];
	const int out = config->block_out_channels[level];
	const int layers = config->layers_per_block[level];
	const int dims[] = {[DIM_OUT] = out};
	int in = config->block_out_channels[level > 0 ? level - 1 : 0];
	char prefix[64];

	if (block_new(binder, block, layers, config->down_attention[level] ? layers : 0) < 0)
		return;
	for (int i = 0; i < layers; i++, in = out) {
		snprintf(prefix, sizeof(prefix), "down_blocks.%zu.resnets.%d.", level, i);
		bind_resnet(binder, config, &block->resnets[i], in, out, prefix);
		if (!block->transformers)
			continue;
		snprintf(prefix, sizeof(prefix), "down_blocks.%zu.attentions.%d.", level, i);
		bind_transformer(binder, config, &block->transformers[i], out, config->heads[level],
				 config->transformer_layers[level][i], config->only_cross[level],
				 prefix);
	}
	if (level + 1 < config->n_levels)
		SDE_BIND(binder, downsampler_fields, dims, block, "down_blocks.%zu.", level);
}

static void bind_mid_block(struct sde_binder *binder, struct sde_unet *unet)
{
	const struct sde_unet_config *config = &unet->config;
	const bool attention = config->mid == SDE_UNET_MID_CROSS_ATTENTION;
	const size_t last = config->n_levels - 1;
	const int channels = config->block_out_channels[last];

	if (config->mid == SDE_UNET_MID_NONE ||
	    block_new(binder, &unet->mid, attention ? 2 : 1, attention ? 1 : 0) < 0)
		return;
	bind_resnet(binder, config, &unet->mid.resnets[0], channels, channels,
		    "mid_block.resnets.0.");
	if (!attention)
		return;
	bind_transformer(binder, config, &unet->mid.transformers[0], channels, config->heads[last],
			 config->transformer_layers[last][0], false, "mid_block.attentions.0.");
	bind_resnet(binder, config, &unet->mid.resnets[1], channels, channels,
		    "mid_block.resnets.1.");
}

/*
 * Up block u works at level n - 1 - u. Its resnets take the features (of the level below first, then its own width)
 * concatenated with the skips of its level; the last skip is the next level's output, as wide as that level.
 */
static void bind_up_block(struct sde_binder *binder, struct sde_unet *unet, size_t u)
{
	const struct sde_unet_config *config = &unet->config;
	const size_t level = config->n_levels - 1 - u;
	struct sde_unet_block *block = &unet->up[u];
	const int out = config->block_out_channels[level];
	const int layers = config->layers_per_block[level] + 1;
	const int last_skip = config->block_out_channels[level > 0 ? level - 1 : 0];
	const int dims[] = {[DIM_OUT] = out};
	int in = config->block_out_channels[u > 0 ? level + 1 : level];
	char prefix[64];

	if (block_new(binder, block, layers, config->up_attention[u] ? layers : 0) < 0)
		return;
	for (int i = 0; i < layers; i++, in = out) {
		snprintf(prefix, sizeof(prefix), "up_blocks.%zu.resnets.%d.", u, i);
		bind_resnet(binder, config, &block->resnets[i],
			    in + (i == layers - 1 ? last_skip : out), out, prefix);
		if (!block->transformers)
			continue;
		snprintf(prefix, sizeof(prefix), "up_blocks.%zu.attentions.%d.", u, i);
		bind_transformer(binder, config, &block->transformers[i], out, config->heads[level],
				 config->up_transformer_layers[u][i], config->only_cross[level],
				 prefix);
	}
	if (level > 0)
		SDE_BIND(binder, upsampler_fields, dims, block, "up_blocks.%zu.", u);
}

static void bind_stem(struct sde_binder *binder, const struct sde_field *fields, size_t n,
		      struct sde_unet *unet)
{
	const struct sde_unet_config *config = &unet->config;
	const int dims[] = {
		[DIM_IN] = config->in_channels,
		[DIM_OUT] = config->out_channels,
		[DIM_TIME] = config->time_embed_dim,
		[DIM_FIRST] = config->block_out_channels[0],
		[DIM_COND] = config->time_cond_proj_dim,
		[DIM_ADDED] = config->projection_class_embeddings_input_dim,
	};

	sde_bind(binder, fields, n, dims, unet, "%s", "");
}

#define BIND_STEM(binder, fields, unet)                                                            \
	bind_stem(binder, fields, sizeof(fields) / sizeof((fields)[0]), unet)

void sde_unet_bind_encoder(struct sde_binder *binder, struct sde_unet *unet)
{
	BIND_STEM(binder, stem_fields, unet);
	if (unet->config.time_cond_proj_dim > 0)
		BIND_STEM(binder, time_cond_fields, unet);
	if (unet->config.text_time)
		BIND_STEM(binder, text_time_fields, unet);
	for (size_t i = 0; i < unet->config.n_levels; i++)
		bind_down_block(binder, unet, i);
	bind_mid_block(binder, unet);
}

int sde_unet_bind(struct sde_unet *unet, const struct sde_unet_config *config,
		  struct sde_weights *weights, struct sde_error *error)
{
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_unet new = {.config = *config};
	int r;

	sde_unet_bind_encoder(&binder, &new);
	BIND_STEM(&binder, out_fields, &new);
	for (size_t i = 0; i < config->n_levels; i++)
		bind_up_block(&binder, &new, i);
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_unet_clear(&new);
		return r;
	}
	*unet = new;
	return 0;
}

static void block_clear(struct sde_unet_block *block)
{
	for (int i = 0; i < block->n_transformers; i++)
		free(block->transformers[i].layers);
	free(block->transformers);
	free(block->resnets);
}

void sde_unet_clear(struct sde_unet *unet)
{
	for (size_t i = 0; i < SDE_UNET_LEVELS_MAX; i++) {
		block_clear(&unet->down[i]);
		block_clear(&unet->up[i]);
	}
	block_clear(&unet->mid);
	*unet = (struct sde_unet){0};
}

sdk_value sde_unet_record_time(struct sdk_plan *plan, const struct sde_unet *unet,
			       const struct sde_unet_inputs *inputs)
{
	sdk_value h = inputs->time_sinusoid;

	if (unet->config.time_cond_proj_dim > 0)
		h = sdk_add(plan, h,
			    sde_record_linear(plan, inputs->timestep_cond, &unet->time_cond_proj));
	h = sdk_activate(plan, sde_record_linear(plan, h, &unet->time_linear_1), SDK_SILU);
	return sde_record_linear(plan, h, &unet->time_linear_2);
}

sdk_value sde_unet_record_embedding(struct sdk_plan *plan, const struct sde_unet *unet,
				    const struct sde_unet_inputs *inputs)
{
	sdk_value h = sde_unet_record_time(plan, unet, inputs), added;

	if (unet->config.text_time) {
		added = sde_record_linear(plan, inputs->added, &unet->add_linear_1);
		added = sde_record_linear(plan, sdk_activate(plan, added, SDK_SILU),
					  &unet->add_linear_2);
		h = sdk_add(plan, h, added);
	}
	return sdk_activate(plan, h, SDK_SILU);
}

int sde_unet_skip_shapes(const struct sde_unet_config *config, int batch, int height, int width,
			 struct sdk_shape ret_shapes[SDE_UNET_SKIPS_MAX + 1])
{
	struct sdk_shape shape = {batch, height, width, config->block_out_channels[0]};
	int n = 0;

	ret_shapes[n++] = shape;
	for (size_t level = 0; level < config->n_levels; level++) {
		shape.c = config->block_out_channels[level];
		for (int i = 0; i < config->layers_per_block[level]; i++)
			ret_shapes[n++] = shape;
		if (level + 1 == config->n_levels)
			break;
		shape.h = (shape.h + 1) / 2;
		shape.w = (shape.w + 1) / 2;
		ret_shapes[n++] = shape;
	}
	ret_shapes[n++] = shape;
	return n;
}

int sde_unet_feature_shapes(const struct sde_unet_config *config, int batch, int height, int width,
			    struct sdk_shape ret_shapes[SDE_UNET_LEVELS_MAX])
{
	struct sdk_shape skips[SDE_UNET_SKIPS_MAX + 1];
	int at = 0;

	sde_unet_skip_shapes(config, batch, height, width, skips);
	for (size_t level = 0; level < config->n_levels; level++) {
		at += config->layers_per_block[level];
		ret_shapes[level] = skips[at++];
	}
	return (int)config->n_levels;
}

int sde_unet_record_encoder(struct sdk_plan *plan, const struct sde_unet *unet,
			    const struct sde_unet_inputs *inputs, sdk_value temb,
			    sdk_value ret_skips[SDE_UNET_SKIPS_MAX + 1])
{
	const struct sde_unet_config *config = &unet->config;
	sdk_value x;
	int n = 0;

	x = sde_record_conv(plan, inputs->sample, &unet->conv_in);
	if (inputs->has_hint)
		x = sdk_add(plan, x, inputs->hint);
	ret_skips[n++] = x;
	for (int level = 0; level < (int)config->n_levels; level++) {
		const struct sde_unet_block *block = &unet->down[level];

		for (int i = 0; i < block->n_resnets; i++) {
			x = sde_unet_record_resnet(plan, config, &block->resnets[i], x, temb);
			if (block->transformers)
				x = sde_unet_record_transformer(plan, config,
								&block->transformers[i], x, inputs);
			if (i + 1 == block->n_resnets && level < inputs->n_features)
				x = sdk_add(plan, x, inputs->features[level]);
			ret_skips[n++] = x;
		}
		if (block->resample.weight.data) {
			x = sde_record_conv_stride(plan, x, &block->resample, 2);
			ret_skips[n++] = x;
		}
	}
	for (int i = 0; i < unet->mid.n_resnets; i++) {
		x = sde_unet_record_resnet(plan, config, &unet->mid.resnets[i], x, temb);
		if (i < unet->mid.n_transformers)
			x = sde_unet_record_transformer(plan, config, &unet->mid.transformers[i], x,
							inputs);
	}
	ret_skips[n++] = x;
	return n;
}

sdk_value sde_unet_record(struct sdk_plan *plan, const struct sde_unet *unet,
			  const struct sde_unet_inputs *inputs)
{
	const struct sde_unet_config *config = &unet->config;
	const sdk_value temb = sde_unet_record_embedding(plan, unet, inputs);
	sdk_value skips[SDE_UNET_SKIPS_MAX + 1], x;
	int n = sde_unet_record_encoder(plan, unet, inputs, temb, skips);

	for (int i = 0; i < inputs->n_residuals && i < n; i++)
		skips[i] = sdk_add(plan, skips[i], inputs->residuals[i]);
	x = skips[--n];
	for (size_t u = 0; u < config->n_levels; u++) {
		const struct sde_unet_block *block = &unet->up[u];

		for (int i = 0; i < block->n_resnets; i++) {
			x = sdk_concat(plan, x, skips[--n]);
			x = sde_unet_record_resnet(plan, config, &block->resnets[i], x, temb);
			if (block->transformers)
				x = sde_unet_record_transformer(plan, config,
								&block->transformers[i], x, inputs);
		}
		if (block->resample.weight.data) {
			x = sde_record_upsample_like(plan, x, skips[n - 1]);
			x = sde_record_conv(plan, x, &block->resample);
		}
	}
	x = sde_record_group_norm_silu(plan, x, &unet->conv_norm_out, config->norm_num_groups,
				       config->norm_eps);
	return sde_record_conv(plan, x, &unet->conv_out);
}
