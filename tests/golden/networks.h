/*
 * Forward passes of one network with the case's inputs and the comparison of what comes out, for every kind that runs a network alone:
 * small models in folders, checkpoint files, full-size synthetic ones. Outputs that the case does not list are not computed.
 */
#pragma once

#include "tests/golden/component.h"

/*
 * Compare values with output `name`, and with name + "_sampled" (every params.stride-th element, flat) and name +
 * "_mean_std_absmax" where the case lists them.
 */
void golden_expect_or_sampled(struct golden_case *c, const char *name, const float *values,
			      int rank, const int64_t *shape);

/* All return GOLDEN_PASS when everything was computed. prefix: before the names of outputs. */

/* ids -> last_hidden_state, penultimate, penultimate_normed, hidden_minusK..., pooled (or pooler_output), text_embeds */
int golden_run_clip(struct golden_case *c, const struct golden_component *component,
		    const char *ids, const char *prefix);
/* ids, attention_mask (of padding behind) -> output */
int golden_run_t5(struct golden_case *c, const struct golden_component *component, const char *ids,
		  const char *output);
/* sample, timestep, encoder_hidden_states, ... and what control adds (NULL: nothing) -> output, time_embedding */
struct sde_unet_control;
int golden_run_unet(struct golden_case *c, const struct golden_component *component,
		    const struct sde_unet_control *control, const char *output);
/* hidden_states (FLUX: packed, params.packed_hw), timestep, encoder_hidden_states, pooled_projections, guidance -> output */
int golden_run_transformer(struct golden_case *c, const struct golden_component *component,
			   const char *output);
/* latent -> decoded, image -> encoded (moments of a KL autoencoder, latents of a tiny one); NULL or unlisted: not run */
int golden_run_vae(struct golden_case *c, const struct golden_component *component,
		   const char *decoded, const char *encoded);
