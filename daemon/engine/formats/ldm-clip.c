/*
 * CLIP text encoders inside checkpoint files: transformers' names, or OpenCLIP's, where q, k and v are stacked in one tensor and the
 * projection is stored (width, projection), the transpose of a Linear's weight.
 */
#include "daemon/engine/formats/ldm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"

#define NAME_BYTES 512

struct walk {
	struct sde_weights *weights;
	int n_layers;	 /* blocks from here on are left out */
	bool projection; /* wanted */
};

static const struct sde_rename stem[] = {
	{"positional_embedding", "embeddings.position_embedding.weight"},
	{"token_embedding.", "embeddings.token_embedding."},
	{"ln_final.", "final_layer_norm."},
	{NULL, NULL},
};

static const struct sde_rename block[] = {
	{"ln_1.", "layer_norm1."},
	{"ln_2.", "layer_norm2."},
	{"attn.out_proj.", "self_attn.out_proj."},
	{"mlp.c_fc.", "mlp.fc1."},
	{"mlp.c_proj.", "mlp.fc2."},
	{NULL, NULL},
};

/* No weights, whatever their type: constants and what only training needs. */
static bool is_foreign(const char *name)
{
	return !strcmp(name, "logit_scale") || !strcmp(name, "attn_mask") ||
	       strstr(name, "position_ids");
}

static int add_clip(void *userdata, const struct sde_tensor *tensor, const char *name,
		    struct sde_error *error)
{
	return is_foreign(name) ? 0 : sde_weights_add(userdata, name, tensor, NULL, error);
}

int sde_map_clip(const struct sde_part *part, struct sde_weights *weights, struct sde_error *error)
{
	return sde_part_each(part, add_clip, weights, error);
}

/* "in_proj_weight" or "in_proj_bias": a third of the rows each. */
static int add_fused(struct walk *walk, const struct sde_tensor *tensor, const char *kind,
		     int layer, struct sde_error *error)
{
	static const char *const parts[] = {"q", "k", "v"};
	const int64_t rows = tensor->rank > 0 ? tensor->shape[0] / 3 : 0;
	char to[NAME_BYTES];
	int r = 0;

	for (int i = 0; r >= 0 && i < 3; i++) {
		snprintf(to, sizeof(to), "encoder.layers.%d.self_attn.%s_proj.%s", layer, parts[i],
			 kind);
		r = sde_weights_add_rows(walk->weights, to, tensor, i * rows, rows, error);
	}
	return r;
}

static int add_transposed(struct walk *walk, const struct sde_tensor *tensor, const char *name,
			  struct sde_error *error)
{
	struct sde_tensor turned = *tensor;
	_cleanup_free_ float *values = NULL;
	size_t rows, columns;
	float *data;
	int r;

	if (tensor->rank != 2)
		return sde_error_set(error, -EBADMSG, "%s: tensor '%s' is not a matrix",
				     tensor->file, tensor->name);
	rows = (size_t)tensor->shape[0];
	columns = (size_t)tensor->shape[1];
	values = calloc(tensor->count + 1, sizeof(*values));
	data = calloc(tensor->count + 1, sizeof(*data));
	if (!data || !values) {
		free(data);
		return sde_error_set(error, -ENOMEM, "%s: no memory for tensor '%s'", tensor->file,
				     tensor->name);
	}
	r = sde_tensor_to_f32(tensor, values, error);
	if (r < 0) {
		free(data);
		return r;
	}
	for (size_t row = 0; row < rows; row++)
		for (size_t c = 0; c < columns; c++)
			data[c * rows + row] = values[row * columns + c];
	turned.dtype = SDE_DTYPE_F32;
	turned.bytes = tensor->count * sizeof(*data);
	turned.shape[0] = tensor->shape[1];
	turned.shape[1] = tensor->shape[0];
	return sde_weights_add(walk->weights, name, &turned, data, error);
}

static int add_openclip(void *userdata, const struct sde_tensor *tensor, const char *name,
			struct sde_error *error)
{
	struct walk *walk = userdata;
	char to[NAME_BYTES];
	int layer, used = 0, start;

	if (is_foreign(name))
		return 0;
	if (!strcmp(name, "text_projection"))
		return walk->projection
			       ? add_transposed(walk, tensor, "text_projection.weight", error)
			       : 0;
	if (sde_rename(stem, name, to, sizeof(to)))
		return sde_weights_add(walk->weights, to, tensor, NULL, error);
	if (sscanf(name, "transformer.resblocks.%d.%n", &layer, &used) != 1 || !used)
		return sde_weights_add(walk->weights, name, tensor, NULL, error);
	if (layer >= walk->n_layers)
		return 0;
	if (!strncmp(name + used, "attn.in_proj_", 13))
		return add_fused(walk, tensor, name + used + 13, layer, error);
	start = snprintf(to, sizeof(to), "encoder.layers.%d.", layer);
	if (!sde_rename(block, name + used, to + start, sizeof(to) - (size_t)start))
		return sde_weights_add(walk->weights, name, tensor, NULL, error);
	return sde_weights_add(walk->weights, to, tensor, NULL, error);
}

static int count_layers(const struct sde_part *part)
{
	int n = 0;

	while (sde_part_find(part, "transformer.resblocks.%d.ln_1.weight", n))
		n++;
	return n;
}

int sde_map_openclip(const struct sde_part *part, struct sde_weights *weights,
		     struct sde_error *error)
{
	struct walk walk = {.weights = weights, .n_layers = count_layers(part), .projection = true};

	return sde_part_each(part, add_openclip, &walk, error);
}

int sde_map_openclip_sd2(const struct sde_part *part, struct sde_weights *weights,
			 struct sde_error *error)
{
	struct walk walk = {.weights = weights, .n_layers = count_layers(part) - 1};

	return sde_part_each(part, add_openclip, &walk, error);
}
