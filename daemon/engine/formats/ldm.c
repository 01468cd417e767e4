/*
 * What the mappings of names share, and the simple ones: see ldm.h.
 */
#include "daemon/engine/formats/ldm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 512

const struct sde_tensor *sde_part_find(const struct sde_part *part, const char *format, ...)
{
	char name[NAME_BYTES];
	const int prefix = snprintf(name, sizeof(name), "%s", part->prefix);
	va_list ap;

	va_start(ap, format);
	vsnprintf(name + prefix, sizeof(name) - (size_t)prefix, format, ap);
	va_end(ap);
	return sde_tensor_file_find(part->file, name);
}

static bool ends_with(const char *text, const char *end)
{
	const size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

static bool is_f8(const struct sde_tensor *tensor)
{
	return tensor->dtype == SDE_DTYPE_F8_E4M3 || tensor->dtype == SDE_DTYPE_F8_E5M2;
}

/* What ComfyUI stores beside scaled matrices. */
static bool is_scale(const char *name)
{
	return !strcmp(name, "scaled_fp8") || ends_with(name, ".scale_weight") ||
	       ends_with(name, ".scale_input");
}

/* "X.weight" of 8 bits is to be multiplied by the one number of "X.scale_weight". */
static int find_scale(const struct sde_part *part, const char *name, struct sde_tensor *tensor,
		      struct sde_error *error)
{
	const struct sde_tensor *scale;

	if (!is_f8(tensor) || !ends_with(name, ".weight"))
		return 0;
	scale = sde_part_find(part, "%.*s.scale_weight", (int)(strlen(name) - 7), name);
	if (!scale)
		return 0;
	if (scale->count != 1)
		return sde_error_set(error, -ENOTSUP,
				     "%s: tensor '%s' has %zu numbers; one scale a matrix is read",
				     scale->file, scale->name, scale->count);
	return sde_tensor_to_f32(scale, &tensor->scale, error);
}

int sde_part_each(const struct sde_part *part,
		  int (*each)(void *userdata, const struct sde_tensor *tensor, const char *name,
			      struct sde_error *error),
		  void *userdata, struct sde_error *error)
{
	const size_t length = strlen(part->prefix);
	const struct sde_tensor *stored;
	int r = 0;

	for (size_t i = sde_tensor_file_lower_bound(part->file, part->prefix);
	     r >= 0 && (stored = sde_tensor_file_at(part->file, i)) &&
	     !strncmp(stored->name, part->prefix, length);
	     i++) {
		const char *name = stored->name + length;
		struct sde_tensor tensor = *stored;

		if (is_scale(name))
			continue;
		r = find_scale(part, name, &tensor, error);
		if (r >= 0)
			r = each(userdata, &tensor, name, error);
	}
	return r;
}

bool sde_rename(const struct sde_rename *rules, const char *name, char *ret_name, size_t size)
{
	for (; rules->from; rules++) {
		const size_t length = strlen(rules->from);

		if (strncmp(name, rules->from, length) != 0)
			continue;
		snprintf(ret_name, size, "%s%s", rules->to, name + length);
		return true;
	}
	return false;
}

bool sde_rename_back(const struct sde_rename *rules, const char *name, char *ret_name, size_t size)
{
	for (; rules->from; rules++) {
		const size_t length = strlen(rules->to);

		if (strncmp(name, rules->to, length) != 0)
			continue;
		snprintf(ret_name, size, "%s%s", rules->from, name + length);
		return true;
	}
	return false;
}

static int add_same(void *userdata, const struct sde_tensor *tensor, const char *name,
		    struct sde_error *error)
{
	return sde_weights_add(userdata, name, tensor, NULL, error);
}

int sde_map_same(const struct sde_part *part, struct sde_weights *weights, struct sde_error *error)
{
	return sde_part_each(part, add_same, weights, error);
}

/* Layer i of a half of TAESD, moved to where diffusers counts it. */
static int add_sequential(struct sde_weights *weights, const struct sde_tensor *tensor,
			  const char *name, const char *half, int shift, struct sde_error *error)
{
	char to[NAME_BYTES];
	int layer, used = 0;

	if (sscanf(name, "%d.%n", &layer, &used) != 1 || !used)
		return sde_weights_add(weights, name, tensor, NULL, error);
	snprintf(to, sizeof(to), "%s.layers.%d.%s", half, layer + shift, name + used);
	return sde_weights_add(weights, to, tensor, NULL, error);
}

static int add_taesd_encoder(void *userdata, const struct sde_tensor *tensor, const char *name,
			     struct sde_error *error)
{
	return add_sequential(userdata, tensor, name, "encoder", 0, error);
}

/* The original decoder counts its clamp as layer 0. */
static int add_taesd_decoder(void *userdata, const struct sde_tensor *tensor, const char *name,
			     struct sde_error *error)
{
	return add_sequential(userdata, tensor, name, "decoder", -1, error);
}

int sde_map_taesd_encoder(const struct sde_part *part, struct sde_weights *weights,
			  struct sde_error *error)
{
	return sde_part_each(part, add_taesd_encoder, weights, error);
}

int sde_map_taesd_decoder(const struct sde_part *part, struct sde_weights *weights,
			  struct sde_error *error)
{
	return sde_part_each(part, add_taesd_decoder, weights, error);
}
