/*
 * One face for the classes of autoencoders: which it is, tiles when large, scale and shift.
 */
#include "daemon/engine/autoencoders/vae.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/autoencoders/tiny-run.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

#define TILE	     512 /* pixels a side */
#define KL_OVERLAP   0.25
#define TINY_OVERLAP 0.125

static int bind_kl(struct sde_vae *vae, const json_t *config, const char *what,
		   struct sde_weights *weights, struct sde_error *error)
{
	struct sde_kl_config kl;
	int r;

	r = vae->kind == SDE_VAE_VQ ? sde_vq_config_parse(config, what, &kl, error)
				    : sde_kl_config_parse(config, what, &kl, error);
	if (r >= 0)
		r = sde_kl_bind(&vae->kl, &kl, weights, error);
	if (r < 0)
		return r;
	vae->in_channels = kl.in_channels;
	vae->out_channels = kl.out_channels;
	vae->latent_channels = kl.latent_channels;
	vae->factor = sde_kl_config_factor(&kl);
	vae->scaling_factor = kl.scaling_factor;
	vae->shift_factor = kl.shift_factor;
	return 0;
}

static int bind_tiny(struct sde_vae *vae, const json_t *config, const char *what,
		     struct sde_weights *weights, struct sde_error *error)
{
	struct sde_tiny_config tiny;
	int r;

	r = sde_tiny_config_parse(config, what, &tiny, error);
	if (r >= 0)
		r = sde_tiny_bind(&vae->tiny, &tiny, weights, error);
	if (r < 0)
		return r;
	vae->in_channels = tiny.in_channels;
	vae->out_channels = tiny.out_channels;
	vae->latent_channels = tiny.latent_channels;
	vae->factor = sde_tiny_config_factor(&tiny);
	vae->scaling_factor = tiny.scaling_factor;
	vae->shift_factor = tiny.shift_factor;
	return 0;
}

int sde_vae_bind(struct sde_vae *vae, const json_t *config, const char *what,
		 struct sde_weights *weights, struct sde_error *error)
{
	const char *name = json_string_value(json_object_get(config, "_class_name"));

	*vae = (struct sde_vae){.kind = SDE_VAE_KL};
	if (!name || strcmp(name, "AutoencoderKL") == 0)
		return bind_kl(vae, config, what, weights, error);
	if (strcmp(name, "VQModel") == 0) {
		vae->kind = SDE_VAE_VQ;
		return bind_kl(vae, config, what, weights, error);
	}
	if (strcmp(name, "AutoencoderTiny") == 0) {
		vae->kind = SDE_VAE_TINY;
		return bind_tiny(vae, config, what, weights, error);
	}
	return sde_error_set(error, -ENOTSUP,
			     "%s: '_class_name' is %.60s; supported are AutoencoderKL, VQModel and "
			     "AutoencoderTiny",
			     what, name);
}

void sde_vae_clear(struct sde_vae *vae, struct sde_runner *runner)
{
	sde_runner_forget(runner, &vae->kl);
	sde_runner_forget(runner, &vae->tiny);
	sde_kl_clear(&vae->kl);
	sde_tiny_clear(&vae->tiny);
}

bool sde_vae_draws(const struct sde_vae *vae)
{
	return vae->kind == SDE_VAE_KL;
}

/* Whole pictures up to SDE_VAE_WHOLE_MAX pixels, as diffusers does by default; tiles of TILE beyond, or where they are asked for. */
static int tile_side(const struct sde_vae *vae, int height, int width)
{
	if (vae->tiled || (int64_t)height * width > SDE_VAE_WHOLE_MAX)
		return TILE;
	return height > width ? height : width;
}

/* Of one picture. */
static size_t latents_of(const struct sde_vae *vae, int height, int width)
{
	return (size_t)vae->latent_channels * (size_t)(height / vae->factor) *
	       (size_t)(width / vae->factor);
}

size_t sde_vae_encoding_size(const struct sde_vae *vae, int batch, int height, int width)
{
	/* a KL autoencoder gives means and variances */
	return (size_t)batch * latents_of(vae, height, width) * (sde_vae_draws(vae) ? 2 : 1);
}

int sde_vae_encoding(struct sde_runner *runner, const struct sde_vae *vae, const float *images,
		     int batch, int height, int width, float *ret_encoding, struct sde_error *error)
{
	const int side = tile_side(vae, height, width);
	const struct sde_kl_tiling kl_tiling = {side, side / vae->factor, KL_OVERLAP};
	const struct sde_tiny_tiling tiny_tiling = {side, side / vae->factor, TINY_OVERLAP};

	if (vae->kind == SDE_VAE_TINY)
		return sde_tiny_encode(runner, &vae->tiny, &tiny_tiling, images, batch, height,
				       width, ret_encoding, error);
	return sde_kl_encode_tiled(runner, &vae->kl, &kl_tiling, images, batch, height, width,
				   ret_encoding, error);
}

void sde_vae_sample(const struct sde_vae *vae, const float *encoding, const float *eps, int batch,
		    int height, int width, float *ret_latents)
{
	const size_t n = latents_of(vae, height, width), all = (size_t)batch * n;

	if (sde_vae_draws(vae))
		sde_kl_posterior(encoding, eps, batch, n, ret_latents);
	else
		memcpy(ret_latents, encoding, all * sizeof(float));
	sde_latents_scale(vae->scaling_factor, vae->shift_factor, ret_latents, all);
}

int sde_vae_encode(struct sde_runner *runner, const struct sde_vae *vae, const float *images,
		   const float *eps, int batch, int height, int width, float *ret_latents,
		   struct sde_error *error)
{
	const size_t n = sde_vae_encoding_size(vae, batch, height, width);
	_cleanup_free_ float *encoding = malloc(n * sizeof(float) + 1);
	int r;

	if (!encoding)
		return sde_error_set(error, -ENOMEM, "no memory for %zu latents", n);
	r = sde_vae_encoding(runner, vae, images, batch, height, width, encoding, error);
	if (r >= 0)
		sde_vae_sample(vae, encoding, eps, batch, height, width, ret_latents);
	return r;
}

int sde_vae_decode(struct sde_runner *runner, const struct sde_vae *vae, const float *latents,
		   int batch, int height, int width, float *ret_images, struct sde_error *error)
{
	const int side = tile_side(vae, height * vae->factor, width * vae->factor);
	const struct sde_kl_tiling kl_tiling = {side, side / vae->factor, KL_OVERLAP};
	const struct sde_tiny_tiling tiny_tiling = {side, side / vae->factor, TINY_OVERLAP};
	const size_t pixels = (size_t)height * (size_t)width;
	const size_t n = (size_t)batch * (size_t)vae->latent_channels * pixels;
	_cleanup_free_ float *z = malloc(n * sizeof(float) + 1);
	int r = 0;

	if (!z)
		return sde_error_set(error, -ENOMEM, "no memory for %zu latents", n);
	memcpy(z, latents, n * sizeof(float));
	sde_latents_unscale(vae->scaling_factor, vae->shift_factor, z, n);
	if (vae->kind == SDE_VAE_TINY)
		return sde_tiny_decode(runner, &vae->tiny, &tiny_tiling, z, batch, height, width,
				       ret_images, error);
	if (vae->kind == SDE_VAE_VQ)
		r = sde_vq_quantize(&vae->kl, z, batch, pixels, NULL, z, error);
	if (r >= 0)
		r = sde_kl_decode_tiled(runner, &vae->kl, &kl_tiling, z, batch, height, width,
					ret_images, error);
	return r;
}
