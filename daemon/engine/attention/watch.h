/*
 * Who watches the attentions of a sampling run: gathers maps, edits, or both. One belongs to a run; the pipeline tells it of each call of
 * the denoiser and hands what it gets to the denoiser.
 */
#pragma once

#include <stddef.h>

#include "kernels/watch.h"

struct sde_blend;
struct sde_edit;
struct sde_maps;

/* Zero-initialise; what it points to is borrowed. Release with sde_watch_clear. */
struct sde_watch {
	struct sde_maps *maps; /* of the last row of each call; NULL: not wanted */
	const struct sde_edit *
		edit; /* NULL: none; else the last two rows of a call are the picture and its twin */
	struct sde_blend *blend; /* of an edit; NULL: none */
	/* of the call in work */
	size_t step, steps;
	struct sdk_attention_watch kernel;
	float *memory; /* owned */
	size_t room;   /* floats */
};

/* For call step of steps; borrowed until the next. */
const struct sdk_attention_watch *sde_watch_call(struct sde_watch *watch, size_t step,
						 size_t steps);
/* Behind the step of that call: latents (2, channels, h, w) of a picture and its twin, the twin's blended where it has a blend. */
void sde_watch_blend(const struct sde_watch *watch, size_t channels, float *latents);
void sde_watch_clear(struct sde_watch *watch);
