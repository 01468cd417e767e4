/*
 * Compiling and running plans: liveness, one arena, and the host's side of inputs and outputs. Recording is in record.c.
 */
#include "kernels/plan-private.h"
#include "kernels/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN ((size_t)64)

struct sdk_plan *sdk_plan_new(struct sdk_backend *backend)
{
	struct sdk_plan *plan = calloc(1, sizeof(*plan));

	if (plan)
		plan->backend = backend;
	return plan;
}

struct sdk_plan *sdk_plan_free(struct sdk_plan *plan)
{
	if (!plan)
		return NULL;
	for (int i = 0; i < plan->n_prepared; i++)
		plan->backend->ops->release(plan->backend, &plan->ops[i], plan->states[i]);
	for (int i = 0; i < plan->n_tables; i++) {
		free((void *)plan->tables[i]->data);
		free(plan->tables[i]);
	}
	free(plan->tables);
	free(plan->states);
	free(plan->ops);
	free(plan->values);
	free(plan);
	return NULL;
}

int sdk_plan_error(const struct sdk_plan *plan)
{
	return plan->error;
}

const char *sdk_plan_error_text(const struct sdk_plan *plan)
{
	return plan->error_text;
}

struct sdk_shape sdk_plan_shape(const struct sdk_plan *plan, sdk_value value)
{
	if (value < 0 || value >= plan->n_values)
		return (struct sdk_shape){0};
	return plan->values[value].shape;
}

size_t sdk_plan_arena_bytes(const struct sdk_plan *plan)
{
	return plan->arena_bytes;
}

static sdk_value root_of(const struct sdk_plan *plan, sdk_value value)
{
	while (plan->values[value].alias != value)
		value = plan->values[value].alias;
	return value;
}

static void find_liveness(struct sdk_plan *plan)
{
	for (int v = 0; v < plan->n_values; v++) {
		struct sdk_value_info *info = &plan->values[v];
		struct sdk_value_info *root = &plan->values[root_of(plan, v)];

		info->first_op = plan->n_ops;
		info->last_op = -1;
		if (info->pinned)
			root->pinned = true;
	}
	for (int i = 0; i < plan->n_ops; i++) {
		const struct sdk_op *op = &plan->ops[i];
		struct sdk_value_info *out = &plan->values[root_of(plan, op->out)];

		if (out->first_op > i)
			out->first_op = i;
		if (out->last_op < i)
			out->last_op = i;
		for (int k = 0; k < op->n_in; k++) {
			struct sdk_value_info *in = &plan->values[root_of(plan, op->in[k])];

			if (in->last_op < i)
				in->last_op = i;
		}
	}
	for (int v = 0; v < plan->n_values; v++) {
		if (plan->values[v].pinned) {
			plan->values[v].first_op = -1;
			plan->values[v].last_op = plan->n_ops;
		}
	}
}

static bool lives_together(const struct sdk_value_info *a, const struct sdk_value_info *b)
{
	return a->first_op <= b->last_op && b->first_op <= a->last_op;
}

static int by_size(const void *left, const void *right)
{
	const struct sdk_value_info *a = *(const struct sdk_value_info *const *)left;
	const struct sdk_value_info *b = *(const struct sdk_value_info *const *)right;

	return a->bytes != b->bytes ? (a->bytes < b->bytes) - (a->bytes > b->bytes)
				    : (a > b) - (a < b);
}

/* Biggest first, each at the lowest place free during its whole life. */
static void place(struct sdk_value_info **placed, int n, struct sdk_value_info *value)
{
	bool moved;

	value->offset = 0;
	do {
		moved = false;
		for (int i = 0; i < n; i++) {
			const struct sdk_value_info *other = placed[i];

			if (lives_together(value, other) &&
			    value->offset < other->offset + other->bytes &&
			    other->offset < value->offset + value->bytes) {
				value->offset = other->offset + other->bytes;
				moved = true;
			}
		}
	} while (moved);
}

static int lay_out(struct sdk_plan *plan)
{
	struct sdk_value_info **order = calloc((size_t)plan->n_values + 1, sizeof(*order));
	int n = 0;

	if (!order)
		return -ENOMEM;
	for (int v = 0; v < plan->n_values; v++) {
		struct sdk_value_info *value = &plan->values[v];
		const size_t size = value->ids ? 4 : sdk_type_size(plan->backend->activation);

		if (value->alias != v || (value->last_op < 0 && !value->pinned))
			continue;
		value->bytes = ((size_t)sdk_shape_count(value->shape) * size + ARENA_ALIGN - 1) &
			       ~(ARENA_ALIGN - 1);
		order[n++] = value;
	}
	qsort(order, (size_t)n, sizeof(*order), by_size);
	for (int i = 0; i < n; i++) {
		place(order, i, order[i]);
		if (order[i]->offset + order[i]->bytes > plan->arena_bytes)
			plan->arena_bytes = order[i]->offset + order[i]->bytes;
	}
	free(order);
	plan->laid_out = true;
	return sdk_backend_reserve(plan->backend, plan->arena_bytes);
}

static void beat(struct sdk_backend *backend)
{
	if (backend->pulse)
		atomic_fetch_add_explicit(backend->pulse, 1, memory_order_relaxed);
}

int sdk_plan_compile(struct sdk_plan *plan)
{
	int r;

	if (plan->error)
		return plan->error;
	if (plan->laid_out)
		return -EALREADY;
	r = sdk_plan_fuse(plan);
	if (r < 0)
		return r;
	find_liveness(plan);
	r = lay_out(plan);
	if (r < 0)
		return r;
	plan->states = calloc((size_t)plan->n_ops + 1, sizeof(*plan->states));
	if (!plan->states)
		return -ENOMEM;
	for (; plan->n_prepared < plan->n_ops; plan->n_prepared++) {
		const struct sdk_op *op = &plan->ops[plan->n_prepared];

		beat(plan->backend);
		r = plan->backend->ops->prepare(plan->backend, op, &plan->states[plan->n_prepared]);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *memory_of(const struct sdk_plan *plan, sdk_value value)
{
	return plan->backend->arena + plan->values[root_of(plan, value)].offset;
}

int sdk_plan_set(struct sdk_plan *plan, sdk_value input, const float *data)
{
	if (!plan->laid_out || input < 0 || input >= plan->n_values || plan->values[input].ids)
		return -EINVAL;
	if (sdk_backend_reserve(plan->backend, plan->arena_bytes) < 0)
		return -ENOMEM;
	sdk_narrow(plan->backend->activation, data, memory_of(plan, input),
		   (size_t)sdk_shape_count(plan->values[input].shape));
	return 0;
}

int sdk_plan_set_ids(struct sdk_plan *plan, sdk_value input, const int32_t *ids)
{
	if (!plan->laid_out || input < 0 || input >= plan->n_values || !plan->values[input].ids)
		return -EINVAL;
	if (sdk_backend_reserve(plan->backend, plan->arena_bytes) < 0)
		return -ENOMEM;
	memcpy(memory_of(plan, input), ids,
	       (size_t)sdk_shape_count(plan->values[input].shape) * sizeof(*ids));
	return 0;
}

void sdk_plan_watch(struct sdk_plan *plan, const struct sdk_attention_watch *watch)
{
	plan->watch = watch;
}

/* The op with its watcher before and behind it. */
static int run_watched(const struct sdk_plan *plan, const struct sdk_op *op, void *state,
		       void *const *in, void *out)
{
	const struct sdk_attention_watch *watch = plan->watch;
	const struct sdk_attention_site site = {
		.site = op->site,
		.type = plan->backend->activation,
		.rows = op->in_shape[0].n,
		.queries = op->in_shape[0].w,
		.keys = op->in_shape[1].w,
		.heads = op->heads,
		.channels = op->in_shape[0].c,
		.scale = op->scale,
		.q = in[0],
		.k = in[1],
		.v = in[2],
		.out = out,
	};
	int r = watch->before ? watch->before(watch->userdata, &site) : 0;

	if (r >= 0)
		r = plan->backend->ops->run(plan->backend, op, state, in, out);
	return r >= 0 && watch->after ? watch->after(watch->userdata, &site) : r;
}

int sdk_plan_run(struct sdk_plan *plan, const atomic_int *cancel)
{
	void *in[SDK_MAX_INPUTS];

	if (!plan->laid_out || plan->backend->arena_bytes < plan->arena_bytes ||
	    plan->n_prepared != plan->n_ops)
		return -EINVAL;
	for (int i = 0; i < plan->n_ops; i++) {
		const struct sdk_op *op = &plan->ops[i];
		int r;

		if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
			return -ECANCELED;
		beat(plan->backend);
		for (int k = 0; k < op->n_in; k++)
			in[k] = memory_of(plan, op->in[k]);
		if (op->watched && plan->watch)
			r = run_watched(plan, op, plan->states[i], in, memory_of(plan, op->out));
		else
			r = plan->backend->ops->run(plan->backend, op, plan->states[i], in,
						    memory_of(plan, op->out));
		if (r < 0)
			return r;
	}
	return 0;
}

int sdk_plan_get(const struct sdk_plan *plan, sdk_value output, float *data)
{
	if (!plan->laid_out || plan->backend->arena_bytes < plan->arena_bytes || output < 0 ||
	    output >= plan->n_values || !plan->values[root_of(plan, output)].pinned)
		return -EINVAL;
	sdk_widen(plan->backend->activation, memory_of(plan, output), data,
		  (size_t)sdk_shape_count(plan->values[output].shape));
	return 0;
}

void sdk_nchw_to_nhwc(const float *in, float *out, int n, int c, int h, int w)
{
	const size_t plane = (size_t)h * (size_t)w, channels = (size_t)c;

	for (size_t b = 0; b < (size_t)n; b++)
		for (size_t k = 0; k < channels; k++)
			for (size_t p = 0; p < plane; p++)
				out[(b * plane + p) * channels + k] =
					in[(b * channels + k) * plane + p];
}

void sdk_nhwc_to_nchw(const float *in, float *out, int n, int h, int w, int c)
{
	const size_t plane = (size_t)h * (size_t)w, channels = (size_t)c;

	for (size_t b = 0; b < (size_t)n; b++)
		for (size_t k = 0; k < channels; k++)
			for (size_t p = 0; p < plane; p++)
				out[(b * channels + k) * plane + p] =
					in[(b * plane + p) * channels + k];
}
