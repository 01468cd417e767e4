/*
 * Recognising the parts of a checkpoint file: see checkpoint.h. A part is known by one tensor that only it has, under the prefixes that
 * programs give it.
 */
#include "daemon/engine/formats/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/infer.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/ldm.h"

#define COMPONENTS_MAX 16
#define FILES_MAX      16
#define CLIP_G_WIDTH   1280

/* What a component is, hence what its configuration is inferred by. */
enum kind { KIND_UNET, KIND_KL, KIND_TINY, KIND_CLIP, KIND_T5, KIND_SD3, KIND_FLUX };

/* Names that several kinds of files have; is_there tells them apart. */
static const char CLIP_NARROW[] = "text_model.embeddings.token_embedding.weight";
static const char CLIP_WIDE[] = "text_model.embeddings.token_embedding.weight";
static const char TAESD_ENCODER[] = "0.weight";
static const char TAESD_DECODER[] = "1.weight";

static const struct probe {
	const char *component, *prefix, *tensor;
	enum kind kind;
	sde_part_map_fn *map;
} probes[] = {
	{"unet", "model.diffusion_model.", "input_blocks.0.0.weight", KIND_UNET, sde_map_ldm_unet},
	{"unet", "", "input_blocks.0.0.weight", KIND_UNET, sde_map_ldm_unet},
	{"unet", "", "down_blocks.0.resnets.0.time_emb_proj.weight", KIND_UNET, sde_map_same},
	{"transformer", "model.diffusion_model.", "joint_blocks.0.x_block.attn.qkv.weight",
	 KIND_SD3, sde_map_sd3},
	{"transformer", "model.diffusion_model.", "double_blocks.0.img_attn.qkv.weight", KIND_FLUX,
	 sde_map_flux},
	{"transformer", "", "joint_blocks.0.x_block.attn.qkv.weight", KIND_SD3, sde_map_sd3},
	{"transformer", "", "double_blocks.0.img_attn.qkv.weight", KIND_FLUX, sde_map_flux},
	{"vae", "first_stage_model.", "decoder.up.0.block.0.conv1.weight", KIND_KL,
	 sde_map_ldm_vae},
	{"vae", "vae.", "decoder.up.0.block.0.conv1.weight", KIND_KL, sde_map_ldm_vae},
	{"vae", "", "decoder.up.0.block.0.conv1.weight", KIND_KL, sde_map_ldm_vae},
	{"vae", "", "decoder.up_blocks.0.resnets.0.conv1.weight", KIND_KL, sde_map_same},
	{"vae", "", "decoder.layers.0.weight", KIND_TINY, sde_map_same},
	{"text_encoder", "cond_stage_model.transformer.",
	 "text_model.embeddings.token_embedding.weight", KIND_CLIP, sde_map_clip},
	{"text_encoder", "cond_stage_model.transformer.", "embeddings.token_embedding.weight",
	 KIND_CLIP, sde_map_clip},
	{"text_encoder", "cond_stage_model.model.", "token_embedding.weight", KIND_CLIP,
	 sde_map_openclip_sd2},
	{"text_encoder", "conditioner.embedders.0.transformer.",
	 "text_model.embeddings.token_embedding.weight", KIND_CLIP, sde_map_clip},
	{"text_encoder_2", "conditioner.embedders.0.model.", "token_embedding.weight", KIND_CLIP,
	 sde_map_openclip},
	{"text_encoder_2", "conditioner.embedders.1.model.", "token_embedding.weight", KIND_CLIP,
	 sde_map_openclip},
	{"text_encoder", "text_encoders.clip_l.transformer.",
	 "text_model.embeddings.token_embedding.weight", KIND_CLIP, sde_map_clip},
	{"text_encoder_2", "text_encoders.clip_g.transformer.",
	 "text_model.embeddings.token_embedding.weight", KIND_CLIP, sde_map_clip},
	{"text_encoder", "", CLIP_NARROW, KIND_CLIP, sde_map_clip},
	{"text_encoder_2", "", CLIP_WIDE, KIND_CLIP, sde_map_clip},
	{"text_encoder_3", "text_encoders.t5xxl.transformer.",
	 "encoder.block.0.layer.0.SelfAttention.q.weight", KIND_T5, sde_map_t5},
	{"text_encoder_3", "", "encoder.block.0.layer.0.SelfAttention.q.weight", KIND_T5,
	 sde_map_t5},
	{"text_encoder_3", "", "enc.blk.0.attn_q.weight", KIND_T5, sde_map_t5_llama},
	/* encoder: its first layer is numbered 0; decoder: 1, and 0 is the clamp */
	{"vae", "", TAESD_ENCODER, KIND_TINY, sde_map_taesd_encoder},
	{"vae", "", TAESD_DECODER, KIND_TINY, sde_map_taesd_decoder},
};

#define SOURCES_MAX 2

/* Where a component's tensors stand. */
struct source {
	const struct probe *probe;
	struct sde_tensor_file *file; /* borrowed */
};

struct component {
	const char *name;
	struct source sources[SOURCES_MAX];
	size_t n_sources; /* 0: no tensors of its own */
};

struct sde_checkpoint {
	struct sde_tensor_file *files[FILES_MAX];
	size_t n_files;
	json_t *settings;
	struct component components[COMPONENTS_MAX];
	size_t count;
};

static bool is_taesd(const struct probe *probe)
{
	return probe->tensor == TAESD_ENCODER || probe->tensor == TAESD_DECODER;
}

static const struct component *find(const struct sde_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < checkpoint->count; i++)
		if (!strcmp(checkpoint->components[i].name, name))
			return &checkpoint->components[i];
	return NULL;
}

static int add(struct sde_checkpoint *checkpoint, const char *name, const struct probe *probe,
	       struct sde_tensor_file *file, struct sde_error *error)
{
	struct component *component = (struct component *)find(checkpoint, name);

	if (!component) {
		if (checkpoint->count == COMPONENTS_MAX)
			return sde_error_set(error, -EBADMSG, "%s: more than %d components",
					     sde_tensor_file_path(file), COMPONENTS_MAX);
		component = &checkpoint->components[checkpoint->count++];
		component->name = name;
	} else if (!probe) {
		return 0;
	} else if (component->n_sources == SOURCES_MAX ||
		   component->sources[0].probe->tensor == probe->tensor ||
		   !is_taesd(component->sources[0].probe) || !is_taesd(probe)) {
		return sde_error_set(error, -EBADMSG, "'%s' is both in %s and in %s", name,
				     sde_tensor_file_path(component->sources[0].file),
				     sde_tensor_file_path(file));
	}
	if (probe)
		component->sources[component->n_sources++] = (struct source){probe, file};
	return 0;
}

static bool is_there(const struct probe *probe, struct sde_tensor_file *file)
{
	const struct sde_part part = {file, probe->prefix};
	const struct sde_tensor *tensor = sde_part_find(&part, "%s", probe->tensor);
	const bool wide = tensor && tensor->rank == 2 && tensor->shape[1] == CLIP_G_WIDTH;

	if (probe->tensor == CLIP_NARROW || probe->tensor == CLIP_WIDE)
		return tensor && wide == (probe->tensor == CLIP_WIDE);
	if (probe->tensor == TAESD_ENCODER)
		return tensor && sde_part_find(&part, "1.conv.0.weight");
	if (probe->tensor == TAESD_DECODER)
		return tensor && sde_part_find(&part, "3.conv.0.weight") &&
		       !sde_part_find(&part, "%s", TAESD_ENCODER);
	return tensor;
}

static int recognise(struct sde_checkpoint *checkpoint, struct sde_tensor_file *file,
		     struct sde_error *error)
{
	const struct sde_tensor *first = sde_tensor_file_at(file, 0);
	bool known = false;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < sizeof(probes) / sizeof(probes[0]); i++)
		if (is_there(&probes[i], file)) {
			r = add(checkpoint, probes[i].component, &probes[i], file, error);
			known = true;
		}
	if (r >= 0 && !known)
		return sde_error_set(
			error, -EBADMSG,
			"%s: none of its %zu tensors (the first is '%.80s') belongs to a U-Net, an "
			"autoencoder or a text encoder in a layout known here",
			sde_tensor_file_path(file), sde_tensor_file_count(file),
			first ? first->name : "");
	return r;
}

/* What no file holds and every model needs. */
static int add_implied(struct sde_checkpoint *checkpoint, struct sde_error *error)
{
	static const char *const implied[][2] = {
		{"text_encoder", "tokenizer"},
		{"text_encoder_2", "tokenizer_2"},
		{"unet", "scheduler"},
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < sizeof(implied) / sizeof(implied[0]); i++)
		if (find(checkpoint, implied[i][0]))
			r = add(checkpoint, implied[i][1], NULL, checkpoint->files[0], error);
	return r;
}

char *sde_checkpoint_settings_path(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	char *settings;

	if (asprintf(&settings, "%.*s.sdd.json",
		     (int)((dot && dot > name ? dot : path + strlen(path)) - path), path) < 0)
		return NULL;
	return settings;
}

static int load_settings(struct sde_checkpoint *checkpoint, const char *path,
			 struct sde_error *error)
{
	_cleanup_free_ char *settings = sde_checkpoint_settings_path(path);
	struct sde_error ignored;
	int r;

	if (!settings)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	r = sde_json_load(settings, SDE_JSON_CONFIG_MAX, &checkpoint->settings, &ignored);
	return r < 0 && r != -ENOENT ? sde_error_set(error, r, "%s", ignored.message) : 0;
}

int sde_checkpoint_open_set(const char *const *paths, size_t n, bool pickles,
			    struct sde_checkpoint **ret_checkpoint, struct sde_error *error)
{
	struct sde_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
	int r = 0;

	if (!checkpoint)
		return sde_error_set(error, -ENOMEM, "%s: no memory", paths[0]);
	if (n > FILES_MAX)
		r = sde_error_set(error, -EBADMSG, "%s and others: %zu files; at most %d are a set",
				  paths[0], n, FILES_MAX);
	if (r >= 0)
		r = load_settings(checkpoint, paths[0], error);
	pickles |= json_is_true(json_object_get(checkpoint->settings, "allow_pickle"));
	for (size_t i = 0; r >= 0 && i < n; i++) {
		r = pickles ? sde_tensor_file_open_pickled(paths[i], &checkpoint->files[i], error)
			    : sde_tensor_file_open(paths[i], &checkpoint->files[i], error);
		if (r >= 0)
			r = recognise(checkpoint, checkpoint->files[checkpoint->n_files++], error);
	}
	if (r >= 0)
		r = add_implied(checkpoint, error);
	if (r < 0) {
		sde_checkpoint_free(checkpoint);
		return r;
	}
	*ret_checkpoint = checkpoint;
	return 0;
}

int sde_checkpoint_open(const char *path, struct sde_checkpoint **ret_checkpoint,
			struct sde_error *error)
{
	return sde_checkpoint_open_set(&path, 1, false, ret_checkpoint, error);
}

struct sde_checkpoint *sde_checkpoint_free(struct sde_checkpoint *checkpoint)
{
	if (!checkpoint)
		return NULL;
	for (size_t i = 0; i < checkpoint->n_files; i++)
		sde_tensor_file_unref(checkpoint->files[i]);
	json_decref(checkpoint->settings);
	free(checkpoint);
	return NULL;
}

const char *sde_checkpoint_component(const struct sde_checkpoint *checkpoint, size_t index)
{
	return index < checkpoint->count ? checkpoint->components[index].name : NULL;
}

const json_t *sde_checkpoint_settings(const struct sde_checkpoint *checkpoint)
{
	return checkpoint->settings;
}

static const char *path_of(const struct sde_checkpoint *checkpoint)
{
	return sde_tensor_file_path(checkpoint->files[0]);
}

static int require(const struct sde_checkpoint *checkpoint, const char *name,
		   const struct component **ret_component, struct sde_error *error)
{
	*ret_component = find(checkpoint, name);
	if (!*ret_component)
		return sde_error_set(error, -ENOENT, "%s: holds no '%s'", path_of(checkpoint),
				     name);
	return 0;
}

int sde_checkpoint_weights(const struct sde_checkpoint *checkpoint, const char *name,
			   struct sde_weights **ret_weights, struct sde_error *error)
{
	struct sde_weights *weights __attribute__((cleanup(sde_weights_freep))) = NULL;
	const struct component *component;
	int r;

	r = require(checkpoint, name, &component, error);
	if (r >= 0 && !component->n_sources)
		return sde_error_set(error, -ENOENT, "%s: '%s' has no weights", path_of(checkpoint),
				     name);
	if (r >= 0)
		r = sde_weights_new(sde_tensor_file_path(component->sources[0].file), &weights,
				    error);
	for (size_t i = 0; r >= 0 && i < component->n_sources; i++) {
		const struct source *source = &component->sources[i];
		const struct sde_part part = {source->file, source->probe->prefix};

		r = sde_weights_hold(weights, source->file, error);
		if (r >= 0)
			r = source->probe->map(&part, weights, error);
	}
	if (r >= 0)
		r = sde_weights_seal(weights, error);
	if (r < 0)
		return r;
	*ret_weights = weights;
	weights = NULL;
	return 0;
}

/*
 * SD 2.x files do not say whether they predict noise or v. The 768-pixel models (v) are known by a wider spread of this bias, as
 * ComfyUI found out.
 */
static bool spread_says_v(const struct sde_weights *unet)
{
	const struct sde_tensor *bias =
		sde_weights_find(unet, "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias");
	_cleanup_free_ float *values = NULL;
	double sum = 0, squares = 0, mean;

	if (!bias || !bias->count || !(values = calloc(bias->count, sizeof(*values))) ||
	    sde_tensor_to_f32(bias, values, NULL) < 0)
		return false;
	for (size_t i = 0; i < bias->count; i++) {
		sum += (double)values[i];
		squares += (double)values[i] * (double)values[i];
	}
	mean = sum / (double)bias->count;
	return sqrt(squares / (double)bias->count - mean * mean) > 0.09;
}

static bool is_xl(const struct sde_checkpoint *checkpoint)
{
	return find(checkpoint, "text_encoder_2");
}

/* Tensors without numbers that some files carry as marks. */
static bool has_mark(const struct sde_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < checkpoint->n_files; i++)
		if (sde_tensor_file_find(checkpoint->files[i], name))
			return true;
	return false;
}

static bool predicts_v(const struct sde_checkpoint *checkpoint)
{
	struct sde_weights *unet __attribute__((cleanup(sde_weights_freep))) = NULL;
	const struct component *text = find(checkpoint, "text_encoder");

	if (has_mark(checkpoint, "v_pred"))
		return true;
	if (!text || text->sources[0].probe->map != sde_map_openclip_sd2 ||
	    sde_checkpoint_weights(checkpoint, "unet", &unet, NULL) < 0)
		return false;
	return spread_says_v(unet);
}

static json_t *scheduler_config(const struct sde_checkpoint *checkpoint)
{
	const bool v = predicts_v(checkpoint), zero = has_mark(checkpoint, "ztsnr");

	return json_pack(
		"{s:s, s:i, s:f, s:f, s:s, s:s, s:i, s:s, s:b, s:b, s:b, s:b}", "_class_name",
		is_xl(checkpoint) ? "EulerDiscreteScheduler" : "DDIMScheduler",
		"num_train_timesteps", 1000, "beta_start", 0.00085, "beta_end", 0.012,
		"beta_schedule", "scaled_linear", "prediction_type", v ? "v_prediction" : "epsilon",
		"steps_offset", 1, "timestep_spacing", "leading", "clip_sample", 0,
		"set_alpha_to_one", 0, "skip_prk_steps", 1, "rescale_betas_zero_snr", zero);
}

/* How latents are scaled, by the denoiser beside the autoencoder; alone, by the channels: 16 are taken for FLUX's. */
static json_t *infer_kl(const struct sde_checkpoint *checkpoint, const struct sde_weights *weights)
{
	const struct component *transformer = find(checkpoint, "transformer");
	const struct sde_tensor *conv_in = sde_weights_find(weights, "decoder.conv_in.weight");

	if (transformer && transformer->sources[0].probe->kind == KIND_SD3)
		return sde_infer_kl(weights, 1.5305, 0.0609);
	if (transformer || (conv_in && conv_in->rank == 4 && conv_in->shape[1] == 16))
		return sde_infer_kl(weights, 0.3611, 0.1159);
	return sde_infer_kl(weights, is_xl(checkpoint) ? 0.13025 : 0.18215, 0);
}

static json_t *infer(const struct sde_checkpoint *checkpoint, enum kind kind,
		     const struct sde_weights *weights)
{
	json_t *config;

	switch (kind) {
	case KIND_UNET:
		config = sde_infer_unet(weights);
		if (config && predicts_v(checkpoint) && !is_xl(checkpoint))
			json_object_set_new(config, "sample_size", json_integer(96));
		return config;
	case KIND_KL:
		return infer_kl(checkpoint, weights);
	case KIND_TINY:
		return sde_infer_tiny(weights);
	case KIND_CLIP:
		return sde_infer_clip(weights);
	case KIND_T5:
		return sde_infer_t5(weights);
	case KIND_SD3:
		return sde_infer_sd3(weights);
	case KIND_FLUX:
		return sde_infer_flux(weights);
	}
	return json_object();
}

int sde_checkpoint_config(const struct sde_checkpoint *checkpoint, const char *name,
			  json_t **ret_config, struct sde_error *error)
{
	struct sde_weights *weights __attribute__((cleanup(sde_weights_freep))) = NULL;
	json_t *given = json_object_get(json_object_get(checkpoint->settings, "components"), name);
	_cleanup_json_ json_t *config = NULL;
	const struct component *component;
	int r;

	r = require(checkpoint, name, &component, error);
	if (r >= 0 && component->n_sources)
		r = sde_checkpoint_weights(checkpoint, name, &weights, error);
	if (r < 0)
		return r;
	if (weights)
		config = infer(checkpoint, component->sources[0].probe->kind, weights);
	else
		config = !strcmp(name, "scheduler") ? scheduler_config(checkpoint) : json_object();
	if (!config || (json_is_object(given) && json_object_update(config, given) < 0))
		return sde_error_set(error, -ENOMEM, "%s: no memory for a configuration",
				     path_of(checkpoint));
	*ret_config = config;
	config = NULL;
	return 0;
}
