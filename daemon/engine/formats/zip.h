/*
 * The index of a zip archive in memory, as far as torch.save writes them: entries that are stored, not compressed. Reading only; nothing is
 * ever unpacked to a file. Source: PKWARE's APPNOTE.TXT 6.3, with the 64-bit extensions.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/error.h"

struct sde_zip_entry {
	char *name;	     /* owned by the archive */
	size_t offset, size; /* of its data in the archive's bytes */
};

struct sde_zip {
	struct sde_zip_entry *entries; /* in the directory's order */
	size_t count;
};

/*
 * -EBADMSG when the directory is missing or points outside, when an entry is compressed, or when a name could leave a folder ("..", a leading
 * slash). Errors do not name the file.
 */
int sde_zip_index(const unsigned char *bytes, size_t size, struct sde_zip *ret_zip,
		  struct sde_error *error);
void sde_zip_clear(struct sde_zip *zip);
