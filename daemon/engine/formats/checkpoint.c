/*
 * Components from the parts that files hold (probe.h), and their configurations from what the parts look like together; see checkpoint.h.
 */
#include "daemon/engine/formats/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/infer.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/ldm.h"
#include "daemon/engine/formats/probe.h"

#define COMPONENTS_MAX 16
#define FILES_MAX      16
#define SOURCES_MAX    2

/* Where a component's tensors stand. */
struct source {
	const struct sde_probe *probe;
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
	char *path; /* of its file or folder, for messages and as the place of its settings */
	bool is_folder;
	json_t *settings;
	struct component components[COMPONENTS_MAX];
	size_t count;
};

static const struct component *find(const struct sde_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < checkpoint->count; i++)
		if (!strcmp(checkpoint->components[i].name, name))
			return &checkpoint->components[i];
	return NULL;
}

static int set_name(struct sde_checkpoint *checkpoint, const char *name,
		    struct sde_tensor_file *file, struct component **ret_component,
		    struct sde_error *error)
{
	*ret_component = (struct component *)find(checkpoint, name);
	if (*ret_component)
		return 0;
	if (checkpoint->count == COMPONENTS_MAX)
		return sde_error_set(error, -EBADMSG, "%s: more than %d components",
				     sde_tensor_file_path(file), COMPONENTS_MAX);
	*ret_component = &checkpoint->components[checkpoint->count++];
	(*ret_component)->name = name;
	return 0;
}

/* Of two CLIP encoders without a prefix that tells them apart the wider is the second, as in every family that has two. */
static const char *name_clip(struct sde_checkpoint *checkpoint, const struct sde_probe *probe,
			     struct sde_tensor_file *file)
{
	struct component *other = (struct component *)find(checkpoint, probe->component);
	int width = sde_probe_width(probe, file), others;

	if (!other || !other->n_sources || probe->kind != SDE_PART_CLIP || probe->prefix[0] ||
	    other->sources[0].probe->kind != SDE_PART_CLIP || find(checkpoint, "text_encoder_2"))
		return probe->component;
	others = sde_probe_width(other->sources[0].probe, other->sources[0].file);
	if (width < others)
		other->name = "text_encoder_2";
	return width > others ? "text_encoder_2" : probe->component;
}

static int add(struct sde_checkpoint *checkpoint, const struct sde_probe *probe,
	       struct sde_tensor_file *file, struct sde_error *error)
{
	const char *name = name_clip(checkpoint, probe, file);
	struct component *component;
	int r = set_name(checkpoint, name, file, &component, error);

	if (r < 0)
		return r;
	if (component->n_sources > 0 &&
	    (component->n_sources == SOURCES_MAX ||
	     component->sources[0].probe->tensor == probe->tensor ||
	     !sde_probe_is_half(component->sources[0].probe) || !sde_probe_is_half(probe)))
		return sde_error_set(error, -EBADMSG, "'%s' is both in %s and in %s", name,
				     sde_tensor_file_path(component->sources[0].file),
				     sde_tensor_file_path(file));
	component->sources[component->n_sources++] = (struct source){probe, file};
	return 0;
}

static int recognise(struct sde_checkpoint *checkpoint, struct sde_tensor_file *file,
		     struct sde_error *error)
{
	const struct sde_tensor *first = sde_tensor_file_at(file, 0);
	const struct sde_probe *probe;
	size_t position = 0;
	bool known = false;
	int r = 0;

	while (r >= 0 && (probe = sde_probe_next(file, &position))) {
		r = add(checkpoint, probe, file, error);
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

/* The places of a FLUX's two encoders, and what no file holds and every model needs. */
static int settle(struct sde_checkpoint *checkpoint, struct sde_error *error)
{
	static const char *const implied[][2] = {
		{"text_encoder", "tokenizer"},
		{"text_encoder_2", "tokenizer_2"},
		{"text_encoder_3", "tokenizer_3"},
		{"unet", "scheduler"},
	};
	const struct component *transformer = find(checkpoint, "transformer");
	struct component *t5 = (struct component *)find(checkpoint, "text_encoder_3"), *ignored;
	int r = 0;

	if (t5 && transformer && transformer->sources[0].probe->kind == SDE_PART_FLUX &&
	    !find(checkpoint, "text_encoder_2"))
		t5->name = "text_encoder_2";
	for (size_t i = 0; r >= 0 && i < sizeof(implied) / sizeof(implied[0]); i++)
		if (find(checkpoint, implied[i][0]))
			r = set_name(checkpoint, implied[i][1], checkpoint->files[0], &ignored,
				     error);
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

static int load_settings(struct sde_checkpoint *checkpoint, struct sde_error *error)
{
	_cleanup_free_ char *settings = NULL;
	struct sde_error ignored;
	int r;

	if (!checkpoint->is_folder)
		settings = sde_checkpoint_settings_path(checkpoint->path);
	else if (asprintf(&settings, "%s/sdd.json", checkpoint->path) < 0)
		settings = NULL;
	if (!settings)
		return sde_error_set(error, -ENOMEM, "%s: no memory", checkpoint->path);
	r = sde_json_load(settings, SDE_JSON_CONFIG_MAX, &checkpoint->settings, &ignored);
	return r < 0 && r != -ENOENT ? sde_error_set(error, r, "%s", ignored.message) : 0;
}

int sde_checkpoint_new(const char *path, struct sde_checkpoint **ret_checkpoint,
		       struct sde_error *error)
{
	struct sde_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
	struct stat st;
	int r;

	if (!checkpoint || !(checkpoint->path = strdup(path))) {
		free(checkpoint);
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	}
	checkpoint->is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	r = load_settings(checkpoint, error);
	if (r < 0) {
		sde_checkpoint_free(checkpoint);
		return r;
	}
	*ret_checkpoint = checkpoint;
	return 0;
}

int sde_checkpoint_add(struct sde_checkpoint *checkpoint, const char *path, bool pickles,
		       struct sde_error *error)
{
	struct sde_tensor_file *file = NULL;
	int r;

	if (checkpoint->n_files == FILES_MAX)
		return sde_error_set(error, -EBADMSG, "%s and others: at most %d files are a set",
				     path, FILES_MAX);
	if (pickles || json_is_true(json_object_get(checkpoint->settings, "allow_pickle")))
		r = sde_tensor_file_open_pickled(path, &file, error);
	else
		r = sde_tensor_file_open(path, &file, error);
	if (r < 0)
		return r;
	checkpoint->files[checkpoint->n_files++] = file;
	r = recognise(checkpoint, file, error);
	return r < 0 ? r : settle(checkpoint, error);
}

int sde_checkpoint_open_set(const char *const *paths, size_t n, bool pickles,
			    struct sde_checkpoint **ret_checkpoint, struct sde_error *error)
{
	struct sde_checkpoint *checkpoint = NULL;
	int r;

	r = sde_checkpoint_new(paths[0], &checkpoint, error);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = sde_checkpoint_add(checkpoint, paths[i], pickles, error);
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
	free(checkpoint->path);
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

const char *sde_checkpoint_file(const struct sde_checkpoint *checkpoint, const char *name)
{
	const struct component *component = find(checkpoint, name);

	return component && component->n_sources ? sde_tensor_file_path(component->sources[0].file)
						 : NULL;
}

bool sde_checkpoint_is_folder(const struct sde_checkpoint *checkpoint)
{
	return checkpoint->is_folder;
}

char *sde_checkpoint_resolve(const struct sde_checkpoint *checkpoint, const char *name)
{
	const char *slash = strrchr(checkpoint->path, '/');
	char *path;
	int r;

	if (name[0] == '/')
		return strdup(name);
	if (checkpoint->is_folder)
		r = asprintf(&path, "%s/%s", checkpoint->path, name);
	else
		r = asprintf(&path, "%.*s%s", slash ? (int)(slash + 1 - checkpoint->path) : 0,
			     checkpoint->path, name);
	return r < 0 ? NULL : path;
}

static int require(const struct sde_checkpoint *checkpoint, const char *name,
		   const struct component **ret_component, struct sde_error *error)
{
	*ret_component = find(checkpoint, name);
	if (!*ret_component)
		return sde_error_set(error, -ENOENT, "%s: holds no '%s'", checkpoint->path, name);
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
		return sde_error_set(error, -ENOENT, "%s: '%s' has no weights", checkpoint->path,
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

	if (transformer && transformer->sources[0].probe->kind == SDE_PART_SD3)
		return sde_infer_kl(weights, 1.5305, 0.0609);
	if (transformer || (conv_in && conv_in->rank == 4 && conv_in->shape[1] == 16))
		return sde_infer_kl(weights, 0.3611, 0.1159);
	return sde_infer_kl(weights, is_xl(checkpoint) ? 0.13025 : 0.18215, 0);
}

static json_t *infer(const struct sde_checkpoint *checkpoint, enum sde_part_kind kind,
		     const struct sde_weights *weights)
{
	json_t *config;

	switch (kind) {
	case SDE_PART_UNET:
		config = sde_infer_unet(weights);
		if (config && predicts_v(checkpoint) && !is_xl(checkpoint))
			json_object_set_new(config, "sample_size", json_integer(96));
		return config;
	case SDE_PART_KL:
		return infer_kl(checkpoint, weights);
	case SDE_PART_TINY:
		return sde_infer_tiny(weights);
	case SDE_PART_CLIP:
		return sde_infer_clip(weights);
	case SDE_PART_T5:
		return sde_infer_t5(weights);
	case SDE_PART_SD3:
		return sde_infer_sd3(weights);
	case SDE_PART_FLUX:
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
				     checkpoint->path);
	*ret_config = config;
	config = NULL;
	return 0;
}
