/*
 * The autoencoder on host arrays: both halves, the posterior or the codes, and the scaling of latents.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/autoencoders/run-images.h"
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
	const struct sdk_shape out = {1, height / f, width / f, sde_kl_config_moments(&kl->config)};

	return sde_run_images(runner, &spec, out, image, batch, ret_moments, error);
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

	return sde_run_images(runner, &spec, out, z, batch, ret_image, error);
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

void sde_latents_scale(double scale, double shift, float *z, size_t n)
{
	for (size_t i = 0; i < n; i++)
		z[i] = (z[i] - (float)shift) * (float)scale;
}

void sde_latents_unscale(double scale, double shift, float *latents, size_t n)
{
	for (size_t i = 0; i < n; i++)
		latents[i] = latents[i] / (float)scale + (float)shift;
}

/* The row of codes nearest to z (width numbers, each `stride` apart). */
static int nearest(const float *codes, int n, const float *z, size_t width, size_t stride)
{
	float best = INFINITY;
	int found = 0;

	for (int i = 0; i < n; i++) {
		const float *code = codes + (size_t)i * width;
		float distance = 0;

		for (size_t c = 0; c < width; c++)
			distance += (z[c * stride] - code[c]) * (z[c * stride] - code[c]);
		if (distance < best) {
			best = distance;
			found = i;
		}
	}
	return found;
}

int sde_vq_quantize(const struct sde_kl *kl, const float *z, int batch, size_t pixels,
		    int32_t *ret_codes, float *ret_quantized, struct sde_error *error)
{
	const size_t width = (size_t)kl->config.latent_channels, n = width * pixels;
	const size_t values = (size_t)kl->config.codes * width;
	_cleanup_free_ float *codes = malloc(values * sizeof(float));

	if (!codes)
		return sde_error_set(error, -ENOMEM, "no memory for a codebook of %d",
				     kl->config.codes);
	sdk_widen(kl->codebook.weight.type, kl->codebook.weight.data, codes, values);
	for (size_t b = 0; b < (size_t)batch; b++)
		for (size_t p = 0; p < pixels; p++) {
			const int code =
				nearest(codes, kl->config.codes, z + b * n + p, width, pixels);

			if (ret_codes)
				ret_codes[b * pixels + p] = code;
			for (size_t c = 0; c < width; c++)
				ret_quantized[b * n + c * pixels + p] =
					codes[(size_t)code * width + c];
		}
	return 0;
}
