/*
 * Stamps of model folders and files; see model-stamp.h.
 */
#include "daemon/model-stamp.h"
#include "daemon/model-file.h"
#include "daemon/util/hash.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES_MAX = 64 };

static uint64_t stamp_of(const char *path, int depth)
{
	struct dirent **entries = NULL;
	char below[PATH_MAX];
	struct stat st;
	uint64_t hash;
	int n;

	if (stat(path, &st) < 0)
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
			hash = sdd_hash_mix(hash, stamp_of(below, depth - 1));
		free(entries[i]);
	}
	free(entries);
	return hash;
}

uint64_t sdd_model_stamp(const char *path)
{
	const uint64_t stamp = stamp_of(path, 2);
	char settings[PATH_MAX];
	struct stat st;

	if (stamp == 0 || stat(path, &st) < 0 || S_ISDIR(st.st_mode) ||
	    !sdd_model_file_settings(path, settings, sizeof(settings)))
		return stamp;
	return sdd_hash_mix(stamp, stamp_of(settings, 0));
}
