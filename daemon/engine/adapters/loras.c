/*
 * A job's LoRAs and the tensors that stand for their changes; see loras.h.
 */
#include "daemon/engine/adapters/loras.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/content.h"
#include "daemon/engine/adapters/delta.h"
#include "daemon/engine/adapters/family.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/util/hash.h"

struct file {
	char *name;
	struct sde_weights *weights;
	double weight;
};

struct term {
	struct sde_delta delta;
	double weight;
};

/* One layer's changes: what its tensors' fill functions read. */
struct change {
	struct change *next;
	struct sde_delta_shape shape;
	struct sdk_tensor base, base_bias; /* the model's */
	struct sde_branch branch;
	int rank; /* of all branches together */
	size_t n_branches, n_merged;
	struct term *branches, *merged;	  /* owned */
	const struct sde_tensor **biases; /* owned, n_biases with bias_weights */
	double *bias_weights;
	size_t n_biases;
	char up, bias; /* their addresses tell the tensors apart */
};

struct part {
	struct sde_patch patch; /* first: patches are cast back */
	struct sde_loras *loras;
	enum sde_adapter_part part;
	const struct sde_unet_config *unet;
	size_t patched;
};

struct sde_loras {
	struct file *files;
	size_t n_files;
	struct change *changes;
	struct part parts[SDE_ADAPTER_PARTS];
	uint64_t merged_bytes;
};

#define change_of(pointer, member)                                                                 \
	((const struct change *)((const char *)(pointer)-offsetof(struct change, member)))

static int fill_down(const struct sdk_tensor *tensor, float *out)
{
	const struct change *change = tensor->data;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < change->n_branches; i++) {
		const struct sde_delta *delta = &change->branches[i].delta;

		r = sde_low_rank_down(delta, &change->shape, out);
		out += (size_t)delta->rank * sde_delta_row(&change->shape);
	}
	return r;
}

/* (out, rank), scales and weights multiplied in */
static int fill_up(const struct sdk_tensor *tensor, float *out)
{
	const struct change *change = change_of(tensor->data, up);
	const size_t all = (size_t)change->rank;
	size_t at = 0;

	for (size_t i = 0; i < change->n_branches; i++) {
		const struct term *term = &change->branches[i];
		const size_t rank = (size_t)term->delta.rank;
		const double scale = term->weight * term->delta.scale;
		float *up = sde_delta_floats(term->delta.parts[SDE_LOW_RANK_UP]);

		if (!up)
			return -ENOMEM;
		for (size_t o = 0; o < (size_t)change->shape.out; o++)
			for (size_t k = 0; k < rank; k++)
				out[o * all + at + k] =
					(float)(scale *
						up[((size_t)term->delta.first_row + o) * rank + k]);
		free(up);
		at += rank;
	}
	return 0;
}

static int fill_merged(const struct sdk_tensor *tensor, float *out)
{
	const struct change *change = change_of(tensor->data, base);
	const size_t n = (size_t)sdk_tensor_count(tensor);
	_cleanup_free_ float *base = NULL;
	int r;

	r = sdk_tensor_floats(&change->base, out);
	if (r < 0)
		return r;
	for (size_t i = 0; i < change->n_merged && !base; i++)
		if (change->merged[i].delta.dora_scale) {
			base = malloc(n * sizeof(*base));
			if (!base)
				return -ENOMEM;
			memcpy(base, out, n * sizeof(*base));
		}
	for (size_t i = 0; r >= 0 && i < change->n_merged; i++)
		r = sde_delta_apply(&change->merged[i].delta, &change->shape,
				    change->merged[i].weight, base, out);
	return r;
}

static int fill_bias(const struct sdk_tensor *tensor, float *out)
{
	const struct change *change = change_of(tensor->data, bias);
	const size_t n = (size_t)change->shape.out;
	int r = 0;

	memset(out, 0, n * sizeof(*out));
	if (change->base_bias.data)
		r = sdk_tensor_floats(&change->base_bias, out);
	for (size_t i = 0; r >= 0 && i < change->n_biases; i++) {
		float *diff = sde_delta_floats(change->biases[i]);

		if (!diff)
			return -ENOMEM;
		sde_delta_axpy(n, (float)change->bias_weights[i], diff, out);
		free(diff);
	}
	return r;
}

static void change_free(struct change *change)
{
	if (!change)
		return;
	free(change->branches);
	free(change->merged);
	free(change->biases);
	free(change->bias_weights);
	free(change);
}

static struct change *change_new(size_t n_files)
{
	struct change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->branches = calloc(n_files, sizeof(*change->branches));
	change->merged = calloc(n_files, sizeof(*change->merged));
	change->biases = calloc(n_files, sizeof(*change->biases));
	change->bias_weights = calloc(n_files, sizeof(*change->bias_weights));
	if (change->branches && change->merged && change->biases && change->bias_weights)
		return change;
	change_free(change);
	return NULL;
}

/* diff_b */
static int take_bias(struct change *change, const struct file *file, const char *name,
		     struct sde_error *error)
{
	char full[SDE_ADAPTER_NAME_BYTES + 8];
	const struct sde_tensor *diff;

	snprintf(full, sizeof(full), "%.*s.diff_b", SDE_ADAPTER_NAME_BYTES - 1, name);
	diff = sde_weights_find(file->weights, full);
	if (!diff)
		return 0;
	sde_weights_ignore(file->weights, full);
	if (diff->count != (size_t)change->shape.out || diff->dtype > SDE_DTYPE_F64)
		return sde_delta_misfit(diff, &change->shape, error);
	if (file->weight == 0)
		return 0;
	change->biases[change->n_biases] = diff;
	change->bias_weights[change->n_biases++] = file->weight;
	return 0;
}

/* What file says about the layer under this name: 1 with *ret_delta, 0 when nothing. */
static int find_delta(const struct file *file, const struct sde_adapter_name *name,
		      const struct sde_delta_shape *shape, struct sde_delta *ret_delta,
		      struct sde_error *error)
{
	struct sde_delta_shape theirs = *shape;
	int r;

	if (name->rows > 0)
		theirs.out = name->rows;
	r = sde_delta_find(file->weights, name->text, &theirs, ret_delta, error);
	if (r <= 0 || name->rows == 0)
		return r;
	if (ret_delta->kind != &sde_delta_low_rank || ret_delta->dora_scale)
		return sde_error_set(
			error, -ENOTSUP, "a %s%s of a fused layer ('%.160s') is not supported",
			ret_delta->dora_scale ? "DoRA " : "", ret_delta->kind->name, name->text);
	ret_delta->first_row = name->first_row;
	return 1;
}

static int take_file(struct change *change, const struct part *part, const struct file *file,
		     const char *path, struct sde_error *error)
{
	struct sde_adapter_name names[SDE_ADAPTER_NAMES_MAX];
	const size_t n = sde_adapter_names(part->part, part->unet, path, change->shape.in,
					   change->shape.out, names);

	for (size_t i = 0; i < n; i++) {
		struct sde_delta delta;
		int r;

		r = find_delta(file, &names[i], &change->shape, &delta, error);
		if (r >= 0 && take_bias(change, file, names[i].text, error) < 0)
			r = -EBADMSG;
		if (r < 0) {
			sde_error_prefix(error, "LoRA %s: %s", file->name, path);
			return r;
		}
		if (r == 0 || file->weight == 0)
			continue;
		if (delta.kind == &sde_delta_low_rank && !delta.dora_scale) {
			change->rank += delta.rank;
			change->branches[change->n_branches++] = (struct term){delta, file->weight};
		} else {
			change->merged[change->n_merged++] = (struct term){delta, file->weight};
		}
		break;
	}
	return 0;
}

static struct sdk_tensor filled(const char *name, const void *identity,
				int (*fill)(const struct sdk_tensor *, float *), int rank,
				const int64_t *shape)
{
	struct sdk_tensor tensor = {
		.name = name, .type = SDK_F32, .rank = rank, .data = identity, .fill = fill};

	for (int i = 0; i < rank; i++)
		tensor.shape[i] = shape[i];
	return tensor;
}

/* Put the change's tensors in place of, or beside, the layer's. */
static void install(struct sde_loras *loras, struct change *change,
		    const struct sde_bound_layer *layer)
{
	const int64_t rank = change->rank, out = layer->out, in = layer->in, k = layer->kernel;

	if (change->n_branches) {
		/* a linear layer's, or a convolution's */
		change->branch.down = filled("adapter down", change, fill_down, k > 1 ? 4 : 2,
					     (const int64_t[]){rank, in, k, k});
		change->branch.up =
			filled("adapter up", &change->up, fill_up, 2, (const int64_t[]){out, rank});
		if (layer->weight->rank == 4)
			change->branch.down = filled("adapter down", change, fill_down, 4,
						     (const int64_t[]){rank, in, k, k});
		*layer->branch = &change->branch;
	}
	if (change->n_merged) {
		change->base = *layer->weight;
		*layer->weight = filled(change->base.name, &change->base, fill_merged,
					change->base.rank, change->base.shape);
		loras->merged_bytes += (uint64_t)sdk_tensor_count(layer->weight) * sizeof(float);
	}
	if (change->n_biases) {
		change->base_bias = *layer->bias;
		*layer->bias =
			filled("adapter bias", &change->bias, fill_bias, 1, (const int64_t[]){out});
	}
}

static int patch_layer(struct sde_patch *patch, const struct sde_bound_layer *layer,
		       struct sde_error *error)
{
	struct part *part = (struct part *)patch;
	struct sde_loras *loras = part->loras;
	struct change *change = change_new(loras->n_files);
	int r = 0;

	if (!change)
		return sde_error_set(error, -ENOMEM, "no memory for LoRAs");
	change->shape = (struct sde_delta_shape){layer->out, layer->in, layer->kernel};
	for (size_t i = 0; r >= 0 && i < loras->n_files; i++)
		r = take_file(change, part, &loras->files[i], layer->name, error);
	if (r < 0 || change->n_branches + change->n_merged + change->n_biases == 0) {
		change_free(change);
		return r;
	}
	install(loras, change, layer);
	change->next = loras->changes;
	loras->changes = change;
	part->patched++;
	return 0;
}

static int open_file(struct file *file, const struct sde_lora_use *use, const char *family,
		     struct sde_error *error)
{
	int r;

	if (!isfinite(use->weight))
		return sde_error_set(error, -EINVAL, "LoRA %s: its weight must be a finite number",
				     use->name);
	file->weight = use->weight;
	file->name = strdup(use->name);
	if (!file->name)
		return sde_error_set(error, -ENOMEM, "no memory for LoRAs");
	r = sde_weights_open(use->path, &file->weights, error);
	if (r < 0) {
		sde_error_prefix(error, "LoRA %s", use->name);
		return r;
	}
	return sde_adapter_check_family("LoRA", use->name, file->weights, family, error);
}

int sde_loras_new(const struct sde_lora_use *uses, size_t n, const char *family,
		  struct sde_loras **ret_loras, struct sde_error *error)
{
	struct sde_loras *loras = calloc(1, sizeof(*loras));
	int r = 0;

	if (!loras || !(loras->files = calloc(n + 1, sizeof(*loras->files)))) {
		free(loras);
		return sde_error_set(error, -ENOMEM, "no memory for LoRAs");
	}
	for (; r >= 0 && loras->n_files < n; loras->n_files++)
		r = open_file(&loras->files[loras->n_files], &uses[loras->n_files], family, error);
	if (r < 0) {
		sde_loras_free(loras);
		return r;
	}
	*ret_loras = loras;
	return 0;
}

struct sde_loras *sde_loras_free(struct sde_loras *loras)
{
	if (!loras)
		return NULL;
	while (loras->changes) {
		struct change *next = loras->changes->next;

		change_free(loras->changes);
		loras->changes = next;
	}
	for (size_t i = 0; i < loras->n_files; i++) {
		sde_weights_free(loras->files[i].weights);
		free(loras->files[i].name);
	}
	free(loras->files);
	free(loras);
	return NULL;
}

uint64_t sde_loras_content(const struct sde_loras *loras)
{
	uint64_t hash = loras->n_files, weight;

	for (size_t i = 0; i < loras->n_files; i++) {
		memcpy(&weight, &loras->files[i].weight, sizeof(weight));
		hash = sdd_hash_mix(hash, sde_weights_content(loras->files[i].weights));
		hash = sdd_hash_mix(hash, weight);
	}
	return hash;
}

struct sde_patch *sde_loras_patch(struct sde_loras *loras, enum sde_adapter_part part,
				  const struct sde_unet_config *unet)
{
	loras->parts[part] =
		(struct part){.patch = {patch_layer}, .loras = loras, .part = part, .unet = unet};
	return &loras->parts[part].patch;
}

size_t sde_loras_patched(const struct sde_loras *loras, enum sde_adapter_part part)
{
	return loras->parts[part].patched;
}

uint64_t sde_loras_bytes(const struct sde_loras *loras)
{
	uint64_t bytes = loras->merged_bytes;

	for (size_t i = 0; i < loras->n_files; i++)
		bytes += sde_weights_bytes(loras->files[i].weights);
	return bytes;
}

int sde_loras_finish(const struct sde_loras *loras, struct sde_error *error)
{
	for (size_t i = 0; i < loras->n_files; i++) {
		const struct file *file = &loras->files[i];
		const struct sde_tensor *extra;
		size_t position = 0;

		extra = sde_weights_unused(file->weights, &position);
		if (extra)
			return sde_error_set(error, -EINVAL,
					     "LoRA %s: tensor '%.160s' belongs to no layer of this "
					     "model",
					     file->name, extra->name);
	}
	return 0;
}
