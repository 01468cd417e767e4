/*
 * kind attention: Prompt-to-Prompt in a U-Net, row 0 being a picture and row 1 its twin, the twin's cross-attention maps, and a local
 * blend by them.
 * record_attention.py makes such cases.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/attention/blend.h"
#include "daemon/engine/attention/edit.h"
#include "daemon/engine/attention/maps.h"
#include "daemon/engine/attention/watch.h"
#include "daemon/engine/forward.h"
#include "tests/golden/component.h"

/* The mapper (source, edited) as the engine keeps it; false when the case's tensors do not fit each other. */
static bool read_edit(struct golden_case *c, struct sde_edit *edit)
{
	const struct golden_tensor *mapper = golden_input_f32(c, "mapper");
	const struct golden_tensor *own = golden_input_i32(c, "own");
	const struct golden_tensor *scales = golden_input_f32(c, "scales");
	struct sde_alignment *alignment = &edit->alignment;
	const size_t n = own ? own->count : 0;
	size_t e = 0;

	if (!mapper || !own || !scales || mapper->count != n * n || scales->count != n)
		return false;
	alignment->rows = n;
	alignment->first = calloc(n + 1, sizeof(*alignment->first));
	alignment->sources = calloc(n * n, sizeof(*alignment->sources));
	alignment->weights = golden_floats(n * n);
	alignment->own = calloc(n, sizeof(*alignment->own));
	edit->scales = golden_floats(n);
	if (!alignment->first || !alignment->sources || !alignment->own)
		abort();
	for (size_t j = 0; j < n; j++) {
		alignment->own[j] = own->i32[j] != 0;
		edit->scales[j] = scales->f32[j];
		for (size_t i = 0; i < n; i++)
			if (mapper->f32[i * n + j] != 0) {
				alignment->sources[e] = (int)i;
				alignment->weights[e++] = mapper->f32[i * n + j];
			}
		alignment->first[j + 1] = e;
	}
	edit->cross_replace = edit->self_replace = 1;
	return true;
}

static void expect_maps(struct golden_case *c, const struct sde_maps *maps)
{
	const size_t pixels = (size_t)maps->height * (size_t)maps->width;
	float *all = golden_floats(maps->tokens * pixels);

	for (size_t t = 0; t < maps->tokens; t++)
		sde_maps_token(maps, t, all + t * pixels);
	golden_expect_f32(c, "maps", all,
			  GOLDEN_SHAPE((int64_t)maps->tokens, maps->height, maps->width));
	free(all);
}

/* The words (2, tokens) of a local blend; false when they do not fit, and true where there are none. */
static bool read_blend(struct golden_case *c, size_t tokens, int height, int width,
		       struct sde_blend *blend)
{
	const struct golden_tensor *words;

	if (!golden_find(c, "words"))
		return true;
	words = golden_input_i32(c, "words");
	if (!words || words->count != 2 * tokens || sde_blend_restart(blend, height, width) < 0)
		return false;
	blend->tokens = tokens;
	blend->threshold = golden_param_double(c, "threshold", 0.3);
	for (size_t side = 0; side < 2; side++) {
		blend->marks[side] = calloc(tokens, sizeof(bool));
		if (!blend->marks[side])
			abort();
		for (size_t t = 0; t < tokens; t++)
			blend->marks[side][t] = words->i32[side * tokens + t] != 0;
	}
	return true;
}

static void expect_blended(struct golden_case *c, const struct sde_watch *watch, int channels)
{
	const struct golden_tensor *latents =
		golden_find(c, "words") ? golden_input_f32(c, "latents") : NULL;
	const int h = watch->blend->height, w = watch->blend->width;
	const size_t n = (size_t)channels * (size_t)h * (size_t)w;
	float *copy;

	if (!latents || latents->count != 2 * n)
		return;
	copy = golden_floats(2 * n);
	memcpy(copy, latents->f32, 2 * n * sizeof(*copy));
	sde_watch_blend(watch, (size_t)channels, copy);
	golden_expect_f32(c, "blended", copy + n, GOLDEN_SHAPE(channels, h, w));
	free(copy);
}

int golden_attention(struct golden_case *c)
{
	const struct golden_tensor *sample = golden_input_f32(c, "sample");
	const struct golden_tensor *context = golden_input_f32(c, "encoder_hidden_states");
	const struct golden_tensor *times = golden_input_i32(c, "timestep");
	struct golden_component component;
	struct sde_unet_config config;
	struct sde_error error;
	struct sde_edit edit = {0};
	struct sde_maps maps = {0};
	struct sde_blend blend = {0};
	struct sde_watch watch = {.maps = &maps, .edit = &edit, .blend = &blend};
	struct sde_unet_call call = {.watch = sde_watch_call(&watch, 0, 1)};
	struct sde_unet unet;
	float timesteps[2], *out;
	int r;

	if (!sample || !context || !times || sample->rank != 4 || sample->shape[0] != 2 ||
	    context->rank != 3 || times->count != 2 || !read_edit(c, &edit))
		return golden_fail(c, "the case's tensors are misshapen");
	if (golden_find(c, "words") && strcmp(c->options->dtype, "f32") != 0)
		return golden_skip(c,
				   "rounding may put a cell on the other side; judged in f32 only");
	r = golden_open_component(c, "UNet2DConditionModel", &component);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_unet_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    sde_unet_bind(&unet, &config, component.weights, &error) < 0)
		return golden_fail_error(c, "unet", &error);
	for (int i = 0; i < 2; i++)
		timesteps[i] = (float)times->i32[i];
	call.sample = sample->f32;
	call.batch = 2;
	call.height = maps.height = (int)sample->shape[2];
	call.width = maps.width = (int)sample->shape[3];
	call.encoder_hidden_states = context->f32;
	call.tokens = (int)context->shape[1];
	if (!read_blend(c, (size_t)call.tokens, call.height, call.width, &blend))
		return golden_fail(c, "words are misshapen");
	call.timesteps = timesteps;
	out = golden_floats(2 * (size_t)config.out_channels * (size_t)call.height *
			    (size_t)call.width);
	if (sde_unet_forward(component.runner, &unet, &call, out, &error) < 0)
		return golden_fail_error(c, "forward", &error);
	golden_expect_f32(c, "out", out,
			  GOLDEN_SHAPE(2, config.out_channels, call.height, call.width));
	expect_maps(c, &maps);
	expect_blended(c, &watch, config.in_channels);
	free(out);
	sde_blend_clear(&blend);
	sde_maps_clear(&maps);
	sde_edit_clear(&edit);
	sde_watch_clear(&watch);
	return GOLDEN_PASS;
}
