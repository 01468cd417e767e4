/*
 * Whether a model's files are still those that were read: a number that costs a stat a file.
 */
#pragma once

#include <stdint.h>

/*
 * Another one when a file of the model (a folder's and its components', or the file and its settings; of a denoiser in ComfyUI's folders (util/part-folders.h)
 * also what lies in text_encoders/, clip/ and vae/ beside these) is another or has changed (sdd_hash_stat);
 * 0 when nothing is there.
 */
uint64_t sdd_model_stamp(const char *path);
