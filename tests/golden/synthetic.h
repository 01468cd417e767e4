/*
 * Checkpoints of real size without real weights: every tensor is a pure function of its own name, of a scale and an offset that a manifest
 * lists, rounded to f16. So a case can name gigabytes of weights in some kilobytes, and another program can make the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"

/* 64-bit FNV-1a of a name: the seed of its tensor. */
uint64_t golden_synthetic_seed(const char *name);

/* Elements first..first + n of the tensor called name, as f16 bits. */
void golden_synthetic_values(const char *name, float scale, float offset, uint64_t first, size_t n,
			     uint16_t *ret_values);

/*
 * Write a .safetensors file with those tensors of the manifest (JSON, gzipped) whose names begin with prefix into the empty file fd. Without
 * values all are zero and the file takes no room: enough to judge names and shapes. Errors name the manifest.
 */
int golden_synthetic_write(const char *manifest, const char *prefix, bool values, int fd,
			   struct sde_error *error);

/*
 * The same into a file without a name in $TMPDIR or /var/tmp, which goes with the process. *ret_path (owned by this module) opens it; the
 * second call after this one replaces the file. A name "half|key" makes values by the whole name and stands in the file as "key".
 */
int golden_synthetic_open(const char *manifest, const char *prefix, bool values,
			  const char **ret_path, struct sde_error *error);
