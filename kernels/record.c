/*
 * Recording: every op checks its shapes here, once, for all backends, and latches the first error with a sentence.
 */
#include "kernels/plan-private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ELEMENTS ((int64_t)1 << 31)

const char *const sdk_op_names[SDK_OP_COUNT] = {
	[SDK_OP_CONV2D] = "conv2d",
	[SDK_OP_LINEAR] = "linear",
	[SDK_OP_GROUP_NORM] = "group_norm",
	[SDK_OP_LAYER_NORM] = "layer_norm",
	[SDK_OP_RMS_NORM] = "rms_norm",
	[SDK_OP_ADA_LAYER_NORM] = "ada_layer_norm",
	[SDK_OP_ROPE] = "rope",
	[SDK_OP_ACTIVATE] = "activate",
	[SDK_OP_ADD] = "add",
	[SDK_OP_MUL] = "mul",
	[SDK_OP_AFFINE] = "affine",
	[SDK_OP_GEGLU] = "geglu",
	[SDK_OP_ATTENTION] = "attention",
	[SDK_OP_RESIZE_NEAREST] = "resize_nearest",
	[SDK_OP_CONCAT] = "concat",
	[SDK_OP_SLICE] = "slice",
	[SDK_OP_EMBEDDING] = "embedding",
	[SDK_OP_ADD_ROWS] = "add_rows",
};

__attribute__((format(printf, 3, 4))) static sdk_value fail(struct sdk_plan *plan, int code,
							    const char *format, ...)
{
	va_list ap;

	if (plan->error)
		return -1;
	plan->error = code;
	va_start(ap, format);
	vsnprintf(plan->error_text, sizeof(plan->error_text), format, ap);
	va_end(ap);
	return -1;
}

static void *grow(void *array, int used, int *capacity, size_t size)
{
	void *grown;
	int wanted;

	if (used < *capacity)
		return array;
	wanted = *capacity ? *capacity * 2 : 64;
	grown = realloc(array, (size_t)wanted * size);
	if (grown)
		*capacity = wanted;
	return grown;
}

static sdk_value new_value(struct sdk_plan *plan, struct sdk_shape shape)
{
	struct sdk_value_info *values;
	int64_t count;

	if (plan->error)
		return -1;
	if (shape.n < 1 || shape.h < 1 || shape.w < 1 || shape.c < 1 ||
	    __builtin_mul_overflow((int64_t)shape.n * shape.h, (int64_t)shape.w * shape.c,
				   &count) ||
	    count > MAX_ELEMENTS)
		return fail(plan, -EINVAL,
			    "a value of shape (%d, %d, %d, %d) is empty or too large", shape.n,
			    shape.h, shape.w, shape.c);
	values = grow(plan->values, plan->n_values, &plan->values_capacity, sizeof(*values));
	if (!values)
		return fail(plan, -ENOMEM, "out of memory");
	plan->values = values;
	values[plan->n_values] = (struct sdk_value_info){.shape = shape, .alias = plan->n_values};
	return plan->n_values++;
}

/* All inputs valid and no error so far? */
static bool usable(struct sdk_plan *plan, const char *what, int n, const sdk_value *in)
{
	if (plan->error)
		return false;
	for (int i = 0; i < n; i++) {
		if (in[i] < 0 || in[i] >= plan->n_values) {
			fail(plan, -EINVAL, "%s: operand %d is no value of this plan", what, i);
			return false;
		}
	}
	return true;
}

/* Append op with its inputs filled in; out_shape becomes a new value. */
static sdk_value append(struct sdk_plan *plan, struct sdk_op op, struct sdk_shape out_shape)
{
	struct sdk_op *ops;

	op.out = new_value(plan, out_shape);
	if (op.out < 0)
		return -1;
	ops = grow(plan->ops, plan->n_ops, &plan->ops_capacity, sizeof(*ops));
	if (!ops)
		return fail(plan, -ENOMEM, "out of memory");
	plan->ops = ops;
	for (int i = 0; i < op.n_in; i++)
		op.in_shape[i] = plan->values[op.in[i]].shape;
	op.out_shape = out_shape;
	ops[plan->n_ops++] = op;
	return op.out;
}

static bool is_vector(const struct sdk_tensor *tensor, int64_t n)
{
	return tensor && tensor->type != SDK_I32 && sdk_tensor_count(tensor) == n;
}

static const char *name_of(const struct sdk_tensor *tensor)
{
	return tensor && tensor->name ? tensor->name : "unnamed tensor";
}

sdk_value sdk_input(struct sdk_plan *plan, int n, int h, int w, int c)
{
	const sdk_value value = new_value(plan, (struct sdk_shape){n, h, w, c});

	if (value >= 0)
		plan->values[value].pinned = true;
	return value;
}

sdk_value sdk_input_ids(struct sdk_plan *plan, int n, int tokens)
{
	const sdk_value value = sdk_input(plan, n, 1, tokens, 1);

	if (value >= 0)
		plan->values[value].ids = true;
	return value;
}

sdk_value sdk_output(struct sdk_plan *plan, sdk_value x)
{
	if (!usable(plan, "output", 1, &x))
		return -1;
	plan->values[x].pinned = true;
	return x;
}

static int conv_side(int side, int pad, int kernel, int stride)
{
	return side + pad < kernel ? 0 : (side + pad - kernel) / stride + 1;
}

void sdk_plan_set_wrap(struct sdk_plan *plan, enum sdk_wrap wrap)
{
	plan->wrap = wrap;
}

/* Lines of `line` values before and behind each of `lines` blocks of `count`: the block's own last and first ones. */
static sdk_value wrap_lines(struct sdk_plan *plan, sdk_value x, int lines, int count, int line,
			    int before, int behind)
{
	const struct sdk_shape shape = plan->values[x].shape;
	sdk_value wide;

	x = wide = sdk_reshape(plan, x, shape.n, 1, lines, count * line);
	if (before > 0)
		wide = sdk_concat(plan, sdk_slice(plan, x, (count - before) * line, before * line),
				  wide);
	if (behind > 0)
		wide = sdk_concat(plan, wide, sdk_slice(plan, x, 0, behind * line));
	return wide;
}

/* x continued along the sides that the plan wraps; the pads that this makes up for become 0. */
static sdk_value wrap_around(struct sdk_plan *plan, sdk_value x, int *top, int *left, int *bottom,
			     int *right)
{
	struct sdk_shape shape = plan->values[x].shape;

	if (plan->wrap & SDK_WRAP_X && *left + *right > 0 && *left <= shape.w &&
	    *right <= shape.w) {
		x = wrap_lines(plan, x, shape.h, shape.w, shape.c, *left, *right);
		shape.w += *left + *right;
		x = sdk_reshape(plan, x, shape.n, shape.h, shape.w, shape.c);
		*left = *right = 0;
	}
	if (plan->wrap & SDK_WRAP_Y && *top + *bottom > 0 && *top <= shape.h &&
	    *bottom <= shape.h) {
		x = wrap_lines(plan, x, 1, shape.h, shape.w * shape.c, *top, *bottom);
		shape.h += *top + *bottom;
		x = sdk_reshape(plan, x, shape.n, shape.h, shape.w, shape.c);
		*top = *bottom = 0;
	}
	return x;
}

sdk_value sdk_conv2d(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		     const struct sdk_tensor *bias, int stride, int pad_top, int pad_left,
		     int pad_bottom, int pad_right)
{
	struct sdk_shape in, out;

	if (!usable(plan, "conv2d", 1, &x))
		return -1;
	in = plan->values[x].shape;
	if (!weight || weight->type == SDK_I32 || weight->rank != 4 || weight->shape[1] != in.c ||
	    weight->shape[2] != weight->shape[3] || weight->shape[2] > 64 ||
	    weight->shape[0] > INT32_MAX)
		return fail(plan, -EINVAL, "conv2d: %s does not fit an input of %d channels",
			    name_of(weight), in.c);
	if (bias && !is_vector(bias, weight->shape[0]))
		return fail(plan, -EINVAL, "conv2d: %s is no bias of %lld channels", name_of(bias),
			    (long long)weight->shape[0]);
	if (stride < 1 || pad_top < 0 || pad_left < 0 || pad_bottom < 0 || pad_right < 0)
		return fail(plan, -EINVAL,
			    "conv2d: stride %d must be positive and pads not negative", stride);
	if (plan->wrap != SDK_WRAP_NONE) {
		x = wrap_around(plan, x, &pad_top, &pad_left, &pad_bottom, &pad_right);
		if (!usable(plan, "conv2d", 1, &x))
			return -1;
		in = plan->values[x].shape;
	}
	out = (struct sdk_shape){
		in.n, conv_side(in.h, pad_top + pad_bottom, (int)weight->shape[2], stride),
		conv_side(in.w, pad_left + pad_right, (int)weight->shape[3], stride),
		(int)weight->shape[0]};
	return append(plan,
		      (struct sdk_op){.kind = SDK_OP_CONV2D,
				      .n_in = 1,
				      .in = {x},
				      .weight = weight,
				      .bias = bias,
				      .stride = stride,
				      .pad_top = pad_top,
				      .pad_left = pad_left,
				      .pad_bottom = pad_bottom,
				      .pad_right = pad_right},
		      out);
}

sdk_value sdk_linear(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		     const struct sdk_tensor *bias)
{
	struct sdk_shape shape;

	if (!usable(plan, "linear", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	if (!weight || weight->type == SDK_I32 || weight->rank < 2 || weight->shape[1] != shape.c ||
	    sdk_tensor_count(weight) != weight->shape[0] * weight->shape[1] ||
	    weight->shape[0] > INT32_MAX)
		return fail(plan, -EINVAL, "linear: %s does not fit an input of %d channels",
			    name_of(weight), shape.c);
	if (bias && !is_vector(bias, weight->shape[0]))
		return fail(plan, -EINVAL, "linear: %s is no bias of %lld channels", name_of(bias),
			    (long long)weight->shape[0]);
	shape.c = (int)weight->shape[0];
	return append(plan,
		      (struct sdk_op){.kind = SDK_OP_LINEAR,
				      .n_in = 1,
				      .in = {x},
				      .weight = weight,
				      .bias = bias},
		      shape);
}

static sdk_value record_norm(struct sdk_plan *plan, struct sdk_op op)
{
	struct sdk_shape shape;

	if (!usable(plan, sdk_op_names[op.kind], 1, op.in))
		return -1;
	shape = plan->values[op.in[0]].shape;
	if (!is_vector(op.weight, shape.c) || (op.bias && !is_vector(op.bias, shape.c)))
		return fail(plan, -EINVAL, "%s: %s does not fit an input of %d channels",
			    sdk_op_names[op.kind], name_of(op.weight), shape.c);
	if (op.kind == SDK_OP_GROUP_NORM && (op.groups < 1 || shape.c % op.groups != 0))
		return fail(plan, -EINVAL, "group_norm: %d channels cannot be split into %d groups",
			    shape.c, op.groups);
	return append(plan, op, shape);
}

sdk_value sdk_group_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
			 const struct sdk_tensor *bias, int groups, float eps, bool silu)
{
	return record_norm(plan, (struct sdk_op){.kind = SDK_OP_GROUP_NORM,
						 .n_in = 1,
						 .in = {x},
						 .weight = weight,
						 .bias = bias,
						 .groups = groups,
						 .eps = eps,
						 .silu = silu});
}

sdk_value sdk_layer_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
			 const struct sdk_tensor *bias, float eps)
{
	return record_norm(plan, (struct sdk_op){.kind = SDK_OP_LAYER_NORM,
						 .n_in = 1,
						 .in = {x},
						 .weight = weight,
						 .bias = bias,
						 .eps = eps});
}

sdk_value sdk_rms_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		       float eps)
{
	return record_norm(plan, (struct sdk_op){.kind = SDK_OP_RMS_NORM,
						 .n_in = 1,
						 .in = {x},
						 .weight = weight,
						 .eps = eps});
}

sdk_value sdk_ada_layer_norm(struct sdk_plan *plan, sdk_value x, sdk_value scale, sdk_value shift,
			     float eps)
{
	const sdk_value in[] = {x, scale, shift};
	struct sdk_shape shape;

	if (!usable(plan, "ada_layer_norm", 3, in))
		return -1;
	shape = plan->values[x].shape;
	for (int i = 1; i < 3; i++) {
		const struct sdk_shape s = plan->values[in[i]].shape;

		if (s.n != shape.n || s.h != 1 || s.w != 1 || s.c != shape.c)
			return fail(plan, -EINVAL,
				    "ada_layer_norm: (%d, %d, %d, %d) is no scale or shift of %d x "
				    "%d channels",
				    s.n, s.h, s.w, s.c, shape.n, shape.c);
	}
	return append(plan,
		      (struct sdk_op){.kind = SDK_OP_ADA_LAYER_NORM,
				      .n_in = 3,
				      .in = {x, scale, shift},
				      .eps = eps},
		      shape);
}

sdk_value sdk_rope(struct sdk_plan *plan, sdk_value x, int heads, const struct sdk_tensor *table)
{
	struct sdk_shape shape;

	if (!usable(plan, "rope", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	if (heads < 1 || shape.h != 1 || shape.c % heads != 0 || shape.c / heads % 2 != 0)
		return fail(plan, -EINVAL,
			    "rope: (%d, %d, %d, %d) is no sequence of %d heads of pairs", shape.n,
			    shape.h, shape.w, shape.c, heads);
	if (!table || table->type != SDK_F32 || table->rank != 2 || table->shape[0] != shape.w ||
	    table->shape[1] != 2 * (shape.c / heads))
		return fail(plan, -EINVAL, "rope: %s is no table of %d tokens and %d channels",
			    name_of(table), shape.w, shape.c / heads);
	return append(
		plan,
		(struct sdk_op){
			.kind = SDK_OP_ROPE, .n_in = 1, .in = {x}, .weight = table, .heads = heads},
		shape);
}

sdk_value sdk_activate(struct sdk_plan *plan, sdk_value x, enum sdk_activation activation)
{
	if (!usable(plan, "activate", 1, &x))
		return -1;
	return append(
		plan,
		(struct sdk_op){
			.kind = SDK_OP_ACTIVATE, .n_in = 1, .in = {x}, .activation = activation},
		plan->values[x].shape);
}

static sdk_value record_binary(struct sdk_plan *plan, enum sdk_op_kind kind, sdk_value a,
			       sdk_value b)
{
	const sdk_value in[2] = {a, b};
	struct sdk_shape x, y;

	if (!usable(plan, sdk_op_names[kind], 2, in))
		return -1;
	x = plan->values[a].shape;
	y = plan->values[b].shape;
	if (y.c != x.c || (y.n != x.n && y.n != 1) ||
	    !((y.h == x.h && y.w == x.w && y.n == x.n) || (y.h == 1 && y.w == 1)))
		return fail(plan, -EINVAL,
			    "%s: (%d, %d, %d, %d) cannot be broadcast to (%d, %d, %d, %d)",
			    sdk_op_names[kind], y.n, y.h, y.w, y.c, x.n, x.h, x.w, x.c);
	return append(plan, (struct sdk_op){.kind = kind, .n_in = 2, .in = {a, b}}, x);
}

sdk_value sdk_add(struct sdk_plan *plan, sdk_value a, sdk_value b)
{
	return record_binary(plan, SDK_OP_ADD, a, b);
}

sdk_value sdk_mul(struct sdk_plan *plan, sdk_value a, sdk_value b)
{
	return record_binary(plan, SDK_OP_MUL, a, b);
}

sdk_value sdk_affine(struct sdk_plan *plan, sdk_value x, float scale, float shift)
{
	if (!usable(plan, "affine", 1, &x))
		return -1;
	return append(plan,
		      (struct sdk_op){.kind = SDK_OP_AFFINE,
				      .n_in = 1,
				      .in = {x},
				      .scale = scale,
				      .shift = shift},
		      plan->values[x].shape);
}

sdk_value sdk_geglu(struct sdk_plan *plan, sdk_value x)
{
	struct sdk_shape shape;

	if (!usable(plan, "geglu", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	if (shape.c % 2 != 0)
		return fail(plan, -EINVAL, "geglu: %d channels have no two halves", shape.c);
	shape.c /= 2;
	return append(plan, (struct sdk_op){.kind = SDK_OP_GEGLU, .n_in = 1, .in = {x}}, shape);
}

/* in: q, k, v [, bias] */
static sdk_value record_attention(struct sdk_plan *plan, int n_in, const sdk_value *in, int heads,
				  float scale, bool causal)
{
	struct sdk_op op = {.kind = SDK_OP_ATTENTION,
			    .n_in = n_in,
			    .heads = heads,
			    .scale = scale,
			    .causal = causal};
	struct sdk_shape sq, sk, sv, sb;

	if (!usable(plan, "attention", n_in, in))
		return -1;
	sq = plan->values[in[0]].shape;
	sk = plan->values[in[1]].shape;
	sv = plan->values[in[2]].shape;
	if (sq.h != 1 || sk.h != 1 || sv.h != 1 || sq.n != sk.n || sq.n != sv.n || sk.w != sv.w ||
	    sq.c != sk.c || sq.c != sv.c)
		return fail(plan, -EINVAL,
			    "attention: q (%d, %d, %d), k (%d, %d, %d), v (%d, %d, %d) do not fit",
			    sq.n, sq.w, sq.c, sk.n, sk.w, sk.c, sv.n, sv.w, sv.c);
	if (heads < 1 || sq.c % heads != 0)
		return fail(plan, -EINVAL, "attention: %d channels cannot be split into %d heads",
			    sq.c, heads);
	if (n_in == 4) {
		sb = plan->values[in[3]].shape;
		if (sb.n != 1 || sb.h != 1 || sb.w != sq.w + sk.w - 1 || sb.c != heads)
			return fail(plan, -EINVAL,
				    "attention: a bias of (%d, %d, %d, %d) for %d queries, %d keys "
				    "and %d heads",
				    sb.n, sb.h, sb.w, sb.c, sq.w, sk.w, heads);
	}
	memcpy(op.in, in, (size_t)n_in * sizeof(*in));
	return append(plan, op, sq);
}

sdk_value sdk_attention(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v, int heads,
			float scale, bool causal)
{
	return record_attention(plan, 3, (const sdk_value[]){q, k, v}, heads, scale, causal);
}

sdk_value sdk_attention_relative(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v,
				 int heads, float scale, sdk_value bias)
{
	return record_attention(plan, 4, (const sdk_value[]){q, k, v, bias}, heads, scale, false);
}

sdk_value sdk_attention_watched(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v,
				int heads, float scale, int site)
{
	const sdk_value out = sdk_attention(plan, q, k, v, heads, scale, false);

	if (out >= 0) {
		plan->ops[plan->n_ops - 1].watched = true;
		plan->ops[plan->n_ops - 1].site = site;
	}
	return out;
}

sdk_value sdk_resize_nearest(struct sdk_plan *plan, sdk_value x, int h, int w)
{
	struct sdk_shape shape;

	if (!usable(plan, "resize_nearest", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	shape.h = h;
	shape.w = w;
	return append(plan, (struct sdk_op){.kind = SDK_OP_RESIZE_NEAREST, .n_in = 1, .in = {x}},
		      shape);
}

sdk_value sdk_concat(struct sdk_plan *plan, sdk_value a, sdk_value b)
{
	const sdk_value in[2] = {a, b};
	struct sdk_shape x, y;

	if (!usable(plan, "concat", 2, in))
		return -1;
	x = plan->values[a].shape;
	y = plan->values[b].shape;
	if (x.n != y.n || x.h != y.h || x.w != y.w)
		return fail(plan, -EINVAL,
			    "concat: (%d, %d, %d) and (%d, %d, %d) are pictures of different sizes",
			    x.n, x.h, x.w, y.n, y.h, y.w);
	x.c += y.c;
	return append(plan, (struct sdk_op){.kind = SDK_OP_CONCAT, .n_in = 2, .in = {a, b}}, x);
}

sdk_value sdk_slice(struct sdk_plan *plan, sdk_value x, int first, int count)
{
	struct sdk_shape shape;

	if (!usable(plan, "slice", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	if (first < 0 || count < 1 || first > shape.c - count)
		return fail(plan, -EINVAL, "slice: channels %d..%d of %d", first, first + count - 1,
			    shape.c);
	shape.c = count;
	return append(plan,
		      (struct sdk_op){.kind = SDK_OP_SLICE, .n_in = 1, .in = {x}, .first = first},
		      shape);
}

/* Single rows can be read: they are a whole number of blocks. */
static bool has_whole_rows(const struct sdk_tensor *table)
{
	return (size_t)table->shape[1] % sdk_type_block(table->type).elements == 0;
}

sdk_value sdk_embedding(struct sdk_plan *plan, sdk_value ids, const struct sdk_tensor *table)
{
	struct sdk_shape shape;

	if (!usable(plan, "embedding", 1, &ids))
		return -1;
	if (!plan->values[ids].ids || !table || table->type == SDK_I32 || table->rank != 2 ||
	    table->shape[1] > INT32_MAX || !has_whole_rows(table))
		return fail(plan, -EINVAL,
			    "embedding: needs ids and a table of two dimensions, not %s",
			    name_of(table));
	shape = plan->values[ids].shape;
	shape.c = (int)table->shape[1];
	return append(
		plan,
		(struct sdk_op){.kind = SDK_OP_EMBEDDING, .n_in = 1, .in = {ids}, .weight = table},
		shape);
}

sdk_value sdk_add_rows(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *table)
{
	struct sdk_shape shape;

	if (!usable(plan, "add_rows", 1, &x))
		return -1;
	shape = plan->values[x].shape;
	if (!table || table->type == SDK_I32 || table->rank != 2 || table->shape[1] != shape.c ||
	    table->shape[0] < shape.w || shape.h != 1 || !has_whole_rows(table))
		return fail(plan, -EINVAL, "add_rows: %s has no %d rows of %d", name_of(table),
			    shape.w, shape.c);
	return append(
		plan,
		(struct sdk_op){.kind = SDK_OP_ADD_ROWS, .n_in = 1, .in = {x}, .weight = table},
		shape);
}

sdk_value sdk_reshape(struct sdk_plan *plan, sdk_value x, int n, int h, int w, int c)
{
	const struct sdk_shape shape = {n, h, w, c};
	sdk_value value;

	if (!usable(plan, "reshape", 1, &x))
		return -1;
	if (n < 1 || h < 1 || w < 1 || c < 1 ||
	    sdk_shape_count(shape) != sdk_shape_count(plan->values[x].shape))
		return fail(plan, -EINVAL,
			    "reshape: (%d, %d, %d, %d) has another number of elements", n, h, w, c);
	value = new_value(plan, shape);
	if (value >= 0) {
		plan->values[value].alias = x;
		plan->values[value].ids = plan->values[x].ids;
	}
	return value;
}

const struct sdk_tensor *sdk_plan_table(struct sdk_plan *plan, int rows, int columns, float *values)
{
	struct sdk_tensor **tables, *table;

	if (!values || rows < 1 || columns < 1)
		fail(plan, values ? -EINVAL : -ENOMEM, "no table of %d x %d", rows, columns);
	if (plan->error) {
		free(values);
		return NULL;
	}
	tables = grow(plan->tables, plan->n_tables, &plan->tables_capacity, sizeof(*tables));
	if (tables)
		plan->tables = tables;
	table = tables ? calloc(1, sizeof(*table)) : NULL;
	if (!table) {
		free(values);
		fail(plan, -ENOMEM, "out of memory");
		return NULL;
	}
	*table = (struct sdk_tensor){
		.type = SDK_F32, .rank = 2, .shape = {rows, columns}, .data = values};
	tables[plan->n_tables++] = table;
	return table;
}
