/*
 * T2I-Adapter (Mou et al. 2023): a small network of its own that turns a picture into one feature a level of the U-Net, once for
 * all steps. The "full_adapter" of SD 1.x and 2.x, diffusers' layout.
 */
#pragma once

#include "daemon/engine/forward.h"

#define SDE_T2I_BLOCKS_MAX  SDE_UNET_LEVELS_MAX
#define SDE_T2I_RESNETS_MAX 8

/* Each block but the first averages 2 x 2 pixels to one, then widens, then adds its residual layers. */
struct sde_t2i_block {
	struct sde_conv in_conv; /* 1x1; weight.data NULL when in == out */
	struct sde_conv block1[SDE_T2I_RESNETS_MAX], block2[SDE_T2I_RESNETS_MAX]; /* 3x3, 1x1 */
	int n_resnets, in, out;
	bool first;
};

struct sde_t2i_adapter {
	struct sde_conv conv_in; /* of the picture, 8 x 8 pixels of 3 channels to one of 192 */
	struct sde_t2i_block blocks[SDE_T2I_BLOCKS_MAX];
	int n_blocks;
	struct sde_weights *weights; /* owned */
};

/* path: a .safetensors file or a folder with one. -EINVAL says how it does not fit the model's U-Net. */
int sde_t2i_adapter_load(const char *path, const char *name, const struct sde_unet_config *base,
			 struct sde_t2i_adapter **ret_adapter, struct sde_error *error);
struct sde_t2i_adapter *sde_t2i_adapter_free(struct sde_t2i_adapter *adapter,
					     struct sde_runner *runner);

/*
 * picture (3, 8 height, 8 width), 0..1 -> features[k], (1, h, w, c) as shapes[k] say but for n, of n of them: those of
 * sde_unet_feature_shapes.
 */
int sde_t2i_adapter_run(struct sde_runner *runner, const struct sde_t2i_adapter *adapter,
			const float *picture, int height, int width, const struct sdk_shape *shapes,
			int n, float *const *ret_features, struct sde_error *error);
