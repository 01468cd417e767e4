/*
 * The networks that look at guiding pictures, kept by a model between jobs: loading packs weights again, and people try one
 * ControlNet many times.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/adapters/guides.h"

struct sde_model;

enum sde_control_kind { SDE_CONTROL_NET, SDE_CONTROL_T2I, SDE_CONTROL_IP };

/* What a file or folder is, by the names of its tensors. -EBADMSG when none of them; messages name it. */
int sde_control_kind(const char *path, const char *name, enum sde_control_kind *ret_kind,
		     struct sde_error *error);

/* A new job: what the last one used may be dropped when there is no room. */
void sde_controls_begin(struct sde_model *model);
/*
 * Fill guide->controlnet or ->t2i (kind is not SDE_CONTROL_IP), loaded or from before; they live until the next job. As of the
 * loaders.
 */
int sde_controls_get(struct sde_model *model, enum sde_control_kind kind, const char *path,
		     const char *name, struct sde_guide *guide, struct sde_error *error);
/* Drop all: before the model goes. */
void sde_controls_forget(struct sde_model *model);
