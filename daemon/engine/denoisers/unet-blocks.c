/*
 * Forward code of the U-Net's two kinds of block contents: the residual block with its time embedding, and the spatial
 * transformer with self- and cross-attention.
 */
#include "daemon/engine/denoisers/unet.h"

#define TRANSFORMER_GROUP_NORM_EPS 1e-6
#define LAYER_NORM_EPS		   1e-5

/* x * (1 + scale) + shift; time: channels of the scale, then of the shift. */
static sdk_value scale_and_shift(struct sdk_plan *plan, sdk_value x, sdk_value time)
{
	const int channels = sdk_plan_shape(plan, x).c;
	const sdk_value scale = sdk_slice(plan, time, 0, channels);
	const sdk_value shift = sdk_slice(plan, time, channels, channels);

	return sdk_add(plan, sdk_mul(plan, x, sdk_affine(plan, scale, 1, 1)), shift);
}

sdk_value sde_unet_record_resnet(struct sdk_plan *plan, const struct sde_unet_config *config,
				 const struct sde_unet_resnet *resnet, sdk_value x, sdk_value temb)
{
	const int groups = config->norm_num_groups;
	sdk_value h, time;

	h = sde_record_group_norm_silu(plan, x, &resnet->norm1, groups, config->norm_eps);
	h = sde_record_conv(plan, h, &resnet->conv1);
	time = sde_record_linear(plan, temb, &resnet->time_emb_proj);
	if (config->scale_shift) {
		h = sde_record_group_norm(plan, h, &resnet->norm2, groups, config->norm_eps);
		h = sdk_activate(plan, scale_and_shift(plan, h, time), SDK_SILU);
	} else {
		h = sdk_add(plan, h, time);
		h = sde_record_group_norm_silu(plan, h, &resnet->norm2, groups, config->norm_eps);
	}
	h = sde_record_conv(plan, h, &resnet->conv2);
	if (resnet->conv_shortcut.weight.data)
		x = sde_record_conv(plan, x, &resnet->conv_shortcut);
	return sdk_add(plan, x, h);
}

/* next_site NULL: not watched. */
static sdk_value record_attention(struct sdk_plan *plan, sdk_value x, sdk_value context,
				  const struct sde_linear *q, const struct sde_linear *k,
				  const struct sde_linear *v, int heads, int *next_site)
{
	sdk_value query = sde_record_linear(plan, x, q);
	sdk_value key = sde_record_linear(plan, context, k);
	sdk_value value = sde_record_linear(plan, context, v);

	if (next_site)
		return sde_record_attention_watched(plan, query, key, value, heads, (*next_site)++);
	return sde_record_attention(plan, query, key, value, heads, false);
}

/* To the text, and with an IP-Adapter to the picture's tokens beside it. */
static sdk_value record_cross_attention(struct sdk_plan *plan,
					const struct sde_unet_transformer_layer *layer, int heads,
					sdk_value x, const struct sde_unet_inputs *inputs)
{
	const struct sde_ip_attention *ip = inputs->has_image ? layer->ip : NULL;
	sdk_value h, image;

	h = record_attention(plan, x, inputs->encoder_hidden_states, &layer->q2, &layer->k2,
			     &layer->v2, heads, inputs->next_site);
	if (ip) {
		image = record_attention(plan, x, inputs->image_tokens, &layer->q2, &ip->to_k,
					 &ip->to_v, heads, NULL);
		h = sdk_add(plan, h, sdk_affine(plan, image, ip->scale, 0));
	}
	return sde_record_linear(plan, h, &layer->out2);
}

static sdk_value record_transformer_layer(struct sdk_plan *plan,
					  const struct sde_unet_transformer_layer *layer, int heads,
					  sdk_value x, const struct sde_unet_inputs *inputs)
{
	sdk_value h;

	h = sde_record_layer_norm(plan, x, &layer->norm1, LAYER_NORM_EPS);
	if (layer->only_cross && inputs->next_site)
		(*inputs->next_site)++; /* no map of the picture on itself */
	h = record_attention(plan, h, layer->only_cross ? inputs->encoder_hidden_states : h,
			     &layer->q1, &layer->k1, &layer->v1, heads,
			     layer->only_cross ? NULL : inputs->next_site);
	x = sdk_add(plan, x, sde_record_linear(plan, h, &layer->out1));

	h = sde_record_layer_norm(plan, x, &layer->norm2, LAYER_NORM_EPS);
	x = sdk_add(plan, x, record_cross_attention(plan, layer, heads, h, inputs));

	h = sde_record_layer_norm(plan, x, &layer->norm3, LAYER_NORM_EPS);
	h = sdk_geglu(plan, sde_record_linear(plan, h, &layer->ff_in));
	return sdk_add(plan, x, sde_record_linear(plan, h, &layer->ff_out));
}

sdk_value sde_unet_record_transformer(struct sdk_plan *plan, const struct sde_unet_config *config,
				      const struct sde_unet_transformer *transformer, sdk_value x,
				      const struct sde_unet_inputs *inputs)
{
	sdk_value h;

	/* In NHWC a 1x1 convolution around the reshape and a Linear after it are the same thing. */
	h = sde_record_group_norm(plan, x, &transformer->norm, config->norm_num_groups,
				  TRANSFORMER_GROUP_NORM_EPS);
	h = sde_record_image_to_tokens(plan, h);
	h = sde_record_linear(plan, h, &transformer->proj_in);
	for (int i = 0; i < transformer->n_layers; i++)
		h = record_transformer_layer(plan, &transformer->layers[i], transformer->heads, h,
					     inputs);
	h = sde_record_linear(plan, h, &transformer->proj_out);
	return sdk_add(plan, x, sde_record_tokens_to_image(plan, h, x));
}
