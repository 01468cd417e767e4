/*
 * A model and its autoencoder shift colours a little, which shows as a lighter or darker patch. The part of its answer
 * that nobody asked to change is compared with the original, and the difference is taken off everywhere (Reinhard et
 * al. 2001: mean and deviation per CIE Lab channel). Repainted pixels do not count, in proportion to the mask.
 */
#pragma once

#include <stdint.h>

/*
 * generated and original: count x 3, sRGB 0..1; mask: count, 1 = repainted. generated is changed in place and stays
 * 0..1. Nothing happens when less than 1 % of the pixels (or fewer than 64) are known; gains are kept to 0.5..2.
 */
void sde_color_match(float *generated, const float *original, const float *mask, uint64_t count);

/* sRGB 0..1 to CIE Lab (D65) and back. */
void sde_rgb_to_lab(const float rgb[3], float ret_lab[3]);
void sde_lab_to_rgb(const float lab[3], float ret_rgb[3]);
