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
#include <string.h>

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

/* Of a denoiser in one of ComfyUI's folders: what lies where its other parts do. */
static uint64_t mix_parts(uint64_t stamp, const char *path)
{
	static const char *const kinds[] = {"text_encoders", "clip", "vae"};
	char folder[PATH_MAX], below[PATH_MAX + 16], *slash;

	if ((size_t)snprintf(folder, sizeof(folder), "%s", path) >= sizeof(folder) ||
	    !(slash = strrchr(folder, '/')))
		return stamp;
	*slash = '\0';
	slash = strrchr(folder, '/');
	if (!slash || (strcmp(slash, "/diffusion_models") != 0 && strcmp(slash, "/unet") != 0))
		return stamp;
	*slash = '\0';
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(below, sizeof(below), "%s/%s", folder, kinds[i]);
		stamp = sdd_hash_mix(stamp, stamp_of(below, 1));
	}
	return stamp;
}

uint64_t sdd_model_stamp(const char *path)
{
	const uint64_t stamp = stamp_of(path, 2);
	char settings[PATH_MAX];
	struct stat st;

	if (stamp == 0 || stat(path, &st) < 0 || S_ISDIR(st.st_mode) ||
	    !sdd_model_file_settings(path, settings, sizeof(settings)))
		return stamp;
	return mix_parts(sdd_hash_mix(stamp, stamp_of(settings, 0)), path);
}
