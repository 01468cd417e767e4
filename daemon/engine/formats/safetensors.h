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
	/* only in GGUF: blocks of numbers that share scales */
	SDE_DTYPE_Q4_0,
	SDE_DTYPE_Q4_1,
	SDE_DTYPE_Q5_0,
	SDE_DTYPE_Q5_1,
	SDE_DTYPE_Q8_0,
	SDE_DTYPE_Q2_K,
	SDE_DTYPE_Q3_K,
	SDE_DTYPE_Q4_K,
	SDE_DTYPE_Q5_K,
	SDE_DTYPE_Q6_K,
	SDE_DTYPE_IQ4_NL,
	SDE_DTYPE_IQ4_XS,
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
	float scale; /* of 8-bit floats: numbers are to be multiplied by it; 0: not */
	/* The file mapping that data lies in; NULL: data is memory. */
	const void *map;
	size_t map_bytes;
};

const char *sde_dtype_name(enum sde_dtype dtype); /* as in the header: "F32", "BF16", ... */

/* How numbers of a type are stored: elements together take bytes; 1 but for the types of GGUF. */
struct sde_dtype_block {
	size_t elements, bytes;
};
struct sde_dtype_block sde_dtype_block(enum sde_dtype dtype);
/* Bytes that data must be aligned to. */
static inline size_t sde_dtype_alignment(enum sde_dtype dtype)
{
	return sde_dtype_block(dtype).elements == 1 ? sde_dtype_block(dtype).bytes : 1;
}

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

/*
 * The type as backends know it, an enum sdk_type: F32, F16, BF16, the 8-bit floats and the types of GGUF. -ENOTSUP for another.
 */
int sde_dtype_weights(enum sde_dtype dtype);

/* Widen count elements (tensor->count) of those types or F64 to float; -ENOTSUP for another type. */
int sde_tensor_to_f32(const struct sde_tensor *tensor, float *out, struct sde_error *error);

/* "[3, 4]", "[]" for a scalar; returns buffer. */
const char *sde_shape_string(char *buffer, size_t size, int rank, const int64_t *shape);

static inline void sde_safetensors_freep(struct sde_safetensors **file)
{
	sde_safetensors_free(*file);
}
