/*
 * Forward passes of single models: kinds text_encoder (CLIP and T5), op_t5_bucket and unet. A model whose class the engine does not have yet is
 * a SKIP that names it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/forward.h"
#include "tests/golden/networks.h"

#define T5_TOKENS_MAX 1024

/* Tokens whose padding is masked see what they would see without it: the first half of a masked row is that of the half alone. */
static int masked_is_cut(struct golden_case *c, struct sde_runner *runner, const struct sde_t5 *t5,
			 const int32_t *ids, int tokens, float *scratch)
{
	const int keys = tokens / 2;
	const size_t n = (size_t)keys * (size_t)t5->config.d_model;
	float *alone = golden_floats(n);
	struct sde_error error;
	int r = GOLDEN_PASS;

	if (sde_t5_forward(runner, t5, ids, 1, tokens, keys, scratch, &error) < 0 ||
	    sde_t5_forward(runner, t5, ids, 1, keys, keys, alone, &error) < 0)
		r = golden_fail_error(c, "masked", &error);
	for (size_t i = 0; r == GOLDEN_PASS && i < n; i++)
		if (!(fabsf(scratch[i] - alone[i]) <= 1e-5f + 1e-4f * fabsf(alone[i])))
			r = golden_fail(c, "value %zu of %d masked tokens is %g, alone %g", i,
					tokens, (double)scratch[i], (double)alone[i]);
	free(alone);
	return r;
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
				   tokens, state, &error) < 0)
			return golden_fail_error(c, "forward", &error);
		snprintf(name, sizeof(name), "last_hidden_state_%d", tokens);
		golden_expect_f32(c, name, state,
				  GOLDEN_SHAPE(ids->shape[0], tokens, config.d_model));
		r = tokens > 1 ? masked_is_cut(c, component.runner, &t5, ids->i32, tokens, state)
			       : GOLDEN_PASS;
		free(state);
		if (r != GOLDEN_PASS)
			return r;
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
	struct golden_component component;
	int r;

	if (strcmp(golden_param_string(c, "type", "clip"), "t5") == 0)
		return text_encoder_t5(c);
	r = golden_open_component(c, "CLIPTextModel", &component);
	return r == GOLDEN_PASS ? golden_run_clip(c, &component, "input_ids", "") : r;
}

int golden_unet(struct golden_case *c)
{
	struct golden_component component;
	int r;

	r = golden_open_component(c, "UNet2DConditionModel", &component);
	return r == GOLDEN_PASS ? golden_run_unet(c, &component, NULL, "out") : r;
}
