/*
 * The CLIP text transformer: tensor table and recorded layers. Pre-norm residual blocks; the attention has biases
 * everywhere.
 */
#include "daemon/engine/text_encoders/clip.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"

enum { DIM_HIDDEN, DIM_INTERMEDIATE, DIM_VOCAB, DIM_POSITIONS, DIM_PROJECTION };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_clip, token_embedding, "embeddings.token_embedding", TABLE, DIM_HIDDEN,
		  DIM_VOCAB),
	SDE_FIELD(sde_clip, position_embedding, "embeddings.position_embedding", TABLE, DIM_HIDDEN,
		  DIM_POSITIONS),
	SDE_FIELD(sde_clip, final_layer_norm, "final_layer_norm", NORM, DIM_HIDDEN, DIM_HIDDEN),
};

static const struct sde_field layer_fields[] = {
	SDE_FIELD(sde_clip_layer, layer_norm1, "layer_norm1", NORM, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, q_proj, "self_attn.q_proj", LINEAR, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, k_proj, "self_attn.k_proj", LINEAR, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, v_proj, "self_attn.v_proj", LINEAR, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, out_proj, "self_attn.out_proj", LINEAR, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, layer_norm2, "layer_norm2", NORM, DIM_HIDDEN, DIM_HIDDEN),
	SDE_FIELD(sde_clip_layer, fc1, "mlp.fc1", LINEAR, DIM_HIDDEN, DIM_INTERMEDIATE),
	SDE_FIELD(sde_clip_layer, fc2, "mlp.fc2", LINEAR, DIM_INTERMEDIATE, DIM_HIDDEN),
};

static const struct sde_field projection_fields[] = {
	SDE_FIELD(sde_clip, text_projection, "text_projection", LINEAR_NO_BIAS, DIM_HIDDEN,
		  DIM_PROJECTION),
};

void sde_clip_bind_layer(struct sde_binder *binder, const struct sde_clip_config *config,
			 struct sde_clip_layer *layer, const char *prefix, int i)
{
	const int dims[] = {
		[DIM_HIDDEN] = config->hidden_size,
		[DIM_INTERMEDIATE] = config->intermediate_size,
	};

	SDE_BIND(binder, layer_fields, dims, layer, "%sencoder.layers.%d.", prefix, i);
}

int sde_clip_bind(struct sde_clip *clip, const struct sde_clip_config *config,
		  struct sde_weights *weights, struct sde_error *error)
{
	const char *prefix = sde_weights_has_prefix(weights, "text_model.") ? "text_model." : "";
	const int dims[] = {
		[DIM_HIDDEN] = config->hidden_size,
		[DIM_VOCAB] = config->vocab_size,
		[DIM_POSITIONS] = config->max_position_embeddings,
		[DIM_PROJECTION] = config->projection_dim,
	};
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_clip new = {.config = *config};
	int r;

	new.layers = calloc((size_t)config->num_hidden_layers, sizeof(*new.layers));
	if (!new.layers)
		return sde_error_set(error, -ENOMEM, "no memory for the text encoder's layers");
	SDE_BIND(&binder, stem_fields, dims, &new, "%s", prefix);
	for (int i = 0; i < config->num_hidden_layers; i++)
		sde_clip_bind_layer(&binder, config, &new.layers[i], prefix, i);
	if (sde_weights_has_prefix(weights, "text_projection."))
		SDE_BIND(&binder, projection_fields, dims, &new, "%s", "");
	/* a constant 0, 1, 2, ... that older files store */
	sde_weights_ignore(weights, "text_model.embeddings.position_ids");
	sde_weights_ignore(weights, "embeddings.position_ids");
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_clip_clear(&new);
		return r;
	}
	*clip = new;
	return 0;
}

void sde_clip_clear(struct sde_clip *clip)
{
	free(clip->layers);
	*clip = (struct sde_clip){0};
}

sdk_value sde_clip_record_layer(struct sdk_plan *plan, const struct sde_clip_config *config,
				const struct sde_clip_layer *layer, sdk_value x, bool causal)
{
	const double eps = config->layer_norm_eps;
	sdk_value h, q, k, v;

	h = sde_record_layer_norm(plan, x, &layer->layer_norm1, eps);
	q = sde_record_linear(plan, h, &layer->q_proj);
	k = sde_record_linear(plan, h, &layer->k_proj);
	v = sde_record_linear(plan, h, &layer->v_proj);
	h = sde_record_attention(plan, q, k, v, config->num_attention_heads, causal);
	x = sdk_add(plan, x, sde_record_linear(plan, h, &layer->out_proj));

	h = sde_record_layer_norm(plan, x, &layer->layer_norm2, eps);
	h = sde_record_linear(plan, h, &layer->fc1);
	h = sdk_activate(plan, h, config->hidden_act);
	return sdk_add(plan, x, sde_record_linear(plan, h, &layer->fc2));
}

void sde_clip_record(struct sdk_plan *plan, const struct sde_clip *clip, sdk_value x,
		     bool looked_up, int layers, sdk_value *ret_hidden)
{
	if (!looked_up)
		x = sdk_embedding(plan, x, &clip->token_embedding.weight);
	ret_hidden[0] = sdk_add_rows(plan, x, &clip->position_embedding.weight);
	for (int i = 0; i < layers; i++)
		ret_hidden[i + 1] = sde_clip_record_layer(plan, &clip->config, &clip->layers[i],
							  ret_hidden[i], true);
}

sdk_value sde_clip_record_final_norm(struct sdk_plan *plan, const struct sde_clip *clip,
				     sdk_value hidden)
{
	return sde_record_layer_norm(plan, hidden, &clip->final_layer_norm,
				     clip->config.layer_norm_eps);
}

int sde_clip_check_ids(const struct sde_clip *clip, const int32_t *ids, int batch, int tokens,
		       int n_added, struct sde_error *error)
{
	if (tokens > clip->config.max_position_embeddings)
		return sde_error_set(error, -EINVAL, "%d tokens; the text encoder takes at most %d",
				     tokens, clip->config.max_position_embeddings);
	for (int i = 0; i < batch * tokens; i++)
		if (ids[i] < 0 || ids[i] >= clip->config.vocab_size + n_added)
			return sde_error_set(
				error, -EINVAL,
				"token %d is outside the text encoder's vocabulary of %d: "
				"tokenizer and text encoder do not belong together",
				(int)ids[i], clip->config.vocab_size);
	return 0;
}

int sde_clip_pooled_position(const struct sde_clip *clip, const int32_t *ids, int tokens)
{
	int best = 0;

	for (int i = 0; i < tokens; i++) {
		if (clip->config.eos_token_id == 2) {
			if (ids[i] > ids[best] && ids[i] < clip->config.vocab_size)
				best = i;
		} else if (ids[i] == clip->config.eos_token_id) {
			return i;
		}
	}
	return best;
}
