/*
 * Autoencoders alone: kinds vae_kl, vae_kl_tiled, vae_stats, vae_vq, vae_tiny and vae_tiny_tiled.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/autoencoders/tiny-run.h"
#include "daemon/engine/forward.h"
#include "tests/golden/component.h"

/* mean, logvar, std, sample and latents of one batch of pictures */
static int vae_encode(struct golden_case *c, struct sde_runner *runner, const struct sde_kl *kl)
{
	const struct golden_tensor *image = golden_input_f32(c, "image");
	const struct golden_tensor *eps = golden_input_f32(c, "eps");
	float *moments, *mean, *logvar, *std, *sample;
	struct sde_error error;
	size_t n;
	int b;

	if (!image || !eps || image->rank != 4 || eps->rank != 4)
		return golden_fail(c, "image or eps is missing or misshapen");
	b = (int)image->shape[0];
	n = eps->count / (size_t)b;
	moments = golden_floats(2 * eps->count);
	mean = golden_floats(eps->count);
	logvar = golden_floats(eps->count);
	std = golden_floats(eps->count);
	sample = golden_floats(eps->count);
	if (sde_kl_encode(runner, kl, image->f32, b, (int)image->shape[2], (int)image->shape[3],
			  moments, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	sde_kl_posterior(moments, NULL, b, n, mean);
	sde_kl_posterior(moments, eps->f32, b, n, sample);
	for (size_t i = 0; i < eps->count; i++) {
		logvar[i] = fminf(fmaxf(moments[i / n * 2 * n + n + i % n], -30.0f), 20.0f);
		std[i] = expf(0.5f * logvar[i]);
	}
	golden_expect_f32(c, "mean", mean, eps->rank, eps->shape);
	golden_expect_f32(c, "logvar", logvar, eps->rank, eps->shape);
	golden_expect_f32(c, "std", std, eps->rank, eps->shape);
	golden_expect_f32(c, "sample", sample, eps->rank, eps->shape);
	sde_latents_scale(kl->config.scaling_factor, kl->config.shift_factor, sample, eps->count);
	golden_expect_f32(c, "latents", sample, eps->rank, eps->shape);
	return GOLDEN_PASS;
}

int golden_vae_kl(struct golden_case *c)
{
	const struct golden_tensor *latents, *want;
	struct golden_component component;
	struct sde_kl_config config;
	struct sde_error error;
	struct sde_kl kl;
	float *z, *out;
	int r, b, h, w;

	r = golden_open_component(c, "AutoencoderKL", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(&kl, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	r = vae_encode(c, component.runner, &kl);
	latents = golden_input_f32(c, "latents_in");
	want = golden_input_f32(c, "decoded");
	if (r != GOLDEN_PASS || !latents || !want || latents->rank != 4)
		return GOLDEN_FAIL;
	b = (int)latents->shape[0];
	h = (int)latents->shape[2];
	w = (int)latents->shape[3];
	z = golden_floats(latents->count);
	out = golden_floats(want->count);
	memcpy(z, latents->f32, latents->count * sizeof(float));
	if (sde_kl_decode(component.runner, &kl, z, b, h, w, out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded", out, want->rank, want->shape);
	sde_latents_unscale(config.scaling_factor, config.shift_factor, z, latents->count);
	if (sde_kl_decode(component.runner, &kl, z, b, h, w, out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded_from_scaled", out, want->rank, want->shape);
	return GOLDEN_PASS;
}

/* GOLDEN_PASS with the autoencoder bound. */
static int open_kl(struct golden_case *c, struct golden_component *component, struct sde_kl *kl)
{
	struct sde_kl_config config;
	struct sde_error error;
	int r;

	r = golden_open_component(c, "AutoencoderKL", component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(kl, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	return GOLDEN_PASS;
}

/* What a training run would measure: the scaled mode of each picture, then mean and deviation of every latent channel. */
int golden_vae_stats(struct golden_case *c)
{
	const struct golden_tensor *image, *want;
	float *moments, *mode, *mean, *deviation;
	struct golden_component component;
	struct sde_error error;
	size_t n, channels, area;
	struct sde_kl kl;
	int r;

	r = open_kl(c, &component, &kl);
	if (r != GOLDEN_PASS)
		return r;
	image = golden_input_f32(c, "image");
	want = golden_input_f32(c, "latents_mode");
	if (!image || !want || image->rank != 4 || want->rank != 4)
		return golden_fail(c, "image or latents_mode is missing or misshapen");
	n = want->count / (size_t)want->shape[0];
	channels = (size_t)want->shape[1];
	area = n / channels;
	moments = golden_floats(2 * want->count);
	mode = golden_floats(want->count);
	mean = golden_floats(channels);
	deviation = golden_floats(channels);
	if (sde_kl_encode(component.runner, &kl, image->f32, (int)image->shape[0],
			  (int)image->shape[2], (int)image->shape[3], moments, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	sde_kl_posterior(moments, NULL, (int)image->shape[0], n, mode);
	sde_latents_scale(kl.config.scaling_factor, kl.config.shift_factor, mode, want->count);
	for (size_t k = 0; k < channels; k++) {
		const double count = (double)(want->count / channels);
		double sum = 0, squares = 0;

		for (size_t i = 0; i < want->count; i++)
			sum += i / area % channels == k ? (double)mode[i] : 0;
		for (size_t i = 0; i < want->count; i++)
			squares += i / area % channels == k ? pow((double)mode[i] - sum / count, 2)
							    : 0;
		mean[k] = (float)(sum / count);
		deviation[k] = (float)sqrt(squares / count);
	}
	golden_expect_f32(c, "latents_mode", mode, want->rank, want->shape);
	golden_expect_f32(c, "channel_mean", mean, GOLDEN_SHAPE((int64_t)channels));
	golden_expect_f32(c, "channel_std", deviation, GOLDEN_SHAPE((int64_t)channels));
	return GOLDEN_PASS;
}

int golden_vae_kl_tiled(struct golden_case *c)
{
	const struct sde_kl_tiling tiling = {
		.sample_size = (int)golden_param_int(c, "tile_sample_min_size", 512),
		.latent_size = (int)golden_param_int(c, "tile_latent_min_size", 64),
		.overlap = golden_param_double(c, "tile_overlap_factor", 0.25),
	};
	const struct golden_tensor *image, *latents, *moments, *decoded;
	struct golden_component component;
	struct sde_kl_config config;
	struct sde_error error;
	struct sde_runner *runner;
	struct sde_kl kl;
	float *to;
	int r, h, w;

	r = golden_open_component(c, "AutoencoderKL", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_kl_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(&kl, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	image = golden_input_f32(c, "image");
	latents = golden_input_f32(c, "latents_in");
	moments = golden_input_f32(c, "moments");
	decoded = golden_input_f32(c, "decoded");
	if (!image || !latents || !moments || !decoded || image->rank != 4 || latents->rank != 4)
		return golden_fail(c, "malformed case");
	runner = component.runner;
	to = golden_floats(decoded->count > moments->count ? decoded->count : moments->count);
	h = (int)image->shape[2];
	w = (int)image->shape[3];
	if (sde_kl_encode_tiled(runner, &kl, &tiling, image->f32, (int)image->shape[0], h, w, to,
				&error) < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_f32(c, "moments", to, moments->rank, moments->shape);
	if (sde_kl_encode(runner, &kl, image->f32, (int)image->shape[0], h, w, to, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_f32(c, "moments_untiled", to, moments->rank, moments->shape);
	h = (int)latents->shape[2];
	w = (int)latents->shape[3];
	if (sde_kl_decode_tiled(runner, &kl, &tiling, latents->f32, (int)latents->shape[0], h, w,
				to, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded", to, decoded->rank, decoded->shape);
	if (sde_kl_decode(runner, &kl, latents->f32, (int)latents->shape[0], h, w, to, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded_untiled", to, decoded->rank, decoded->shape);
	return GOLDEN_PASS;
}

/* GOLDEN_PASS with the distilled autoencoder bound. */
static int open_tiny(struct golden_case *c, struct golden_component *component,
		     struct sde_tiny *tiny)
{
	struct sde_tiny_config config;
	struct sde_error error;
	int r;

	r = golden_open_component(c, "AutoencoderTiny", component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_tiny_config_parse(component->config, "config.json", &config, &error) < 0 ||
	    sde_tiny_bind(tiny, &config, component->weights, &error) < 0)
		return golden_fail_error(c, "vae", &error);
	return GOLDEN_PASS;
}

/* Both halves, whole or in tiles, as far as the case asks for them. */
static int tiny_halves(struct golden_case *c, const struct golden_component *component,
		       const struct sde_tiny *tiny, const struct sde_tiny_tiling *tiling)
{
	const struct golden_tensor *image = golden_input_f32(c, "image");
	const struct golden_tensor *latents = golden_input_f32(c, "latents_in");
	const struct golden_tensor *want = golden_input_f32(c, "decoded");
	struct sde_error error;
	float *out;

	if (!image || !latents || !want || image->rank != 4 || latents->rank != 4)
		return golden_fail(c, "malformed case");
	out = golden_floats(image->count + want->count + latents->count);
	if (golden_wants(c, "latents")) {
		if (sde_tiny_encode(component->runner, tiny, tiling, image->f32,
				    (int)image->shape[0], (int)image->shape[2],
				    (int)image->shape[3], out, &error) < 0)
			return golden_fail_error(c, "encode", &error);
		golden_expect_f32(c, "latents", out, latents->rank, latents->shape);
	}
	if (sde_tiny_decode(component->runner, tiny, tiling, latents->f32, (int)latents->shape[0],
			    (int)latents->shape[2], (int)latents->shape[3], out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "decoded", out, want->rank, want->shape);
	return GOLDEN_PASS;
}

int golden_vae_tiny(struct golden_case *c)
{
	const struct golden_tensor *latents = golden_input_f32(c, "latents_in");
	struct golden_component component;
	struct sde_tiny tiny;
	float *unit;
	int r;

	r = open_tiny(c, &component, &tiny);
	if (r == GOLDEN_PASS)
		r = tiny_halves(c, &component, &tiny, NULL);
	if (r != GOLDEN_PASS)
		return r;
	unit = golden_floats(latents->count);
	memcpy(unit, latents->f32, latents->count * sizeof(float));
	sde_tiny_latents_to_unit(&tiny.config, unit, latents->count);
	golden_expect_f32(c, "scaled01", unit, latents->rank, latents->shape);
	sde_tiny_latents_from_unit(&tiny.config, unit, latents->count);
	golden_expect_f32(c, "unscaled", unit, latents->rank, latents->shape);
	return GOLDEN_PASS;
}

int golden_vae_tiny_tiled(struct golden_case *c)
{
	const struct sde_tiny_tiling tiling = {
		.sample_size = (int)golden_param_int(c, "tile_sample_min_size", 512),
		.latent_size = (int)golden_param_int(c, "tile_latent_min_size", 64),
		.overlap = golden_param_double(c, "tile_overlap_factor", 0.125),
	};
	struct golden_component component;
	struct sde_tiny tiny;
	int r;

	r = open_tiny(c, &component, &tiny);
	return r == GOLDEN_PASS ? tiny_halves(c, &component, &tiny, &tiling) : r;
}

/* Latents to codes, to their vectors, to a picture: outputs prefix + indices, quantized, decoded. */
static int vq_decode(struct golden_case *c, const struct golden_component *component,
		     const struct sde_kl *vq, const struct golden_tensor *latents,
		     const float *values, const char *prefix)
{
	const struct golden_tensor *decoded = golden_input_f32(c, "decoded");
	const int b = (int)latents->shape[0], h = (int)latents->shape[2],
		  w = (int)latents->shape[3];
	float *quantized = golden_floats(latents->count), *out;
	int32_t *codes = calloc(latents->count, sizeof(*codes));
	struct sde_error error;
	char name[40];

	if (!decoded || !codes)
		return golden_fail(c, "malformed case");
	out = golden_floats(decoded->count);
	if (sde_vq_quantize(vq, values, b, (size_t)h * (size_t)w, codes, quantized, &error) < 0 ||
	    sde_kl_decode(component->runner, vq, quantized, b, h, w, out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	snprintf(name, sizeof(name), "%sindices", prefix);
	golden_expect_i32(c, name, codes, GOLDEN_SHAPE(b, h, w));
	snprintf(name, sizeof(name), "%squantized", prefix);
	golden_expect_f32(c, name, quantized, latents->rank, latents->shape);
	snprintf(name, sizeof(name), "%sdecoded", prefix);
	golden_expect_f32(c, name, out, decoded->rank, decoded->shape);
	return GOLDEN_PASS;
}

int golden_vae_vq(struct golden_case *c)
{
	const struct golden_tensor *image = golden_input_f32(c, "image");
	const struct golden_tensor *latents = golden_input_f32(c, "latents_in");
	const struct golden_tensor *decoded = golden_input_f32(c, "decoded");
	struct golden_component component;
	struct sde_kl_config config;
	struct sde_error error;
	struct sde_kl vq;
	float *z, *out;
	int r;

	if (strcmp(c->options->dtype, "f32") != 0)
		return golden_skip(c, "rounding may choose another code; judged in f32 only");
	r = golden_open_component(c, "VQModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_vq_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_kl_bind(&vq, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "vqvae", &error);
	if (!image || !latents || !decoded || image->rank != 4 || latents->rank != 4)
		return golden_fail(c, "malformed case");
	z = golden_floats(latents->count);
	if (sde_kl_encode(component.runner, &vq, image->f32, (int)image->shape[0],
			  (int)image->shape[2], (int)image->shape[3], z, &error) < 0)
		return golden_fail_error(c, "encode", &error);
	golden_expect_f32(c, "z", z, latents->rank, latents->shape);
	r = vq_decode(c, &component, &vq, latents, z, "");
	if (r == GOLDEN_PASS)
		r = vq_decode(c, &component, &vq, latents, latents->f32, "lat_");
	if (r != GOLDEN_PASS)
		return r;
	out = golden_floats(decoded->count);
	if (sde_kl_decode(component.runner, &vq, latents->f32, (int)latents->shape[0],
			  (int)latents->shape[2], (int)latents->shape[3], out, &error) < 0)
		return golden_fail_error(c, "decode", &error);
	golden_expect_f32(c, "lat_decoded_no_quant", out, decoded->rank, decoded->shape);
	return GOLDEN_PASS;
}
