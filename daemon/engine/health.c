/*
 * The check of an autoencoder and its scaling factor; see health.h, and sde_model_check in engine.h.
 */
#include "daemon/engine/health.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/model.h"
#include "daemon/engine/rng.h"

#define PIXELS	     (512 * 512) /* of all test pictures together, about */
#define PICTURES_MAX 8
#define SIDE_MAX     512
#define LEAVES	     1500
#define STD_RATIO    1.6  /* how far the scaled std may be from 1: pictures differ by less */
#define DOUBT_RATIO  1.3  /* beyond it a published factor that fits better is worth a word */
#define NAMED_RATIO  1.15 /* how near a published factor is to be called by its name */
#define PSNR_MIN     12.0 /* dB; a picture's own mean gives about 8 */

/* Factors of autoencoders that many checkpoints share: a lost one is most likely one of them. */
static const struct {
	int channels;
	double factor;
	const char *whose;
} published[] = {
	{4, 0.18215, "Stable Diffusion 1 and 2"},
	{4, 0.13025, "SDXL"},
	{16, 1.5305, "Stable Diffusion 3"},
	{16, 0.3611, "FLUX.1"},
};

static void paint_leaf(struct sde_rng *rng, int side, float *planes)
{
	const double least = side / 64.0, most = side / 2.0, u = sde_rng_uniform_double(rng);
	/* the inverse of the distribution of r^-3 between least and most */
	const double radius = least / sqrt(1 - u * (1 - least * least / (most * most)));
	const double x0 = sde_rng_uniform_double(rng) * side,
		     y0 = sde_rng_uniform_double(rng) * side;
	const float light = 1.5f * sde_rng_uniform(rng) - 0.75f;
	float color[3];

	for (int c = 0; c < 3; c++)
		color[c] = fmaxf(-0.9f, fminf(0.9f, light + 0.6f * sde_rng_uniform(rng) - 0.3f));
	for (int y = (int)fmax(0, y0 - radius); y < side && y <= y0 + radius; y++)
		for (int x = (int)fmax(0, x0 - radius); x < side && x <= x0 + radius; x++)
			if ((x - x0) * (x - x0) + (y - y0) * (y - y0) <= radius * radius)
				for (int c = 0; c < 3; c++)
					planes[(c * side + y) * side + x] = color[c];
}

void sde_test_picture(uint32_t number, int side, float *ret_planes)
{
	struct sde_rng rng;

	memset(ret_planes, 0, 3 * (size_t)side * (size_t)side * sizeof(float));
	sde_rng_seed(&rng, SDE_RNG_TORCH_CPU, number);
	for (int i = 0; i < LEAVES; i++)
		paint_leaf(&rng, side, ret_planes);
}

struct sde_spread sde_spread_of(const float *values, size_t n)
{
	struct sde_spread spread = {0};
	double sum = 0, squares = 0;

	for (size_t i = 0; i < n; i++)
		if (isfinite(values[i]))
			sum += values[i];
		else
			spread.n_bad++;
	if (spread.n_bad == n)
		return spread;
	spread.mean = sum / (double)(n - spread.n_bad);
	for (size_t i = 0; i < n; i++)
		if (isfinite(values[i]))
			squares += (values[i] - spread.mean) * (values[i] - spread.mean);
	spread.std = sqrt(squares / (double)(n - spread.n_bad));
	return spread;
}

__attribute__((format(printf, 2, 3))) static void find(struct sde_health *health,
						       const char *format, ...)
{
	va_list ap;

	health->healthy = false;
	if (health->n_findings == SDE_FINDINGS_MAX)
		return;
	va_start(ap, format);
	vsnprintf(health->findings[health->n_findings++], SDE_FINDING_SIZE, format, ap);
	va_end(ap);
}

static double ratio(double a, double b)
{
	return a > b ? a / b : b / a;
}

/* 1 / std, or the published factor that this is most likely the measurement of. */
static double fitting_factor(int channels, double raw_std, const char **ret_whose)
{
	double best = NAMED_RATIO, found = 1 / raw_std;

	*ret_whose = NULL;
	for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++)
		if (published[i].channels == channels &&
		    ratio(published[i].factor, 1 / raw_std) < best) {
			best = ratio(published[i].factor, 1 / raw_std);
			found = published[i].factor;
			*ret_whose = published[i].whose;
		}
	return found;
}

static void judge_factor(const struct sde_vae *vae, struct sde_health *health)
{
	const char *whose;

	if (!(health->raw_std > 0)) {
		find(health, "the latents of all test pictures are the same: the encoder's weights "
			     "are not a trained one's");
		return;
	}
	health->fitting_factor = fitting_factor(vae->latent_channels, health->raw_std, &whose);
	if (ratio(health->scaled_std, 1) <= (whose ? DOUBT_RATIO : STD_RATIO))
		return;
	find(health,
	     "the scaling factor %.5g %s wrong: it gives latents of standard deviation %.3g, and a "
	     "denoiser expects 1; right would be about %.4g%s%s (scaling_factor in "
	     "vae/config.json)",
	     vae->scaling_factor, ratio(health->scaled_std, 1) <= STD_RATIO ? "may be" : "is",
	     health->scaled_std, health->fitting_factor, whose ? ", which is that of " : "",
	     whose ? whose : "");
}

static void judge(const struct sde_vae *vae, struct sde_health *health)
{
	health->healthy = true;
	if (health->n_bad > 0)
		find(health,
		     "%" PRIu64 " values that come out of the autoencoder are no numbers: its "
		     "weights are damaged, or too large for their type",
		     health->n_bad);
	judge_factor(vae, health);
	if (health->n_bad == 0 && health->psnr_db < PSNR_MIN)
		find(health,
		     "pictures do not survive the autoencoder: %.1f dB, less than %.0f: encoder "
		     "and "
		     "decoder are of different models, or not trained",
		     health->psnr_db, PSNR_MIN);
}

static double psnr(const float *a, const float *b, size_t n)
{
	double squares = 0;

	for (size_t i = 0; i < n; i++) {
		const double d = a[i] - fmax(-1, fmin(1, b[i]));

		squares += d * d;
	}
	/* the range -1..1 is 2 wide */
	return squares > 0 ? 10 * log10(4 * (double)n / squares) : 100;
}

/* Through the encoder and back, one picture after the other. */
static int pass(struct sde_model *model, struct sde_health *health, float *pictures, float *latents,
		float *again, struct sde_error *error)
{
	const struct sde_vae *vae = &model->vae;
	const int side = health->side, small = side / vae->factor;
	const size_t picture = 3 * (size_t)side * (size_t)side;
	const size_t latent = (size_t)vae->latent_channels * (size_t)small * (size_t)small;
	int r = 0;

	for (int i = 0; i < health->pictures && r >= 0; i++) {
		sde_test_picture((uint32_t)i + 1, side, pictures + (size_t)i * picture);
		r = sde_vae_encode(model->runner, vae, pictures + (size_t)i * picture, NULL, 1,
				   side, side, latents + (size_t)i * latent, error);
		if (r >= 0)
			r = sde_vae_decode(model->runner, vae, latents + (size_t)i * latent, 1,
					   small, small, again + (size_t)i * picture, error);
	}
	return r;
}

static int check(struct sde_model *model, struct sde_health *health, struct sde_error *error)
{
	const struct sde_vae *vae = &model->vae;
	const size_t n = (size_t)health->pictures * 3 * (size_t)health->side * (size_t)health->side;
	const size_t n_latents =
		n / 3 / (size_t)(vae->factor * vae->factor) * (size_t)vae->latent_channels;
	_cleanup_free_ float *pictures = malloc(n * sizeof(float));
	_cleanup_free_ float *again = malloc(n * sizeof(float));
	_cleanup_free_ float *latents = malloc(n_latents * sizeof(float));
	struct sde_spread spread, back;
	int r;

	if (!pictures || !again || !latents)
		return sde_error_set(error, -ENOMEM, "no memory for the test pictures");
	r = pass(model, health, pictures, latents, again, error);
	if (r < 0)
		return r;
	spread = sde_spread_of(latents, n_latents);
	back = sde_spread_of(again, n);
	health->scaled_mean = spread.mean;
	health->scaled_std = spread.std;
	health->raw_mean = spread.mean / vae->scaling_factor + vae->shift_factor;
	health->raw_std = spread.std / vae->scaling_factor;
	health->n_bad = spread.n_bad + back.n_bad;
	health->psnr_db = back.n_bad == 0 ? psnr(pictures, again, n) : 0;
	judge(vae, health);
	return 0;
}

int sde_model_check(struct sde_model *model, const atomic_int *cancel,
		    struct sde_health *ret_health, struct sde_error *ret_error)
{
	static const char *const names[] = {"AutoencoderKL", "VQModel", "AutoencoderTiny"};
	const int grain = sde_model_grain(model);
	const int most = model->info.native_size < SIDE_MAX ? model->info.native_size : SIDE_MAX;
	struct sde_health health = {
		.autoencoder = names[model->vae.kind],
		.latent_channels = model->vae.latent_channels,
		.scaling_factor = model->vae.scaling_factor,
		.shift_factor = model->vae.shift_factor,
		.side = most < grain ? grain : most / grain * grain,
	};
	int r;

	health.pictures = PIXELS / (health.side * health.side);
	if (health.pictures > PICTURES_MAX)
		health.pictures = PICTURES_MAX;
	if (health.pictures < 1)
		health.pictures = 1;
	sde_runner_set_cancel(model->runner, cancel);
	r = check(model, &health, ret_error);
	sde_runner_set_cancel(model->runner, NULL);
	if (r >= 0)
		*ret_health = health;
	return r;
}
