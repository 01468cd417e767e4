/*
 * The sampling loop of Stable Diffusion 1.x, 2.x, XL and 3, and of FLUX, with the arithmetic, order of random draws and rounding of
 * diffusers' StableDiffusion[XL|3]Pipeline, FluxPipeline, their Img2Img and Inpaint forms and FluxFillPipeline: same seed, same
 * picture. Latents are never packed here, FLUX's neither. Everything is explicit
 * here: embeddings, tensors, generators. What a person asks for is translated into it by job.c.
 *
 * Arrays are float32, NCHW, row-major; images in -1..1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/adapters/guides.h"
#include "daemon/engine/pipelines/apg.h"
#include "daemon/engine/pipelines/noise.h"
#include "daemon/engine/scheduler.h"

struct sde_error;
struct sde_model;
struct sde_resume;
struct sde_watch;

/*
 * SDE_SD_INVERT goes the other way (DDIM inversion, Song et al. 2020, 4.3; diffusers' DDIMInverseScheduler, which the request must
 * name): from the image's latents, the mode of their posterior, up to the noise that IMG2IMG of the same strength begins with.
 */
enum sde_sd_kind { SDE_SD_TXT2IMG, SDE_SD_IMG2IMG, SDE_SD_INPAINT, SDE_SD_INVERT };

struct sde_sd_request {
	enum sde_sd_kind kind;
	const struct sde_scheduler_config *scheduler;
	struct sde_timesteps_request timesteps; /* num_inference_steps or a list */
	int batch;				/* images in all */
	int height, width;			/* pixels, multiples of the VAE's factor */
	double guidance_scale; /* > 1: classifier-free guidance; distilled families: what the network is told */
	double true_cfg_scale;	   /* distilled families: > 1: classifier-free guidance as well */
	double guidance_rescale;   /* 0 = off */
	const struct sde_apg *apg; /* how guidance guides; NULL: plainly */
	double eta;		   /* DDIM */
	double strength;	   /* img2img, inpaint: > 0 .. 1 */
	/*
	 * (batch, tokens, cross_attention_dim); with guidance (2 * batch, ...), negative rows first. Borrowed.
	 */
	const float *prompt_embeds;
	int tokens;
	/*
	 * Batches of one only. n_regions prompts for parts of the picture: their rows follow the positive one, and where region k
	 * counts by weight its prediction takes the place of the prompt's. region_weights: (1 + n_regions, height / f, width / f),
	 * the prompt's own first, summing to 1 everywhere.
	 */
	int n_regions;
	const float *region_weights;
	/*
	 * Prompts that change: prompt_embeds and pooled hold several such blocks of rows, and call i of the denoiser reads
	 * block variants[i], past the end the last one. NULL: one block. Batches of one only.
	 */
	const int *variants;
	size_t n_variants;
	const float
		*pooled; /* SDXL, SD3, FLUX: rows like prompt_embeds' of the model's pooled width */
	const float *time_ids; /* SDXL: rows of n_time_ids */
	int n_time_ids;
	/*
	 * SDXL's ensembles of experts, as fractions of the training schedule: run only the timesteps before denoising_end
	 * and, image to image, from denoising_start on, in place of strength and without adding noise. 0: whole.
	 */
	double denoising_start, denoising_end;
	/*
	 * SD3.5's skip layer guidance: with classifier-free guidance, add skip_scale times what leaving these blocks out (bit i: block
	 * i) changes, at steps i of n with skip_start * n < i < skip_stop * n.
	 */
	uint64_t skipped_layers;
	double skip_scale, skip_start, skip_stop;
	const float *image; /* (n_images, 3, height, width) */
	/*
	 * Batches of one only: latent arithmetic. The image's latents become image_share times themselves plus, for each of n_added
	 * pictures (3, height, width), added_weights[i] times its latents, with the same draws of the autoencoder.
	 */
	const float *const *added;
	const double *added_weights;
	int n_added;
	double image_share;
	const float *mask; /* (n_images, height, width), 0 or 1; 1 = repaint */
	int n_images;	   /* divides batch */
	const float *
		image_latents; /* img2img, in place of image: (n_images, C, h, w), scaled, as a base model left them */
	bool noised; /* img2img: image_latents have their noise, as SDE_SD_INVERT left them */
	/*
	 * Differential diffusion instead of mask, 4-channel U-Nets only: (height / f, width / f) at the latent's
	 * resolution, values 0..1, the same for every image.
	 */
	const float *soft_mask;
	uint64_t partition; /* of the engine's cache (cache.h) */
	struct sde_noise *noise;
	/*
	 * > 0: multi-diffusion (tiles.h) over tiles of this many latents a side, which share tile_overlap, where the picture is
	 * larger.
	 */
	int tile, tile_overlap;
	struct sde_guides_options
		guides;		 /* pictures that guide the U-Net; options.guidance is filled in */
	struct sde_watch *watch; /* U-Nets: who watches their attentions; NULL = nobody */
	/* Before the first step (with those that were made before, mostly 0) and after each; latents (batch, C, h, w). A negative return ends the run with it. May be NULL. */
	int (*on_step)(void *userdata, int step, int total, const float *latents);
	/* After each step, before on_step: what to keep to go on behind it. May be NULL. */
	int (*on_state)(void *userdata, int step, const float *latents, size_t n_latents,
			const struct sde_scheduler *scheduler);
	/* Go on behind steps of this run that an earlier process made; with one generator only. NULL = from the start. */
	const struct sde_resume *resume;
	/*
	 * After every preview_every steps (0 = never), and after those for which wants_preview (may be NULL) says so, before on_step:
	 * the clean latents that this step's prediction implies, (batch, C, h, w). May be NULL.
	 */
	void (*on_preview)(void *userdata, int step, int total, const float *clean);
	bool (*wants_preview)(void *userdata);
	int preview_every;
	void *userdata;
};

/* Classifier-free guidance is on: guidance_scale > 1, and the family is not distilled. */
bool sde_sd_uses_guidance(const struct sde_model *model, double guidance_scale);

/* The calls of the denoiser that the request's run takes, from what it says of steps, strength and size. */
int sde_sd_count_calls(struct sde_model *model, const struct sde_sd_request *request,
		       int *ret_calls, struct sde_error *error);

/* Owned arrays, freed by sde_sd_result_clear. */
struct sde_sd_result {
	float *latents; /* (batch, C, h, w) after the last step, still scaled */
	size_t latents_count;
	double *timesteps; /* those run */
	size_t n_timesteps;
	float *mask_latents;	     /* inpaint: (batch, 1, h, w) */
	float *masked_image_latents; /* inpaint: (batch, C, h, w) */
};

/*
 * Run to latents. -EINVAL names the argument, -ECANCELED when the cancel flag was raised, -ENOMEM; *ret_result untouched
 * on failure.
 */
int sde_sd_run(struct sde_model *model, const struct sde_sd_request *request,
	       struct sde_sd_result *ret_result, struct sde_error *error);
void sde_sd_result_clear(struct sde_sd_result *result);

/* latents (batch, C, h, w) as sde_sd_run left them -> images (batch, 3, height, width), -1..1 and a bit beyond. */
int sde_sd_decode(struct sde_model *model, const float *latents, int batch, int height, int width,
		  float *ret_images, struct sde_error *error);
