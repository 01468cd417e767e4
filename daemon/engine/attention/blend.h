/*
 * Prompt-to-Prompt's local blend (Hertz et al. 2022, "local editing"; LocalBlend of their code): behind each step the latents of an edit
 * outside of what some words are looked at become its source's. The mask is the union of two, from the maps of those words in the
 * source and in the edit so far, mean of heads, layers and steps: where they are more than a part of their highest value, and a
 * sixteenth of the side around.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum sde_blend_side { SDE_BLEND_SOURCE, SDE_BLEND_EDIT };

/* Zero-initialise but for options and marks; release with sde_blend_clear. */
struct sde_blend {
	double threshold,
		start; /* part of a map's highest value; fraction of the steps before the first blend */
	size_t tokens; /* rows of the context */
	bool *marks
		[2]; /* owned, of each side: the rows that are the words'; NULL: it has none of them */
	int height, width; /* of the latents */
	/* gathered: of each side (queries), owned */
	size_t queries;
	int rows, columns; /* that they are */
	float *sums[2];
	bool *mask; /* owned: (height, width), the latest */
};

/* Forget what was gathered: another picture, with latents of this size, begins. 0 or -ENOMEM. */
int sde_blend_restart(struct sde_blend *blend, int height, int width);
/*
 * Whether maps of this side from a layer of so many queries count. Layers of one size do: the latents halved twice, as in the paper
 * (16 x 16 of 64 x 64), or the nearest to it with at least 8 x 8 places.
 */
bool sde_blend_wants(const struct sde_blend *blend, enum sde_blend_side side, size_t queries);
/* One such layer's map, the mean of its heads: (queries, tokens). 0, -ENOMEM, or -EINVAL when it is of no such size. */
int sde_blend_add(struct sde_blend *blend, enum sde_blend_side side, size_t queries, size_t tokens,
		  const float *map);
/* Whether latents are blended behind this call of so many. */
bool sde_blend_at(const struct sde_blend *blend, size_t step, size_t steps);
/* latents: (2, channels, height, width), source and edit. */
void sde_blend_apply(struct sde_blend *blend, size_t channels, float *latents);
void sde_blend_clear(struct sde_blend *blend);
