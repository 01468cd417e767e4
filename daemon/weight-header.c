/*
 * Safetensors' headers: eight bytes of length, little endian, then JSON; see weight-header.h.
 */
#include "daemon/weight-header.h"
#include "daemon/util/cleanup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES_MAX = 8 << 20 };

json_t *sdd_weight_header_read(const char *path, struct stat *ret_st, bool *ret_gguf)
{
	SDD_CLEANUP(sdd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	SDD_CLEANUP(sdd_freep) char *text = NULL;
	unsigned char head[8];
	uint64_t size = 0;

	*ret_gguf = false;
	if (fd < 0 || fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode) ||
	    pread(fd, head, sizeof(head), 0) != sizeof(head))
		return NULL;
	*ret_gguf = memcmp(head, "GGUF", 4) == 0;
	for (int i = 7; i >= 0; i--)
		size = size << 8 | head[i];
	if (*ret_gguf || size > HEADER_BYTES_MAX)
		return NULL;
	text = malloc(size + 1);
	if (!text || pread(fd, text, size, 8) != (ssize_t)size)
		return NULL;
	return json_loadb(text, size, 0, NULL);
}

bool sdd_weight_is_variant(const char *name)
{
	return strstr(name, ".fp16.") || strstr(name, ".bf16.");
}

bool sdd_weight_tensor_read(const json_t *entry, struct sdd_weight_tensor *ret_tensor)
{
	const json_t *shape = json_object_get(entry, "shape"),
		     *offsets = json_object_get(entry, "data_offsets");
	const json_int_t begin = json_integer_value(json_array_get(offsets, 0));
	const json_int_t end = json_integer_value(json_array_get(offsets, 1));
	uint64_t numbers = 1;

	*ret_tensor = (struct sdd_weight_tensor){
		.dtype = json_string_value(json_object_get(entry, "dtype")),
		.rank = json_array_size(shape)};
	if (!ret_tensor->dtype || begin < 0 || end < begin)
		return false;
	for (size_t i = 0; i < ret_tensor->rank; i++) {
		const json_int_t side = json_integer_value(json_array_get(shape, i));

		if (side < 1 || __builtin_mul_overflow(numbers, (uint64_t)side, &numbers) ||
		    numbers > (uint64_t)1 << 40)
			return false;
	}
	/* a scalar is one row: who divides by rows never divides by 0 */
	ret_tensor->rows =
		ret_tensor->rank > 0 ? (uint64_t)json_integer_value(json_array_get(shape, 0)) : 1;
	ret_tensor->numbers = numbers;
	ret_tensor->bytes = (uint64_t)(end - begin);
	return true;
}
