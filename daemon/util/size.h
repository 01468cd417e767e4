/*
 * Checked arithmetic on sizes that come from files and peers. Each returns 0 or -EOVERFLOW and leaves *ret untouched
 * on overflow; never multiply such numbers with a bare `*`.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

static inline int sdd_size_add(size_t a, size_t b, size_t *ret)
{
	size_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return -EOVERFLOW;
	*ret = sum;
	return 0;
}

static inline int sdd_size_multiply(size_t a, size_t b, size_t *ret)
{
	size_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return -EOVERFLOW;
	*ret = product;
	return 0;
}

/* They stick at the maximum: for meters, statistics and what memory is judged by, where a wrong small number would be worse. */
static inline uint64_t sdd_u64_add_saturated(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline uint64_t sdd_u64_multiply_saturated(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}
