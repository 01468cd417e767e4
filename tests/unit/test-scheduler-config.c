/*
 * Reading scheduler_config.json as diffusers folders have it, the names people give samplers, and
 * the pure arithmetic around a sampling loop (steps of img2img, guidance, interpolation,
 * embeddings).
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
#include "daemon/engine/scheduler.h"
#include "daemon/engine/schedulers/beta.h"
#include "daemon/engine/schedulers/embeddings.h"
#include "daemon/engine/schedulers/steps.h"

/* what Stable Diffusion 1.5 ships, with keys PNDM does not know */
static const char sd15[] = "{\"_class_name\": \"PNDMScheduler\", \"_diffusers_version\": \"0.6.0\","
			   "\"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","
			   "\"beta_start\": 0.00085, \"num_train_timesteps\": 1000,"
			   "\"set_alpha_to_one\": false, \"skip_prk_steps\": true,"
			   "\"steps_offset\": 1, \"trained_betas\": null, \"clip_sample\": false}";

static int from_json(const char *text, struct sde_scheduler_config *config, struct sde_error *error)
{
	json_t *object = json_loads(text, 0, NULL);
	int r;

	assert_non_null(object);
	r = sde_scheduler_config_from_json(object, config, error);
	json_decref(object);
	return r;
}

static int from_name(const char *name, const char *text, struct sde_scheduler_config *config,
		     struct sde_error *error)
{
	json_t *object = json_loads(text, 0, NULL);
	int r;

	assert_non_null(object);
	r = sde_scheduler_config_from_name(name, object, config, error);
	json_decref(object);
	return r;
}

static void sd15_config_is_read(void **state)
{
	struct sde_scheduler_config config;

	assert_int_equal(from_json(sd15, &config, NULL), 0);
	assert_int_equal(config.class_id, SDE_SCHEDULER_PNDM);
	assert_int_equal(config.beta_schedule, SDE_BETA_SCALED_LINEAR);
	assert_int_equal(config.timestep_spacing, SDE_SPACING_LEADING);
	assert_int_equal(config.steps_offset, 1);
	assert_true(config.skip_prk_steps);
	assert_false(config.set_alpha_to_one);
	assert_null(config.trained_betas);
	/* a number written as -Infinity reaches the parser as a string; null means the default */
	assert_int_equal(from_json("{\"_class_name\": \"DPMSolverMultistepScheduler\","
				   "\"lambda_min_clipped\": \"-Infinity\", \"sigma_max\": null}",
				   &config, NULL),
			 0);
	assert_true(isinf(config.lambda_min_clipped) && config.lambda_min_clipped < 0);
	assert_true(isnan(config.sigma_max));
}

static void senseless_values_are_named(void **state)
{
	struct sde_scheduler_config config = {.class_id = SDE_SCHEDULER_LCM};
	struct sde_scheduler *scheduler = NULL;
	struct sde_error error = {0};

	assert_int_equal(
		from_json("{\"_class_name\": \"DDIMScheduler\", \"beta_schedule\": \"cubic\"}",
			  &config, &error),
		-EINVAL);
	assert_non_null(strstr(error.message, "beta_schedule is \"cubic\""));
	assert_int_equal(from_json("{\"_class_name\": \"DDIMScheduler\", \"steps_offset\": true}",
				   &config, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "steps_offset"));
	assert_int_equal(from_json("{\"_class_name\": \"SASolverScheduler\"}", &config, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "SASolverScheduler"));
	assert_int_equal(config.class_id, SDE_SCHEDULER_LCM); /* untouched */
	assert_int_equal(from_json("{\"_class_name\": \"DDIMScheduler\","
				   "\"num_train_timesteps\": 1000000000}",
				   &config, NULL),
			 0);
	assert_int_equal(sde_scheduler_new(&config, &scheduler, &error), -EINVAL);
	assert_non_null(strstr(error.message, "num_train_timesteps"));
	assert_int_equal(
		from_json("{\"_class_name\": \"DDIMScheduler\", \"trained_betas\": [0.1, 0.2]}",
			  &config, NULL),
		0);
	assert_int_equal(sde_scheduler_new(&config, &scheduler, &error), -EINVAL);
	assert_non_null(strstr(error.message, "trained_betas has 2 values"));
	sde_scheduler_config_clear(&config);
	assert_null(scheduler);
}

/* -EINVAL from reading, making or tabulating the configuration; a scheduler that is made takes every step. */
static void refused(const char *text, const char *word)
{
	const struct sde_timesteps_request request = {.num_inference_steps = 5};
	__attribute__((cleanup(sde_scheduler_freep))) struct sde_scheduler *scheduler = NULL;
	struct sde_scheduler_config config = {0};
	struct sde_error error = {0};
	int r = from_json(text, &config, &error);

	if (r == 0)
		r = sde_scheduler_new(&config, &scheduler, &error);
	if (r == 0)
		r = sde_scheduler_set_timesteps(scheduler, &request, &error);
	sde_scheduler_config_clear(&config);
	assert_int_equal(r, -EINVAL);
	if (!strstr(error.message, word))
		fail_msg("'%s' does not name %s", error.message, word);
}

static void absurd_numbers_are_refused_before_a_step(void **state)
{
	refused("{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_start\": 1.5}",
		"beta_start is 1.5");
	refused("{\"_class_name\": \"DDIMScheduler\", \"beta_end\": -0.1}", "beta_end is -0.1");
	refused("{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 2,"
		"\"trained_betas\": [0.5, 7]}",
		"beta number 1 is 7");
	/* once an index beyond the sorted values */
	refused("{\"_class_name\": \"DDIMScheduler\", \"thresholding\": true,"
		"\"dynamic_thresholding_ratio\": 1e9}",
		"dynamic_thresholding_ratio");
	refused("{\"_class_name\": \"EulerDiscreteScheduler\", \"sigma_min\": -1}",
		"sigma_min is -1");
	refused("{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"shift\": 0}",
		"shift is 0");
	/* each in its range, yet log(0) * 0 */
	refused("{\"_class_name\": \"EulerDiscreteScheduler\", \"use_exponential_sigmas\": true,"
		"\"sigma_min\": 0}",
		"makes no noise schedule");
	refused("{\"_class_name\": \"LCMScheduler\", \"original_inference_steps\": -3}",
		"original_inference_steps is -3");
	refused("{\"_class_name\": \"DDIMScheduler\", \"steps_offset\": 4000000000}",
		"steps_offset");
	refused("{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_order\": 4}",
		"solver_order is 4");
}

static void people_s_names_work(void **state)
{
	static const char *const spellings[] = {"DPM++ 2M Karras", "dpm++ 2m karras",
						"DPM++2MKarras", "dpm++_2m_karras"};
	struct sde_scheduler_config config;
	struct sde_error error = {0};

	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(from_name(spellings[i], sd15, &config, NULL), 0);
		assert_int_equal(config.class_id, SDE_SCHEDULER_DPM_MULTISTEP);
		assert_true(config.use_karras_sigmas);
		assert_int_equal(config.algorithm_type, SDE_ALGORITHM_DPMSOLVER_PP);
		/* the model's schedule, the new class's defaults */
		assert_float_equal(config.beta_end, 0.012, 0);
		assert_int_equal(config.timestep_spacing, SDE_SPACING_LINSPACE);
	}
	assert_int_equal(from_name("Euler a", sd15, &config, NULL), 0);
	assert_int_equal(config.class_id, SDE_SCHEDULER_EULER_ANCESTRAL);
	assert_int_equal(from_name("EulerDiscreteScheduler", sd15, &config, NULL), 0);
	assert_int_equal(config.class_id, SDE_SCHEDULER_EULER);
	assert_int_equal(from_name("UniPC exponential", sd15, &config, NULL), 0);
	assert_true(config.use_exponential_sigmas);
	assert_int_equal(from_name("DDIM Karras", sd15, &config, &error), -EINVAL);
	assert_int_equal(from_name("Eular", sd15, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "Euler a"));
	for (size_t i = 0; sde_scheduler_name(i, NULL); i++) {
		enum sde_scheduler_class class_id;
		struct sde_scheduler *scheduler;
		const char *name = sde_scheduler_name(i, &class_id);

		assert_int_equal(from_name(name, sd15, &config, &error), 0);
		assert_int_equal(config.class_id, class_id);
		assert_int_equal(sde_scheduler_new(&config, &scheduler, &error), 0);
		sde_scheduler_free(scheduler);
	}
}

static void flow_models_get_flow_samplers(void **state)
{
	static const char sd3[] = "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\","
				  "\"shift\": 3.0}";
	struct sde_scheduler_config config;
	struct sde_error error = {0};

	assert_int_equal(from_name("Euler", sd3, &config, NULL), 0);
	assert_int_equal(config.class_id, SDE_SCHEDULER_FLOW_MATCH_EULER);
	assert_int_equal(from_name("DPM++ 2M", sd3, &config, NULL), 0);
	assert_true(config.use_flow_sigmas);
	assert_int_equal(config.prediction_type, SDE_PREDICTION_FLOW);
	assert_float_equal(config.flow_shift, 3, 0);
	assert_int_equal(from_name("Euler a", sd3, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "flow model"));
	assert_int_equal(from_name("Flow Euler", sd15, &config, &error), -EINVAL);
}

static void img2img_steps_truncate_like_python(void **state)
{
	struct sde_steps_range range = {-1, -1};
	struct sde_error error = {0};

	assert_int_equal(sde_steps_img2img(10, 0.55, &range, NULL), 0);
	assert_int_equal(range.run, 5);
	assert_int_equal(range.start, 5);
	assert_int_equal(sde_steps_img2img_flow(10, 0.55, &range, NULL), 0);
	assert_int_equal(range.start, 4); /* one step more than SD at the same strength */
	assert_int_equal(range.run, 6);
	assert_int_equal(sde_steps_img2img(20, 1, &range, NULL), 0);
	assert_int_equal(range.run, 20);
	range.run = -1;
	assert_int_equal(sde_steps_img2img(10, 0.05, &range, &error), -EINVAL);
	assert_non_null(strstr(error.message, "no step"));
	assert_int_equal(sde_steps_img2img(10, 1.5, &range, &error), -EINVAL);
	assert_int_equal(sde_steps_img2img(10, NAN, &range, &error), -EINVAL);
	assert_int_equal(range.run, -1);
}

static void denoising_range_splits_between_two_models(void **state)
{
	static const double timesteps[5] = {801, 601, 401, 201, 1};
	static const double interleaved[9] = {801, 601, 601, 401, 401, 201, 201, 1, 1};

	assert_int_equal(sde_steps_denoising_end(timesteps, 5, 1000, 0.6), 3);
	assert_int_equal(sde_steps_denoising_start(timesteps, 5, 1000, 0.6, 1), 3);
	/* 4 timesteps lie below 400: an even number, so the pair's other half is taken too */
	assert_int_equal(sde_steps_denoising_start(interleaved, 9, 1000, 0.6, 2), 4);
}

static void guidance_mixes_and_rescales(void **state)
{
	float pair[8] = {1, 2, 3, 4, 2, 2, 2, 8}, out[4], pred[4] = {2, 4, 6, 8};
	const float cond[4] = {1, 2, 3, 4};

	sde_guidance_apply(pair, out, 4, 3);
	assert_float_equal(out[0], 4, 0);
	assert_float_equal(out[1], 2, 0);
	assert_float_equal(out[2], 0, 0);
	assert_float_equal(out[3], 16, 0);
	sde_guidance_apply(pair, pair, 4, 3);
	assert_memory_equal(pair, out, sizeof(out));
	/* std(cond) is half of std(pred): phi 0.5 gives 0.5 * pred/2 + 0.5 * pred */
	sde_guidance_rescale(pred, cond, 1, 4, 0.5);
	assert_float_equal(pred[0], 1.5, 1e-6);
	assert_float_equal(pred[3], 6, 1e-6);
}

static void interpolations(void **state)
{
	const float a[2] = {1, 0}, b[2] = {0, 1}, near_a[2] = {1, 0.001f};
	float out[2];

	sde_slerp(a, b, out, 2, 0.5);
	assert_float_equal(out[0], sqrt(0.5), 1e-6);
	sde_lerp(a, b, out, 2, 0.25);
	assert_float_equal(out[0], 0.75, 0);
	sde_slerp(a, near_a, out, 2, 0.5);
	assert_float_equal(out[1], 0.0005, 1e-9);
}

static void beta_quantiles(void **state)
{
	assert_float_equal(sde_beta_ppf(0.5, 0.6, 0.6), 0.5, 1e-12);
	assert_float_equal(sde_beta_ppf(0, 0.6, 0.6), 0, 0);
	assert_float_equal(sde_beta_ppf(1, 0.6, 0.6), 1, 0);
	assert_float_equal(sde_beta_ppf(0.3, 1, 1), 0.3, 1e-12);       /* uniform */
	assert_float_equal(sde_beta_ppf(0.3, 2, 1), sqrt(0.3), 1e-12); /* x^2 */
	assert_float_equal(sde_beta_ppf(0.1, 0.6, 0.6) + sde_beta_ppf(0.9, 0.6, 0.6), 1, 1e-12);
}

static void embeddings_have_the_right_layout(void **state)
{
	const float t[1] = {1};
	float out[5];

	sde_timestep_embedding(t, 1, 5, true, 0, 10000, out);
	assert_float_equal(out[0], cosf(1), 1e-6);
	assert_float_equal(out[1], cosf(0.01f), 1e-6);
	assert_float_equal(out[2], sinf(1), 1e-6);
	assert_float_equal(out[3], sinf(0.01f), 1e-6);
	assert_float_equal(out[4], 0, 0);
	sde_guidance_embedding(t, 1, 4, 1000, out);
	assert_float_equal(out[0], sin(1000), 1e-4);
	assert_float_equal(out[2], cos(1000), 1e-4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sd15_config_is_read),
		cmocka_unit_test(senseless_values_are_named),
		cmocka_unit_test(absurd_numbers_are_refused_before_a_step),
		cmocka_unit_test(people_s_names_work),
		cmocka_unit_test(flow_models_get_flow_samplers),
		cmocka_unit_test(img2img_steps_truncate_like_python),
		cmocka_unit_test(denoising_range_splits_between_two_models),
		cmocka_unit_test(guidance_mixes_and_rescales),
		cmocka_unit_test(interpolations),
		cmocka_unit_test(beta_quantiles),
		cmocka_unit_test(embeddings_have_the_right_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
