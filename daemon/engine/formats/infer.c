/*
 * From shapes to configurations: see infer.h. Channels, depths, levels and the places of attention are read off; heads follow the two
 * rules of the field: 8 of them where the spatial transformers are 1x1 convolutions (SD 1.x), else one per 64 channels.
 */
#include "daemon/engine/formats/infer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LEVELS_MAX     16
#define HEAD_SIZE      64
#define FLUX_HEAD_SIZE 128
#define TIME_ID_SIZE   256

/* Dimension `axis` of a tensor, 0 when there is no such tensor or axis. */
static int dim(const struct sde_weights *weights, int axis, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int dim(const struct sde_weights *weights, int axis, const char *format, ...)
{
	const struct sde_tensor *tensor;
	char name[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	tensor = sde_weights_find(weights, name);
	return tensor && axis < tensor->rank && tensor->shape[axis] <= 1 << 24
		       ? (int)tensor->shape[axis]
		       : 0;
}

static int rank(const struct sde_weights *weights, const char *name)
{
	const struct sde_tensor *tensor = sde_weights_find(weights, name);

	return tensor ? tensor->rank : 0;
}

/* Layers of a stack: how many numbers in a row exist. The format takes one. */
#define COUNT(n, max, ...) for ((n) = 0; (n) < (max) && dim(weights, 0, __VA_ARGS__, (n)); (n)++)

static json_t *ints(const int *values, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(values[i]));
	return list;
}

/* Transformer blocks behind the first residual block; 0 without attention. */
static int depth(const struct sde_weights *weights, const char *kind, int level)
{
	int n;

	for (n = 0;
	     n < 64 && dim(weights, 0, "%s.%d.attentions.0.transformer_blocks.%d.norm1.weight",
			   kind, level, n);
	     n++)
		;
	return n;
}

static void infer_levels(const struct sde_weights *weights, json_t *config, bool linear)
{
	json_t *down = json_array(), *up = json_array();
	int channels[LEVELS_MAX], depths[LEVELS_MAX], heads[LEVELS_MAX], layers[LEVELS_MAX];
	int n = 0, mid = 0;

	while (n < LEVELS_MAX &&
	       (channels[n] = dim(weights, 0, "down_blocks.%d.resnets.0.conv1.weight", n))) {
		depths[n] = depth(weights, "down_blocks", n);
		heads[n] = linear ? channels[n] / HEAD_SIZE : 8;
		COUNT(layers[n], 64, "down_blocks.%d.resnets.%d.conv1.weight", n);
		json_array_append_new(
			down, json_string(depths[n] ? "CrossAttnDownBlock2D" : "DownBlock2D"));
		n++;
	}
	for (int i = 0; i < n; i++)
		json_array_append_new(up, json_string(depth(weights, "up_blocks", i)
							      ? "CrossAttnUpBlock2D"
							      : "UpBlock2D"));
	while (mid < 64 &&
	       dim(weights, 0, "mid_block.attentions.0.transformer_blocks.%d.norm1.weight", mid))
		mid++;
	/* levels without attention have no depth; the last one's is the middle block's */
	for (int i = 0; i < n; i++)
		depths[i] = depths[i] ? depths[i] : i + 1 < n ? 1 : mid;
	json_object_set_new(config, "block_out_channels", ints(channels, (size_t)n));
	json_object_set_new(config, "layers_per_block", ints(layers, (size_t)n));
	json_object_set_new(config, "transformer_layers_per_block", ints(depths, (size_t)n));
	json_object_set_new(config, "attention_head_dim", ints(heads, (size_t)n));
	json_object_set_new(config, "down_block_types", down);
	json_object_set_new(config, "up_block_types", up);
}

/* A tensor of the first transformer on the way down (SDXL's first level has none). */
static const struct sde_tensor *first_attention(const struct sde_weights *weights, const char *what)
{
	const struct sde_tensor *tensor = NULL;
	char name[256];

	for (int level = 0; level < LEVELS_MAX && !tensor; level++) {
		snprintf(name, sizeof(name), "down_blocks.%d.attentions.0.%s", level, what);
		tensor = sde_weights_find(weights, name);
	}
	return tensor;
}

json_t *sde_infer_unet(const struct sde_weights *weights)
{
	const struct sde_tensor *proj_in = first_attention(weights, "proj_in.weight");
	const struct sde_tensor *to_k =
		first_attention(weights, "transformer_blocks.0.attn2.to_k.weight");
	const bool linear = proj_in && proj_in->rank == 2;
	const int added = dim(weights, 1, "add_embedding.linear_1.weight");
	const int cond = dim(weights, 1, "time_embedding.cond_proj.weight");
	json_t *config =
		json_pack("{s:s, s:i, s:i, s:b}", "_class_name", "UNet2DConditionModel",
			  "in_channels", dim(weights, 1, "conv_in.weight"), "out_channels",
			  dim(weights, 0, "conv_out.weight"), "use_linear_projection", linear);

	if (!config)
		return NULL;
	if (to_k && to_k->rank == 2)
		json_object_set_new(config, "cross_attention_dim", json_integer(to_k->shape[1]));
	infer_levels(weights, config, linear);
	json_object_set_new(config, "sample_size", json_integer(added ? 128 : 64));
	if (cond)
		json_object_set_new(config, "time_cond_proj_dim", json_integer(cond));
	if (added) {
		json_object_set_new(config, "addition_embed_type", json_string("text_time"));
		json_object_set_new(config, "addition_time_embed_dim", json_integer(TIME_ID_SIZE));
		json_object_set_new(config, "projection_class_embeddings_input_dim",
				    json_integer(added));
	}
	return config;
}

json_t *sde_infer_kl(const struct sde_weights *weights, double scaling_factor, double shift_factor)
{
	json_t *config, *down = json_array(), *up = json_array();
	int channels[LEVELS_MAX], n = 0, layers = 0;
	const int latent = dim(weights, 1, "decoder.conv_in.weight");

	while (n < LEVELS_MAX &&
	       (channels[n] =
			dim(weights, 0, "encoder.down_blocks.%d.resnets.0.conv1.weight", n))) {
		json_array_append_new(
			down,
			json_string(dim(weights, 0,
					"encoder.down_blocks.%d.attentions.0.group_norm.weight", n)
					    ? "AttnDownEncoderBlock2D"
					    : "DownEncoderBlock2D"));
		json_array_append_new(
			up,
			json_string(dim(weights, 0,
					"decoder.up_blocks.%d.attentions.0.group_norm.weight", n)
					    ? "AttnUpDecoderBlock2D"
					    : "UpDecoderBlock2D"));
		n++;
	}
	COUNT(layers, 64, "encoder.down_blocks.0.resnets.%d.conv1.weight");
	config = json_pack("{s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:i, s:f, s:f, s:b, s:b, s:b, s:i}",
			   "_class_name", "AutoencoderKL", "in_channels",
			   dim(weights, 1, "encoder.conv_in.weight"), "out_channels",
			   dim(weights, 0, "decoder.conv_out.weight"), "latent_channels", latent,
			   "block_out_channels", ints(channels, (size_t)n), "down_block_types",
			   down, "up_block_types", up, "layers_per_block", layers, "scaling_factor",
			   scaling_factor, "shift_factor", shift_factor, "mid_block_add_attention",
			   rank(weights, "decoder.mid_block.attentions.0.group_norm.weight") > 0,
			   "use_quant_conv", rank(weights, "quant_conv.weight") > 0,
			   "use_post_quant_conv", rank(weights, "post_quant_conv.weight") > 0,
			   "sample_size", 512);
	return config;
}

json_t *sde_infer_tiny(const struct sde_weights *weights)
{
	const int latent = dim(weights, 1, "decoder.layers.0.weight");
	int c[4];

	for (size_t i = 0; i < 4; i++)
		c[i] = dim(weights, 0, "decoder.layers.0.weight");
	return json_pack("{s:s, s:i, s:o, s:o}", "_class_name", "AutoencoderTiny",
			 "latent_channels", latent, "encoder_block_out_channels", ints(c, 4),
			 "decoder_block_out_channels", ints(c, 4));
}

json_t *sde_infer_clip(const struct sde_weights *weights)
{
	const char *p = sde_weights_has_prefix(weights, "text_model.") ? "text_model." : "";
	const int width = dim(weights, 1, "%sembeddings.token_embedding.weight", p);
	const int projection = dim(weights, 0, "text_projection.weight");
	int layers = 0;

	while (layers < 256 && dim(weights, 0, "%sencoder.layers.%d.layer_norm1.weight", p, layers))
		layers++;
	/* eos_token_id 2: the first largest id is pooled, which is the end token in every vocabulary of CLIP */
	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i}", "_class_name",
			 projection ? "CLIPTextModelWithProjection" : "CLIPTextModel", "vocab_size",
			 dim(weights, 0, "%sembeddings.token_embedding.weight", p), "hidden_size",
			 width, "intermediate_size",
			 dim(weights, 0, "%sencoder.layers.0.mlp.fc1.weight", p), "projection_dim",
			 projection ? projection : width, "num_hidden_layers", layers,
			 "num_attention_heads", width / HEAD_SIZE > 0 ? width / HEAD_SIZE : 1,
			 "max_position_embeddings",
			 dim(weights, 0, "%sembeddings.position_embedding.weight", p), "hidden_act",
			 width == 768 ? "quick_gelu" : "gelu", "eos_token_id", 2);
}

json_t *sde_infer_t5(const struct sde_weights *weights)
{
	static const char q[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
	static const char bias[] =
		"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
	const int heads = dim(weights, 1, "%s", bias);
	int layers = 0;

	COUNT(layers, 256, "encoder.block.%d.layer.0.layer_norm.weight");
	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s}", "_class_name",
			 "T5EncoderModel", "vocab_size",
			 dim(weights, 0, "shared.weight")
				 ? dim(weights, 0, "shared.weight")
				 : dim(weights, 0, "encoder.embed_tokens.weight"),
			 "d_model", dim(weights, 1, "%s", q), "d_kv",
			 heads ? dim(weights, 0, "%s", q) / heads : 0, "d_ff",
			 dim(weights, 0, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
			 "num_layers", layers, "num_heads", heads, "relative_attention_num_buckets",
			 dim(weights, 0, "%s", bias), "feed_forward_proj", "gated-gelu");
}

json_t *sde_infer_sd3(const struct sde_weights *weights)
{
	const int width = dim(weights, 0, "pos_embed.proj.weight");
	const int positions = dim(weights, 1, "pos_embed.pos_embed");
	json_t *dual = json_array(), *config;
	int layers = 0, side = 0;

	COUNT(layers, 256, "transformer_blocks.%d.attn.to_q.weight");
	for (int i = 0; i < layers; i++)
		if (dim(weights, 0, "transformer_blocks.%d.attn2.to_q.weight", i))
			json_array_append_new(dual, json_integer(i));
	while (side < 4096 && side * side < positions)
		side++;
	config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o}", "_class_name",
			   "SD3Transformer2DModel", "in_channels",
			   dim(weights, 1, "pos_embed.proj.weight"), "out_channels",
			   dim(weights, 0, "proj_out.weight") / 4, "num_layers", layers,
			   "num_attention_heads", width / HEAD_SIZE, "attention_head_dim",
			   HEAD_SIZE, "caption_projection_dim", width, "joint_attention_dim",
			   dim(weights, 1, "context_embedder.weight"), "pooled_projection_dim",
			   dim(weights, 1, "time_text_embed.text_embedder.linear_1.weight"),
			   "pos_embed_max_size", side, "dual_attention_layers", dual);
	if (config && dim(weights, 0, "transformer_blocks.0.attn.norm_q.weight"))
		json_object_set_new(config, "qk_norm", json_string("rms_norm"));
	return config;
}

json_t *sde_infer_flux(const struct sde_weights *weights)
{
	const int width = dim(weights, 0, "x_embedder.weight");
	int doubles = 0, singles = 0;

	COUNT(doubles, 256, "transformer_blocks.%d.attn.to_q.weight");
	COUNT(singles, 256, "single_transformer_blocks.%d.attn.to_q.weight");
	return json_pack(
		"{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "_class_name",
		"FluxTransformer2DModel", "in_channels", dim(weights, 1, "x_embedder.weight"),
		"out_channels", dim(weights, 0, "proj_out.weight"), "num_layers", doubles,
		"num_single_layers", singles, "num_attention_heads", width / FLUX_HEAD_SIZE,
		"attention_head_dim", FLUX_HEAD_SIZE, "joint_attention_dim",
		dim(weights, 1, "context_embedder.weight"), "pooled_projection_dim",
		dim(weights, 1, "time_text_embed.text_embedder.linear_1.weight"), "guidance_embeds",
		dim(weights, 0, "time_text_embed.guidance_embedder.linear_1.weight") > 0);
}
