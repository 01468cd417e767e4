/*
 * Adapted models and their place in the engine's cache; see adapted.h.
 */
#include "daemon/engine/adapters/adapted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/ip-adapter.h"
#include "daemon/engine/adapters/open.h"
#include "daemon/engine/cache.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/model.h"
#include "daemon/engine/runner.h"
#include "daemon/util/hash.h"

struct sde_adapted {
	uint64_t text;	  /* content of the LoRAs, which change its text encoders too */
	uint64_t picture; /* and of the IP-Adapter */
	struct sde_loras *loras;
	struct sde_ip_adapter *ip;    /* or NULL */
	struct sde_denoiser denoiser; /* class NULL: none of its layers changed */
	struct sde_clip clips[SDE_TOWERS_MAX];
	bool has_clip[SDE_TOWERS_MAX];
};

static void adapted_free(struct sde_adapted *adapted, struct sde_runner *runner)
{
	if (!adapted)
		return;
	sde_denoiser_clear(&adapted->denoiser, runner);
	for (int i = 0; i < SDE_TOWERS_MAX; i++)
		if (adapted->has_clip[i]) {
			sde_runner_forget(runner, &adapted->clips[i]);
			sde_clip_clear(&adapted->clips[i]);
		}
	sde_ip_adapter_free(adapted->ip, runner);
	sde_loras_free(adapted->loras);
	free(adapted);
}

/* A refiner's only encoder is a second one. */
static enum sde_adapter_part part_of_tower(const struct sde_model *model, int tower)
{
	return tower > 0 || model->aesthetic ? SDE_ADAPTER_TEXT_2 : SDE_ADAPTER_TEXT;
}

static int bind_tower(struct sde_adapted *adapted, const struct sde_model *model, int i,
		      struct sde_error *error)
{
	const struct sde_text_tower *tower = &model->towers[i];
	const enum sde_adapter_part part = part_of_tower(model, i);
	int r;

	sde_weights_set_patch(tower->weights, sde_loras_patch(adapted->loras, part, NULL));
	r = sde_clip_bind(&adapted->clips[i], &tower->clip.config, tower->weights, error);
	sde_weights_set_patch(tower->weights, NULL);
	if (r < 0)
		return r;
	adapted->has_clip[i] = sde_loras_patched(adapted->loras, part) > 0;
	if (!adapted->has_clip[i])
		sde_clip_clear(&adapted->clips[i]);
	return 0;
}

static int bind_denoiser(struct sde_adapted *adapted, const struct sde_model *model,
			 struct sde_error *error)
{
	const struct sde_denoiser *denoiser = &model->denoiser;
	const bool unet = denoiser->class == &sde_denoiser_unet;
	const enum sde_adapter_part part = unet ? SDE_ADAPTER_UNET : SDE_ADAPTER_TRANSFORMER;
	struct sde_patch *patch =
		sde_loras_patch(adapted->loras, part, unet ? &denoiser->unet.config : NULL);
	int r;

	sde_weights_set_patch(model->denoiser_weights, patch);
	r = denoiser->class->bind_like(&adapted->denoiser, denoiser, model->denoiser_weights,
				       error);
	sde_weights_set_patch(model->denoiser_weights, NULL);
	if (r < 0)
		return r;
	if (adapted->ip)
		sde_ip_adapter_attach(adapted->ip, &adapted->denoiser.unet);
	else if (sde_loras_patched(adapted->loras, part) == 0)
		sde_denoiser_clear(&adapted->denoiser, model->runner);
	return 0;
}

static int load_ip(struct sde_adapted *adapted, const struct sde_model *model,
		   const struct sde_ip_use *ip, struct sde_error *error)
{
	if (model->denoiser.class != &sde_denoiser_unet)
		return sde_error_set(error, -ENOTSUP, "models with a %s take no IP-Adapter",
				     model->denoiser.class->name);
	return sde_ip_adapter_load(ip->path, ip->encoder, ip->name, ip->scale,
				   &model->denoiser.unet, &adapted->ip, error);
}

/* What an IP-Adapter adds to the key: what its files hold, its scale. */
static int mix_ip(uint64_t *key, const struct sde_ip_use *ip, struct sde_error *error)
{
	uint64_t adapter = 0, encoder = 0;
	int r;

	r = sde_adapter_content(ip->path, &adapter, error);
	if (r >= 0)
		r = sde_adapter_content(ip->encoder, &encoder, error);
	if (r < 0) {
		sde_error_prefix(error, "IP-Adapter %s", ip->name);
		return r;
	}
	*key = sdd_hash_bytes(*key, &ip->scale, sizeof(ip->scale));
	*key = sdd_hash_mix(sdd_hash_mix(*key, adapter), encoder);
	return 0;
}

static uint64_t content_of_ip(const struct sde_ip_adapter *ip)
{
	return sdd_hash_mix(sde_weights_content(ip->weights),
			    sde_weights_content(ip->encoder_weights));
}

/* Takes loras. */
static int adapted_new(const struct sde_model *model, struct sde_loras *loras,
		       const struct sde_ip_use *ip, struct sde_adapted **ret_adapted,
		       struct sde_error *error)
{
	struct sde_adapted *adapted = calloc(1, sizeof(*adapted));
	int r;

	if (!adapted) {
		sde_loras_free(loras);
		return sde_error_set(error, -ENOMEM, "no memory for LoRAs");
	}
	adapted->text = sde_loras_content(loras);
	adapted->loras = loras;
	r = ip ? load_ip(adapted, model, ip, error) : 0;
	if (adapted->ip)
		adapted->picture = content_of_ip(adapted->ip);
	if (r >= 0)
		r = bind_denoiser(adapted, model, error);
	for (int i = 0; r >= 0 && i < model->n_towers; i++)
		r = bind_tower(adapted, model, i, error);
	if (r >= 0)
		r = sde_loras_finish(loras, error);
	if (r < 0) {
		adapted_free(adapted, model->runner);
		return r;
	}
	*ret_adapted = adapted;
	return 0;
}

static void drop_adapted(void *value, void *owner)
{
	const struct sde_model *model = owner;

	adapted_free(value, model->runner);
}

static uint64_t bytes_of(const struct sde_adapted *adapted)
{
	uint64_t bytes = sizeof(*adapted) + sde_loras_bytes(adapted->loras);

	if (adapted->ip)
		bytes += sde_weights_bytes(adapted->ip->weights) +
			 sde_weights_bytes(adapted->ip->encoder_weights);
	return bytes;
}

/* Which model a set is bound from: another of the same files may live beside it. */
static uint64_t mix_model(uint64_t key, const struct sde_model *model)
{
	return sdd_hash_mix(key, (uint64_t)(uintptr_t)model);
}

/* What it is made of was not written over since: a kept set reads its files again when it is packed anew. */
static bool is_intact(const struct sde_adapted *adapted)
{
	return sde_loras_content(adapted->loras) == adapted->text &&
	       (!adapted->ip || content_of_ip(adapted->ip) == adapted->picture);
}

int sde_model_adapt(struct sde_model *model, const struct sde_lora_use *uses, size_t n,
		    const struct sde_ip_use *ip, struct sde_error *error)
{
	struct sde_cache_key key = {SDE_CACHE_ADAPTERS, model->partition, 0};
	struct sde_adapted *adapted;
	struct sde_loras *loras;
	int r;

	if (model->adapted)
		sde_cache_release(model->cache, model->adapted);
	model->adapted = NULL;
	if (n == 0 && !ip)
		return 0;
	if (n > SDE_LORAS_MAX)
		return sde_error_set(error, -EINVAL, "at most %d LoRAs at once, not %zu",
				     SDE_LORAS_MAX, n);
	r = sde_loras_new(uses, n, model->info.family, &loras, error);
	if (r < 0)
		return r;
	key.hash = mix_model(sde_loras_content(loras), model);
	if (ip)
		r = mix_ip(&key.hash, ip, error);
	if (r < 0) {
		sde_loras_free(loras);
		return r;
	}
	adapted = sde_cache_find(model->cache, &key);
	if (adapted && !is_intact(adapted)) {
		sde_cache_drop(model->cache, adapted);
		adapted = NULL;
	}
	if (adapted) {
		sde_loras_free(loras);
		sde_cache_hold(model->cache, adapted);
		model->adapted = adapted;
		return 0;
	}
	r = adapted_new(model, loras, ip, &adapted, error);
	if (r < 0)
		return r;
	r = sde_cache_put_held(model->cache, &key, bytes_of(adapted), adapted, drop_adapted, model);
	if (r < 0)
		return sde_error_set(error, r, "no memory for LoRAs");
	model->adapted = adapted;
	return 0;
}

uint64_t sde_model_adapted_text(const struct sde_model *model)
{
	for (int i = 0; model->adapted && i < model->n_towers; i++)
		if (model->adapted->has_clip[i])
			return model->adapted->text;
	return 0;
}

const struct sde_denoiser *sde_model_denoiser(const struct sde_model *model)
{
	return model->adapted && model->adapted->denoiser.class ? &model->adapted->denoiser
								: &model->denoiser;
}

const struct sde_ip_adapter *sde_model_ip_adapter(const struct sde_model *model)
{
	return model->adapted ? model->adapted->ip : NULL;
}

const struct sde_clip *sde_model_clip(const struct sde_model *model, int tower)
{
	return model->adapted && model->adapted->has_clip[tower] ? &model->adapted->clips[tower]
								 : &model->towers[tower].clip;
}

void sde_model_forget_adapted(struct sde_model *model)
{
	model->adapted = NULL;
	sde_cache_forget(model->cache, model);
}
