/*
 * What a file holds, as a number: caches of adapters are keyed by it, so that a file replaced under the same name is seen and the
 * same file under two names is one.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/formats/weights.h"

/* 64-bit hash of all tensors' names, types, shapes and data. Not meant to withstand somebody who makes collisions. */
uint64_t sde_weights_content(const struct sde_weights *weights);
/* Hash of which file or folder a path is now and of its state: device, inode, size, time of change. For large files. */
uint64_t sde_content_stat(const char *path);
/* Mix a value into a hash. */
uint64_t sde_content_mix(uint64_t hash, uint64_t value);
