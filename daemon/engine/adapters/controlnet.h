/*
 * ControlNet (Zhang et al. 2023): a copy of the U-Net's first half that sees a picture (edges, a scribble, ...) and whose outputs
 * are added to the U-Net's skips. Bound by the U-Net's own tables; SD 1.x, 2.x and XL. diffusers folders and files, and the
 * authors' own layout ("control_model.").
 */
#pragma once

#include "daemon/engine/forward.h"
#include "daemon/engine/pixels/image.h"

#define SDE_CONTROLNET_BLOCKS 6 /* of the picture's encoder between its first and last layer */
#define SDE_CONTROLNET_FACTOR 8 /* the picture's pixels a latent */

struct sde_controlnet {
	struct sde_unet net; /* conv_in, embeddings, down blocks and middle block of it */
	struct sde_conv cond_in,
		cond_out; /* the picture's own small encoder, SiLU between all of them */
	struct sde_conv cond_blocks[SDE_CONTROLNET_BLOCKS]; /* every second one halves the size */
	struct sde_linear *
		zero; /* owned, n_zero: the 1x1 convolutions behind each skip; the last is the middle block's */
	int n_zero;
	bool bgr; /* sees the picture's channels in this order */
	bool pool; /* its outputs count by their mean over the picture (global_pool_conditions: "shuffle") */
	struct sde_weights *weights; /* owned */
};

/*
 * Load path: a .safetensors file, or a folder with one; config.json beside it tells its shape, else it is that of base, the
 * model's U-Net, whose inputs it must fit in any case: -EINVAL says how it does not ("ControlNet x is for SDXL, the model is
 * SD 1.x"). family: as in sde_model_info.
 */
int sde_controlnet_load(const char *path, const char *name, const struct sde_unet_config *base,
			const char *family, struct sde_controlnet **ret_controlnet,
			struct sde_error *error);
/* Drops its programs, too. NULL is fine. */
struct sde_controlnet *sde_controlnet_free(struct sde_controlnet *controlnet,
					   struct sde_runner *runner);

/*
 * picture (3, 8 height, 8 width), 0..1, to what forward wants: (height, width, block_out_channels[0]). Once a job: it does not
 * depend on the step.
 */
int sde_controlnet_encode(struct sde_runner *runner, const struct sde_controlnet *controlnet,
			  const float *picture, int height, int width, float *ret_hint,
			  struct sde_error *error);

/*
 * One pass: outputs times scales (n_zero of them) are added to the residuals, arrays as of sde_unet_control. hint: of encode, for
 * each image of the call's batch the same.
 */
int sde_controlnet_forward(struct sde_runner *runner, const struct sde_controlnet *controlnet,
			   const struct sde_unet_call *call, const float *hint, const float *scales,
			   float *const *residuals, struct sde_error *error);

/* Scales of the outputs: all `scale`, or in guess mode, unless they are pooled, from a tenth of it for the first to all of it for the middle block. */
void sde_controlnet_scales(const struct sde_controlnet *controlnet, double scale, bool guess,
			   float ret_scales[SDE_UNET_SKIPS_MAX + 1]);
