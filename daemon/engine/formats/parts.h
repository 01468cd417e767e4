/*
 * Models whose parts are files of their own, as ComfyUI keeps them: diffusion_models/ or unet/, text_encoders/ or clip/, vae/. Which files belong
 * together is told by what is in them: the shapes of the denoiser say what it needs beside it. Where several fit, the settings beside
 * the model name one: {"parts": ["../vae/ae.safetensors", ...]}. People sort files into folders below these (util/part-folders.h); of several
 * that fit, one that lies in a folder of the same name as the denoiser's is taken.
 */
#pragma once

#include "daemon/engine/formats/checkpoint.h"

/*
 * path: a file, or a folder of such files. What the file or the settings' parts leave out is looked for in the folder, in its
 * sub-folders of those names and what is below them, and, when the file lies in one of these, beside it. A file without a denoiser is opened as it is. -ENOENT names what
 * is missing and where it was looked for, -EBADMSG the files of which several
 * fit, or that a folder holds no denoiser.
 */
int sde_parts_open(const char *path, struct sde_checkpoint **ret_checkpoint,
		   struct sde_error *error);
