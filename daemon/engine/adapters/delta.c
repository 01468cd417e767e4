/*
 * Finding an adapter's change of a layer by the names of its tensors, and adding it to a weight; see delta.h.
 */
#include "daemon/engine/adapters/delta.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "kernels/simd.h"

#define NAME_MAX_LENGTH 384

static const struct sde_delta_kind *const kinds[] = {&sde_delta_low_rank, &sde_delta_loha,
						     &sde_delta_lokr, &sde_delta_full};

float *sde_delta_floats(const struct sde_tensor *tensor)
{
	float *values;

	if (!tensor)
		return NULL;
	values = malloc((tensor->count + 1) * sizeof(*values));
	if (values && sde_tensor_to_f32(tensor, values, NULL) < 0) {
		free(values);
		return NULL;
	}
	return values;
}

size_t sde_delta_row(const struct sde_delta_shape *shape)
{
	return (size_t)shape->in * (size_t)shape->kernel * (size_t)shape->kernel;
}

int sde_delta_misfit(const struct sde_tensor *tensor, const struct sde_delta_shape *shape,
		     struct sde_error *error)
{
	char have[128];

	return sde_error_set(
		error, -EBADMSG,
		"tensor '%.160s' has shape %s, which does not fit a layer of %d inputs, %d "
		"outputs and kernel %d",
		tensor->name, sde_shape_string(have, sizeof(have), tensor->rank, tensor->shape),
		shape->in, shape->out, shape->kernel);
}

SDK_CLONES void sde_delta_axpy(size_t n, float a, const float *restrict x, float *restrict y)
{
	for (size_t i = 0; i < n; i++)
		y[i] += a * x[i];
}

void sde_delta_tucker_row(const float *t, const float *a, size_t a_step, const float *b, int r,
			  int q, int in, int spots, float *scratch, float *row)
{
	const size_t plane = (size_t)q * (size_t)spots;

	memset(scratch, 0, plane * sizeof(*scratch));
	for (int i = 0; i < r; i++)
		sde_delta_axpy(plane, a[(size_t)i * a_step], t + (size_t)i * plane, scratch);
	for (int j = 0; j < q; j++)
		for (int i = 0; i < in; i++)
			sde_delta_axpy((size_t)spots, b[(size_t)j * (size_t)in + (size_t)i],
				       scratch + (size_t)j * (size_t)spots,
				       row + (size_t)i * (size_t)spots);
}

/* base + one of the suffixes that stand in names, separated by '|'; NULL when the file has none. */
static const struct sde_tensor *find_part(struct sde_weights *weights, const char *base,
					  const char *names)
{
	char name[NAME_MAX_LENGTH];

	while (names) {
		const size_t length = strcspn(names, "|");
		const struct sde_tensor *tensor;

		snprintf(name, sizeof(name), "%s.%.*s", base, (int)length, names);
		tensor = sde_weights_find(weights, name);
		if (tensor) {
			sde_weights_ignore(weights, name);
			return tensor;
		}
		names = names[length] == '|' ? names + length + 1 : NULL;
	}
	return NULL;
}

static bool is_number(enum sde_dtype dtype)
{
	return dtype == SDE_DTYPE_F32 || dtype == SDE_DTYPE_F16 || dtype == SDE_DTYPE_BF16 ||
	       dtype == SDE_DTYPE_F64;
}

static int check_type(const struct sde_tensor *tensor, struct sde_error *error)
{
	if (is_number(tensor->dtype))
		return 0;
	return sde_error_set(error, -ENOTSUP,
			     "tensor '%.160s' is %s; adapters must be F32, F16, BF16 or F64",
			     tensor->name, sde_dtype_name(tensor->dtype));
}

static int read_scale(struct sde_weights *weights, const char *base, struct sde_delta *delta,
		      struct sde_error *error)
{
	const struct sde_tensor *alpha = find_part(weights, base, "alpha");
	float value;
	int r;

	delta->scale = 1;
	if (!alpha)
		return 0;
	r = check_type(alpha, error);
	if (r < 0)
		return r;
	if (alpha->count != 1)
		return sde_error_set(error, -EBADMSG, "tensor '%.160s' must be one number",
				     alpha->name);
	sde_tensor_to_f32(alpha, &value, NULL);
	if (!isfinite(value))
		return sde_error_set(error, -EBADMSG, "tensor '%.160s' is no finite number",
				     alpha->name);
	if (delta->rank > 0)
		delta->scale = (double)value / delta->rank;
	return 0;
}

/* (out, 1...) or (1, in, 1...) */
static int check_dora(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		      struct sde_error *error)
{
	const struct sde_tensor *dora = delta->dora_scale;
	int r;

	if (!dora)
		return 0;
	r = check_type(dora, error);
	if (r < 0)
		return r;
	if (dora->rank >= 2 && dora->count == (size_t)shape->out && dora->shape[0] == shape->out)
		return 0;
	if (dora->rank >= 2 && dora->count == (size_t)shape->in && dora->shape[1] == shape->in)
		return 0;
	return sde_delta_misfit(dora, shape, error);
}

int sde_delta_find(struct sde_weights *weights, const char *base,
		   const struct sde_delta_shape *shape, struct sde_delta *ret_delta,
		   struct sde_error *error)
{
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct sde_delta delta = {.kind = kinds[k]};
		int r = 0, found = 0;

		for (size_t i = 0; i < SDE_DELTA_PARTS_MAX && kinds[k]->parts[i]; i++) {
			delta.parts[i] = find_part(weights, base, kinds[k]->parts[i]);
			if (!delta.parts[i])
				continue;
			found++;
			if (r >= 0)
				r = check_type(delta.parts[i], error);
		}
		if (!found)
			continue;
		if (r >= 0)
			r = kinds[k]->check(&delta, shape, error);
		if (r >= 0)
			r = read_scale(weights, base, &delta, error);
		if (r < 0)
			return r;
		delta.dora_scale = find_part(weights, base, "dora_scale");
		r = check_dora(&delta, shape, error);
		if (r < 0)
			return r;
		*ret_delta = delta;
		return 1;
	}
	return 0;
}

/* v (out, row) to rows, or columns of all its kernel's spots, of the lengths that dora says */
static void set_magnitudes(const struct sde_delta_shape *shape, const struct sde_tensor *dora,
			   const float *magnitudes, float *v)
{
	const bool rows = dora->shape[0] == shape->out && dora->count == (size_t)shape->out;
	const size_t spots = (size_t)shape->kernel * (size_t)shape->kernel;
	const size_t row = sde_delta_row(shape), n = rows ? (size_t)shape->out : (size_t)shape->in;

	for (size_t i = 0; i < n; i++) {
		const size_t count = rows ? row : (size_t)shape->out * spots;
		double sum = 0;
		float factor;

		for (size_t k = 0; k < count; k++) {
			const float x =
				rows ? v[i * row + k] : v[k / spots * row + i * spots + k % spots];

			sum += (double)x * x;
		}
		factor = sum > 0 ? (float)(magnitudes[i] / sqrt(sum)) : 0;
		for (size_t k = 0; k < count; k++)
			v[rows ? i * row + k : k / spots * row + i * spots + k % spots] *= factor;
	}
}

int sde_delta_apply(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		    double weight, const float *base, float *w)
{
	const size_t n = (size_t)shape->out * sde_delta_row(shape);
	_cleanup_free_ float *v = NULL, *magnitudes = NULL;
	int r;

	if (!delta->dora_scale)
		return delta->kind->add(delta, shape, weight * delta->scale, w);
	v = malloc(n * sizeof(*v));
	magnitudes = sde_delta_floats(delta->dora_scale);
	if (!v || !magnitudes)
		return -ENOMEM;
	memcpy(v, base, n * sizeof(*v));
	r = delta->kind->add(delta, shape, delta->scale, v);
	if (r < 0)
		return r;
	set_magnitudes(shape, delta->dora_scale, magnitudes, v);
	for (size_t i = 0; i < n; i++)
		w[i] += (float)weight * (v[i] - base[i]);
	return 0;
}
