/*
 * Every sampler class against diffusers 0.42.1 (torch 2.15, CPU): the expected numbers below come
 * from the real library run on the same start (torch's generator, seed 7), the same fake denoiser
 * and the same noise. Then what the golden cases cannot show: resuming from saved state at every
 * step, in-place steps, and the errors.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/engine/error.h"
#include "daemon/engine/rng.h"
#include "daemon/engine/scheduler.h"

#define N	    16
#define STEPS	    6
#define TOLERANCE   2e-4f /* float32 in another order of summation, relative to values up to 20 */
#define T_TOLERANCE 2e-3f

/* six steps of each class; second_timestep and the first four values at the end are diffusers' */
static const struct sampler_case {
	const char *class_name, *config; /* JSON with ' for " */
	double eta, s_churn;
	size_t calls;
	float second_timestep;
	float end[4];
} cases[] = {
	{"DDIMScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'clip_sample': false, "
	 "'set_alpha_to_one': false, 'steps_offset': 1}",
	 0.5,
	 0.0,
	 6,
	 665.0f,
	 {-2.74718523f, 0.235577777f, 2.94129992f, -2.02141523f}},
	{"DDIMInverseScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'clip_sample': false, "
	 "'set_alpha_to_one': false, 'steps_offset': 1}",
	 0.0,
	 0.0,
	 6,
	 167.0f,
	 {-0.640298128f, 0.375043452f, 0.722497106f, -0.918279648f}},
	{"DDPMScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'thresholding': true, "
	 "'sample_max_value': 1.5}",
	 0.0,
	 0.0,
	 6,
	 664.0f,
	 {-0.590775013f, -0.0110692037f, 0.438541085f, 0.298876733f}},
	{"PNDMScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'skip_prk_steps': true, "
	 "'steps_offset': 1}",
	 0.0,
	 0.0,
	 7,
	 665.0f,
	 {-1.11293781f, 0.481235981f, 1.42764974f, -3.12004972f}},
	{"PNDMScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'skip_prk_steps': false, "
	 "'steps_offset': 1, 'prediction_type': 'v_prediction'}",
	 0.0,
	 0.0,
	 15,
	 748.0f,
	 {-0.243878946f, 0.130040556f, 0.299387872f, -0.451661795f}},
	{"LMSDiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'use_karras_sigmas': true}",
	 0.0,
	 0.0,
	 6,
	 837.120667f,
	 {-2.84457517f, 0.61772418f, 3.07421184f, -8.0391798f}},
	{"EulerDiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'timestep_spacing': 'leading', "
	 "'steps_offset': 1}",
	 0.0,
	 2.0,
	 6,
	 665.0f,
	 {-7.45262098f, 0.0621182397f, 7.73537302f, 0.610571802f}},
	{"EulerAncestralDiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'timestep_spacing': 'trailing', "
	 "'prediction_type': 'v_prediction', 'rescale_betas_zero_snr': true}",
	 0.0,
	 0.0,
	 6,
	 832.0f,
	 {-0.54053247f, 0.0893338025f, 0.0599590316f, 0.260607094f}},
	{"HeunDiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'use_exponential_sigmas': true}",
	 0.0,
	 0.0,
	 11,
	 756.512085f,
	 {-1.86416471f, 0.483856857f, 2.23518443f, -7.26363039f}},
	{"KDPM2DiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'use_karras_sigmas': true}",
	 0.0,
	 0.0,
	 11,
	 922.765137f,
	 {-1.8449986f, 0.733235598f, 2.73689699f, -7.0552125f}},
	{"KDPM2AncestralDiscreteScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear'}",
	 0.0,
	 0.0,
	 11,
	 799.200317f,
	 {-3.85702515f, -0.081689544f, 4.72750998f, -0.0783618465f}},
	{"DPMSolverSDEScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear'}",
	 0.0,
	 0.0,
	 11,
	 906.24657f,
	 {-5.49646282f, 0.384977639f, 6.48359966f, -0.305963516f}},
	{"DPMSolverMultistepScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'use_karras_sigmas': true}",
	 0.0,
	 0.0,
	 6,
	 837.0f,
	 {-2.22113323f, 0.477638185f, 2.37833595f, -7.53268909f}},
	{"DPMSolverMultistepScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'algorithm_type': 'sde-dpmsolver++', "
	 "'solver_order': 3}",
	 0.0,
	 0.0,
	 6,
	 832.0f,
	 {-8.55013847f, -0.0378217697f, 10.7987423f, 1.31213892f}},
	{"DPMSolverSinglestepScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'solver_order': 3, "
	 "'solver_type': 'heun'}",
	 0.0,
	 0.0,
	 6,
	 832.0f,
	 {-2.35622406f, 0.582466543f, 2.80141878f, -7.7123661f}},
	{"DEISMultistepScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'solver_order': 3}",
	 0.0,
	 0.0,
	 6,
	 832.0f,
	 {-2.614048f, 0.659289718f, 3.10650158f, -8.00748348f}},
	{"UniPCMultistepScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear', 'solver_order': 3, "
	 "'use_beta_sigmas': true}",
	 0.0,
	 0.0,
	 6,
	 977.0f,
	 {2.90935993f, 7.10538244f, 9.61832714f, -2.81103778f}},
	{"LCMScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear'}",
	 0.0,
	 0.0,
	 6,
	 839.0f,
	 {-4.11126947f, 0.1138504f, 5.22416353f, 0.310788095f}},
	{"TCDScheduler",
	 "{'beta_start': 0.00085, 'beta_end': 0.012, "
	 "'beta_schedule': 'scaled_linear'}",
	 0.3,
	 0.0,
	 6,
	 839.0f,
	 {-7.3837266f, 0.0622197278f, 9.07243347f, -0.406004697f}},
	{"FlowMatchEulerDiscreteScheduler",
	 "{'shift': 3.0}",
	 0.0,
	 0.0,
	 6,
	 923.342529f,
	 {-0.382734925f, 0.203212216f, 0.457692623f, -0.723118484f}},
	{"FlowMatchHeunDiscreteScheduler",
	 "{'shift': 3.0}",
	 0.0,
	 0.0,
	 11,
	 923.342529f,
	 {-0.430270135f, 0.197597921f, 0.469801813f, -0.77282989f}},
	{"IPNDMScheduler",
	 "{}",
	 0.0,
	 0.0,
	 6,
	 0.765660107f,
	 {-0.33908093f, 0.113370761f, 0.317317098f, -0.593789995f}},
};
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

struct run {
	struct sde_scheduler *scheduler;
	struct sde_rng rng;
	struct sde_step_args args;
	float x[N];
};

static json_t *parse(const char *quoted)
{
	char *text = strdup(quoted);
	json_t *object;

	assert_non_null(text);
	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	object = json_loads(text, 0, NULL);
	assert_non_null(object);
	free(text);
	return object;
}

static struct sde_scheduler *new_scheduler(const struct sampler_case *c)
{
	struct sde_timesteps_request request = {.num_inference_steps = STEPS};
	struct sde_scheduler_config config;
	struct sde_scheduler *scheduler;
	json_t *object = parse(c->config);

	assert_int_equal(sde_scheduler_config_from_name(c->class_name, object, &config, NULL), 0);
	assert_int_equal(sde_scheduler_new(&config, &scheduler, NULL), 0);
	assert_int_equal(sde_scheduler_set_timesteps(scheduler, &request, NULL), 0);
	sde_scheduler_config_clear(&config);
	json_decref(object);
	return scheduler;
}

static void run_begin(struct run *run, const struct sampler_case *c)
{
	run->scheduler = new_scheduler(c);
	run->args = SDE_STEP_ARGS_INIT;
	run->args.eta = c->eta;
	run->args.s_churn = c->s_churn;
	run->args.noise = sde_rng_noise;
	run->args.userdata = &run->rng;
	sde_rng_seed(&run->rng, SDE_RNG_TORCH_CPU, 7);
	sde_rng_randn(&run->rng, run->x, N);
	for (int i = 0; i < N; i++)
		run->x[i] *= sde_scheduler_init_noise_sigma(run->scheduler);
}

static void run_end(struct run *run)
{
	run->scheduler = sde_scheduler_free(run->scheduler);
}

/* the fake denoiser, then one step; in_place: 0 no, 1 over the sample, 2 over the model's output */
static void run_step(struct run *run, int in_place)
{
	float input[N], out[N];
	size_t n, index = sde_scheduler_step_index(run->scheduler);
	float shift = (float)(0.1 * sin(sde_scheduler_timesteps(run->scheduler, &n)[index]));
	float *to = in_place == 0 ? out : in_place == 1 ? run->x : input;

	sde_scheduler_scale_model_input(run->scheduler, run->x, input, N);
	for (int i = 0; i < N; i++)
		input[i] = tanhf(0.7f * input[i] + shift);
	assert_int_equal(sde_scheduler_step(run->scheduler, input, run->x, to, N, &run->args, NULL),
			 0);
	memmove(run->x, to, sizeof(run->x));
}

static void every_class_agrees_with_diffusers(void **state)
{
	for (size_t k = 0; k < N_CASES; k++) {
		struct run run;
		size_t calls;

		run_begin(&run, &cases[k]);
		assert_float_equal(sde_scheduler_timesteps(run.scheduler, &calls)[1],
				   cases[k].second_timestep, T_TOLERANCE);
		assert_int_equal(calls, cases[k].calls);
		for (size_t i = 0; i < calls; i++)
			run_step(&run, 0);
		for (int i = 0; i < 4; i++)
			assert_float_equal(run.x[i], cases[k].end[i], TOLERANCE);
		run_end(&run);
	}
}

/* replace the scheduler by a fresh one that loads the old one's state */
static void preempt(struct run *run, const struct sampler_case *c)
{
	size_t size = sde_scheduler_state_size(run->scheduler);
	struct sde_scheduler *resumed = new_scheduler(c);
	void *saved = malloc(size);

	assert_non_null(saved);
	assert_int_equal(sde_scheduler_state_save(run->scheduler, saved, size), 0);
	assert_int_equal(sde_scheduler_state_load(resumed, saved, size, NULL), 0);
	sde_scheduler_free(run->scheduler);
	run->scheduler = resumed;
	free(saved);
}

static void resumed_runs_are_bit_identical(void **state)
{
	for (size_t k = 0; k < N_CASES; k++) {
		float end[N];

		for (size_t split = 0; split <= cases[k].calls; split++) {
			struct run run;

			run_begin(&run, &cases[k]);
			for (size_t i = 0; i < cases[k].calls; i++) {
				/* split 0 is the uninterrupted run */
				if (split && i == split - 1)
					preempt(&run, &cases[k]);
				run_step(&run, 0);
			}
			if (split == 0)
				memcpy(end, run.x, sizeof(end));
			assert_memory_equal(run.x, end, sizeof(end));
			run_end(&run);
		}
	}
}

static void steps_may_be_in_place(void **state)
{
	for (size_t k = 0; k < N_CASES; k++) {
		float end[N];

		for (int in_place = 0; in_place < 3; in_place++) {
			struct run run;

			run_begin(&run, &cases[k]);
			for (size_t i = 0; i < cases[k].calls; i++)
				run_step(&run, in_place);
			if (in_place == 0)
				memcpy(end, run.x, sizeof(end));
			assert_memory_equal(run.x, end, sizeof(end));
			run_end(&run);
		}
	}
}

static int failing_noise(void *userdata, float *out, size_t n)
{
	return -ECANCELED;
}

static void a_failed_step_changes_nothing(void **state)
{
	const struct sampler_case *c = &cases[10]; /* DPM2 a: draws on every second call */
	struct sde_error error = {0};
	struct run run;
	float before[N];

	assert_string_equal(c->class_name, "KDPM2AncestralDiscreteScheduler");
	run_begin(&run, c);
	run_step(&run, 0);
	memcpy(before, run.x, sizeof(before));
	assert_int_equal(sde_scheduler_noise_draws(run.scheduler, &run.args), 1);
	run.args.noise = failing_noise;
	assert_int_equal(
		sde_scheduler_step(run.scheduler, before, run.x, run.x, N, &run.args, &error),
		-ECANCELED);
	run.args.noise = NULL;
	assert_int_equal(
		sde_scheduler_step(run.scheduler, before, run.x, run.x, N, &run.args, &error),
		-EINVAL);
	assert_non_null(strstr(error.message, "noise source"));
	assert_int_equal(
		sde_scheduler_step(run.scheduler, before, run.x, run.x, N - 1, &run.args, &error),
		-EINVAL);
	assert_memory_equal(run.x, before, sizeof(before));
	run.args.noise = sde_rng_noise;
	for (size_t i = 1; i < c->calls; i++)
		run_step(&run, 0);
	for (int i = 0; i < 4; i++)
		assert_float_equal(run.x[i], c->end[i], TOLERANCE);
	assert_int_equal(
		sde_scheduler_step(run.scheduler, before, run.x, run.x, N, &run.args, &error),
		-ERANGE);
	run_end(&run);
}

static void foreign_state_is_refused(void **state)
{
	struct sde_error error = {0};
	struct run euler, lms;
	size_t size;
	char *saved;

	run_begin(&lms, &cases[5]);
	run_begin(&euler, &cases[6]);
	run_step(&lms, 0);
	size = sde_scheduler_state_size(lms.scheduler);
	saved = malloc(size);
	assert_non_null(saved);
	assert_int_equal(sde_scheduler_state_save(lms.scheduler, saved, size), 0);
	assert_int_equal(sde_scheduler_state_load(euler.scheduler, saved, size, &error), -EBADMSG);
	for (size_t cut = 0; cut < size; cut++)
		assert_int_equal(sde_scheduler_state_load(lms.scheduler, saved, cut, &error),
				 -EBADMSG);
	assert_int_equal(sde_scheduler_step_index(lms.scheduler), 1);
	free(saved);
	run_end(&lms);
	run_end(&euler);
}

static void begin_index_starts_in_the_middle(void **state)
{
	struct run run;
	struct sde_error error = {0};
	float clean[N] = {0}, noise[N], out[N];
	const float *sigmas;
	size_t n;

	run_begin(&run, &cases[6]);
	sigmas = sde_scheduler_sigmas(run.scheduler, &n);
	assert_int_equal(n, STEPS + 1);
	for (int i = 0; i < N; i++)
		noise[i] = 1;
	assert_int_equal(sde_scheduler_set_begin_index(run.scheduler, STEPS, &error), -ERANGE);
	assert_int_equal(sde_scheduler_set_begin_index(run.scheduler, 2, &error), 0);
	assert_int_equal(sde_scheduler_add_noise(run.scheduler, clean, noise, out, N, 2, &error),
			 0);
	assert_float_equal(out[3], sigmas[2], 0);
	for (int i = 2; i < STEPS; i++)
		run_step(&run, 0);
	assert_int_equal(sde_scheduler_step_index(run.scheduler), STEPS);
	run_end(&run);
}

/* The prediction that a perfect denoiser would give for keep * clean + add * noise. */
static float perfect(const struct sde_scheduler_config *config, float keep, float add, float clean,
		     float noise)
{
	const float norm = sqrtf(keep * keep + add * add);

	if (config->class_id == SDE_SCHEDULER_FLOW_MATCH_EULER ||
	    config->class_id == SDE_SCHEDULER_FLOW_MATCH_HEUN ||
	    config->prediction_type == SDE_PREDICTION_FLOW)
		return noise - clean;
	if (config->prediction_type == SDE_PREDICTION_V)
		return (keep * noise - add * clean) / norm;
	return config->prediction_type == SDE_PREDICTION_SAMPLE ? clean : noise;
}

static void a_perfect_prediction_gives_the_clean_sample(void **state)
{
	size_t predicted = 0, types[4] = {0};

	for (size_t k = 0; k < N_CASES; k++) {
		const float one[2] = {1, 0}, other[2] = {0, 1};
		struct sde_error error = {0};
		float level[2], sample, output;
		struct run run;

		run_begin(&run, &cases[k]);
		for (size_t i = 1; i < cases[k].calls; i++) {
			const struct sde_scheduler_config *config =
				sde_scheduler_get_config(run.scheduler);

			if (sde_scheduler_add_noise(run.scheduler, one, other, level, 2, i,
						    &error) == -ENOTSUP)
				break;
			sample = level[0] * 0.7f + level[1] * -1.3f;
			output = perfect(config, level[0], level[1], 0.7f, -1.3f);
			assert_int_equal(sde_scheduler_predict_clean(run.scheduler, &output,
								     &sample, &output, 1, i,
								     &error),
					 0);
			assert_float_equal(output, 0.7f, 2e-3f);
			types[config->prediction_type]++;
			predicted++;
		}
		run_end(&run);
	}
	assert_true(predicted > 50);
	assert_true(types[SDE_PREDICTION_EPSILON] && types[SDE_PREDICTION_V]);
}

static void bad_requests_are_named(void **state)
{
	static const double rising[2] = {100, 500};
	struct sde_timesteps_request request = {0};
	struct sde_error error = {0};
	struct run run;

	run_begin(&run, &cases[2]); /* DDPM */
	assert_int_equal(sde_scheduler_set_timesteps(run.scheduler, &request, &error), -EINVAL);
	assert_string_equal(error.message, "number of steps is 0, must be 1..1000");
	request.num_inference_steps = 1001;
	assert_int_equal(sde_scheduler_set_timesteps(run.scheduler, &request, &error), -EINVAL);
	request = (struct sde_timesteps_request){.timesteps = rising, .n_timesteps = 2};
	assert_int_equal(sde_scheduler_set_timesteps(run.scheduler, &request, &error), -EINVAL);
	assert_non_null(strstr(error.message, "descending"));
	request = (struct sde_timesteps_request){.sigmas = rising, .n_sigmas = 2};
	assert_int_equal(sde_scheduler_set_timesteps(run.scheduler, &request, &error), -ENOTSUP);
	assert_non_null(strstr(error.message, "DDPMScheduler takes no custom sigmas"));
	run_end(&run);
	/* DDIM with steps_offset 1: timestep 1000 would be outside the table of 0..999 */
	run_begin(&run, &cases[0]);
	request = (struct sde_timesteps_request){.num_inference_steps = 1000};
	assert_int_equal(sde_scheduler_set_timesteps(run.scheduler, &request, &error), -EINVAL);
	assert_non_null(strstr(error.message, "timestep 1000 is outside"));
	run_end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_class_agrees_with_diffusers),
		cmocka_unit_test(resumed_runs_are_bit_identical),
		cmocka_unit_test(steps_may_be_in_place),
		cmocka_unit_test(a_failed_step_changes_nothing),
		cmocka_unit_test(foreign_state_is_refused),
		cmocka_unit_test(begin_index_starts_in_the_middle),
		cmocka_unit_test(a_perfect_prediction_gives_the_clean_sample),
		cmocka_unit_test(bad_requests_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
