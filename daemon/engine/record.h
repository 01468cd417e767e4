/*
 * Between the models, which name layers, and kernels/plan.h, which knows tensors: the few ops that take a layer, so that
 * forward code reads like the paper. Errors latch in the plan. Images are (n, h, w, c), sequences (n, 1, tokens, c),
 * vectors (n, 1, 1, c).
 */
#pragma once

#include <math.h>

#include "daemon/engine/layers.h"
#include "kernels/plan.h"

/* 3x3 with padding 1, or 1x1. */
static inline sdk_value sde_record_conv_stride(struct sdk_plan *plan, sdk_value x,
					       const struct sde_conv *conv, int stride)
{
	const int pad = conv->kernel / 2;
	sdk_value y = sdk_conv2d(plan, x, &conv->weight, conv->bias.data ? &conv->bias : NULL,
				 stride, pad, pad, pad, pad);

	if (!conv->branch)
		return y;
	x = sdk_conv2d(plan, x, &conv->branch->down, NULL, stride, pad, pad, pad, pad);
	return sdk_add(plan, y, sdk_linear(plan, x, &conv->branch->up, NULL));
}

static inline sdk_value sde_record_conv(struct sdk_plan *plan, sdk_value x,
					const struct sde_conv *conv)
{
	return sde_record_conv_stride(plan, x, conv, 1);
}

static inline sdk_value sde_record_linear(struct sdk_plan *plan, sdk_value x,
					  const struct sde_linear *linear)
{
	sdk_value y =
		sdk_linear(plan, x, &linear->weight, linear->bias.data ? &linear->bias : NULL);

	if (!linear->branch)
		return y;
	x = sdk_linear(plan, x, &linear->branch->down, NULL);
	return sdk_add(plan, y, sdk_linear(plan, x, &linear->branch->up, NULL));
}

static inline sdk_value sde_record_group_norm(struct sdk_plan *plan, sdk_value x,
					      const struct sde_norm *norm, int groups, double eps)
{
	return sdk_group_norm(plan, x, &norm->weight, &norm->bias, groups, (float)eps, false);
}

static inline sdk_value sde_record_group_norm_silu(struct sdk_plan *plan, sdk_value x,
						   const struct sde_norm *norm, int groups,
						   double eps)
{
	return sdk_group_norm(plan, x, &norm->weight, &norm->bias, groups, (float)eps, true);
}

static inline sdk_value sde_record_layer_norm(struct sdk_plan *plan, sdk_value x,
					      const struct sde_norm *norm, double eps)
{
	return sdk_layer_norm(plan, x, &norm->weight, &norm->bias, (float)eps);
}

/* RMS norm of each head of a sequence (n, 1, tokens, heads * d) by itself ("qk norm"); without weights: x. */
static inline sdk_value sde_record_head_norm(struct sdk_plan *plan, sdk_value x,
					     const struct sde_norm *norm, int heads, double eps)
{
	const struct sdk_shape s = sdk_plan_shape(plan, x);

	if (!norm->weight.data)
		return x;
	x = sdk_reshape(plan, x, s.n, 1, s.w * heads, s.c / heads);
	x = sdk_rms_norm(plan, x, &norm->weight, (float)eps);
	return sdk_reshape(plan, x, s.n, 1, s.w, s.c);
}

/* Sequences (n, 1, tokens, c): the tokens of a, then those of b; and tokens [first, first + count). */
static inline sdk_value sde_record_join_tokens(struct sdk_plan *plan, sdk_value a, sdk_value b)
{
	const struct sdk_shape x = sdk_plan_shape(plan, a), y = sdk_plan_shape(plan, b);
	sdk_value rows;

	rows = sdk_concat(plan, sdk_reshape(plan, a, x.n, 1, 1, x.w * x.c),
			  sdk_reshape(plan, b, y.n, 1, 1, y.w * y.c));
	return sdk_reshape(plan, rows, x.n, 1, x.w + y.w, x.c);
}

static inline sdk_value sde_record_cut_tokens(struct sdk_plan *plan, sdk_value x, int first,
					      int count)
{
	const struct sdk_shape s = sdk_plan_shape(plan, x);
	sdk_value rows = sdk_reshape(plan, x, s.n, 1, 1, s.w * s.c);

	rows = sdk_slice(plan, rows, first * s.c, count * s.c);
	return sdk_reshape(plan, rows, s.n, 1, count, s.c);
}

static inline sdk_value sde_record_rms_norm(struct sdk_plan *plan, sdk_value x,
					    const struct sde_norm *norm, double eps)
{
	return sdk_rms_norm(plan, x, &norm->weight, (float)eps);
}

/* Scaled by 1 / sqrt(channels of a head). */
static inline sdk_value sde_record_attention(struct sdk_plan *plan, sdk_value q, sdk_value k,
					     sdk_value v, int heads, bool causal)
{
	const float head_dim = (float)sdk_plan_shape(plan, q).c / (float)heads;

	return sdk_attention(plan, q, k, v, heads, 1.0f / sqrtf(head_dim), causal);
}

static inline sdk_value sde_record_attention_watched(struct sdk_plan *plan, sdk_value q,
						     sdk_value k, sdk_value v, int heads, int site)
{
	const float head_dim = (float)sdk_plan_shape(plan, q).c / (float)heads;

	return sdk_attention_watched(plan, q, k, v, heads, 1.0f / sqrtf(head_dim), site);
}

/* Nearest, to the height and width of like. */
static inline sdk_value sde_record_upsample_like(struct sdk_plan *plan, sdk_value x, sdk_value like)
{
	const struct sdk_shape shape = sdk_plan_shape(plan, like);

	return sdk_resize_nearest(plan, x, shape.h, shape.w);
}

/* (n, h, w, c) -> (n, 1, h * w, c), and back to the height and width of like. */
static inline sdk_value sde_record_image_to_tokens(struct sdk_plan *plan, sdk_value x)
{
	const struct sdk_shape shape = sdk_plan_shape(plan, x);

	return sdk_reshape(plan, x, shape.n, 1, shape.h * shape.w, shape.c);
}

static inline sdk_value sde_record_tokens_to_image(struct sdk_plan *plan, sdk_value x,
						   sdk_value like)
{
	const struct sdk_shape shape = sdk_plan_shape(plan, like);

	return sdk_reshape(plan, x, shape.n, shape.h, shape.w, sdk_plan_shape(plan, x).c);
}
