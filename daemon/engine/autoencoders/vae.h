/*
 * A model's autoencoder, whichever class it is: what pipelines need of AutoencoderKL, VQModel and AutoencoderTiny. Arrays
 * are float32, NCHW, pictures in -1..1; latents are those the denoiser sees, scaled and shifted.
 */
#pragma once

#include <stdbool.h>

#include "daemon/engine/autoencoders/tiny.h"
#include "daemon/engine/forward.h"

#define SDE_VAE_WHOLE_MAX (1024 * 1024) /* pixels: what is larger runs in tiles */

enum sde_vae_kind { SDE_VAE_KL, SDE_VAE_VQ, SDE_VAE_TINY };

struct sde_vae {
	enum sde_vae_kind kind;
	int in_channels, out_channels, latent_channels;
	int factor;			     /* pixels per latent */
	double scaling_factor, shift_factor; /* latents = (z - shift) * scale */
	bool tiled;	  /* in tiles also what would run whole; set by whoever runs it */
	struct sde_kl kl; /* KL and VQ */
	struct sde_tiny tiny;
};

/*
 * Bind by the "_class_name" of config ("AutoencoderKL" when it has none). -ENOTSUP for another class, else as the
 * binding functions of the classes. what: prefix of messages about the config.
 */
int sde_vae_bind(struct sde_vae *vae, const json_t *config, const char *what,
		 struct sde_weights *weights, struct sde_error *error);
/* Drops its programs from the runner, then its memory; a vae of zeros is fine. */
void sde_vae_clear(struct sde_vae *vae, struct sde_runner *runner);

/* Whether encoding takes noise: only a KL autoencoder gives a distribution. */
bool sde_vae_draws(const struct sde_vae *vae);

/*
 * images (batch, in_channels, height, width), sides multiples of factor -> latents (batch, latent_channels, height / factor,
 * width / factor). eps: noise of that size, or NULL for the mode (and where sde_vae_draws is false). Pictures beyond a
 * megapixel run in tiles, to bound the memory. -ENOMEM, -ECANCELED.
 */
int sde_vae_encode(struct sde_runner *runner, const struct sde_vae *vae, const float *images,
		   const float *eps, int batch, int height, int width, float *ret_latents,
		   struct sde_error *error);

/*
 * The same in two halves. The encoding is what the network makes of the pictures, before eps, scale and shift:
 * sde_vae_encoding_size() floats.
 */
size_t sde_vae_encoding_size(const struct sde_vae *vae, int batch, int height, int width);
int sde_vae_encoding(struct sde_runner *runner, const struct sde_vae *vae, const float *images,
		     int batch, int height, int width, float *ret_encoding,
		     struct sde_error *error);
void sde_vae_sample(const struct sde_vae *vae, const float *encoding, const float *eps, int batch,
		    int height, int width, float *ret_latents);

/* latents (batch, latent_channels, height, width) -> images (batch, out_channels, height * factor, width * factor). */
int sde_vae_decode(struct sde_runner *runner, const struct sde_vae *vae, const float *latents,
		   int batch, int height, int width, float *ret_images, struct sde_error *error);
