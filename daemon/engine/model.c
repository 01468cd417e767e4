/*
 * Loading a diffusers folder or a checkpoint file: find the components, check that they are of a kind the engine computes and belong together,
 * bind their tensors. Weights stay memory-mapped; nothing is read but headers until a plan is prepared.
 */
#include "daemon/engine/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/adapters/controls.h"
#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/pipelines/conditioning.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/scheduler.h"
#include "daemon/engine/share.h"

#define FLOW_SHIFT 3.0	/* of a flow model whose folder has no scheduler */
#define SIDE_MAX   4096 /* of the size a model was trained at */

const char *const sde_weights_form_names[SDE_WEIGHTS_FORMS] = {
	[SDE_WEIGHTS_AUTO] = "auto", [SDE_WEIGHTS_STORED] = "stored", [SDE_WEIGHTS_F16] = "f16",
	[SDE_WEIGHTS_BF16] = "bf16", [SDE_WEIGHTS_Q8_0] = "q8_0",
};

int sde_weights_form_parse(const char *name, enum sde_weights_form *ret_form)
{
	for (int i = 0; i < SDE_WEIGHTS_FORMS; i++)
		if (strcmp(name, sde_weights_form_names[i]) == 0) {
			*ret_form = (enum sde_weights_form)i;
			return 0;
		}
	return -EINVAL;
}

/*
 * The small parts are no gain in Q8_0, and their errors are in every step and every pixel. Text encoders run once a job, in float32: widening
 * them then costs less than the memory of a packed form does all the time.
 */
static enum sdk_keep keep_of(enum sde_weights_form form, const char *component,
			     const char *class_name)
{
	static const enum sdk_keep keeps[SDE_WEIGHTS_FORMS] = {
		[SDE_WEIGHTS_AUTO] = SDK_KEEP_AUTO, [SDE_WEIGHTS_STORED] = SDK_KEEP_STORED,
		[SDE_WEIGHTS_F16] = SDK_KEEP_F16,   [SDE_WEIGHTS_BF16] = SDK_KEEP_BF16,
		[SDE_WEIGHTS_Q8_0] = SDK_KEEP_Q8_0,
	};
	const bool large = strcmp(component, "unet") == 0 ||
			   strcmp(component, "transformer") == 0 ||
			   (class_name && strcmp(class_name, "T5EncoderModel") == 0);

	const bool text = strncmp(component, "text_encoder", strlen("text_encoder")) == 0;

	if ((form == SDE_WEIGHTS_Q8_0 && !large) || (form == SDE_WEIGHTS_AUTO && text))
		return SDK_KEEP_STORED;
	return keeps[form];
}

void sde_model_adopt(struct sde_model *model, const char *component, const char *class_name,
		     struct sde_weights *weights)
{
	sde_weights_set_pulse(weights, sde_runner_pulse(model->runner));
	sde_weights_set_keep(weights, keep_of(model->form, component, class_name));
	if (model->engine)
		sde_model_share(model, weights);
}

int sde_model_open_component(struct sde_model *model, const char *name, const char *class_name,
			     json_t **ret_config, struct sde_weights **ret_weights,
			     struct sde_error *error)
{
	const struct sde_component *component;
	int r;

	r = sde_model_dir_require(model->dir, name, &component, error);
	if (r < 0)
		return r;
	if (class_name && component->class_name && strcmp(component->class_name, class_name) != 0)
		return sde_error_set(error, -ENOTSUP,
				     "%s: '%s' is a %.60s; this engine computes %s",
				     model->dir->path, name, component->class_name, class_name);
	r = sde_component_config(component, ret_config, error);
	if (r >= 0)
		r = sde_component_weights(component, ret_weights, error);
	if (r >= 0)
		sde_model_adopt(model, name, class_name, *ret_weights);
	return r;
}

int sde_model_find_denoiser(const struct sde_model *model,
			    const struct sde_denoiser_class **ret_class, json_t **ret_config,
			    struct sde_error *error)
{
	const struct sde_component *component = sde_model_dir_find(model->dir, "unet");
	const struct sde_denoiser_class *class;
	_cleanup_json_ json_t *config = NULL;
	const char *name;
	int r;

	if (!component)
		component = sde_model_dir_find(model->dir, "transformer");
	r = component ? 0 : sde_model_dir_require(model->dir, "unet", &component, error);
	if (r >= 0)
		r = sde_component_config(component, &config, error);
	if (r < 0)
		return r;
	name = component->class_name ? component->class_name
				     : json_string_value(json_object_get(config, "_class_name"));
	for (size_t i = 0; (class = sde_denoiser_class_at(i)); i++)
		if (strcmp(class->folder, component->name) == 0 &&
		    (!name || strcmp(class->name, name) == 0)) {
			*ret_class = class;
			*ret_config = config;
			config = NULL;
			return 0;
		}
	return sde_error_set(error, -ENOTSUP,
			     "%s: '%s' is a %.60s; this engine computes UNet2DConditionModel, "
			     "SD3Transformer2DModel and FluxTransformer2DModel",
			     model->dir->path, component->name, name);
}

static int load_denoiser(struct sde_model *model, struct sde_error *error)
{
	_cleanup_json_ json_t *config = NULL;
	const struct sde_denoiser_class *class = NULL;
	const struct sde_component *component;
	char what[64];
	int r;

	r = sde_model_find_denoiser(model, &class, &config, error);
	if (r >= 0)
		r = sde_model_dir_require(model->dir, class->folder, &component, error);
	if (r >= 0)
		r = sde_component_weights(component, &model->denoiser_weights, error);
	if (r < 0)
		return r;
	sde_model_adopt(model, class->folder, NULL, model->denoiser_weights);
	snprintf(what, sizeof(what), "%s/config.json", class->folder);
	return class->bind(&model->denoiser, config, what, model->denoiser_weights, error);
}

static int load_vae(struct sde_model *model, struct sde_error *error)
{
	_cleanup_json_ json_t *config = NULL;
	int r;

	r = sde_model_open_component(model, "vae", NULL, &config, &model->vae_weights, error);
	if (r < 0)
		return r;
	model->vae_config_content = sde_json_content(config);
	return sde_vae_bind(&model->vae, config, "vae/config.json", model->vae_weights, error);
}

/* What SDXL is told besides the text: sizes, a sinusoid each. */
static int check_sdxl(const struct sde_model *model, struct sde_error *error)
{
	const struct sde_unet_config *unet = &model->denoiser.unet.config;
	const int ids = model->aesthetic ? 5 : 6, text = sde_model_pooled_width(model);

	if (unet->projection_class_embeddings_input_dim !=
	    text + ids * unet->addition_time_embed_dim)
		return sde_error_set(error, -EINVAL,
				     "the U-Net takes %d added channels, not the %d of the pooled "
				     "text and %d sizes",
				     unet->projection_class_embeddings_input_dim,
				     text + ids * unet->addition_time_embed_dim, ids);
	return 0;
}

/* A context with T5's rows: all encoders' states must fit its width. */
static int check_t5(const struct sde_model *model, struct sde_error *error)
{
	const int context = model->denoiser.context_width;
	int clip = 0;

	for (int i = 0; i < model->n_towers; i++)
		clip += model->towers[i].clip.config.hidden_size;
	if (model->t5.tokenizer && model->t5.t5.config.d_model != context)
		return sde_error_set(error, -EINVAL,
				     "the transformer attends to %d channels, T5 gives %d", context,
				     model->t5.t5.config.d_model);
	if (!model->family->t5_alone && clip > context)
		return sde_error_set(error, -EINVAL,
				     "the transformer attends to %d channels, the CLIP encoders "
				     "give %d",
				     context, clip);
	if (sde_model_pooled_width(model) != model->denoiser.pooled_width)
		return sde_error_set(error, -EINVAL,
				     "the transformer takes pooled text of %d channels, the text "
				     "encoders give %d",
				     model->denoiser.pooled_width, sde_model_pooled_width(model));
	return 0;
}

static int check_together(struct sde_model *model, struct sde_error *error)
{
	const int latent = model->vae.latent_channels, in = model->denoiser.in_channels;
	const int f = model->vae.factor;
	const int mask = model->family->mask_form == SDE_MASK_PIXELS ? f * f : 1;
	int r = 0;

	if (model->family->t5)
		r = check_t5(model, error);
	else if (model->denoiser.context_width != sde_model_context_width(model))
		r = sde_error_set(error, -EINVAL,
				  "the U-Net attends to %d channels, the text encoders give %d",
				  model->denoiser.context_width, sde_model_context_width(model));
	if (r >= 0 && sde_model_is_sdxl(model))
		r = check_sdxl(model, error);
	if (r < 0)
		return r;
	if (model->denoiser.out_channels != latent || (in != latent && in != 2 * latent + mask))
		return sde_error_set(error, -EINVAL,
				     "a denoiser of %d input and %d output channels does not fit "
				     "an autoencoder of %d latent channels",
				     in, model->denoiser.out_channels, latent);
	if (model->vae.in_channels != 3 || model->vae.out_channels != 3)
		return sde_error_set(error, -EINVAL, "the autoencoder is not one of RGB pictures");
	return 0;
}

/* What model_index.json says of an SDXL model, with the defaults of diffusers' pipelines. */
static void load_flags(struct sde_model *model)
{
	const json_t *index = model->dir->index;
	const json_t *aesthetic = json_object_get(index, "requires_aesthetics_score");
	const json_t *zeros = json_object_get(index, "force_zeros_for_empty_prompt");

	if (!sde_model_is_sdxl(model))
		return;
	model->aesthetic =
		index ? json_is_true(aesthetic) : !sde_model_dir_find(model->dir, "text_encoder");
	model->zero_negative = index ? !json_is_false(zeros) : !model->aesthetic;
}

/* What a person gets who asks for nothing: sdd.json beside model_index.json, else what suits most models of the family. */
static int load_defaults(struct sde_model *model, struct sde_error *error)
{
	const int f = sde_model_factor(model), grain = sde_model_grain(model);
	const int most = model->denoiser.side_max > 0 ? model->denoiser.side_max * f : SIDE_MAX;
	_cleanup_json_ json_t *object = NULL;
	struct sde_config_keys keys = {.what = "sdd.json", .error = error};
	struct sde_model_info *info = &model->info;
	int side = model->denoiser.sample_size * f, r;

	r = sde_model_dir_settings(model->dir, &object, error);
	if (r < 0)
		return r;
	keys.object = object;
	if (side == 0)
		side = model->family->native_size;
	if (side > SIDE_MAX)
		return sde_error_set(error, -EINVAL,
				     "%s/%s/config.json: 'sample_size' is %d, must be at most %d",
				     model->dir->path, model->denoiser.class->folder,
				     model->denoiser.sample_size, SIDE_MAX / f);
	info->weights = model->form;
	info->family = model->family->name;
	info->in_channels = model->denoiser.in_channels;
	info->native_size = sde_config_int(&keys, "native_size", side, grain,
					   most < SIDE_MAX ? most : SIDE_MAX);
	if (info->native_size % grain != 0)
		sde_config_fail(&keys, "'native_size' is %d, must be a multiple of %d",
				info->native_size, grain);
	info->min_side = info->native_size;
	info->max_side = info->native_size * 3 / 2 / grain * grain;
	if (info->max_side > most)
		info->max_side = most / grain * grain;
	info->default_steps = sde_config_int(&keys, "steps", model->family->steps, 1, 1000);
	info->default_guidance =
		sde_config_real(&keys, "guidance_scale", model->family->guidance_scale, 0, 100);
	snprintf(model->default_sampler, sizeof(model->default_sampler), "%s",
		 sde_config_string(&keys, "sampler", model->family->sampler));
	info->default_sampler = model->default_sampler;
	info->weight_bytes =
		sde_weights_bytes(model->denoiser_weights) + sde_weights_bytes(model->vae_weights);
	if (model->t5.weights)
		info->weight_bytes += sde_weights_bytes(model->t5.weights);
	for (int i = 0; i < model->n_towers; i++)
		info->weight_bytes += sde_weights_bytes(model->towers[i].weights);
	if (keys.r < 0)
		return keys.r;
	r = sde_preview_load(&model->preview, model->dir, object, &model->vae, error);
	info->previews = r >= 0 && sde_preview_available(&model->preview, &model->vae);
	return r;
}

/* What is wrong with the noise schedule shows when the model loads, not with its first job. */
static int check_scheduler(struct sde_model *model, const char *folder, struct sde_error *error)
{
	struct sde_scheduler_config config;
	struct sde_scheduler *scheduler;
	int r;

	r = sde_scheduler_config_from_name(model->default_sampler, NULL, &config, error);
	if (r < 0) {
		sde_error_prefix(error, "%s/sdd.json", model->dir->path);
		return r;
	}
	r = sde_scheduler_config_from_name(model->default_sampler, model->scheduler_config, &config,
					   error);
	if (r >= 0) {
		r = sde_scheduler_new(&config, &scheduler, error);
		sde_scheduler_config_clear(&config);
	}
	if (r >= 0)
		sde_scheduler_free(scheduler);
	else
		sde_error_prefix(error, "%s/scheduler_config.json", folder);
	return r;
}

/* Whoever asks goes before the model's sdd.json, and that before what is usual. */
static int find_form(struct sde_model *model, enum sde_weights_form usual, struct sde_error *error)
{
	_cleanup_json_ json_t *object = NULL;
	struct sde_config_keys keys = {.what = "sdd.json", .error = error};
	const char *name;
	int r;

	r = sde_model_dir_settings(model->dir, &object, error);
	if (r < 0 || model->form != SDE_WEIGHTS_DEFAULT)
		return r;
	keys.object = object;
	name = sde_config_string(&keys, "weights", sde_weights_form_names[usual]);
	if (keys.r >= 0 && sde_weights_form_parse(name, &model->form) < 0)
		sde_config_fail(&keys,
				"'weights' is '%.40s'; there are auto, stored, f16, bf16 and q8_0",
				name);
	return keys.r;
}

static int load(struct sde_model *model, const char *path, enum sde_weights_form usual,
		struct sde_error *error)
{
	const struct sde_component *scheduler;
	int r;

	r = sde_model_dir_open(path, &model->dir, error);
	if (r >= 0)
		r = find_form(model, usual, error);
	if (r >= 0)
		r = load_denoiser(model, error);
	if (r >= 0) {
		load_flags(model);
		model->family = sde_family_of(&model->denoiser, model->aesthetic);
		r = sde_model_load_text(model, true, error);
	}
	if (r >= 0)
		r = load_vae(model, error);
	if (r >= 0)
		r = check_together(model, error);
	if (r < 0)
		return r;
	scheduler = sde_model_dir_find(model->dir, "scheduler");
	if (scheduler)
		r = sde_component_config(scheduler, &model->scheduler_config, error);
	else if (model->family->flow)
		model->scheduler_config =
			json_pack("{s:s, s:f}", "_class_name", "FlowMatchEulerDiscreteScheduler",
				  "shift", FLOW_SHIFT);
	if (r >= 0)
		r = load_defaults(model, error);
	if (r >= 0)
		r = check_scheduler(model, scheduler ? scheduler->path : path, error);
	return r;
}

int sde_model_load(struct sde_engine *engine, const char *path, struct sde_model **ret_model,
		   struct sde_error *ret_error)
{
	return sde_model_load_as(engine, path, SDE_WEIGHTS_DEFAULT, ret_model, ret_error);
}

int sde_model_load_as(struct sde_engine *engine, const char *path, enum sde_weights_form form,
		      struct sde_model **ret_model, struct sde_error *ret_error)
{
	struct sde_model *model = calloc(1, sizeof(*model));
	int r;

	if (!model)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a model");
	model->references = 1;
	model->engine = engine;
	model->runner = engine->runner;
	model->cache = engine->cache;
	model->form = form;
	r = load(model, path, engine->weights, ret_error);
	if (r < 0) {
		sde_model_unref(model);
		return r;
	}
	sde_engine_add_model(engine, model);
	*ret_model = model;
	return 0;
}

int sde_model_peek(const char *path, struct sde_model **ret_model, struct sde_error *ret_error)
{
	struct sde_model *model = calloc(1, sizeof(*model));
	int r;

	if (!model)
		return sde_error_set(ret_error, -ENOMEM, "no memory for a model");
	model->references = 1;
	r = sde_model_dir_open(path, &model->dir, ret_error);
	if (r >= 0)
		r = load_denoiser(model, ret_error);
	if (r >= 0)
		r = load_vae(model, ret_error);
	if (r >= 0) {
		load_flags(model);
		model->family = sde_family_of(&model->denoiser, model->aesthetic);
		r = load_defaults(model, ret_error);
	}
	if (r < 0) {
		sde_model_unref(model);
		return r;
	}
	*ret_model = model;
	return 0;
}

struct sde_model *sde_model_unref(struct sde_model *model)
{
	if (!model || --model->references > 0)
		return NULL;
	if (model->engine)
		sde_engine_remove_model(model->engine, model);
	sde_model_forget_adapted(model);
	sde_controls_forget(model);
	sde_model_clear_text(model);
	sde_denoiser_clear(&model->denoiser, model->runner);
	sde_preview_clear(&model->preview, model->runner);
	sde_vae_clear(&model->vae, model->runner);
	sde_weights_free(model->denoiser_weights);
	sde_weights_free(model->vae_weights);
	json_decref(model->scheduler_config);
	sde_model_dir_free(model->dir);
	free(model);
	return NULL;
}

const struct sde_model_info *sde_model_info(const struct sde_model *model)
{
	return &model->info;
}
