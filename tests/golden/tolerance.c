/*
 * Tolerances for activations of 16 bits. The cases' own are for float32 arithmetic of any summation order; with bf16 every stored
 * activation carries a relative rounding error of up to 2^-9 = 2e-3 (f16: 2^-12 = 2.4e-4) and every matrix once more, and the error
 * of a whole output grows with the square root of the number of roundings on the way. Judged is the relative L2 error of an
 * output: single elements near zero say nothing.
 *
 * Where the errors lie was measured by `--backend ref --dtype bf16`, which rounds as the processors do, on ten shifted rounding grids.
 * No part of the U-Net is to blame alone: with the time embedding, the norms, the attention, the first or the last convolution in
 * float32 the error stays what it was. The text encoders, whose error every step inherits, are computed in float32 always, so
 * they have no entry here.
 */
#include <string.h>

#include "tests/golden/golden.h"

static const struct golden_tolerance bf16[] = {
	/*
	 * some 100 roundings: sqrt(100) * 2e-3; measured 0.018 on average, up to 0.037, and up to 0.061 where an 8x8 latent leaves
	 * 1x1 pixels at the bottom: a group of norm_num_groups has four values there, and normalising those magnifies
	 */
	{"unet", 8e-2, 0},
	{"attention", 8e-2, 0}, /* the same network */
	/* no group norms, and a residual stream that every block only adds to; measured up to 0.008 */
	{"transformer_sd3", 2e-2, 0},
	{"transformer_flux", 2e-2, 0},
	{"vae_kl", 4e-2, 30}, /* measured up to 0.021; pixels: 30 dB is an error of 8 of 255 */
	{"vae_kl_tiled", 4e-2, 30},
	{"vae_stats", 4e-2, 0}, /* its encoder half */
	{"vae_tiny", 3e-2, 0},	/* some 40 roundings, ReLU only; measured up to 0.0175 */
	{"vae_tiny_tiled", 3e-2, 0},
	{"pipeline", 1.5e-1, 22},   /* up to 20 U-Net calls, guidance multiplies by up to 7.5 */
	{"fullsize_unet", 3e-2, 0}, /* torch in bf16: 0.012; measured 0.0106 */
	{"fullsize_trajectory", 3e-2, 0}, /* measured 0.0168 */
	{"fullsize_vae_decode", 3e-2, 0}, /* measured 0.0134 */
	{"fullsize_vae_encode", 3e-2, 0}, /* measured 0.0107 */
	{"op_activations", 8e-3, 0},	  /* one operation, two roundings */
	{"op_geglu", 8e-3, 0},
	{"op_norms", 8e-3, 0},
	{"op_downsample", 8e-3, 0},
	{"op_nearest", 4e-3, 0}, /* a copy: one rounding */
	{NULL, 0, 0},
};

const struct golden_tolerance *golden_tolerance(const char *kind, const char *dtype)
{
	if (!strcmp(dtype, "f32"))
		return NULL;
	/* f16 is eight times finer than bf16; held to the same limits, since range and not precision is what it loses */
	for (size_t i = 0; bf16[i].kind; i++)
		if (!strcmp(bf16[i].kind, kind))
			return &bf16[i];
	return NULL;
}
