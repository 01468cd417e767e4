/*
 * Cross-attention maps gathered over a sampling run: how much each latent pixel looked at each token of the prompt, as the mean over
 * heads, layers and steps, every layer brought to the size of the latents (DAAM, Tang et al. 2022). At each pixel the shares of all
 * tokens sum to one.
 */
#pragma once

#include <stddef.h>

struct sdk_attention_site;

/* Zero-initialise but for height and width; release with sde_maps_clear. */
struct sde_maps {
	int height, width; /* of the latents */
	size_t tokens;	   /* rows of the context; 0: nothing was gathered yet */
	float *sum;	   /* owned: (height * width, tokens) */
	size_t layers;	   /* that went in, of all steps */
};

/* The sides of a layer of so many queries: the latents' (height, width) halved some times, odd ones rounded up. 0, or -EINVAL. */
int sde_maps_sides(int height, int width, size_t queries, int *ret_height, int *ret_width);
/*
 * One layer's map, the mean of its heads: (queries, tokens), queries being the latents halved some times, odd sides rounded up. 0,
 * -ENOMEM, or -EINVAL when it is of no such size.
 */
int sde_maps_add(struct sde_maps *maps, size_t queries, size_t tokens, const float *map);
/* The share that one token has at each latent pixel: (height, width); 0 where nothing was gathered. */
void sde_maps_token(const struct sde_maps *maps, size_t token, float *ret_map);
void sde_maps_clear(struct sde_maps *maps);
