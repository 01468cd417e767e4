/*
 * One copy of what several models have in common: an autoencoder or a text encoder that two checkpoint files embed is mapped and made ready
 * for the processor once. Files that are the same as a whole are one already (formats/tensor-file.h).
 */
#pragma once

#include "daemon/engine/model.h"

/*
 * Before the model binds these weights: where a model that the engine has loaded holds the same tensors with the same bytes, its data take the
 * place of theirs (sde_weights_share) and are counted in info.shared_bytes.
 */
void sde_model_share(struct sde_model *model, struct sde_weights *weights);

/* The model is loaded, others may share with it; it goes. */
void sde_engine_add_model(struct sde_engine *engine, struct sde_model *model);
void sde_engine_remove_model(struct sde_engine *engine, struct sde_model *model);
