/*
 * Tensors by name over one or several files: see weights.h. A sorted array and binary search, as in tensor-file.c.
 */
#include "daemon/engine/formats/weights.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/formats/json.h"
#include "daemon/util/hash.h"

#define SHARDS_MAX 1024

struct entry {
	const struct sde_tensor *tensor;
	struct sde_tensor *own; /* what tensor points to when it is not the file's */
	char *name;		/* owned, when it is not the file's */
	void *data;		/* owned, when it is not the file's */
	bool taken;
};

struct sde_weights {
	unsigned int references;    /* one's own and of those who share data */
	struct sde_weights *origin; /* whose data these are, NULL: their own */
	char *path;
	struct sde_tensor_file **files;
	size_t file_count;
	struct entry *entries; /* sorted by name, once sealed */
	size_t count, room;
	struct sde_patch *patch;
	atomic_ulong *pulse;
	enum sdk_keep keep;
	struct sde_content_memo memo;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->tensor->name,
		      ((const struct entry *)b)->tensor->name);
}

/* Index of the first name >= name. */
static size_t lower_bound(const struct sde_weights *weights, const char *name)
{
	size_t low = 0, high = weights->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(weights->entries[middle].tensor->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct entry *find_entry(const struct sde_weights *weights, const char *name)
{
	size_t i = lower_bound(weights, name);

	if (i < weights->count && !strcmp(weights->entries[i].tensor->name, name))
		return &weights->entries[i];
	return NULL;
}

int sde_weights_seal(struct sde_weights *weights, struct sde_error *error)
{
	if (weights->count)
		qsort(weights->entries, weights->count, sizeof(*weights->entries), by_name);
	for (size_t i = 1; i < weights->count; i++)
		if (!by_name(&weights->entries[i - 1], &weights->entries[i]))
			return sde_error_set(error, -EBADMSG, "tensor '%s' is both in %s and in %s",
					     weights->entries[i].tensor->name,
					     weights->entries[i - 1].tensor->file,
					     weights->entries[i].tensor->file);
	return 0;
}

static struct entry *entry_new(struct sde_weights *weights)
{
	struct entry *grown;

	if (weights->count == weights->room) {
		grown = reallocarray(weights->entries, 2 * weights->room + 64,
				     sizeof(*weights->entries));
		if (!grown)
			return NULL;
		weights->entries = grown;
		weights->room = 2 * weights->room + 64;
	}
	weights->entries[weights->count] = (struct entry){0};
	return &weights->entries[weights->count++];
}

int sde_weights_hold(struct sde_weights *weights, struct sde_tensor_file *file,
		     struct sde_error *error)
{
	struct sde_tensor_file **grown =
		reallocarray(weights->files, weights->file_count + 1, sizeof(*weights->files));

	if (!grown)
		return sde_error_set(error, -ENOMEM, "%s: no memory", weights->path);
	weights->files = grown;
	grown[weights->file_count++] = sde_tensor_file_ref(file);
	return 0;
}

uint64_t sde_weights_state(const struct sde_weights *weights)
{
	uint64_t state = 0;

	for (size_t i = 0; i < weights->file_count; i++)
		state = sdd_hash_mix(state, sde_tensor_file_state(weights->files[i]));
	return state;
}

uint64_t sde_weights_state_now(const struct sde_weights *weights)
{
	uint64_t state = 0;

	for (size_t i = 0; i < weights->file_count; i++)
		state = sdd_hash_mix(state, sde_tensor_file_state_now(weights->files[i]));
	return state;
}

struct sde_content_memo *sde_weights_memo(const struct sde_weights *weights)
{
	/* a memo changes nothing that anybody sees */
	return &((struct sde_weights *)weights)->memo;
}

int sde_weights_add(struct sde_weights *weights, const char *name, const struct sde_tensor *tensor,
		    void *data, struct sde_error *error)
{
	struct entry *entry = entry_new(weights);

	if (entry) {
		entry->tensor = tensor; /* so that what is half done can be freed */
		entry->name = strdup(name);
		entry->own = malloc(sizeof(*entry->own));
	}
	if (!entry || !entry->name || !entry->own) {
		free(data);
		return sde_error_set(error, -ENOMEM, "%s: no memory for tensor '%s'", weights->path,
				     name);
	}
	*entry->own = *tensor;
	entry->own->name = entry->name;
	entry->data = data;
	if (data) {
		entry->own->data = data;
		entry->own->map = NULL;
	}
	entry->tensor = entry->own;
	return 0;
}

int sde_weights_add_rows(struct sde_weights *weights, const char *name,
			 const struct sde_tensor *tensor, int64_t first, int64_t rows,
			 struct sde_error *error)
{
	const struct sde_dtype_block block = sde_dtype_block(tensor->dtype);
	struct sde_tensor part = *tensor;
	size_t row;

	if (tensor->rank < 1 || first < 0 || rows < 1 || first > tensor->shape[0] - rows)
		return sde_error_set(error, -EBADMSG, "%s: tensor '%s' has no rows %lld to %lld",
				     tensor->file, tensor->name, (long long)first,
				     (long long)(first + rows));
	row = tensor->count / (size_t)tensor->shape[0];
	if ((size_t)first * row % block.elements != 0 || (size_t)rows * row % block.elements != 0)
		return sde_error_set(error, -EBADMSG,
				     "%s: tensor '%s' cannot be cut: its %s blocks reach over rows",
				     tensor->file, tensor->name, sde_dtype_name(tensor->dtype));
	part.shape[0] = rows;
	part.count = (size_t)rows * row;
	part.bytes = part.count / block.elements * block.bytes;
	part.data = (const char *)tensor->data + (size_t)first * row / block.elements * block.bytes;
	return sde_weights_add(weights, name, &part, NULL, error);
}

/* All tensors of a file under their own names. */
static int add_file(struct sde_weights *weights, const char *path, struct sde_error *error)
{
	struct sde_tensor_file *file __attribute__((cleanup(sde_tensor_file_unrefp))) = NULL;
	struct entry *entry;
	int r;

	r = sde_tensor_file_open(path, &file, error);
	if (r >= 0)
		r = sde_weights_hold(weights, file, error);
	for (size_t i = 0; r >= 0 && i < sde_tensor_file_count(file); i++) {
		entry = entry_new(weights);
		if (!entry)
			return sde_error_set(error, -ENOMEM, "%s: no memory for its tensors", path);
		entry->tensor = sde_tensor_file_at(file, i);
	}
	return r;
}

static bool is_plain_file_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int open_shards(struct sde_weights *weights, struct sde_error *error)
{
	_cleanup_json_ json_t *index = NULL, *seen = json_object();
	const int folder =
		(int)(strrchr(weights->path, '/') ? strrchr(weights->path, '/') - weights->path + 1
						  : 0);
	const struct sde_tensor_file *file;
	json_t *map, *value;
	const char *name;
	int r;

	r = sde_json_load(weights->path, SDE_JSON_INDEX_MAX, &index, error);
	if (r < 0)
		return r;
	map = json_object_get(index, "weight_map");
	if (!json_is_object(map))
		return sde_error_set(error, -EBADMSG, "%s: no \"weight_map\" object",
				     weights->path);
	json_object_foreach (map, name, value) {
		const char *shard = json_string_value(value);
		_cleanup_free_ char *path = NULL;

		if (!shard || !is_plain_file_name(shard))
			return sde_error_set(error, -EBADMSG,
					     "%s: tensor '%s': its shard must be the name of a "
					     "file in the same folder",
					     weights->path, name);
		if (json_object_get(seen, shard))
			continue;
		if (weights->file_count == SHARDS_MAX)
			return sde_error_set(error, -EBADMSG, "%s: more than %d shards",
					     weights->path, SHARDS_MAX);
		if (asprintf(&path, "%.*s%s", folder, weights->path, shard) < 0) {
			path = NULL;
			return sde_error_set(error, -ENOMEM, "%s: no memory", weights->path);
		}
		r = add_file(weights, path, error);
		if (r < 0)
			return r;
		if (json_object_set_new(seen, shard,
					json_integer((json_int_t)weights->file_count - 1)) < 0)
			return sde_error_set(error, -ENOMEM, "%s: no memory", weights->path);
	}
	r = sde_weights_seal(weights, error);
	if (r < 0)
		return r;
	json_object_foreach (map, name, value) {
		const struct sde_tensor *tensor = sde_weights_find(weights, name);

		/* by the file itself: one that is open already goes by its first path */
		file = weights->files[json_integer_value(
			json_object_get(seen, json_string_value(value)))];
		if (!tensor || sde_tensor_file_find(file, name) != tensor)
			return sde_error_set(error, -EBADMSG,
					     "%s: tensor '%s' is not in %s as listed",
					     weights->path, name, json_string_value(value));
	}
	return 0;
}

int sde_weights_new(const char *path, struct sde_weights **ret_weights, struct sde_error *error)
{
	struct sde_weights *weights = calloc(1, sizeof(*weights));

	if (!weights || !(weights->path = strdup(path))) {
		free(weights);
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	}
	weights->references = 1;
	*ret_weights = weights;
	return 0;
}

int sde_weights_open(const char *path, struct sde_weights **ret_weights, struct sde_error *error)
{
	const size_t length = strlen(path);
	struct sde_weights *weights = NULL;
	int r;

	r = sde_weights_new(path, &weights, error);
	if (r < 0)
		return r;
	if (length > 5 && !strcmp(path + length - 5, ".json")) {
		r = open_shards(weights, error);
	} else {
		r = add_file(weights, path, error);
		if (r >= 0)
			r = sde_weights_seal(weights, error);
	}
	if (r < 0) {
		sde_weights_free(weights);
		return r;
	}
	*ret_weights = weights;
	return 0;
}

struct sde_weights *sde_weights_free(struct sde_weights *weights)
{
	if (!weights || --weights->references > 0)
		return NULL;
	for (size_t i = 0; i < weights->count; i++) {
		free(weights->entries[i].own);
		free(weights->entries[i].name);
		free(weights->entries[i].data);
	}
	for (size_t i = 0; i < weights->file_count; i++)
		sde_tensor_file_unref(weights->files[i]);
	sde_weights_free(weights->origin);
	free(weights->files);
	free(weights->entries);
	free(weights->path);
	free(weights);
	return NULL;
}

const char *sde_weights_path(const struct sde_weights *weights)
{
	return weights->path;
}

uint64_t sde_weights_bytes(const struct sde_weights *weights)
{
	uint64_t total = 0;

	for (size_t i = 0; i < weights->count; i++)
		total += weights->entries[i].tensor->bytes;
	return total;
}

size_t sde_weights_count(const struct sde_weights *weights)
{
	return weights->count;
}

const struct sde_tensor *sde_weights_at(const struct sde_weights *weights, size_t index)
{
	return index < weights->count ? weights->entries[index].tensor : NULL;
}

const struct sde_tensor *sde_weights_find(const struct sde_weights *weights, const char *name)
{
	const struct entry *entry = find_entry(weights, name);

	return entry ? entry->tensor : NULL;
}

bool sde_weights_has_prefix(const struct sde_weights *weights, const char *prefix)
{
	size_t i = lower_bound(weights, prefix);

	return i < weights->count &&
	       !strncmp(weights->entries[i].tensor->name, prefix, strlen(prefix));
}

/* GGUF writers drop leading dimensions of 1. */
static bool shape_matches(const struct sde_tensor *tensor, int rank, const int64_t *shape)
{
	const int missing = rank - tensor->rank;

	if (missing < 0)
		return false;
	for (int i = 0; i < rank; i++) {
		const int64_t have = i < missing ? 1 : tensor->shape[i - missing];

		if (shape[i] != have && (shape[i] != -1 || i < missing))
			return false;
	}
	return true;
}

/* The entry's own copy of the struct, in place of the file's. -ENOMEM. */
static int make_own(struct entry *entry, struct sde_error *error)
{
	if (!entry->own) {
		entry->own = malloc(sizeof(*entry->own));
		if (!entry->own)
			return sde_error_set(error, -ENOMEM, "no memory for tensor '%s'",
					     entry->tensor->name);
		*entry->own = *entry->tensor;
		entry->tensor = entry->own;
	}
	return 0;
}

static int give_rank(struct entry *entry, int rank, struct sde_error *error)
{
	const int missing = rank - entry->tensor->rank;
	int r;

	r = make_own(entry, error);
	if (r < 0)
		return r;
	for (int i = rank - 1; i >= 0; i--)
		entry->own->shape[i] = i < missing ? 1 : entry->own->shape[i - missing];
	entry->own->rank = rank;
	return 0;
}

/* As far as it can be told without looking at the data. */
static bool outlines_match(const struct sde_weights *a, const struct sde_weights *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct sde_tensor *left = a->entries[i].tensor, *right = b->entries[i].tensor;

		if (left->dtype != right->dtype || left->bytes != right->bytes ||
		    left->scale != right->scale || strcmp(left->name, right->name) != 0)
			return false;
	}
	return true;
}

static bool data_match(const struct sde_weights *a, const struct sde_weights *b)
{
	for (size_t i = 0; i < a->count; i++) {
		const struct sde_tensor *left = a->entries[i].tensor, *right = b->entries[i].tensor;

		if (left->data != right->data && memcmp(left->data, right->data, left->bytes) != 0)
			return false;
		sde_weights_beat(a);
	}
	return true;
}

static bool is_unchanged(const struct sde_weights *weights)
{
	return sde_weights_state_now(weights) == sde_weights_state(weights);
}

/* No memory: nothing is taken, and both go on as they are. */
static bool take_data(struct sde_weights *weights, struct sde_weights *origin)
{
	struct sde_tensor_file **files = calloc(origin->file_count + 1, sizeof(*files));

	for (size_t i = 0; files && i < weights->count; i++)
		if (make_own(&weights->entries[i], NULL) < 0) {
			free(files);
			return false;
		}
	if (!files)
		return false;
	for (size_t i = 0; i < weights->count; i++) {
		struct entry *entry = &weights->entries[i];
		const struct sde_tensor *tensor = origin->entries[i].tensor;

		if (!entry->name) /* the file's, which goes */
			entry->own->name = tensor->name;
		entry->own->file = weights->path; /* for messages */
		entry->own->data = tensor->data;
		entry->own->map = tensor->map;
		entry->own->map_bytes = tensor->map_bytes;
		free(entry->data);
		entry->data = NULL;
	}
	for (size_t i = 0; i < origin->file_count; i++)
		files[i] = sde_tensor_file_ref(origin->files[i]);
	for (size_t i = 0; i < weights->file_count; i++)
		sde_tensor_file_unref(weights->files[i]);
	free(weights->files);
	weights->files = files;
	weights->file_count = origin->file_count;
	weights->memo = origin->memo;
	weights->origin = origin;
	origin->references++;
	return true;
}

bool sde_weights_share(struct sde_weights *weights, struct sde_weights *other)
{
	bool same;

	if (!outlines_match(weights, other) || !is_unchanged(weights) || !is_unchanged(other))
		return false;
	same = data_match(weights, other);
	/* the pages that were read for it */
	sde_weights_release(weights);
	sde_weights_release(other);
	return same && is_unchanged(weights) && is_unchanged(other) &&
	       take_data(weights, other->origin ? other->origin : other);
}

/*
 * The format allows a header of any length, so data need not lie at a multiple of its type's size in the mapping. Kernels need it
 * there: such a tensor is copied once, when a model takes it.
 */
static int align(struct entry *entry, struct sde_error *error)
{
	const struct sde_tensor *tensor = entry->tensor;
	int r;

	if ((uintptr_t)tensor->data % sde_dtype_alignment(tensor->dtype) == 0)
		return 0;
	r = make_own(entry, error);
	if (r < 0)
		return r;
	tensor = entry->tensor;
	entry->data = malloc(tensor->bytes);
	if (!entry->data)
		return sde_error_set(error, -ENOMEM,
				     "%s: no memory for an aligned copy of tensor '%s'",
				     tensor->file, tensor->name);
	memcpy(entry->data, tensor->data, tensor->bytes);
	entry->own->data = entry->data;
	entry->own->map = NULL;
	return 0;
}

int sde_weights_take(struct sde_weights *weights, const struct sde_tensor **ret_tensor,
		     struct sde_error *error, int rank, const int64_t *shape, const char *format,
		     ...)
{
	char name[256], want[128], have[128];
	const struct sde_tensor *tensor;
	struct entry *entry;
	va_list ap;
	int r;

	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	entry = find_entry(weights, name);
	if (!entry)
		return sde_error_set(error, -ENOENT, "%s: tensor '%s' %s is missing", weights->path,
				     name, sde_shape_string(want, sizeof(want), rank, shape));
	tensor = entry->tensor;
	if (!shape_matches(tensor, rank, shape))
		return sde_error_set(
			error, -EBADMSG, "%s: tensor '%s' has shape %s; this model needs %s",
			tensor->file, name,
			sde_shape_string(have, sizeof(have), tensor->rank, tensor->shape),
			sde_shape_string(want, sizeof(want), rank, shape));
	if (sde_dtype_weights(tensor->dtype) < 0)
		return sde_error_set(error, -ENOTSUP,
				     "%s: tensor '%s' is %s; weights must be floats or quantised",
				     tensor->file, name, sde_dtype_name(tensor->dtype));
	sde_weights_beat(weights);
	r = align(entry, error);
	if (r >= 0 && tensor->rank != rank)
		r = give_rank(entry, rank, error);
	if (r < 0)
		return r;
	entry->taken = true;
	*ret_tensor = entry->tensor;
	return 0;
}

void sde_weights_set_pulse(struct sde_weights *weights, atomic_ulong *pulse)
{
	weights->pulse = pulse;
}

void sde_weights_beat(const struct sde_weights *weights)
{
	if (weights->pulse)
		atomic_fetch_add_explicit(weights->pulse, 1, memory_order_relaxed);
}

bool sde_weights_ignore(struct sde_weights *weights, const char *name)
{
	struct entry *entry = find_entry(weights, name);

	if (entry)
		entry->taken = true;
	return entry;
}

const struct sde_tensor *sde_weights_unused(const struct sde_weights *weights, size_t *position)
{
	while (*position < weights->count) {
		const struct entry *entry = &weights->entries[(*position)++];

		if (!entry->taken)
			return entry->tensor;
	}
	return NULL;
}

void sde_weights_set_patch(struct sde_weights *weights, struct sde_patch *patch)
{
	weights->patch = patch;
}

struct sde_patch *sde_weights_patch(const struct sde_weights *weights)
{
	return weights->patch;
}

void sde_weights_set_keep(struct sde_weights *weights, enum sdk_keep keep)
{
	weights->keep = keep;
}

enum sdk_keep sde_weights_keep(const struct sde_weights *weights)
{
	return weights->keep;
}

void sde_weights_release(const struct sde_weights *weights)
{
	for (size_t i = 0; i < weights->file_count; i++)
		sde_tensor_file_release(weights->files[i]);
}

void sde_weights_read_ahead(const struct sde_weights *weights, bool (*wanted)(void *userdata),
			    void *userdata)
{
	for (size_t i = 0; i < weights->file_count; i++)
		sde_tensor_file_read_ahead(weights->files[i], wanted, userdata);
}
