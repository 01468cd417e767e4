/*
 * Conditioning from text encoders side by side; see conditioning.h.
 */
#include "daemon/engine/pipelines/conditioning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pipelines/prompt-embed.h"

int sde_model_context_width(const struct sde_model *model)
{
	int width = 0;

	for (int i = 0; i < model->n_towers; i++)
		width += model->towers[i].clip.config.hidden_size;
	return width;
}

int sde_model_pooled_width(const struct sde_model *model)
{
	const struct sde_clip *clip = &model->towers[model->n_towers - 1].clip;

	if (model->family->pooled == SDE_POOLED_NONE)
		return 0;
	return clip->text_projection.weight.data ? clip->config.projection_dim
						 : clip->config.hidden_size;
}

int sde_model_embed(struct sde_model *model, const struct sde_prompt *prompts, int clip_skip,
		    float *ret_embeds, float *ret_pooled, struct sde_error *error)
{
	const struct sde_family *family = model->family;
	const struct sde_clip_wanted wanted = {clip_skip + (family->penultimate ? 2 : 1),
					       !family->penultimate};
	const size_t rows = prompts[0].count * SDE_PROMPT_LENGTH;
	const size_t width = (size_t)sde_model_context_width(model);
	_cleanup_free_ float *own = calloc(rows, width * sizeof(float));
	size_t at = 0;

	if (!own)
		return sde_error_set(error, -ENOMEM, "no memory for %zu prompt chunks",
				     prompts[0].count);
	for (int i = 0; i < model->n_towers; i++) {
		const struct sde_clip *clip = sde_model_clip(model, i);
		const size_t part = (size_t)clip->config.hidden_size;
		const bool pooled = family->pooled == SDE_POOLED_LAST && i + 1 == model->n_towers;
		int r;

		r = sde_prompt_embed(model->runner, clip, &prompts[i], &wanted, own,
				     pooled ? ret_pooled : NULL, error);
		if (r < 0)
			return r;
		for (size_t row = 0; row < rows; row++)
			memcpy(ret_embeds + row * width + at, own + row * part,
			       part * sizeof(float));
		at += part;
	}
	return 0;
}

int sde_model_time_ids(const struct sde_model *model, const struct sde_picture_terms *terms,
		       float *ret_ids)
{
	if (!model->denoiser.unet.config.text_time)
		return 0;
	for (int i = 0; i < 2; i++) {
		ret_ids[i] = (float)terms->original[i];
		ret_ids[2 + i] = (float)terms->crop[i];
	}
	if (model->aesthetic) {
		ret_ids[4] = (float)terms->aesthetic;
		return 5;
	}
	ret_ids[4] = (float)terms->target[0];
	ret_ids[5] = (float)terms->target[1];
	return 6;
}
