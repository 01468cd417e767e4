/*
 * config.json of every component, of any bytes: refused with a reason, or sizes the program can live with; a scheduler that
 * is accepted takes its steps. First byte: whose file; second: how many steps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/autoencoders/kl.h"
#include "daemon/engine/denoisers/denoiser.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/weights.h"
#include "daemon/engine/scheduler.h"
#include "daemon/engine/text_encoders/clip.h"

#define ELEMENTS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A weight file without a tensor: what a config describes is missing from it, and the error must name the first. */
static struct sde_weights *no_weights(void)
{
	static const char header[] = "\x02\0\0\0\0\0\0\0{}";
	static struct sde_weights *weights;
	int fd = weights ? -1 : memfd_create("fuzz", MFD_CLOEXEC);
	char path[64];

	if (weights)
		return weights;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, header, sizeof(header) - 1) < 0 || sde_weights_open(path, &weights, NULL) < 0)
		abort();
	close(fd);
	return weights;
}

static void expect_missing(int r, const struct sde_error *error)
{
	if (r >= 0 || !strstr(error->message, "tensor '"))
		abort();
}

static int try_unet(const json_t *object, struct sde_error *error)
{
	struct sde_unet_config config;
	struct sde_unet unet;
	int r = sde_unet_config_parse(object, "fuzz", &config, error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < config.n_levels; i++)
		if (config.block_out_channels[i] % config.heads[i] != 0 ||
		    config.layers_per_block[i] > SDE_UNET_LAYERS_MAX)
			abort();
	expect_missing(sde_unet_bind(&unet, &config, no_weights(), error), error);
	return 0;
}

static int try_transformer(const struct sde_denoiser_class *class, const json_t *object,
			   struct sde_error *error)
{
	struct sde_denoiser denoiser = {0};
	int r = class->bind(&denoiser, object, "fuzz", no_weights(), error);

	if (r >= 0 || denoiser.class)
		abort();
	return r;
}

static int try_kl(const json_t *object, struct sde_error *error)
{
	struct sde_kl_config config;
	struct sde_kl kl;
	int r = sde_kl_config_parse(object, "fuzz", &config, error);

	if (r < 0)
		return r;
	if (sde_kl_config_factor(&config) > 1 << (SDE_KL_LEVELS_MAX - 1))
		abort();
	expect_missing(sde_kl_bind(&kl, &config, no_weights(), error), error);
	return 0;
}

static int try_clip(const json_t *object, struct sde_error *error)
{
	struct sde_clip_config config;
	struct sde_clip clip;
	int r = sde_clip_config_parse(object, "fuzz", &config, error);

	if (r < 0)
		return r;
	expect_missing(sde_clip_bind(&clip, &config, no_weights(), error), error);
	return 0;
}

static int no_noise(void *userdata, float *out, size_t n)
{
	memset(out, 0, n * sizeof(*out));
	return 0;
}

static int try_scheduler(const json_t *object, int steps, struct sde_error *error)
{
	const struct sde_timesteps_request request = {.num_inference_steps = steps};
	struct sde_scheduler *scheduler __attribute__((cleanup(sde_scheduler_freep))) = NULL;
	struct sde_step_args args = SDE_STEP_ARGS_INIT;
	float sample[ELEMENTS] = {-1, 0, 0.5f, 2}, output[ELEMENTS] = {0.1f, -1, 1, 0};
	struct sde_scheduler_config config;
	size_t n;
	int r;

	r = sde_scheduler_config_from_json(object, &config, error);
	if (r >= 0) {
		r = sde_scheduler_new(&config, &scheduler, error);
		sde_scheduler_config_clear(&config);
	}
	if (r >= 0)
		r = sde_scheduler_set_timesteps(scheduler, &request, error);
	if (r < 0)
		return r;
	args.noise = no_noise;
	sde_scheduler_timesteps(scheduler, &n);
	while (sde_scheduler_step_index(scheduler) < n) {
		const size_t before = sde_scheduler_step_index(scheduler);

		sde_scheduler_scale_model_input(scheduler, sample, sample, ELEMENTS);
		r = sde_scheduler_step(scheduler, output, sample, sample, ELEMENTS, &args, error);
		if (r < 0)
			return r;
		if (sde_scheduler_step_index(scheduler) != before + 1)
			abort();
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sde_error error = {0};
	json_t *object = NULL;
	int r = -1;

	if (size < 2 ||
	    sde_json_parse((const char *)data + 2, size - 2, "fuzz", &object, &error) < 0)
		return 0;
	if (json_is_object(object)) {
		switch (data[0] % 6) {
		case 0:
			r = try_unet(object, &error);
			break;
		case 1:
			r = try_kl(object, &error);
			break;
		case 2:
			r = try_clip(object, &error);
			break;
		case 4:
			r = try_transformer(&sde_denoiser_sd3, object, &error);
			break;
		case 5:
			r = try_transformer(&sde_denoiser_flux, object, &error);
			break;
		default:
			r = try_scheduler(object, 1 + data[1] % 64, &error);
		}
		if (r < 0 && !error.message[0])
			abort();
	}
	json_decref(object);
	return 0;
}
