/*
 * The two parts of a job that come again with the next one: a prompt's embedding and the encoded source picture, from the engine's
 * cache when they are known. The keys hold the content of everything that goes in (tokens with their weights and vectors, pixels)
 * and that of the weights and configurations that compute it, so a hit has the bytes of the computation.
 */
#pragma once

#include "daemon/engine/pipelines/conditioning.h"

/*
 * sde_model_embed for this partition, with the LoRAs that the model has now. embeds: rows x width of the text; pooled: of the
 * model's pooled width.
 */
int sde_cached_embed(struct sde_model *model, uint64_t partition, const struct sde_text *text,
		     int clip_skip, float *ret_embeds, float *ret_pooled, struct sde_error *error);

/* sde_vae_encode of the model's autoencoder for this partition: what is kept does not depend on eps. */
int sde_cached_encode(struct sde_model *model, uint64_t partition, const float *images,
		      const float *eps, int batch, int height, int width, float *ret_latents,
		      struct sde_error *error);
