/*
 * Text encoder per chunk, then the weights. The means are taken over all 77 positions of the chunk, in double.
 */
#include "daemon/engine/pipelines/prompt-embed.h"

#include "daemon/engine/error.h"

static void weigh(float *z, const float *weights, size_t width)
{
	double before = 0, after = 0;
	bool plain = true;

	for (size_t t = 0; t < SDE_PROMPT_LENGTH; t++)
		plain = plain && weights[t] == 1.0f;
	if (plain)
		return;
	for (size_t i = 0; i < SDE_PROMPT_LENGTH * width; i++) {
		before += z[i];
		z[i] *= weights[i / width];
		after += z[i];
	}
	if (after == 0)
		return;
	for (size_t i = 0; i < SDE_PROMPT_LENGTH * width; i++)
		z[i] *= (float)(before / after);
}

int sde_prompt_embed(struct sde_runner *runner, const struct sde_clip *clip,
		     const struct sde_prompt *prompt, int minus, float *ret_embeds,
		     struct sde_error *error)
{
	const struct sde_clip_wanted wanted = {.minus = minus, .final_norm = true};
	const size_t width = (size_t)clip->config.hidden_size;

	for (size_t i = 0; i < prompt->count; i++) {
		float *z = ret_embeds + i * SDE_PROMPT_LENGTH * width;
		int r = sde_clip_forward(runner, clip, prompt->chunks[i].ids, 1, SDE_PROMPT_LENGTH,
					 &wanted, 1, &z, error);

		if (r < 0)
			return r;
		weigh(z, prompt->chunks[i].weights, width);
	}
	return 0;
}
