/*
 * T5's encoder: configuration, tensor table and recorded blocks.
 */
#include "daemon/engine/text_encoders/t5.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"
#include "daemon/engine/text_encoders/activation.h"

#define CHANNELS_MAX 65536

enum { DIM_MODEL, DIM_INNER, DIM_FF, DIM_VOCAB, DIM_BUCKETS, DIM_HEADS };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_t5, shared, "shared|encoder.embed_tokens", TABLE, DIM_MODEL, DIM_VOCAB),
	SDE_FIELD(sde_t5, relative_attention_bias,
		  "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", TABLE, DIM_HEADS,
		  DIM_BUCKETS),
	SDE_FIELD(sde_t5, final_layer_norm, "encoder.final_layer_norm", NORM_NO_BIAS, DIM_MODEL,
		  DIM_MODEL),
};

static const struct sde_field layer_fields[] = {
	SDE_FIELD(sde_t5_layer, attention_norm, "layer.0.layer_norm", NORM_NO_BIAS, DIM_MODEL,
		  DIM_MODEL),
	SDE_FIELD(sde_t5_layer, q, "layer.0.SelfAttention.q", LINEAR_NO_BIAS, DIM_MODEL, DIM_INNER),
	SDE_FIELD(sde_t5_layer, k, "layer.0.SelfAttention.k", LINEAR_NO_BIAS, DIM_MODEL, DIM_INNER),
	SDE_FIELD(sde_t5_layer, v, "layer.0.SelfAttention.v", LINEAR_NO_BIAS, DIM_MODEL, DIM_INNER),
	SDE_FIELD(sde_t5_layer, o, "layer.0.SelfAttention.o", LINEAR_NO_BIAS, DIM_INNER, DIM_MODEL),
	SDE_FIELD(sde_t5_layer, ff_norm, "layer.1.layer_norm", NORM_NO_BIAS, DIM_MODEL, DIM_MODEL),
	SDE_FIELD(sde_t5_layer, wo, "layer.1.DenseReluDense.wo", LINEAR_NO_BIAS, DIM_FF, DIM_MODEL),
};

static const struct sde_field gated_fields[] = {
	SDE_FIELD(sde_t5_layer, wi_0, "layer.1.DenseReluDense.wi_0", LINEAR_NO_BIAS, DIM_MODEL,
		  DIM_FF),
	SDE_FIELD(sde_t5_layer, wi_1, "layer.1.DenseReluDense.wi_1", LINEAR_NO_BIAS, DIM_MODEL,
		  DIM_FF),
};

static const struct sde_field plain_fields[] = {
	SDE_FIELD(sde_t5_layer, wi_0, "layer.1.DenseReluDense.wi", LINEAR_NO_BIAS, DIM_MODEL,
		  DIM_FF),
};

/* "relu" (v1.0, and where the key is missing), or "gated-" before a name; "gated-gelu" always meant the tanh form (v1.1). */
static void parse_feed_forward(struct sde_config_keys *keys, struct sde_t5_config *config)
{
	static const char key[] = "feed_forward_proj", gated[] = "gated-";
	const char *name = sde_config_string(keys, key, "relu");

	config->gated = strncmp(name, gated, strlen(gated)) == 0;
	config->activation =
		strcmp(name, "gated-gelu") == 0
			? SDK_GELU_TANH
			: sde_text_activation(keys, key,
					      name + (config->gated ? strlen(gated) : 0));
}

int sde_t5_config_parse(const json_t *object, const char *what, struct sde_t5_config *ret_config,
			struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = what, .error = error};
	struct sde_t5_config config = {
		.vocab_size = sde_config_int(&keys, "vocab_size", 32128, 1, 1 << 24),
		.d_model = sde_config_int(&keys, "d_model", 512, 1, CHANNELS_MAX),
		.d_kv = sde_config_int(&keys, "d_kv", 64, 1, 4096),
		.d_ff = sde_config_int(&keys, "d_ff", 2048, 1, 1 << 20),
		.num_layers = sde_config_int(&keys, "num_layers", 6, 1, 256),
		.num_heads = sde_config_int(&keys, "num_heads", 8, 1, 1024),
		.relative_attention_num_buckets =
			sde_config_int(&keys, "relative_attention_num_buckets", 32, 4, 1 << 16),
		.relative_attention_max_distance =
			sde_config_int(&keys, "relative_attention_max_distance", 128, 2, 1 << 20),
		.layer_norm_epsilon = sde_config_real(&keys, "layer_norm_epsilon", 1e-6, 0, 1),
	};

	parse_feed_forward(&keys, &config);
	if (config.relative_attention_max_distance <= config.relative_attention_num_buckets / 4)
		sde_config_fail(&keys,
				"'relative_attention_max_distance' is %d, too short for %d buckets",
				config.relative_attention_max_distance,
				config.relative_attention_num_buckets);
	if (keys.r < 0)
		return keys.r;
	*ret_config = config;
	return 0;
}

int sde_t5_bind(struct sde_t5 *t5, const struct sde_t5_config *config, struct sde_weights *weights,
		struct sde_error *error)
{
	const int dims[] = {
		[DIM_MODEL] = config->d_model,
		[DIM_INNER] = config->num_heads * config->d_kv,
		[DIM_FF] = config->d_ff,
		[DIM_VOCAB] = config->vocab_size,
		[DIM_BUCKETS] = config->relative_attention_num_buckets,
		[DIM_HEADS] = config->num_heads,
	};
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_t5 new = {.config = *config};
	int r;

	new.layers = calloc((size_t)config->num_layers, sizeof(*new.layers));
	if (!new.layers)
		return sde_error_set(error, -ENOMEM, "no memory for the text encoder's layers");
	SDE_BIND(&binder, stem_fields, dims, &new, "%s", "");
	for (int i = 0; i < config->num_layers; i++) {
		SDE_BIND(&binder, layer_fields, dims, &new.layers[i], "encoder.block.%d.", i);
		if (config->gated)
			SDE_BIND(&binder, gated_fields, dims, &new.layers[i], "encoder.block.%d.",
				 i);
		else
			SDE_BIND(&binder, plain_fields, dims, &new.layers[i], "encoder.block.%d.",
				 i);
	}
	/* the same table again */
	sde_weights_ignore(weights, "encoder.embed_tokens.weight");
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_t5_clear(&new);
		return r;
	}
	*t5 = new;
	return 0;
}

void sde_t5_clear(struct sde_t5 *t5)
{
	free(t5->layers);
	*t5 = (struct sde_t5){0};
}

int sde_t5_bucket(int relative_position, int num_buckets, int max_distance)
{
	const int half = num_buckets / 2, exact = half / 2;
	const int side = relative_position > 0 ? half : 0, distance = abs(relative_position);
	float far;
	int bucket;

	if (distance < exact)
		return side + distance;
	/* in float32, whose rounding decides at the edges of the buckets */
	far = logf((float)distance / (float)exact) /
	      (float)log((double)max_distance / (double)exact) * (float)(half - exact);
	bucket = exact + (int)far;
	return side + (bucket < half ? bucket : half - 1);
}

/* Tokens are cut off as channels of one long token. */
static sdk_value first_tokens(struct sdk_plan *plan, sdk_value x, int count)
{
	const struct sdk_shape shape = sdk_plan_shape(plan, x);

	if (count == shape.w)
		return x;
	x = sdk_reshape(plan, x, shape.n, 1, 1, shape.w * shape.c);
	x = sdk_slice(plan, x, 0, count * shape.c);
	return sdk_reshape(plan, x, shape.n, 1, count, shape.c);
}

static sdk_value record_layer(struct sdk_plan *plan, const struct sde_t5_config *config,
			      const struct sde_t5_layer *layer, sdk_value x, sdk_value bias,
			      int keys)
{
	const double eps = config->layer_norm_epsilon;
	sdk_value h, q, k, v;

	h = sde_record_rms_norm(plan, x, &layer->attention_norm, eps);
	q = sde_record_linear(plan, h, &layer->q);
	h = first_tokens(plan, h, keys);
	k = sde_record_linear(plan, h, &layer->k);
	v = sde_record_linear(plan, h, &layer->v);
	h = sdk_attention_relative(plan, q, k, v, config->num_heads, 1.0f, bias);
	x = sdk_add(plan, x, sde_record_linear(plan, h, &layer->o));

	h = sde_record_rms_norm(plan, x, &layer->ff_norm, eps);
	k = sdk_activate(plan, sde_record_linear(plan, h, &layer->wi_0), config->activation);
	h = config->gated ? sdk_mul(plan, k, sde_record_linear(plan, h, &layer->wi_1)) : k;
	return sdk_add(plan, x, sde_record_linear(plan, h, &layer->wo));
}

sdk_value sde_t5_record(struct sdk_plan *plan, const struct sde_t5 *t5, sdk_value ids,
			sdk_value buckets)
{
	const sdk_value bias = sdk_embedding(plan, buckets, &t5->relative_attention_bias.weight);
	sdk_value x = sdk_embedding(plan, ids, &t5->shared.weight);
	const int keys = sdk_plan_shape(plan, bias).w - sdk_plan_shape(plan, x).w + 1;

	for (int i = 0; i < t5->config.num_layers; i++)
		x = record_layer(plan, &t5->config, &t5->layers[i], x, bias, keys);
	return sde_record_rms_norm(plan, x, &t5->final_layer_norm, t5->config.layer_norm_epsilon);
}

int sde_t5_check_ids(const struct sde_t5 *t5, const int32_t *ids, int batch, int tokens,
		     struct sde_error *error)
{
	for (int i = 0; i < batch * tokens; i++)
		if (ids[i] < 0 || ids[i] >= t5->config.vocab_size)
			return sde_error_set(
				error, -EINVAL,
				"token %d is outside the text encoder's vocabulary of %d: "
				"tokenizer and text encoder do not belong together",
				(int)ids[i], t5->config.vocab_size);
	return 0;
}
