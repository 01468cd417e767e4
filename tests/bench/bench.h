/*
 * What the parts of sdd-bench share.
 */
#pragma once

#include <jansson.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/weights.h"
#include "daemon/engine/forward.h"
#include "daemon/engine/runner.h"

struct bench {
	struct sde_runner *runner;
	json_t *config;
	struct sde_weights *weights;
	int size, runs;
	struct sde_error error;
};

#define BENCH_JOBS 2 /* whose inputs there are */

struct unet_run {
	struct sde_unet unet;
	struct sde_unet_call call;
	float *out;
};

double bench_now(void); /* seconds */
int bench_fail(const struct bench *bench);
/* A step's inputs for a U-Net of this configuration. */
struct unet_run bench_unet_run(const struct bench *bench, const struct sde_unet_config *config);

/* What the change to a LoRA costs: lora.c. */
int bench_lora(struct bench *bench);
