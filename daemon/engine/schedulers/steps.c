/*
 * Step counting, guidance and interpolation: see steps.h. Products and truncations are in double
 * like Python's, so that (int)(10 * 0.55) is 5 here as there.
 */
#include "daemon/engine/schedulers/steps.h"

#include <errno.h>
#include <math.h>

#include "daemon/engine/error.h"

static int check_strength(int n, double strength, struct sde_error *error)
{
	if (n < 1)
		return sde_error_set(error, -EINVAL, "number of steps is %d, must be at least 1",
				     n);
	if (!(strength >= 0 && strength <= 1))
		return sde_error_set(error, -EINVAL, "strength is %g, must be between 0 and 1",
				     strength);
	return 0;
}

static int range_from_run(int n, int run, double strength, struct sde_steps_range *ret_range,
			  struct sde_error *error)
{
	if (run < 1)
		return sde_error_set(
			error, -EINVAL,
			"strength %g of %d steps leaves no step to run; raise one of them",
			strength, n);
	ret_range->start = n - run;
	ret_range->run = run;
	return 0;
}

int sde_steps_img2img(int n, double strength, struct sde_steps_range *ret_range,
		      struct sde_error *error)
{
	int run, r;

	r = check_strength(n, strength, error);
	if (r < 0)
		return r;
	run = (int)(n * strength);
	return range_from_run(n, run < n ? run : n, strength, ret_range, error);
}

int sde_steps_img2img_flow(int n, double strength, struct sde_steps_range *ret_range,
			   struct sde_error *error)
{
	double init;
	int r;

	r = check_strength(n, strength, error);
	if (r < 0)
		return r;
	init = fmin(n * strength, n);
	return range_from_run(n, n - (int)fmax(n - init, 0), strength, ret_range, error);
}

static double cutoff(int num_train_timesteps, double fraction)
{
	return nearbyint(num_train_timesteps - fraction * num_train_timesteps);
}

size_t sde_steps_denoising_end(const double *timesteps, size_t n, int num_train_timesteps,
			       double denoising_end)
{
	double limit = cutoff(num_train_timesteps, denoising_end);
	size_t run = 0;

	for (size_t i = 0; i < n; i++)
		run += timesteps[i] >= limit;
	return run;
}

size_t sde_steps_denoising_start(const double *timesteps, size_t n, int num_train_timesteps,
				 double denoising_start, int order)
{
	double limit = cutoff(num_train_timesteps, denoising_start);
	size_t run = 0;

	for (size_t i = 0; i < n; i++)
		run += timesteps[i] < limit;
	/* an even count would begin between the two evaluations of one second-order step */
	if (order == 2 && run % 2 == 0 && run < n)
		run++;
	return n - run;
}

double sde_flux_mu(int image_seq_len, int base_seq_len, int max_seq_len, double base_shift,
		   double max_shift)
{
	double slope = (max_shift - base_shift) / ((double)max_seq_len - base_seq_len);

	return image_seq_len * slope + (base_shift - slope * base_seq_len);
}

void sde_guidance_apply(const float *pair, float *out, size_t n, float scale)
{
	const float *uncond = pair, *cond = pair + n;

	for (size_t i = 0; i < n; i++)
		out[i] = uncond[i] + scale * (cond[i] - uncond[i]);
}

static double standard_deviation(const float *x, size_t n)
{
	double mean = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		mean += x[i];
	mean /= (double)n;
	for (size_t i = 0; i < n; i++)
		sum += (x[i] - mean) * (x[i] - mean);
	return sqrt(sum / ((double)n - 1));
}

void sde_guidance_rescale(float *pred, const float *cond, size_t batch, size_t n, double phi)
{
	for (size_t b = 0; b < batch; b++, pred += n, cond += n) {
		float ratio = (float)(standard_deviation(cond, n) / standard_deviation(pred, n));
		float mix = (float)phi, keep = (float)(1 - phi);

		for (size_t i = 0; i < n; i++)
			pred[i] = mix * (pred[i] * ratio) + keep * pred[i];
	}
}

static void weighted_sum(const float *a, const float *b, float *out, size_t n, double weight_a,
			 double weight_b)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (float)(weight_a * a[i] + weight_b * b[i]);
}

void sde_lerp(const float *a, const float *b, float *out, size_t n, double t)
{
	weighted_sum(a, b, out, n, 1 - t, t);
}

void sde_slerp(const float *a, const float *b, float *out, size_t n, double t)
{
	double aa = 0, bb = 0, ab = 0, cosine, angle;

	for (size_t i = 0; i < n; i++) {
		aa += (double)a[i] * a[i];
		bb += (double)b[i] * b[i];
		ab += (double)a[i] * b[i];
	}
	cosine = ab / (sqrt(aa) * sqrt(bb));
	if (!(fabs(cosine) <= 0.9995)) {
		sde_lerp(a, b, out, n, t);
		return;
	}
	angle = acos(cosine);
	weighted_sum(a, b, out, n, sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle));
}

void sde_add_weighted(float *sum, const float *values, size_t n, double weight)
{
	weighted_sum(sum, values, sum, n, 1, weight);
}
