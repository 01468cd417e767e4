/*
 * Writing .safetensors: sde_convert_to_safetensors of engine.h. The header is a JSON object in the order of the names, padded so that data begins aligned.
 */
#include "daemon/engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/tensor-file.h"

#define ALIGNMENT 64

static int write_all(int fd, const void *data, size_t size)
{
	const char *at = data;
	ssize_t n;

	while (size > 0) {
		n = write(fd, at, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static json_t *describe(const struct sde_tensor *tensor, size_t at)
{
	json_t *shape = json_array();

	for (int i = 0; i < tensor->rank; i++)
		json_array_append_new(shape, json_integer(tensor->shape[i]));
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", sde_dtype_name(tensor->dtype), "shape",
			 shape, "data_offsets", (json_int_t)at, (json_int_t)(at + tensor->bytes));
}

static int make_header(const struct sde_tensor_file *file, char **ret_header,
		       struct sde_error *error)
{
	_cleanup_json_ json_t *header = json_object();
	const struct sde_tensor *tensor;
	size_t at = 0;

	for (size_t i = 0; (tensor = sde_tensor_file_at(file, i)); i++) {
		if (sde_dtype_block(tensor->dtype).elements > 1)
			return sde_error_set(error, -ENOTSUP,
					     "%s: tensor '%s' is %s, which safetensors cannot hold",
					     tensor->file, tensor->name,
					     sde_dtype_name(tensor->dtype));
		if (json_object_set_new(header, tensor->name, describe(tensor, at)) < 0)
			return sde_error_set(error, -EBADMSG, "%s: a tensor's name is not UTF-8",
					     tensor->file);
		at += tensor->bytes;
	}
	*ret_header = header ? json_dumps(header, JSON_COMPACT) : NULL;
	return *ret_header ? 0 : sde_error_set(error, -ENOMEM, "no memory for a header");
}

static int write_file(const struct sde_tensor_file *file, const char *header, int fd)
{
	const size_t length = strlen(header);
	const size_t padding = (ALIGNMENT - (8 + length) % ALIGNMENT) % ALIGNMENT;
	char blanks[ALIGNMENT];
	unsigned char size[8];
	const struct sde_tensor *tensor;
	int r;

	memset(blanks, ' ', sizeof(blanks));
	for (size_t i = 0; i < 8; i++)
		size[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i);
	r = write_all(fd, size, sizeof(size));
	if (r >= 0)
		r = write_all(fd, header, length);
	if (r >= 0)
		r = write_all(fd, blanks, padding);
	for (size_t i = 0; r >= 0 && (tensor = sde_tensor_file_at(file, i)); i++)
		r = write_all(fd, tensor->data, tensor->bytes);
	return r >= 0 && fsync(fd) < 0 ? -errno : r;
}

int sde_convert_to_safetensors(const char *from, const char *to, struct sde_error *error)
{
	struct sde_tensor_file *file __attribute__((cleanup(sde_tensor_file_unrefp))) = NULL;
	_cleanup_free_ char *header = NULL, *partial = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = sde_tensor_file_open_pickled(from, &file, error);
	if (r >= 0)
		r = make_header(file, &header, error);
	if (r < 0)
		return r;
	if (asprintf(&partial, "%s.partial", to) < 0) {
		partial = NULL;
		return sde_error_set(error, -ENOMEM, "no memory");
	}
	fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return sde_error_set(error, -errno, "%s: %s", partial, strerror(errno));
	r = write_file(file, header, fd);
	if (r >= 0 && renameat2(AT_FDCWD, partial, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r < 0) {
		unlink(partial);
		return sde_error_set(error, r, "%s: %s", to, strerror(-r));
	}
	return 0;
}
