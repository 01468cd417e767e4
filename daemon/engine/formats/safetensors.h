/*
 * One .safetensors file, memory-mapped read-only: 8 bytes little-endian header length, a JSON header naming each tensor's type,
 * shape and byte range, then the data without holes or overlaps (https://github.com/huggingface/safetensors#format).
 * Files come from strangers: every number is checked before it is used and nothing is allocated on the word of a header.
 * A file that is truncated by somebody else WHILE it is mapped raises SIGBUS on access; no check can prevent that, which is one
 * reason why the engine lives in a process of its own: it ends the worker, not the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"

#define SDE_TENSOR_RANK_MAX	   8
#define SDE_SAFETENSORS_HEADER_MAX (16u << 20) /* bytes; the largest published models have < 1 MB */

enum sde_dtype {
	SDE_DTYPE_F32,
	SDE_DTYPE_F16,
	SDE_DTYPE_BF16,
	SDE_DTYPE_F64,
	SDE_DTYPE_F8_E4M3,
	SDE_DTYPE_F8_E5M2,
	SDE_DTYPE_I64,
	SDE_DTYPE_I32,
	SDE_DTYPE_I16,
	SDE_DTYPE_I8,
	SDE_DTYPE_U64,
	SDE_DTYPE_U32,
	SDE_DTYPE_U16,
	SDE_DTYPE_U8,
	SDE_DTYPE_BOOL,
	SDE_DTYPE_COUNT,
};

/* A view into a mapped file. Row-major; data may be unaligned; all pointers live as long as the file's owner. */
struct sde_tensor {
	const char *name;
	const char *file; /* path, for messages */
	enum sde_dtype dtype;
	int rank; /* 0 for a scalar */
	int64_t shape[SDE_TENSOR_RANK_MAX];
	size_t count; /* elements */
	const void *data;
	size_t bytes;
};

size_t sde_dtype_size(enum sde_dtype dtype);	  /* bytes of one element */
const char *sde_dtype_name(enum sde_dtype dtype); /* as in the header: "F32", "BF16", ... */

struct sde_safetensors;

/*
 * Map a file and index its tensors, in header order. -EBADMSG when it breaks the format; the message names the file and the
 * tensor, and says so when the bytes are something else (a pickle checkpoint, which is never executed, a GGUF, a web page, a
 * git-lfs pointer).
 */
int sde_safetensors_open(const char *path, struct sde_safetensors **ret_file,
			 struct sde_error *error);
struct sde_safetensors *sde_safetensors_free(struct sde_safetensors *file);

size_t sde_safetensors_count(const struct sde_safetensors *file);
const struct sde_tensor *sde_safetensors_at(const struct sde_safetensors *file, size_t index);

/* Value of a key of "__metadata__", NULL if absent. Owned by the file. */
const char *sde_safetensors_metadata(const struct sde_safetensors *file, const char *key);

/* Widen count elements (tensor->count) of F32, F16, BF16 or F64 to float; -ENOTSUP for another type. */
int sde_tensor_to_f32(const struct sde_tensor *tensor, float *out, struct sde_error *error);

/* "[3, 4]", "[]" for a scalar; returns buffer. */
const char *sde_shape_string(char *buffer, size_t size, int rank, const int64_t *shape);

static inline void sde_safetensors_freep(struct sde_safetensors **file)
{
	sde_safetensors_free(*file);
}
