/*
 * The image side of CLIP; see clip-vision.h. Cutting into patches and choosing the class token's row are host work.
 */
#include "daemon/engine/text_encoders/clip-vision.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/config-keys.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/weights.h"
#include "daemon/engine/runner.h"

enum { DIM_HIDDEN, DIM_PROJECTION };

static const struct sde_field stem_fields[] = {
	/* their spelling */
	SDE_FIELD(sde_clip_vision, pre_norm, "vision_model.pre_layrnorm", NORM, DIM_HIDDEN,
		  DIM_HIDDEN),
	SDE_FIELD(sde_clip_vision, post_norm, "vision_model.post_layernorm", NORM, DIM_HIDDEN,
		  DIM_HIDDEN),
	SDE_FIELD(sde_clip_vision, projection, "visual_projection", LINEAR_NO_BIAS, DIM_HIDDEN,
		  DIM_PROJECTION),
};

static int patches(const struct sde_clip_vision *vision)
{
	const int side = vision->image_size / vision->patch_size;

	return side * side;
}

static int parse(struct sde_clip_vision *vision, const json_t *object, const char *what,
		 struct sde_error *error)
{
	const json_t *inner = json_object_get(object, "vision_config");
	struct sde_config_keys keys = {
		.object = json_is_object(inner) ? inner : object, .what = what, .error = error};

	vision->image_size = sde_config_int(&keys, "image_size", 224, 1, 4096);
	vision->patch_size = sde_config_int(&keys, "patch_size", 32, 1, 256);
	if (keys.r >= 0 && vision->image_size % vision->patch_size != 0)
		sde_config_fail(&keys, "'image_size' %d is not a multiple of 'patch_size' %d",
				vision->image_size, vision->patch_size);
	return keys.r < 0 ? keys.r
			  : sde_clip_config_parse(keys.object, what, &vision->config, error);
}

static void bind_all(struct sde_binder *binder, struct sde_clip_vision *vision)
{
	const int hidden = vision->config.hidden_size, patch = vision->patch_size;
	const int dims[] = {
		[DIM_HIDDEN] = hidden, [DIM_PROJECTION] = vision->config.projection_dim};
	const int64_t kernel[] = {hidden, 3, patch, patch}, one[] = {hidden},
		      places[] = {1 + patches(vision), hidden};

	vision->patch = (struct sde_linear){.in = 3 * patch * patch, .out = hidden};
	sde_bind_tensor(binder, &vision->patch.weight, 4, kernel,
			"vision_model.embeddings.patch_embedding.weight");
	vision->patch.weight.rank = 2;
	vision->patch.weight.shape[1] = vision->patch.in;
	sde_bind_tensor(binder, &vision->class_embedding, 1, one,
			"vision_model.embeddings.class_embedding");
	sde_bind_tensor(binder, &vision->positions, 2, places,
			"vision_model.embeddings.position_embedding.weight");
	SDE_BIND(binder, stem_fields, dims, vision, "%s", "");
	for (int i = 0; i < vision->config.num_hidden_layers; i++)
		sde_clip_bind_layer(binder, &vision->config, &vision->layers[i], "vision_model.",
				    i);
	sde_weights_ignore(binder->weights, "vision_model.embeddings.position_ids");
}

int sde_clip_vision_bind(struct sde_clip_vision *vision, const json_t *config, const char *what,
			 struct sde_weights *weights, struct sde_error *error)
{
	struct sde_binder binder = {.weights = weights, .error = error};
	struct sde_clip_vision new = {0};
	int r;

	r = parse(&new, config, what, error);
	if (r < 0)
		return r;
	new.layers = calloc((size_t) new.config.num_hidden_layers, sizeof(*new.layers));
	if (!new.layers)
		return sde_error_set(error, -ENOMEM, "no memory for the image encoder's layers");
	bind_all(&binder, &new);
	r = sde_bind_finish(&binder);
	if (r < 0) {
		sde_clip_vision_clear(&new);
		return r;
	}
	*vision = new;
	return 0;
}

void sde_clip_vision_clear(struct sde_clip_vision *vision)
{
	free(vision->layers);
	*vision = (struct sde_clip_vision){0};
}

/* inputs: patches (1, 1, 1 + n, in), the class token's row zeros; what is added to their embeddings */
static sdk_value record_layers(struct sdk_plan *plan, const struct sde_clip_vision *vision,
			       const sdk_value *inputs, int n)
{
	const double eps = vision->config.layer_norm_eps;
	sdk_value x = sde_record_linear(plan, inputs[0], &vision->patch);

	x = sdk_add(plan, x, inputs[1]);
	x = sde_record_layer_norm(plan, x, &vision->pre_norm, eps);
	for (int i = 0; i < n; i++)
		x = sde_clip_record_layer(plan, &vision->config, &vision->layers[i], x, false);
	return x;
}

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	const struct sde_clip_vision *vision = userdata;
	sdk_value x = record_layers(plan, vision, inputs, vision->config.num_hidden_layers);

	x = sde_record_layer_norm(plan, x, &vision->post_norm, vision->config.layer_norm_eps);
	ret_outputs[0] = sde_record_linear(plan, x, &vision->projection);
	return 0;
}

static int build_states(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			sdk_value *ret_outputs)
{
	const struct sde_clip_vision *vision = userdata;

	ret_outputs[0] = record_layers(plan, vision, inputs, vision->config.num_hidden_layers - 1);
	return 0;
}

/* Row 1 + i: patch i as the convolution's weight lies: channel, y, x. */
static void cut(const struct sde_clip_vision *vision, const float *pixels, float *rows)
{
	const int p = vision->patch_size, size = vision->image_size, side = size / p;
	float *to = rows + vision->patch.in;

	for (int i = 0; i < side * side; i++)
		for (int c = 0; c < 3; c++)
			for (int y = 0; y < p; y++, to += p)
				memcpy(to,
				       pixels +
					       ((size_t)c * (size_t)size +
						(size_t)(i / side * p + y)) *
						       size +
					       i % side * p,
				       (size_t)p * sizeof(float));
}

int sde_clip_vision_tokens(const struct sde_clip_vision *vision)
{
	return 1 + patches(vision);
}

/* ret_states: of all tokens. */
static int run(struct sde_runner *runner, const struct sde_clip_vision *vision,
	       sde_program_build_fn program, uint64_t variant, const float *pixel_values,
	       float *ret_states, struct sde_error *error)
{
	const int tokens = sde_clip_vision_tokens(vision), width = vision->config.hidden_size;
	const struct sde_program_spec spec = {
		.name = "image encoder",
		.module = vision,
		.variant = variant,
		.build = program,
		.userdata = vision,
		.n_inputs = 2,
		.n_outputs = 1,
		.inputs = {{1, 1, tokens, vision->patch.in}, {1, 1, tokens, width}},
		.precise = true,
	};
	_cleanup_free_ float *rows =
		calloc((size_t)tokens, (size_t)vision->patch.in * sizeof(float));
	_cleanup_free_ float *added = calloc((size_t)tokens + 1, (size_t)width * sizeof(float));

	if (!rows || !added)
		return sde_error_set(error, -ENOMEM, "no memory for an image encoder");
	cut(vision, pixel_values, rows);
	sdk_tensor_floats(&vision->positions, added);
	sdk_tensor_floats(&vision->class_embedding, added + (size_t)tokens * (size_t)width);
	for (int i = 0; i < width; i++)
		added[i] += added[(size_t)tokens * (size_t)width + (size_t)i];
	return sde_runner_run(runner, &spec, (const void *const[]){rows, added},
			      (float *const[]){ret_states}, error);
}

int sde_clip_vision_forward(struct sde_runner *runner, const struct sde_clip_vision *vision,
			    const float *pixel_values, float *ret_embeds, struct sde_error *error)
{
	const size_t out = (size_t)vision->config.projection_dim;
	_cleanup_free_ float *states =
		calloc((size_t)sde_clip_vision_tokens(vision), out * sizeof(float));
	int r;

	if (!states)
		return sde_error_set(error, -ENOMEM, "no memory for an image encoder");
	r = run(runner, vision, build, 0, pixel_values, states, error);
	if (r >= 0)
		memcpy(ret_embeds, states, out * sizeof(float));
	return r;
}

int sde_clip_vision_states(struct sde_runner *runner, const struct sde_clip_vision *vision,
			   const float *pixel_values, float *ret_states, struct sde_error *error)
{
	return run(runner, vision, build_states, 1, pixel_values, ret_states, error);
}
