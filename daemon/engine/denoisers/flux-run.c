/*
 * FLUX's transformer on host arrays: latents in, latents out. Packing 2 x 2 latents into tokens and the sinusoids are host work.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/schedulers/embeddings.h"

#define MAX_PERIOD     10000.0
#define GUIDANCE_SCALE 1000.0f /* what the guidance is multiplied by, like a time in 0..1 */

enum { TOKENS, TIME, CONTEXT, POOLED, GUIDANCE, INPUTS };

struct build {
	const struct sde_flux *flux;
	int rows, columns;
};

/* Where a latent is among the tokens of its image. */
static size_t token_of(size_t c, size_t y, size_t x, size_t channels, size_t width)
{
	const size_t token = y / SDE_FLUX_PACK * (width / SDE_FLUX_PACK) + x / SDE_FLUX_PACK;

	return (token * channels + c) * SDE_FLUX_PACK * SDE_FLUX_PACK +
	       y % SDE_FLUX_PACK * SDE_FLUX_PACK + x % SDE_FLUX_PACK;
}

void sde_flux_pack(const float *latents, float *ret_tokens, int n, int channels, int height,
		   int width)
{
	const size_t image = (size_t)channels * (size_t)height * (size_t)width;

	for (size_t b = 0; b < (size_t)n; b++, ret_tokens += image)
		for (size_t c = 0; c < (size_t)channels; c++)
			for (size_t y = 0; y < (size_t)height; y++)
				for (size_t x = 0; x < (size_t)width; x++)
					ret_tokens[token_of(c, y, x, (size_t)channels,
							    (size_t)width)] = *latents++;
}

void sde_flux_unpack(const float *tokens, float *ret_latents, int n, int channels, int height,
		     int width)
{
	const size_t image = (size_t)channels * (size_t)height * (size_t)width;

	for (size_t b = 0; b < (size_t)n; b++, tokens += image)
		for (size_t c = 0; c < (size_t)channels; c++)
			for (size_t y = 0; y < (size_t)height; y++)
				for (size_t x = 0; x < (size_t)width; x++)
					*ret_latents++ = tokens[token_of(c, y, x, (size_t)channels,
									 (size_t)width)];
}

static int build_flux(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		      sdk_value *ret_outputs)
{
	const struct build *build = userdata;
	const struct sde_flux_inputs values = {
		.tokens = inputs[TOKENS],
		.rows = build->rows,
		.columns = build->columns,
		.time = inputs[TIME],
		.guidance = build->flux->config.guidance_embeds ? inputs[GUIDANCE] : -1,
		.context = inputs[CONTEXT],
		.pooled = inputs[POOLED],
	};

	ret_outputs[0] = sde_flux_record(plan, build->flux, &values);
	return 0;
}

static int check_call(const struct sde_flux_config *config, const struct sde_denoiser_call *call,
		      struct sde_error *error)
{
	if (call->height % SDE_FLUX_PACK != 0 || call->width % SDE_FLUX_PACK != 0)
		return sde_error_set(error, -EINVAL, "latents of %d x %d cannot be packed %d x %d",
				     call->width, call->height, SDE_FLUX_PACK, SDE_FLUX_PACK);
	if (!call->pooled || call->pooled_width != config->pooled_projection_dim)
		return sde_error_set(error, -EINVAL,
				     "the transformer takes pooled text of %d channels, not %d",
				     config->pooled_projection_dim, call->pooled_width);
	return 0;
}

static int flux_forward(struct sde_runner *runner, const struct sde_denoiser *denoiser,
			const struct sde_denoiser_call *call, float *ret_output,
			struct sde_error *error)
{
	const struct sde_flux *flux = &denoiser->flux;
	const struct sde_flux_config *config = &flux->config;
	const int n = call->batch, rows = call->height / SDE_FLUX_PACK;
	const int columns = call->width / SDE_FLUX_PACK, image = rows * columns;
	const struct build build = {flux, rows, columns};
	const struct sde_program_spec spec = {
		.name = "transformer",
		.module = flux,
		/* as many tokens can lie in other rows */
		.variant = (uint64_t)rows,
		.build = build_flux,
		.userdata = &build,
		.n_inputs = config->guidance_embeds ? INPUTS : GUIDANCE,
		.n_outputs = 1,
		.inputs = {[TOKENS] = {n, 1, image, config->in_channels},
			   [TIME] = {n, 1, 1, SDE_JOINT_SINUSOID},
			   [CONTEXT] = {n, 1, call->tokens, config->joint_attention_dim},
			   [POOLED] = {n, 1, 1, config->pooled_projection_dim},
			   [GUIDANCE] = {n, 1, 1, SDE_JOINT_SINUSOID}},
	};
	_cleanup_free_ float *tokens = NULL, *output = NULL, *sinusoids = NULL;
	float *guidance;
	int r;

	r = check_call(config, call, error);
	if (r < 0)
		return r;
	tokens = calloc((size_t)n * (size_t)image, (size_t)config->in_channels * sizeof(*tokens));
	output = calloc((size_t)n * (size_t)image, (size_t)config->out_channels * sizeof(*output));
	sinusoids = calloc((size_t)n, 2 * SDE_JOINT_SINUSOID * sizeof(*sinusoids));
	if (!tokens || !output || !sinusoids)
		return sde_error_set(error, -ENOMEM, "no memory for latents of %d x %d",
				     call->width, call->height);
	sde_flux_pack(call->sample, tokens, n, denoiser->in_channels, call->height, call->width);
	guidance = sinusoids + (size_t)n * SDE_JOINT_SINUSOID;
	sde_timestep_embedding(call->timesteps, (size_t)n, SDE_JOINT_SINUSOID, true, 0, MAX_PERIOD,
			       sinusoids);
	for (size_t i = 0; config->guidance_embeds && i < (size_t)n; i++) {
		const float scale = call->guidance_scales[i] * GUIDANCE_SCALE;

		sde_timestep_embedding(&scale, 1, SDE_JOINT_SINUSOID, true, 0, MAX_PERIOD,
				       guidance + i * SDE_JOINT_SINUSOID);
	}
	r = sde_runner_run(
		runner, &spec,
		(const void *const[]){tokens, sinusoids, call->context, call->pooled, guidance},
		(float *const[]){output}, error);
	if (r < 0)
		return r;
	sde_flux_unpack(output, ret_output, n, denoiser->out_channels, call->height, call->width);
	return 0;
}

static int flux_configure(struct sde_denoiser *denoiser, const json_t *config, const char *what,
			  struct sde_error *error)
{
	const int pack = SDE_FLUX_PACK * SDE_FLUX_PACK;
	struct sde_flux_config flux;
	int r;

	r = sde_flux_config_parse(config, what, &flux, error);
	if (r < 0)
		return r;
	denoiser->class = &sde_denoiser_flux;
	denoiser->flux.config = flux;
	denoiser->in_channels = flux.in_channels / pack;
	denoiser->out_channels = flux.out_channels / pack;
	denoiser->patch = SDE_FLUX_PACK;
	denoiser->context_width = flux.joint_attention_dim;
	denoiser->pooled_width = flux.pooled_projection_dim;
	denoiser->guidance_embedding = flux.guidance_embeds;
	return 0;
}

static int flux_bind(struct sde_denoiser *denoiser, const json_t *config, const char *what,
		     struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = {0};
	int r;

	r = flux_configure(&bound, config, what, error);
	if (r >= 0)
		r = sde_flux_bind(&bound.flux, &bound.flux.config, weights, error);
	if (r >= 0)
		*denoiser = bound;
	return r;
}

static int flux_bind_like(struct sde_denoiser *denoiser, const struct sde_denoiser *other,
			  struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = *other;
	int r = sde_flux_bind(&bound.flux, &other->flux.config, weights, error);

	if (r >= 0)
		*denoiser = bound;
	return r;
}

static void flux_clear(struct sde_denoiser *denoiser)
{
	sde_flux_clear(&denoiser->flux);
}

const struct sde_denoiser_class sde_denoiser_flux = {
	.folder = "transformer",
	.name = "FluxTransformer2DModel",
	.configure = flux_configure,
	.bind = flux_bind,
	.bind_like = flux_bind_like,
	.clear = flux_clear,
	.forward = flux_forward,
};
