/*
 * One GGUF file (llama.cpp's container, versions 2 and 3, little-endian), memory-mapped read-only: typed key/value pairs, then each tensor's name,
 * dimensions (the contiguous one first), type and place, then the data. As stable-diffusion.cpp, ComfyUI-GGUF and llama.cpp write them.
 * Hostile like every file: see safetensors.h.
 */
#pragma once

#include "daemon/engine/formats/safetensors.h"

struct sde_gguf;

/*
 * Map a file and index its tensors, in file order. Shapes are torch's (the contiguous dimension last); where ComfyUI has flattened a
 * convolution, "comfy.gguf.orig_shape.NAME" gives it back. -EBADMSG names the file and the tensor, -ENOTSUP a type or version not read.
 */
int sde_gguf_open(const char *path, struct sde_gguf **ret_file, struct sde_error *error);
struct sde_gguf *sde_gguf_free(struct sde_gguf *file);

size_t sde_gguf_count(const struct sde_gguf *file);
const struct sde_tensor *sde_gguf_at(const struct sde_gguf *file, size_t index);
