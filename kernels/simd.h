/*
 * Run-time choice of the instruction set for our own loops: the compiler makes an AVX-512, an AVX2 and a baseline version
 * of a function and the loader picks by the processor. Sanitizers do not get along with such resolvers.
 */
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) &&      \
	!defined(__clang__)
#define SDK_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SDK_CLONES
#endif
