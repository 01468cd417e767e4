/*
 * AutoencoderTiny: configuration, tensor tables and recorded halves. Tensors are numbered as they stand in two
 * torch.nn.Sequential, where activations and doublings count too.
 */
#include "daemon/engine/autoencoders/tiny.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"

#define CHANNELS_MAX 16384
#define BLOCKS_MAX   64

enum { DIM_IN, DIM_OUT };

static const struct sde_field block_fields[] = {
	SDE_FIELD(sde_tiny_block, conv1, "conv.0", CONV3, DIM_IN, DIM_OUT),
	SDE_FIELD(sde_tiny_block, conv2, "conv.2", CONV3, DIM_IN, DIM_OUT),
	SDE_FIELD(sde_tiny_block, conv3, "conv.4", CONV3, DIM_IN, DIM_OUT),
};

static const struct sde_field end_conv_fields[] = {
	SDE_FIELD(sde_tiny_stage, conv, "", CONV3, DIM_IN, DIM_OUT),
};

static const struct sde_field inner_conv_fields[] = {
	SDE_FIELD(sde_tiny_stage, conv, "", CONV3_NO_BIAS, DIM_IN, DIM_OUT),
};

static const struct sde_field encoder_out_fields[] = {
	SDE_FIELD(sde_tiny, encoder_out, "", CONV3, DIM_IN, DIM_OUT),
};

static const struct sde_field decoder_in_fields[] = {
	SDE_FIELD(sde_tiny, decoder_in, "", CONV3, DIM_IN, DIM_OUT),
};

int sde_tiny_config_factor(const struct sde_tiny_config *config)
{
	return 1 << (config->n_stages - 1);
}

/* The widths of a half: diffusers' own code needs them all equal. */
static int parse_channels(struct sde_config_keys *keys, const char *key)
{
	int channels[SDE_TINY_STAGES_MAX] = {64, 64, 64, 64};
	size_t n = 4;

	sde_config_int_list(keys, key, channels, &n, SDE_TINY_STAGES_MAX, 1, CHANNELS_MAX);
	for (size_t i = 1; i < n; i++)
		if (channels[i] != channels[0])
			sde_config_fail(keys, "'%s' has %d and %d; all must be equal", key,
					channels[0], channels[i]);
	return channels[0];
}

int sde_tiny_config_parse(const json_t *object, const char *what,
			  struct sde_tiny_config *ret_config, struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_tiny_config config = {
		.n_stages = 4,
		.encoder_blocks = {1, 3, 3, 3},
		.decoder_blocks = {3, 3, 3, 1},
	};
	size_t n_decoder = 4;

	config.in_channels = sde_config_int(&keys, "in_channels", 3, 1, 64);
	config.out_channels = sde_config_int(&keys, "out_channels", 3, 1, 64);
	config.latent_channels = sde_config_int(&keys, "latent_channels", 4, 1, 1024);
	config.encoder_channels = parse_channels(&keys, "encoder_block_out_channels");
	config.decoder_channels = parse_channels(&keys, "decoder_block_out_channels");
	sde_config_int_list(&keys, "num_encoder_blocks", config.encoder_blocks, &config.n_stages,
			    SDE_TINY_STAGES_MAX, 0, BLOCKS_MAX);
	sde_config_int_list(&keys, "num_decoder_blocks", config.decoder_blocks, &n_decoder,
			    SDE_TINY_STAGES_MAX, 0, BLOCKS_MAX);
	if (n_decoder != config.n_stages)
		sde_config_fail(&keys, "%zu stages encode, %zu decode; they must be as many",
				config.n_stages, n_decoder);
	config.latent_magnitude = sde_config_real(&keys, "latent_magnitude", 3, 1e-6, 1e6);
	config.latent_shift = sde_config_real(&keys, "latent_shift", 0.5, -1e6, 1e6);
	config.scaling_factor = sde_config_real(&keys, "scaling_factor", 1, 1e-6, 1e6);
	config.shift_factor = sde_config_real(&keys, "shift_factor", 0, -1e6, 1e6);
	sde_config_only(&keys, "act_fn", "\"relu\"");
	sde_config_only(&keys, "upsample_fn", "\"nearest\"");
	sde_config_only(&keys, "upsampling_scaling_factor", "2");
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}

static void bind_blocks(struct sde_binder *binder, struct sde_tiny_stage *stage, int n,
			int channels, const char *half, int first_layer)
{
	const int dims[] = {[DIM_IN] = channels, [DIM_OUT] = channels};

	stage->blocks = calloc((size_t)n + 1, sizeof(*stage->blocks));
	if (!stage->blocks) {
		if (binder->r >= 0)
			binder->r = sde_error_set(binder->error, -ENOMEM,
						  "no memory for an autoencoder");
		return;
	}
	stage->n_blocks = n;
	for (int i = 0; i < n; i++)
		SDE_BIND(binder, block_fields, dims, &stage->blocks[i], "%s.layers.%d.", half,
			 first_layer + i);
}

static void bind_encoder(struct sde_binder *binder, struct sde_tiny *tiny)
{
	const struct sde_tiny_config *config = &tiny->config;
	const int c = config->encoder_channels;
	const int dims_in[] = {[DIM_IN] = config->in_channels, [DIM_OUT] = c};
	const int dims[] = {[DIM_IN] = c, [DIM_OUT] = c};
	const int dims_out[] = {[DIM_IN] = c, [DIM_OUT] = config->latent_channels};
	int layer = 0;

	for (size_t i = 0; i < config->n_stages; i++) {
		struct sde_tiny_stage *stage = &tiny->encoder[i];

		if (i == 0)
			SDE_BIND(binder, end_conv_fields, dims_in, stage, "encoder.layers.%d",
				 layer);
		else
			SDE_BIND(binder, inner_conv_fields, dims, stage, "encoder.layers.%d",
				 layer);
		bind_blocks(binder, stage, config->encoder_blocks[i], c, "encoder", layer + 1);
		layer += 1 + config->encoder_blocks[i];
	}
	SDE_BIND(binder, encoder_out_fields, dims_out, tiny, "encoder.layers.%d", layer);
}

static void bind_decoder(struct sde_binder *binder, struct sde_tiny *tiny)
{
	const struct sde_tiny_config *config = &tiny->config;
	const int c = config->decoder_channels;
	const int dims_in[] = {[DIM_IN] = config->latent_channels, [DIM_OUT] = c};
	const int dims[] = {[DIM_IN] = c, [DIM_OUT] = c};
	const int dims_out[] = {[DIM_IN] = c, [DIM_OUT] = config->out_channels};
	int layer = 2; /* behind the first convolution and its activation */

	SDE_BIND(binder, decoder_in_fields, dims_in, tiny, "%s", "decoder.layers.0");
	for (size_t i = 0; i < config->n_stages; i++) {
		struct sde_tiny_stage *stage = &tiny->decoder[i];

		bind_blocks(binder, stage, config->decoder_blocks[i], c, "decoder", layer);
		layer += config->decoder_blocks[i];
		if (i + 1 == config->n_stages)
			SDE_BIND(binder, end_conv_fields, dims_out, stage, "decoder.layers.%d",
				 layer);
		else
			SDE_BIND(binder, inner_conv_fields, dims, stage, "decoder.layers.%d",
				 layer + 1);
		layer += 2;
	}
}

int sde_tiny_bind(struct sde_tiny *tiny, const struct sde_tiny_config *config,
		  struct sde_weights *weights, struct sde_error *error)
{
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_tiny new = {.config = *config};
	int r;

	bind_encoder(&binder, &new);
	bind_decoder(&binder, &new);
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_tiny_clear(&new);
		return r;
	}
	*tiny = new;
	return 0;
}

void sde_tiny_clear(struct sde_tiny *tiny)
{
	for (size_t i = 0; i < SDE_TINY_STAGES_MAX; i++) {
		free(tiny->encoder[i].blocks);
		free(tiny->decoder[i].blocks);
	}
	*tiny = (struct sde_tiny){0};
}

static sdk_value record_blocks(struct sdk_plan *plan, const struct sde_tiny_stage *stage,
			       sdk_value x)
{
	for (int i = 0; i < stage->n_blocks; i++) {
		const struct sde_tiny_block *block = &stage->blocks[i];
		sdk_value h;

		h = sdk_activate(plan, sde_record_conv(plan, x, &block->conv1), SDK_RELU);
		h = sdk_activate(plan, sde_record_conv(plan, h, &block->conv2), SDK_RELU);
		h = sde_record_conv(plan, h, &block->conv3);
		x = sdk_activate(plan, sdk_add(plan, h, x), SDK_RELU);
	}
	return x;
}

sdk_value sde_tiny_record_encode(struct sdk_plan *plan, const struct sde_tiny *tiny,
				 sdk_value image)
{
	sdk_value x = sdk_affine(plan, image, 0.5f, 0.5f);

	for (size_t i = 0; i < tiny->config.n_stages; i++) {
		x = sde_record_conv_stride(plan, x, &tiny->encoder[i].conv, i == 0 ? 1 : 2);
		x = record_blocks(plan, &tiny->encoder[i], x);
	}
	return sde_record_conv(plan, x, &tiny->encoder_out);
}

sdk_value sde_tiny_record_decode(struct sdk_plan *plan, const struct sde_tiny *tiny,
				 sdk_value latents)
{
	sdk_value x;

	/* latents far out saturate softly at -3 and 3 */
	x = sdk_activate(plan, sdk_affine(plan, latents, 1.0f / 3, 0), SDK_TANH);
	x = sde_record_conv(plan, sdk_affine(plan, x, 3, 0), &tiny->decoder_in);
	x = sdk_activate(plan, x, SDK_RELU);
	for (size_t i = 0; i < tiny->config.n_stages; i++) {
		x = record_blocks(plan, &tiny->decoder[i], x);
		if (i + 1 < tiny->config.n_stages) {
			const struct sdk_shape shape = sdk_plan_shape(plan, x);

			x = sdk_resize_nearest(plan, x, 2 * shape.h, 2 * shape.w);
		}
		x = sde_record_conv(plan, x, &tiny->decoder[i].conv);
	}
	return sdk_affine(plan, x, 2, -1);
}
