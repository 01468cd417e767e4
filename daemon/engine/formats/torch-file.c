/*
 * From a pickle's values to tensors: see torch-file.h. A tensor is the call of _rebuild_tensor_v2 with a storage, an offset, a shape and strides; the
 * storage is a key, its bytes stand under that key in the archive, or in the order of a list behind the old format's pickle.
 */
#include "daemon/engine/formats/torch-file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/pickle.h"
#include "daemon/engine/formats/zip.h"

#define PICKLE_BYTES_MAX ((size_t)16 << 20)
#define TENSORS_MAX	 65536
#define OLD_HEADS	 3 /* pickles before the old format's own: magic number, protocol, system */

struct storage {
	const char *key; /* not terminated */
	size_t key_length, offset, bytes;
	bool placed;
	enum sde_dtype dtype;
};

struct sde_torch_file {
	struct sde_mapping mapping;
	const unsigned char *map; /* its bytes */
	struct sde_zip zip;
	struct sde_pickle *pickle;
	struct storage *storages; /* of the tensors, in their order */
	struct sde_tensor *tensors;
	size_t count;
};

static const struct {
	const char *global;
	enum sde_dtype dtype;
} storage_types[] = {
	{"torch FloatStorage", SDE_DTYPE_F32},	   {"torch HalfStorage", SDE_DTYPE_F16},
	{"torch BFloat16Storage", SDE_DTYPE_BF16}, {"torch DoubleStorage", SDE_DTYPE_F64},
	{"torch LongStorage", SDE_DTYPE_I64},	   {"torch IntStorage", SDE_DTYPE_I32},
	{"torch ShortStorage", SDE_DTYPE_I16},	   {"torch CharStorage", SDE_DTYPE_I8},
	{"torch ByteStorage", SDE_DTYPE_U8},	   {"torch BoolStorage", SDE_DTYPE_BOOL},
};

bool sde_torch_file_looks_like(const unsigned char *head, size_t size)
{
	return size >= 4 && (!memcmp(head, "PK\003\004", 4) ||
			     (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5));
}

static const struct sde_pickle_value *item(const struct sde_pickle_value *value, size_t i)
{
	return value && i < value->count ? value->items[i] : NULL;
}

static bool is_int(const struct sde_pickle_value *value)
{
	return value && value->kind == SDE_PICKLE_INT && value->number >= 0;
}

static bool is_tuple(const struct sde_pickle_value *value)
{
	return value && value->kind == SDE_PICKLE_TUPLE;
}

static int broken(const struct sde_tensor *tensor, struct sde_error *error)
{
	return sde_error_set(error, -EBADMSG, "tensor '%.120s': its pickle describes no tensor",
			     tensor->name);
}

/* ("storage", type, key, device, elements[, view]) */
static int read_storage(const struct sde_pickle_value *persistent, struct storage *storage,
			const struct sde_tensor *tensor, struct sde_error *error)
{
	const struct sde_pickle_value *id = item(persistent, 0), *type = item(id, 1);
	const struct sde_pickle_value *key = item(id, 2), *view = item(id, 5);

	if (!persistent || persistent->kind != SDE_PICKLE_PERSISTENT || !is_tuple(id) ||
	    !sde_pickle_is(item(id, 0), "storage") || !key || key->kind != SDE_PICKLE_STRING ||
	    !type || type->kind != SDE_PICKLE_GLOBAL || (view && view->kind != SDE_PICKLE_NONE))
		return broken(tensor, error);
	for (size_t i = 0; i < sizeof(storage_types) / sizeof(storage_types[0]); i++)
		if (!strcmp(type->global, storage_types[i].global)) {
			storage->dtype = storage_types[i].dtype;
			storage->key = key->text;
			storage->key_length = key->length;
			return 0;
		}
	return broken(tensor, error);
}

/* Contiguous in torch's order, as every state dict is; else the bytes would have to be gathered. */
static bool is_contiguous(const struct sde_tensor *tensor, const struct sde_pickle_value *strides)
{
	int64_t want = 1;

	for (int i = tensor->rank - 1; i >= 0; i--) {
		if (tensor->shape[i] != 1 && strides->items[i]->number != want)
			return false;
		want *= tensor->shape[i];
	}
	return true;
}

/* arguments: storage, offset, shape, strides, ... The offset, in elements, stays in tensor->bytes until the storage has its place. */
static int read_rebuilt(const struct sde_pickle_value *arguments, struct sde_tensor *tensor,
			struct storage *storage, struct sde_error *error)
{
	const struct sde_pickle_value *offset = item(arguments, 1), *shape = item(arguments, 2);
	const struct sde_pickle_value *strides = item(arguments, 3);
	int r;

	if (!is_tuple(arguments) || !is_int(offset) || !is_tuple(shape) || !is_tuple(strides) ||
	    shape->count != strides->count || shape->count > SDE_TENSOR_RANK_MAX)
		return broken(tensor, error);
	r = read_storage(item(arguments, 0), storage, tensor, error);
	if (r < 0)
		return r;
	tensor->dtype = storage->dtype;
	tensor->rank = (int)shape->count;
	tensor->count = 1;
	for (size_t i = 0; i < shape->count; i++) {
		if (!is_int(shape->items[i]) || !is_int(strides->items[i]) ||
		    __builtin_mul_overflow(tensor->count, (size_t)shape->items[i]->number,
					   &tensor->count) ||
		    tensor->count > PTRDIFF_MAX / 8)
			return broken(tensor, error);
		tensor->shape[i] = shape->items[i]->number;
	}
	if (tensor->count > 0 && !is_contiguous(tensor, strides))
		return sde_error_set(error, -ENOTSUP,
				     "tensor '%.120s' does not lie in the order of its shape",
				     tensor->name);
	tensor->bytes = (size_t)offset->number;
	return 0;
}

/* 1 when the value is a tensor. */
static int read_tensor(const struct sde_pickle_value *value, struct sde_tensor *tensor,
		       struct storage *storage, struct sde_error *error)
{
	const struct sde_pickle_value *function = item(value, 0);
	int r;

	if (value->kind == SDE_PICKLE_CALL &&
	    sde_pickle_is(function, "torch._utils _rebuild_parameter")) {
		value = item(item(value, 1), 0);
		function = item(value, 0);
	}
	if (!value || value->kind != SDE_PICKLE_CALL ||
	    (!sde_pickle_is(function, "torch._utils _rebuild_tensor_v2") &&
	     !sde_pickle_is(function, "torch._utils _rebuild_tensor")))
		return 0;
	r = read_rebuilt(item(value, 1), tensor, storage, error);
	return r < 0 ? r : 1;
}

static int read_state_dict(struct sde_torch_file *file, const struct sde_pickle_value *root,
			   struct sde_error *error)
{
	const struct sde_pickle_value *inner = sde_pickle_get(root, "state_dict");
	const struct sde_pickle_value *dict =
		inner && inner->kind == SDE_PICKLE_DICT ? inner : root;
	int r;

	if (dict->kind != SDE_PICKLE_DICT)
		return sde_error_set(error, -EBADMSG, "its pickle holds no state dict");
	if (dict->count / 2 > TENSORS_MAX)
		return sde_error_set(error, -EBADMSG, "more than %d tensors", TENSORS_MAX);
	file->tensors = calloc(dict->count / 2 + 1, sizeof(*file->tensors));
	file->storages = calloc(dict->count / 2 + 1, sizeof(*file->storages));
	if (!file->tensors || !file->storages)
		return sde_error_set(error, -ENOMEM, "no memory for its index");
	for (size_t i = 0; i + 1 < dict->count; i += 2) {
		struct sde_tensor *tensor = &file->tensors[file->count];
		const struct sde_pickle_value *key = dict->items[i];

		if (key->kind != SDE_PICKLE_STRING || memchr(key->text, '\0', key->length))
			continue;
		tensor->name = strndup(key->text, key->length);
		if (!tensor->name)
			return sde_error_set(error, -ENOMEM, "no memory for its index");
		file->count++; /* so that the name is freed whatever comes */
		r = read_tensor(dict->items[i + 1], tensor, &file->storages[file->count - 1],
				error);
		if (r < 0)
			return r;
		if (r == 0) { /* a step count, a mark: no tensor */
			free((char *)tensor->name);
			memset(tensor, 0, sizeof(*tensor));
			file->count--;
		}
	}
	return 0;
}

static int place(struct sde_torch_file *file, size_t i, struct sde_error *error)
{
	const struct storage *storage = &file->storages[i];
	struct sde_tensor *tensor = &file->tensors[i];
	const size_t size = sde_dtype_block(tensor->dtype).bytes, offset = tensor->bytes;
	const size_t elements = storage->bytes / size;

	if (!storage->placed || offset > elements || tensor->count > elements - offset)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%.120s': its storage is %s (truncated download?)",
				     tensor->name, storage->placed ? "too short" : "missing");
	tensor->bytes = tensor->count * size;
	tensor->data = file->map + storage->offset + offset * size;
	tensor->file = file->mapping.path;
	tensor->map = file->map;
	tensor->map_bytes = file->mapping.size;
	return 0;
}

/* The entry ROOT/data/KEY, ROOT being that of ROOT/data.pkl. */
static void place_in_archive(struct sde_torch_file *file, struct storage *storage,
			     const char *pickle_name)
{
	const size_t root = strlen(pickle_name) - strlen("data.pkl");

	for (size_t i = 0; i < file->zip.count && !storage->placed; i++) {
		const struct sde_zip_entry *entry = &file->zip.entries[i];

		if (strncmp(entry->name, pickle_name, root) != 0 ||
		    strncmp(entry->name + root, "data/", 5) != 0 ||
		    strlen(entry->name + root + 5) != storage->key_length ||
		    memcmp(entry->name + root + 5, storage->key, storage->key_length) != 0)
			continue;
		storage->offset = entry->offset;
		storage->bytes = entry->size;
		storage->placed = true;
	}
}

static int read_pickle(const unsigned char *bytes, size_t size, struct sde_pickle **ret_pickle,
		       const struct sde_pickle_value **ret_value, size_t *ret_used,
		       struct sde_error *error)
{
	return sde_pickle_read((const char *)bytes,
			       size < PICKLE_BYTES_MAX ? size : PICKLE_BYTES_MAX, ret_pickle,
			       ret_value, ret_used, error);
}

static int open_archive(struct sde_torch_file *file, struct sde_error *error)
{
	const struct sde_zip_entry *pickle = NULL;
	const struct sde_pickle_value *root;
	int r;

	r = sde_zip_index(file->map, file->mapping.size, &file->zip, error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < file->zip.count && !pickle; i++) {
		const char *name = file->zip.entries[i].name;
		const size_t length = strlen(name);

		if (length >= 8 && !strcmp(name + length - 8, "data.pkl") &&
		    (length == 8 || name[length - 9] == '/'))
			pickle = &file->zip.entries[i];
	}
	if (!pickle)
		return sde_error_set(error, -EBADMSG,
				     "a zip archive, but none of torch: no data.pkl in it");
	r = read_pickle(file->map + pickle->offset, pickle->size, &file->pickle, &root, NULL,
			error);
	if (r >= 0)
		r = read_state_dict(file, root, error);
	for (size_t i = 0; r >= 0 && i < file->count; i++) {
		place_in_archive(file, &file->storages[i], pickle->name);
		r = place(file, i, error);
	}
	return r;
}

/* Give every storage of this key its place at *at (a count, then the bytes) and move *at behind it. */
static int place_next(struct sde_torch_file *file, const struct sde_pickle_value *key, size_t *at,
		      struct sde_error *error)
{
	size_t bytes = 0;
	uint64_t elements;

	if (key->kind != SDE_PICKLE_STRING || file->mapping.size - *at < sizeof(elements))
		return sde_error_set(error, -EBADMSG, "its storages are cut off");
	memcpy(&elements, file->map + *at, sizeof(elements));
	*at += sizeof(elements);
	for (size_t i = 0; i < file->count; i++) {
		struct storage *storage = &file->storages[i];

		if (storage->key_length != key->length ||
		    memcmp(storage->key, key->text, key->length) != 0)
			continue;
		if (__builtin_mul_overflow(elements, sde_dtype_block(storage->dtype).bytes,
					   &bytes) ||
		    bytes > file->mapping.size - *at)
			return sde_error_set(error, -EBADMSG, "its storages are cut off");
		storage->offset = *at;
		storage->bytes = bytes;
		storage->placed = true;
	}
	*at += bytes;
	return bytes || !elements ? 0
				  : sde_error_set(error, -ENOTSUP,
						  "it has a storage that no tensor of its state "
						  "dict is in");
}

static int open_old(struct sde_torch_file *file, struct sde_error *error)
{
	const struct sde_pickle_value *value;
	struct sde_pickle *pickle;
	size_t at = 0, used = 0;
	int r = 0;

	for (int i = 0; r >= 0 && i < OLD_HEADS; i++, at += used) {
		r = read_pickle(file->map + at, file->mapping.size - at, &pickle, &value, &used,
				error);
		if (r >= 0)
			sde_pickle_free(pickle);
	}
	if (r >= 0)
		r = read_pickle(file->map + at, file->mapping.size - at, &file->pickle, &value,
				&used, error);
	if (r >= 0)
		r = read_state_dict(file, value, error);
	if (r < 0)
		return r;
	at += used;
	r = read_pickle(file->map + at, file->mapping.size - at, &pickle, &value, &used, error);
	if (r < 0)
		return r;
	at += used;
	if (value->kind != SDE_PICKLE_LIST)
		r = sde_error_set(error, -EBADMSG, "no list of storages behind its pickle");
	for (size_t i = 0; r >= 0 && i < value->count; i++)
		r = place_next(file, value->items[i], &at, error);
	sde_pickle_free(pickle);
	for (size_t i = 0; r >= 0 && i < file->count; i++)
		r = place(file, i, error);
	return r;
}

int sde_torch_file_open(const char *path, struct sde_torch_file **ret_file, struct sde_error *error)
{
	struct sde_torch_file *file = calloc(1, sizeof(*file));
	int r;

	if (!file)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	r = sde_mapping_open(path, &file->mapping, error);
	if (r >= 0) {
		file->map = file->mapping.bytes;
		if (!file->map)
			r = sde_error_set(error, -EBADMSG, "is empty");
		else if (file->mapping.size >= 4 && !memcmp(file->map, "PK", 2))
			r = open_archive(file, error);
		else
			r = open_old(file, error);
		if (r < 0)
			sde_error_prefix(error, "%s", path);
	}
	if (r < 0) {
		sde_torch_file_free(file);
		return r;
	}
	*ret_file = file;
	return 0;
}

struct sde_torch_file *sde_torch_file_free(struct sde_torch_file *file)
{
	if (!file)
		return NULL;
	for (size_t i = 0; i < file->count; i++)
		free((char *)file->tensors[i].name);
	free(file->tensors);
	free(file->storages);
	sde_pickle_free(file->pickle);
	sde_zip_clear(&file->zip);
	sde_mapping_clear(&file->mapping);
	free(file);
	return NULL;
}

size_t sde_torch_file_count(const struct sde_torch_file *file)
{
	return file->count;
}

const struct sde_tensor *sde_torch_file_at(const struct sde_torch_file *file, size_t index)
{
	return index < file->count ? &file->tensors[index] : NULL;
}
