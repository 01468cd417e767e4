/*
 * The activations of text encoders by the names that transformers' configurations give them.
 */
#pragma once

#include "daemon/engine/config-keys.h"
#include "kernels/plan.h"

/* name: the value of `key`, which a message for an unknown one names. */
enum sdk_activation sde_text_activation(struct sde_config_keys *keys, const char *key,
					const char *name);
