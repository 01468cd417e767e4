/*
 * The shape of an AutoencoderKL, or of its vector-quantised twin VQModel, as its config.json gives it, with the scale and
 * shift between its latents and those the denoiser sees.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct sde_error;

#define SDE_KL_LEVELS_MAX 8

struct sde_kl_config {
	int in_channels, out_channels;
	int latent_channels; /* as the denoiser sees them: behind quant_conv */
	int inner_channels;  /* at the decoder's first convolution: behind post_quant_conv */
	int codes;	     /* VQModel: rows of the codebook; 0 = KL */
	size_t n_levels;
	int block_out_channels[SDE_KL_LEVELS_MAX]; /* encoder order */
	int layers_per_block;			   /* the decoder has one more */
	int norm_num_groups;
	bool encoder_attention
		[SDE_KL_LEVELS_MAX]; /* behind each resnet of that block, in block order */
	bool decoder_attention[SDE_KL_LEVELS_MAX];
	bool mid_block_add_attention, use_quant_conv, use_post_quant_conv;
	double scaling_factor, shift_factor; /* latents = (z - shift) * scale */
	int sample_size; /* side of a tile in pixels when tiling, as in diffusers */
};

/* Pixels per latent: 2^(levels - 1). */
int sde_kl_config_factor(const struct sde_kl_config *config);

/* Channels of what the encoder gives: mean and logarithm of the variance, or for a VQModel the latents. */
int sde_kl_config_moments(const struct sde_kl_config *config);

/* -EINVAL names the key; absent keys get the diffusers defaults of the class. */
int sde_kl_config_parse(const json_t *object, const char *what, struct sde_kl_config *ret_config,
			struct sde_error *error);
int sde_vq_config_parse(const json_t *object, const char *what, struct sde_kl_config *ret_config,
			struct sde_error *error);
