/*
 * Where ComfyUI keeps the parts of models: a folder for each kind below one of all, files in these or a folder or two deeper, as people sort
 * them (unet/sdxl/base/x.safetensors). The engine looks for parts there, the front process for models and for what loading them takes.
 */
#pragma once

#include <stdbool.h>
#include <string.h>

enum {
	SDD_PART_FOLDERS_DEPTH = 2,
	SDD_PART_FOLDERS = 3
}; /* folders below one of a kind; kinds with denoisers in them */
static const char *const sdd_part_folders[SDD_PART_FOLDERS] = {"diffusion_models", "unet",
							       "checkpoints"};

/*
 * path: of a file. Where the name of its kind's folder begins in it, when it lies as deep in one for denoisers or whole checkpoints, and
 * *ret_below, where what is below that begins; NULL: it lies elsewhere.
 */
static inline const char *sdd_part_folder(const char *path, const char **ret_below)
{
	const char *end = strrchr(path, '/');

	for (int level = 0; end && end > path && level <= SDD_PART_FOLDERS_DEPTH; level++) {
		const char *begin = end;

		while (begin > path && begin[-1] != '/')
			begin--;
		for (size_t i = 0; i < SDD_PART_FOLDERS; i++)
			if (strlen(sdd_part_folders[i]) == (size_t)(end - begin) &&
			    strncmp(sdd_part_folders[i], begin, (size_t)(end - begin)) == 0) {
				*ret_below = end + 1;
				return begin;
			}
		end = begin > path ? begin - 1 : NULL;
	}
	return NULL;
}
