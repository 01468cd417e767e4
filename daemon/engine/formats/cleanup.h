/*
 * Cleanup attributes for the loaders: a variable marked with one of these is released when it leaves its scope, so that every
 * error path of a parser can simply return. Set the variable to NULL (or -EBADF) to keep what it holds.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <jansson.h>

static inline void sde_freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void sde_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void sde_json_decrefp(json_t **object)
{
	json_decref(*object);
}

#define _cleanup_free_	__attribute__((cleanup(sde_freep)))
#define _cleanup_close_ __attribute__((cleanup(sde_closep)))
#define _cleanup_json_	__attribute__((cleanup(sde_json_decrefp)))
