/*
 * Which decoder a preview uses, and the way from latents to bytes.
 */
#include "daemon/engine/preview.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/model-dir.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"

#define DECODER_FOLDER "taesd"

static int load_decoder(struct sde_preview *preview, const char *path, const struct sde_vae *vae,
			struct sde_error *error)
{
	const struct sde_component component = {.name = DECODER_FOLDER, .path = (char *)path};
	_cleanup_json_ json_t *config = NULL;
	int r;

	r = sde_component_config(&component, &config, error);
	if (r >= 0)
		r = sde_component_weights(&component, &preview->weights, error);
	if (r >= 0)
		r = sde_vae_bind(&preview->decoder, config, path, preview->weights, error);
	if (r < 0)
		return r;
	if (preview->decoder.kind != SDE_VAE_TINY || preview->decoder.out_channels != 3 ||
	    preview->decoder.latent_channels != vae->latent_channels ||
	    preview->decoder.factor != vae->factor)
		return sde_error_set(
			error, -EINVAL,
			"%s: previews need an AutoencoderTiny of %d latent channels and "
			"%d pixels a latent, like the model's vae",
			path, vae->latent_channels, vae->factor);
	return 0;
}

static int load_matrix(struct sde_preview *preview, struct sde_config_keys *keys, int channels)
{
	const json_t *rows = json_object_get(keys->object, "latent_rgb");
	const size_t n = json_array_size(rows);

	if (!sde_config_has(keys, "latent_rgb"))
		return 0;
	if (n != (size_t)channels && n != (size_t)channels + 1) {
		sde_config_fail(keys,
				"'latent_rgb' has %zu rows; %d latent channels need %d, or %d "
				"with a constant",
				n, channels, channels, channels + 1);
		return keys->r;
	}
	preview->latent_rgb = calloc((size_t)channels + 1, sizeof(*preview->latent_rgb));
	if (!preview->latent_rgb)
		return sde_error_set(keys->error, -ENOMEM, "no memory for latent_rgb");
	for (size_t i = 0; i < 3 * n; i++) {
		const json_t *value = json_array_get(json_array_get(rows, i / 3), i % 3);

		if (!json_is_number(value) || json_array_size(json_array_get(rows, i / 3)) != 3)
			sde_config_fail(keys, "row %zu of 'latent_rgb' is not three numbers",
					i / 3);
		preview->latent_rgb[i / 3][i % 3] = (float)json_number_value(value);
	}
	return keys->r;
}

int sde_preview_load(struct sde_preview *preview, const struct sde_model_dir *dir,
		     const json_t *object, const struct sde_vae *vae, struct sde_error *error)
{
	struct sde_config_keys keys = {.object = object, .what = "sdd.json", .error = error};
	const char *name = sde_config_string(&keys, "preview_decoder", NULL);
	char path[4096];
	struct stat st;

	*preview = (struct sde_preview){0};
	if (keys.r < 0)
		return keys.r;
	if (name && (name[0] == '.' || !name[0] || strchr(name, '/')))
		return sde_error_set(error, -EINVAL,
				     "sdd.json: 'preview_decoder' is not the name of a folder "
				     "beside it");
	snprintf(path, sizeof(path), "%s/%s", dir->path, name ? name : DECODER_FOLDER);
	if (name || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
		return load_decoder(preview, path, vae, error);
	return load_matrix(preview, &keys, vae->latent_channels);
}

void sde_preview_clear(struct sde_preview *preview, struct sde_runner *runner)
{
	sde_vae_clear(&preview->decoder, runner);
	sde_weights_free(preview->weights);
	free(preview->latent_rgb);
	*preview = (struct sde_preview){0};
}

bool sde_preview_available(const struct sde_preview *preview, const struct sde_vae *vae)
{
	return preview->weights || preview->latent_rgb || vae->kind == SDE_VAE_TINY;
}

/* Planar RGB, one pixel a latent. */
static void mix(const float (*rgb)[3], int channels, const float *latents, size_t pixels,
		float *ret_planes)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t p = 0; p < pixels; p++) {
			float sum = rgb[channels][c];

			for (int k = 0; k < channels; k++)
				sum += rgb[k][c] * latents[(size_t)k * pixels + p];
			ret_planes[c * pixels + p] = sum;
		}
}

static int shrink(struct sde_image *image, struct sde_error *error)
{
	const uint32_t side = image->width > image->height ? image->width : image->height;
	struct sde_image small;
	int r;

	if (side <= SDE_PREVIEW_SIDE_MAX)
		return 0;
	r = sde_resize_u8(image, (image->width * SDE_PREVIEW_SIDE_MAX + side - 1) / side,
			  (image->height * SDE_PREVIEW_SIDE_MAX + side - 1) / side, SDE_FILTER_BOX,
			  NULL, &small, error);
	if (r < 0)
		return r;
	sde_image_clear(image);
	*image = small;
	return 0;
}

int sde_preview_picture(const struct sde_preview *preview, struct sde_runner *runner,
			const struct sde_vae *vae, const float *latents, int height, int width,
			struct sde_image *ret_image, struct sde_error *error)
{
	const struct sde_vae *decoder = preview->weights ? &preview->decoder : vae;
	const bool linear = !preview->weights && vae->kind != SDE_VAE_TINY;
	const int factor = linear ? 1 : vae->factor;
	const size_t pixels = (size_t)height * (size_t)width;
	_cleanup_free_ float *planes = NULL;
	struct sde_image image;
	int r = 0;

	if (!sde_preview_available(preview, vae))
		return sde_error_set(error, -ENOTSUP,
				     "this model has neither a preview decoder nor latent_rgb");
	planes = calloc(pixels * 3, (size_t)factor * (size_t)factor * sizeof(float));
	if (!planes)
		return sde_error_set(error, -ENOMEM, "no memory for a preview");
	if (linear)
		mix((const float(*)[3])preview->latent_rgb, vae->latent_channels, latents, pixels,
		    planes);
	else
		r = sde_vae_decode(runner, decoder, latents, 1, height, width, planes, error);
	if (r >= 0)
		r = sde_image_new((uint32_t)(width * factor), (uint32_t)(height * factor), 3,
				  SDE_PIXEL_U8, &image, error);
	if (r < 0)
		return r;
	sde_image_from_float(planes, SDE_PLANAR, 0.5f, 0.5f, &image);
	r = shrink(&image, error);
	if (r < 0)
		sde_image_clear(&image);
	else
		*ret_image = image;
	return r;
}
