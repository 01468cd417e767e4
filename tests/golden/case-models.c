/*
 * Forward passes of single models: kinds text_encoder (CLIP and T5), op_t5_bucket and unet. A model whose class the engine does not have yet is
 * a SKIP that names it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/forward.h"
#include "tests/golden/component.h"

#define T5_TOKENS_MAX 1024

/* "hidden_minusK" and "hidden_minusK_final_ln" that the case lists, after last_hidden_state. */
static int wanted_states(struct golden_case *c, int layers, struct sde_clip_wanted *wanted,
			 char (*names)[40])
{
	int n = 0;

	wanted[n] = (struct sde_clip_wanted){1, true};
	snprintf(names[n++], 40, "last_hidden_state");
	for (int minus = 1; minus <= layers + 1 && n + 2 <= SDE_PROGRAM_OUTPUTS_MAX; minus++)
		for (int norm = 0; norm < 2; norm++) {
			snprintf(names[n], 40, "hidden_minus%d%s", minus, norm ? "_final_ln" : "");
			if (!golden_wants(c, names[n]))
				continue;
			wanted[n++] = (struct sde_clip_wanted){minus, norm != 0};
		}
	return n;
}

/* input_ids_N -> last_hidden_state_N for every N that the case has. */
static int text_encoder_t5(struct golden_case *c)
{
	struct golden_component component;
	struct sde_t5_config config;
	struct sde_error error;
	struct sde_t5 t5;
	char name[40];
	int r;

	r = golden_open_component(c, "T5EncoderModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_t5_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_t5_bind(&t5, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	for (int tokens = 1; tokens <= T5_TOKENS_MAX; tokens++) {
		const struct golden_tensor *ids;
		float *state;

		snprintf(name, sizeof(name), "input_ids_%d", tokens);
		ids = golden_find(c, name);
		if (!ids || !ids->i32 || ids->rank != 2 || ids->shape[1] != tokens)
			continue;
		state = golden_floats(ids->count * (size_t)config.d_model);
		if (sde_t5_forward(component.runner, &t5, ids->i32, (int)ids->shape[0], tokens,
				   state, &error) < 0)
			return golden_fail_error(c, "forward", &error);
		snprintf(name, sizeof(name), "last_hidden_state_%d", tokens);
		golden_expect_f32(c, name, state,
				  GOLDEN_SHAPE(ids->shape[0], tokens, config.d_model));
		free(state);
	}
	return GOLDEN_PASS;
}

int golden_t5_bucket(struct golden_case *c)
{
	const struct golden_tensor *positions = golden_input_i32(c, "relative_position");
	int32_t *buckets;

	if (!positions)
		return GOLDEN_FAIL;
	if (!golden_param_bool(c, "bidirectional", true))
		return golden_skip(c, "only encoders, which look both ways, are computed");
	buckets = calloc(positions->count, sizeof(*buckets));
	if (!buckets)
		abort();
	for (size_t i = 0; i < positions->count; i++)
		buckets[i] = sde_t5_bucket(positions->i32[i],
					   (int)golden_param_int(c, "num_buckets", 32),
					   (int)golden_param_int(c, "max_distance", 128));
	golden_expect_i32(c, "bucket", buckets, positions->rank, positions->shape);
	free(buckets);
	return GOLDEN_PASS;
}

int golden_text_encoder(struct golden_case *c)
{
	struct sde_clip_wanted wanted[SDE_PROGRAM_OUTPUTS_MAX];
	char names[SDE_PROGRAM_OUTPUTS_MAX][40];
	float *states[SDE_PROGRAM_OUTPUTS_MAX], *pooled;
	const struct golden_tensor *ids;
	struct sde_clip_config config;
	struct golden_component component;
	struct sde_error error;
	struct sde_clip clip;
	int r, n, batch, tokens;

	if (strcmp(golden_param_string(c, "type", "clip"), "t5") == 0)
		return text_encoder_t5(c);
	r = golden_open_component(c, "CLIPTextModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	ids = golden_input_i32(c, "input_ids");
	if (!ids || ids->rank != 2)
		return golden_fail(c, "input_ids is missing or misshapen");
	if (sde_clip_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_clip_bind(&clip, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "text encoder", &error);
	batch = (int)ids->shape[0];
	tokens = (int)ids->shape[1];
	n = wanted_states(c, config.num_hidden_layers, wanted, names);
	for (int i = 0; i < n; i++)
		states[i] = golden_floats(ids->count * (size_t)config.hidden_size);
	pooled =
		golden_floats((size_t)batch * (size_t)(config.hidden_size + config.projection_dim));
	if (sde_clip_forward(component.runner, &clip, ids->i32, batch, tokens, wanted, n, states,
			     &error) < 0 ||
	    sde_clip_pool(component.runner, &clip, ids->i32, batch, tokens, states[0], pooled,
			  &error) < 0)
		return golden_fail_error(c, "forward", &error);
	for (int i = 0; i < n; i++)
		golden_expect_f32(c, names[i], states[i],
				  GOLDEN_SHAPE(batch, tokens, config.hidden_size));
	if (clip.text_projection.weight.data)
		golden_expect_f32(c, "text_embeds", pooled,
				  GOLDEN_SHAPE(batch, config.projection_dim));
	else
		golden_expect_f32(c, "pooler_output", pooled,
				  GOLDEN_SHAPE(batch, config.hidden_size));
	return GOLDEN_PASS;
}

int golden_unet(struct golden_case *c)
{
	const struct golden_tensor *sample, *context, *t, *tensor;
	struct sde_unet_call call = {0};
	struct sde_unet_config config;
	struct golden_component component;
	struct sde_error error;
	struct sde_unet unet;
	float *out, *steps;
	int r;

	r = golden_open_component(c, "UNet2DConditionModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	sample = golden_input_f32(c, "sample");
	context = golden_input_f32(c, "encoder_hidden_states");
	if (!sample || !context || sample->rank != 4 || context->rank != 3)
		return golden_fail(c, "sample or encoder_hidden_states is misshapen");
	if (sde_unet_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_unet_bind(&unet, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "unet", &error);
	call.sample = sample->f32;
	call.batch = (int)sample->shape[0];
	call.height = (int)sample->shape[2];
	call.width = (int)sample->shape[3];
	call.encoder_hidden_states = context->f32;
	call.tokens = (int)context->shape[1];
	t = golden_find(c, "timestep");
	if (!t)
		t = golden_input_f32(c, "timestep_f32");
	if (!t)
		return GOLDEN_FAIL;
	steps = golden_floats((size_t)call.batch);
	for (size_t i = 0; i < (size_t)call.batch; i++) {
		const size_t at = t->count > 1 ? i : 0;

		steps[i] = t->f32 ? t->f32[at] : (float)t->i32[at];
	}
	call.timesteps = steps;
	tensor = golden_find(c, "timestep_cond");
	call.timestep_cond = tensor ? tensor->f32 : NULL;
	tensor = golden_find(c, "text_embeds");
	call.text_embeds = tensor ? tensor->f32 : NULL;
	call.text_width = tensor ? (int)tensor->shape[1] : 0;
	tensor = golden_find(c, "time_ids");
	call.time_ids = tensor ? tensor->f32 : NULL;
	call.n_time_ids = tensor ? (int)tensor->shape[1] : 0;
	out = golden_floats((size_t)call.batch * (size_t)config.out_channels * (size_t)call.height *
			    (size_t)call.width);
	if (sde_unet_forward(component.runner, &unet, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	if (golden_wants(c, "time_embedding")) {
		float *embedding =
			golden_floats((size_t)call.batch * (size_t)config.time_embed_dim);

		if (sde_unet_time_embedding(component.runner, &unet, steps, call.timestep_cond,
					    call.batch, embedding, &error) < 0)
			return golden_fail_error(c, "time_embedding", &error);
		golden_expect_f32(c, "time_embedding", embedding,
				  GOLDEN_SHAPE(call.batch, config.time_embed_dim));
	}
	golden_expect_f32(c, "out", out,
			  GOLDEN_SHAPE(call.batch, config.out_channels, call.height, call.width));
	return GOLDEN_PASS;
}
