/*
 * What a file holds, as a number: caches are keyed by it, so that a file replaced under the same name is seen and the same file
 * under two names is one.
 */
#pragma once

#include <stdint.h>

#include "daemon/engine/formats/weights.h"

/* 64-bit hash of all tensors' names, types, shapes and data. Not meant to withstand somebody who makes collisions. */
uint64_t sde_weights_content(const struct sde_weights *weights);
/*
 * Hash of which file or folder a path is now and of its state: device, inode, size, times of change, of which people can set one
 * (mtime) but not the other (ctime). For large files.
 */
uint64_t sde_content_stat(const char *path);
/* Hash of all files that weights come from, as they were when they were opened (sde_content_stat). */
uint64_t sde_weights_state(const struct sde_weights *weights);
/* Mix a value, or bytes, into a hash. */
uint64_t sde_content_mix(uint64_t hash, uint64_t value);
uint64_t sde_content_mix_bytes(uint64_t hash, const void *data, size_t n);
