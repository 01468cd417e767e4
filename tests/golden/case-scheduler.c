/*
 * kind "scheduler": tables, noising and a whole trajectory of one sampler with a fake denoiser, m =
 * tanh(0.7 x + 0.1 sin t). Between any two steps the sampler is thrown away and resumed from its
 * saved state, so every case also tests preemption.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/scheduler.h"
#include "tests/golden/golden.h"

#define LIST_MAX 1024

struct sampler {
	struct sde_scheduler_config config;
	struct sde_timesteps_request request;
	double timesteps[LIST_MAX], sigmas[LIST_MAX]; /* what request points to */
	struct sde_scheduler *scheduler;
	struct sde_step_args args;
	const float *noise; /* rows not yet drawn */
	size_t noise_left;  /* values */
};

static int draw(void *userdata, float *out, size_t n)
{
	struct sampler *s = userdata;

	if (s->noise_left < n)
		return -ENODATA;
	memcpy(out, s->noise, n * sizeof(*out));
	s->noise += n;
	s->noise_left -= n;
	return 0;
}

static size_t read_list(const json_t *list, double values[LIST_MAX])
{
	size_t n = json_array_size(list) < LIST_MAX ? json_array_size(list) : LIST_MAX;

	for (size_t i = 0; i < n; i++)
		values[i] = json_number_value(json_array_get(list, i));
	return n;
}

static void read_request(struct golden_case *c, struct sampler *s)
{
	const json_t *kwargs = golden_param(c, "set_timesteps_kwargs"), *mu;

	s->request.num_inference_steps = (int)golden_param_int(c, "num_inference_steps", 0);
	mu = json_object_get(kwargs, "mu");
	s->request.has_mu = json_is_number(mu);
	s->request.mu = json_number_value(mu);
	s->request.strength = json_number_value(json_object_get(kwargs, "strength"));
	s->request.original_inference_steps =
		(int)json_integer_value(json_object_get(kwargs, "original_inference_steps"));
	s->request.n_timesteps = read_list(json_object_get(kwargs, "timesteps"), s->timesteps);
	s->request.n_sigmas = read_list(json_object_get(kwargs, "sigmas"), s->sigmas);
	s->request.timesteps = s->request.n_timesteps ? s->timesteps : NULL;
	s->request.sigmas = s->request.n_sigmas ? s->sigmas : NULL;
}

static void read_kwarg(const json_t *kwargs, const char *key, double *ret)
{
	const json_t *value = json_object_get(kwargs, key);

	if (json_is_number(value))
		*ret = json_number_value(value);
}

static void read_step_args(struct golden_case *c, struct sampler *s)
{
	const json_t *kwargs = golden_param(c, "step_kwargs"), *value;
	const struct golden_tensor *noise = golden_find(c, "noise");

	s->args = SDE_STEP_ARGS_INIT;
	s->args.noise = draw;
	s->args.userdata = s;
	if (s->config.class_id == SDE_SCHEDULER_TCD)
		s->args.eta = 0.3; /* the class's own default */
	read_kwarg(kwargs, "eta", &s->args.eta);
	read_kwarg(kwargs, "s_churn", &s->args.s_churn);
	read_kwarg(kwargs, "s_tmin", &s->args.s_tmin);
	read_kwarg(kwargs, "s_tmax", &s->args.s_tmax);
	read_kwarg(kwargs, "s_noise", &s->args.s_noise);
	value = json_object_get(kwargs, "order");
	if (json_is_integer(value))
		s->args.lms_order = (int)json_integer_value(value);
	s->args.use_clipped_model_output =
		json_is_true(json_object_get(kwargs, "use_clipped_model_output"));
	if (noise && noise->f32) {
		s->noise = noise->f32;
		s->noise_left = noise->count;
	}
}

static int create(struct sampler *s, struct sde_scheduler **ret, struct sde_error *error)
{
	int r = sde_scheduler_new(&s->config, ret, error);

	if (r < 0)
		return r;
	r = sde_scheduler_set_timesteps(*ret, &s->request, error);
	if (r < 0)
		*ret = sde_scheduler_free(*ret);
	return r;
}

static int preempt(struct sampler *s, struct sde_error *error)
{
	size_t size = sde_scheduler_state_size(s->scheduler);
	struct sde_scheduler *resumed;
	void *state = malloc(size);
	int r = state ? sde_scheduler_state_save(s->scheduler, state, size) : -ENOMEM;

	if (r == 0)
		r = create(s, &resumed, error);
	if (r == 0) {
		sde_scheduler_free(s->scheduler);
		s->scheduler = resumed;
		r = sde_scheduler_state_load(resumed, state, size, error);
	}
	free(state);
	return r;
}

static void expect_timesteps(struct golden_case *c, const struct sampler *s)
{
	size_t n;
	const double *timesteps = sde_scheduler_timesteps(s->scheduler, &n);
	int32_t *integers = calloc(n, sizeof(*integers));
	float *floats = calloc(n, sizeof(*floats));

	if (!integers || !floats)
		abort();
	for (size_t i = 0; i < n; i++) {
		floats[i] = (float)timesteps[i];
		integers[i] = (int32_t)lrint(timesteps[i]);
	}
	if (sde_scheduler_timesteps_are_integers(s->scheduler))
		golden_expect_i32(c, "timesteps", integers, GOLDEN_SHAPE((int64_t)n));
	else
		golden_expect_f32(c, "timesteps", floats, GOLDEN_SHAPE((int64_t)n));
	free(integers);
	free(floats);
}

static void expect_tables(struct golden_case *c, const struct sampler *s)
{
	size_t n, n_alphas;
	const float *sigmas = sde_scheduler_sigmas(s->scheduler, &n);
	const float *alphas = sde_scheduler_alphas_cumprod(s->scheduler, &n_alphas);
	float init = sde_scheduler_init_noise_sigma(s->scheduler);

	expect_timesteps(c, s);
	if (sigmas)
		golden_expect_f32(c, "sigmas", sigmas, GOLDEN_SHAPE((int64_t)n));
	golden_expect_f32(c, "init_noise_sigma", &init, GOLDEN_SHAPE(1));
	if (n_alphas >= 1000) {
		const float four[4] = {alphas[0], alphas[500], alphas[998], alphas[999]};

		golden_expect_f32(c, "alphas_cumprod_0_500_998_999", four, GOLDEN_SHAPE(4));
	}
	if (golden_param_int(c, "order", 1) != sde_scheduler_order(s->scheduler))
		golden_fail(c, "order is %d", sde_scheduler_order(s->scheduler));
}

static int expect_add_noise(struct golden_case *c, const struct sampler *s, size_t n,
			    struct sde_error *error)
{
	const struct golden_tensor *want = golden_find(c, "add_noise"), *clean, *noise, *index;
	float *rows;
	int r = 0;

	if (!want)
		return 0;
	clean = golden_input_f32(c, "clean");
	noise = golden_input_f32(c, "add_noise_noise");
	index = golden_input_i32(c, "add_noise_index");
	if (!clean || !noise || !index || clean->count != n || noise->count != n)
		return sde_error_set(error, -EINVAL, "inputs of add_noise do not fit");
	rows = calloc(index->count * n, sizeof(*rows));
	if (!rows)
		abort();
	for (size_t i = 0; r == 0 && i < index->count; i++)
		r = sde_scheduler_add_noise(s->scheduler, clean->f32, noise->f32, rows + i * n, n,
					    (size_t)index->i32[i], error);
	if (r == 0) {
		golden_expect_f32(c, "add_noise", rows, want->rank, want->shape);
		golden_expect_i32(c, "add_noise_index", index->i32, index->rank, index->shape);
	}
	free(rows);
	return r;
}

/* x: row 0 in, then one row a step */
static int trajectory(struct golden_case *c, struct sampler *s, size_t n, size_t begin, size_t runs,
		      float *x, float *scaled, int32_t *draws, struct sde_error *error)
{
	float *output = calloc(n, sizeof(*output));
	size_t count;
	int r = output ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < runs; i++, x += n, scaled += n) {
		double t = sde_scheduler_timesteps(s->scheduler, &count)[begin + i];
		float shift = (float)(0.1 * sin(t));

		sde_scheduler_scale_model_input(s->scheduler, x, scaled, n);
		for (size_t k = 0; k < n; k++)
			output[k] = tanhf(0.7f * scaled[k] + shift);
		draws[i] = sde_scheduler_noise_draws(s->scheduler, &s->args);
		r = sde_scheduler_step(s->scheduler, output, x, x + n, n, &s->args, error);
		if (r == 0)
			r = preempt(s, error);
	}
	free(output);
	return r;
}

static int run_trajectory(struct golden_case *c, struct sampler *s, struct sde_error *error)
{
	const struct golden_tensor *x = golden_input_f32(c, "x");
	const struct golden_tensor *want = golden_input_f32(c, "trajectory");
	size_t begin = (size_t)golden_param_int(c, "begin_index", 0), n, runs, count;
	float *rows, *scaled;
	int32_t *draws;
	int r = 0;

	if (!x || !want)
		return -EINVAL;
	n = x->count;
	s->args.batch = (size_t)x->shape[0];
	sde_scheduler_timesteps(s->scheduler, &count);
	r = expect_add_noise(c, s, n, error);
	if (r < 0 || begin >= count)
		return r < 0 ? r : sde_error_set(error, -EINVAL, "begin_index past the end");
	runs = count - begin;
	rows = calloc((runs + 1) * n, sizeof(*rows));
	scaled = calloc(runs * n, sizeof(*scaled));
	draws = calloc(runs, sizeof(*draws));
	if (!rows || !scaled || !draws)
		abort();
	for (size_t i = 0; i < n; i++)
		rows[i] = x->f32[i] * sde_scheduler_init_noise_sigma(s->scheduler);
	if (begin) {
		r = sde_scheduler_set_begin_index(s->scheduler, begin, error);
		if (r == 0)
			r = sde_scheduler_add_noise(s->scheduler, golden_find(c, "clean")->f32,
						    golden_find(c, "add_noise_noise")->f32, rows, n,
						    begin, error);
	}
	if (r == 0)
		r = trajectory(c, s, n, begin, runs, rows, scaled, draws, error);
	if (r == 0) {
		int64_t shape[SDE_TENSOR_RANK_MAX];

		memcpy(shape, want->shape, sizeof(shape));
		shape[0] = (int64_t)runs;
		golden_expect_f32(c, "scaled_input", scaled, want->rank, shape);
		shape[0] = (int64_t)runs + 1;
		golden_expect_f32(c, "trajectory", rows, want->rank, shape);
		golden_expect_i32(c, "noise_draws_per_step", draws, GOLDEN_SHAPE((int64_t)runs));
	}
	free(rows);
	free(scaled);
	free(draws);
	return r;
}

int golden_scheduler(struct golden_case *c)
{
	struct sampler s = {0};
	struct sde_error error = {0};
	int r = sde_scheduler_config_from_name(golden_param_string(c, "class", ""),
					       golden_param(c, "config"), &s.config, &error);

	if (r < 0)
		return golden_fail_error(c, "config", &error);
	read_request(c, &s);
	read_step_args(c, &s);
	r = create(&s, &s.scheduler, &error);
	if (r == 0) {
		expect_tables(c, &s);
		r = run_trajectory(c, &s, &error);
	}
	sde_scheduler_free(s.scheduler);
	sde_scheduler_config_clear(&s.config);
	return r < 0 ? golden_fail_error(c, "scheduler", &error) : GOLDEN_PASS;
}
