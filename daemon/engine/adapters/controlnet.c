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
#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/ldm.h"

#define COND_CHANNELS_MAX 4096

enum { DIM_IN, DIM_OUT };

/* The tensor's name is the whole prefix. */
static const struct sde_field conv_fields[] = {{"", SDE_FIELD_CONV3, 0, DIM_IN, DIM_OUT}};
static const struct sde_field zero_fields[] = {{"", SDE_FIELD_POINTWISE, 0, DIM_OUT, DIM_OUT}};

/* Names of the two layouts; original: of the authors' code ("control_model."). */
static void cond_name(bool original, int i, bool last, char *name, size_t size)
{
	if (original)
		snprintf(name, size, "input_hint_block.%d", 2 * i);
	else if (i == 0 || last)
		snprintf(name, size, "controlnet_cond_embedding.conv_%s", i == 0 ? "in" : "out");
	else
		snprintf(name, size, "controlnet_cond_embedding.blocks.%d", i - 1);
}

/* Output channels of a convolution of the picture's encoder, 0 when there is none. */
static int cond_channels(const struct sde_weights *weights, const char *name)
{
	char full[96];
	const struct sde_tensor *tensor;

	snprintf(full, sizeof(full), "%s.weight", name);
	tensor = sde_weights_find(weights, full);
	return tensor && tensor->rank == 4 && tensor->shape[0] > 0 &&
			       tensor->shape[0] <= COND_CHANNELS_MAX
		       ? (int)tensor->shape[0]
		       : 0;
}

/* conv_in, six blocks, conv_out: every second block halves the picture, to an eighth in all. */
static void bind_cond(struct sde_binder *binder, struct sde_controlnet *controlnet, bool original)
{
	const int last = SDE_CONTROLNET_BLOCKS + 1;
	int dims[] = {[DIM_IN] = 3, [DIM_OUT] = 0};
	char name[64];

	for (int i = 0; i <= last; i++, dims[DIM_IN] = dims[DIM_OUT]) {
		struct sde_conv *conv = i == 0	    ? &controlnet->cond_in
					: i == last ? &controlnet->cond_out
						    : &controlnet->cond_blocks[i - 1];

		cond_name(original, i, i == last, name, sizeof(name));
		dims[DIM_OUT] = i == last ? controlnet->net.config.block_out_channels[0]
					  : cond_channels(binder->weights, name);
		SDE_BIND(binder, conv_fields, dims, conv, "%s", name);
	}
}

static void bind_zero(struct sde_binder *binder, struct sde_controlnet *controlnet, bool original)
{
	struct sdk_shape shapes[SDE_UNET_SKIPS_MAX + 1];
	char name[64];

	controlnet->n_zero = sde_unet_skip_shapes(&controlnet->net.config, 1, 64, 64, shapes);
	for (int i = 0; i < controlnet->n_zero; i++) {
		const int dims[] = {[DIM_OUT] = shapes[i].c};

		if (i + 1 == controlnet->n_zero)
			snprintf(name, sizeof(name), "%s",
				 original ? "middle_block_out.0" : "controlnet_mid_block");
		else
			snprintf(name, sizeof(name),
				 original ? "zero_convs.%d.0" : "controlnet_down_blocks.%d", i);
		SDE_BIND(binder, zero_fields, dims, &controlnet->zero[i], "%s", name);
	}
}

/* A file in the original layout under diffusers' names; what a U-Net has not keeps its own. */
static int map_original(const char *path, struct sde_weights **ret_weights, struct sde_error *error)
{
	struct sde_tensor_file *file;
	struct sde_weights *weights;
	struct sde_part part;
	int r;

	r = sde_tensor_file_open(path, &file, error);
	if (r < 0)
		return r;
	part = (struct sde_part){file, "control_model."};
	if (!sde_part_find(&part, "input_hint_block.0.weight"))
		part.prefix = "";
	r = sde_weights_new(path, &weights, error);
	if (r >= 0) {
		r = sde_weights_hold(weights, file, error);
		if (r >= 0)
			r = sde_map_ldm_unet(&part, weights, error);
		if (r >= 0)
			r = sde_weights_seal(weights, error);
		if (r >= 0)
			*ret_weights = weights;
		else
			sde_weights_free(weights);
	}
	sde_tensor_file_unref(file);
	return r;
}

/* Open path, whichever layout. */
static int open_weights(struct sde_controlnet *controlnet, const char *path, json_t **ret_config,
			bool *ret_original, struct sde_error *error)
{
	struct sde_weights *mapped;
	int r;

	r = sde_adapter_open(path, &controlnet->weights, ret_config, error);
	if (r < 0)
		return r;
	*ret_original = sde_weights_has_prefix(controlnet->weights, "control_model.") ||
			sde_weights_has_prefix(controlnet->weights, "input_hint_block.");
	if (!*ret_original)
		return 0;
	r = map_original(sde_weights_path(controlnet->weights), &mapped, error);
	if (r < 0)
		return r;
	sde_weights_free(controlnet->weights);
	controlnet->weights = mapped;
	return 0;
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

/* What a ControlNet's configuration has beside a U-Net's. */
static int parse_own_keys(struct sde_controlnet *controlnet, const json_t *json,
			  struct sde_error *error)
{
	static const char *const order_key = "controlnet_conditioning_channel_order";
	struct sde_config_keys keys = {.object = json, .what = "its config.json", .error = error};
	const char *order = sde_config_string(&keys, order_key, "rgb");

	controlnet->bgr = strcmp(order, "bgr") == 0;
	if (!controlnet->bgr && strcmp(order, "rgb") != 0)
		sde_config_fail(&keys, "'%s' is '%.40s'; only rgb and bgr are supported", order_key,
				order);
	controlnet->pool = sde_config_bool(&keys, "global_pool_conditions", false);
	sde_config_only(&keys, "conditioning_channels", "3");
	return keys.r;
}

static int load(struct sde_controlnet *controlnet, const char *path, const char *name,
		const struct sde_unet_config *base, const char *family, struct sde_error *error)
{
	struct sde_binder binder = {.error = error};
	_cleanup_json_ json_t *json = NULL;
	struct sde_unet_config config = *base;
	bool original = false;
	int r;

	r = open_weights(controlnet, path, &json, &original, error);
	if (r < 0)
		return r;
	r = sde_adapter_check_family("ControlNet", name, controlnet->weights, family, error);
	if (r < 0)
		return r;
	config.in_channels = base->out_channels;
	if (json && json_object_get(json, "block_out_channels"))
		r = sde_unet_config_parse(json, "its config.json", &config, error);
	if (json && r >= 0)
		r = parse_own_keys(controlnet, json, error);
	if (r >= 0)
		r = check_fits(&config, base, error);
	if (r < 0)
		return r;
	controlnet->net.config = config;
	controlnet->zero = calloc(SDE_UNET_SKIPS_MAX + 1, sizeof(*controlnet->zero));
	if (!controlnet->zero)
		return sde_error_set(error, -ENOMEM, "no memory");
	binder.weights = controlnet->weights;
	sde_unet_bind_encoder(&binder, &controlnet->net);
	bind_cond(&binder, controlnet, original);
	bind_zero(&binder, controlnet, original);
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
		ret_scales[i] =
			(float)(guess && !controlnet->pool ? scale * pow(10, (double)i / last - 1)
							   : scale);
}
