/*
 * The arithmetic around a sampling loop: which of the timesteps are run (img2img strength, SDXL's
 * denoising range), how the two halves of a classifier-free-guidance batch are combined, and the
 * interpolation of latents. Pure functions on plain numbers, with the truncations and roundings of
 * the diffusers pipelines, because a step more or less is another picture.
 */
#pragma once

#include <stddef.h>

struct sde_error;

struct sde_steps_range {
	int start; /* begin index before multiplication by the scheduler's order */
	int run;   /* steps left to run */
};

/*
 * img2img and inpainting, SD 1/2 and SDXL: run = min((int)(n * strength), n), start = n - run. n >=
 * 1, 0 <= strength <= 1 (-EINVAL otherwise, or when no step would be left).
 */
int sde_steps_img2img(int n, double strength, struct sde_steps_range *ret_range,
		      struct sde_error *error);

/* SD3 and FLUX: start = (int)(n - n * strength), which can differ by one from the above. */
int sde_steps_img2img_flow(int n, double strength, struct sde_steps_range *ret_range,
			   struct sde_error *error);

/*
 * SDXL ensemble of experts. denoising_end: how many of the n timesteps the base model runs, those
 * >= round(T - end * T). denoising_start: index of the first timestep the refiner runs, those <
 * round(T - start * T), one earlier when that count is even and the scheduler is of order 2.
 * timesteps: descending, as sde_scheduler_timesteps(). T = num_train_timesteps.
 */
size_t sde_steps_denoising_end(const double *timesteps, size_t n, int num_train_timesteps,
			       double denoising_end);
size_t sde_steps_denoising_start(const double *timesteps, size_t n, int num_train_timesteps,
				 double denoising_start, int order);

/*
 * FLUX and SD3.5 dynamic shifting: mu on the line through (base_seq_len, base_shift) and
 * (max_seq_len, max_shift) at image_seq_len, the number of image tokens.
 */
double sde_flux_mu(int image_seq_len, int base_seq_len, int max_seq_len, double base_shift,
		   double max_shift);

/*
 * Classifier-free guidance: out = uncond + scale * (cond - uncond). pair holds 2*n floats, all
 * unconditional predictions first, then all conditional ones; out (n floats) may be either half.
 */
void sde_guidance_apply(const float *pair, float *out, size_t n, float scale);

/*
 * guidance_rescale (Lin et al. 2023, 3.4): per image, pred := phi * pred * std(cond) / std(pred) +
 * (1 - phi) * pred, standard deviations unbiased over the n elements of an image. pred and cond:
 * batch * n floats.
 */
void sde_guidance_rescale(float *pred, const float *cond, size_t batch, size_t n, double phi);

/* out = (1 - t) a + t b. out may be a or b. */
void sde_lerp(const float *a, const float *b, float *out, size_t n, double t);

/*
 * Spherical interpolation with one angle over the whole array (the angle between a and b as
 * vectors); falls back to lerp when they are nearly parallel (|cos| > 0.9995).
 */
void sde_slerp(const float *a, const float *b, float *out, size_t n, double t);

/* sum += weight * values. sum may be values. */
void sde_add_weighted(float *sum, const float *values, size_t n, double weight);
