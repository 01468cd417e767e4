/*
 * The loops for any processor: four lanes, whatever the compiler makes of them.
 */
#define SDK_LANES     4
#define SDK_SIMD      sdk_simd_base
#define SDK_SIMD_NAME "baseline"
#include "kernels/cpu/simd-body.h"
