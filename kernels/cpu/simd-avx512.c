/*
 * The loops for AVX-512 (F, BW, DQ, VL); compiled with those flags, called only where the processor has them.
 */
#define SDK_LANES     16
#define SDK_SIMD      sdk_simd_avx512
#define SDK_SIMD_NAME "avx512"
#include "kernels/cpu/simd-body.h"
