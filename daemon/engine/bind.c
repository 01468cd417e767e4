/*
 * From field tables to tensors. The shape is checked by sde_weights_take, which also composes the message.
 */
#include "daemon/engine/bind.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"

#define NAME_MAX_LENGTH 256

/* The alternative of field->name that the file has; the first when it has none, so that the error names the new one. */
static void choose_name(struct sde_weights *weights, const char *prefix, const char *names,
			char *ret_name, size_t size)
{
	char candidate[NAME_MAX_LENGTH + 8];
	const char *name = names;

	snprintf(ret_name, size, "%s%.*s", prefix, (int)strcspn(names, "|"), names);
	while (name) {
		const size_t length = strcspn(name, "|");

		snprintf(candidate, sizeof(candidate), "%s%.*s.weight", prefix, (int)length, name);
		if (sde_weights_find(weights, candidate)) {
			snprintf(ret_name, size, "%s%.*s", prefix, (int)length, name);
			return;
		}
		name = name[length] == '|' ? name + length + 1 : NULL;
	}
}

static void take(struct sde_binder *binder, struct sdk_tensor *ret_tensor, int rank,
		 const int64_t *shape, const char *name, const char *suffix)
{
	const struct sde_tensor *stored;

	if (binder->r >= 0)
		binder->r = sde_weights_take(binder->weights, &stored, binder->error, rank, shape,
					     "%s%s", name, suffix);
	if (binder->r < 0)
		return;
	*ret_tensor = (struct sdk_tensor){.name = stored->name,
					  .type = (enum sdk_type)sde_dtype_weights(stored->dtype),
					  .rank = rank,
					  .data = stored->data,
					  .scale = stored->scale,
					  .map = stored->map,
					  .map_bytes = stored->map_bytes,
					  .keep = sde_weights_keep(binder->weights)};
	for (int i = 0; i < rank; i++)
		ret_tensor->shape[i] = stored->shape[i];
}

static void take_bias(struct sde_binder *binder, struct sdk_tensor *ret_tensor, int out,
		      const char *name)
{
	const int64_t shape[] = {out};

	take(binder, ret_tensor, 1, shape, name, ".bias");
}

static void patch_layer(struct sde_binder *binder, const struct sde_bound_layer *layer)
{
	struct sde_patch *patch = sde_weights_patch(binder->weights);

	if (patch && binder->r >= 0)
		binder->r = patch->layer(patch, layer, binder->error);
}

static void bind_conv(struct sde_binder *binder, struct sde_conv *conv, int in, int out, int kernel,
		      bool bias, const char *name)
{
	const int64_t shape[] = {out, in, kernel, kernel};

	*conv = (struct sde_conv){.in = in, .out = out, .kernel = kernel};
	take(binder, &conv->weight, 4, shape, name, ".weight");
	if (bias)
		take_bias(binder, &conv->bias, out, name);
	patch_layer(binder, &(struct sde_bound_layer){name, &conv->weight, &conv->bias,
						      &conv->branch, in, out, kernel});
}

static void bind_linear(struct sde_binder *binder, struct sde_linear *linear,
			enum sde_field_kind kind, int in, int out, const char *name)
{
	const int64_t shape[] = {out, in, 1, 1};
	const struct sde_tensor *stored = NULL;
	char weight[NAME_MAX_LENGTH + 8];
	int rank = 2;

	*linear = (struct sde_linear){.in = in, .out = out};
	if (kind == SDE_FIELD_POINTWISE) {
		snprintf(weight, sizeof(weight), "%s.weight", name);
		stored = sde_weights_find(binder->weights, weight);
		if (stored && stored->rank == 4)
			rank = 4;
	}
	take(binder, &linear->weight, rank, shape, name, ".weight");
	if (kind != SDE_FIELD_LINEAR_NO_BIAS)
		take_bias(binder, &linear->bias, out, name);
	patch_layer(binder, &(struct sde_bound_layer){name, &linear->weight, &linear->bias,
						      &linear->branch, in, out, 1});
}

static void bind_norm(struct sde_binder *binder, struct sde_norm *norm, int channels, bool bias,
		      const char *name)
{
	const int64_t shape[] = {channels};

	*norm = (struct sde_norm){.channels = channels};
	take(binder, &norm->weight, 1, shape, name, ".weight");
	if (bias)
		take_bias(binder, &norm->bias, channels, name);
}

static void bind_positions(struct sde_binder *binder, struct sde_table *table, int rows,
			   int columns, const char *name)
{
	const int64_t shape[] = {1, rows, columns};

	*table = (struct sde_table){.rows = rows, .columns = columns};
	take(binder, &table->weight, 3, shape, name, "");
}

static void bind_table(struct sde_binder *binder, struct sde_table *table, int rows, int columns,
		       const char *name)
{
	const int64_t shape[] = {rows, columns};

	*table = (struct sde_table){.rows = rows, .columns = columns};
	take(binder, &table->weight, 2, shape, name, ".weight");
}

void sde_bind(struct sde_binder *binder, const struct sde_field *fields, size_t n, const int *dims,
	      void *base, const char *prefix, ...)
{
	char start[NAME_MAX_LENGTH / 2], name[NAME_MAX_LENGTH];
	va_list ap;

	if (binder->r < 0)
		return;
	va_start(ap, prefix);
	vsnprintf(start, sizeof(start), prefix, ap);
	va_end(ap);
	for (size_t i = 0; i < n; i++) {
		void *member = (char *)base + fields[i].offset;
		const int in = dims[fields[i].in], out = dims[fields[i].out];

		choose_name(binder->weights, start, fields[i].name, name, sizeof(name));
		switch (fields[i].kind) {
		case SDE_FIELD_CONV3:
			bind_conv(binder, member, in, out, 3, true, name);
			break;
		case SDE_FIELD_CONV3_NO_BIAS:
			bind_conv(binder, member, in, out, 3, false, name);
			break;
		case SDE_FIELD_CONV2:
			bind_conv(binder, member, in, out, 2, true, name);
			break;
		case SDE_FIELD_CONV1:
			bind_conv(binder, member, in, out, 1, true, name);
			break;
		case SDE_FIELD_LINEAR:
		case SDE_FIELD_LINEAR_NO_BIAS:
		case SDE_FIELD_POINTWISE:
			bind_linear(binder, member, fields[i].kind, in, out, name);
			break;
		case SDE_FIELD_NORM:
			bind_norm(binder, member, out, true, name);
			break;
		case SDE_FIELD_NORM_NO_BIAS:
			bind_norm(binder, member, out, false, name);
			break;
		case SDE_FIELD_TABLE:
			bind_table(binder, member, out, in, name);
			break;
		case SDE_FIELD_POSITIONS:
			bind_positions(binder, member, out, in, name);
			break;
		}
	}
}

int sde_bind_finish(struct sde_binder *binder)
{
	const struct sde_tensor *extra;
	char shape[128];
	size_t position = 0;

	if (binder->r < 0)
		return binder->r;
	extra = sde_weights_unused(binder->weights, &position);
	if (extra)
		return sde_error_set(
			binder->error, -EBADMSG,
			"%s: tensor '%.120s' %s does not belong to this architecture as "
			"its config.json describes it",
			extra->file, extra->name,
			sde_shape_string(shape, sizeof(shape), extra->rank, extra->shape));
	return 0;
}

void sde_bind_tensor(struct sde_binder *binder, struct sdk_tensor *ret_tensor, int rank,
		     const int64_t *shape, const char *name)
{
	take(binder, ret_tensor, rank, shape, name, "");
}
