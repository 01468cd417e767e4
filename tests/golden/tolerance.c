/*
 * Tolerances for activations of 16 bits. The cases' own are for float32 arithmetic of any summation order; with bf16 every stored
 * activation carries a relative rounding error of up to 2^-9 = 2e-3 (f16: 2^-12 = 2.4e-4), which random-weight networks neither
 * damp nor amplify much, so the error of a whole output grows with the square root of the number of roundings on the way. Judged
 * is the relative L2 error of an output: single elements near zero say nothing.
 */
#include <string.h>

#include "tests/golden/golden.h"

static const struct golden_tolerance bf16[] = {
	{"text_encoder", 2e-2, 0}, /* 2..4 layers, some 20 roundings: sqrt(20) * 2e-3, doubled */
	{"prompt_embed", 2e-2, 0}, /* the same encoder */
	{"unet", 4e-2, 0},	   /* some 100 roundings: sqrt(100) * 2e-3, doubled */
	{"vae_kl", 4e-2, 30},	   /* as deep as the U-Net; pixels: 30 dB is an error of 8 of 255 */
	{"vae_kl_tiled", 4e-2, 30},
	{"vae_stats", 4e-2, 0}, /* its encoder half */
	{"vae_tiny", 2e-2, 0},	/* some 40 roundings, ReLU only */
	{"vae_tiny_tiled", 2e-2, 0},
	{"pipeline", 1.5e-1, 22},    /* up to 20 U-Net calls, guidance multiplies by up to 7.5 */
	{"op_activations", 8e-3, 0}, /* one operation, two roundings */
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
