/*
 * Whether a file is a model, or the part of one that paints: told from the names of tensors in its header, as the engine does, but without the
 * engine, which sdd does not link. The worker judges the file when it loads it.
 */
#pragma once

#include "daemon/model-facts.h"
#include "daemon/util/memo.h"

#include <stddef.h>
#include <stdint.h>

/*
 * True when the file holds a U-Net or a transformer in the layout of checkpoint files; *ret_facts then has what the header and the .sdd.json beside
 * it say (lacks_parts: no autoencoder or no text encoder is in it, and the settings name none), *ret_bytes its size. known: what headers
 * said before; a file in a state that is known is not read, so that looking at the folders again costs no reading of megabytes.
 */
bool sdd_model_file_read(const char *path, struct sdd_memo *known,
			 struct sdd_model_facts *ret_facts, uint64_t *ret_bytes);
/* Nothing is known yet; at most 4096 files, 96 KiB. The caller's to clear. */
struct sdd_memo sdd_model_files_known(void);

/* Where a model file's settings stand, FILE.sdd.json of FILE.safetensors; false when that is too long. */
bool sdd_model_file_settings(const char *path, char *ret_path, size_t size);

/* A model's name is its file's without the ending that weight files have; length in bytes. */
size_t sdd_model_file_name_length(const char *name);
