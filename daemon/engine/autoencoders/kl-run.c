/*
 * The autoencoder on host arrays: one image at a time (a batch would only cost memory on a CPU), the posterior and the
 * scaling of latents.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/forward.h"

#define LOGVAR_MIN -30.0f
#define LOGVAR_MAX 20.0f

static int build_encode(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			sdk_value *ret_outputs)
{
	ret_outputs[0] = sde_kl_record_encode(plan, userdata, inputs[0]);
	return 0;
}

static int build_decode(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			sdk_value *ret_outputs)
{
	ret_outputs[0] = sde_kl_record_decode(plan, userdata, inputs[0]);
	return 0;
}

/* One half on a batch of images, each (in) -> (out), NCHW. */
static int run_half(struct sde_runner *runner, const struct sde_program_spec *spec,
		    struct sdk_shape out, const float *images, int batch, float *ret_images,
		    struct sde_error *error)
{
	const struct sdk_shape in = spec->inputs[0];
	const size_t in_size = (size_t)in.h * (size_t)in.w * (size_t)in.c;
	const size_t out_size = (size_t)out.h * (size_t)out.w * (size_t)out.c;
	_cleanup_free_ float *from = malloc(in_size * sizeof(float));
	_cleanup_free_ float *to = malloc(out_size * sizeof(float));

	if (!from || !to)
		return sde_error_set(error, -ENOMEM, "no memory for a picture of %d x %d",
				     in.w > out.w ? in.w : out.w, in.h > out.h ? in.h : out.h);
	for (size_t b = 0; b < (size_t)batch; b++) {
		int r;

		sdk_nchw_to_nhwc(images + b * in_size, from, 1, in.c, in.h, in.w);
		r = sde_runner_run(runner, spec, (const void *const[]){from}, (float *const[]){to},
				   error);
		if (r < 0)
			return r;
		sdk_nhwc_to_nchw(to, ret_images + b * out_size, 1, out.h, out.w, out.c);
	}
	return 0;
}

int sde_kl_encode(struct sde_runner *runner, const struct sde_kl *kl, const float *image, int batch,
		  int height, int width, float *ret_moments, struct sde_error *error)
{
	const int f = sde_kl_config_factor(&kl->config);
	const struct sde_program_spec spec = {
		.name = "VAE encoder",
		.module = kl,
		.variant = 0,
		.build = build_encode,
		.userdata = kl,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{1, height, width, kl->config.in_channels}},
	};

	const struct sdk_shape out = {1, height / f, width / f, 2 * kl->config.latent_channels};

	return run_half(runner, &spec, out, image, batch, ret_moments, error);
}

int sde_kl_decode(struct sde_runner *runner, const struct sde_kl *kl, const float *z, int batch,
		  int height, int width, float *ret_image, struct sde_error *error)
{
	const int f = sde_kl_config_factor(&kl->config);
	const struct sde_program_spec spec = {
		.name = "VAE decoder",
		.module = kl,
		.variant = 1,
		.build = build_decode,
		.userdata = kl,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{1, height, width, kl->config.latent_channels}},
	};

	const struct sdk_shape out = {1, height * f, width * f, kl->config.out_channels};

	return run_half(runner, &spec, out, z, batch, ret_image, error);
}

void sde_kl_posterior(const float *moments, const float *eps, int batch, size_t n,
		      float *ret_sample)
{
	for (size_t b = 0; b < (size_t)batch; b++) {
		const float *mean = moments + b * 2 * n, *logvar = mean + n;

		for (size_t i = 0; i < n; i++) {
			const float clamped = fminf(fmaxf(logvar[i], LOGVAR_MIN), LOGVAR_MAX);

			ret_sample[b * n + i] =
				eps ? mean[i] + expf(0.5f * clamped) * eps[b * n + i] : mean[i];
		}
	}
}

void sde_kl_scale(const struct sde_kl_config *config, float *z, size_t n)
{
	const float scale = (float)config->scaling_factor, shift = (float)config->shift_factor;

	for (size_t i = 0; i < n; i++)
		z[i] = (z[i] - shift) * scale;
}

void sde_kl_unscale(const struct sde_kl_config *config, float *latents, size_t n)
{
	const float scale = (float)config->scaling_factor, shift = (float)config->shift_factor;

	for (size_t i = 0; i < n; i++)
		latents[i] = latents[i] / scale + shift;
}
