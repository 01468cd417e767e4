/*
 * AutoencoderTiny (TAESD and its 16-channel kin; diffusers' autoencoder_tiny.py): a distilled autoencoder of plain 3x3
 * convolutions and ReLU, some thirty times cheaper than the KL decoder, for previews and as a stand-in for a model's VAE.
 * Its latents are the denoiser's own: nothing is drawn, scaling_factor is 1 as published.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"

struct sde_error;
struct sde_weights;

#define SDE_TINY_STAGES_MAX 8

struct sde_tiny_config {
	int in_channels, out_channels, latent_channels;
	size_t n_stages;			/* factor = 2^(n_stages - 1) */
	int encoder_channels, decoder_channels; /* of every stage */
	int encoder_blocks[SDE_TINY_STAGES_MAX], decoder_blocks[SDE_TINY_STAGES_MAX];
	double latent_magnitude,
		latent_shift;		     /* latents as bytes: latents / (2 magnitude) + shift */
	double scaling_factor, shift_factor; /* latents = (z - shift) * scale */
};

/* relu(x + conv(relu(conv(relu(conv(x)))))) */
struct sde_tiny_block {
	struct sde_conv conv1, conv2, conv3;
};

/* Encoder: conv (halves the size from stage 1 on), then blocks. Decoder: blocks, doubling, conv (only conv in the last). */
struct sde_tiny_stage {
	struct sde_conv conv;
	int n_blocks;
	struct sde_tiny_block *blocks; /* owned */
};

struct sde_tiny {
	struct sde_tiny_config config;
	struct sde_tiny_stage encoder[SDE_TINY_STAGES_MAX], decoder[SDE_TINY_STAGES_MAX];
	struct sde_conv encoder_out, decoder_in;
};

/* -EINVAL names the key; absent keys get the diffusers defaults. */
int sde_tiny_config_parse(const json_t *object, const char *what,
			  struct sde_tiny_config *ret_config, struct sde_error *error);
/* Pixels per latent. */
int sde_tiny_config_factor(const struct sde_tiny_config *config);

/* Bind every tensor of the file. Borrows weights. Errors name the tensor; on failure *tiny needs no clearing. */
int sde_tiny_bind(struct sde_tiny *tiny, const struct sde_tiny_config *config,
		  struct sde_weights *weights, struct sde_error *error);
void sde_tiny_clear(struct sde_tiny *tiny);

/* image (batch, height, width, in_channels) in -1..1 -> (batch, height / f, width / f, latent_channels). */
sdk_value sde_tiny_record_encode(struct sdk_plan *plan, const struct sde_tiny *tiny,
				 sdk_value image);
/* latents (batch, h, w, latent_channels) -> image (batch, h * f, w * f, out_channels), about -1..1. */
sdk_value sde_tiny_record_decode(struct sdk_plan *plan, const struct sde_tiny *tiny,
				 sdk_value latents);
