/*
 * The weights of one component (U-Net, VAE, text encoder): tensors of one file, of the shards that an *.index.json lists, or those
 * of a checkpoint file that belong to it under the names of diffusers (ldm.h), found by name. Models take what their tables ask for; what is missing, misshapen or of the wrong type is
 * an error that names the tensor and the file, and what nobody took can be listed.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/tensor-file.h"
#include "kernels/tensor.h"

struct sde_weights;

/*
 * path: a .safetensors file or a *.index.json beside its shards. Shard names must be plain file names: an index cannot reach out
 * of its folder. A tensor listed but absent, or present in two shards, is -EBADMSG.
 */
int sde_weights_open(const char *path, struct sde_weights **ret_weights, struct sde_error *error);
/* They end when nobody shares their data either (sde_weights_share). */
struct sde_weights *sde_weights_free(struct sde_weights *weights);

/*
 * By hand, for files that call their tensors otherwise: new, hold the files, add, seal. path is for messages.
 * add: a tensor under another name; what the struct says is copied, data is borrowed from a held file or, when `data` is given (by
 * malloc), owned from now on, also on failure. seal sorts; -EBADMSG for a name that was added twice. Nothing can be added behind it.
 */
int sde_weights_new(const char *path, struct sde_weights **ret_weights, struct sde_error *error);
int sde_weights_hold(struct sde_weights *weights, struct sde_tensor_file *file,
		     struct sde_error *error);
int sde_weights_add(struct sde_weights *weights, const char *name, const struct sde_tensor *tensor,
		    void *data, struct sde_error *error);
/* Rows first..first + rows of a tensor, as a view. -EBADMSG when it has no such rows, or they are no whole number of blocks. */
int sde_weights_add_rows(struct sde_weights *weights, const char *name,
			 const struct sde_tensor *tensor, int64_t first, int64_t rows,
			 struct sde_error *error);
int sde_weights_seal(struct sde_weights *weights, struct sde_error *error);

/*
 * When other holds tensors of the same names, types and bytes, take its data in place of our own, also what was aligned or converted: backends know data
 * by its address. Other's data and files then live at least as long as these weights. False when they differ, or when a file of either has changed
 * since it was opened. Both sealed, ours not bound yet; no other thread uses either.
 */
bool sde_weights_share(struct sde_weights *weights, struct sde_weights *other);

/* Give the pages of its files' mappings back to the system; they come again when they are touched. */
void sde_weights_release(const struct sde_weights *weights);
/* sde_tensor_file_read_ahead of each of its files. */
void sde_weights_read_ahead(const struct sde_weights *weights, bool (*wanted)(void *userdata),
			    void *userdata);
/*
 * Hash of all files that weights come from, as they were when they were opened, and as their paths are now (sdd_hash_stat): the same while none has
 * changed.
 */
uint64_t sde_weights_state(const struct sde_weights *weights);
uint64_t sde_weights_state_now(const struct sde_weights *weights);
/* content.h's. */
struct sde_content_memo *sde_weights_memo(const struct sde_weights *weights);
/* Path that was opened. */
const char *sde_weights_path(const struct sde_weights *weights);
/* Bytes of all tensors, as stored. */
uint64_t sde_weights_bytes(const struct sde_weights *weights);

/* Tensors in order of their names (strcmp). NULL past the end. */
size_t sde_weights_count(const struct sde_weights *weights);
const struct sde_tensor *sde_weights_at(const struct sde_weights *weights, size_t index);

/* By exact name; NULL if absent. Does not count as taken. */
const struct sde_tensor *sde_weights_find(const struct sde_weights *weights, const char *name);
/* True if a tensor's name begins with prefix: tells naming variants apart ("text_model."). */
bool sde_weights_has_prefix(const struct sde_weights *weights, const char *prefix);

/*
 * The tensor named by the printf-like format, which must be of a type that holds weights (sde_dtype_weights) and of this shape, but for leading dimensions of 1;
 * a dimension of -1 accepts any size. Marks it as taken. Its data is aligned to its type: a copy, owned by weights, where it is not
 * so in the file. -ENOENT when absent, -EBADMSG when of another shape, -ENOTSUP when of another type.
 */
int sde_weights_take(struct sde_weights *weights, const struct sde_tensor **ret_tensor,
		     struct sde_error *error, int rank, const int64_t *shape, const char *format,
		     ...) __attribute__((format(printf, 6, 7)));

/* Mark as taken what a model knows and does not need ("text_model.embeddings.position_ids"); true if it was there. */
bool sde_weights_ignore(struct sde_weights *weights, const char *name);

/* First tensor, in order of names from *position on, that nobody took; NULL when none is left. Start with *position = 0. */
const struct sde_tensor *sde_weights_unused(const struct sde_weights *weights, size_t *position);

/* Counted up with every tensor that is taken, and by beat: work that goes on. NULL = nobody looks. */
void sde_weights_set_pulse(struct sde_weights *weights, atomic_ulong *pulse);

void sde_weights_beat(const struct sde_weights *weights);

/* What changes the layers bound from these weights (bind.h), NULL = nothing. Borrowed. */
struct sde_patch;
void sde_weights_set_patch(struct sde_weights *weights, struct sde_patch *patch);
struct sde_patch *sde_weights_patch(const struct sde_weights *weights);

/* In which form the layers bound from these weights stay in memory (kernels/tensor.h); SDK_KEEP_AUTO unless it is set. */
void sde_weights_set_keep(struct sde_weights *weights, enum sdk_keep keep);
enum sdk_keep sde_weights_keep(const struct sde_weights *weights);

static inline void sde_weights_freep(struct sde_weights **weights)
{
	sde_weights_free(*weights);
}
