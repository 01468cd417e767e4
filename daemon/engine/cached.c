/*
 * Keys of texts and pictures, and their way through the cache; see cached.h.
 */
#include "daemon/engine/cached.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/cache.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/content.h"
#include "daemon/util/hash.h"

static uint64_t hash_part(uint64_t hash, const struct sde_weights *weights, uint64_t config)
{
	return sdd_hash_mix(sdd_hash_mix(hash, sde_weights_content(weights)), config);
}

/* The encoders and what is made of their states. */
static uint64_t hash_encoders(const struct sde_model *model, int clip_skip)
{
	uint64_t hash = sdd_hash_bytes(0, model->family->name, strlen(model->family->name));

	for (int i = 0; i < model->n_towers; i++)
		hash = hash_part(hash, model->towers[i].weights, model->towers[i].config_content);
	if (model->t5.weights)
		hash = hash_part(hash, model->t5.weights, model->t5.config_content);
	hash = sdd_hash_mix(hash, sde_model_adapted_text(model));
	hash = sdd_hash_mix(hash, (uint64_t)model->form);
	hash = sdd_hash_mix(hash, (uint64_t)sde_model_context_width(model));
	return sdd_hash_mix(hash, (uint64_t)clip_skip);
}

static uint64_t hash_clip(uint64_t hash, const struct sde_prompt *prompt, size_t width)
{
	hash = sdd_hash_mix(hash, prompt->count);
	for (size_t i = 0; i < prompt->count; i++) {
		const struct sde_prompt_chunk *chunk = &prompt->chunks[i];

		hash = sdd_hash_bytes(hash, chunk->ids, sizeof(chunk->ids));
		hash = sdd_hash_bytes(hash, chunk->weights, sizeof(chunk->weights));
	}
	hash = sdd_hash_mix(hash, prompt->n_added);
	return sdd_hash_bytes(hash, prompt->added, prompt->n_added * width * sizeof(float));
}

static uint64_t hash_text(const struct sde_model *model, const struct sde_text *text, int clip_skip)
{
	const size_t length = (size_t)text->t5.length;
	uint64_t hash = hash_encoders(model, clip_skip);

	for (int i = 0; i < model->n_towers; i++)
		hash = hash_clip(hash, &text->clip[i],
				 (size_t)model->towers[i].clip.config.hidden_size);
	hash = sdd_hash_mix(hash, length);
	if (!text->t5.ids)
		return hash;
	hash = sdd_hash_bytes(hash, text->t5.ids, length * sizeof(*text->t5.ids));
	return sdd_hash_bytes(hash, text->t5.weights, length * sizeof(*text->t5.weights));
}

int sde_cached_embed(struct sde_model *model, uint64_t partition, const struct sde_text *text,
		     int clip_skip, float *ret_embeds, float *ret_pooled, struct sde_error *error)
{
	/* what is never kept is not worth reading all weights for */
	const struct sde_cache_key key = {
		SDE_CACHE_TEXT, partition,
		sde_cache_keeps(model->cache) ? hash_text(model, text, clip_skip) : 0};
	const size_t n =
		sde_model_context_rows(model, text) * (size_t)sde_model_context_width(model);
	const size_t pooled = (size_t)sde_model_pooled_width(model);
	_cleanup_free_ float *both = malloc((n + pooled) * sizeof(float) + 1);
	int r;

	if (!both)
		return sde_error_set(error, -ENOMEM, "no memory for a prompt");
	if (!sde_cache_get_floats(model->cache, &key, both, n + pooled)) {
		r = sde_model_embed(model, text, clip_skip, both, both + n, error);
		if (r < 0)
			return r;
		sde_cache_put_floats(model->cache, &key, both, n + pooled);
	}
	memcpy(ret_embeds, both, n * sizeof(float));
	memcpy(ret_pooled, both + n, pooled * sizeof(float));
	return 0;
}

int sde_cached_encode(struct sde_model *model, uint64_t partition, const float *images,
		      const float *eps, int batch, int height, int width, float *ret_latents,
		      struct sde_error *error)
{
	const struct sde_vae *vae = &model->vae;
	const size_t pixels = (size_t)batch * 3 * (size_t)height * (size_t)width;
	const size_t n = sde_vae_encoding_size(vae, batch, height, width);
	const int shape[] = {batch, height, width, (int)vae->kind, vae->tiled, (int)model->form};
	struct sde_cache_key key = {SDE_CACHE_SOURCE, partition, 0};
	_cleanup_free_ float *encoding = malloc(n * sizeof(float) + 1);
	int r;

	if (!encoding)
		return sde_error_set(error, -ENOMEM, "no memory for %zu latents", n);
	if (sde_cache_keeps(model->cache)) {
		key.hash = hash_part(0, model->vae_weights, model->vae_config_content);
		key.hash = sdd_hash_bytes(key.hash, shape, sizeof(shape));
		key.hash = sdd_hash_mix(key.hash, (uint64_t)sde_runner_wrap(model->runner));
		key.hash = sdd_hash_bytes(key.hash, images, pixels * sizeof(float));
	}
	if (!sde_cache_get_floats(model->cache, &key, encoding, n)) {
		r = sde_vae_encoding(model->runner, vae, images, batch, height, width, encoding,
				     error);
		if (r < 0)
			return r;
		sde_cache_put_floats(model->cache, &key, encoding, n);
	}
	sde_vae_sample(vae, encoding, eps, batch, height, width, ret_latents);
	return 0;
}
