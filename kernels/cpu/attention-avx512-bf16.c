/*
 * Attention with the processor's bfloat16 dot product (AVX512_BF16): twice the arithmetic of float32 in both products;
 * softmax, sums and the output stay float32.
 */
#include <immintrin.h>

#define SDK_LANES 16
#define SDK_PAIRS
#include "kernels/cpu/attention-body.h"

const struct sdk_attention_kernels sdk_attention_avx512_bf16 = SDK_ATTENTION_KERNELS;
