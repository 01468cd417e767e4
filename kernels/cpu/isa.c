/*
 * Which of our loops this processor can run.
 */
#include "kernels/cpu/simd.h"

enum sdk_isa sdk_isa_pick(enum sdk_isa limit)
{
	enum sdk_isa best = SDK_ISA_BASE;

#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		best = SDK_ISA_AVX2;
	if (best == SDK_ISA_AVX2 && __builtin_cpu_supports("avx512f") &&
	    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		best = SDK_ISA_AVX512;
	if (best == SDK_ISA_AVX512 && __builtin_cpu_supports("avx512bf16"))
		best = SDK_ISA_AVX512_BF16;
#endif
	return best < limit ? best : limit;
}

const struct sdk_simd *sdk_simd_for(enum sdk_isa isa)
{
#if defined(__x86_64__)
	if (isa >= SDK_ISA_AVX512)
		return &sdk_simd_avx512;
	if (isa == SDK_ISA_AVX2)
		return &sdk_simd_avx2;
#endif
	return &sdk_simd_base;
}
