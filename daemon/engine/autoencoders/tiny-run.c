/*
 * AutoencoderTiny on host arrays. Tiles are diffusers' (AutoencoderTiny._tiled_decode): each is laid over what is there,
 * faded in along its top and left.
 */
#include "daemon/engine/autoencoders/tiny-run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/autoencoders/run-images.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

struct pass {
	struct sde_runner *runner;
	const struct sde_tiny *tiny;
	bool decode;
	int channels, out_channels;
	int height, width; /* of the input */
	int size, stride;  /* of a tile in the input; 0: whole */
	float faded;	   /* lines of a tile in the output, not always a whole number */
	struct sde_error *error;
};

static int out_side(const struct pass *pass, int side)
{
	const int f = sde_tiny_config_factor(&pass->tiny->config);

	return pass->decode ? side * f : side / f;
}

/* Lines that come out of so many; where they are no whole number of cells, the last cell is a part of one. */
static int tile_side(const struct pass *pass, int side)
{
	const int f = sde_tiny_config_factor(&pass->tiny->config);

	return pass->decode ? side * f : (side + f - 1) / f;
}

static int build_encode(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			sdk_value *ret_outputs)
{
	ret_outputs[0] = sde_tiny_record_encode(plan, userdata, inputs[0]);
	return 0;
}

static int build_decode(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
			sdk_value *ret_outputs)
{
	ret_outputs[0] = sde_tiny_record_decode(plan, userdata, inputs[0]);
	return 0;
}

static int run_whole(const struct pass *pass, const float *in, int batch, int h, int w, float *out)
{
	const struct sde_program_spec spec = {
		.name = pass->decode ? "tiny VAE decoder" : "tiny VAE encoder",
		.module = pass->tiny,
		.variant = pass->decode ? 1 : 0,
		.build = pass->decode ? build_decode : build_encode,
		.userdata = pass->tiny,
		.n_inputs = 1,
		.n_outputs = 1,
		.inputs = {{1, h, w, pass->channels}},
	};
	const struct sdk_shape shape = {1, tile_side(pass, h), tile_side(pass, w),
					pass->out_channels};

	return sde_run_images(pass->runner, &spec, shape, in, batch, out, pass->error);
}

/* How much of a tile counts at its line i: 0 to 1 over the faded part, 1 beyond and in tiles at the border. */
static float weight(const struct pass *pass, int tile_at, int i)
{
	const float last = pass->faded - 1;

	return tile_at == 0 || (float)i >= last ? 1.0f : (float)i / last;
}

/* Lay the tile that began at (y, x) of the input over the image. */
static void lay(const struct pass *pass, const float *tile, int h, int w, int y, int x, float *out)
{
	const size_t out_h = (size_t)out_side(pass, pass->height);
	const size_t out_w = (size_t)out_side(pass, pass->width);
	const size_t oy = (size_t)out_side(pass, y), ox = (size_t)out_side(pass, x);

	for (int c = 0; c < pass->out_channels; c++)
		for (int i = 0; i < h && oy + (size_t)i < out_h; i++) {
			const float *from = tile + ((size_t)c * (size_t)h + (size_t)i) * (size_t)w;
			float *to = out + ((size_t)c * out_h + oy + (size_t)i) * out_w + ox;
			const float down = weight(pass, y, i);

			for (int j = 0; j < w && ox + (size_t)j < out_w; j++) {
				const float m = down * weight(pass, x, j);

				to[j] = m * from[j] + (1 - m) * to[j];
			}
		}
}

static int run_tile(const struct pass *pass, const float *in, int y, int x, float *part,
		    float *tile, float *out)
{
	const int h = pass->size < pass->height - y ? pass->size : pass->height - y;
	const int w = pass->size < pass->width - x ? pass->size : pass->width - x;
	int r;

	r = sde_runner_check_cancel(pass->runner, pass->error);
	if (r < 0)
		return r;
	for (int row = 0; row < pass->channels * h; row++) {
		const size_t at = (size_t)(row / h) * (size_t)pass->height + (size_t)(y + row % h);

		memcpy(part + (size_t)row * (size_t)w, in + at * (size_t)pass->width + x,
		       (size_t)w * sizeof(float));
	}
	r = run_whole(pass, part, 1, h, w, tile);
	if (r >= 0)
		lay(pass, tile, tile_side(pass, h), tile_side(pass, w), y, x, out);
	return r;
}

static int run(const struct pass *pass, const float *in, int batch, float *out)
{
	const size_t side = (size_t)pass->size, out_tile = (size_t)tile_side(pass, pass->size);
	const size_t n = (size_t)pass->channels * (size_t)pass->height * (size_t)pass->width;
	const size_t out_n = (size_t)pass->out_channels * (size_t)out_side(pass, pass->height) *
			     (size_t)out_side(pass, pass->width);
	_cleanup_free_ float *part = NULL, *tile = NULL;
	int r = 0;

	if (pass->size == 0 || (pass->height <= pass->size && pass->width <= pass->size))
		return run_whole(pass, in, batch, pass->height, pass->width, out);
	if (pass->stride < 1)
		return sde_error_set(pass->error, -EINVAL, "tiles of %d do not advance",
				     pass->size);
	part = malloc(side * side * (size_t)pass->channels * sizeof(float));
	tile = malloc(out_tile * out_tile * (size_t)pass->out_channels * sizeof(float));
	if (!part || !tile)
		return sde_error_set(pass->error, -ENOMEM, "no memory for a tile of %d",
				     pass->size);
	memset(out, 0, (size_t)batch * out_n * sizeof(float));
	for (size_t b = 0; b < (size_t)batch; b++)
		for (int y = 0; r >= 0 && y < pass->height; y += pass->stride)
			for (int x = 0; r >= 0 && x < pass->width; x += pass->stride)
				r = run_tile(pass, in + b * n, y, x, part, tile, out + b * out_n);
	return r;
}

int sde_tiny_encode(struct sde_runner *runner, const struct sde_tiny *tiny,
		    const struct sde_tiny_tiling *tiling, const float *image, int batch, int height,
		    int width, float *ret_latents, struct sde_error *error)
{
	struct pass pass = {.runner = runner,
			    .tiny = tiny,
			    .channels = tiny->config.in_channels,
			    .out_channels = tiny->config.latent_channels,
			    .height = height,
			    .width = width,
			    .error = error};

	if (tiling) {
		const int faded = (int)(tiling->sample_size * tiling->overlap);

		pass.size = tiling->sample_size;
		pass.stride = tiling->sample_size - faded;
		pass.faded = (float)faded / (float)sde_tiny_config_factor(&tiny->config);
	}
	return run(&pass, image, batch, ret_latents);
}

int sde_tiny_decode(struct sde_runner *runner, const struct sde_tiny *tiny,
		    const struct sde_tiny_tiling *tiling, const float *latents, int batch,
		    int height, int width, float *ret_image, struct sde_error *error)
{
	struct pass pass = {.runner = runner,
			    .tiny = tiny,
			    .decode = true,
			    .channels = tiny->config.latent_channels,
			    .out_channels = tiny->config.out_channels,
			    .height = height,
			    .width = width,
			    .error = error};

	if (tiling) {
		const int faded = (int)(tiling->latent_size * tiling->overlap);

		pass.size = tiling->latent_size;
		pass.stride = tiling->latent_size - faded;
		pass.faded = (float)out_side(&pass, faded);
	}
	return run(&pass, latents, batch, ret_image);
}

void sde_tiny_latents_to_unit(const struct sde_tiny_config *config, float *latents, size_t n)
{
	const float scale = (float)(2 * config->latent_magnitude);
	const float shift = (float)config->latent_shift;

	for (size_t i = 0; i < n; i++)
		latents[i] = fminf(fmaxf(latents[i] / scale + shift, 0), 1);
}

void sde_tiny_latents_from_unit(const struct sde_tiny_config *config, float *latents, size_t n)
{
	const float scale = (float)(2 * config->latent_magnitude);
	const float shift = (float)config->latent_shift;

	for (size_t i = 0; i < n; i++)
		latents[i] = (latents[i] - shift) * scale;
}
