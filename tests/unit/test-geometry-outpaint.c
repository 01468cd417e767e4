/*
 * Growing a canvas: every new pixel is made exactly once, in an order in which each step sees only finished picture, in
 * steps the model can continue; the old picture keeps its bytes beyond the seam.
 */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/outpaint.h"
#include "daemon/engine/geometry/rect.h"

static void test_steps_cover_in_order(void **state)
{
	uint32_t random = 41;

	for (int round = 0; round < 60; round++) {
		const struct sde_model_range range = sde_model_range(128, 128, 192);
		const uint32_t w = 1 + random_below(&random, 400),
			       h = 1 + random_below(&random, 400);
		const struct sde_outpaint_options options = {
			.left = random_below(&random, 3) * random_below(&random, 90),
			.right = random_below(&random, 2) * random_below(&random, 90),
			.top = random_below(&random, 3) * random_below(&random, 90),
			.bottom = 1 + random_below(&random, 90),
			.step = random_below(&random, 2) * 24,
		};
		struct sde_outpaint o;
		uint8_t *made;

		assert_int_equal(sde_outpaint_init(&o, w, h, &options, &range, NULL), 0);
		made = calloc(o.width, o.height);
		for (uint32_t y = 0; y < h; y++)
			memset(made + (size_t)(o.top + y) * o.width + o.left, 1, w);
		for (uint32_t i = 0; i < o.count; i++) {
			const struct sde_outpaint_step *s = &o.steps[i];
			const int32_t depth =
				s->hole.width < s->hole.height ? s->hole.width : s->hole.height;

			assert_true(sde_rect_contains(s->context, s->mask));
			assert_true(sde_rect_contains(s->mask, s->hole));
			assert_true(s->context.width <= 128 && s->context.height <= 128);
			assert_true(depth <= (options.step ? 24 : 32));
			if (i > 0) { /* a strip's later windows see a quarter of what it has made */
				const struct sde_rect last = o.steps[i - 1].hole;

				if (last.x == s->hole.x && last.width == s->hole.width &&
				    last.y + last.height == s->hole.y)
					assert_true(s->hole.y - s->context.y >= 32);
			}
			for (int32_t y = s->hole.y; y < s->hole.y + s->hole.height; y++)
				for (int32_t x = s->hole.x; x < s->hole.x + s->hole.width; x++)
					assert_int_equal(made[(size_t)y * o.width + (size_t)x]++,
							 0);
			for (int32_t y = s->context.y; y < s->context.y + s->context.height; y++)
				for (int32_t x = s->context.x; x < s->context.x + s->context.width;
				     x++)
					assert_int_equal(made[(size_t)y * o.width + (size_t)x], 1);
		}
		for (size_t i = 0; i < (size_t)o.width * o.height; i++)
			assert_int_equal(made[i], 1);
		free(made);
		sde_outpaint_clear(&o);
	}
}

/* All steps with a model that paints one colour. */
/* Where a step reaches into finished picture, its layer begins with next to nothing: no line is seen there. */
static void assert_starts_soft(const struct sde_outpaint_step *step, const struct sde_image *part)
{
	const uint32_t x = step->mask.x < step->hole.x ? 0 : part->width - 1;
	float p[4];

	if (step->mask.width == step->hole.width)
		return;
	sde_row_to_float(part, x, part->height / 2, 1, p);
	assert_true(p[3] < 0.1f);
}

static void test_growth_end_to_end(void **state)
{
	for (uint32_t channels = 1; channels <= 4; channels++)
		for (int type = SDE_PIXEL_U8; type <= SDE_PIXEL_F32; type++) {
			const struct sde_model_range range = sde_model_range(64, 64, 96);
			const struct sde_outpaint_options growth = {
				.left = 21, .right = 40, .bottom = 9};
			struct sde_image canvas =
				random_image(6, 80, 70, channels, (enum sde_pixel_type)type);
			struct sde_image extended, merged;
			struct sde_inpaint_options options;
			struct sde_outpaint o;
			struct sde_layer layer;
			const size_t pixel = sde_image_pixel_size(&canvas);

			for (uint32_t y = 0; y < 70 && channels % 2 == 0; y++)
				for (uint32_t x = 0; x < 80; x++) {
					float p[4];

					sde_row_to_float(&canvas, x, y, 1, p);
					p[channels - 1] = 1;
					sde_row_from_float(&canvas, x, y, 1, p);
				}
			sde_inpaint_options_init(&options);
			options.color_match = false;
			assert_int_equal(sde_outpaint_init(&o, 80, 70, &growth, &range, NULL), 0);
			assert_int_equal(sde_outpaint_extend(&o, &canvas, &extended, NULL), 0);
			for (uint32_t i = 0; i < o.count; i++) {
				struct sde_inpaint_plan plan;
				struct sde_inpaint_work work;
				struct sde_layer part;

				assert_int_equal(sde_outpaint_step_plan(&o, i, &options, &range,
									&plan, NULL),
						 0);
				assert_true(sde_rect_contains(o.steps[i].mask, plan.result));
				assert_true(plan.grow > 0); /* the seam is blended */
				assert_int_equal(sde_inpaint_prepare(&plan, &extended, &work, NULL),
						 0);
				for (size_t k = 0; k < (size_t)work.width * work.height * 3; k++)
					work.image[k] = 0.5f;
				assert_int_equal(sde_inpaint_finish(&plan, &work, work.image,
								    &extended, &part, NULL),
						 0);
				assert_starts_soft(&o.steps[i], &part.image);
				assert_int_equal(sde_layer_over_canvas(&part, &extended, NULL), 0);
				sde_image_clear(&part.image);
				sde_inpaint_work_clear(&work);
			}
			for (uint32_t y = 0; y < o.height; y++)
				for (uint32_t x = 0; x < o.width; x++) {
					const uint32_t old_x = x - o.left, old_y = y - o.top;
					float p[4];

					sde_row_to_float(&extended, x, y, 1, p);
					assert_true(p[extended.channels - 1] == 1.0f);
					if (old_x >= 80 || old_y >= 70)
						assert_float_equal(p[0], 0.75, 0.003);
					else if (old_x >= o.overlap && old_x < 80 - o.overlap &&
						 old_y < 70 - o.overlap)
						assert_memory_equal(
							(char *)sde_image_row(&extended, y) +
								x * sde_image_pixel_size(&extended),
							(char *)sde_image_row(&canvas, old_y) +
								old_x * pixel,
							pixel);
				}
			assert_int_equal(sde_outpaint_layer(&o, &extended, &canvas, &layer, NULL),
					 0);
			assert_int_equal(layer.x, -21);
			assert_int_equal(layer.y, 0);
			/* over an extended canvas the layer gives the grown picture, byte for byte */
			assert_int_equal(sde_outpaint_extend(&o, &canvas, &merged, NULL), 0);
			layer.x = layer.y = 0;
			assert_int_equal(sde_layer_over_canvas(&layer, &merged, NULL), 0);
			assert_memory_equal(merged.data, extended.data,
					    merged.stride * merged.height);
			sde_image_clear(&merged);
			sde_image_clear(&layer.image);
			sde_image_clear(&extended);
			sde_outpaint_clear(&o);
			sde_image_clear(&canvas);
		}
}

static void test_errors(void **state)
{
	const struct sde_model_range range = sde_model_range(128, 128, 192);
	struct sde_outpaint_options options = {0};
	struct sde_inpaint_options inpaint;
	struct sde_inpaint_plan plan;
	struct sde_outpaint o = {.width = 5};
	struct sde_image canvas = random_image(1, 30, 30, 3, SDE_PIXEL_U8), extended;
	struct sde_error error = {0};

	assert_int_equal(sde_outpaint_init(&o, 30, 30, &options, &range, &error), -EINVAL);
	assert_non_null(strstr(error.message, "nothing to grow"));
	options.left = UINT32_MAX;
	options.right = UINT32_MAX;
	assert_int_equal(sde_outpaint_init(&o, 30, 30, &options, &range, &error), -EINVAL);
	assert_int_equal(sde_outpaint_init(&o, 0, 30, &options, &range, &error), -EINVAL);
	options = (struct sde_outpaint_options){.top = 5, .overlap = 9999};
	assert_int_equal(sde_outpaint_init(&o, 30, 30, &options, &range, &error), -EINVAL);
	assert_int_equal(o.width, 5);
	options.overlap = 0;
	assert_int_equal(sde_outpaint_init(&o, 30, 30, &options, &range, &error), 0);
	sde_inpaint_options_init(&inpaint);
	assert_int_equal(sde_outpaint_step_plan(&o, o.count, &inpaint, &range, &plan, &error),
			 -EINVAL);
	canvas.width = 29;
	assert_int_equal(sde_outpaint_extend(&o, &canvas, &extended, &error), -EINVAL);
	sde_image_clear(&canvas);
	sde_outpaint_clear(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps_cover_in_order),
		cmocka_unit_test(test_growth_end_to_end),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
