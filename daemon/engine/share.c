/*
 * Looking through the components of loaded models; see share.h.
 */
#include "daemon/engine/share.h"

void sde_engine_add_model(struct sde_engine *engine, struct sde_model *model)
{
	model->next = engine->models;
	engine->models = model;
}

void sde_engine_remove_model(struct sde_engine *engine, struct sde_model *model)
{
	struct sde_model **link = &engine->models;

	while (*link && *link != model)
		link = &(*link)->next;
	if (*link)
		*link = model->next;
}

static bool share_with(const struct sde_model *other, struct sde_weights *weights)
{
	if (sde_weights_share(weights, other->vae_weights) ||
	    sde_weights_share(weights, other->denoiser_weights) ||
	    (other->t5.weights && sde_weights_share(weights, other->t5.weights)))
		return true;
	for (int i = 0; i < other->n_towers; i++)
		if (sde_weights_share(weights, other->towers[i].weights))
			return true;
	return false;
}

void sde_model_share(struct sde_model *model, struct sde_weights *weights)
{
	for (const struct sde_model *other = model->engine->models; other; other = other->next)
		if (share_with(other, weights)) {
			model->info.shared_bytes += sde_weights_bytes(weights);
			return;
		}
}
