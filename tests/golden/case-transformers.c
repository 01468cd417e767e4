/*
 * Forward passes of the transformers: kinds transformer_sd3 and transformer_flux, with the condition of time and text and the
 * rotary positions by themselves, so that an error there is seen there.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/schedulers/embeddings.h"
#include "tests/golden/component.h"

struct pass {
	struct golden_case *c;
	struct golden_component component;
	struct sde_denoiser denoiser;
	struct sde_denoiser_call call;
	struct sde_error error;
};

static struct pass *open_pass(struct golden_case *c, const struct sde_denoiser_class *class,
			      int *ret)
{
	struct pass *pass = calloc(1, sizeof(*pass));
	const struct golden_tensor *context, *pooled, *timesteps, *guidance;

	if (!pass)
		abort();
	pass->c = c;
	*ret = golden_open_component(c, class->name, &pass->component);
	if (*ret != GOLDEN_PASS)
		return NULL;
	context = golden_input_f32(c, "encoder_hidden_states");
	pooled = golden_input_f32(c, "pooled_projections");
	timesteps = golden_input_f32(c, "timestep_f32");
	*ret = GOLDEN_FAIL;
	if (!context || context->rank != 3 || !pooled || pooled->rank != 2 || !timesteps ||
	    class->bind(&pass->denoiser, pass->component.config, "config.json",
			pass->component.weights, &pass->error) < 0) {
		golden_fail_error(c, "transformer", &pass->error);
		return NULL;
	}
	guidance = golden_find(c, "guidance");
	pass->call.batch = (int)context->shape[0];
	pass->call.context = context->f32;
	pass->call.tokens = (int)context->shape[1];
	pass->call.pooled = pooled->f32;
	pass->call.pooled_width = (int)pooled->shape[1];
	pass->call.timesteps = timesteps->f32;
	pass->call.guidance_scales = guidance ? guidance->f32 : NULL;
	*ret = GOLDEN_PASS;
	return pass;
}

static int build_condition(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			   sdk_value *ret_outputs)
{
	ret_outputs[0] =
		sde_joint_condition_record(plan, userdata, inputs[0], inputs[1], inputs[2]);
	return 0;
}

/* time_text_embed: times in 0..1000, guidance likewise multiplied. */
static int expect_condition(struct pass *pass, const struct sde_joint_condition *condition,
			    const float *times, const float *guidance)
{
	const int n = pass->call.batch, width = condition->time_2.out;
	const struct sde_program_spec spec = {
		.name = "condition",
		.module = condition,
		.build = build_condition,
		.userdata = condition,
		.n_inputs = 3,
		.n_outputs = 1,
		.inputs = {{n, 1, 1, SDE_JOINT_SINUSOID},
			   {n, 1, 1, SDE_JOINT_SINUSOID},
			   {n, 1, 1, pass->call.pooled_width}},
	};
	float *sinusoids = golden_floats((size_t)n * SDE_JOINT_SINUSOID);
	float *guidances = golden_floats((size_t)n * SDE_JOINT_SINUSOID);
	float *out = golden_floats((size_t)n * (size_t)width);

	if (!golden_wants(pass->c, "time_text_embed"))
		return GOLDEN_PASS;
	sde_timestep_embedding(times, (size_t)n, SDE_JOINT_SINUSOID, true, 0, 10000, sinusoids);
	if (guidance)
		sde_timestep_embedding(guidance, (size_t)n, SDE_JOINT_SINUSOID, true, 0, 10000,
				       guidances);
	if (sde_runner_run(pass->component.runner, &spec,
			   (const void *const[]){sinusoids, guidances, pass->call.pooled},
			   (float *const[]){out}, &pass->error) < 0)
		return golden_fail_error(pass->c, "condition", &pass->error);
	golden_expect_f32(pass->c, "time_text_embed", out, GOLDEN_SHAPE(n, width));
	return GOLDEN_PASS;
}

int golden_transformer_sd3(struct golden_case *c)
{
	struct pass *pass;
	const struct golden_tensor *sample;
	float *out;
	int r;

	pass = open_pass(c, &sde_denoiser_sd3, &r);
	if (!pass)
		return r;
	sample = golden_input_f32(c, "hidden_states");
	if (!sample || sample->rank != 4)
		return golden_fail(c, "hidden_states is missing or misshapen");
	pass->call.sample = sample->f32;
	pass->call.height = (int)sample->shape[2];
	pass->call.width = (int)sample->shape[3];
	out = golden_floats(sample->count / (size_t)pass->denoiser.in_channels *
			    (size_t)pass->denoiser.out_channels);
	if (sde_denoiser_forward(pass->component.runner, &pass->denoiser, &pass->call, out,
				 &pass->error) < 0)
		return golden_fail_error(c, "forward", &pass->error);
	golden_expect_f32(c, "out", out,
			  GOLDEN_SHAPE(pass->call.batch, pass->denoiser.out_channels,
				       pass->call.height, pass->call.width));
	return expect_condition(pass, &pass->denoiser.sd3.condition, pass->call.timesteps, NULL);
}

/* rope_cos and rope_sin: (tokens, d) each, one behind the other in a row of the table. */
static void expect_rope(struct pass *pass)
{
	const struct sde_flux_config *config = &pass->denoiser.flux.config;
	const int rows = pass->call.height / SDE_FLUX_PACK,
		  columns = pass->call.width / SDE_FLUX_PACK;
	const size_t n = (size_t)(pass->call.tokens + rows * columns);
	const size_t d = (size_t)config->attention_head_dim;
	float *table = sde_flux_rope(config, pass->call.tokens, rows, columns);
	float *half = golden_floats(n * d);

	if (!table)
		abort();
	for (size_t part = 0; part < 2; part++) {
		for (size_t i = 0; i < n; i++)
			memcpy(half + i * d, table + (2 * i + part) * d, d * sizeof(*half));
		golden_expect_f32(pass->c, part ? "rope_sin" : "rope_cos", half,
				  GOLDEN_SHAPE((int64_t)n, (int64_t)d));
	}
	free(table);
	free(half);
}

int golden_transformer_flux(struct golden_case *c)
{
	const struct golden_tensor *latents, *packed;
	float *out, *tokens, *times, *guidance = NULL;
	struct pass *pass;
	size_t pixels;
	int r, n, image;

	pass = open_pass(c, &sde_denoiser_flux, &r);
	if (!pass)
		return r;
	latents = golden_input_f32(c, "latents");
	packed = golden_input_f32(c, "hidden_states");
	if (!latents || latents->rank != 4 || !packed)
		return golden_fail(c, "latents or hidden_states is missing or misshapen");
	n = pass->call.batch;
	pass->call.sample = latents->f32;
	pass->call.height = (int)latents->shape[2];
	pass->call.width = (int)latents->shape[3];
	image = pass->call.height * pass->call.width / 4;
	tokens = golden_floats(latents->count);
	sde_flux_pack(latents->f32, tokens, n, (int)latents->shape[1], pass->call.height,
		      pass->call.width);
	if (packed->count != latents->count ||
	    memcmp(tokens, packed->f32, packed->count * sizeof(float)) != 0)
		return golden_fail(c, "latents are packed otherwise than hidden_states");
	/* the case's times and guidance are what the model multiplies by 1000 */
	times = golden_floats((size_t)n);
	for (int i = 0; i < n; i++)
		times[i] = pass->call.timesteps[i] * 1000.0f;
	pass->call.timesteps = times;
	if (pass->call.guidance_scales) {
		guidance = golden_floats((size_t)n);
		for (int i = 0; i < n; i++)
			guidance[i] = pass->call.guidance_scales[i] * 1000.0f;
	}
	pixels = (size_t)pass->call.height * (size_t)pass->call.width;
	out = golden_floats((size_t)n * (size_t)pass->denoiser.out_channels * pixels);
	if (sde_denoiser_forward(pass->component.runner, &pass->denoiser, &pass->call, out,
				 &pass->error) < 0)
		return golden_fail_error(c, "forward", &pass->error);
	golden_expect_f32(
		c, "out_unpacked", out,
		GOLDEN_SHAPE(n, pass->denoiser.out_channels, pass->call.height, pass->call.width));
	sde_flux_pack(out, tokens, n, pass->denoiser.out_channels, pass->call.height,
		      pass->call.width);
	golden_expect_f32(c, "out", tokens,
			  GOLDEN_SHAPE(n, image, pass->denoiser.out_channels * 4));
	expect_rope(pass);
	return expect_condition(pass, &pass->denoiser.flux.condition, times, guidance);
}
