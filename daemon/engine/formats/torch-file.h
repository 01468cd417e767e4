/*
 * Checkpoints as torch.save writes them (.ckpt, .pt, .bin): a zip archive with a pickle and the storages, or the format before torch 1.6, pickles
 * and storages in a row. The pickle is read, never executed (pickle.h); the storages are the mapping. Even so such a file is only opened
 * where a person asked for it: other programs that open it do execute it.
 */
#pragma once

#include <stdbool.h>

#include "daemon/engine/formats/safetensors.h"

struct sde_torch_file;

/* True if the first bytes are those of a zip archive or of a pickle. */
bool sde_torch_file_looks_like(const unsigned char *head, size_t size);

/*
 * Map a file and index the tensors of its state dict (the file's dict, or that under "state_dict"). -EPERM when the pickle names anything but what
 * torch.save needs, -EBADMSG, -ENOTSUP; the message names the file and, where it is about one, the tensor.
 */
int sde_torch_file_open(const char *path, struct sde_torch_file **ret_file,
			struct sde_error *error);
struct sde_torch_file *sde_torch_file_free(struct sde_torch_file *file);

size_t sde_torch_file_count(const struct sde_torch_file *file);
const struct sde_tensor *sde_torch_file_at(const struct sde_torch_file *file, size_t index);
