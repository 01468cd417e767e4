/*
 * The families and how they are told apart: by the network's configuration, never by the name of a folder.
 */
#include "daemon/engine/family.h"

#include "daemon/engine/denoisers/denoiser.h"

static const struct sde_family sd1 =
				       {
					       .name = "sd1",
					       .steps = 20,
					       .guidance_scale = 7.5,
					       .sampler = "DPM++ 2M Karras",
},
			       sd2 =
				       {
					       .name = "sd2",
					       .steps = 20,
					       .guidance_scale = 7.5,
					       .sampler = "DPM++ 2M Karras",
},
			       sdxl =
				       {
					       .name = "sdxl",
					       .penultimate = true,
					       .pooled = SDE_POOLED_LAST,
					       .steps = 20,
					       .guidance_scale = 5.0,
					       .sampler = "DPM++ 2M Karras",
},
			       sdxl_refiner = {
				       .name = "sdxl-refiner",
				       .penultimate = true,
				       .pooled = SDE_POOLED_LAST,
				       .steps = 20,
				       .guidance_scale = 5.0,
				       .sampler = "DPM++ 2M Karras",
};

const struct sde_family *sde_family_of(const struct sde_denoiser *denoiser, bool refiner)
{
	const struct sde_unet_config *unet = &denoiser->unet.config;

	if (unet->text_time)
		return refiner ? &sdxl_refiner : &sdxl;
	return unet->use_linear_projection ? &sd2 : &sd1;
}
