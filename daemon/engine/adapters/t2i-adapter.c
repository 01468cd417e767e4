/*
 * T2I-Adapters: tensor tables and the passes from block to block; the averaging between them is host work. See t2i-adapter.h.
 */
#include "daemon/engine/adapters/t2i-adapter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/open.h"
#include "daemon/engine/bind.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

#define UNSHUFFLE 8 /* pixels a side that become channels */

enum { DIM_IN, DIM_OUT };

static const struct sde_field stem_fields[] = {
	SDE_FIELD(sde_t2i_adapter, conv_in, "conv_in", CONV3, DIM_IN, DIM_OUT),
};
static const struct sde_field widen_fields[] = {
	SDE_FIELD(sde_t2i_block, in_conv, "in_conv", CONV1, DIM_IN, DIM_OUT),
};
/* The tensor's name is the whole prefix. */
static const struct sde_field conv3_fields[] = {{"", SDE_FIELD_CONV3, 0, DIM_OUT, DIM_OUT}};
static const struct sde_field conv1_fields[] = {{"", SDE_FIELD_CONV1, 0, DIM_OUT, DIM_OUT}};

static void bind_block(struct sde_binder *binder, struct sde_t2i_adapter *adapter, int i, int in,
		       int out, const char *prefix)
{
	struct sde_t2i_block *block = &adapter->blocks[i];
	const int dims[] = {[DIM_IN] = in, [DIM_OUT] = out};
	char name[96];

	block->in = in;
	block->out = out;
	block->first = i == 0;
	if (in != out)
		SDE_BIND(binder, widen_fields, dims, block, "%sbody.%d.", prefix, i);
	for (int k = 0; binder->r >= 0 && k < SDE_T2I_RESNETS_MAX; k++) {
		snprintf(name, sizeof(name), "%sbody.%d.resnets.%d.block1.weight", prefix, i, k);
		if (!sde_weights_find(binder->weights, name))
			break;
		SDE_BIND(binder, conv3_fields, dims, &block->block1[k],
			 "%sbody.%d.resnets.%d.block1", prefix, i, k);
		SDE_BIND(binder, conv1_fields, dims, &block->block2[k],
			 "%sbody.%d.resnets.%d.block2", prefix, i, k);
		block->n_resnets++;
	}
}

static int load(struct sde_t2i_adapter *adapter, const char *path,
		const struct sde_unet_config *base, struct sde_error *error)
{
	struct sde_binder binder = {.error = error};
	const int dims[] = {
		[DIM_IN] = 3 * UNSHUFFLE * UNSHUFFLE, [DIM_OUT] = base->block_out_channels[0]};
	const char *prefix;
	int r;

	r = sde_adapter_open(path, &adapter->weights, NULL, error);
	if (r < 0)
		return r;
	binder.weights = adapter->weights;
	prefix = sde_weights_has_prefix(adapter->weights, "adapter.") ? "adapter." : "";
	SDE_BIND(&binder, stem_fields, dims, adapter, "%s", prefix);
	for (int i = 0; i < (int)base->n_levels; i++)
		bind_block(&binder, adapter, i, base->block_out_channels[i > 0 ? i - 1 : 0],
			   base->block_out_channels[i], prefix);
	adapter->n_blocks = (int)base->n_levels;
	return sde_bind_finish(&binder);
}

int sde_t2i_adapter_load(const char *path, const char *name, const struct sde_unet_config *base,
			 struct sde_t2i_adapter **ret_adapter, struct sde_error *error)
{
	struct sde_t2i_adapter *adapter = calloc(1, sizeof(*adapter));
	int r;

	if (!adapter)
		return sde_error_set(error, -ENOMEM, "no memory for a T2I-Adapter");
	r = load(adapter, path, base, error);
	if (r < 0) {
		sde_t2i_adapter_free(adapter, NULL);
		sde_error_prefix(error, "T2I-Adapter %s", name);
		return r;
	}
	*ret_adapter = adapter;
	return 0;
}

struct sde_t2i_adapter *sde_t2i_adapter_free(struct sde_t2i_adapter *adapter,
					     struct sde_runner *runner)
{
	if (!adapter)
		return NULL;
	for (int i = 0; runner && i < SDE_T2I_BLOCKS_MAX; i++)
		sde_runner_forget(runner, &adapter->blocks[i]);
	sde_weights_free(adapter->weights);
	free(adapter);
	return NULL;
}

struct block_build {
	const struct sde_t2i_adapter *adapter;
	const struct sde_t2i_block *block;
};

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	const struct block_build *build = userdata;
	const struct sde_t2i_block *block = build->block;
	sdk_value x = inputs[0], h;

	if (block->first)
		x = sde_record_conv(plan, x, &build->adapter->conv_in);
	if (block->in_conv.weight.data)
		x = sde_record_conv(plan, x, &block->in_conv);
	for (int i = 0; i < block->n_resnets; i++) {
		h = sde_record_conv(plan, x, &block->block1[i]);
		h = sde_record_conv(plan, sdk_activate(plan, h, SDK_RELU), &block->block2[i]);
		x = sdk_add(plan, h, x);
	}
	ret_outputs[0] = x;
	return 0;
}

/* torch's PixelUnshuffle: (3, 8 h, 8 w) -> (h, w, 192), channel c * 64 + y * 8 + x. */
static void unshuffle(const float *picture, int h, int w, float *out)
{
	const size_t row = (size_t)w * UNSHUFFLE, plane = row * (size_t)h * UNSHUFFLE;

	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (size_t c = 0; c < 3 * UNSHUFFLE * UNSHUFFLE; c++)
				*out++ = picture[c / (UNSHUFFLE * UNSHUFFLE) * plane +
						 ((size_t)y * UNSHUFFLE +
						  c / UNSHUFFLE % UNSHUFFLE) *
							 row +
						 (size_t)x * UNSHUFFLE + c % UNSHUFFLE];
}

/* Means of 2 x 2; at an odd edge of what there is. */
static void halve(const float *in, struct sdk_shape shape, float *out)
{
	for (int y = 0; y < shape.h; y += 2)
		for (int x = 0; x < shape.w; x += 2)
			for (int c = 0; c < shape.c; c++) {
				float sum = 0;
				int n = 0;

				for (int k = 0; k < 4; k++) {
					const int py = y + k / 2, px = x + k % 2;

					if (py >= shape.h || px >= shape.w)
						continue;
					sum += in[((size_t)py * (size_t)shape.w + (size_t)px) *
							  (size_t)shape.c +
						  (size_t)c];
					n++;
				}
				*out++ = sum / (float)n;
			}
}

int sde_t2i_adapter_run(struct sde_runner *runner, const struct sde_t2i_adapter *adapter,
			const float *picture, int height, int width, const struct sdk_shape *shapes,
			int n, float *const *ret_features, struct sde_error *error)
{
	struct sdk_shape in = {1, height, width, 3 * UNSHUFFLE * UNSHUFFLE};
	_cleanup_free_ float *x = calloc((size_t)in.h * (size_t)in.w, (size_t)in.c * sizeof(*x));
	int r = 0;

	if (n != adapter->n_blocks)
		return sde_error_set(error, -EINVAL,
				     "a T2I-Adapter of %d levels does not fit a U-Net of %d",
				     adapter->n_blocks, n);
	if (!x)
		return sde_error_set(error, -ENOMEM, "no memory for a T2I-Adapter's picture");
	unshuffle(picture, height, width, x);
	for (int i = 0; r >= 0 && i < n; i++) {
		const struct block_build userdata = {adapter, &adapter->blocks[i]};
		const struct sde_program_spec spec = {
			.name = "T2I-Adapter",
			.module = &adapter->blocks[i],
			.build = build,
			.userdata = &userdata,
			.n_inputs = 1,
			.n_outputs = 1,
			.inputs = {in},
		};

		r = sde_runner_run(runner, &spec, (const void *const[]){x},
				   (float *const[]){ret_features[i]}, error);
		if (r < 0 || i + 1 == n)
			break;
		/* the next block's input, no larger than the picture's */
		in = shapes[i];
		in.n = 1;
		free(x);
		x = calloc((size_t)(in.h + 1) * (size_t)(in.w + 1), (size_t)in.c * sizeof(*x));
		if (!x)
			return sde_error_set(error, -ENOMEM, "no memory for a T2I-Adapter");
		halve(ret_features[i], in, x);
		in.h = (in.h + 1) / 2;
		in.w = (in.w + 1) / 2;
	}
	return r;
}
