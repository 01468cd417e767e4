/*
 * From selections to rectangles: the formulas with numbers worked out by hand, the cases every implementation got wrong,
 * and what must hold for any selection on any canvas.
 */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "daemon/engine/geometry/plan.h"
#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/geometry/selection.h"

static const struct sde_model_range sd15 = {512, 768, 512 * 512, 512 * 768, 8};

static int make(struct sde_inpaint_plan *plan, uint32_t width, uint32_t height,
		struct sde_rect rect, const struct sde_inpaint_options *options,
		struct sde_error *error)
{
	const struct sde_selection selection = {NULL, rect};
	struct sde_inpaint_options defaults;

	sde_inpaint_options_init(&defaults);
	return sde_inpaint_plan_init(plan, width, height, &selection, options ? options : &defaults,
				     &sd15, error);
}

static void assert_rect(struct sde_rect rect, int x, int y, int width, int height)
{
	assert_int_equal(rect.x, x);
	assert_int_equal(rect.y, y);
	assert_int_equal(rect.width, width);
	assert_int_equal(rect.height, height);
}

static void test_ranges(void **state)
{
	const struct sde_model_range a = sde_model_range(512, 512, 768);
	const struct sde_model_range b = sde_model_range(128, 0, 0);

	assert_int_equal(a.min_pixels, 512 * 512);
	assert_int_equal(a.max_pixels, 512 * 768);
	assert_int_equal(b.min_side, 128);
	assert_int_equal(b.max_side, 192);
	assert_int_equal(b.max_pixels, 128 * 192);
}

/* 300 x 400 has a diagonal of 500: F = max(50, 32), G = 4 + 25, B = min(25, 54), pad = 50 + 4 + 30. */
static void test_formulas_at_full_strength(void **state)
{
	struct sde_inpaint_plan plan;

	assert_int_equal(make(&plan, 2000, 1600, (struct sde_rect){800, 600, 300, 400}, NULL, NULL),
			 0);
	assert_int_equal(plan.feather, 50);
	assert_int_equal(plan.grow, 29);
	assert_int_equal(plan.blend, 25);
	/* 300 + 168 = 468 -> 480; 400 + 168 = 568 -> 576 */
	assert_rect(plan.result, 800 - 90, 600 - 88, 480, 576);
	/* P = max(2000/16, (480+576)/4) = 264; tall: pad_x 264, pad_y max(132, 264 - 48) = 216 */
	assert_rect(plan.context, 710 - 264, 512 - 216, 1008, 1008);
	assert_int_equal(plan.work_width, 624); /* sqrt(512 * 768) = 627, rounded to 8 */
	assert_int_equal(plan.work_height, 624);
	assert_int_equal(plan.fill, SDE_FILL_BLUR);
	assert_int_equal(plan.refine_width, 1008); /* the canvas' own pixels */
	assert_float_equal(plan.refine_strength, 0.4, 0);
}

static void test_partial_strength_sees_mask_bounds(void **state)
{
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;

	sde_inpaint_options_init(&options);
	options.strength = 0.5;
	assert_int_equal(
		make(&plan, 2000, 1600, (struct sde_rect){800, 600, 300, 400}, &options, NULL), 0);
	assert_int_equal(plan.feather, 25);
	assert_int_equal(plan.grow, 4 + 12);
	assert_int_equal(plan.blend, 25);
	assert_rect(plan.context, plan.result.x, plan.result.y, plan.result.width,
		    plan.result.height);
	assert_int_equal(plan.fill, SDE_FILL_ORIGINAL);
	options.strength = 0;
	assert_int_equal(
		make(&plan, 2000, 1600, (struct sde_rect){800, 600, 300, 400}, &options, NULL), 0);
	assert_int_equal(plan.feather, 0);
	assert_int_equal(plan.grow, 4);
	assert_int_equal(plan.blend, 4);
}

static void test_feather_zero_is_exact(void **state)
{
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;

	sde_inpaint_options_init(&options);
	options.feather = 0;
	assert_int_equal(make(&plan, 900, 900, (struct sde_rect){1, 1, 50, 50}, &options, NULL), 0);
	assert_int_equal(plan.feather + plan.grow + plan.blend, 0);
}

static void test_contexts_of_the_user(void **state)
{
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	struct sde_error error = {0};
	const struct sde_rect rect = {100, 100, 60, 60};

	sde_inpaint_options_init(&options);
	options.context = SDE_CONTEXT_IMAGE;
	assert_int_equal(make(&plan, 801, 603, rect, &options, NULL), 0);
	assert_rect(plan.context, 0, 0, 801, 603);
	options.context = SDE_CONTEXT_SELECTION;
	assert_int_equal(make(&plan, 801, 603, rect, &options, NULL), 0);
	assert_rect(plan.context, plan.result.x, plan.result.y, plan.result.width,
		    plan.result.height);
	options.context = SDE_CONTEXT_RECT;
	options.rect = (struct sde_rect){90, 90, 80, 80};
	assert_int_equal(make(&plan, 801, 603, rect, &options, NULL), 0);
	assert_rect(plan.context, 90, 90, 80, 80);
	/* ten pixels are left: the transition shrinks into them instead of being cut */
	assert_true(plan.grow + plan.feather / 2 <= 10);
	assert_true(plan.grow >= plan.feather / 2);
	assert_true(plan.blend <= plan.grow + plan.feather / 2);
	options.rect = (struct sde_rect){100, 100, 60, 60};
	assert_int_equal(make(&plan, 801, 603, rect, &options, NULL), 0);
	assert_int_equal(plan.grow + plan.feather + plan.blend, 0);
	options.rect = (struct sde_rect){101, 100, 60, 60};
	assert_int_equal(make(&plan, 801, 603, rect, &options, &error), -EINVAL);
	assert_non_null(strstr(error.message, "100,100 60 x 60"));
}

static void test_limit_protects(void **state)
{
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;

	sde_inpaint_options_init(&options);
	options.limit = (struct sde_rect){300, 200, 120, 400};
	assert_int_equal(
		make(&plan, 1000, 1000, (struct sde_rect){300, 300, 100, 100}, &options, NULL), 0);
	assert_true(sde_rect_contains(options.limit, plan.result));
	/* to the right, and a pixel in which it has ended; the left side is cut */
	assert_int_equal(plan.grow + plan.feather / 2, 19);
	options.limit.width = 99;
	assert_int_equal(
		make(&plan, 1000, 1000, (struct sde_rect){300, 300, 100, 100}, &options, NULL),
		-EINVAL);
}

static void test_errors_say_what(void **state)
{
	struct sde_image mask = grey_image(40, 30), copy;
	struct sde_selection selection = {&mask, {0, 0, 0, 0}};
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan = {.work_width = 3};
	struct sde_error error = {0};

	sde_inpaint_options_init(&options);
	assert_int_equal(sde_inpaint_plan_init(&plan, 40, 30, &selection, &options, &sd15, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "nothing is selected"));
	((uint8_t *)mask.data)[7] = 1;
	assert_int_equal(sde_inpaint_plan_init(&plan, 41, 30, &selection, &options, &sd15, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "40 x 30"));
	copy = mask;
	copy.stride = 1;
	selection.mask = &copy;
	assert_int_equal(sde_inpaint_plan_init(&plan, 40, 30, &selection, &options, &sd15, &error),
			 -EINVAL);
	assert_int_equal(make(&plan, 0, 30, (struct sde_rect){0, 0, 9, 9}, NULL, &error), -EINVAL);
	assert_int_equal(make(&plan, 1u << 31, 30, (struct sde_rect){0, 0, 9, 9}, NULL, &error),
			 -EINVAL);
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){0, 0, 0, 9}, NULL, &error), -EINVAL);
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){40, 0, 9, 9}, NULL, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "wholly outside"));
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){-9, 0, 9, 9}, NULL, &error),
			 -EINVAL);
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){INT32_MAX, INT32_MIN, INT32_MAX, 9},
			      NULL, &error),
			 -EINVAL);
	options.strength = NAN;
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){0, 0, 9, 9}, &options, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "strength"));
	sde_inpaint_options_init(&options);
	options.feather = 1.5;
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){0, 0, 9, 9}, &options, &error),
			 -EINVAL);
	sde_inpaint_options_init(&options);
	options.grow = UINT32_MAX;
	assert_int_equal(make(&plan, 40, 30, (struct sde_rect){0, 0, 9, 9}, &options, &error),
			 -EINVAL);
	assert_int_equal(plan.work_width, 3);
	sde_image_clear(&mask);
}

static void test_masks_of_every_kind_have_bounds(void **state)
{
	for (uint32_t channels = 1; channels <= 4; channels++)
		for (int type = SDE_PIXEL_U8; type <= SDE_PIXEL_F32; type++) {
			static const float full[4] = {1, 1, 1, 1};
			struct sde_image mask;
			struct sde_rect bounds;

			assert_int_equal(sde_image_new(50, 40, channels, (enum sde_pixel_type)type,
						       &mask, NULL),
					 0);
			assert_int_equal(sde_selection_bounds(&mask, &bounds, NULL), -EINVAL);
			sde_row_from_float(&mask, 49, 39, 1, full);
			assert_int_equal(sde_selection_bounds(&mask, &bounds, NULL), 0);
			assert_rect(bounds, 49, 39, 1, 1);
			sde_row_from_float(&mask, 0, 12, 1, full);
			assert_int_equal(sde_selection_bounds(&mask, &bounds, NULL), 0);
			assert_rect(bounds, 0, 12, 50, 28);
			sde_image_clear(&mask);
		}
}

/* The endless tail of a blurred float mask selects nothing; the least step of 8 bits does. */
static void test_faint_tail_is_outside(void **state)
{
	struct sde_image mask;
	struct sde_rect bounds;

	assert_int_equal(sde_image_new(20, 20, 1, SDE_PIXEL_F32, &mask, NULL), 0);
	for (int i = 0; i < 400; i++)
		((float *)mask.data)[i] = 1e-6f;
	((float *)mask.data)[5 * 20 + 6] = 1.0f / 255;
	assert_int_equal(sde_selection_bounds(&mask, &bounds, NULL), 0);
	assert_rect(bounds, 6, 5, 1, 1);
	sde_image_clear(&mask);
}

static void check_plan(const struct sde_inpaint_plan *plan, const struct sde_model_range *range)
{
	const struct sde_rect canvas = {0, 0, (int32_t)plan->canvas_width,
					(int32_t)plan->canvas_height};

	assert_true(sde_rect_contains(canvas, plan->context));
	assert_true(sde_rect_contains(plan->context, plan->result));
	assert_true(sde_rect_contains(plan->result, plan->selection.rect));
	assert_true(plan->work_width % 8 == 0 && plan->work_height % 8 == 0);
	assert_true(plan->work_width >= 8 && plan->work_height >= 8);
	assert_true(plan->work_width <= range->max_side && plan->work_height <= range->max_side);
	assert_true((uint64_t)plan->work_width * plan->work_height <= range->max_pixels);
	assert_true(plan->grow >= plan->feather / 2);
	assert_true(plan->blend <= plan->grow + plan->feather / 2);
	assert_true(plan->refine_width % 8 == 0 && plan->refine_height % 8 == 0);
	assert_true(!plan->refine_width == !plan->refine_height);
	assert_true(plan->fill != SDE_FILL_AUTO);
}

static void test_any_selection_on_any_canvas(void **state)
{
	static const uint32_t sides[] = {1, 2, 7, 8, 37, 100, 129, 512, 515, 1024, 4000, 262144};
	uint32_t random = 11;

	for (int i = 0; i < 20000; i++) {
		const uint32_t w = sides[random_below(&random, 12)];
		const uint32_t h = sides[random_below(&random, 12)];
		const struct sde_model_range range = i & 1 ? sd15 : sde_model_range(128, 128, 192);
		struct sde_selection selection = {0};
		struct sde_inpaint_options options;
		struct sde_inpaint_plan plan;

		sde_inpaint_options_init(&options);
		options.strength = random_below(&random, 11) / 10.0;
		options.feather = random_below(&random, 4) * 0.1;
		options.live = random_below(&random, 2);
		options.context = (enum sde_context)random_below(&random, 3);
		selection.rect.x = (int32_t)random_below(&random, w);
		selection.rect.y = (int32_t)random_below(&random, h);
		selection.rect.width = 1 + (int32_t)random_below(&random, 2 * w);
		selection.rect.height = 1 + (int32_t)random_below(&random, 2 * h);
		if (random_below(&random, 3) == 0) {
			selection.rect.x -= selection.rect.width - 1;
			selection.rect.y -= selection.rect.height - 1;
		}
		assert_int_equal(
			sde_inpaint_plan_init(&plan, w, h, &selection, &options, &range, NULL), 0);
		check_plan(&plan, &range);
		if (w >= 64 && h >= 64 && w < 5 * h && h < 5 * w && options.context == 0) {
			const double scale_x = (double)plan.work_width / plan.context.width;
			const double scale_y = (double)plan.work_height / plan.context.height;

			/* rounding to 8 of a side of 64 or more moves it by 1/16 at most */
			if (plan.context.width < 3 * plan.context.height &&
			    plan.context.height < 3 * plan.context.width)
				assert_true(scale_x / scale_y < 1.14 && scale_y / scale_x < 1.14);
		}
	}
}

/* A small model must not see a small selection on a huge canvas as a speck. */
static void test_small_model_on_a_huge_canvas(void **state)
{
	const struct sde_model_range range = sde_model_range(128, 128, 192);
	const struct sde_selection selection = {NULL, {4000, 3000, 64, 64}};
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;

	sde_inpaint_options_init(&options);
	assert_int_equal(
		sde_inpaint_plan_init(&plan, 8000, 6000, &selection, &options, &range, NULL), 0);
	assert_true(plan.context.width <= 512);
	assert_true((double)plan.work_width / plan.context.width > 0.35);
}

static void test_whole_canvas_extends_edges(void **state)
{
	struct sde_inpaint_plan plan;

	assert_int_equal(make(&plan, 640, 480, (struct sde_rect){-5, -5, 9999, 9999}, NULL, NULL),
			 0);
	assert_rect(plan.result, 0, 0, 640, 480);
	assert_rect(plan.context, 0, 0, 640, 480);
	assert_int_equal(plan.fill, SDE_FILL_EDGE);
	assert_int_equal(make(&plan, 640, 480, (struct sde_rect){0, 100, 640, 50}, NULL, NULL), 0);
	assert_int_equal(plan.fill, SDE_FILL_EDGE);
}

/* 20 px on 6400: mask bounds 256, P = 6400/16 = 400 > 128, so 1056 on a side. */
static void test_context_grows_with_the_canvas(void **state)
{
	struct sde_inpaint_plan plan;

	assert_int_equal(make(&plan, 6400, 6400, (struct sde_rect){3000, 3000, 20, 20}, NULL, NULL),
			 0);
	assert_rect(plan.result, 3010 - 128, 3010 - 128, 256, 256);
	assert_rect(plan.context, 3010 - 528, 3010 - 528, 1056, 1056);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_formulas_at_full_strength),
		cmocka_unit_test(test_partial_strength_sees_mask_bounds),
		cmocka_unit_test(test_feather_zero_is_exact),
		cmocka_unit_test(test_contexts_of_the_user),
		cmocka_unit_test(test_limit_protects),
		cmocka_unit_test(test_errors_say_what),
		cmocka_unit_test(test_masks_of_every_kind_have_bounds),
		cmocka_unit_test(test_faint_tail_is_outside),
		cmocka_unit_test(test_any_selection_on_any_canvas),
		cmocka_unit_test(test_small_model_on_a_huge_canvas),
		cmocka_unit_test(test_whole_canvas_extends_edges),
		cmocka_unit_test(test_context_grows_with_the_canvas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
