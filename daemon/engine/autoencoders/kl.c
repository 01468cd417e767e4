/*
 * AutoencoderKL and VQModel: tensor tables and the recorded encoder and decoder. Every norm has eps 1e-6; the encoder's downsampler
 * pads right and bottom only.
 */
#include "daemon/engine/autoencoders/kl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"

#define NORM_EPS 1e-6

enum { DIM_IN, DIM_OUT, DIM_ENCODED, DIM_MOMENTS, DIM_LATENT, DIM_INNER, DIM_CODES };

static const struct sde_field resnet_fields[] = {
	SDE_FIELD(sde_kl_resnet, norm1, "norm1", NORM, DIM_IN, DIM_IN),
	SDE_FIELD(sde_kl_resnet, conv1, "conv1", CONV3, DIM_IN, DIM_OUT),
	SDE_FIELD(sde_kl_resnet, norm2, "norm2", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_kl_resnet, conv2, "conv2", CONV3, DIM_OUT, DIM_OUT),
};

static const struct sde_field shortcut_fields[] = {
	SDE_FIELD(sde_kl_resnet, conv_shortcut, "conv_shortcut", CONV1, DIM_IN, DIM_OUT),
};

static const struct sde_field attention_fields[] = {
	SDE_FIELD(sde_kl_attention, group_norm, "group_norm", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_kl_attention, to_q, "to_q|query", POINTWISE, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_kl_attention, to_k, "to_k|key", POINTWISE, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_kl_attention, to_v, "to_v|value", POINTWISE, DIM_OUT, DIM_OUT),
	SDE_FIELD(sde_kl_attention, to_out, "to_out.0|proj_attn", POINTWISE, DIM_OUT, DIM_OUT),
};

static const struct sde_field downsampler_fields[] = {
	SDE_FIELD(sde_kl_block, resample, "downsamplers.0.conv", CONV3, DIM_OUT, DIM_OUT),
};

static const struct sde_field upsampler_fields[] = {
	SDE_FIELD(sde_kl_block, resample, "upsamplers.0.conv", CONV3, DIM_OUT, DIM_OUT),
};

static const struct sde_field conv_in_fields[] = {
	SDE_FIELD(sde_kl_half, conv_in, "conv_in", CONV3, DIM_IN, DIM_OUT),
};

static const struct sde_field conv_out_fields[] = {
	SDE_FIELD(sde_kl_half, conv_norm_out, "conv_norm_out", NORM, DIM_IN, DIM_IN),
	SDE_FIELD(sde_kl_half, conv_out, "conv_out", CONV3, DIM_IN, DIM_OUT),
};

static const struct sde_field quant_fields[] = {
	SDE_FIELD(sde_kl, quant_conv, "quant_conv", POINTWISE, DIM_ENCODED, DIM_MOMENTS),
};

static const struct sde_field post_quant_fields[] = {
	SDE_FIELD(sde_kl, post_quant_conv, "post_quant_conv", POINTWISE, DIM_LATENT, DIM_INNER),
};

static const struct sde_field codebook_fields[] = {
	SDE_FIELD(sde_kl, codebook, "quantize.embedding", TABLE, DIM_LATENT, DIM_CODES),
};

static void bind_resnet(struct sde_binder *binder, struct sde_kl_resnet *resnet, int in, int out,
			const char *half, const char *block, int i)
{
	const int dims[] = {[DIM_IN] = in, [DIM_OUT] = out};

	SDE_BIND(binder, resnet_fields, dims, resnet, "%s.%s.resnets.%d.", half, block, i);
	if (in != out)
		SDE_BIND(binder, shortcut_fields, dims, resnet, "%s.%s.resnets.%d.", half, block,
			 i);
}

static void bind_mid(struct sde_binder *binder, const struct sde_kl_config *config,
		     struct sde_kl_half *half, int channels, const char *name)
{
	const int dims[] = {[DIM_IN] = channels, [DIM_OUT] = channels};

	bind_resnet(binder, &half->mid_resnets[0], channels, channels, name, "mid_block", 0);
	if (config->mid_block_add_attention)
		SDE_BIND(binder, attention_fields, dims, &half->mid_attention,
			 "%s.mid_block.attentions.0.", name);
	bind_resnet(binder, &half->mid_resnets[1], channels, channels, name, "mid_block", 1);
}

static void bind_ends(struct sde_binder *binder, struct sde_kl_half *half, int in, int first,
		      int last, int out, const char *name)
{
	const int dims_in[] = {[DIM_IN] = in, [DIM_OUT] = first};
	const int dims_out[] = {[DIM_IN] = last, [DIM_OUT] = out};

	SDE_BIND(binder, conv_in_fields, dims_in, half, "%s.", name);
	SDE_BIND(binder, conv_out_fields, dims_out, half, "%s.", name);
}

/* Block i of a half; kind is "down_blocks" or "up_blocks". */
static void bind_block(struct sde_binder *binder, struct sde_kl_block *block, int n_resnets, int in,
		       int out, bool attention, bool resample, const char *half, const char *kind,
		       size_t i)
{
	const int dims[] = {[DIM_IN] = in, [DIM_OUT] = out};
	const bool down = kind[0] == 'd';
	char name[32];

	snprintf(name, sizeof(name), "%s.%zu", kind, i);
	block->resnets = calloc((size_t)n_resnets, sizeof(*block->resnets));
	if (attention)
		block->attentions = calloc((size_t)n_resnets, sizeof(*block->attentions));
	if (!block->resnets || (attention && !block->attentions)) {
		if (binder->r >= 0)
			binder->r = sde_error_set(binder->error, -ENOMEM,
						  "no memory for an autoencoder");
		return;
	}
	block->n_resnets = n_resnets;
	for (int j = 0; j < n_resnets; j++) {
		bind_resnet(binder, &block->resnets[j], j == 0 ? in : out, out, half, name, j);
		if (attention)
			SDE_BIND(binder, attention_fields, dims, &block->attentions[j],
				 "%s.%s.attentions.%d.", half, name, j);
	}
	if (resample && down)
		SDE_BIND(binder, downsampler_fields, dims, block, "%s.%s.", half, name);
	else if (resample)
		SDE_BIND(binder, upsampler_fields, dims, block, "%s.%s.", half, name);
}

int sde_kl_bind(struct sde_kl *kl, const struct sde_kl_config *config, struct sde_weights *weights,
		struct sde_error *error)
{
	const size_t n = config->n_levels;
	const int *channels = config->block_out_channels;
	const int encoded =
		config->codes > 0 ? config->inner_channels : 2 * config->latent_channels;
	const int dims[] = {[DIM_ENCODED] = encoded,
			    [DIM_MOMENTS] = sde_kl_config_moments(config),
			    [DIM_LATENT] = config->latent_channels,
			    [DIM_INNER] = config->inner_channels,
			    [DIM_CODES] = config->codes};
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_kl new = {.config = *config};
	int r;

	bind_ends(&binder, &new.encoder, config->in_channels, channels[0], channels[n - 1], encoded,
		  "encoder");
	bind_ends(&binder, &new.decoder, config->inner_channels, channels[n - 1], channels[0],
		  config->out_channels, "decoder");
	bind_mid(&binder, config, &new.encoder, channels[n - 1], "encoder");
	bind_mid(&binder, config, &new.decoder, channels[n - 1], "decoder");
	for (size_t i = 0; i < n; i++) {
		const size_t up = n - 1 - i; /* level of decoder block i */

		bind_block(&binder, &new.encoder.blocks[i], config->layers_per_block,
			   channels[i > 0 ? i - 1 : 0], channels[i], config->encoder_attention[i],
			   i + 1 < n, "encoder", "down_blocks", i);
		bind_block(&binder, &new.decoder.blocks[i], config->layers_per_block + 1,
			   channels[i > 0 ? up + 1 : up], channels[up],
			   config->decoder_attention[i], i + 1 < n, "decoder", "up_blocks", i);
	}
	if (config->use_quant_conv)
		SDE_BIND(&binder, quant_fields, dims, &new, "%s", "");
	if (config->use_post_quant_conv)
		SDE_BIND(&binder, post_quant_fields, dims, &new, "%s", "");
	if (config->codes > 0)
		SDE_BIND(&binder, codebook_fields, dims, &new, "%s", "");
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_kl_clear(&new);
		return r;
	}
	*kl = new;
	return 0;
}

void sde_kl_clear(struct sde_kl *kl)
{
	for (size_t i = 0; i < SDE_KL_LEVELS_MAX; i++) {
		free(kl->encoder.blocks[i].resnets);
		free(kl->encoder.blocks[i].attentions);
		free(kl->decoder.blocks[i].resnets);
		free(kl->decoder.blocks[i].attentions);
	}
	*kl = (struct sde_kl){0};
}

static sdk_value record_resnet(struct sdk_plan *plan, const struct sde_kl_config *config,
			       const struct sde_kl_resnet *resnet, sdk_value x)
{
	const int groups = config->norm_num_groups;
	sdk_value h;

	h = sde_record_group_norm_silu(plan, x, &resnet->norm1, groups, NORM_EPS);
	h = sde_record_conv(plan, h, &resnet->conv1);
	h = sde_record_group_norm_silu(plan, h, &resnet->norm2, groups, NORM_EPS);
	h = sde_record_conv(plan, h, &resnet->conv2);
	if (resnet->conv_shortcut.weight.data)
		x = sde_record_conv(plan, x, &resnet->conv_shortcut);
	return sdk_add(plan, x, h);
}

static sdk_value record_attention(struct sdk_plan *plan, const struct sde_kl_config *config,
				  const struct sde_kl_attention *attention, sdk_value x)
{
	sdk_value h, q, k, v;

	h = sde_record_group_norm(plan, x, &attention->group_norm, config->norm_num_groups,
				  NORM_EPS);
	h = sde_record_image_to_tokens(plan, h);
	q = sde_record_linear(plan, h, &attention->to_q);
	k = sde_record_linear(plan, h, &attention->to_k);
	v = sde_record_linear(plan, h, &attention->to_v);
	h = sde_record_attention(plan, q, k, v, 1, false);
	h = sde_record_linear(plan, h, &attention->to_out);
	return sdk_add(plan, x, sde_record_tokens_to_image(plan, h, x));
}

static sdk_value record_block(struct sdk_plan *plan, const struct sde_kl_config *config,
			      const struct sde_kl_block *block, sdk_value x)
{
	for (int i = 0; i < block->n_resnets; i++) {
		x = record_resnet(plan, config, &block->resnets[i], x);
		if (block->attentions)
			x = record_attention(plan, config, &block->attentions[i], x);
	}
	return x;
}

static sdk_value record_mid(struct sdk_plan *plan, const struct sde_kl_config *config,
			    const struct sde_kl_half *half, sdk_value x)
{
	x = record_resnet(plan, config, &half->mid_resnets[0], x);
	if (config->mid_block_add_attention)
		x = record_attention(plan, config, &half->mid_attention, x);
	return record_resnet(plan, config, &half->mid_resnets[1], x);
}

static sdk_value record_out(struct sdk_plan *plan, const struct sde_kl_config *config,
			    const struct sde_kl_half *half, sdk_value x)
{
	x = sde_record_group_norm_silu(plan, x, &half->conv_norm_out, config->norm_num_groups,
				       NORM_EPS);
	return sde_record_conv(plan, x, &half->conv_out);
}

sdk_value sde_kl_record_encode(struct sdk_plan *plan, const struct sde_kl *kl, sdk_value image)
{
	const struct sde_kl_half *half = &kl->encoder;
	sdk_value x = sde_record_conv(plan, image, &half->conv_in);

	for (size_t i = 0; i < kl->config.n_levels; i++) {
		const struct sde_kl_block *block = &half->blocks[i];

		x = record_block(plan, &kl->config, block, x);
		if (block->resample.weight.data)
			x = sdk_conv2d(plan, x, &block->resample.weight, &block->resample.bias, 2,
				       0, 0, 1, 1);
	}
	x = record_mid(plan, &kl->config, half, x);
	x = record_out(plan, &kl->config, half, x);
	return kl->config.use_quant_conv ? sde_record_linear(plan, x, &kl->quant_conv) : x;
}

sdk_value sde_kl_record_decode(struct sdk_plan *plan, const struct sde_kl *kl, sdk_value z)
{
	const struct sde_kl_half *half = &kl->decoder;
	struct sdk_shape shape;
	sdk_value x = z;

	if (kl->config.use_post_quant_conv)
		x = sde_record_linear(plan, x, &kl->post_quant_conv);
	x = sde_record_conv(plan, x, &half->conv_in);
	x = record_mid(plan, &kl->config, half, x);
	for (size_t i = 0; i < kl->config.n_levels; i++) {
		const struct sde_kl_block *block = &half->blocks[i];

		x = record_block(plan, &kl->config, block, x);
		if (block->resample.weight.data) {
			shape = sdk_plan_shape(plan, x);
			x = sdk_resize_nearest(plan, x, 2 * shape.h, 2 * shape.w);
			x = sde_record_conv(plan, x, &block->resample);
		}
	}
	return record_out(plan, &kl->config, half, x);
}
