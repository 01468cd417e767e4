/*
 * Guides through the steps of a run; see guides.h.
 */
#include "daemon/engine/adapters/guides.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"

struct sde_guides {
	struct sde_runner *runner;
	struct sde_guide guides[SDE_GUIDES_MAX];
	size_t count;
	bool guess, guidance;
	int batch, height, width;
	int in_channels;     /* of the U-Net: an inpainting one has more than latents */
	float *latents;	     /* the call's sample without them, when a ControlNet is asked */
	float *image_tokens; /* of the whole batch */
	int n_image_tokens;
	float *hints[SDE_GUIDES_MAX];			      /* of ControlNets */
	float *features[SDE_GUIDES_MAX][SDE_UNET_LEVELS_MAX]; /* of T2I-Adapters, of one image */
	struct sdk_shape shapes[SDE_UNET_SKIPS_MAX + 1], feature_shapes[SDE_UNET_LEVELS_MAX];
	int n_shapes, n_feature_shapes;
	struct sde_unet_control arrays, control;
};

static size_t count_of(struct sdk_shape shape)
{
	return (size_t)shape.n * (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
}

static int no_memory(struct sde_error *error)
{
	return sde_error_set(error, -ENOMEM, "no memory for guiding pictures");
}

static int prepare_controlnet(struct sde_guides *guides, size_t i, struct sde_error *error)
{
	const struct sde_guide *guide = &guides->guides[i];

	guides->hints[i] = malloc(count_of(guides->shapes[0]) * sizeof(float));
	if (!guides->hints[i])
		return no_memory(error);
	return sde_controlnet_encode(guides->runner, guide->controlnet, guide->picture,
				     guides->height, guides->width, guides->hints[i], error);
}

static int prepare_t2i(struct sde_guides *guides, size_t i, struct sde_error *error)
{
	const struct sde_guide *guide = &guides->guides[i];

	for (int k = 0; k < guides->n_feature_shapes; k++) {
		guides->features[i][k] =
			malloc(count_of(guides->feature_shapes[k]) * sizeof(float));
		if (!guides->features[i][k])
			return no_memory(error);
	}
	return sde_t2i_adapter_run(guides->runner, guide->t2i, guide->picture, guides->height,
				   guides->width, guides->feature_shapes, guides->n_feature_shapes,
				   guides->features[i], error);
}

static int arrays_new(float **arrays, const struct sdk_shape *shapes, int n)
{
	for (int i = 0; i < n; i++) {
		arrays[i] = malloc(count_of(shapes[i]) * sizeof(float));
		if (!arrays[i])
			return -ENOMEM;
	}
	return 0;
}

/* A row of tokens for each image of the batch: no picture's for the negative half. */
static int prepare_tokens(struct sde_guides *guides, const struct sde_guides_options *options,
			  size_t width, struct sde_error *error)
{
	const size_t n = (size_t)options->n_image_tokens * width;
	const int half = options->guidance ? guides->batch / 2 : 0;

	if (options->n_image_tokens == 0)
		return 0;
	guides->image_tokens = malloc((size_t)guides->batch * n * sizeof(float));
	if (!guides->image_tokens)
		return no_memory(error);
	for (int b = 0; b < guides->batch; b++)
		memcpy(guides->image_tokens + (size_t)b * n,
		       options->image_tokens + (b < half ? 0 : n), n * sizeof(float));
	guides->n_image_tokens = options->n_image_tokens;
	return 0;
}

int sde_guides_new(struct sde_runner *runner, const struct sde_unet_config *unet,
		   const struct sde_guides_options *options, int batch, int height, int width,
		   struct sde_guides **ret_guides, struct sde_error *error)
{
	struct sde_guides *guides = calloc(1, sizeof(*guides));
	bool nets = false, adapters = false;
	int r = 0;

	if (!guides)
		return no_memory(error);
	if (options->count > SDE_GUIDES_MAX) {
		free(guides);
		return sde_error_set(error, -EINVAL, "at most %d guiding pictures, not %zu",
				     SDE_GUIDES_MAX, options->count);
	}
	guides->runner = runner;
	guides->count = options->count;
	guides->guess = options->guess;
	guides->guidance = options->guidance;
	guides->batch = batch;
	guides->height = height;
	guides->width = width;
	guides->in_channels = unet->in_channels;
	guides->n_shapes = sde_unet_skip_shapes(unet, batch, height, width, guides->shapes);
	guides->n_feature_shapes =
		sde_unet_feature_shapes(unet, batch, height, width, guides->feature_shapes);
	memcpy(guides->guides, options->guides, options->count * sizeof(*options->guides));
	for (size_t i = 0; r >= 0 && i < guides->count; i++) {
		/* as in diffusers, whose first ControlNet decides */
		if (!nets && guides->guides[i].controlnet && guides->guides[i].controlnet->pool)
			guides->guess = true;
		nets |= guides->guides[i].controlnet != NULL;
		adapters |= guides->guides[i].t2i != NULL;
		r = guides->guides[i].controlnet ? prepare_controlnet(guides, i, error)
						 : prepare_t2i(guides, i, error);
	}
	if (r >= 0 && nets &&
	    arrays_new(guides->arrays.residuals, guides->shapes, guides->n_shapes) < 0)
		r = no_memory(error);
	if (r >= 0 && adapters &&
	    arrays_new(guides->arrays.features, guides->feature_shapes, guides->n_feature_shapes) <
		    0)
		r = no_memory(error);
	if (r >= 0)
		r = prepare_tokens(guides, options, (size_t)unet->cross_attention_dim, error);
	if (r < 0) {
		sde_guides_free(guides);
		return r;
	}
	*ret_guides = guides;
	return 0;
}

/* The first channels of each image of the call: what a ControlNet knows of an inpainting U-Net's sample. */
static int take_latents(struct sde_guides *guides, const struct sde_unet_call *call,
			size_t channels, struct sde_error *error)
{
	const size_t pixels = (size_t)call->height * (size_t)call->width;

	if (!guides->latents)
		guides->latents =
			calloc((size_t)call->batch * channels, pixels * sizeof(*guides->latents));
	if (!guides->latents)
		return no_memory(error);
	for (size_t b = 0; b < (size_t)call->batch; b++)
		memcpy(guides->latents + b * channels * pixels,
		       call->sample + b * (size_t)guides->in_channels * pixels,
		       channels * pixels * sizeof(*guides->latents));
	return 0;
}

static int step_controlnet(struct sde_guides *guides, size_t index,
			   const struct sde_unet_call *call, struct sde_error *error)
{
	const struct sde_guide *guide = &guides->guides[index];
	const int half = guides->guess && guides->guidance ? call->batch / 2 : 0;
	struct sde_unet_call part = *call;
	float scales[SDE_UNET_SKIPS_MAX + 1], *residuals[SDE_UNET_SKIPS_MAX + 1];
	const size_t pixels = (size_t)call->height * (size_t)call->width;
	const size_t channels = (size_t)guide->controlnet->net.config.in_channels;
	int r;

	if (guide->controlnet->net.config.in_channels != guides->in_channels) {
		r = take_latents(guides, call, channels, error);
		if (r < 0)
			return r;
		part.sample = guides->latents;
	}
	/* the second half of everything */
	part.batch -= half;
	part.sample += (size_t)half * channels * pixels;
	part.timesteps += half;
	part.encoder_hidden_states += (size_t)half * (size_t)call->tokens *
				      (size_t)guide->controlnet->net.config.cross_attention_dim;
	if (part.text_embeds)
		part.text_embeds += half * part.text_width;
	if (part.time_ids)
		part.time_ids += half * part.n_time_ids;
	for (int i = 0; i < guides->n_shapes; i++)
		residuals[i] = guides->arrays.residuals[i] +
			       count_of(guides->shapes[i]) / (size_t)call->batch * (size_t)half;
	sde_controlnet_scales(guide->controlnet, guide->scale, guides->guess, scales);
	return sde_controlnet_forward(guides->runner, guide->controlnet, &part,
				      guides->hints[index], scales, residuals, error);
}

static void step_t2i(struct sde_guides *guides, size_t index)
{
	const float scale = (float)guides->guides[index].scale;

	for (int k = 0; k < guides->n_feature_shapes; k++) {
		const size_t all = count_of(guides->feature_shapes[k]),
			     one = all / (size_t)guides->batch;

		for (size_t i = 0; i < all; i++)
			guides->arrays.features[k][i] +=
				scale * guides->features[index][k][i % one];
	}
}

static void zero(float **arrays, const struct sdk_shape *shapes, int n)
{
	for (int i = 0; i < n && arrays[i]; i++)
		memset(arrays[i], 0, count_of(shapes[i]) * sizeof(float));
}

int sde_guides_step(struct sde_guides *guides, const struct sde_unet_call *call, size_t i, size_t n,
		    const struct sde_unet_control **ret_control, struct sde_error *error)
{
	int r = 0;

	guides->control = guides->arrays;
	guides->control.n_residuals = guides->control.n_features = 0;
	zero(guides->arrays.residuals, guides->shapes, guides->n_shapes);
	zero(guides->arrays.features, guides->feature_shapes, guides->n_feature_shapes);
	for (size_t k = 0; r >= 0 && k < guides->count; k++) {
		const struct sde_guide *guide = &guides->guides[k];

		if ((double)i / (double)n < guide->start ||
		    (double)(i + 1) / (double)n > guide->end)
			continue;
		if (guide->controlnet) {
			guides->control.n_residuals = guides->n_shapes;
			r = step_controlnet(guides, k, call, error);
		} else {
			guides->control.n_features = guides->n_feature_shapes;
			step_t2i(guides, k);
		}
	}
	guides->control.image_tokens = guides->image_tokens;
	guides->control.n_image_tokens = guides->n_image_tokens;
	*ret_control =
		guides->control.n_residuals || guides->control.n_features || guides->n_image_tokens
			? &guides->control
			: NULL;
	return r;
}

struct sde_guides *sde_guides_free(struct sde_guides *guides)
{
	if (!guides)
		return NULL;
	for (int i = 0; i < SDE_UNET_SKIPS_MAX + 1; i++)
		free(guides->arrays.residuals[i]);
	for (int i = 0; i < SDE_UNET_LEVELS_MAX; i++)
		free(guides->arrays.features[i]);
	free(guides->latents);
	free(guides->image_tokens);
	for (size_t i = 0; i < SDE_GUIDES_MAX; i++) {
		free(guides->hints[i]);
		for (int k = 0; k < SDE_UNET_LEVELS_MAX; k++)
			free(guides->features[i][k]);
	}
	free(guides);
	return NULL;
}
