/*
 * Adapters that look at a picture: kinds controlnet_sd15, controlnet_sdxl, fullsize_controlnet, t2i_adapter_sd15 and
 * ip_adapter_sd15 (one forward pass) and controlnet_e2e_sd15 (a run).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/adapters/controlnet.h"
#include "daemon/engine/adapters/ip-adapter.h"
#include "tests/golden/adapters.h"
#include "tests/golden/networks.h"
#include "tests/golden/synthetic.h"

#define CONTROLS_MAX 4

struct control {
	struct sde_controlnet *net;
	float *picture;
	double scale;
	bool guess;
};

/* hint, hint_b, ...: u8 (1, 3, 8h, 8w) to 0..1 */
static float *picture_of(struct golden_case *c, size_t i)
{
	static const char *const names[CONTROLS_MAX] = {"hint", "hint_b", "hint_c", "hint_d"};
	const struct golden_tensor *hint = golden_input_u8(c, names[i]);
	float *picture;

	if (!hint)
		return NULL;
	picture = golden_floats(hint->count);
	for (size_t k = 0; k < hint->count; k++)
		picture[k] = (float)hint->u8[k] / 255;
	return picture;
}

static int load(struct golden_case *c, const struct sde_model *model, const char *file,
		struct sde_controlnet **ret)
{
	struct sde_error error = {0};

	if (sde_controlnet_load(golden_beside(c, file), file, &model->denoiser.unet.config,
				model->info.family, ret, &error) < 0)
		return golden_fail_error(c, file, &error);
	return GOLDEN_PASS;
}

/* NHWC to NCHW and compared */
static void expect_nhwc(struct golden_case *c, const char *name, const float *values,
			struct sdk_shape shape)
{
	const size_t n = (size_t)shape.n * (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
	float *planes = golden_floats(n);

	sdk_nhwc_to_nchw(values, planes, shape.n, shape.h, shape.w, shape.c);
	golden_expect_or_sampled(c, name, planes, GOLDEN_SHAPE(shape.n, shape.c, shape.h, shape.w));
	free(planes);
}

static int run_controls(struct golden_case *c, struct sde_runner *runner,
			const struct sde_unet_config *config, const struct sde_unet_call *call,
			const struct control *controls, size_t n,
			struct sde_unet_control *residuals)
{
	struct sdk_shape shapes[SDE_UNET_SKIPS_MAX + 1];
	float scales[SDE_UNET_SKIPS_MAX + 1];
	struct sde_error error = {0};
	char name[40];

	residuals->n_residuals =
		sde_unet_skip_shapes(config, call->batch, call->height, call->width, shapes);
	for (int i = 0; i < residuals->n_residuals; i++)
		residuals->residuals[i] = golden_floats((size_t)shapes[i].n * (size_t)shapes[i].h *
							(size_t)shapes[i].w * (size_t)shapes[i].c);
	for (size_t i = 0; i < n; i++) {
		float *hint = golden_floats((size_t)call->height * (size_t)call->width *
					    (size_t)shapes[0].c);

		if (sde_controlnet_encode(runner, controls[i].net, controls[i].picture,
					  call->height, call->width, hint, &error) < 0)
			return golden_fail_error(c, "encode", &error);
		if (i == 0)
			expect_nhwc(c, "cond_embedding", hint,
				    (struct sdk_shape){1, shapes[0].h, shapes[0].w, shapes[0].c});
		sde_controlnet_scales(controls[i].net, controls[i].scale, controls[i].guess,
				      scales);
		if (sde_controlnet_forward(runner, controls[i].net, call, hint, scales,
					   residuals->residuals, &error) < 0)
			return golden_fail_error(c, "forward", &error);
	}
	for (int i = 0; i < residuals->n_residuals; i++) {
		snprintf(name, sizeof(name),
			 i + 1 < residuals->n_residuals ? "down_residual_%d" : "mid_residual", i);
		expect_nhwc(c, name, residuals->residuals[i], shapes[i]);
	}
	return GOLDEN_PASS;
}

/* Every file of the first ControlNet with the others' first files: all layouts give the same. */
int golden_controlnet(struct golden_case *c)
{
	const json_t *list = golden_param(c, "controlnets");
	const size_t n = json_array_size(list);
	struct control controls[CONTROLS_MAX];
	struct sde_unet_call call;
	struct sde_model *model;
	int r;

	r = golden_load_model(c, &model);
	if (r == GOLDEN_PASS)
		r = golden_unet_call(c, &call);
	if (r != GOLDEN_PASS)
		return r;
	if (n < 1 || n > CONTROLS_MAX)
		return golden_fail(c, "malformed case: %zu ControlNets", n);
	for (size_t i = 0; i < n; i++)
		controls[i] = (struct control){
			.picture = picture_of(c, i),
			.scale = json_number_value(
				json_object_get(json_array_get(list, i), "scale")),
			.guess = json_is_true(
				json_object_get(json_array_get(list, i), "guess_mode")),
		};
	for (size_t layout = 0;; layout++) {
		struct sde_unet_control residuals = {0};

		for (size_t i = 0; i < n; i++) {
			const json_t *files = json_object_get(json_array_get(list, i), "files");

			if (i == 0 && layout == json_array_size(files))
				return GOLDEN_PASS;
			r = load(c, model,
				 json_string_value(json_array_get(files, i == 0 ? layout : 0)),
				 &controls[i].net);
			if (r != GOLDEN_PASS)
				return r;
		}
		r = run_controls(c, model->runner, &model->denoiser.unet.config, &call, controls, n,
				 &residuals);
		call.control = &residuals;
		if (r == GOLDEN_PASS)
			r = golden_unet_expect(c, model, &call, "unet_out");
		call.control = NULL;
		if (r != GOLDEN_PASS)
			return r;
	}
}

/* A ControlNet and a U-Net of real size, both synthetic. */
int golden_fullsize_controlnet(struct golden_case *c)
{
	struct control control = {.picture = picture_of(c, 0),
				  .scale = golden_param_double(c, "scale", 1)};
	struct sde_unet_control residuals = {0};
	struct golden_component component;
	struct sde_unet_config config;
	struct sde_error error = {0};
	struct sde_unet_call call;
	char *manifest;
	const char *path;
	int r;

	r = golden_open_synthetic(c, "model.diffusion_model.", (const char *const[]){"unet", NULL},
				  &component);
	if (r == GOLDEN_PASS)
		r = golden_unet_call(c, &call);
	manifest = golden_find_model(c, golden_param_string(c, "controlnet", ""));
	if (r != GOLDEN_PASS || !control.picture)
		return GOLDEN_FAIL;
	if (!manifest)
		return golden_fail(c, "params.controlnet names no manifest");
	if (sde_unet_config_parse(component.config, "config.json", &config, &error) < 0 ||
	    golden_synthetic_open(manifest, "", true, &path, &error) < 0 ||
	    sde_controlnet_load(path, "ControlNet", &config, "sd1", &control.net, &error) < 0)
		return golden_fail_error(c, "ControlNet", &error);
	r = run_controls(c, component.runner, &config, &call, &control, 1, &residuals);
	control.net = sde_controlnet_free(control.net, component.runner);
	return r == GOLDEN_PASS ? golden_run_unet(c, &component, &residuals, "out") : r;
}

int golden_controlnet_e2e(struct golden_case *c)
{
	const json_t *list = golden_param(c, "controlnets");
	const size_t n = json_array_size(list);
	struct sde_guide guides[CONTROLS_MAX] = {0};
	struct sde_sd_request request = {0};
	struct sde_controlnet *net;
	struct sde_model *model;
	int r;

	r = golden_load_model(c, &model);
	if (r != GOLDEN_PASS)
		return r;
	if (n < 1 || n > CONTROLS_MAX)
		return golden_fail(c, "malformed case: %zu ControlNets", n);
	for (size_t i = 0; i < n; i++) {
		const json_t *entry = json_array_get(list, i);

		r = load(c, model, json_string_value(json_object_get(entry, "model")), &net);
		if (r != GOLDEN_PASS)
			return r;
		guides[i] = (struct sde_guide){
			.controlnet = net,
			.picture = picture_of(c, i),
			.scale = json_number_value(json_object_get(entry, "scale")),
			.start = json_number_value(json_object_get(entry, "start")),
			.end = json_number_value(json_object_get(entry, "end")),
		};
		if (!guides[i].picture)
			return GOLDEN_FAIL;
	}
	request.guides = (struct sde_guides_options){
		.guides = guides,
		.count = n,
		.guess = golden_param_bool(c, "guess_mode", false),
	};
	return golden_final_latents(c, model, &request);
}

int golden_t2i_adapter(struct golden_case *c)
{
	struct sdk_shape shapes[SDE_UNET_LEVELS_MAX];
	struct sde_t2i_adapter *adapter;
	struct sde_error error = {0};
	struct sde_unet_call call;
	struct sde_model *model;
	float *picture;
	char name[40];
	int r;

	r = golden_load_model(c, &model);
	if (r == GOLDEN_PASS)
		r = golden_unet_call(c, &call);
	picture = picture_of(c, 0);
	if (r != GOLDEN_PASS || !picture)
		return GOLDEN_FAIL;
	if (sde_t2i_adapter_load(golden_beside(c, golden_param_string(c, "file", "")), "adapter",
				 &model->denoiser.unet.config, &adapter, &error) < 0)
		return golden_fail_error(c, "adapter", &error);
	for (int half = 0; half < 2; half++) {
		const struct sde_guide guide = {
			.t2i = adapter, .picture = picture, .scale = half ? 0.5 : 1, .end = 1};
		const struct sde_guides_options options = {.guides = &guide, .count = 1};
		struct sde_guides *guides;

		if (sde_guides_new(model->runner, &model->denoiser.unet.config, &options,
				   call.batch, call.height, call.width, &guides, &error) < 0 ||
		    sde_guides_step(guides, &call, 0, 1, &call.control, &error) < 0)
			return golden_fail_error(c, "guides", &error);
		sde_unet_feature_shapes(&model->denoiser.unet.config, call.batch, call.height,
					call.width, shapes);
		for (int i = 0; !half && i < call.control->n_features; i++) {
			snprintf(name, sizeof(name), "feature_%d", i);
			/* features are of one picture, the arrays of the whole batch */
			shapes[i].n = 1;
			expect_nhwc(c, name, call.control->features[i], shapes[i]);
		}
		r = golden_unet_expect(c, model, &call,
				       half ? "unet_out_scale_0p5" : "unet_out_scale_1");
		if (r != GOLDEN_PASS)
			return r;
		sde_guides_free(guides);
		call.control = NULL;
	}
	return GOLDEN_PASS;
}

/* Tokens of one picture for each row of the call. */
static int use_tokens(struct golden_case *c, const struct sde_model *model,
		      const struct sde_ip_adapter *adapter, struct sde_unet_call *call,
		      struct sde_unet_control *control)
{
	const struct golden_tensor *pixels = golden_input_f32(c, "pixel_values");
	const size_t n = (size_t)adapter->tokens * (size_t)adapter->width;
	const int embed = adapter->encoder.config.projection_dim;
	float *tokens = golden_floats((size_t)call->batch * n),
	      *embeds = golden_floats((size_t)embed);
	struct sde_error error = {0};

	if (!pixels)
		return GOLDEN_FAIL;
	if (sde_clip_vision_forward(model->runner, &adapter->encoder, pixels->f32, embeds, &error) <
		    0 ||
	    sde_ip_adapter_tokens(model->runner, adapter, embeds, tokens, &error) < 0)
		return golden_fail_error(c, "image encoder", &error);
	golden_expect_f32(c, "image_embeds", embeds, GOLDEN_SHAPE(1, embed));
	golden_expect_f32(c, "image_tokens", tokens,
			  GOLDEN_SHAPE(1, adapter->tokens, adapter->width));
	for (int b = 1; b < call->batch; b++)
		memcpy(tokens + (size_t)b * n, tokens, n * sizeof(float));
	control->image_tokens = tokens;
	control->n_image_tokens = adapter->tokens;
	call->control = control;
	return GOLDEN_PASS;
}

int golden_ip_adapter(struct golden_case *c)
{
	static const struct {
		const char *name;
		double scale;
	} runs[] = {{"unet_out_scale_1", 1}, {"unet_out_scale_0p6", 0.6}, {"unet_out_scale_0", 0}};
	const char *file = golden_beside(c, golden_param_string(c, "file", ""));
	const char *encoder = golden_beside(c, golden_param_string(c, "image_encoder", ""));
	struct sde_unet_control control = {0};
	struct sde_error error = {0};
	struct sde_unet_call call;
	struct sde_model *model;
	int r;

	r = golden_load_model(c, &model);
	if (r == GOLDEN_PASS)
		r = golden_unet_call(c, &call);
	for (size_t i = 0; r == GOLDEN_PASS && i < sizeof(runs) / sizeof(runs[0]); i++) {
		const struct sde_ip_use use = {"ip", file, encoder, runs[i].scale};
		const struct sde_ip_adapter *adapter;

		if (sde_model_adapt(model, NULL, 0, &use, &error) < 0)
			return golden_fail_error(c, "IP-Adapter", &error);
		adapter = sde_model_ip_adapter(model);
		r = use_tokens(c, model, adapter, &call, &control);
		if (r == GOLDEN_PASS)
			r = golden_unet_expect(c, model, &call, runs[i].name);
	}
	return r;
}
