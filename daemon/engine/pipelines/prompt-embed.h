/*
 * From a parsed prompt to what the U-Net attends to: each chunk of 77 tokens through the text encoder, weighted as
 * AUTOMATIC1111 does it (emphasis "Original"), joined along the tokens.
 */
#pragma once

#include "daemon/engine/forward.h"
#include "daemon/engine/prompt/prompt.h"

/*
 * Give tokens their weights: z (tokens, width) becomes z * w * mean(z) / mean(z * w), w per token; weights of 1 leave z as it
 * is.
 */
void sde_prompt_weigh(float *z, const float *weights, size_t tokens, size_t width);

/*
 * ret_embeds: (count * 77, hidden_size), of the state `wanted`, weighed by chunk, NULL when not wanted; ret_pooled: the pooled vector of the first chunk (as
 * sde_clip_pool), NULL when not wanted.
 */
int sde_prompt_embed(struct sde_runner *runner, const struct sde_clip *clip,
		     const struct sde_prompt *prompt, const struct sde_clip_wanted *wanted,
		     float *ret_embeds, float *ret_pooled, struct sde_error *error);
