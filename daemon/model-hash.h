/*
 * What a model is, whatever it is called and wherever it lies: SHA-256 of its weights and configurations. Of a checkpoint file what
 * `sha256sum FILE` prints, which model sites give too; of a folder the SHA-256 of the lines that `sha256sum` prints for its files and those of its
 * components (.safetensors, .gguf, .json, .txt and .model, without sdd.json, which is a person's wish), sorted by name, named as seen from the folder.
 *
 * Reads every byte: at the speed of the disk, so it is a helper process's work (hasher.h), and what it found of a file is
 * remembered by the file's state.
 */
#pragma once

#include "daemon/util/memo.h"

#include <stddef.h>
#include <stdint.h>

enum { SDD_DIGEST_SIZE = 32, SDD_DIGESTS_MAX = 2048 };

/* Digest of a file by its state (sdd_hash_stat). */
struct sdd_digest {
	uint64_t state;
	uint8_t bytes[SDD_DIGEST_SIZE];
};

/* Of the files that are known; empty. The caller's to clear. */
struct sdd_memo sdd_digests_new(void);

/* Called for every file that had to be read and whose state tells its content; a pause of the caller's choice goes between two pieces of a file. */
struct sdd_hash_hooks {
	void (*found)(void *userdata, const struct sdd_digest *digest); /* may be NULL */
	void (*pause)(void *userdata);					/* may be NULL */
	void *userdata;
};

/* known: of struct sdd_digest. 0, -ENOENT when the model has no file of such a name, or a negative errno of reading one; path is a folder or a file. */
int sdd_model_hash(const char *path, const struct sdd_memo *known,
		   const struct sdd_hash_hooks *hooks, uint8_t ret_digest[SDD_DIGEST_SIZE]);

enum { SDD_DIGEST_TEXT_SIZE = 2 * SDD_DIGEST_SIZE + 1 };
/* In hexadecimal. */
void sdd_digest_text(const uint8_t digest[SDD_DIGEST_SIZE], char ret_text[SDD_DIGEST_TEXT_SIZE]);
/* Of bytes in memory. */
void sdd_digest_bytes(const void *bytes, size_t n, uint8_t ret_digest[SDD_DIGEST_SIZE]);
