/*
 * SD3's transformer on host arrays: latents in, latents out. What comes out of the program are patches; putting them back
 * in place is host work, as is the sinusoid of the time.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/schedulers/embeddings.h"

#define MAX_PERIOD 10000.0

struct build {
	const struct sde_sd3 *sd3;
	uint64_t skipped;
};

static int build_sd3(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		     sdk_value *ret_outputs)
{
	const struct build *build = userdata;
	const struct sde_sd3_inputs values = {inputs[0], inputs[1], inputs[2], inputs[3]};

	ret_outputs[0] = sde_sd3_record(plan, build->sd3, &values, build->skipped);
	return 0;
}

/* (n, rows * columns, p, p, channels) -> (n, channels, rows * p, columns * p) */
static void unpatch(const float *patches, float *out, int n, int rows, int columns, int p,
		    int channels)
{
	const size_t width = (size_t)columns * (size_t)p;

	for (int b = 0; b < n; b++)
		for (int y = 0; y < rows * p; y++)
			for (size_t x = 0; x < width; x++) {
				const size_t patch = ((size_t)b * (size_t)rows + (size_t)(y / p)) *
							     (size_t)columns +
						     x / (size_t)p;
				const size_t in = (size_t)(y % p * p) + x % (size_t)p;
				const float *from =
					patches + (patch * (size_t)(p * p) + in) * (size_t)channels;

				for (int c = 0; c < channels; c++)
					out[(((size_t)b * (size_t)channels + (size_t)c) *
						     (size_t)(rows * p) +
					     (size_t)y) *
						    width +
					    x] = from[c];
			}
}

static int check_call(const struct sde_sd3_config *config, const struct sde_denoiser_call *call,
		      struct sde_error *error)
{
	const int p = config->patch_size, most = config->pos_embed_max_size * p;

	if (call->height % p != 0 || call->width % p != 0)
		return sde_error_set(error, -EINVAL,
				     "latents of %d x %d cannot be cut into patches of %d",
				     call->width, call->height, p);
	if (call->height > most || call->width > most)
		return sde_error_set(error, -EINVAL,
				     "latents of %d x %d are beyond the %d x %d that this "
				     "transformer has positions for",
				     call->width, call->height, most, most);
	if (!call->pooled || call->pooled_width != config->pooled_projection_dim)
		return sde_error_set(error, -EINVAL,
				     "the transformer takes pooled text of %d channels, not %d",
				     config->pooled_projection_dim, call->pooled_width);
	return 0;
}

static int sd3_forward(struct sde_runner *runner, const struct sde_denoiser *denoiser,
		       const struct sde_denoiser_call *call, float *ret_output,
		       struct sde_error *error)
{
	const struct sde_sd3 *sd3 = &denoiser->sd3;
	const struct sde_sd3_config *config = &sd3->config;
	const int n = call->batch, p = config->patch_size;
	const size_t pixels = (size_t)n * (size_t)call->height * (size_t)call->width;
	const struct build build = {sd3, call->skipped_layers};
	const struct sde_program_spec spec = {
		.name = "transformer",
		.module = sd3,
		.variant = call->skipped_layers,
		.build = build_sd3,
		.userdata = &build,
		.n_inputs = 4,
		.n_outputs = 1,
		.inputs = {{n, call->height, call->width, config->in_channels},
			   {n, 1, 1, SDE_JOINT_SINUSOID},
			   {n, 1, call->tokens, config->joint_attention_dim},
			   {n, 1, 1, config->pooled_projection_dim}},
	};
	_cleanup_free_ float *sample = NULL, *time = NULL, *patches = NULL;
	int r;

	r = check_call(config, call, error);
	if (r < 0)
		return r;
	sample = calloc(pixels, (size_t)config->in_channels * sizeof(*sample));
	patches = calloc(pixels, (size_t)config->out_channels * sizeof(*patches));
	time = calloc((size_t)n, SDE_JOINT_SINUSOID * sizeof(*time));
	if (!sample || !patches || !time)
		return sde_error_set(error, -ENOMEM, "no memory for latents of %d x %d",
				     call->width, call->height);
	sdk_nchw_to_nhwc(call->sample, sample, n, config->in_channels, call->height, call->width);
	sde_timestep_embedding(call->timesteps, (size_t)n, SDE_JOINT_SINUSOID, true, 0, MAX_PERIOD,
			       time);
	r = sde_runner_run(runner, &spec,
			   (const void *const[]){sample, time, call->context, call->pooled},
			   (float *const[]){patches}, error);
	if (r < 0)
		return r;
	unpatch(patches, ret_output, n, call->height / p, call->width / p, p, config->out_channels);
	return 0;
}

static int sd3_configure(struct sde_denoiser *denoiser, const json_t *config, const char *what,
			 struct sde_error *error)
{
	struct sde_sd3_config sd3;
	int r;

	r = sde_sd3_config_parse(config, what, &sd3, error);
	if (r < 0)
		return r;
	denoiser->class = &sde_denoiser_sd3;
	denoiser->sd3.config = sd3;
	denoiser->in_channels = sd3.in_channels;
	denoiser->out_channels = sd3.out_channels;
	denoiser->sample_size = sd3.sample_size;
	denoiser->patch = sd3.patch_size;
	denoiser->side_max = sd3.pos_embed_max_size * sd3.patch_size;
	denoiser->context_width = sd3.joint_attention_dim;
	denoiser->pooled_width = sd3.pooled_projection_dim;
	denoiser->skippable_layers = sd3.num_layers;
	return 0;
}

static int sd3_bind(struct sde_denoiser *denoiser, const json_t *config, const char *what,
		    struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = {0};
	int r;

	r = sd3_configure(&bound, config, what, error);
	if (r >= 0)
		r = sde_sd3_bind(&bound.sd3, &bound.sd3.config, weights, error);
	if (r >= 0)
		*denoiser = bound;
	return r;
}

static int sd3_bind_like(struct sde_denoiser *denoiser, const struct sde_denoiser *other,
			 struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = *other;
	int r = sde_sd3_bind(&bound.sd3, &other->sd3.config, weights, error);

	if (r >= 0)
		*denoiser = bound;
	return r;
}

static void sd3_clear(struct sde_denoiser *denoiser)
{
	sde_sd3_clear(&denoiser->sd3);
}

const struct sde_denoiser_class sde_denoiser_sd3 = {
	.folder = "transformer",
	.name = "SD3Transformer2DModel",
	.configure = sd3_configure,
	.bind = sd3_bind,
	.bind_like = sd3_bind_like,
	.clear = sd3_clear,
	.forward = sd3_forward,
};
