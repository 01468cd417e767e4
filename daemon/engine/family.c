/*
 * The families and how they are told apart: by the network's configuration, never by the name of a folder.
 */
#include "daemon/engine/family.h"

#include "daemon/engine/denoisers/denoiser.h"

#define SAMPLER "DPM++ 2M Karras"

/* Rows are what diffusers' pipelines and the models' cards say. */
static const struct sde_family sd1 = {
	.name = "sd1",
	.steps = 20,
	.guidance_scale = 7.5,
	.guidance_most = 20,
	.sampler = SAMPLER,
	.native_size = 512,
};

static const struct sde_family sd2 = {
	.name = "sd2",
	.steps = 20,
	.guidance_scale = 7.5,
	.guidance_most = 20,
	.sampler = SAMPLER,
	.native_size = 512,
};

static const struct sde_family lcm = {
	.name = "sd1",
	.distilled = true,
	.steps = 4,
	.guidance_scale = 8.5,
	.guidance_most = 20,
	.sampler = "LCM",
	.native_size = 512,
};

static const struct sde_family sdxl = {
	.name = "sdxl",
	.penultimate = true,
	.pooled = SDE_POOLED_LAST,
	.steps = 20,
	.guidance_scale = 5.0,
	.guidance_most = 10,
	.sampler = SAMPLER,
	.native_size = 1024,
};

static const struct sde_family sdxl_refiner = {
	.name = "sdxl-refiner",
	.penultimate = true,
	.pooled = SDE_POOLED_LAST,
	.steps = 20,
	.guidance_scale = 5.0,
	.guidance_most = 10,
	.sampler = SAMPLER,
	.native_size = 1024,
};

#define SD3_ROW                                                                                    \
	.penultimate = true, .pooled = SDE_POOLED_ALL, .t5 = "text_encoder_3",                     \
	.t5_optional = true, .t5_tokens = 256, .flow = true, .sampler = "Euler",                   \
	.native_size = 1024

static const struct sde_family sd3 = {
	.name = "sd3",
	SD3_ROW,
	.steps = 28,
	.guidance_scale = 7.0,
	.guidance_most = 10,
};

static const struct sde_family sd35 = {
	.name = "sd3.5",
	SD3_ROW,
	.steps = 28,
	.guidance_scale = 4.5,
	.guidance_most = 10,
};

#define FLUX_ROW                                                                                   \
	.pooled = SDE_POOLED_LAST, .t5 = "text_encoder_2", .t5_alone = true, .flow = true,         \
	.even_sigmas = true, .distilled = true, .mask_form = SDE_MASK_PIXELS, .sampler = "Euler",  \
	.native_size = 1024

static const struct sde_family flux = {
	.name = "flux",
	FLUX_ROW,
	.t5_tokens = 512,
	.steps = 28,
	.guidance_scale = 3.5,
	.guidance_most = 10,
};

static const struct sde_family flux_schnell = {
	.name = "flux-schnell",
	FLUX_ROW,
	.t5_tokens = 256,
	.steps = 4,
	.guidance_scale = 0.0,
};

static const struct sde_family flux_fill = {
	.name = "flux-fill",
	FLUX_ROW,
	.t5_tokens = 512,
	.steps = 28,
	.guidance_scale = 30.0,
	.guidance_most = 60,
};

static const struct sde_family *unet_family(const struct sde_unet_config *unet, bool refiner)
{
	if (unet->text_time)
		return refiner ? &sdxl_refiner : &sdxl;
	if (unet->time_cond_proj_dim > 0)
		return &lcm;
	return unet->use_linear_projection ? &sd2 : &sd1;
}

const struct sde_family *sde_family_of(const struct sde_denoiser *denoiser, bool refiner)
{
	if (denoiser->class == &sde_denoiser_sd3)
		return denoiser->sd3.config.qk_norm ? &sd35 : &sd3;
	if (denoiser->class == &sde_denoiser_flux) {
		if (denoiser->in_channels != denoiser->out_channels)
			return &flux_fill;
		return denoiser->guidance_embedding ? &flux : &flux_schnell;
	}
	return unet_family(&denoiser->unet.config, refiner);
}
