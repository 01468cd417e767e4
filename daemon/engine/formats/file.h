/*
 * Reading files of unknown origin: whole small ones into memory, large ones as a read-only mapping. Only regular files are
 * opened (a FIFO or a device named model.safetensors would hang or surprise us), and a size limit comes before any allocation.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/error.h"

/*
 * Read a whole regular file of at most max_bytes. *ret_data is malloc()ed, NUL-terminated behind *ret_size bytes and owned by
 * the caller. -ENOENT and the like from open(2), -EINVAL when it is no regular file, -EFBIG above the limit; errors name the path.
 */
int sde_file_read(const char *path, size_t max_bytes, char **ret_data, size_t *ret_size,
		  struct sde_error *error);

/*
 * Open a regular file for reading. Returns 0 with an fd that the caller closes and the size at this moment.
 */
int sde_file_open(const char *path, int *ret_fd, size_t *ret_size, struct sde_error *error);

/* A whole file, mapped read-only. Zeroed: none. */
struct sde_mapping {
	char *path;  /* owned */
	void *bytes; /* NULL: of an empty file */
	size_t size;
};

/* Errors as of sde_file_open; what was made by then is cleared by sde_mapping_clear, which has to be called in any case. */
int sde_mapping_open(const char *path, struct sde_mapping *mapping, struct sde_error *error);
void sde_mapping_clear(struct sde_mapping *mapping);

/* Fill buffer from offset: 0, or a negative errno; -EBADMSG when the file ends before size bytes. */
int sde_file_read_at(int fd, size_t offset, void *buffer, size_t size);
