/*
 * The quantile function of the beta distribution, which `use_beta_sigmas` needs (diffusers takes
 * scipy's beta.ppf there).
 */
#pragma once

/*
 * x in [0,1] with I_x(a, b) = q: the inverse of the regularised incomplete beta function. a, b > 0;
 * q is clamped to [0, 1].
 */
double sde_beta_ppf(double q, double a, double b);
