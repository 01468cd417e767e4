/*
 * A model as one job sees it: with its LoRAs. The adapted parts are bound again from the model's own mapped weights (structs of a
 * few kilobytes) with what the adapters add; packed weights are shared with the model's, and a part that no adapter touches is the
 * model's. They are kept in the engine's cache, so that changing back and forth costs nothing.
 */
#pragma once

#include "daemon/engine/adapters/loras.h"
#include "daemon/engine/engine.h"

struct sde_model;
struct sde_denoiser;
struct sde_clip;
struct sde_ip_adapter;

/* A picture as a prompt: an IP-Adapter and its image encoder. */
struct sde_ip_use {
	const char *name, *path, *encoder;
	double scale;
};

/*
 * Jobs on model run with these from now on; n 0 and ip NULL: as it is. Kept for the model's partition, keyed by the files' content and the weights. Errors as
 * of sde_loras_new and sde_loras_finish; on failure the model runs as it is.
 */
int sde_model_adapt(struct sde_model *model, const struct sde_lora_use *uses, size_t n,
		    const struct sde_ip_use *ip, struct sde_error *error);

/* A number for what the LoRAs do to the text encoders now; 0: nothing. */
uint64_t sde_model_adapted_text(const struct sde_model *model);

/* The IP-Adapter of the model as jobs see it now; NULL: none. */
const struct sde_ip_adapter *sde_model_ip_adapter(const struct sde_model *model);

/* What a pipeline runs: the adapted part, else the model's. */
const struct sde_denoiser *sde_model_denoiser(const struct sde_model *model);
const struct sde_clip *sde_model_clip(const struct sde_model *model, int tower);

/* Drop all that is kept: before the model's own parts go. */
void sde_model_forget_adapted(struct sde_model *model);
