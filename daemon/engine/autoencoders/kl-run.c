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

static int build_encode(struct sde_recorder *rec, const void *userdata, const sde_value *inputs,
			sde_value *ret_outputs)
{
	ret_outputs[0] = sde_kl_record_encode(rec, userdata, inputs[0]);
	return 0;
}

static int build_decode(struct sde_recorder *rec, const void *userdata, const sde_value *inputs,
			sde_value *ret_outputs)
{
	ret_outputs[0] = sde_kl_record_decode(rec, userdata, inputs[0]);
	return 0;
}

/* One half on n images, each (in_channels, height, width) -> (out_channels, out_height, out_width). */
static int run_half(struct sde_runner *runner, struct sde_program_spec *spec, const float *in,
		    int batch, int in_channels, size_t in_pixels, int out_channels,
		    size_t out_pixels, float *ret_out, struct sde_error *error)
{
	const size_t in_size = (size_t)in_channels * in_pixels;
	const size_t out_size = (size_t)out_channels * out_pixels;
	_cleanup_free_ float *from = malloc(in_size * sizeof(float));
	_cleanup_free_ float *to = malloc(out_size * sizeof(float));

	if (!from || !to)
		return sde_error_set(error, -ENOMEM, "no memory for a picture of %zu pixels",
				     in_pixels > out_pixels ? in_pixels : out_pixels);
	for (size_t b = 0; b < (size_t)batch; b++) {
		int r;

		sde_nchw_to_nhwc(in + b * in_size, 1, in_channels, in_pixels, from);
		r = sde_runner_run(runner, spec, (const float *const[]){ from },
				   (float *const[]){ to }, error);
		if (r < 0)
			return r;
		sde_nhwc_to_nchw(to, 1, out_channels, out_pixels, ret_out + b * out_size);
	}
	return 0;
}

int sde_kl_encode(struct sde_runner *runner, const struct sde_kl *kl, const float *image, int batch,
		  int height, int width, float *ret_moments, struct sde_error *error)
{
	const int f = sde_kl_config_factor(&kl->config);
	struct sde_program_spec spec = {
		.name = "VAE encoder",
		.module = kl,
		.variant = 0,
		.build = build_encode,
		.userdata = kl,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = { { 4, { 1, height, width, kl->config.in_channels } } },
	};

	return run_half(runner, &spec, image, batch, kl->config.in_channels,
			(size_t)height * (size_t)width, 2 * kl->config.latent_channels,
			(size_t)(height / f) * (size_t)(width / f), ret_moments, error);
}

int sde_kl_decode(struct sde_runner *runner, const struct sde_kl *kl, const float *z, int batch,
		  int height, int width, float *ret_image, struct sde_error *error)
{
	const size_t f = (size_t)sde_kl_config_factor(&kl->config);
	const size_t pixels = (size_t)height * (size_t)width;
	struct sde_program_spec spec = {
		.name = "VAE decoder",
		.module = kl,
		.variant = 1,
		.build = build_decode,
		.userdata = kl,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = { { 4, { 1, height, width, kl->config.latent_channels } } },
	};

	return run_half(runner, &spec, z, batch, kl->config.latent_channels, pixels,
			kl->config.out_channels, pixels * f * f, ret_image, error);
}

void sde_kl_posterior(const float *moments, const float *eps, int batch, size_t n, float *ret_sample)
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
