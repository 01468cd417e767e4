/*
 * The list of architectures, and the U-Net as one of them: its forward pass is that of forward.h with LCM's guidance
 * embedding made from the scale.
 */
#include "daemon/engine/denoisers/denoiser.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/adapters/guides.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/forward.h"
#include "daemon/engine/schedulers/embeddings.h"

#define GUIDANCE_EMBEDDING_SCALE 1000.0 /* of diffusers' get_guidance_scale_embedding */

const struct sde_denoiser_class *sde_denoiser_class_at(size_t i)
{
	static const struct sde_denoiser_class *const classes[] = {
		&sde_denoiser_unet, &sde_denoiser_sd3, &sde_denoiser_flux};

	return i < sizeof(classes) / sizeof(classes[0]) ? classes[i] : NULL;
}

void sde_denoiser_clear(struct sde_denoiser *denoiser, struct sde_runner *runner)
{
	if (!denoiser->class)
		return;
	/* the modules of programs: all members of the union begin here */
	sde_runner_forget(runner, &denoiser->unet);
	denoiser->class->clear(denoiser);
	*denoiser = (struct sde_denoiser){0};
}

static int unet_configure(struct sde_denoiser *denoiser, const json_t *config, const char *what,
			  struct sde_error *error)
{
	struct sde_unet_config unet;
	int r;

	r = sde_unet_config_parse(config, what, &unet, error);
	if (r < 0)
		return r;
	denoiser->class = &sde_denoiser_unet;
	denoiser->unet.config = unet;
	denoiser->in_channels = unet.in_channels;
	denoiser->out_channels = unet.out_channels;
	denoiser->sample_size = unet.sample_size;
	denoiser->patch = 1;
	denoiser->context_width = unet.cross_attention_dim;
	denoiser->guidance_embedding = unet.time_cond_proj_dim > 0;
	return 0;
}

static int unet_bind(struct sde_denoiser *denoiser, const json_t *config, const char *what,
		     struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = {0};
	int r;

	r = unet_configure(&bound, config, what, error);
	if (r >= 0)
		r = sde_unet_bind(&bound.unet, &bound.unet.config, weights, error);
	if (r >= 0)
		*denoiser = bound;
	return r;
}

static int unet_bind_like(struct sde_denoiser *denoiser, const struct sde_denoiser *other,
			  struct sde_weights *weights, struct sde_error *error)
{
	struct sde_denoiser bound = *other;
	int r = sde_unet_bind(&bound.unet, &other->unet.config, weights, error);

	if (r >= 0)
		*denoiser = bound;
	return r;
}

static void unet_clear(struct sde_denoiser *denoiser)
{
	sde_unet_clear(&denoiser->unet);
}

static int unet_forward(struct sde_runner *runner, const struct sde_denoiser *denoiser,
			const struct sde_denoiser_call *call, float *ret_output,
			struct sde_error *error)
{
	const size_t dim = (size_t)denoiser->unet.config.time_cond_proj_dim;
	struct sde_unet_call unet = {.sample = call->sample,
				     .batch = call->batch,
				     .height = call->height,
				     .width = call->width,
				     .timesteps = call->timesteps,
				     .encoder_hidden_states = call->context,
				     .tokens = call->tokens,
				     .text_embeds = call->pooled,
				     .text_width = call->pooled_width,
				     .time_ids = call->time_ids,
				     .n_time_ids = call->n_time_ids,
				     .watch = call->watch};
	_cleanup_free_ float *guidance = NULL;
	int r;

	if (dim > 0) {
		guidance = calloc((size_t)call->batch, dim * sizeof(*guidance));
		if (!guidance)
			return sde_error_set(error, -ENOMEM, "no memory for a guidance embedding");
		for (int i = 0; i < call->batch; i++) {
			const float w = call->guidance_scales[i] - 1.0f;

			sde_guidance_embedding(&w, 1, dim, GUIDANCE_EMBEDDING_SCALE,
					       guidance + (size_t)i * dim);
		}
		unet.timestep_cond = guidance;
	}
	if (call->guides) {
		r = sde_guides_step(call->guides, &unet, call->step, call->steps, &unet.control,
				    error);
		if (r < 0)
			return r;
	}
	return sde_unet_forward(runner, &denoiser->unet, &unet, ret_output, error);
}

const struct sde_denoiser_class sde_denoiser_unet = {
	.folder = "unet",
	.name = "UNet2DConditionModel",
	.configure = unet_configure,
	.bind = unet_bind,
	.bind_like = unet_bind_like,
	.clear = unet_clear,
	.forward = unet_forward,
};
