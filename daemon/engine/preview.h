/*
 * Sketches of a picture while it is sampled: latents -> a small RGB picture, by a distilled decoder (TAESD) if the model
 * folder has one, else by the linear map of sdd.json's "latent_rgb", else not at all.
 */
#pragma once

#include <stdbool.h>

#include "daemon/engine/autoencoders/vae.h"
#include "daemon/engine/pixels/image.h"

struct sde_model_dir;

#define SDE_PREVIEW_SIDE_MAX 256 /* pixels */

struct sde_preview {
	struct sde_weights *
		weights; /* of the decoder; NULL when it is the model's own autoencoder, or there is none */
	struct sde_vae decoder; /* used when weights is set */
	float (*latent_rgb)
		[3]; /* (latent_channels + 1) rows, the last is the constant; NULL: none. -1..1 */
};

/*
 * Look for the folder that sdd.json (object, NULL allowed) names as "preview_decoder", or for taesd/, then for "latent_rgb":
 * a list of latent_channels rows [r, g, b], and one more for a constant. Finding nothing is no error; a decoder of another
 * kind, latents or size than vae's is -EINVAL.
 */
int sde_preview_load(struct sde_preview *preview, const struct sde_model_dir *dir,
		     const json_t *object, const struct sde_vae *vae, struct sde_error *error);
void sde_preview_clear(struct sde_preview *preview, struct sde_runner *runner);

/* Whether a model with this autoencoder can show anything. */
bool sde_preview_available(const struct sde_preview *preview, const struct sde_vae *vae);

/*
 * latents (latent_channels, height, width) of one picture, as the denoiser sees them -> *ret_image, owned by the caller:
 * u8 RGB, at most SDE_PREVIEW_SIDE_MAX a side. -ENOTSUP when not available.
 */
int sde_preview_picture(const struct sde_preview *preview, struct sde_runner *runner,
			const struct sde_vae *vae, const float *latents, int height, int width,
			struct sde_image *ret_image, struct sde_error *error);
