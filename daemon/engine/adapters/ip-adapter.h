/*
 * IP-Adapter (Ye et al. 2023) for SD 1.x: a picture as a prompt. CLIP's image embedding becomes a few more tokens, which every
 * cross-attention of the U-Net looks at with keys and values of its own: out = attention(text) + scale * attention(picture).
 */
#pragma once

#include "daemon/engine/denoisers/unet.h"
#include "daemon/engine/pixels/image.h"
#include "daemon/engine/text_encoders/clip-vision.h"

struct sde_ip_adapter {
	struct sde_clip_vision encoder;
	struct sde_linear proj;		     /* image embedding -> tokens * width */
	struct sde_norm norm;		     /* of each token */
	int tokens, width;		     /* width: of the U-Net's context */
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

/* image embedding (projection_dim of the encoder) -> tokens (tokens, width); zeros stand for no picture. */
int sde_ip_adapter_tokens(struct sde_runner *runner, const struct sde_ip_adapter *adapter,
			  const float *embeds, float *ret_tokens, struct sde_error *error);

/* As CLIP's processor: shorter side to the encoder's size (bicubic), the middle, normalised: (3, size, size). */
int sde_ip_adapter_pixels(const struct sde_ip_adapter *adapter, const struct sde_image *image,
			  float *ret_pixels, struct sde_error *error);
