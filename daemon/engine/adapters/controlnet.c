/*
 * Loading ControlNets: tables of what they have beside a U-Net's first half; see controlnet.h.
 */
#include "daemon/engine/adapters/controlnet.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/family.h"
#include "daemon/engine/adapters/open.h"
#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

#define COND_BLOCKS_MAX	  16
#define COND_CHANNELS_MAX 4096

enum { DIM_PICTURE, DIM_IN, DIM_OUT };

static const struct sde_field cond_in_fields[] = {
	SDE_FIELD(sde_controlnet, cond_in, "controlnet_cond_embedding.conv_in", CONV3, DIM_PICTURE,
		  DIM_OUT),
};

static const struct sde_field cond_out_fields[] = {
	SDE_FIELD(sde_controlnet, cond_out, "controlnet_cond_embedding.conv_out", CONV3, DIM_IN,
		  DIM_OUT),
};

/* The tensor's name is the whole prefix. */
static const struct sde_field conv_fields[] = {
	{"", SDE_FIELD_CONV3, 0, DIM_IN, DIM_OUT},
};
static const struct sde_field zero_fields[] = {
	{"", SDE_FIELD_POINTWISE, 0, DIM_OUT, DIM_OUT},
};

/* Output channels of a convolution of the picture's encoder, 0 when there is none. */
static int cond_channels(const struct sde_weights *weights, const char *name)
{
	const struct sde_tensor *tensor = sde_weights_find(weights, name);

	return tensor && tensor->rank == 4 && tensor->shape[0] > 0 &&
			       tensor->shape[0] <= COND_CHANNELS_MAX
		       ? (int)tensor->shape[0]
		       : 0;
}

static void bind_cond(struct sde_binder *binder, struct sde_controlnet *controlnet)
{
	const struct sde_weights *weights = binder->weights;
	int dims[] = {[DIM_PICTURE] = 3, [DIM_IN] = 0, [DIM_OUT] = 0};
	char name[96];

	dims[DIM_OUT] = cond_channels(weights, "controlnet_cond_embedding.conv_in.weight");
	SDE_BIND(binder, cond_in_fields, dims, controlnet, "%s", "");
	for (int i = 0; binder->r >= 0 && i < COND_BLOCKS_MAX; i++) {
		snprintf(name, sizeof(name), "controlnet_cond_embedding.blocks.%d.weight", i);
		dims[DIM_IN] = dims[DIM_OUT];
		dims[DIM_OUT] = cond_channels(weights, name);
		if (dims[DIM_OUT] == 0)
			break;
		SDE_BIND(binder, conv_fields, dims, &controlnet->cond_blocks[i],
			 "controlnet_cond_embedding.blocks.%d", i);
		controlnet->n_cond_blocks++;
	}
	if (binder->r >= 0 && 1 << controlnet->n_cond_blocks / 2 != SDE_CONTROLNET_FACTOR) {
		binder->r = sde_error_set(binder->error, -EBADMSG,
					  "its picture's encoder has %d blocks, not 6",
					  controlnet->n_cond_blocks);
		return;
	}
	dims[DIM_OUT] = controlnet->net.config.block_out_channels[0];
	SDE_BIND(binder, cond_out_fields, dims, controlnet, "%s", "");
}

static void bind_zero(struct sde_binder *binder, struct sde_controlnet *controlnet)
{
	struct sdk_shape shapes[SDE_UNET_SKIPS_MAX + 1];

	controlnet->n_zero = sde_unet_skip_shapes(&controlnet->net.config, 1, 64, 64, shapes);
	for (int i = 0; i < controlnet->n_zero; i++) {
		const int dims[] = {[DIM_OUT] = shapes[i].c};

		if (i + 1 < controlnet->n_zero)
			SDE_BIND(binder, zero_fields, dims, &controlnet->zero[i],
				 "controlnet_down_blocks.%d", i);
		else
			SDE_BIND(binder, zero_fields, dims, &controlnet->zero[i], "%s",
				 "controlnet_mid_block");
	}
}

/* The model's inputs are the ControlNet's: same latents, context and added conditions. */
static int check_fits(const struct sde_unet_config *ours, const struct sde_unet_config *base,
		      struct sde_error *error)
{
	struct sdk_shape a[SDE_UNET_SKIPS_MAX + 1], b[SDE_UNET_SKIPS_MAX + 1];
	const int n = sde_unet_skip_shapes(ours, 1, 64, 64, a);

	if (ours->cross_attention_dim != base->cross_attention_dim ||
	    ours->text_time != base->text_time ||
	    (ours->text_time && ours->projection_class_embeddings_input_dim !=
					base->projection_class_embeddings_input_dim))
		return sde_error_set(
			error, -EINVAL, "it attends to %d channels%s, the model gives %d%s",
			ours->cross_attention_dim, ours->text_time ? " and pooled text" : "",
			base->cross_attention_dim, base->text_time ? " and pooled text" : "");
	if (n != sde_unet_skip_shapes(base, 1, 64, 64, b) ||
	    memcmp(a, b, sizeof(a[0]) * (size_t)n) != 0)
		return sde_error_set(error, -EINVAL,
				     "its blocks are not those of the model's U-Net");
	return 0;
}

static int load(struct sde_controlnet *controlnet, const char *path, const char *name,
		const struct sde_unet_config *base, const char *family, struct sde_error *error)
{
	struct sde_binder binder = {.error = error};
	_cleanup_json_ json_t *json = NULL;
	struct sde_unet_config config = *base;
	int r;

	r = sde_adapter_open(path, &controlnet->weights, &json, error);
	if (r < 0)
		return r;
	r = sde_adapter_check_family("ControlNet", name, controlnet->weights, family, error);
	if (r < 0)
		return r;
	config.in_channels = base->out_channels;
	if (json && json_object_get(json, "block_out_channels"))
		r = sde_unet_config_parse(json, "its config.json", &config, error);
	if (r >= 0)
		r = check_fits(&config, base, error);
	if (r < 0)
		return r;
	controlnet->net.config = config;
	controlnet->cond_blocks = calloc(COND_BLOCKS_MAX, sizeof(*controlnet->cond_blocks));
	controlnet->zero = calloc(SDE_UNET_SKIPS_MAX + 1, sizeof(*controlnet->zero));
	if (!controlnet->cond_blocks || !controlnet->zero)
		return sde_error_set(error, -ENOMEM, "no memory");
	binder.weights = controlnet->weights;
	sde_unet_bind_encoder(&binder, &controlnet->net);
	bind_cond(&binder, controlnet);
	bind_zero(&binder, controlnet);
	return sde_bind_finish(&binder);
}

int sde_controlnet_load(const char *path, const char *name, const struct sde_unet_config *base,
			const char *family, struct sde_controlnet **ret_controlnet,
			struct sde_error *error)
{
	struct sde_controlnet *controlnet = calloc(1, sizeof(*controlnet));
	struct sde_error local = {0};
	int r;

	if (!controlnet)
		return sde_error_set(error, -ENOMEM, "no memory for a ControlNet");
	r = load(controlnet, path, name, base, family, &local);
	if (r < 0) {
		sde_controlnet_free(controlnet, NULL);
		if (strncmp(local.message, "ControlNet ", 11) == 0)
			return sde_error_set(error, r, "%s", local.message);
		return sde_error_set(error, r, "ControlNet %s: %s", name, local.message);
	}
	*ret_controlnet = controlnet;
	return 0;
}

struct sde_controlnet *sde_controlnet_free(struct sde_controlnet *controlnet,
					   struct sde_runner *runner)
{
	if (!controlnet)
		return NULL;
	if (runner)
		sde_runner_forget(runner, &controlnet->net);
	sde_unet_clear(&controlnet->net);
	free(controlnet->cond_blocks);
	free(controlnet->zero);
	sde_weights_free(controlnet->weights);
	free(controlnet);
	return NULL;
}

void sde_controlnet_scales(const struct sde_controlnet *controlnet, double scale, bool guess,
			   float ret_scales[SDE_UNET_SKIPS_MAX + 1])
{
	const int last = controlnet->n_zero - 1;

	for (int i = 0; i <= last; i++)
		ret_scales[i] = (float)(guess ? scale * pow(10, (double)i / last - 1) : scale);
}
