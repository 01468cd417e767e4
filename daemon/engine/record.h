/*
 * What model code is written in: each function records one operation of a forward pass, with shapes worked out and
 * checked as it goes, and returns the handle of its result. Between the models (which name layers) and kernels/ (which
 * knows tensors); errors are sticky, so that a forward pass reads like the paper. Images are NHWC (batch, height, width,
 * channels), sequences (batch, tokens, channels), vectors (batch, channels).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/layers.h"

struct sde_recorder;
/* A result of an operation; belongs to its recorder. NULL only after an error, and then every function passes it on. */
typedef struct sde_node *sde_value;

/* 3x3 (padding 1) or 1x1, stride 1. */
sde_value sde_record_conv(struct sde_recorder *rec, sde_value x, const struct sde_conv *conv);
/* 3x3, stride 2, padding 1 on every side: the U-Net's. */
sde_value sde_record_conv_down(struct sde_recorder *rec, sde_value x, const struct sde_conv *conv);
/* 3x3, stride 2, padding 1 right and bottom only: the autoencoder's. */
sde_value sde_record_conv_down_asymmetric(struct sde_recorder *rec, sde_value x,
					  const struct sde_conv *conv);

/* Over the last dimension, whatever the rank. */
sde_value sde_record_linear(struct sde_recorder *rec, sde_value x, const struct sde_linear *linear);

/* Statistics per image and group. */
sde_value sde_record_group_norm(struct sde_recorder *rec, sde_value x, const struct sde_norm *norm,
				int groups, double eps);
sde_value sde_record_group_norm_silu(struct sde_recorder *rec, sde_value x,
				     const struct sde_norm *norm, int groups, double eps);
/* Over the last dimension. */
sde_value sde_record_layer_norm(struct sde_recorder *rec, sde_value x, const struct sde_norm *norm,
				double eps);

sde_value sde_record_silu(struct sde_recorder *rec, sde_value x);
sde_value sde_record_quick_gelu(struct sde_recorder *rec, sde_value x);
sde_value sde_record_gelu(struct sde_recorder *rec, sde_value x); /* erf form */
sde_value sde_record_gelu_tanh(struct sde_recorder *rec, sde_value x);
/* (..., 2c) -> (..., c): first half times gelu (erf) of the second. */
sde_value sde_record_geglu(struct sde_recorder *rec, sde_value x);

/*
 * softmax(q k^T / sqrt(c / heads)) v per head; q (batch, tokens, c), k and v (batch, tokens', c); head h is channels
 * [h * c / heads, (h + 1) * c / heads). causal: position i sees keys 0..i.
 */
sde_value sde_record_attention(struct sde_recorder *rec, sde_value q, sde_value k, sde_value v,
			       int heads, bool causal);

sde_value sde_record_add(struct sde_recorder *rec, sde_value a, sde_value b);
/* x (batch, height, width, c) + vector (batch, c). */
sde_value sde_record_add_per_channel(struct sde_recorder *rec, sde_value x, sde_value vector);
/* Along the channels. */
sde_value sde_record_concat(struct sde_recorder *rec, sde_value a, sde_value b);
/* Nearest, to the height and width of `like`, or to twice its own. */
sde_value sde_record_upsample_like(struct sde_recorder *rec, sde_value x, sde_value like);
sde_value sde_record_upsample_double(struct sde_recorder *rec, sde_value x);

/* (batch, height, width, c) <-> (batch, height * width, c); the way back takes its height and width from `like`. */
sde_value sde_record_image_to_tokens(struct sde_recorder *rec, sde_value x);
sde_value sde_record_tokens_to_image(struct sde_recorder *rec, sde_value x, sde_value like);
