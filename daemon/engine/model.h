/*
 * A loaded model inside the engine: the bound components of a diffusers folder and what they share. Behind the opaque
 * struct sde_model of engine.h; pipelines and tests look in.
 */
#pragma once

#include "daemon/engine/autoencoders/vae.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/formats/model-dir.h"
#include "daemon/engine/preview.h"
#include "daemon/engine/tokenizer/clip.h"

struct sde_engine {
	struct sde_runner *runner;
};

struct sde_model {
	unsigned int references;
	struct sde_runner *runner; /* the engine's */
	struct sde_model_dir *dir;
	json_t *scheduler_config;
	struct sde_clip_tokenizer *tokenizer;
	struct sde_weights *text_weights, *unet_weights, *vae_weights;
	struct sde_clip clip;
	struct sde_unet unet;
	struct sde_vae vae;
	struct sde_preview preview;
	struct sde_model_info info;
	char default_sampler[48];
};

/* Pixels per latent. */
static inline int sde_model_factor(const struct sde_model *model)
{
	return model->vae.factor;
}
