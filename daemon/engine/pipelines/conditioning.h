/*
 * What a denoiser is told besides the latents: the context it attends to, and for SDXL the pooled text and the sizes of the
 * picture ("micro-conditioning", Podell et al. 2023). The text encoders of a model give the context side by side.
 */
#pragma once

#include "daemon/engine/model.h"
#include "daemon/engine/prompt/prompt.h"

/* Channels of the context, and of the pooled text (0: the denoiser takes none). */
int sde_model_context_width(const struct sde_model *model);
int sde_model_pooled_width(const struct sde_model *model);

/*
 * prompts: one for each text encoder, all of as many chunks. ret_embeds: (chunks * 77, context width); ret_pooled: (pooled
 * width), of the first chunk, not touched when there is none. clip_skip as in diffusers: 0 is the layer the model was
 * trained on; SDXL takes the state before the last layer without the final norm.
 */
int sde_model_embed(struct sde_model *model, const struct sde_prompt *prompts, int clip_skip,
		    float *ret_embeds, float *ret_pooled, struct sde_error *error);

#define SDE_TIME_IDS_MAX 6

/* What SDXL is told of a picture; sizes are {height, width}, the crop {top, left}, pixels. */
struct sde_picture_terms {
	double original[2], crop[2], target[2];
	double aesthetic; /* the refiner's score, in place of target */
};

/* Fill the "time ids" of a picture: returns their number, 6, 5 for a refiner, 0 when the denoiser takes none. */
int sde_model_time_ids(const struct sde_model *model, const struct sde_picture_terms *terms,
		       float *ret_ids);
