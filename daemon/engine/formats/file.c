/*
 * Files of unknown origin: see file.h.
 */
#include "daemon/engine/formats/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/formats/cleanup.h"

int sde_file_open(const char *path, int *ret_fd, size_t *ret_size, struct sde_error *error)
{
	/* O_NONBLOCK: opening a FIFO must not wait for its writer; it has no effect on regular files */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return sde_error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return sde_error_set(error, -EISDIR, "%s: is a folder, not a file", path);
	if (!S_ISREG(st.st_mode))
		return sde_error_set(error, -EINVAL, "%s: is not a regular file", path);
	*ret_size = (size_t)st.st_size;
	*ret_fd = fd;
	fd = -EBADF;
	return 0;
}

int sde_mapping_open(const char *path, struct sde_mapping *mapping, struct sde_error *error)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	*mapping = (struct sde_mapping){.path = strdup(path)};
	if (!mapping->path)
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	r = sde_file_open(path, &fd, &mapping->size, error);
	if (r < 0 || mapping->size == 0)
		return r;
	mapping->bytes = mmap(NULL, mapping->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (mapping->bytes != MAP_FAILED)
		return 0;
	mapping->bytes = NULL;
	return sde_error_set(error, -errno, "%s: cannot be mapped: %s", path, strerror(errno));
}

void sde_mapping_clear(struct sde_mapping *mapping)
{
	if (mapping->bytes)
		munmap(mapping->bytes, mapping->size);
	free(mapping->path);
	*mapping = (struct sde_mapping){0};
}

int sde_file_read_at(int fd, size_t offset, void *buffer, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		done += (size_t)n;
	}
	return 0;
}

int sde_file_read(const char *path, size_t max_bytes, char **ret_data, size_t *ret_size,
		  struct sde_error *error)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *data = NULL;
	size_t size;
	int r;

	r = sde_file_open(path, &fd, &size, error);
	if (r < 0)
		return r;
	if (size > max_bytes)
		return sde_error_set(error, -EFBIG, "%s: %zu bytes; at most %zu are accepted here",
				     path, size, max_bytes);
	data = malloc(size + 1);
	if (!data)
		return sde_error_set(error, -ENOMEM, "%s: no memory for %zu bytes", path, size);
	r = sde_file_read_at(fd, 0, data, size);
	if (r < 0)
		return sde_error_set(error, r, "%s: %s", path,
				     r == -EBADMSG ? "became shorter while it was read"
						   : strerror(-r));
	data[size] = '\0';
	*ret_size = size;
	*ret_data = data;
	data = NULL;
	return 0;
}
