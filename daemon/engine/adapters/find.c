/*
 * Looking into folders of adapters; see find.h.
 */
#include "daemon/engine/adapters/find.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"

#define ENTRIES_MAX 4096
#define NAMED_MAX   160 /* bytes of names in a message */

/* Endings that are no part of a name; those of pickles too, so that asking for one is refused and not "not found". */
static const char *const endings[] = {".safetensors", ".gguf", ".pt", ".pth", ".bin", ".ckpt"};

static size_t name_length(const char *entry)
{
	const size_t length = strlen(entry);

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		const size_t n = strlen(endings[i]);

		if (length > n && strcmp(entry + length - n, endings[i]) == 0)
			return length - n;
	}
	return length;
}

int sde_adapter_each(const struct sde_adapter_roots *roots, const char *folder,
		     int (*each)(void *userdata, const char *name, const char *path),
		     void *userdata)
{
	int r = 0, seen = 0;

	for (size_t i = 0; r == 0 && i < roots->count; i++) {
		_cleanup_free_ char *base = NULL;
		const struct dirent *entry;
		DIR *dir;

		if (asprintf(&base, "%s/%s", roots->paths[i], folder) < 0) {
			base = NULL;
			return -ENOMEM;
		}
		dir = opendir(base);
		while (r == 0 && dir && (entry = readdir(dir)) && seen++ < ENTRIES_MAX) {
			_cleanup_free_ char *path = NULL;
			char name[SDE_ADAPTER_NAME_MAX + 1];
			const size_t length = name_length(entry->d_name);

			if (entry->d_name[0] == '.' || length > SDE_ADAPTER_NAME_MAX)
				continue;
			snprintf(name, sizeof(name), "%.*s", (int)length, entry->d_name);
			if (asprintf(&path, "%s/%s", base, entry->d_name) < 0) {
				path = NULL;
				r = -ENOMEM;
			} else {
				r = each(userdata, name, path);
			}
		}
		if (dir)
			closedir(dir);
	}
	return r;
}

struct search {
	const char *name;
	char *path; /* the best so far */
	bool safe;  /* it is a .safetensors or a folder */
	char named[NAMED_MAX + 8];
	size_t named_length;
};

static int look(void *userdata, const char *name, const char *path)
{
	struct search *search = userdata;
	const size_t n = search->named_length;
	struct stat st;

	if (stat(path, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return 0;
	if (n + strlen(name) + 2 < NAMED_MAX)
		search->named_length += (size_t)snprintf(
			search->named + n, sizeof(search->named) - n, "%s%s", n ? ", " : "", name);
	if (strcmp(name, search->name) != 0 || search->safe)
		return 0;
	/* a pickle beside the same thing as safetensors is passed over */
	free(search->path);
	search->path = strdup(path);
	search->safe = S_ISDIR(st.st_mode) || strstr(path, ".safetensors");
	return search->path ? 0 : -ENOMEM;
}

static bool name_is_plain(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/') &&
	       strlen(name) <= SDE_ADAPTER_NAME_MAX;
}

int sde_adapter_find(const struct sde_adapter_roots *roots, const char *folder, const char *what,
		     const char *name, char **ret_path, struct sde_error *error)
{
	struct search search = {.name = name};

	if (!name_is_plain(name))
		return sde_error_set(error, -EINVAL,
				     "'%.60s' is no name of a %s: names have no '/' and no dot in "
				     "front",
				     name, what);
	if (sde_adapter_each(roots, folder, look, &search) < 0) {
		free(search.path);
		return sde_error_set(error, -ENOMEM, "no memory to look for a %s", what);
	}
	if (!search.path)
		return sde_error_set(error, -ENOENT,
				     "no %s is called '%.60s'; %s/ of the model folders has %s",
				     what, name, folder, search.named[0] ? search.named : "none");
	*ret_path = search.path;
	return 0;
}
