/*
 * A backend that fails at its n-th call, for n = 1 to the last, in every kind of job: each time one error that says where,
 * an untouched result, and the next job on the same engine gives the same bytes as if nothing had been.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "kernels/backend.h"

/* Calls of a cold job, of which each costs a load of the model: every so manyth is enough. A prime visits all kinds of op. */
enum { COLD_STRIDE = 131 };

static int setup(void **state)
{
	*state = fixture_new(SDK_FAULTY_PREFIX "cpu", false, 40, 40);
	return 0;
}

static int run(const struct fixture *f, enum sde_job_kind kind, struct sde_result *ret_result,
	       struct sde_error *ret_error)
{
	const struct sde_job job = {
		.kind = kind,
		.prompt = "a cat",
		.seed = 7,
		.steps = 1,
		.guidance_scale = 1,
		.strength = 1,
		.count = 1,
		.width = 16,
		.height = 16,
		.image = kind == SDE_TXT2IMG ? NULL : &f->canvas,
		.has_select = true,
		.select_x = 12,
		.select_y = 12,
		.select_width = 8,
		.select_height = 8,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.color_match = true,
		.right = 8,
		.scale = 1.6,
	};

	*ret_error = (struct sde_error){0};
	return sde_job_run(f->model, &job, NULL, ret_result, ret_error);
}

static void assert_fails(const struct fixture *f, enum sde_job_kind kind, unsigned long n,
			 bool sticky)
{
	struct sde_result result, untouched;
	struct sde_error error;

	memset(&untouched, 0x5a, sizeof(untouched));
	result = untouched;
	sdk_faulty_arm(n, sticky);
	if (run(f, kind, &result, &error) != -EIO || error.code != -EIO || !error.message[0])
		fail_msg("kind %d, call %lu: code %d, \"%s\"", kind, n, error.code, error.message);
	assert_memory_equal(&result, &untouched, sizeof(result));
}

static void assert_paints(const struct fixture *f, enum sde_job_kind kind,
			  const struct sde_image *right)
{
	struct sde_result result;
	struct sde_error error;

	sdk_faulty_arm(0, false);
	if (run(f, kind, &result, &error) < 0)
		fail_msg("%s", error.message);
	assert_memory_equal(result.layers[0].image.data, right->data,
			    right->stride * right->height);
	sde_result_clear(&result);
}

static void test_every_call_of_every_kind(void **state)
{
	struct fixture *f = *state;

	for (int k = SDE_TXT2IMG; k <= SDE_UPSCALE; k++) {
		const enum sde_job_kind kind = (enum sde_job_kind)k;
		struct sde_result right;
		struct sde_error error;
		unsigned long cold, warm;

		sde_model_unref(f->model);
		f->model = fixture_load(f->engine, "sd15");
		sdk_faulty_arm(0, false);
		assert_int_equal(run(f, kind, &right, &error), 0);
		cold = sdk_faulty_calls();
		assert_paints(f, kind, &right.layers[0].image);
		warm = sdk_faulty_calls();
		assert_true(warm > 100 && cold > warm);
		for (unsigned long n = 1; n <= warm; n++) {
			assert_fails(f, kind, n, n % 2 == 0);
			if (n % 16 == 1 || n == warm)
				assert_paints(f, kind, &right.layers[0].image);
		}
		for (unsigned long n = 1; n <= cold; n += COLD_STRIDE) {
			sde_model_unref(f->model);
			f->model = fixture_load(f->engine, "sd15");
			assert_fails(f, kind, n, false);
			assert_paints(f, kind, &right.layers[0].image);
		}
		print_message("kind %d: %lu calls warm, %lu cold\n", k, warm, cold);
		sde_result_clear(&right);
	}
}

static void test_names(void **state)
{
	static const char *const wrong[] = {"faulty:",	     "faulty:gpu",
					    "faulty:ref@",   "faulty:ref@0",
					    "faulty:ref@3x", "faulty:a-name-that-is-too-long"};
	struct sdk_backend *backend;
	char text[256];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		text[0] = '\0';
		assert_int_equal(sdk_backend_open(&(struct sdk_backend_options){.name = wrong[i]},
						  &backend, text, sizeof(text)),
				 -EINVAL);
		assert_true(text[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_call_of_every_kind, setup, fixture_free),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
