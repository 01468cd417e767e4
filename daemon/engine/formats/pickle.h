/*
 * A reader of Python pickles that executes nothing: it builds a tree of plain values, and of the classes and functions that a pickle may name it
 * knows those of torch.save by name and refuses every other. What these would do (make a tensor from a storage) is left to the caller,
 * as a node with their arguments. Protocols 0 to 5 as far as torch.save uses them (Python's pickletools.py describes the opcodes).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"

enum sde_pickle_kind {
	SDE_PICKLE_NONE,
	SDE_PICKLE_BOOL,       /* number */
	SDE_PICKLE_INT,	       /* number */
	SDE_PICKLE_FLOAT,      /* no value: no weight is stored as one */
	SDE_PICKLE_STRING,     /* text, length; in the pickle, not terminated */
	SDE_PICKLE_TUPLE,      /* items */
	SDE_PICKLE_LIST,       /* items */
	SDE_PICKLE_DICT,       /* items: key, value, key, value, ... */
	SDE_PICKLE_GLOBAL,     /* global */
	SDE_PICKLE_CALL,       /* items: what is called, its arguments */
	SDE_PICKLE_PERSISTENT, /* items: one, the identity of a storage */
};

struct sde_pickle_value {
	enum sde_pickle_kind kind;
	int64_t number;
	const char *text, *global; /* global: "module name" of the allow-list */
	size_t length;
	struct sde_pickle_value **items; /* borrowed from the pickle */
	size_t count, room;
};

struct sde_pickle;

/*
 * Read one pickle from the beginning of bytes; *ret_used (may be NULL) says how many it took. The values belong to *ret_pickle and point into
 * bytes. -EBADMSG for what is no pickle, -EPERM for a class or function that is not allowed (the message names it), -ENOTSUP for
 * an opcode that torch.save does not write.
 */
int sde_pickle_read(const char *bytes, size_t size, struct sde_pickle **ret_pickle,
		    const struct sde_pickle_value **ret_value, size_t *ret_used,
		    struct sde_error *error);
struct sde_pickle *sde_pickle_free(struct sde_pickle *pickle);

/* True if a value is this string, or this global. */
int sde_pickle_is(const struct sde_pickle_value *value, const char *text);
/* Value of a key of a dict; NULL if there is none. */
const struct sde_pickle_value *sde_pickle_get(const struct sde_pickle_value *dict, const char *key);
