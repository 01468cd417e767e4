/*
 * The small functions around a sampling loop: kinds op_beta_ppf, op_timestep_embedding,
 * op_guidance_embedding, op_steps_table, op_flux_mu and interpolate.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/schedulers/beta.h"
#include "daemon/engine/schedulers/embeddings.h"
#include "daemon/engine/schedulers/steps.h"
#include "tests/golden/golden.h"

int golden_beta_ppf(struct golden_case *c)
{
	const struct golden_tensor *q = golden_input_f32(c, "q");
	double a = golden_param_double(c, "alpha", 0.6), b = golden_param_double(c, "beta", 0.6);
	float *x;

	if (!q)
		return GOLDEN_FAIL;
	x = golden_floats(q->count);
	for (size_t i = 0; i < q->count; i++)
		x[i] = (float)sde_beta_ppf(q->f32[i], a, b);
	golden_expect_f32(c, "x", x, q->rank, q->shape);
	free(x);
	return GOLDEN_PASS;
}

int golden_timestep_embedding(struct golden_case *c)
{
	const struct golden_tensor *t = golden_input_f32(c, "t");
	size_t dim = (size_t)golden_param_int(c, "dim", 0);
	bool flip = golden_param_bool(c, "flip_sin_to_cos", true);
	double shift = golden_param_double(c, "downscale_freq_shift", 0);
	double period = golden_param_double(c, "max_period", 10000);
	float *out;

	if (!t)
		return GOLDEN_FAIL;
	out = golden_floats(t->count * dim);
	sde_timestep_embedding(t->f32, t->count, dim, flip, shift, period, out);
	golden_expect_f32(c, "out", out, GOLDEN_SHAPE((int64_t)t->count, (int64_t)dim));
	sde_timestep_embedding(t->f32, t->count, dim, false, 1, period, out);
	golden_expect_f32(c, "out_noflip_shift1", out,
			  GOLDEN_SHAPE((int64_t)t->count, (int64_t)dim));
	free(out);
	return GOLDEN_PASS;
}

int golden_guidance_embedding(struct golden_case *c)
{
	const struct golden_tensor *w = golden_input_f32(c, "w");
	size_t dim = (size_t)golden_param_int(c, "dim", 0);
	float *out;

	if (!w)
		return GOLDEN_FAIL;
	out = golden_floats(w->count * dim);
	sde_guidance_embedding(w->f32, w->count, dim, golden_param_double(c, "scale", 1000), out);
	golden_expect_f32(c, "out", out, GOLDEN_SHAPE((int64_t)w->count, (int64_t)dim));
	free(out);
	return GOLDEN_PASS;
}

/*
 * the decimal number that was stored as a float32: 0.7f is meant as 0.7, of which 10 is 7 and not
 * 6.9999999
 */
static double decimal(float value)
{
	char text[32];

	snprintf(text, sizeof(text), "%.7g", value);
	return strtod(text, NULL);
}

int golden_steps_table(struct golden_case *c)
{
	const struct golden_tensor *want = golden_input_f32(c, "table");
	float *table;

	if (!want || want->rank != 2 || want->shape[1] != 6)
		return golden_fail(c, "table must have six columns");
	table = golden_floats(want->count);
	for (size_t i = 0; i < want->count; i += 6) {
		int n = (int)want->f32[i];
		double strength = decimal(want->f32[i + 1]);
		/* what the table says where the pipelines refuse: no step, all skipped */
		struct sde_steps_range sd = {n, 0}, flow = {n, 0};

		sde_steps_img2img(n, strength, &sd, NULL);
		sde_steps_img2img_flow(n, strength, &flow, NULL);
		table[i] = want->f32[i];
		table[i + 1] = want->f32[i + 1];
		table[i + 2] = (float)sd.run;
		table[i + 3] = (float)sd.start;
		table[i + 4] = (float)flow.start;
		table[i + 5] = (float)flow.run;
	}
	golden_expect_f32(c, "table", table, want->rank, want->shape);
	free(table);
	return GOLDEN_PASS;
}

int golden_flux_mu(struct golden_case *c)
{
	const json_t *lengths = golden_param(c, "seq");
	size_t n = json_array_size(lengths);
	float *mu = golden_floats(n);

	/* both outputs use FLUX.1's line, which is also the default */
	for (size_t i = 0; i < n; i++)
		mu[i] = (float)sde_flux_mu((int)json_integer_value(json_array_get(lengths, i)), 256,
					   4096, 0.5, 1.15);
	golden_expect_f32(c, "mu_defaults", mu, GOLDEN_SHAPE((int64_t)n));
	golden_expect_f32(c, "mu_dev", mu, GOLDEN_SHAPE((int64_t)n));
	free(mu);
	return GOLDEN_PASS;
}

int golden_interpolate(struct golden_case *c)
{
	const struct golden_tensor *a = golden_input_f32(c, "a"), *b = golden_input_f32(c, "b");
	const struct golden_tensor *near_b = golden_input_f32(c, "near_b");
	const struct golden_tensor *want = golden_input_f32(c, "lerp");
	const json_t *positions = golden_param(c, "t");
	size_t n_positions = json_array_size(positions);
	float *lerp, *slerp, *near;

	if (!a || !b || !near_b || !want || b->count != a->count || near_b->count != a->count ||
	    want->count != n_positions * a->count)
		return golden_fail(c, "a, b, near_b and t do not fit the output");
	lerp = golden_floats(want->count);
	slerp = golden_floats(want->count);
	near = golden_floats(want->count);
	for (size_t i = 0; i < n_positions; i++) {
		double t = json_number_value(json_array_get(positions, i));
		size_t at = i * a->count;

		sde_lerp(a->f32, b->f32, lerp + at, a->count, t);
		sde_slerp(a->f32, b->f32, slerp + at, a->count, t);
		sde_slerp(a->f32, near_b->f32, near + at, a->count, t);
	}
	golden_expect_f32(c, "lerp", lerp, want->rank, want->shape);
	golden_expect_f32(c, "slerp", slerp, want->rank, want->shape);
	golden_expect_f32(c, "slerp_near", near, want->rank, want->shape);
	free(lerp);
	free(slerp);
	free(near);
	return GOLDEN_PASS;
}
