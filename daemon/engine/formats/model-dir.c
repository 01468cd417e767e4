/*
 * The diffusers folder layout: see model-dir.h.
 */
#include "daemon/engine/formats/model-dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/parts.h"

#define COMPONENTS_MAX 64

/* What a folder without a model_index.json is searched for. */
static const char *const known_components[] = {
	"unet",		  "transformer",    "vae",	 "vqvae",	"text_encoder",
	"text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3",
	"scheduler",
};

static bool is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode);
}

static int no_memory(const char *path, struct sde_error *error)
{
	return sde_error_set(error, -ENOMEM, "%s: no memory", path);
}

/* names are borrowed from the index or static. */
static int add_component(struct sde_model_dir *dir, const char *name, const char *library,
			 const char *class_name, struct sde_error *error)
{
	struct sde_component component = {
		.name = name,
		.library = library,
		.class_name = class_name,
	};

	if (dir->count == COMPONENTS_MAX)
		return sde_error_set(error, -EBADMSG, "%s: more than %d components", dir->path,
				     COMPONENTS_MAX);
	if (asprintf(&component.path, "%s/%s", dir->path, name) < 0)
		return no_memory(dir->path, error);
	dir->components[dir->count++] = component;
	return 0;
}

static int read_index(struct sde_model_dir *dir, struct sde_error *error)
{
	const char *name;
	json_t *value;
	int r;

	json_object_foreach (dir->index, name, value) {
		const char *library = json_string_value(json_array_get(value, 0));
		const char *class_name = json_string_value(json_array_get(value, 1));

		if (name[0] == '_' || json_array_size(value) != 2 || !library || !class_name)
			continue; /* a flag, a version, or [null, null] */
		if (name[0] == '.' || strchr(name, '/'))
			return sde_error_set(error, -EBADMSG,
					     "%s/model_index.json: component '%s' is not the name "
					     "of a folder beside it",
					     dir->path, name);
		r = add_component(dir, name, library, class_name, error);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_folder(const struct sde_model_dir *dir, const char *const *names, size_t n)
{
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", dir->path, names[i]) < 0)
			path = NULL;
		found |= path && is_folder(path);
	}
	return found;
}

/* Files that hold a part each (parts.h) rather than folders of components; unet/ and vae/ may be either. */
static bool is_split(const struct sde_model_dir *dir)
{
	static const char *const folders[] = {"diffusion_models", "text_encoders", "clip"};

	return has_folder(dir, folders, sizeof(folders) / sizeof(folders[0])) ||
	       !has_folder(dir, known_components,
			   sizeof(known_components) / sizeof(known_components[0]));
}

static int look_around(struct sde_model_dir *dir, struct sde_error *error)
{
	int r;

	for (size_t i = 0; i < sizeof(known_components) / sizeof(known_components[0]); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", dir->path, known_components[i]) < 0) {
			path = NULL;
			return no_memory(dir->path, error);
		}
		if (!is_folder(path))
			continue;
		r = add_component(dir, known_components[i], NULL, NULL, error);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_checkpoint(struct sde_model_dir *dir, struct sde_error *error)
{
	const char *name;
	int r;

	r = sde_parts_open(dir->path, &dir->checkpoint, error);
	for (size_t i = 0; r >= 0 && (name = sde_checkpoint_component(dir->checkpoint, i)); i++) {
		struct sde_component component = {.name = name, .checkpoint = dir->checkpoint};

		if (asprintf(&component.path, "%s:%s", dir->path, name) < 0)
			return no_memory(dir->path, error);
		dir->components[dir->count++] = component;
	}
	return r;
}

static int open_inner(struct sde_model_dir *dir, struct sde_error *error)
{
	_cleanup_free_ char *index = NULL;
	struct stat st;
	int r;

	if (stat(dir->path, &st) < 0)
		return sde_error_set(error, -errno, "%s: %s", dir->path, strerror(errno));
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return sde_error_set(error, -ENOTDIR, "%s: is neither a folder nor a file",
				     dir->path);
	dir->components = calloc(COMPONENTS_MAX, sizeof(*dir->components));
	if (!dir->components)
		return no_memory(dir->path, error);
	if (S_ISREG(st.st_mode))
		return read_checkpoint(dir, error);
	if (asprintf(&index, "%s/model_index.json", dir->path) < 0) {
		index = NULL;
		return no_memory(dir->path, error);
	}
	if (!is_file(index))
		return is_split(dir) ? read_checkpoint(dir, error) : look_around(dir, error);
	r = sde_json_load(index, SDE_JSON_CONFIG_MAX, &dir->index, error);
	if (r < 0)
		return r;
	return read_index(dir, error);
}

int sde_model_dir_open(const char *path, struct sde_model_dir **ret_dir, struct sde_error *error)
{
	struct sde_model_dir *dir = calloc(1, sizeof(*dir));
	size_t length;
	int r;

	if (!dir || !(dir->path = strdup(path))) {
		free(dir);
		return no_memory(path, error);
	}
	length = strlen(dir->path);
	while (length > 1 && dir->path[length - 1] == '/')
		dir->path[--length] = '\0';
	r = open_inner(dir, error);
	if (r < 0) {
		sde_model_dir_free(dir);
		return r;
	}
	*ret_dir = dir;
	return 0;
}

struct sde_model_dir *sde_model_dir_free(struct sde_model_dir *dir)
{
	if (!dir)
		return NULL;
	for (size_t i = 0; i < dir->count; i++)
		free(dir->components[i].path);
	free(dir->components);
	sde_checkpoint_free(dir->checkpoint);
	json_decref(dir->index);
	free(dir->path);
	free(dir);
	return NULL;
}

const struct sde_component *sde_model_dir_find(const struct sde_model_dir *dir, const char *name)
{
	for (size_t i = 0; i < dir->count; i++)
		if (!strcmp(dir->components[i].name, name))
			return &dir->components[i];
	return NULL;
}

int sde_model_dir_require(const struct sde_model_dir *dir, const char *name,
			  const struct sde_component **ret_component, struct sde_error *error)
{
	const struct sde_component *component = sde_model_dir_find(dir, name);

	if (!component)
		return sde_error_set(error, -ENOENT, "%s: the %s has no component '%s'", dir->path,
				     dir->checkpoint ? "file" : "model", name);
	if (!component->checkpoint && !is_folder(component->path))
		return sde_error_set(error, -ENOENT,
				     "%s: model_index.json lists '%s', but the folder %s is "
				     "missing",
				     dir->path, name, component->path);
	*ret_component = component;
	return 0;
}

int sde_model_dir_settings(const struct sde_model_dir *dir, json_t **ret_object,
			   struct sde_error *error)
{
	_cleanup_free_ char *path = NULL;
	struct sde_error ignored;
	int r;

	*ret_object = NULL;
	if (dir->checkpoint) {
		*ret_object = json_incref((json_t *)sde_checkpoint_settings(dir->checkpoint));
		return 0;
	}
	if (asprintf(&path, "%s/sdd.json", dir->path) < 0) {
		path = NULL;
		return no_memory(dir->path, error);
	}
	r = sde_json_load(path, SDE_JSON_CONFIG_MAX, ret_object, &ignored);
	return r < 0 && r != -ENOENT ? sde_error_set(error, r, "%s", ignored.message) : 0;
}

int sde_component_config(const struct sde_component *component, json_t **ret_config,
			 struct sde_error *error)
{
	const bool scheduler = !strcmp(component->name, "scheduler");
	_cleanup_free_ char *path = NULL;

	if (component->checkpoint)
		return sde_checkpoint_config(component->checkpoint, component->name, ret_config,
					     error);
	if (asprintf(&path, "%s/%s", component->path,
		     scheduler ? "scheduler_config.json" : "config.json") < 0) {
		path = NULL;
		return no_memory(component->path, error);
	}
	return sde_json_load(path, SDE_JSON_CONFIG_MAX, ret_config, error);
}

/* 1 with *ret_path when the file exists. */
static int candidate(const char *folder, const char *base, const char *variant, bool sharded,
		     char **ret_path)
{
	char *path;
	int r;

	if (sharded)
		r = asprintf(&path, "%s/%s.safetensors.index%s.json", folder, base, variant);
	else
		r = asprintf(&path, "%s/%s%s.safetensors", folder, base, variant);
	if (r < 0)
		return -ENOMEM;
	if (is_file(path)) {
		*ret_path = path;
		return 1;
	}
	free(path);
	return 0;
}

static bool has_pickle(const char *folder)
{
	static const char *const endings[] = {".bin", ".ckpt", ".pt", ".pth", ".pkl"};
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		const char *dot = strrchr(entry->d_name, '.');

		for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
			found |= !strcmp(dot, endings[i]);
	}
	if (dir)
		closedir(dir);
	return found;
}

int sde_component_weights_path(const struct sde_component *component, char **ret_path,
			       struct sde_error *error)
{
	static const char *const bases[] = {"diffusion_pytorch_model", "model"};
	static const char *const variants[] = {"", ".fp16", ".bf16"};
	int r;

	for (size_t v = 0; v < 3; v++)
		for (int sharded = 0; sharded < 2; sharded++)
			for (size_t b = 0; b < 2; b++) {
				r = candidate(component->path, bases[b], variants[v], sharded,
					      ret_path);
				if (r < 0)
					return no_memory(component->path, error);
				if (r > 0)
					return 0;
			}
	return sde_error_set(error, -ENOENT,
			     "%s: no weights: neither diffusion_pytorch_model.safetensors nor "
			     "model.safetensors (nor .fp16, .bf16 or sharded ones)%s",
			     component->path,
			     has_pickle(component->path)
				     ? "; the pickle files there can run any program and are never "
				       "executed: convert them to .safetensors"
				     : "");
}

int sde_component_weights(const struct sde_component *component, struct sde_weights **ret_weights,
			  struct sde_error *error)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (component->checkpoint)
		return sde_checkpoint_weights(component->checkpoint, component->name, ret_weights,
					      error);
	r = sde_component_weights_path(component, &path, error);
	if (r < 0)
		return r;
	return sde_weights_open(path, ret_weights, error);
}
