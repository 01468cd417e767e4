/*
 * The square root of torch's vector library (MKL's, on the reference's AMD processor): an estimate
 * of 12 bits of 1 / sqrt(x), one coupled Newton step for both roots and a last correction, all in
 * float32 without fused operations. It is up to 0.75 units in the last place off, one of five not
 * correctly rounded; this form was found by comparing results and gives 96 % of them to the bit (the
 * estimate proper is a processor's table, here it is 12 correctly rounded bits). Samplers that
 * subtract nearly equal squares of sigmas turn such a unit into a percent: DPM2 a in 2 steps.
 */
#include "daemon/engine/schedulers/internal.h"

/* 1 / sqrt(x), x normal and > 0, with 12 bits of mantissa, below the next power of two */
static float estimate(float x)
{
	int exponent;
	double mantissa = frexp((double)x, &exponent);
	double root;

	if (exponent % 2) {
		mantissa /= 2;
		exponent++;
	}
	root = fmin(nearbyint(4096 / sqrt(mantissa)), 8191) / 4096;
	return (float)ldexp(root, -exponent / 2);
}

float sde_sched_sqrt(float x)
{
	float y, root, half, rest;

	if (!isnormal(x) || x < 0)
		return sqrtf(x);
	y = estimate(x);
	root = x * y;
	half = 0.5f * y;
	rest = 0.5f - half * root;
	root += root * rest;
	half += half * rest;
	rest = x - root * root;
	return root + rest * half;
}
