/*
 * Finding the parts of a model: see parts.h. Only headers are read of files that turn out not to be needed.
 */
#include "daemon/engine/formats/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/probe.h"
#include "daemon/engine/formats/tensor-file.h"
#include "daemon/util/part-folders.h"

#define FILES_MAX   256	 /* that hold a part, for one model */
#define ENTRIES_MAX 4096 /* of folders, that are looked at for one model */
#define NEEDS_MAX   4
#define SIZE_IDS    256 /* channels of one number that SDXL is told */

static const char *const folders[] = {"diffusion_models", "unet", "text_encoders", "clip", "vae"};

/* A file that holds one part. */
struct candidate {
	struct sde_tensor_file *file;
	enum sde_part_kind kind;
	int width; /* sde_probe_width */
	bool near; /* in a folder of the same name as the denoiser's, below their kinds' */
};

struct need {
	const char *component, *what;
	enum sde_part_kind kind;
	int width;
	bool optional;
};

struct search {
	struct candidate files[FILES_MAX];
	size_t n_files;
	struct need needs[NEEDS_MAX];
	size_t n_needs;
	bool denoisers; /* are looked for too */
	char *sorted;	/* owned: the denoiser's folder below its kind's, "" for none */
	size_t n_entries;
	char looked[128]; /* for messages */
};

static void searchp(struct search **search)
{
	for (size_t i = 0; *search && i < (*search)->n_files; i++)
		sde_tensor_file_unref((*search)->files[i].file);
	if (*search)
		free((*search)->sorted);
	free(*search);
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Copies and links of a file are one. What holds several parts is a model of its own. */
static void look_into(struct search *search, const char *path, bool near)
{
	struct candidate *candidate = &search->files[search->n_files];
	const struct sde_probe *probe, *second;
	size_t position = 0;

	if (search->n_files == FILES_MAX || sde_tensor_file_open(path, &candidate->file, NULL) < 0)
		return;
	probe = sde_probe_next(candidate->file, &position);
	second = sde_probe_next(candidate->file, &position);
	for (size_t i = 0; probe && i < search->n_files; i++)
		if (search->files[i].file == candidate->file)
			probe = NULL;
	if (!probe || second || (sde_part_is_denoiser(probe->kind) && !search->denoisers)) {
		sde_tensor_file_unref(candidate->file);
		return;
	}
	candidate->kind = probe->kind;
	candidate->width = sde_probe_width(probe, candidate->file);
	candidate->near = near;
	search->n_files++;
}

/* Its files, and those of folders below it as deep. sorted: where it lies below its kind's folder. */
static void look_around(struct search *search, const char *folder, const char *sorted, int depth)
{
	const bool near = strcmp(sorted, search->sorted) == 0;
	struct dirent **entries = NULL;
	const int n = scandir(folder, &entries, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = NULL, *below = NULL;
		const char *name = entries[i]->d_name;
		struct stat st;

		if (name[0] == '.' || search->n_entries == ENTRIES_MAX ||
		    asprintf(&path, "%s/%s", folder, name) < 0)
			path = NULL;
		if (path)
			search->n_entries++;
		if (path && stat(path, &st) == 0 && S_ISDIR(st.st_mode) && depth > 0) {
			if (asprintf(&below, "%s%s%s", sorted, sorted[0] ? "/" : "", name) < 0)
				below = NULL;
			if (below)
				look_around(search, path, below, depth - 1);
		} else if (path && S_ISREG(st.st_mode)) {
			look_into(search, path, near);
		}
		free(entries[i]);
	}
	free(entries);
}

static void look_around_and_tell(struct search *search, const char *folder, int depth)
{
	const size_t used = strlen(search->looked);

	if (access(folder, F_OK) == 0)
		snprintf(search->looked + used, sizeof(search->looked) - used, "%s%s/",
			 used ? ", " : "", name_of(folder));
	look_around(search, folder, "", depth);
}

/* A folder, and those below it that have the names of kinds of parts. */
static void look_below(struct search *search, const char *folder)
{
	look_around_and_tell(search, folder, 0);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		_cleanup_free_ char *below = NULL;

		if (asprintf(&below, "%s/%s", folder, folders[i]) < 0)
			below = NULL;
		if (below)
			look_around_and_tell(search, below, SDD_PART_FOLDERS_DEPTH);
	}
}

/* Where a model's parts may lie: path is of its file or folder. 0 or -ENOMEM. */
static int look(struct search *search, const char *path, bool is_folder)
{
	_cleanup_free_ char *home = NULL;
	const char *below = NULL, *kind = is_folder ? NULL : sdd_part_folder(path, &below);
	const char *slash = strrchr(path, '/'), *end = kind ? kind : slash ? slash + 1 : path;

	home = is_folder    ? strdup(path)
	       : end > path ? strndup(path, (size_t)(end - 1 - path))
			    : strdup(".");
	search->sorted =
		kind && slash > below ? strndup(below, (size_t)(slash - below)) : strdup("");
	if (!home || !search->sorted)
		return -ENOMEM;
	look_below(search, home);
	return 0;
}

static int int_of(const json_t *config, const char *key)
{
	return (int)json_integer_value(json_object_get(config, key));
}

static void need(struct search *search, const char *component, enum sde_part_kind kind, int width)
{
	search->needs[search->n_needs++] = (struct need){
		.component = component,
		.what = kind == SDE_PART_KL   ? "an autoencoder of %d latent channels"
			: kind == SDE_PART_T5 ? "a T5 of width %d"
					      : "a CLIP text encoder of width %d",
		.kind = kind,
		.width = width,
	};
}

/* The narrower of two CLIP encoders, of which the denoiser tells the sum: as the files that are there make it up, else 768. */
static int first_of_two(const struct search *search, int sum)
{
	for (size_t i = 0; i < search->n_files; i++)
		for (size_t k = 0; k < search->n_files; k++)
			if (search->files[i].kind == SDE_PART_CLIP &&
			    search->files[k].kind == SDE_PART_CLIP &&
			    search->files[i].width < search->files[k].width &&
			    search->files[i].width + search->files[k].width == sum)
				return search->files[i].width;
	return sum > 768 ? 768 : sum / 2;
}

static void need_two_clips(struct search *search, int sum)
{
	const int first = first_of_two(search, sum);

	need(search, "text_encoder", SDE_PART_CLIP, first);
	need(search, "text_encoder_2", SDE_PART_CLIP, sum - first);
}

/* What a denoiser attends to and is told besides says which encoders it was trained with. */
static void list_needs(struct search *search, const json_t *config)
{
	const char *class_name = json_string_value(json_object_get(config, "_class_name"));
	const int attends = int_of(config, "cross_attention_dim");
	const int added = int_of(config, "projection_class_embeddings_input_dim");
	const int pooled = int_of(config, "pooled_projection_dim");
	const int told = int_of(config, "addition_time_embed_dim");
	const int size_ids = told > 0 ? told : SIZE_IDS;

	if (!strcmp(class_name, "FluxTransformer2DModel")) {
		need(search, "vae", SDE_PART_KL, int_of(config, "out_channels") / 4);
		need(search, "text_encoder", SDE_PART_CLIP, pooled);
		need(search, "text_encoder_2", SDE_PART_T5, int_of(config, "joint_attention_dim"));
		return;
	}
	need(search, "vae", SDE_PART_KL, int_of(config, "out_channels"));
	if (!strcmp(class_name, "SD3Transformer2DModel")) {
		need_two_clips(search, pooled);
		need(search, "text_encoder_3", SDE_PART_T5, int_of(config, "joint_attention_dim"));
		search->needs[search->n_needs - 1].optional = true;
	} else if (added == attends + 5 * size_ids) { /* SDXL's refiner: four sizes and a score */
		need(search, "text_encoder_2", SDE_PART_CLIP, attends);
	} else if (added > 0) {
		need_two_clips(search, attends);
	} else {
		need(search, "text_encoder", SDE_PART_CLIP, attends);
	}
}

static bool has(const struct sde_checkpoint *checkpoint, const char *component)
{
	return sde_checkpoint_file(checkpoint, component);
}

static int ambiguous(const struct sde_checkpoint *checkpoint, const char *path, const char *what,
		     const struct candidate *a, const struct candidate *b, struct sde_error *error)
{
	return sde_error_set(
		error, -EBADMSG, "%s: both %s and %s are %s; name one in \"parts\" of its %s", path,
		name_of(sde_tensor_file_path(a->file)), name_of(sde_tensor_file_path(b->file)),
		what, sde_checkpoint_is_folder(checkpoint) ? "sdd.json" : ".sdd.json");
}

/* The one file that fits, first of those sorted as the denoiser is; *ret_found stays NULL when there is none. */
static int choose(const struct search *search, const struct sde_checkpoint *checkpoint,
		  const char *path, const struct need *wanted, const char **ret_found,
		  struct sde_error *error)
{
	const struct candidate *found = NULL;
	char what[80];

	snprintf(what, sizeof(what), wanted->what, wanted->width);
	for (int near = 1; near >= 0 && !found; near--)
		for (size_t i = 0; i < search->n_files; i++) {
			const struct candidate *candidate = &search->files[i];

			if (candidate->kind != wanted->kind || candidate->width != wanted->width ||
			    candidate->near < near)
				continue;
			if (found)
				return ambiguous(checkpoint, path, what, found, candidate, error);
			found = candidate;
		}
	*ret_found = found ? sde_tensor_file_path(found->file) : NULL;
	return 0;
}

/* Nothing that the model cannot do without has to be looked for. */
static bool is_complete(const struct sde_checkpoint *checkpoint, const struct search *search)
{
	for (size_t i = 0; i < search->n_needs; i++)
		if (!search->needs[i].optional && !has(checkpoint, search->needs[i].component))
			return false;
	return true;
}

static int complete(struct sde_checkpoint *checkpoint, struct search *search, const char *path,
		    struct sde_error *error)
{
	char missing[160] = "";
	int r = 0;

	for (size_t i = 0; r >= 0 && i < search->n_needs; i++) {
		const struct need *wanted = &search->needs[i];
		const char *file = NULL;
		size_t used = strlen(missing);

		if (has(checkpoint, wanted->component))
			continue;
		r = choose(search, checkpoint, path, wanted, &file, error);
		if (r >= 0 && file) {
			r = sde_checkpoint_add(checkpoint, file, false, error);
		} else if (r >= 0 && !wanted->optional) {
			char what[80];

			snprintf(what, sizeof(what), wanted->what, wanted->width);
			snprintf(missing + used, sizeof(missing) - used, "%s%s", used ? ", " : "",
				 what);
		}
	}
	if (r >= 0 && missing[0])
		return sde_error_set(
			error, -ENOENT,
			"%s: needs %s; none is in %s: put it there or name the files in "
			"%s: {\"parts\": [\"FILE\", ...]}",
			path, missing, search->looked,
			sde_checkpoint_is_folder(checkpoint) ? "sdd.json"
							     : "a .sdd.json beside it");
	return r;
}

static int add_listed(struct sde_checkpoint *checkpoint, const char *path, struct sde_error *error)
{
	const json_t *parts = json_object_get(sde_checkpoint_settings(checkpoint), "parts");
	const json_t *name;
	size_t i;
	int r = 0;

	if (parts && !json_is_array(parts))
		return sde_error_set(error, -EINVAL,
				     "%s: 'parts' of its settings is no list of files", path);
	json_array_foreach (parts, i, name) {
		_cleanup_free_ char *file = NULL;

		if (!json_is_string(name))
			return sde_error_set(error, -EINVAL,
					     "%s: 'parts' of its settings is no list of files",
					     path);
		file = sde_checkpoint_resolve(checkpoint, json_string_value(name));
		if (!file)
			return sde_error_set(error, -ENOMEM, "%s: no memory", path);
		r = sde_checkpoint_add(checkpoint, file, false, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of a folder that names no denoiser: the one that lies in it. */
static int add_denoiser(struct sde_checkpoint *checkpoint, const struct search *search,
			const char *path, struct sde_error *error)
{
	const struct candidate *found = NULL;

	for (size_t i = 0; i < search->n_files; i++)
		if (sde_part_is_denoiser(search->files[i].kind)) {
			if (found)
				return ambiguous(checkpoint, path, "denoisers", found,
						 &search->files[i], error);
			found = &search->files[i];
		}
	if (!found)
		return sde_error_set(
			error, -EBADMSG,
			"%s: no model: neither model_index.json, folders like "
			"unet/ and vae/ of diffusers, nor a file with a denoiser in %s",
			path, search->looked);
	return sde_checkpoint_add(checkpoint, sde_tensor_file_path(found->file), false, error);
}

static const char *denoiser_of(const struct sde_checkpoint *checkpoint)
{
	return has(checkpoint, "unet")		? "unet"
	       : has(checkpoint, "transformer") ? "transformer"
						: NULL;
}

static int find_parts(struct sde_checkpoint *checkpoint, const char *path, struct sde_error *error)
{
	const bool is_folder = sde_checkpoint_is_folder(checkpoint);
	struct search *search __attribute__((cleanup(searchp))) = NULL;
	_cleanup_json_ json_t *config = NULL;
	int r = 0;

	if (!is_folder && !denoiser_of(checkpoint))
		return 0;
	search = calloc(1, sizeof(*search));
	if (!search)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	search->denoisers = !denoiser_of(checkpoint);
	if (search->denoisers) {
		r = look(search, path, is_folder);
		r = r < 0 ? sde_error_set(error, r, "%s: no memory", path)
			  : add_denoiser(checkpoint, search, path, error);
	}
	if (r >= 0)
		r = sde_checkpoint_config(checkpoint, denoiser_of(checkpoint), &config, error);
	if (r < 0)
		return r;
	if (!json_is_string(json_object_get(config, "_class_name")))
		return sde_error_set(error, -EBADMSG,
				     "%s: '_class_name' in its settings must be a string", path);
	list_needs(search, config);
	if (is_complete(checkpoint, search))
		return 0;
	if (!search->sorted && look(search, path, is_folder) < 0)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	search->n_needs = 0; /* again: of two encoders the files tell the widths */
	list_needs(search, config);
	return complete(checkpoint, search, path, error);
}

int sde_parts_open(const char *path, struct sde_checkpoint **ret_checkpoint,
		   struct sde_error *error)
{
	struct sde_checkpoint *checkpoint = NULL;
	int r;

	r = sde_checkpoint_new(path, &checkpoint, error);
	if (r >= 0 && !sde_checkpoint_is_folder(checkpoint))
		r = sde_checkpoint_add(checkpoint, path, false, error);
	if (r >= 0)
		r = add_listed(checkpoint, path, error);
	if (r >= 0)
		r = find_parts(checkpoint, path, error);
	if (r < 0) {
		sde_checkpoint_free(checkpoint);
		return r;
	}
	*ret_checkpoint = checkpoint;
	return 0;
}
