/*
 * Jobs of one model that step together. Each runs on a stack of its own, one at a time, until it calls the network; those whose
 * calls are of one shape then go through it as one batch, and each goes on with its rows. Prompts, seeds, guidance, samplers and
 * numbers of steps may differ, and jobs come and go at any step. What comes out is what each would have got alone: the first time a
 * shape meets so many jobs, both ways are run, compared to the bit and timed, and from then on the faster one is taken; ways that
 * differ in a bit are never taken.
 */
#pragma once

#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/engine.h"

/*
 * The pipelines' way to the network: sde_denoiser_forward of what the model is for the running job, in company where there is one.
 */
int sde_group_denoise(struct sde_model *model, const struct sde_denoiser_call *call,
		      float *ret_output, struct sde_error *error);

/* One batch is taken when it needs less than this part of the time of one after the other; 0 = never. For tests, large = always. */
void sde_group_set_worth(struct sde_group *group, double part);
/* Calls of the network that were made for several jobs as one batch. */
uint64_t sde_group_calls_together(const struct sde_group *group);
