/*
 * The safetensors reader: see safetensors.h. The header is copied into memory of our own and decided upon there, so a file that
 * changes meanwhile cannot make two checks see different numbers.
 */
#include "daemon/engine/formats/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/json.h"

struct sde_safetensors {
	struct sde_mapping mapping;
	json_t *header; /* owns the names */
	struct sde_tensor *tensors;
	size_t count;
};

static const struct {
	const char *name;
	struct sde_dtype_block block;
} dtypes[SDE_DTYPE_COUNT] = {
	[SDE_DTYPE_F32] = {"F32", {1, 4}},	     [SDE_DTYPE_F16] = {"F16", {1, 2}},
	[SDE_DTYPE_BF16] = {"BF16", {1, 2}},	     [SDE_DTYPE_F64] = {"F64", {1, 8}},
	[SDE_DTYPE_F8_E4M3] = {"F8_E4M3", {1, 1}},   [SDE_DTYPE_F8_E5M2] = {"F8_E5M2", {1, 1}},
	[SDE_DTYPE_I64] = {"I64", {1, 8}},	     [SDE_DTYPE_I32] = {"I32", {1, 4}},
	[SDE_DTYPE_I16] = {"I16", {1, 2}},	     [SDE_DTYPE_I8] = {"I8", {1, 1}},
	[SDE_DTYPE_U64] = {"U64", {1, 8}},	     [SDE_DTYPE_U32] = {"U32", {1, 4}},
	[SDE_DTYPE_U16] = {"U16", {1, 2}},	     [SDE_DTYPE_U8] = {"U8", {1, 1}},
	[SDE_DTYPE_BOOL] = {"BOOL", {1, 1}},	     [SDE_DTYPE_Q4_0] = {"Q4_0", {32, 18}},
	[SDE_DTYPE_Q4_1] = {"Q4_1", {32, 20}},	     [SDE_DTYPE_Q5_0] = {"Q5_0", {32, 22}},
	[SDE_DTYPE_Q5_1] = {"Q5_1", {32, 24}},	     [SDE_DTYPE_Q8_0] = {"Q8_0", {32, 34}},
	[SDE_DTYPE_Q2_K] = {"Q2_K", {256, 84}},	     [SDE_DTYPE_Q3_K] = {"Q3_K", {256, 110}},
	[SDE_DTYPE_Q4_K] = {"Q4_K", {256, 144}},     [SDE_DTYPE_Q5_K] = {"Q5_K", {256, 176}},
	[SDE_DTYPE_Q6_K] = {"Q6_K", {256, 210}},     [SDE_DTYPE_IQ4_NL] = {"IQ4_NL", {32, 18}},
	[SDE_DTYPE_IQ4_XS] = {"IQ4_XS", {256, 136}},
};

struct sde_dtype_block sde_dtype_block(enum sde_dtype dtype)
{
	return dtypes[dtype].block;
}

const char *sde_dtype_name(enum sde_dtype dtype)
{
	return dtypes[dtype].name;
}

const char *sde_shape_string(char *buffer, size_t size, int rank, const int64_t *shape)
{
	size_t used = 0;

	used += (size_t)snprintf(buffer, size, "[");
	for (int i = 0; i < rank && used < size; i++)
		used += (size_t)snprintf(buffer + used, size - used, "%s%lld", i ? ", " : "",
					 (long long)shape[i]);
	if (used < size)
		snprintf(buffer + used, size - used, "]");
	return buffer;
}

/* What a file is that is not safetensors, from its first bytes; NULL when unknown. */
static const char *sniff(const unsigned char *head, size_t size)
{
	static const struct {
		const char *magic;
		const char *what;
	} known[] = {
		{"PK\003\004",
		 "a zip archive, as torch.save writes (.ckpt, .pt, .bin): such files hold "
		 "Python pickles, which can run any program and are never executed here; "
		 "convert it by `sdctl convert`, or allow it by \"allow_pickle\": true in its "
		 ".sdd.json"},
		{"GGUF", "a GGUF file; this loader reads .safetensors"},
		{"version https://git-lfs",
		 "a git-lfs pointer, not the model: fetch the real file with `git lfs pull`"},
		{"<", "a web page or XML: the download went wrong"},
		{"\x93NUMPY", "a NumPy array"},
		{"\x89HDF", "an HDF5 file"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t length = strlen(known[i].magic);

		if (size >= length && !memcmp(head, known[i].magic, length))
			return known[i].what;
	}
	if (size >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
		return "a Python pickle (old .ckpt, .pt, .bin), which can run any program and is "
		       "never executed here; convert it by `sdctl convert`, or allow it by "
		       "\"allow_pickle\": true in its .sdd.json";
	return NULL;
}

static int parse_dtype(const json_t *value, enum sde_dtype *ret_dtype)
{
	for (int i = 0; i <= SDE_DTYPE_BOOL; i++)
		if (json_is_string(value) && !strcmp(json_string_value(value), dtypes[i].name)) {
			*ret_dtype = (enum sde_dtype)i;
			return 0;
		}
	return -EBADMSG;
}

static int parse_tensor(const char *name, const json_t *entry, size_t data_size,
			struct sde_tensor *tensor, size_t *ret_begin, struct sde_error *error)
{
	const json_t *shape = json_object_get(entry, "shape");
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *dtype = json_object_get(entry, "dtype");
	json_int_t begin, end;
	size_t bytes, count = 1;

	if (!json_is_object(entry))
		return sde_error_set(error, -EBADMSG, "tensor '%s': its entry is not an object",
				     name);
	if (!dtype || parse_dtype(dtype, &tensor->dtype) < 0)
		return sde_error_set(error, -EBADMSG, "tensor '%s': %s dtype%s%s", name,
				     dtype ? "unknown" : "no", dtype ? " " : "",
				     json_is_string(dtype) ? json_string_value(dtype) : "");
	if (!json_is_array(shape))
		return sde_error_set(error, -EBADMSG, "tensor '%s': no shape list", name);
	if (json_array_size(shape) > SDE_TENSOR_RANK_MAX)
		return sde_error_set(error, -EBADMSG, "tensor '%s': rank %zu; at most %d", name,
				     json_array_size(shape), SDE_TENSOR_RANK_MAX);
	tensor->rank = (int)json_array_size(shape);
	for (int i = 0; i < tensor->rank; i++) {
		const json_t *dim = json_array_get(shape, (size_t)i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return sde_error_set(error, -EBADMSG,
					     "tensor '%s': dimension %d is not an integer >= 0",
					     name, i);
		tensor->shape[i] = json_integer_value(dim);
		if (__builtin_mul_overflow(count, (size_t)tensor->shape[i], &count))
			return sde_error_set(error, -EBADMSG,
					     "tensor '%s': the product of its shape overflows",
					     name);
	}
	if (__builtin_mul_overflow(count, dtypes[tensor->dtype].block.bytes, &bytes))
		return sde_error_set(error, -EBADMSG, "tensor '%s': its size overflows", name);
	if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
	    !json_is_integer(json_array_get(offsets, 0)) ||
	    !json_is_integer(json_array_get(offsets, 1)))
		return sde_error_set(error, -EBADMSG,
				     "tensor '%s': data_offsets is not a pair of integers", name);
	begin = json_integer_value(json_array_get(offsets, 0));
	end = json_integer_value(json_array_get(offsets, 1));
	if (begin < 0 || end < begin || (uint64_t)end > data_size)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%s': bytes %lld to %lld lie outside the file's %zu "
				     "bytes of data (truncated download?)",
				     name, (long long)begin, (long long)end, data_size);
	if ((size_t)(end - begin) != bytes)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%s': %lld bytes of data, but its shape and type need "
				     "%zu",
				     name, (long long)(end - begin), bytes);
	tensor->name = name;
	tensor->count = count;
	tensor->bytes = bytes;
	*ret_begin = (size_t)begin;
	return 0;
}

static int by_data(const void *a, const void *b)
{
	const struct sde_tensor *const *left = a, *const *right = b;

	if ((*left)->data != (*right)->data)
		return (const char *)(*left)->data < (const char *)(*right)->data ? -1 : 1;
	return (*left)->bytes < (*right)->bytes ? -1 : (*left)->bytes > (*right)->bytes;
}

/* The format: the tensors cover the data exactly, without holes, overlaps or a tail. */
static int check_coverage(const struct sde_safetensors *file, const char *data, size_t data_size,
			  struct sde_error *error)
{
	_cleanup_free_ const struct sde_tensor **sorted = NULL;
	const char *at = data;

	sorted = calloc(file->count + 1, sizeof(*sorted));
	if (!sorted)
		return sde_error_set(error, -ENOMEM, "no memory for %zu tensors", file->count);
	for (size_t i = 0; i < file->count; i++)
		sorted[i] = &file->tensors[i];
	qsort(sorted, file->count, sizeof(*sorted), by_data);
	for (size_t i = 0; i < file->count; i++) {
		if ((const char *)sorted[i]->data != at)
			return sde_error_set(error, -EBADMSG, "tensor '%s': %s", sorted[i]->name,
					     (const char *)sorted[i]->data < at
						     ? "its data overlaps another tensor's"
						     : "unused bytes before its data");
		at += sorted[i]->bytes;
	}
	if (at != data + data_size)
		return sde_error_set(error, -EBADMSG, "%zu bytes behind the last tensor",
				     (size_t)(data + data_size - at));
	return 0;
}

static int check_metadata(const json_t *metadata, struct sde_error *error)
{
	const char *key;
	json_t *value;

	if (!metadata)
		return 0;
	if (!json_is_object(metadata))
		return sde_error_set(error, -EBADMSG, "__metadata__ is not an object");
	json_object_foreach ((json_t *)metadata, key, value)
		if (!json_is_string(value))
			return sde_error_set(error, -EBADMSG, "__metadata__ '%s' is not a string",
					     key);
	return 0;
}

static int index_tensors(struct sde_safetensors *file, size_t data_start, struct sde_error *error)
{
	const size_t data_size = file->mapping.size - data_start;
	const char *data = (const char *)file->mapping.bytes + data_start;
	const char *name;
	json_t *entry;
	size_t begin = 0;
	int r;

	r = check_metadata(json_object_get(file->header, "__metadata__"), error);
	if (r < 0)
		return r;
	file->tensors = calloc(json_object_size(file->header) + 1, sizeof(*file->tensors));
	if (!file->tensors)
		return sde_error_set(error, -ENOMEM, "no memory for its index");
	json_object_foreach (file->header, name, entry) {
		struct sde_tensor *tensor = &file->tensors[file->count];

		if (!strcmp(name, "__metadata__"))
			continue;
		r = parse_tensor(name, entry, data_size, tensor, &begin, error);
		if (r < 0)
			return r;
		tensor->data = data + begin;
		tensor->file = file->mapping.path;
		tensor->map = file->mapping.bytes;
		tensor->map_bytes = file->mapping.size;
		file->count++;
	}
	return check_coverage(file, data, data_size, error);
}

static int read_header(const struct sde_mapping *mapping, char **ret_header, size_t *ret_length,
		       struct sde_error *error)
{
	unsigned char head[64] = {0};
	const size_t size = mapping->size, head_size = size < sizeof(head) ? size : sizeof(head);
	_cleanup_free_ char *header = NULL;
	const char *what;
	uint64_t length = 0;

	if (head_size > 0)
		memcpy(head, mapping->bytes, head_size);
	for (int i = 7; i >= 0; i--)
		length = length << 8 | head[i];
	if (size < 8 || length > SDE_SAFETENSORS_HEADER_MAX || length > size - 8 ||
	    head[8] != '{') {
		what = sniff(head, head_size);
		if (what)
			return sde_error_set(error, -EBADMSG, "not safetensors but %s", what);
	}
	if (size < 8)
		return sde_error_set(error, -EBADMSG, "%zu bytes are too short for safetensors",
				     size);
	if (length > SDE_SAFETENSORS_HEADER_MAX)
		return sde_error_set(error, -EBADMSG,
				     "not safetensors: it claims a header of %llu bytes; at most "
				     "%u are accepted",
				     (unsigned long long)length, SDE_SAFETENSORS_HEADER_MAX);
	if (length > size - 8)
		return sde_error_set(error, -EBADMSG,
				     "cut off: its header has %llu bytes, the file %zu",
				     (unsigned long long)length, size);
	if (length == 0 || head[8] != '{')
		return sde_error_set(error, -EBADMSG, "its header does not begin with '{'");
	header = malloc(length);
	if (!header)
		return sde_error_set(error, -ENOMEM, "no memory for its header");
	memcpy(header, (const char *)mapping->bytes + 8, length);
	*ret_length = length;
	*ret_header = header;
	header = NULL;
	return 0;
}

static int read_file(struct sde_safetensors *file, struct sde_error *error)
{
	_cleanup_free_ char *header = NULL;
	size_t length = 0;
	int r;

	r = read_header(&file->mapping, &header, &length, error);
	if (r >= 0)
		r = sde_json_parse(header, length, "header", &file->header, error);
	if (r >= 0 && !json_is_object(file->header))
		r = sde_error_set(error, -EBADMSG, "its header is not a JSON object");
	if (r >= 0)
		r = index_tensors(file, 8 + length, error);
	if (r < 0)
		sde_error_prefix(error, "%s", file->mapping.path);
	return r;
}

int sde_safetensors_open(const char *path, struct sde_safetensors **ret_file,
			 struct sde_error *error)
{
	struct sde_safetensors *file = calloc(1, sizeof(*file));
	int r;

	if (!file)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	r = sde_mapping_open(path, &file->mapping, error);
	if (r >= 0)
		r = read_file(file, error);
	if (r < 0) {
		sde_safetensors_free(file);
		return r;
	}
	*ret_file = file;
	return 0;
}

struct sde_safetensors *sde_safetensors_free(struct sde_safetensors *file)
{
	if (!file)
		return NULL;
	json_decref(file->header);
	free(file->tensors);
	sde_mapping_clear(&file->mapping);
	free(file);
	return NULL;
}

size_t sde_safetensors_count(const struct sde_safetensors *file)
{
	return file->count;
}

const struct sde_tensor *sde_safetensors_at(const struct sde_safetensors *file, size_t index)
{
	return index < file->count ? &file->tensors[index] : NULL;
}

const char *sde_safetensors_metadata(const struct sde_safetensors *file, const char *key)
{
	return json_string_value(
		json_object_get(json_object_get(file->header, "__metadata__"), key));
}
