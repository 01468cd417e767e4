/*
 * One sampling run while it goes on: what the loop (stable-diffusion.c) and the prediction of a step (predict.c) share.
 */
#pragma once

#include "daemon/engine/pipelines/stable-diffusion.h"
#include "daemon/engine/pipelines/tiles.h"

#define SDE_TILES_MAX 1024

/* One run's arrays; n = latents of one image (channels * h * w), all = batch * n. */
struct run {
	struct sde_model *model;
	const struct sde_sd_request *request;
	struct sde_error *error;
	struct sde_scheduler *scheduler;
	int h, w, channels, in_channels, f;
	size_t pixels, n, all; /* pixels = h * w */
	int mask_channels;     /* that a filling denoiser takes, 0: it takes latents alone */
	bool guidance;
	double guidance_factor; /* of classifier-free guidance, when on */
	size_t begin;
	const double *timesteps;
	size_t n_timesteps;
	float *latents, *noise, *image_latents, *mask, *masked, *input, *pair, *scratch;
	float *step_mask, *rows, *scales;	  /* of each row: timestep, guidance scale */
	struct sde_tiles tiles;			  /* of one tile: the whole canvas at once */
	struct sde_guides *guides[SDE_TILES_MAX]; /* a tile's each; NULL: none */
	struct sde_guides
		*region_guides[SDE_TILES_MAX]; /* the same for the prompt of a region alone */
	float *region;			       /* its prediction */
	float *average; /* of guidance's updates (apg.h) and the latents before it: what a resumed run needs */
	float *tile_input, *tile_output; /* of several tiles: one's rows */
};

/* n floats, zeroed, owned by the caller. -EOVERFLOW, -ENOMEM. */
int sde_run_floats(struct run *run, float **ret_values, size_t n);

/* Cut the canvas into windows, where the request says so; before the guides. */
int sde_run_start_tiles(struct run *run);
/* The guiding pictures' part of a run, if it has any. */
int sde_run_start_guides(struct run *run);
/*
 * What the denoiser says of run->latents at timesteps[i]: run->pair, whose first `all` values are the guided prediction.
 * Negative errno, -ECANCELED among them.
 */
int sde_run_predict(struct run *run, size_t i);
