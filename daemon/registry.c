/*
 * Finding model folders and files; see registry.h.
 */
#include "daemon/registry.h"
#include "daemon/model-file.h"
#include "daemon/model-stamp.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"
#include "daemon/util/part-folders.h"
#include "daemon/util/size.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NAME_MAX_BYTES = 127,
	FOLDERS_MAX = 64, /* component folders looked into for the size of a model */
	ENTRIES_MAX =
		4096, /* entries looked at in one folder, and in those that its parts are sorted into */
};

/* Noisy latents, mask, and the latents of what stays: 4 + 1 + 4 of SD, 16 + 64 + 16 of FLUX fill. */
static bool fills(const struct sdd_model *model)
{
	return model->facts.in_channels == 9 || model->facts.in_channels == 96;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

void sdd_registry_init(struct sdd_registry *registry, char *const *roots, size_t n_roots,
		       const char *default_name)
{
	*registry = (struct sdd_registry){
		.roots = roots,
		.n_roots = n_roots,
		.default_name = default_name,
		.files = sdd_model_files_known(),
	};
	sdd_list_init(&registry->models);
}

static void model_free(struct sdd_registry *registry, struct sdd_model *model)
{
	sdd_list_remove(&model->link);
	registry->n_models--;
	registry->changes++;
	free(model->name);
	free(model->path);
	free(model);
}

void sdd_registry_clear(struct sdd_registry *registry)
{
	struct sdd_model *model, *following;

	sdd_list_for_each_safe (model, following, &registry->models, link)
		model_free(registry, model);
	sdd_memo_clear(&registry->files);
}

struct sdd_model *sdd_registry_known(struct sdd_registry *registry, const char *name)
{
	struct sdd_model *model;

	sdd_list_for_each (model, &registry->models, link)
		if (strcmp(model->name, name) == 0)
			return model;
	return NULL;
}

/* Names go into logs, shells and file names of clients: no blanks, no slashes, no leading dot. */
static bool name_is_usable(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > NAME_MAX_BYTES || *name == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-+", *name))
			return false;
	return true;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static uint64_t weights_in(int dir_fd, int depth)
{
	SDD_CLEANUP(closedirp) DIR *dir = NULL;
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), seen = 0;
	const struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;

	if (copy < 0)
		return 0;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return 0;
	}
	while ((entry = readdir(dir)) && seen++ < ENTRIES_MAX) {
		if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, 0) < 0)
			continue;
		if (S_ISREG(st.st_mode) && (ends_with(entry->d_name, ".safetensors") ||
					    ends_with(entry->d_name, ".bin"))) {
			bytes = sdd_u64_add_saturated(bytes, (uint64_t)st.st_size);
		} else if (S_ISDIR(st.st_mode) && depth > 0) {
			SDD_CLEANUP(sdd_closep)
			int fd = openat(dirfd(dir), entry->d_name,
					O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			if (fd >= 0)
				bytes = sdd_u64_add_saturated(bytes, weights_in(fd, depth - 1));
		}
	}
	return bytes;
}

static void insert_by_name(struct sdd_registry *registry, struct sdd_model *model)
{
	struct sdd_list *place = registry->models.next;

	while (place != &registry->models &&
	       strcmp(sdd_container_of(place, struct sdd_model, link)->name, model->name) < 0)
		place = place->next;
	sdd_list_insert_between(&model->link, place->previous, place);
	registry->n_models++;
}

/* A model of the last scan, which may lie elsewhere now, or be another. */
static int see_again(struct sdd_registry *registry, struct sdd_model *model, const char *path,
		     const struct sdd_model_facts *facts, uint64_t weight_bytes)
{
	const uint64_t stamp = sdd_model_stamp(path);
	char *copy;

	model->seen = true;
	model->leaving = false;
	if (model->stamp != stamp) {
		registry->changes++;
		if (model->state == SDP_MODEL_STATE_FAILED) {
			model->state = SDP_MODEL_STATE_UNLOADED;
			model->error[0] = '\0';
		}
	}
	model->stamp = stamp;
	/* what the worker said about a loaded model is truer than its files, which may have changed since */
	if (model->state != SDP_MODEL_STATE_LOADED && model->state != SDP_MODEL_STATE_LOADING) {
		model->weight_bytes = weight_bytes;
		model->facts = *facts;
	}
	if (strcmp(model->path, path) == 0)
		return 0;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(model->path);
	model->path = copy;
	return 0;
}

/* The first folder or file with a name wins, as with PATH. */
static int add_model(struct sdd_registry *registry, const char *path, const char *name,
		     const struct sdd_model_facts *facts, uint64_t weight_bytes)
{
	struct sdd_model *model = sdd_registry_known(registry, name);

	if (model)
		return model->seen ? 0 : see_again(registry, model, path, facts, weight_bytes);
	if (registry->n_models == SDD_REGISTRY_MODELS_MAX)
		return 0;
	model = calloc(1, sizeof(*model));
	if (!model)
		return -ENOMEM;
	sdd_list_init(&model->link);
	model->name = strdup(name);
	model->path = strdup(path);
	if (!model->name || !model->path) {
		free(model->name);
		free(model->path);
		free(model);
		return -ENOMEM;
	}
	model->state = SDP_MODEL_STATE_UNLOADED;
	model->weight_bytes = weight_bytes;
	model->facts = *facts;
	model->stamp = sdd_model_stamp(path);
	model->seen = true;
	registry->changes++;
	sdd_estimate_init(&model->estimate);
	insert_by_name(registry, model);
	return 0;
}

static int try_folder(struct sdd_registry *registry, const char *path, const char *name)
{
	SDD_CLEANUP(sdd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct sdd_model_facts facts;

	if (fd < 0 || !name_is_usable(name) ||
	    (faccessat(fd, "model_index.json", R_OK, 0) < 0 &&
	     faccessat(fd, "sdd.json", R_OK, 0) < 0))
		return 0;
	sdd_model_facts_read(fd, &facts);
	return add_model(registry, path, name, &facts, weights_in(fd, 1));
}

/* beside_parts: it lies where the parts that it lacks are looked for. */
static int try_file(struct sdd_registry *registry, const char *path, bool beside_parts)
{
	const char *base = strrchr(path, '/') + 1;
	const size_t length = sdd_model_file_name_length(base);
	char name[NAME_MAX_BYTES + 1];
	struct sdd_model_facts facts;
	uint64_t bytes;

	if (length > NAME_MAX_BYTES)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)length, base);
	if (!name_is_usable(name) || !sdd_model_file_read(path, &registry->files, &facts, &bytes))
		return 0;
	facts.lacks_parts &= !beside_parts;
	return add_model(registry, path, name, &facts, bytes);
}

static int scan_root_itself(struct sdd_registry *registry, const char *root)
{
	SDD_CLEANUP(closedirp) DIR *dir = opendir(root);
	const struct dirent *entry;
	int r = 0, seen = 0;

	while (r == 0 && dir && (entry = readdir(dir)) && seen++ < ENTRIES_MAX) {
		SDD_CLEANUP(sdd_freep) char *path = NULL;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", root, entry->d_name) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		r = entry->d_type == DT_REG ? 0 : try_folder(registry, path, entry->d_name);
		if (r == 0 && entry->d_type != DT_DIR)
			r = try_file(registry, path, false);
	}
	return r;
}

/* One of ComfyUI's folders, and what people sort its files into; *seen: entries of all of them. */
static int scan_parts(struct sdd_registry *registry, const char *folder, int depth, int *seen)
{
	SDD_CLEANUP(closedirp) DIR *dir = opendir(folder);
	const struct dirent *entry;
	struct stat st;
	int r = 0;

	while (r == 0 && dir && (entry = readdir(dir)) && (*seen)++ < ENTRIES_MAX) {
		SDD_CLEANUP(sdd_freep) char *path = NULL;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (entry->d_type == DT_REG || stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			r = try_file(registry, path, true);
		else if (depth > 0)
			r = scan_parts(registry, path, depth - 1, seen);
	}
	return r;
}

static int scan_root(struct sdd_registry *registry, const char *root)
{
	SDD_CLEANUP(sdd_freep) char *absolute = realpath(root, NULL);
	int r;

	if (!absolute)
		return errno == ENOMEM ? -ENOMEM : 0;
	/* it may be a model itself */
	r = try_folder(registry, absolute, strrchr(absolute, '/') + 1);
	if (r == 0)
		r = try_file(registry, absolute, false);
	if (r == 0)
		r = scan_root_itself(registry, absolute);
	for (size_t i = 0; r == 0 && i < SDD_PART_FOLDERS; i++) {
		SDD_CLEANUP(sdd_freep) char *path = NULL;
		int seen = 0;

		if (asprintf(&path, "%s/%s", absolute, sdd_part_folders[i]) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		r = scan_parts(registry, path, SDD_PART_FOLDERS_DEPTH, &seen);
	}
	return r;
}

int sdd_registry_scan(struct sdd_registry *registry)
{
	struct sdd_model *model, *following;
	int r = 0;

	sdd_list_for_each (model, &registry->models, link)
		model->seen = false;
	registry->scanned_us = sdd_now_us();
	for (size_t i = 0; i < registry->n_roots && r == 0; i++)
		r = scan_root(registry, registry->roots[i]);
	if (r < 0)
		return r;
	sdd_list_for_each_safe (model, following, &registry->models, link) {
		if (!model->seen && (model->state == SDP_MODEL_STATE_UNLOADED ||
				     model->state == SDP_MODEL_STATE_FAILED))
			model_free(registry, model);
	}
	return 0;
}

static struct sdd_model *default_model(struct sdd_registry *registry)
{
	struct sdd_model *model;

	if (registry->default_name)
		return sdd_registry_known(registry, registry->default_name);
	for (int lacking = 0; lacking < 2; lacking++)
		sdd_list_for_each (model, &registry->models, link)
			if (!fills(model) && model->facts.lacks_parts <= lacking)
				return model;
	return sdd_list_first(&registry->models, struct sdd_model, link);
}

/* In memory, or where the last scan found it. */
static bool is_there(const struct sdd_model *model)
{
	return model->state == SDP_MODEL_STATE_LOADED || model->state == SDP_MODEL_STATE_LOADING ||
	       access(model->path, F_OK) == 0;
}

struct sdd_model *sdd_registry_find(struct sdd_registry *registry, const char *name)
{
	struct sdd_model *model;

	model = *name ? sdd_registry_known(registry, name) : default_model(registry);
	if (model ? is_there(model)
		  : registry->is_current && registry->is_current(registry->userdata))
		return model;
	if (sdd_registry_scan(registry) < 0)
		return model;
	return *name ? sdd_registry_known(registry, name) : default_model(registry);
}

struct sdd_model *sdd_registry_choose(struct sdd_registry *registry, const char *name,
				      enum sdp_job_kind kind)
{
	struct sdd_model *model = sdd_registry_find(registry, name), *companion;

	if (!model || (kind != SDP_JOB_KIND_INPAINT && kind != SDP_JOB_KIND_OUTPAINT))
		return model;
	companion = sdd_registry_known(registry, model->facts.inpaint);
	return companion ? companion : model;
}

bool sdd_registry_is_default(struct sdd_registry *registry, const struct sdd_model *model)
{
	return default_model(registry) == model;
}

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

void sdd_model_learn(struct sdd_model *model, const struct sdp_record *info)
{
	struct sdd_model_facts *facts = &model->facts;

	copy_text(model->family, sizeof(model->family),
		  sdp_record_string(info, SDP_MODEL_INFO_FAMILY));
	copy_text(facts->sampler, sizeof(facts->sampler),
		  sdp_record_string(info, SDP_MODEL_INFO_DEFAULT_SAMPLER));
	facts->in_channels = sdp_record_int(info, SDP_MODEL_INFO_IN_CHANNELS);
	facts->native_size = sdp_record_int(info, SDP_MODEL_INFO_NATIVE_SIZE);
	facts->default_steps = sdp_record_int(info, SDP_MODEL_INFO_DEFAULT_STEPS);
	facts->default_guidance = sdp_record_double(info, SDP_MODEL_INFO_DEFAULT_GUIDANCE);
	if (sdp_record_given(info, SDP_MODEL_INFO_WEIGHT_BYTES))
		model->weight_bytes = sdp_record_uint(info, SDP_MODEL_INFO_WEIGHT_BYTES);
	model->load_ms = sdp_record_uint(info, SDP_MODEL_INFO_LOAD_MS);
	model->shared_bytes = sdp_record_uint(info, SDP_MODEL_INFO_SHARED_BYTES);
	model->weights = (enum sdp_weights_form)sdp_record_int(info, SDP_MODEL_INFO_WEIGHTS);
}

void sdd_model_write(const struct sdd_model *model, bool is_default, struct sdp_writer *writer)
{
	const struct sdd_model_facts *facts = &model->facts;

	sdp_writer_string(writer, "name", model->name);
	sdp_writer_string(writer, "state", sdp_enum_model_state.values[model->state]);
	sdp_writer_bool(writer, "default", is_default);
	sdp_writer_uint(writer, "weight_bytes", model->weight_bytes);
	sdp_writer_string(writer, "kind", sdp_enum_model_kind.values[facts->kind]);
	if (model->hash[0] && model->hash_stamp == model->stamp)
		sdp_writer_string(writer, "hash", model->hash);
	if (model->family[0]) {
		sdp_writer_string(writer, "family", model->family);
		sdp_writer_uint(writer, "load_ms", model->load_ms);
	}
	if (facts->in_channels > 0)
		sdp_writer_int(writer, "in_channels", facts->in_channels);
	if (facts->native_size > 0)
		sdp_writer_int(writer, "native_size", facts->native_size);
	if (facts->sampler[0])
		sdp_writer_string(writer, "default_sampler", facts->sampler);
	if (facts->default_steps > 0)
		sdp_writer_int(writer, "default_steps", facts->default_steps);
	if (facts->default_guidance >= 0.0)
		sdp_writer_double(writer, "default_guidance", facts->default_guidance);
	if (facts->inpaint[0])
		sdp_writer_string(writer, "inpaint", facts->inpaint);
	if (model->state == SDP_MODEL_STATE_LOADED) {
		sdp_writer_string(writer, "weights", sdp_enum_weights_form.values[model->weights]);
		sdp_writer_uint(writer, "shared_bytes", model->shared_bytes);
	}
	if (model->error[0])
		sdp_writer_string(writer, "error", model->error);
}
