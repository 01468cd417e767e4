/*
 * Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416): classifier-free guidance whose update is averaged with a
 * (negative) momentum, bounded in length, and robbed of the part along the prompt's own prediction, which saturates
 * colours. Same numbers as diffusers' normalized_guidance with use_original_formulation, whose scale is ours less 1.
 */
#pragma once

#include <stddef.h>

struct sde_apg {
	double eta;	 /* how much of the parallel part stays: 0 none, 1 all */
	double momentum; /* of the update's running sum; 0 = none, the paper's is -0.5 */
	double norm;	 /* L2 length of an image's update at most; 0 = any */
};

/*
 * pair: [negative..., positive...], batch x n values each. The guided prediction takes the place of the negative one. average:
 * batch x n, zeros before the first step, updated. scale as of classifier-free guidance.
 */
void sde_apg_guide(const struct sde_apg *apg, float *pair, float *average, size_t batch, size_t n,
		   double scale);
