/*
 * The loops for AVX2 with FMA; compiled with those flags, called only where the processor has them.
 */
#define SDK_LANES     8
#define SDK_SIMD      sdk_simd_avx2
#define SDK_SIMD_NAME "avx2"
#include "kernels/cpu/simd-body.h"
