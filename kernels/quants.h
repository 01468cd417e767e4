/*
 * Quantised numbers: the parts of sdk_widen and sdk_narrow (tensor.h) for types of blocks and of 8 bits.
 */
#pragma once

#include "kernels/tensor.h"

void sdk_dequantize(enum sdk_type type, const void *in, float *out, size_t n);
void sdk_quantize_q8_0(const float *in, void *out, size_t n);
