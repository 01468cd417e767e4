/*
 * Cleanup attributes: what a scope acquired, the scope gives back, on every path out. Ownership leaves a scope by
 * sdd_steal_fd() and sdd_steal_pointer(), never by forgetting. Descriptors start at -EBADF, so that a missed
 * initialisation is never stdin.
 */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SDD_CLEANUP(_function) __attribute__((cleanup(_function)))

/* Closes fd if it is one and keeps errno; always returns -EBADF, to be written back over the variable. */
static inline int sdd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -EBADF;
}

static inline void sdd_closep(int *fd)
{
	*fd = sdd_close(*fd);
}

static inline void sdd_freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void sdd_fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline int sdd_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -EBADF;
	return stolen;
}

#define sdd_steal_pointer(_pointer)                                                                \
	__extension__({                                                                            \
		__typeof__(_pointer) *sdd_place_ = &(_pointer);                                    \
		__typeof__(_pointer) sdd_stolen_ = *sdd_place_;                                    \
		*sdd_place_ = NULL;                                                                \
		sdd_stolen_;                                                                       \
	})

/* SDD_DEFINE_CLEANUP(struct sdd_job *, sdd_job_unref) makes sdd_job_unrefp() for SDD_CLEANUP(). */
#define SDD_DEFINE_CLEANUP(_type, _function)                                                       \
	static inline void _function##p(_type *object)                                             \
	{                                                                                          \
		if (*object)                                                                       \
			_function(*object);                                                        \
	}
