/*
 * Only what a job looks at need travel: with pictures that hold no more of a canvas than its context (or a random part around
 * that), the geometry engine gives the same bytes as with the whole canvas, for any selection, type and options.
 */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/geometry/outpaint.h"
#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/geometry/selection.h"

enum { CASES = 200 };

struct answer {
	struct sde_inpaint_work work;
	struct sde_layer layer;
};

/* A blot somewhere, its values soft, some below what counts as selected. */
static struct sde_image random_mask(uint32_t *seed, uint32_t width, uint32_t height)
{
	const uint32_t x0 = random_below(seed, width), y0 = random_below(seed, height);
	const uint32_t w = 1 + random_below(seed, width - x0),
		       h = 1 + random_below(seed, height - y0);
	const enum sde_pixel_type type = random_below(seed, 2) ? SDE_PIXEL_U8 : SDE_PIXEL_F32;
	struct sde_image mask;

	assert_int_equal(sde_image_new(width, height, 1, type, &mask, NULL), 0);
	for (uint32_t y = y0; y < y0 + h; y++)
		for (uint32_t x = x0; x < x0 + w; x++) {
			const float value = (float)random_below(seed, 256) / 255.0f;

			sde_row_from_float(&mask, x, y, 1, &value);
		}
	for (uint32_t i = 0; i < 20 && type == SDE_PIXEL_F32; i++) {
		const float hardly = 0.001f;
		const uint32_t x = random_below(seed, width), y = random_below(seed, height);

		if (x < x0 || x >= x0 + w || y < y0 || y >= y0 + h)
			sde_row_from_float(&mask, x, y, 1, &hardly);
	}
	return mask;
}

static struct sde_inpaint_options random_options(uint32_t *seed)
{
	struct sde_inpaint_options options;

	sde_inpaint_options_init(&options);
	options.strength = (double)random_below(seed, 5) / 4;
	options.feather = random_below(seed, 3) * 0.1;
	options.padding = random_below(seed, 3) * 0.05;
	options.grow = random_below(seed, 20);
	options.min_transition = 8;
	options.context = (enum sde_context)random_below(seed, 3);
	options.fill = (enum sde_fill)random_below(seed, SDE_FILL_ORIGINAL + 1);
	options.color_match = random_below(seed, 2);
	return options;
}

/* A random rectangle of the canvas around what must lie in it. */
static struct sde_rect around(uint32_t *seed, struct sde_rect inner, uint32_t width,
			      uint32_t height)
{
	const int32_t left = (int32_t)random_below(seed, (uint32_t)inner.x + 1);
	const int32_t top = (int32_t)random_below(seed, (uint32_t)inner.y + 1);
	const uint32_t right = random_below(seed, width - (uint32_t)(inner.x + inner.width) + 1);
	const uint32_t bottom = random_below(seed, height - (uint32_t)(inner.y + inner.height) + 1);

	return (struct sde_rect){left, top, inner.x + inner.width + (int32_t)right - left,
				 inner.y + inner.height + (int32_t)bottom - top};
}

static struct answer paint(const struct sde_inpaint_plan *plan, const struct sde_image *canvas)
{
	struct sde_error error = {0};
	struct answer a;

	if (sde_inpaint_prepare(plan, canvas, &a.work, &error) < 0)
		fail_msg("%s", error.message);
	/* any model's answer will do as long as it hangs on all that the model sees */
	for (size_t i = 0; i < (size_t)a.work.width * a.work.height * 3; i++)
		a.work.image[i] = a.work.image[i] * 0.5f + a.work.denoise[i / 3] * 0.25f;
	if (sde_inpaint_finish(plan, &a.work, a.work.image, canvas, &a.layer, &error) < 0)
		fail_msg("%s", error.message);
	return a;
}

static void answer_clear(struct answer *a)
{
	sde_inpaint_work_clear(&a->work);
	sde_image_clear(&a->layer.image);
}

static void assert_same_layer(const struct sde_layer *a, const struct sde_layer *b,
			      struct sde_rect at)
{
	assert_int_equal(a->x, b->x + at.x);
	assert_int_equal(a->y, b->y + at.y);
	assert_int_equal(a->image.width, b->image.width);
	assert_int_equal(a->image.height, b->image.height);
	assert_memory_equal(a->image.data, b->image.data, a->image.stride * a->image.height);
}

static void one_case(uint32_t *seed)
{
	const struct sde_model_range range = sde_model_range(64, 64, 96);
	const uint32_t width = 1 + random_below(seed, 300), height = 1 + random_below(seed, 300);
	const enum sde_pixel_type type = (enum sde_pixel_type)random_below(seed, 4);
	struct sde_image canvas =
		random_image(*seed, width, height, 1 + random_below(seed, 4), type);
	struct sde_image mask = random_mask(seed, width, height), crop, mask_crop;
	const struct sde_inpaint_options options = random_options(seed);
	struct sde_selection selection = {.mask = &mask};
	struct sde_inpaint_plan whole, part;
	struct answer a, b;
	struct sde_rect area;

	if (sde_selection_bounds(&mask, &selection.rect, NULL) < 0)
		goto nothing_selected;
	assert_int_equal(
		sde_inpaint_plan_init(&whole, width, height, &selection, &options, &range, NULL),
		0);
	/* bounds alone give the same plan: what a client without the mask is told holds */
	selection.mask = NULL;
	assert_int_equal(
		sde_inpaint_plan_init(&part, width, height, &selection, &options, &range, NULL), 0);
	assert_memory_equal(&part.context, &whole.context, sizeof(part.context));
	area = random_below(seed, 3) ? part.context : around(seed, part.context, width, height);
	part.selection.mask = &mask_crop;
	assert_int_equal(sde_image_subview(&canvas, area, &crop, NULL), 0);
	assert_int_equal(sde_image_subview(&mask, area, &mask_crop, NULL), 0);
	assert_int_equal(sde_inpaint_plan_crop(&part, area, NULL), 0);
	a = paint(&whole, &canvas);
	b = paint(&part, &crop);
	assert_int_equal(a.work.width, b.work.width);
	assert_int_equal(a.work.height, b.work.height);
	assert_memory_equal(a.work.original, b.work.original,
			    (size_t)a.work.width * a.work.height * 3 * sizeof(float));
	assert_same_layer(&a.layer, &b.layer, area);
	answer_clear(&a);
	answer_clear(&b);
nothing_selected:
	sde_image_clear(&mask);
	sde_image_clear(&canvas);
}

static void test_any_part_gives_the_same_bytes(void **state)
{
	uint32_t seed = 5;

	for (int i = 0; i < CASES; i++)
		one_case(&seed);
}

static void test_a_part_that_is_too_small_is_refused(void **state)
{
	const struct sde_model_range range = sde_model_range(64, 64, 96);
	const struct sde_selection selection = {NULL, {100, 100, 20, 20}};
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan, before;
	struct sde_error error = {0};
	struct sde_rect area;

	sde_inpaint_options_init(&options);
	assert_int_equal(sde_inpaint_plan_init(&plan, 400, 300, &selection, &options, &range, NULL),
			 0);
	before = plan;
	area = plan.context;
	area.width--;
	assert_int_equal(sde_inpaint_plan_crop(&plan, area, &error), -EINVAL);
	assert_non_null(strstr(error.message, "job.plan"));
	area = (struct sde_rect){390, 0, 20, 20};
	assert_int_equal(sde_inpaint_plan_crop(&plan, area, &error), -EINVAL);
	assert_non_null(strstr(error.message, "400 x 300"));
	assert_memory_equal(&plan, &before, sizeof(plan));
}

/* Growing one side of a huge canvas needs a strip along it; growing all needs all. */
static void test_growth_needs_a_strip(void **state)
{
	const struct sde_model_range range = sde_model_range(512, 512, 768);
	struct sde_outpaint_options grow = {.right = 200};
	struct sde_outpaint o;

	assert_int_equal(sde_outpaint_init(&o, 20000, 10000, &grow, &range, NULL), 0);
	assert_int_equal(o.source.x + o.source.width, 20000);
	assert_true(o.source.width <= 512);
	assert_int_equal(o.source.height, 10000);
	assert_int_equal(o.box.x + o.box.width, 20200);
	sde_outpaint_clear(&o);
	grow = (struct sde_outpaint_options){.top = 8, .left = 8};
	assert_int_equal(sde_outpaint_init(&o, 2000, 1000, &grow, &range, NULL), 0);
	assert_int_equal(o.source.width, 2000);
	assert_int_equal(o.source.height, 1000);
	sde_outpaint_clear(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_part_gives_the_same_bytes),
		cmocka_unit_test(test_a_part_that_is_too_small_is_refused),
		cmocka_unit_test(test_growth_needs_a_strip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
