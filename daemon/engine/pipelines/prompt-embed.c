/*
 * Text encoder per chunk, then the weights. The means are taken over all 77 positions of the chunk, in double.
 */
#include "daemon/engine/pipelines/prompt-embed.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

void sde_prompt_weigh(float *z, const float *weights, size_t tokens, size_t width)
{
	double before = 0, after = 0;
	bool plain = true;

	for (size_t t = 0; t < tokens; t++)
		plain = plain && weights[t] == 1.0f;
	if (plain)
		return;
	for (size_t i = 0; i < tokens * width; i++) {
		before += z[i];
		z[i] *= weights[i / width];
		after += z[i];
	}
	if (after == 0)
		return;
	for (size_t i = 0; i < tokens * width; i++)
		z[i] *= (float)(before / after);
}

int sde_prompt_embed(struct sde_runner *runner, const struct sde_clip *clip,
		     const struct sde_prompt *prompt, const struct sde_clip_wanted *wanted,
		     float *ret_embeds, float *ret_pooled, struct sde_error *error)
{
	const struct sde_clip_wanted states[2] = {*wanted, {1, true}};
	const size_t width = (size_t)clip->config.hidden_size, row = SDE_PROMPT_LENGTH * width;
	const struct sde_clip_added added = {prompt->added, (int)prompt->n_added};
	const int first = ret_embeds ? 0 : 1, n = (ret_pooled ? 2 : 1) - first;
	/* the pooled vector is of the first chunk */
	const size_t count = ret_embeds ? prompt->count : 1;
	_cleanup_free_ float *last = NULL;
	int r = 0;

	if (ret_pooled) {
		last = malloc(row * sizeof(float));
		if (!last)
			return sde_error_set(error, -ENOMEM, "no memory for a prompt");
	}
	for (size_t i = 0; r >= 0 && n > 0 && i < count; i++) {
		const int32_t *ids = prompt->chunks[i].ids;
		float *const to[2] = {ret_embeds ? ret_embeds + i * row : NULL, last};

		r = sde_clip_forward(runner, clip, ids, &added, 1, SDE_PROMPT_LENGTH,
				     states + first, n, to + first, error);
		if (r >= 0 && ret_pooled && i == 0)
			r = sde_clip_pool(runner, clip, ids, 1, SDE_PROMPT_LENGTH, last, ret_pooled,
					  error);
		if (r >= 0 && ret_embeds)
			sde_prompt_weigh(to[0], prompt->chunks[i].weights, SDE_PROMPT_LENGTH,
					 width);
	}
	return r;
}
