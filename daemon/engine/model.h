/*
 * A loaded model inside the engine: the bound components of a diffusers folder and what they share. Behind the opaque
 * struct sde_model of engine.h; pipelines and tests look in.
 */
#pragma once

#include "daemon/engine/autoencoders/vae.h"
#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/family.h"
#include "daemon/engine/formats/model-dir.h"
#include "daemon/engine/preview.h"
#include "daemon/engine/tokenizer/clip.h"
#include "daemon/engine/tokenizer/t5.h"

struct sde_adapted;
struct sde_cache;
struct sde_controls;

struct sde_engine {
	struct sde_runner *runner;
	struct sde_cache *cache;
	enum sde_weights_form weights; /* of models that say nothing */
	struct sde_model *models;      /* loaded; share.h */
};

#define SDE_TOWERS_MAX 2

/* A text encoder and the tokenizer in front of it. */
struct sde_text_tower {
	struct sde_clip_tokenizer *tokenizer;
	struct sde_weights *weights;
	uint64_t config_content; /* sde_json_content */
	struct sde_clip clip;
};

/* The same with a T5; tokenizer NULL: the model has none. */
struct sde_t5_tower {
	struct sde_t5_tokenizer *tokenizer;
	struct sde_weights *weights;
	uint64_t config_content;
	struct sde_t5 t5;
};

struct sde_model {
	unsigned int references;
	struct sde_engine *engine; /* NULL: peeked at */
	struct sde_model *next;	   /* of the engine's */
	struct sde_runner *runner; /* the engine's */
	struct sde_cache *cache;   /* the engine's */
	uint64_t partition;	   /* of the cache, for adapters: the running job's */
	struct sde_model_dir *dir;
	json_t *scheduler_config;
	struct sde_text_tower
		towers[SDE_TOWERS_MAX]; /* in the order of their channels in the context */
	int n_towers;
	struct sde_t5_tower t5;
	const struct sde_family *family;
	struct sde_weights *denoiser_weights, *vae_weights;
	uint64_t vae_config_content;
	struct sde_denoiser denoiser;
	struct sde_vae vae;
	struct sde_preview preview;
	bool aesthetic;		    /* an SDXL refiner: a score in place of the target size */
	bool zero_negative;	    /* SDXL: without a negative prompt its embeddings are zeros */
	enum sde_weights_form form; /* asked for, then in effect */
	struct sde_model_info info;
	char default_sampler[48];
	struct sde_adapted *
		adapted; /* what the running job sees (adapters/adapted.h), NULL = the model as it is */
	struct sde_group *group;       /* whose jobs step together, NULL: none do */
	struct sde_controls *controls; /* NULL until a job has guiding pictures */
};

/* Pixels per latent. */
static inline int sde_model_factor(const struct sde_model *model)
{
	return model->vae.factor;
}

/* Sides of pictures are multiples of it, pixels. */
static inline int sde_model_grain(const struct sde_model *model)
{
	return model->vae.factor * model->denoiser.patch;
}

/* Conditioned on the pooled text and the sizes of the picture. */
static inline bool sde_model_is_sdxl(const struct sde_model *model)
{
	return model->denoiser.class == &sde_denoiser_unet && model->denoiser.unet.config.text_time;
}

/* The denoiser takes more than latents: a mask and the masked picture's latents behind them. */
static inline bool sde_model_fills(const struct sde_model *model)
{
	return model->denoiser.in_channels != model->vae.latent_channels;
}

/* The class of the denoiser, of model_index.json, else of its folder's config.json; and that config, owned by the caller. */
int sde_model_find_denoiser(const struct sde_model *model,
			    const struct sde_denoiser_class **ret_class, json_t **ret_config,
			    struct sde_error *error);

/*
 * As much of a model as tells what sizes it works at: without text encoders and without an engine, so that any thread may
 * call it. It cannot run. Ended by sde_model_unref; errors as of sde_model_load.
 */
int sde_model_peek(const char *path, struct sde_model **ret_model, struct sde_error *ret_error);

/*
 * model-text.c: the text encoders and tokenizers that the model's family has; and their end. Without weights: tokenizers and
 * the encoders' configurations alone, enough to cut a prompt (conditioning.h).
 */
int sde_model_load_text(struct sde_model *model, bool weights, struct sde_error *error);
void sde_model_clear_text(struct sde_model *model);

/* What weights of this model need to know before they are bound: whose pulse to beat, in which form to rest, with whom to share. */
void sde_model_adopt(struct sde_model *model, const char *component, const char *class_name,
		     struct sde_weights *weights);
/* The config and weights of a component, which must be of this class (NULL: the config tells); both owned by the caller. */
int sde_model_open_component(struct sde_model *model, const char *name, const char *class_name,
			     json_t **ret_config, struct sde_weights **ret_weights,
			     struct sde_error *error);
