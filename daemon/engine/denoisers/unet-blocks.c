/*
 * Forward code of the U-Net's two kinds of block contents: the residual block with its time embedding, and the spatial
 * transformer with self- and cross-attention.
 */
#include "daemon/engine/denoisers/unet.h"

#define TRANSFORMER_GROUP_NORM_EPS 1e-6
#define LAYER_NORM_EPS		   1e-5

sde_value sde_unet_record_resnet(struct sde_recorder *rec, const struct sde_unet_config *config,
				 const struct sde_unet_resnet *resnet, sde_value x, sde_value temb)
{
	const int groups = config->norm_num_groups;
	sde_value h, time;

	h = sde_record_group_norm_silu(rec, x, &resnet->norm1, groups, config->norm_eps);
	h = sde_record_conv(rec, h, &resnet->conv1);
	time = sde_record_linear(rec, temb, &resnet->time_emb_proj);
	h = sde_record_add_per_channel(rec, h, time);
	h = sde_record_group_norm_silu(rec, h, &resnet->norm2, groups, config->norm_eps);
	h = sde_record_conv(rec, h, &resnet->conv2);
	if (resnet->conv_shortcut.weight)
		x = sde_record_conv(rec, x, &resnet->conv_shortcut);
	return sde_record_add(rec, x, h);
}

static sde_value record_attention(struct sde_recorder *rec, sde_value x, sde_value context,
				  const struct sde_linear *q, const struct sde_linear *k,
				  const struct sde_linear *v, const struct sde_linear *out,
				  int heads)
{
	sde_value query = sde_record_linear(rec, x, q);
	sde_value key = sde_record_linear(rec, context, k);
	sde_value value = sde_record_linear(rec, context, v);

	x = sde_record_attention(rec, query, key, value, heads, false);
	return sde_record_linear(rec, x, out);
}

static sde_value record_transformer_layer(struct sde_recorder *rec,
					  const struct sde_unet_transformer_layer *layer, int heads,
					  sde_value x, sde_value context)
{
	sde_value h;

	h = sde_record_layer_norm(rec, x, &layer->norm1, LAYER_NORM_EPS);
	h = record_attention(rec, h, h, &layer->q1, &layer->k1, &layer->v1, &layer->out1, heads);
	x = sde_record_add(rec, x, h);

	h = sde_record_layer_norm(rec, x, &layer->norm2, LAYER_NORM_EPS);
	h = record_attention(rec, h, context, &layer->q2, &layer->k2, &layer->v2, &layer->out2,
			     heads);
	x = sde_record_add(rec, x, h);

	h = sde_record_layer_norm(rec, x, &layer->norm3, LAYER_NORM_EPS);
	h = sde_record_geglu(rec, sde_record_linear(rec, h, &layer->ff_in));
	return sde_record_add(rec, x, sde_record_linear(rec, h, &layer->ff_out));
}

sde_value sde_unet_record_transformer(struct sde_recorder *rec,
				      const struct sde_unet_config *config,
				      const struct sde_unet_transformer *transformer, sde_value x,
				      sde_value encoder_hidden_states)
{
	sde_value h;

	/* In NHWC a 1x1 convolution around the reshape and a Linear after it are the same thing. */
	h = sde_record_group_norm(rec, x, &transformer->norm, config->norm_num_groups,
				  TRANSFORMER_GROUP_NORM_EPS);
	h = sde_record_image_to_tokens(rec, h);
	h = sde_record_linear(rec, h, &transformer->proj_in);
	for (int i = 0; i < transformer->n_layers; i++)
		h = record_transformer_layer(rec, &transformer->layers[i], transformer->heads, h,
					     encoder_hidden_states);
	h = sde_record_linear(rec, h, &transformer->proj_out);
	return sde_record_add(rec, x, sde_record_tokens_to_image(rec, h, x));
}
