/*
 * The GGUF reader: see gguf.h. The mapping is read once from front to back through a cursor that knows its end; nothing is allocated by a claim:
 * counts that the remaining bytes cannot hold are refused before the first allocation.
 */
#include "daemon/engine/formats/gguf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"

#define DIMENSIONS_MAX	  4 /* of ggml */
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX	  (1u << 20)
#define NAME_BYTES_MAX	  65535
#define TENSOR_BYTES_MIN  (8 + 4 + 8 + 4 + 8) /* of an entry: empty name, one dimension */
#define PAIR_BYTES_MIN	  (8 + 4 + 1)
#define TENSORS_MAX	  65536 /* published models have a few thousand */
#define SHAPES_MAX	  4096
#define SHAPE_PREFIX	  "comfy.gguf.orig_shape."

enum value_type {
	VALUE_U8,
	VALUE_I8,
	VALUE_U16,
	VALUE_I16,
	VALUE_U32,
	VALUE_I32,
	VALUE_F32,
	VALUE_BOOL,
	VALUE_STRING,
	VALUE_ARRAY,
	VALUE_U64,
	VALUE_I64,
	VALUE_F64,
	VALUE_COUNT
};

/* Of a string its own; 0 marks what has no fixed size. */
static const size_t value_sizes[VALUE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* ggml's numbers of types; what is missing here is not read. */
static const struct {
	uint32_t id;
	enum sde_dtype dtype;
} types[] = {
	{0, SDE_DTYPE_F32},	{1, SDE_DTYPE_F16},	{2, SDE_DTYPE_Q4_0},  {3, SDE_DTYPE_Q4_1},
	{6, SDE_DTYPE_Q5_0},	{7, SDE_DTYPE_Q5_1},	{8, SDE_DTYPE_Q8_0},  {10, SDE_DTYPE_Q2_K},
	{11, SDE_DTYPE_Q3_K},	{12, SDE_DTYPE_Q4_K},	{13, SDE_DTYPE_Q5_K}, {14, SDE_DTYPE_Q6_K},
	{20, SDE_DTYPE_IQ4_NL}, {23, SDE_DTYPE_IQ4_XS}, {24, SDE_DTYPE_I8},   {25, SDE_DTYPE_I16},
	{26, SDE_DTYPE_I32},	{27, SDE_DTYPE_I64},	{28, SDE_DTYPE_F64},  {30, SDE_DTYPE_BF16},
};

/* The shape before ComfyUI flattened a tensor; pointers into the mapping. */
struct given_shape {
	const char *name;
	size_t length;
	int rank;
	int64_t shape[SDE_TENSOR_RANK_MAX];
};

struct sde_gguf {
	struct sde_mapping mapping;
	uint64_t alignment;
	struct given_shape *shapes;
	size_t n_shapes;
	struct sde_tensor *tensors;
	size_t count;
};

struct cursor {
	const unsigned char *at, *end;
	bool failed;
};

static uint64_t get(struct cursor *cursor, size_t size)
{
	uint64_t value = 0;

	if (cursor->failed || (size_t)(cursor->end - cursor->at) < size) {
		cursor->failed = true;
		return 0;
	}
	for (size_t i = size; i-- > 0;)
		value = value << 8 | cursor->at[i];
	cursor->at += size;
	return value;
}

static const char *get_bytes(struct cursor *cursor, uint64_t size)
{
	const char *bytes = (const char *)cursor->at;

	if (cursor->failed || (uint64_t)(cursor->end - cursor->at) < size) {
		cursor->failed = true;
		return NULL;
	}
	cursor->at += size;
	return bytes;
}

static const char *get_string(struct cursor *cursor, uint64_t *ret_length)
{
	*ret_length = get(cursor, 8);
	return get_bytes(cursor, *ret_length);
}

static int cut_off(struct sde_error *error)
{
	return sde_error_set(error, -EBADMSG, "cut off within its header");
}

static bool begins(const char *text, uint64_t length, const char *prefix)
{
	return length >= strlen(prefix) && !memcmp(text, prefix, strlen(prefix));
}

/* An array of integers behind a key that gives a tensor's shape. */
static int read_given_shape(struct sde_gguf *file, struct cursor *cursor, const char *key,
			    uint64_t length, uint32_t type, uint64_t n, struct sde_error *error)
{
	struct given_shape *grown, shape = {
					   .name = key + strlen(SHAPE_PREFIX),
					   .length = (size_t)length - strlen(SHAPE_PREFIX),
					   .rank = (int)n,
				   };

	if (file->n_shapes == SHAPES_MAX)
		return sde_error_set(error, -EBADMSG, "more than %d original shapes", SHAPES_MAX);
	if (n > SDE_TENSOR_RANK_MAX ||
	    (type != VALUE_I32 && type != VALUE_I64 && type != VALUE_U32 && type != VALUE_U64))
		return sde_error_set(error, -EBADMSG, "key '%.*s' is not a shape", (int)length,
				     key);
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t value = get(cursor, value_sizes[type]);

		shape.shape[i] = value_sizes[type] == 4 ? (int32_t)(uint32_t)value : (int64_t)value;
		if (shape.shape[i] < 0)
			return sde_error_set(error, -EBADMSG, "key '%.*s' has a negative dimension",
					     (int)length, key);
	}
	grown = reallocarray(file->shapes, file->n_shapes + 1, sizeof(*file->shapes));
	if (!grown)
		return sde_error_set(error, -ENOMEM, "no memory for its index");
	file->shapes = grown;
	grown[file->n_shapes++] = shape;
	return 0;
}

static void skip_strings(struct cursor *cursor, uint64_t n)
{
	uint64_t length;

	for (uint64_t i = 0; i < n && !cursor->failed; i++)
		get_string(cursor, &length);
}

static int read_array(struct sde_gguf *file, struct cursor *cursor, const char *key,
		      uint64_t length, struct sde_error *error)
{
	const uint32_t type = (uint32_t)get(cursor, 4);
	const uint64_t n = get(cursor, 8);
	uint64_t bytes;

	if (cursor->failed)
		return cut_off(error);
	if (type >= VALUE_COUNT || type == VALUE_ARRAY)
		return sde_error_set(error, -EBADMSG, "key '%.*s' is an array of unknown type %u",
				     (int)length, key, type);
	if (begins(key, length, SHAPE_PREFIX))
		return read_given_shape(file, cursor, key, length, type, n, error);
	if (type == VALUE_STRING)
		skip_strings(cursor, n);
	else if (__builtin_mul_overflow(n, value_sizes[type], &bytes) || !get_bytes(cursor, bytes))
		cursor->failed = true;
	return 0;
}

static int read_pair(struct sde_gguf *file, struct cursor *cursor, struct sde_error *error)
{
	uint64_t length, ignored, value;
	const char *key = get_string(cursor, &length);
	uint32_t type;

	if (!key || length > NAME_BYTES_MAX)
		return sde_error_set(error, -EBADMSG, "a key of %llu bytes",
				     (unsigned long long)length);
	type = (uint32_t)get(cursor, 4);
	if (cursor->failed)
		return cut_off(error);
	if (type >= VALUE_COUNT)
		return sde_error_set(error, -EBADMSG, "key '%.*s' is of unknown type %u",
				     (int)length, key, type);
	if (type == VALUE_ARRAY)
		return read_array(file, cursor, key, length, error);
	if (type == VALUE_STRING) {
		get_string(cursor, &ignored);
		return 0;
	}
	value = get(cursor, value_sizes[type]);
	if (length == strlen("general.alignment") && begins(key, length, "general.alignment")) {
		if (type != VALUE_U32 || value == 0 || value % 8 != 0 || value > ALIGNMENT_MAX)
			return sde_error_set(error, -EBADMSG,
					     "general.alignment %llu is not a multiple of 8",
					     (unsigned long long)value);
		file->alignment = value;
	}
	return 0;
}

static int set_type(struct sde_tensor *tensor, uint32_t id, struct sde_error *error)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].id == id) {
			tensor->dtype = types[i].dtype;
			return 0;
		}
	return sde_error_set(error, -ENOTSUP, "tensor '%s' is of ggml type %u, which is not read",
			     tensor->name, id);
}

/* Dimensions in the file's order -> the tensor's shape, count and bytes. */
static int set_shape(struct sde_tensor *tensor, const uint64_t *dims, uint32_t n,
		     struct sde_error *error)
{
	const size_t per_block = sde_dtype_block(tensor->dtype).elements;
	size_t count = 1;

	tensor->rank = (int)n;
	for (uint32_t i = 0; i < n; i++) {
		if (dims[i] > INT64_MAX || __builtin_mul_overflow(count, dims[i], &count))
			return sde_error_set(error, -EBADMSG,
					     "tensor '%s': the product of its shape overflows",
					     tensor->name);
		tensor->shape[n - 1 - i] = (int64_t)dims[i];
	}
	if ((n ? dims[0] : 1) % per_block != 0)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%s': rows of %llu numbers are no whole blocks of %zu",
				     tensor->name, (unsigned long long)(n ? dims[0] : 1),
				     per_block);
	tensor->count = count;
	if (__builtin_mul_overflow(count / per_block, sde_dtype_block(tensor->dtype).bytes,
				   &tensor->bytes))
		return sde_error_set(error, -EBADMSG, "tensor '%s': its size overflows",
				     tensor->name);
	return 0;
}

static int give_shape_back(const struct sde_gguf *file, struct sde_tensor *tensor,
			   struct sde_error *error)
{
	for (size_t i = 0; i < file->n_shapes; i++) {
		const struct given_shape *given = &file->shapes[i];
		size_t count = 1;

		if (given->length != strlen(tensor->name) ||
		    memcmp(given->name, tensor->name, given->length) != 0)
			continue;
		for (int k = 0; k < given->rank; k++)
			if (__builtin_mul_overflow(count, (size_t)given->shape[k], &count))
				count = SIZE_MAX;
		if (count != tensor->count)
			return sde_error_set(error, -EBADMSG,
					     "tensor '%s': its original shape has another size",
					     tensor->name);
		tensor->rank = given->rank;
		memcpy(tensor->shape, given->shape, sizeof(given->shape));
		return 0;
	}
	return 0;
}

/* ret_offset: from the beginning of the data. The tensor's name is owned by the caller, also on failure. */
static int read_tensor(struct sde_gguf *file, struct cursor *cursor, struct sde_tensor *tensor,
		       uint64_t *ret_offset, struct sde_error *error)
{
	uint64_t length, dims[DIMENSIONS_MAX];
	const char *name = get_string(cursor, &length);
	uint32_t n, type;
	int r;

	if (!name || length > NAME_BYTES_MAX || memchr(name, '\0', (size_t)length))
		return sde_error_set(error, -EBADMSG, "a tensor's name of %llu bytes",
				     (unsigned long long)length);
	tensor->name = strndup(name, (size_t)length);
	if (!tensor->name)
		return sde_error_set(error, -ENOMEM, "no memory for its index");
	n = (uint32_t)get(cursor, 4);
	if (n > DIMENSIONS_MAX)
		return sde_error_set(error, -EBADMSG, "tensor '%s': %u dimensions; at most %d",
				     tensor->name, n, DIMENSIONS_MAX);
	for (uint32_t i = 0; i < n; i++)
		dims[i] = get(cursor, 8);
	type = (uint32_t)get(cursor, 4);
	*ret_offset = get(cursor, 8);
	if (cursor->failed)
		return cut_off(error);
	r = set_type(tensor, type, error);
	if (r >= 0)
		r = set_shape(tensor, dims, n, error);
	if (r >= 0)
		r = give_shape_back(file, tensor, error);
	return r;
}

static int place(const struct sde_gguf *file, struct sde_tensor *tensor, size_t data_start,
		 uint64_t offset, struct sde_error *error)
{
	const size_t data_size = file->mapping.size - data_start;

	if (offset % file->alignment != 0 || offset > data_size ||
	    tensor->bytes > data_size - offset)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%s': %zu bytes at %llu of the file's %zu bytes of "
				     "data (truncated download?)",
				     tensor->name, tensor->bytes, (unsigned long long)offset,
				     data_size);
	tensor->data = (const char *)file->mapping.bytes + data_start + offset;
	tensor->file = file->mapping.path;
	tensor->map = file->mapping.bytes;
	tensor->map_bytes = file->mapping.size;
	return 0;
}

static int read_header(struct cursor *cursor, uint64_t *ret_tensors, uint64_t *ret_pairs,
		       struct sde_error *error)
{
	const char *magic = get_bytes(cursor, 4);
	const uint32_t version = (uint32_t)get(cursor, 4);

	if (!magic || memcmp(magic, "GGUF", 4) != 0)
		return sde_error_set(error, -EBADMSG, "not GGUF");
	if (cursor->failed)
		return cut_off(error);
	if (version != 2 && version != 3)
		return sde_error_set(error, -ENOTSUP,
				     version >> 16 ? "a big-endian GGUF (version %#x)"
						   : "GGUF version %u; 2 and 3 are read",
				     version);
	*ret_tensors = get(cursor, 8);
	*ret_pairs = get(cursor, 8);
	if (cursor->failed)
		return cut_off(error);
	if (*ret_tensors > TENSORS_MAX ||
	    *ret_tensors > (uint64_t)(cursor->end - cursor->at) / TENSOR_BYTES_MIN ||
	    *ret_pairs > (uint64_t)(cursor->end - cursor->at) / PAIR_BYTES_MIN)
		return sde_error_set(
			error, -EBADMSG,
			"it claims %llu tensors and %llu keys, more than fit into it or are read",
			(unsigned long long)*ret_tensors, (unsigned long long)*ret_pairs);
	return 0;
}

static int index_tensors(struct sde_gguf *file, struct sde_error *error)
{
	const unsigned char *start = file->mapping.bytes;
	struct cursor cursor = {start, start + file->mapping.size, false};
	_cleanup_free_ uint64_t *offsets = NULL;
	uint64_t n_tensors = 0, n_pairs = 0;
	size_t data_start;
	int r;

	r = read_header(&cursor, &n_tensors, &n_pairs, error);
	for (uint64_t i = 0; r >= 0 && i < n_pairs; i++) {
		r = read_pair(file, &cursor, error);
		if (r >= 0 && cursor.failed)
			r = cut_off(error);
	}
	if (r < 0)
		return r;
	file->tensors = calloc(n_tensors + 1, sizeof(*file->tensors));
	offsets = calloc(n_tensors + 1, sizeof(*offsets));
	if (!file->tensors || !offsets)
		return sde_error_set(error, -ENOMEM, "no memory for its index");
	for (uint64_t i = 0; r >= 0 && i < n_tensors; i++) {
		file->count++;
		r = read_tensor(file, &cursor, &file->tensors[i], &offsets[i], error);
	}
	data_start = (size_t)(cursor.at - start);
	data_start += (size_t)((file->alignment - data_start % file->alignment) % file->alignment);
	if (r >= 0 && data_start > file->mapping.size)
		data_start = file->mapping.size;
	for (uint64_t i = 0; r >= 0 && i < n_tensors; i++)
		r = place(file, &file->tensors[i], data_start, offsets[i], error);
	return r;
}

int sde_gguf_open(const char *path, struct sde_gguf **ret_file, struct sde_error *error)
{
	struct sde_gguf *file = calloc(1, sizeof(*file));
	int r;

	if (!file)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	file->alignment = ALIGNMENT_DEFAULT;
	r = sde_mapping_open(path, &file->mapping, error);
	if (r >= 0) {
		r = index_tensors(file, error);
		if (r < 0)
			sde_error_prefix(error, "%s", path);
	}
	if (r < 0) {
		sde_gguf_free(file);
		return r;
	}
	*ret_file = file;
	return 0;
}

struct sde_gguf *sde_gguf_free(struct sde_gguf *file)
{
	if (!file)
		return NULL;
	for (size_t i = 0; i < file->count; i++)
		free((char *)file->tensors[i].name);
	free(file->tensors);
	free(file->shapes);
	sde_mapping_clear(&file->mapping);
	free(file);
	return NULL;
}

size_t sde_gguf_count(const struct sde_gguf *file)
{
	return file->count;
}

const struct sde_tensor *sde_gguf_at(const struct sde_gguf *file, size_t index)
{
	return index < file->count ? &file->tensors[index] : NULL;
}
