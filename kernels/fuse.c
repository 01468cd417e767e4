/*
 * Fusion before layout: conv2d or linear followed by nothing but one activation, or one addition of an equally shaped value
 * that exists already, becomes one op. Saves a pass over memory each, and the intermediate value.
 */
#include <errno.h>
#include <stdlib.h>

#include "kernels/plan-private.h"

/* Facts about each value; views share the facts of what they view. */
struct use {
	int producer; /* op, or -1 for inputs */
	int readers;
	bool kept; /* pinned, or seen through a view */
};

static void count_uses(const struct sdk_plan *plan, struct use *uses)
{
	for (int v = 0; v < plan->n_values; v++)
		uses[v] = (struct use){.producer = -1};
	for (int v = 0; v < plan->n_values; v++) {
		if (plan->values[v].pinned)
			uses[v].kept = true;
		if (plan->values[v].alias != v) {
			uses[v].kept = true;
			uses[plan->values[v].alias].kept = true;
		}
	}
	for (int i = 0; i < plan->n_ops; i++) {
		uses[plan->ops[i].out].producer = i;
		for (int k = 0; k < plan->ops[i].n_in; k++)
			uses[plan->ops[i].in[k]].readers++;
	}
}

/* The op that makes value, when it could take something behind it. */
static struct sdk_op *open_end(const struct sdk_plan *plan, const struct use *uses, sdk_value value)
{
	const struct use *use = &uses[value];
	struct sdk_op *op;

	if (use->producer < 0 || use->readers != 1 || use->kept)
		return NULL;
	op = &plan->ops[use->producer];
	if ((op->kind != SDK_OP_CONV2D && op->kind != SDK_OP_LINEAR) || op->activated ||
	    op->n_in > 1)
		return NULL;
	return op;
}

/* Index of the op that writes the memory behind value; -1 for inputs. */
static int written_by(const struct sdk_plan *plan, const struct use *uses, sdk_value value)
{
	while (plan->values[value].alias != value)
		value = plan->values[value].alias;
	return uses[value].producer;
}

/* producer now writes what op wrote; op becomes empty (n_in 0) and is swept out at the end. */
static void swallow(struct sdk_op *producer, struct sdk_op *op, struct use *uses)
{
	uses[op->out].producer = uses[producer->out].producer;
	producer->out = op->out;
	op->n_in = 0;
}

static void fuse_activation(const struct sdk_plan *plan, struct use *uses, struct sdk_op *op)
{
	struct sdk_op *producer = open_end(plan, uses, op->in[0]);

	if (!producer)
		return;
	producer->activated = true;
	producer->activation = op->activation;
	swallow(producer, op, uses);
}

static void fuse_addition(const struct sdk_plan *plan, struct use *uses, struct sdk_op *op)
{
	if (sdk_shape_count(op->in_shape[0]) != sdk_shape_count(op->in_shape[1]))
		return;
	for (int side = 0; side < 2; side++) {
		const sdk_value residual = op->in[1 - side];
		const int index = uses[op->in[side]].producer;
		struct sdk_op *producer = open_end(plan, uses, op->in[side]);

		if (!producer || written_by(plan, uses, residual) >= index)
			continue;
		producer->in[1] = residual;
		producer->in_shape[1] = producer->out_shape;
		producer->n_in = 2;
		swallow(producer, op, uses);
		return;
	}
}

int sdk_plan_fuse(struct sdk_plan *plan)
{
	struct use *uses;
	int kept = 0;

	if (!plan->backend->ops->fuses || plan->n_ops == 0)
		return 0;
	uses = calloc((size_t)plan->n_values, sizeof(*uses));
	if (!uses)
		return -ENOMEM;
	count_uses(plan, uses);
	for (int i = 0; i < plan->n_ops; i++) {
		if (plan->ops[i].kind == SDK_OP_ACTIVATE)
			fuse_activation(plan, uses, &plan->ops[i]);
		else if (plan->ops[i].kind == SDK_OP_ADD)
			fuse_addition(plan, uses, &plan->ops[i]);
	}
	for (int i = 0; i < plan->n_ops; i++)
		if (plan->ops[i].n_in > 0)
			plan->ops[kept++] = plan->ops[i];
	plan->n_ops = kept;
	free(uses);
	return 0;
}
