/*
 * Stamps of model folders and files; see model-stamp.h.
 */
#include "daemon/model-stamp.h"
#include "daemon/model-file.h"
#include "daemon/util/hash.h"
#include "daemon/util/part-folders.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ENTRIES_MAX = 64, /* of a folder */
	FILES_MAX = 4096, /* of a model, and of what lies where its parts do */
};

static uint64_t stamp_of(const char *path, int depth, int *seen)
{
	struct dirent **entries = NULL;
	char below[PATH_MAX];
	struct stat st;
	uint64_t hash;
	int n;

	if ((*seen)++ >= FILES_MAX || stat(path, &st) < 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		return sdd_hash_stat(1, &st);
	/* not by its times: what lies in it tells more */
	hash = sdd_hash_mix(sdd_hash_mix(2, (uint64_t)st.st_dev), (uint64_t)st.st_ino);
	n = depth > 0 ? scandir(path, &entries, NULL, alphasort) : 0;
	for (int i = 0; i < n; i++) {
		if (i < ENTRIES_MAX && entries[i]->d_name[0] != '.' &&
		    (size_t)snprintf(below, sizeof(below), "%s/%s", path, entries[i]->d_name) <
			    sizeof(below))
			hash = sdd_hash_mix(hash, stamp_of(below, depth - 1, seen));
		free(entries[i]);
	}
	free(entries);
	return hash;
}

/* Of a denoiser in one of ComfyUI's folders: what lies where its other parts do. */
static uint64_t mix_parts(uint64_t stamp, const char *path, int *seen)
{
	static const char *const kinds[] = {"text_encoders", "clip", "vae"};
	const char *inside, *kind = sdd_part_folder(path, &inside);
	char below[PATH_MAX];

	for (size_t i = 0; kind && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if ((size_t)snprintf(below, sizeof(below), "%.*s%s", (int)(kind - path), path,
				     kinds[i]) < sizeof(below))
			stamp = sdd_hash_mix(stamp,
					     stamp_of(below, 1 + SDD_PART_FOLDERS_DEPTH, seen));
	return stamp;
}

uint64_t sdd_model_stamp(const char *path)
{
	int seen = 0;
	const uint64_t stamp = stamp_of(path, 2, &seen);
	char settings[PATH_MAX];
	struct stat st;

	if (stamp == 0 || stat(path, &st) < 0 || S_ISDIR(st.st_mode) ||
	    !sdd_model_file_settings(path, settings, sizeof(settings)))
		return stamp;
	return mix_parts(sdd_hash_mix(stamp, stamp_of(settings, 0, &seen)), path, &seen);
}
