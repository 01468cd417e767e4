/*
 * The configuration of a component whose file brings none: a checkpoint file holds tensors only, so their names and shapes must say what
 * config.json would. What no shape tells (head counts, activations, scaling) is what the published models of that shape have.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/formats/weights.h"

/*
 * weights: under diffusers' names. Each returns a new object with the keys of a config.json, "_class_name" included; NULL when out of
 * memory. Weights that fit no model give an object that the model's own checks refuse.
 */
json_t *sde_infer_unet(const struct sde_weights *weights);
json_t *sde_infer_sd3(const struct sde_weights *weights);
json_t *sde_infer_flux(const struct sde_weights *weights);
/* Autoencoders have no mark of their family: how latents are scaled is the caller's. */
json_t *sde_infer_kl(const struct sde_weights *weights, double scaling_factor, double shift_factor);
json_t *sde_infer_tiny(const struct sde_weights *weights);
json_t *sde_infer_clip(const struct sde_weights *weights);
json_t *sde_infer_t5(const struct sde_weights *weights);
