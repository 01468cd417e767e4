/*
 * One half of an autoencoder on a batch of pictures: an image at a time, as a batch would only cost memory on a CPU.
 */
#pragma once

#include "daemon/engine/runner.h"

/*
 * images (batch, c, h, w) of spec->inputs[0], whose batch is 1 -> ret_images (batch, out.c, out.h, out.w). Errors are those
 * of sde_runner_run.
 */
int sde_run_images(struct sde_runner *runner, const struct sde_program_spec *spec,
		   struct sdk_shape out, const float *images, int batch, float *ret_images,
		   struct sde_error *error);
