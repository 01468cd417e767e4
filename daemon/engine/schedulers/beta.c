/*
 * Inverse regularised incomplete beta function: see beta.h. I_x(a,b) by its continued fraction
 * (DLMF 8.17.22, evaluated by Lentz's method), inverted by Newton steps kept inside a shrinking
 * bracket, so that it always converges.
 */
#include "daemon/engine/schedulers/beta.h"

#include <math.h>

#define FRACTION_TERMS	   300
#define INVERSE_ITERATIONS 200
#define TINY		   1e-300

static double nonzero(double x)
{
	return fabs(x) < TINY ? TINY : x;
}

static double continued_fraction(double x, double a, double b)
{
	double c = 1, d = 1 / nonzero(1 - (a + b) * x / (a + 1)), f = d;

	for (int m = 1; m < FRACTION_TERMS; m++) {
		double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
		double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
		double delta;

		d = 1 / nonzero(1 + even * d);
		c = nonzero(1 + even / c);
		f *= c * d;
		d = 1 / nonzero(1 + odd * d);
		c = nonzero(1 + odd / c);
		delta = c * d;
		f *= delta;
		if (fabs(delta - 1) < 1e-16)
			break;
	}
	return f;
}

static double log_density(double x, double a, double b)
{
	return a * log(x) + b * log1p(-x) - (lgamma(a) + lgamma(b) - lgamma(a + b));
}

static double incomplete_beta(double x, double a, double b)
{
	double front = exp(log_density(x, a, b));

	/*
	 * the fraction converges fast on the near side of the mean; take the complement on the
	 * other
	 */
	if (x < (a + 1) / (a + b + 2))
		return front * continued_fraction(x, a, b) / a;
	return 1 - front * continued_fraction(1 - x, b, a) / b;
}

double sde_beta_ppf(double q, double a, double b)
{
	double low = 0, high = 1, x = 0.5;

	if (!(q > 0))
		return 0;
	if (q >= 1)
		return 1;
	for (int i = 0; i < INVERSE_ITERATIONS; i++) {
		double difference = incomplete_beta(x, a, b) - q;
		double slope = exp(log_density(x, a, b)) / (x * (1 - x));
		double next = x - difference / slope;

		if (difference > 0)
			high = x;
		else
			low = x;
		if (!(next > low && next < high))
			next = low + (high - low) / 2;
		if (next == x || high - low < 1e-16 * high)
			break;
		x = next;
	}
	return x;
}
