/*
 * A ControlNet's forward passes; see controlnet.h.
 */
#include "daemon/engine/adapters/controlnet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

static int build_encoder(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			 sdk_value *ret_outputs)
{
	const struct sde_controlnet *controlnet = userdata;
	sdk_value x = sde_record_conv(plan, inputs[0], &controlnet->cond_in);

	x = sdk_activate(plan, x, SDK_SILU);
	for (int i = 0; i < SDE_CONTROLNET_BLOCKS; i++) {
		x = sde_record_conv_stride(plan, x, &controlnet->cond_blocks[i], 1 + i % 2);
		x = sdk_activate(plan, x, SDK_SILU);
	}
	ret_outputs[0] = sde_record_conv(plan, x, &controlnet->cond_out);
	return 0;
}

int sde_controlnet_encode(struct sde_runner *runner, const struct sde_controlnet *controlnet,
			  const float *picture, int height, int width, float *ret_hint,
			  struct sde_error *error)
{
	const int h = height * SDE_CONTROLNET_FACTOR, w = width * SDE_CONTROLNET_FACTOR;
	const struct sde_program_spec spec = {
		.name = "ControlNet's picture",
		.module = &controlnet->net,
		.variant = 1,
		.build = build_encoder,
		.userdata = controlnet,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{1, h, w, 3}},
	};
	_cleanup_free_ float *pixels = calloc((size_t)h * (size_t)w, 3 * sizeof(*pixels));

	if (!pixels)
		return sde_error_set(error, -ENOMEM, "no memory for a ControlNet's picture");
	sdk_nchw_to_nhwc(picture, pixels, 1, 3, h, w);
	for (size_t i = 0; controlnet->bgr && i < (size_t)h * (size_t)w; i++) {
		const float red = pixels[3 * i];

		pixels[3 * i] = pixels[3 * i + 2];
		pixels[3 * i + 2] = red;
	}
	return sde_runner_run(runner, &spec, (const void *const[]){pixels},
			      (float *const[]){ret_hint}, error);
}

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	const struct sde_controlnet *controlnet = userdata;
	sdk_value skips[SDE_UNET_SKIPS_MAX + 1];
	struct sde_unet_inputs values;
	const int next = sde_unet_host_values(&controlnet->net.config, inputs, &values);
	int n;

	values.has_hint = true;
	values.hint = inputs[next];
	n = sde_unet_record_encoder(plan, &controlnet->net, &values,
				    sde_unet_record_embedding(plan, &controlnet->net, &values),
				    skips);
	for (int i = 0; i < n; i++)
		ret_outputs[i] = sde_record_linear(plan, skips[i], &controlnet->zero[i]);
	return 0;
}

static size_t count_of(struct sdk_shape shape)
{
	return (size_t)shape.n * (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
}

/* Each channel of each image becomes its mean. */
static void pool(float *values, struct sdk_shape shape)
{
	const size_t pixels = (size_t)shape.h * (size_t)shape.w, c = (size_t)shape.c;

	for (int b = 0; b < shape.n; b++, values += pixels * c)
		for (size_t k = 0; k < c; k++) {
			double sum = 0;

			for (size_t i = 0; i < pixels; i++)
				sum += (double)values[i * c + k];
			for (size_t i = 0; i < pixels; i++)
				values[i * c + k] = (float)(sum / (double)pixels);
		}
}

int sde_controlnet_forward(struct sde_runner *runner, const struct sde_controlnet *controlnet,
			   const struct sde_unet_call *call, const float *hint, const float *scales,
			   float *const *residuals, struct sde_error *error)
{
	const struct sde_unet_config *config = &controlnet->net.config;
	struct sdk_shape shapes[SDE_UNET_SKIPS_MAX + 1];
	struct sde_program_spec spec = {.name = "ControlNet",
					.module = &controlnet->net,
					.build = build,
					.userdata = controlnet};
	_cleanup_free_ float *memory = NULL, *hints = NULL;
	float *outputs[SDE_UNET_SKIPS_MAX + 1];
	struct sde_unet_host host;
	size_t all = 0, one;
	int r, n;

	n = sde_unet_skip_shapes(config, call->batch, call->height, call->width, shapes);
	for (int i = 0; i < n; i++)
		all += count_of(shapes[i]);
	one = count_of(shapes[0]) / (size_t)call->batch;
	memory = malloc(all * sizeof(*memory));
	hints = malloc(count_of(shapes[0]) * sizeof(*hints));
	if (!memory || !hints || n > SDE_PROGRAM_OUTPUTS_MAX)
		return sde_error_set(error, -ENOMEM, "no memory for a ControlNet's %d outputs", n);
	r = sde_unet_host_init(&host, config, call, error);
	if (r < 0)
		return r;
	for (int b = 0; b < call->batch; b++)
		memcpy(hints + (size_t)b * one, hint, one * sizeof(*hints));
	host.inputs[host.n] = hints;
	host.shapes[host.n++] = shapes[0];
	spec.n_inputs = host.n;
	spec.n_outputs = n;
	memcpy(spec.inputs, host.shapes, sizeof(host.shapes[0]) * (size_t)host.n);
	all = 0;
	for (int i = 0; i < n; all += count_of(shapes[i++]))
		outputs[i] = memory + all;
	r = sde_runner_run(runner, &spec, host.inputs, outputs, error);
	sde_unet_host_clear(&host);
	for (int i = 0; r >= 0 && i < n; i++) {
		if (controlnet->pool)
			pool(outputs[i], shapes[i]);
		for (size_t k = 0; k < count_of(shapes[i]); k++)
			residuals[i][k] += scales[i] * outputs[i][k];
	}
	return r;
}
