/*
 * What the kinds of adapters share: a whole model, its text encoders and U-Net run on a case's inputs, and a short run of the
 * pipeline from given latents.
 */
#pragma once

#include "daemon/engine/adapters/words.h"
#include "daemon/engine/forward.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pipelines/stable-diffusion.h"
#include "tests/golden/component.h"

/* A path relative to the case's folder, freed by the caller. */
char *golden_beside(const struct golden_case *c, const char *path);

struct golden_text {
	float *context, *pooled;
	int width, pooled_width;
};

/* input_ids[, input_ids_2] through the model's encoders, which may mean words (NULL: none), compared with last_hidden_state or context
 * and text_embeds. */
int golden_embed_ids(struct golden_case *c, struct sde_model *model, const struct sde_words *words,
		     struct golden_text *ret);

/* sample, timestep, encoder_hidden_states, text_embeds and time_ids as far as the case has them. */
int golden_unet_call(struct golden_case *c, struct sde_unet_call *ret_call);
/* Run the U-Net that the model's jobs see and compare. */
int golden_unet_expect(struct golden_case *c, const struct sde_model *model,
		       const struct sde_unet_call *call, const char *name);

/* prompt, negative_prompt, steps, guidance_scale from latents; request holds what else there is; compares final_latents. */
int golden_final_latents(struct golden_case *c, struct sde_model *model,
			 struct sde_sd_request *request);
