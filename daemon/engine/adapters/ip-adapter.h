/*
 * IP-Adapter (Ye et al. 2023): a picture as a prompt. CLIP's image embedding, or in the "plus" form all the states of its image encoder, become a
 * few more tokens, which every cross-attention of the U-Net looks at with keys and values of its own:
 * out = attention(text) + scale * attention(picture).
 */
#pragma once

#include "daemon/engine/adapters/resampler.h"
#include "daemon/engine/denoisers/unet.h"
#include "daemon/engine/pixels/image.h"
#include "daemon/engine/text_encoders/clip-vision.h"

struct sde_ip_adapter {
	struct sde_clip_vision encoder;
	struct sde_linear proj; /* image embedding -> tokens * width */
	struct sde_norm norm;	/* of each token */
	struct sde_resampler
		resampler; /* in place of the two in the plus form; layers NULL: it is not */
	int tokens, width; /* width: of the U-Net's context */
	struct sde_ip_attention *attentions; /* owned, one for each cross-attention */
	int n_attentions;
	struct sde_weights *weights, *encoder_weights; /* owned */
};

/*
 * path: the adapter's .safetensors; encoder: the folder of its CLIPVisionModelWithProjection. -EINVAL when it does not fit base;
 * messages name the adapter. scale: of its attention.
 */
int sde_ip_adapter_load(const char *path, const char *encoder, const char *name, double scale,
			const struct sde_unet *base, struct sde_ip_adapter **ret_adapter,
			struct sde_error *error);
struct sde_ip_adapter *sde_ip_adapter_free(struct sde_ip_adapter *adapter,
					   struct sde_runner *runner);

/* Let the cross-attentions of a U-Net, bound for this alone, look at the picture's tokens. Borrows. */
void sde_ip_adapter_attach(const struct sde_ip_adapter *adapter, struct sde_unet *unet);

/* What the projection takes of a picture, floats: the image embedding, or the encoder's states. */
size_t sde_ip_adapter_features_size(const struct sde_ip_adapter *adapter);
/* pixels as of sde_ip_adapter_pixels, NULL for no picture: zeros, of the embedding or of the pixels. */
int sde_ip_adapter_features(struct sde_runner *runner, const struct sde_ip_adapter *adapter,
			    const float *pixels, float *ret_features, struct sde_error *error);
/* features -> tokens (tokens, width) */
int sde_ip_adapter_tokens(struct sde_runner *runner, const struct sde_ip_adapter *adapter,
			  const float *features, float *ret_tokens, struct sde_error *error);

/* As CLIP's processor: shorter side to the encoder's size (bicubic), the middle, normalised: (3, size, size). */
int sde_ip_adapter_pixels(const struct sde_ip_adapter *adapter, const struct sde_image *image,
			  float *ret_pixels, struct sde_error *error);
