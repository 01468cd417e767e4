/*
 * Loading and running IP-Adapters; see ip-adapter.h.
 */
#include "daemon/engine/adapters/ip-adapter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/open.h"
#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/pixels/convert.h"
#include "daemon/engine/pixels/resample.h"
#include "daemon/engine/runner.h"

#define NORM_EPS   1e-5
#define TOKENS_MAX 64

static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float deviation[] = {0.26862954f, 0.26130258f, 0.27577711f};

enum { DIM_EMBED, DIM_ALL, DIM_WIDTH, DIM_OUT };

static const struct sde_field image_fields[] = {
	SDE_FIELD(sde_ip_adapter, proj, "image_proj.proj", LINEAR, DIM_EMBED, DIM_ALL),
	SDE_FIELD(sde_ip_adapter, norm, "image_proj.norm", NORM, DIM_WIDTH, DIM_WIDTH),
};
static const struct sde_field attention_fields[] = {
	SDE_FIELD(sde_ip_attention, to_k, "to_k_ip", LINEAR_NO_BIAS, DIM_WIDTH, DIM_OUT),
	SDE_FIELD(sde_ip_attention, to_v, "to_v_ip", LINEAR_NO_BIAS, DIM_WIDTH, DIM_OUT),
};

/* Calls each for the transformer layers in the order in which files count them: down, up, then the middle. */
static void each_layer(const struct sde_unet *unet,
		       void (*each)(void *userdata, struct sde_unet_transformer_layer *layer),
		       void *userdata)
{
	const struct sde_unet_block *blocks[2 * SDE_UNET_LEVELS_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < unet->config.n_levels; i++)
		blocks[n++] = &unet->down[i];
	for (size_t i = 0; i < unet->config.n_levels; i++)
		blocks[n++] = &unet->up[i];
	blocks[n++] = &unet->mid;
	for (size_t b = 0; b < n; b++)
		for (int t = 0; t < blocks[b]->n_transformers; t++)
			for (int i = 0; i < blocks[b]->transformers[t].n_layers; i++)
				each(userdata, &blocks[b]->transformers[t].layers[i]);
}

struct binding {
	struct sde_binder binder;
	struct sde_ip_adapter *adapter;
	double scale;
};

static void count_layer(void *userdata, struct sde_unet_transformer_layer *layer)
{
	(*(int *)userdata)++;
}

/* Each layer has two attentions, and files count both. */
static void bind_layer(void *userdata, struct sde_unet_transformer_layer *layer)
{
	struct binding *binding = userdata;
	struct sde_ip_adapter *adapter = binding->adapter;
	const int dims[] = {[DIM_WIDTH] = adapter->width, [DIM_OUT] = layer->q2.out};
	struct sde_ip_attention *attention = &adapter->attentions[adapter->n_attentions];

	attention->scale = (float)binding->scale;
	SDE_BIND(&binding->binder, attention_fields, dims, attention, "ip_adapter.%d.",
		 2 * adapter->n_attentions + 1);
	adapter->n_attentions++;
}

/* The forms whose image projection is another network, by a tensor that only they have. */
static int check_form(const struct sde_ip_adapter *adapter, struct sde_error *error)
{
	static const struct {
		const char *tensor, *what;
	} forms[] = {
		{"image_proj.proj.3.weight",
		 "a full-face IP-Adapter, which looks at all the picture's patches"},
		{"image_proj.perceiver_resampler.proj_in.weight",
		 "a FaceID plus, which needs a face measured by another program (InsightFace)"},
		{"image_proj.proj.2.weight",
		 "a FaceID, which needs a face measured by another program (InsightFace)"},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (sde_weights_find(adapter->weights, forms[i].tensor))
			return sde_error_set(error, -ENOTSUP,
					     "it is %s; plain ones and plus are read",
					     forms[i].what);
	return 0;
}

/* The plain form: the embedding becomes all tokens at once. */
static int bind_projection(struct sde_ip_adapter *adapter, struct sde_binder *binder)
{
	const struct sde_tensor *proj =
		sde_weights_find(adapter->weights, "image_proj.proj.weight");
	const int embed = adapter->encoder.config.projection_dim;
	int dims[] = {[DIM_EMBED] = embed, [DIM_ALL] = 0, [DIM_WIDTH] = adapter->width};

	if (!proj || proj->rank != 2 || proj->shape[0] % adapter->width != 0 ||
	    proj->shape[0] < adapter->width ||
	    proj->shape[0] > (int64_t)TOKENS_MAX * adapter->width || proj->shape[1] != embed)
		return sde_error_set(binder->error, -EINVAL,
				     "it is no plain IP-Adapter for a model that attends to %d "
				     "channels with an image embedding of %d",
				     adapter->width, embed);
	dims[DIM_ALL] = (int)proj->shape[0];
	adapter->tokens = dims[DIM_ALL] / adapter->width;
	SDE_BIND(binder, image_fields, dims, adapter, "%s", "");
	return 0;
}

static int bind_adapter(struct sde_ip_adapter *adapter, double scale, const struct sde_unet *base,
			struct sde_error *error)
{
	struct binding binding = {.binder = {.weights = adapter->weights, .error = error},
				  .adapter = adapter,
				  .scale = scale};
	int n = 0, r;

	if (sde_weights_find(adapter->weights, "image_proj.latents")) {
		r = sde_resampler_bind(&adapter->resampler, adapter->weights,
				       adapter->encoder.config.hidden_size, adapter->width, error);
		adapter->tokens = adapter->resampler.queries;
	} else {
		r = bind_projection(adapter, &binding.binder);
	}
	if (r < 0)
		return r;
	each_layer(base, count_layer, &n);
	adapter->attentions = calloc((size_t)n + 1, sizeof(*adapter->attentions));
	if (!adapter->attentions)
		return sde_error_set(error, -ENOMEM, "no memory");
	each_layer(base, bind_layer, &binding);
	return sde_bind_finish(&binding.binder);
}

static int load(struct sde_ip_adapter *adapter, const char *path, const char *encoder, double scale,
		const struct sde_unet *base, struct sde_error *error)
{
	_cleanup_json_ json_t *config = NULL;
	int r;

	if (!isfinite(scale))
		return sde_error_set(error, -EINVAL, "its scale must be a finite number");
	adapter->width = base->config.cross_attention_dim;
	r = sde_weights_open(path, &adapter->weights, error);
	if (r >= 0)
		r = check_form(adapter, error);
	if (r >= 0)
		r = sde_adapter_open(encoder, &adapter->encoder_weights, &config, error);
	if (r >= 0)
		r = sde_clip_vision_bind(&adapter->encoder, config, "image encoder's config.json",
					 adapter->encoder_weights, error);
	return r < 0 ? r : bind_adapter(adapter, scale, base, error);
}

int sde_ip_adapter_load(const char *path, const char *encoder, const char *name, double scale,
			const struct sde_unet *base, struct sde_ip_adapter **ret_adapter,
			struct sde_error *error)
{
	struct sde_ip_adapter *adapter = calloc(1, sizeof(*adapter));
	int r;

	if (!adapter)
		return sde_error_set(error, -ENOMEM, "no memory for an IP-Adapter");
	r = load(adapter, path, encoder, scale, base, error);
	if (r < 0) {
		sde_ip_adapter_free(adapter, NULL);
		sde_error_prefix(error, "IP-Adapter %s", name);
		return r;
	}
	*ret_adapter = adapter;
	return 0;
}

struct sde_ip_adapter *sde_ip_adapter_free(struct sde_ip_adapter *adapter,
					   struct sde_runner *runner)
{
	if (!adapter)
		return NULL;
	if (runner) {
		sde_runner_forget(runner, &adapter->encoder);
		sde_runner_forget(runner, &adapter->resampler);
		sde_runner_forget(runner, adapter);
	}
	sde_resampler_clear(&adapter->resampler);
	sde_clip_vision_clear(&adapter->encoder);
	free(adapter->attentions);
	sde_weights_free(adapter->weights);
	sde_weights_free(adapter->encoder_weights);
	free(adapter);
	return NULL;
}

struct attaching {
	const struct sde_ip_attention *next;
};

static void attach_layer(void *userdata, struct sde_unet_transformer_layer *layer)
{
	struct attaching *attaching = userdata;

	layer->ip = attaching->next++;
}

void sde_ip_adapter_attach(const struct sde_ip_adapter *adapter, struct sde_unet *unet)
{
	struct attaching attaching = {adapter->attentions};

	each_layer(unet, attach_layer, &attaching);
}

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	const struct sde_ip_adapter *adapter = userdata;
	sdk_value x = sde_record_linear(plan, inputs[0], &adapter->proj);

	x = sdk_reshape(plan, x, 1, 1, adapter->tokens, adapter->width);
	ret_outputs[0] = sde_record_layer_norm(plan, x, &adapter->norm, NORM_EPS);
	return 0;
}

size_t sde_ip_adapter_features_size(const struct sde_ip_adapter *adapter)
{
	if (!adapter->resampler.layers)
		return (size_t)adapter->encoder.config.projection_dim;
	return (size_t)sde_clip_vision_tokens(&adapter->encoder) *
	       (size_t)adapter->encoder.config.hidden_size;
}

int sde_ip_adapter_features(struct sde_runner *runner, const struct sde_ip_adapter *adapter,
			    const float *pixels, float *ret_features, struct sde_error *error)
{
	const size_t side = (size_t)adapter->encoder.image_size;
	_cleanup_free_ float *none = NULL;

	if (!adapter->resampler.layers) {
		if (pixels)
			return sde_clip_vision_forward(runner, &adapter->encoder, pixels,
						       ret_features, error);
		memset(ret_features, 0,
		       sde_ip_adapter_features_size(adapter) * sizeof(*ret_features));
		return 0;
	}
	if (!pixels)
		pixels = none = calloc(3 * side * side, sizeof(*none));
	if (!pixels)
		return sde_error_set(error, -ENOMEM, "no memory for an IP-Adapter's picture");
	return sde_clip_vision_states(runner, &adapter->encoder, pixels, ret_features, error);
}

int sde_ip_adapter_tokens(struct sde_runner *runner, const struct sde_ip_adapter *adapter,
			  const float *features, float *ret_tokens, struct sde_error *error)
{
	const struct sde_program_spec spec = {
		.name = "IP-Adapter",
		.module = adapter,
		.build = build,
		.userdata = adapter,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{1, 1, 1, adapter->encoder.config.projection_dim}},
		.precise = true,
	};

	if (adapter->resampler.layers)
		return sde_resampler_run(runner, &adapter->resampler, features,
					 sde_clip_vision_tokens(&adapter->encoder), ret_tokens,
					 error);
	return sde_runner_run(runner, &spec, (const void *const[]){features},
			      (float *const[]){ret_tokens}, error);
}

int sde_ip_adapter_pixels(const struct sde_ip_adapter *adapter, const struct sde_image *image,
			  float *ret_pixels, struct sde_error *error)
{
	const uint32_t size = (uint32_t)adapter->encoder.image_size;
	const uint32_t side = image->width < image->height ? image->width : image->height;
	const size_t area = (size_t)image->width * image->height, n = (size_t)size * size;
	const double left = (image->width - side) / 2.0, top = (image->height - side) / 2.0;
	const struct sde_box middle = {left, top, left + side, top + side};
	_cleanup_free_ float *values = malloc(3 * area * sizeof(*values));
	_cleanup_free_ float *small = malloc(3 * n * sizeof(*small));
	int r;

	if (!values || !small)
		return sde_error_set(error, -ENOMEM, "no memory for an IP-Adapter's picture");
	sde_image_to_float(image, SDE_INTERLEAVED, 1, 0, values);
	r = sde_resize_float(values, image->width, image->height, 3, &middle, size, size,
			     SDE_FILTER_BICUBIC, small, error);
	for (size_t i = 0; r >= 0 && i < 3 * n; i++)
		ret_pixels[i % 3 * n + i / 3] =
			(fminf(fmaxf(small[i], 0), 1) - mean[i % 3]) / deviation[i % 3];
	return r;
}
