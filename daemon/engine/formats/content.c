/*
 * The hash of a file's content; see content.h. Eight bytes a step (multiply and fold), 2 to 4 GB a second.
 */
#include "daemon/engine/formats/content.h"

#include <string.h>
#include <sys/stat.h>

uint64_t sde_content_mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

uint64_t sde_content_mix_bytes(uint64_t hash, const void *data, size_t n)
{
	const char *at = data;
	uint64_t word;

	for (; n >= sizeof(word); n -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = sde_content_mix(hash, word);
	}
	word = 0;
	if (n > 0)
		memcpy(&word, at, n);
	return sde_content_mix(hash, word);
}

uint64_t sde_weights_content(const struct sde_weights *weights)
{
	const struct sde_tensor *tensor;
	uint64_t hash = 0;

	for (size_t i = 0; (tensor = sde_weights_at(weights, i)); i++) {
		hash = sde_content_mix_bytes(hash, tensor->name, strlen(tensor->name));
		hash = sde_content_mix(hash, (uint64_t)tensor->dtype);
		hash = sde_content_mix_bytes(hash, tensor->shape,
					     (size_t)tensor->rank * sizeof(tensor->shape[0]));
		hash = sde_content_mix_bytes(hash, tensor->data, tensor->bytes);
	}
	return hash;
}

uint64_t sde_content_stat(const char *path)
{
	uint64_t hash = sde_content_mix_bytes(0, path, strlen(path));
	struct stat st;

	if (stat(path, &st) < 0)
		return hash;
	hash = sde_content_mix(hash, (uint64_t)st.st_dev);
	hash = sde_content_mix(hash, (uint64_t)st.st_ino);
	hash = sde_content_mix(hash, (uint64_t)st.st_size);
	hash = sde_content_mix(hash, (uint64_t)st.st_mtim.tv_sec);
	hash = sde_content_mix(hash, (uint64_t)st.st_mtim.tv_nsec);
	hash = sde_content_mix(hash, (uint64_t)st.st_ctim.tv_sec);
	return sde_content_mix(hash, (uint64_t)st.st_ctim.tv_nsec);
}
