/*
 * Canvas to work image to layer and back onto the canvas, for every pixel type: what is not selected keeps its bytes, the
 * layer lies where it should to the pixel, transparent pixels and float documents behave, and an 8000x6000 canvas is only
 * touched around its selection.
 */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/geometry/color-match.h"
#include "daemon/engine/geometry/seam.h"
#include "daemon/engine/geometry/masks.h"
#include "daemon/engine/geometry/plan.h"
#include "daemon/engine/geometry/prefill.h"

static struct sde_model_range small_range(void)
{
	return sde_model_range(128, 128, 192);
}

static struct sde_inpaint_plan plan_rect(const struct sde_image *canvas, struct sde_rect rect,
					 const struct sde_inpaint_options *options)
{
	const struct sde_model_range range = small_range();
	const struct sde_selection selection = {NULL, rect};
	struct sde_inpaint_plan plan;

	assert_int_equal(sde_inpaint_plan_init(&plan, canvas->width, canvas->height, &selection,
					       options, &range, NULL),
			 0);
	return plan;
}

/* Runs a job with `generated` (NULL: the work image itself) and lays the layer over the canvas. */
static struct sde_layer run_job(const struct sde_inpaint_plan *plan, struct sde_image *canvas,
				const float color[3])
{
	struct sde_inpaint_work work;
	struct sde_layer layer;
	float *generated;

	assert_int_equal(sde_inpaint_prepare(plan, canvas, &work, NULL), 0);
	generated = calloc((size_t)work.width * work.height, 3 * sizeof(float));
	for (size_t i = 0; i < (size_t)work.width * work.height * 3; i++) {
		assert_true(work.image[i] >= -1 && work.image[i] <= 1);
		generated[i] = color ? color[i % 3] : work.original[i];
	}
	assert_int_equal(sde_inpaint_finish(plan, &work, generated, canvas, &layer, NULL), 0);
	assert_int_equal(layer.image.type, canvas->type);
	assert_int_equal(layer.image.channels, 4);
	assert_int_equal(layer.x, plan->result.x);
	assert_int_equal(layer.y, plan->result.y);
	assert_int_equal(sde_layer_over_canvas(&layer, canvas, NULL), 0);
	sde_inpaint_work_clear(&work);
	free(generated);
	return layer;
}

static bool layer_touches(const struct sde_layer *layer, int32_t x, int32_t y)
{
	float rgba[4];

	if (x < layer->x || y < layer->y || x >= layer->x + (int32_t)layer->image.width ||
	    y >= layer->y + (int32_t)layer->image.height)
		return false;
	sde_row_to_float(&layer->image, (uint32_t)(x - layer->x), (uint32_t)(y - layer->y), 1,
			 rgba);
	return rgba[3] > 0;
}

/* Three jobs one after another on random canvases of every type: bytes outside the composite masks never move. */
static void test_bytes_outside_stay(void **state)
{
	static const float color[3] = {0.9f, -0.4f, 0.1f};
	uint32_t random = 23;

	for (int round = 0; round < 48; round++) {
		const uint32_t channels = 1 + (uint32_t)round % 4;
		const enum sde_pixel_type type = (enum sde_pixel_type)(round / 4 % 4);
		const uint32_t w = 1 + random_below(&random, 220),
			       h = 1 + random_below(&random, 220);
		struct sde_image canvas = random_image((uint32_t)round, w, h, channels, type),
				 before;
		const size_t pixel = sde_image_pixel_size(&canvas);
		bool *touched = calloc((size_t)w * h, sizeof(*touched));
		struct sde_inpaint_options options;

		canvas.linear = round % 3 == 0;
		if (type == SDE_PIXEL_F32 &&
		    round % 2) { /* HDR, negative and NaN pixels are documents too */
			((float *)canvas.data)[0] = NAN;
			((float *)sde_image_row(&canvas, h - 1))[0] = -4.0f;
			((float *)sde_image_row(&canvas, h / 2))[w / 2 * channels] = 90.0f;
		}
		assert_int_equal(sde_image_copy(&canvas, &before, NULL), 0);
		sde_inpaint_options_init(&options);
		options.min_transition = 6;
		options.color_match = round % 2;
		for (int job = 0; job < 3; job++) {
			const struct sde_rect rect = {(int32_t)random_below(&random, w),
						      (int32_t)random_below(&random, h),
						      1 + (int32_t)random_below(&random, 50),
						      1 + (int32_t)random_below(&random, 50)};
			struct sde_inpaint_plan plan;
			struct sde_layer layer;

			options.strength = job == 1 ? 0.5 : 1.0;
			options.feather = job == 2 ? 0 : 0.1;
			plan = plan_rect(&canvas, rect, &options);
			layer = run_job(&plan, &canvas, color);
			for (int32_t y = 0; y < (int32_t)h; y++)
				for (int32_t x = 0; x < (int32_t)w; x++)
					if (layer_touches(&layer, x, y))
						touched[(size_t)y * w + (size_t)x] = true;
			sde_image_clear(&layer.image);
		}
		for (uint32_t y = 0; y < h; y++)
			for (uint32_t x = 0; x < w; x++)
				if (!touched[(size_t)y * w + x])
					assert_memory_equal(
						(char *)sde_image_row(&canvas, y) + x * pixel,
						(char *)sde_image_row(&before, y) + x * pixel,
						pixel);
		free(touched);
		sde_image_clear(&before);
		sde_image_clear(&canvas);
	}
}

/* Where alpha is 0 even the layer's hidden colour is the canvas': dropping alpha changes nothing there. */
static void test_hidden_color_is_the_canvas(void **state)
{
	static const float color[3] = {1, 1, 1};
	struct sde_image canvas = random_image(7, 180, 140, 3, SDE_PIXEL_U16), before;
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	struct sde_layer layer;
	size_t hidden = 0;

	assert_int_equal(sde_image_copy(&canvas, &before, NULL), 0);
	sde_inpaint_options_init(&options);
	options.min_transition = 4;
	plan = plan_rect(&canvas, (struct sde_rect){60, 50, 30, 20}, &options);
	layer = run_job(&plan, &canvas, color);
	for (uint32_t y = 0; y < layer.image.height; y++)
		for (uint32_t x = 0; x < layer.image.width; x++) {
			const uint16_t *rgba = (uint16_t *)sde_image_row(&layer.image, y) + x * 4;

			if (rgba[3] != 0)
				continue;
			hidden++;
			assert_memory_equal(
				rgba,
				(uint16_t *)sde_image_row(&before, y + (uint32_t)layer.y) +
					(x + (uint32_t)layer.x) * 3,
				6);
		}
	assert_true(hidden > 100);
	sde_image_clear(&layer.image);
	sde_image_clear(&before);
	sde_image_clear(&canvas);
}

/*
 * A model that answers with what it saw gives the picture back, and in the right place: a smooth picture with a sharp
 * mark would betray a shift of one pixel. Work size = context size here, so nothing is scaled.
 */
static void test_identity_is_not_shifted(void **state)
{
	struct sde_image canvas, before;
	struct sde_inpaint_options options;

	assert_int_equal(sde_image_new(300, 260, 3, SDE_PIXEL_U8, &canvas, NULL), 0);
	for (uint32_t y = 0; y < 260; y++)
		for (uint32_t x = 0; x < 300; x++) {
			uint8_t *p = (uint8_t *)sde_image_row(&canvas, y) + x * 3;

			p[0] = (uint8_t)(x * 255 / 300);
			p[1] = (uint8_t)(y * 255 / 260);
			p[2] = (x / 4 + y / 4) % 2 ? 200 : 60;
		}
	assert_int_equal(sde_image_copy(&canvas, &before, NULL), 0);
	sde_inpaint_options_init(&options);
	options.context = SDE_CONTEXT_RECT;
	for (int32_t shift = 0; shift < 5; shift++) {
		struct sde_inpaint_plan plan;
		struct sde_layer layer;

		options.rect = (struct sde_rect){51 + shift, 33 + 2 * shift, 136, 128};
		plan = plan_rect(&canvas, (struct sde_rect){100 + shift, 70 + shift, 31, 27},
				 &options);
		assert_int_equal(plan.work_width, 136);
		assert_int_equal(plan.work_height, 128);
		layer = run_job(&plan, &canvas, NULL);
		assert_memory_equal(canvas.data, before.data, canvas.stride * canvas.height);
		sde_image_clear(&layer.image);
	}
	/* and with scaling by 192/256 and back, each pixel stays within what a filter loses */
	options.rect = (struct sde_rect){20, 2, 256, 128};
	for (uint32_t y = 0; y < 260; y++)
		for (uint32_t x = 0; x < 300; x++)
			((uint8_t *)sde_image_row(&canvas, y))[x * 3 + 2] = (uint8_t)((x + y) / 3);
	assert_int_equal(sde_layer_over_canvas(&(struct sde_layer){.image = canvas}, &canvas, NULL),
			 -EINVAL);
	sde_image_clear(&before);
	assert_int_equal(sde_image_copy(&canvas, &before, NULL), 0);
	{
		const struct sde_inpaint_plan plan =
			plan_rect(&canvas, (struct sde_rect){60, 40, 150, 60}, &options);
		struct sde_layer layer = run_job(&plan, &canvas, NULL);

		assert_int_equal(plan.work_width, 192);
		for (size_t i = 0; i < canvas.stride * canvas.height; i++)
			assert_true(abs(((uint8_t *)canvas.data)[i] -
					((uint8_t *)before.data)[i]) <= 2);
		sde_image_clear(&layer.image);
	}
	sde_image_clear(&before);
	sde_image_clear(&canvas);
}

/* In the selection the answer arrives in full, in the document's own terms. */
static void test_answer_arrives(void **state)
{
	static const float color[3] = {0.2f, -0.6f, 1.0f}; /* 0.6, 0.2, 1 */

	for (int round = 0; round < 32; round++) {
		const uint32_t channels = 1 + (uint32_t)round % 4;
		struct sde_image canvas =
			random_image(3, 150, 130, channels, (enum sde_pixel_type)(round / 4 % 4));
		const float grey = 0.299f * 0.6f + 0.587f * 0.2f + 0.114f;
		struct sde_inpaint_options options;
		struct sde_inpaint_plan plan;
		struct sde_layer layer;
		float want[3] = {0.6f, 0.2f, 1.0f}, got[4];

		canvas.linear = round >= 16;
		sde_inpaint_options_init(&options);
		options.color_match = false;
		options.min_transition = 5;
		plan = plan_rect(&canvas, (struct sde_rect){40, 40, 20, 20}, &options);
		layer = run_job(&plan, &canvas, color);
		for (int c = 0; c < 3; c++) {
			want[c] = channels <= 2 ? grey : want[c];
			want[c] = canvas.linear ? sde_srgb_decode(want[c]) : want[c];
		}
		for (uint32_t y = 40; y < 60; y++)
			for (uint32_t x = 40; x < 60; x++) {
				sde_row_to_float(&canvas, x, y, 1, got);
				for (uint32_t c = 0; c < (channels <= 2 ? 1 : 3); c++)
					assert_float_equal(got[c], want[c],
							   canvas.type == SDE_PIXEL_U8 ? 0.002
										       : 5e-4);
				if (channels % 2 == 0)
					assert_true(got[channels - 1] == 1.0f);
			}
		sde_image_clear(&layer.image);
		sde_image_clear(&canvas);
	}
}

/* An opaque canvas stays opaque whatever is laid over it. */
static void test_opaque_stays_opaque(void **state)
{
	for (int type = SDE_PIXEL_U8; type <= SDE_PIXEL_F32; type++) {
		struct sde_layer layer = {.x = -3, .y = 2};
		struct sde_image canvas = random_image(5, 40, 40, 4, (enum sde_pixel_type)type);

		layer.image = random_image(8, 30, 60, 4, (enum sde_pixel_type)type);
		for (uint32_t y = 0; y < 40; y++)
			for (uint32_t x = 0; x < 40; x++) {
				float rgba[4];

				sde_row_to_float(&canvas, x, y, 1, rgba);
				rgba[3] = 1;
				sde_row_from_float(&canvas, x, y, 1, rgba);
			}
		assert_int_equal(sde_layer_over_canvas(&layer, &canvas, NULL), 0);
		for (uint32_t y = 0; y < 40; y++)
			for (uint32_t x = 0; x < 40; x++) {
				float rgba[4];

				sde_row_to_float(&canvas, x, y, 1, rgba);
				assert_true(rgba[3] == 1.0f);
			}
		sde_image_clear(&layer.image);
		sde_image_clear(&canvas);
	}
}

/* Strength 0 is the source: nothing shows. */
static void test_strength_zero_changes_nothing(void **state)
{
	static const float color[3] = {1, 1, 1};
	struct sde_image canvas = random_image(5, 90, 90, 4, SDE_PIXEL_U8), before;
	struct sde_inpaint_options options;
	struct sde_inpaint_plan plan;
	struct sde_layer layer;

	assert_int_equal(sde_image_copy(&canvas, &before, NULL), 0);
	sde_inpaint_options_init(&options);
	options.strength = 0;
	plan = plan_rect(&canvas, (struct sde_rect){20, 20, 30, 30}, &options);
	layer = run_job(&plan, &canvas, color);
	assert_memory_equal(canvas.data, before.data, canvas.stride * canvas.height);
	sde_image_clear(&layer.image);
	sde_image_clear(&before);
	sde_image_clear(&canvas);
}

/* Transparent pixels show a continuation of the opaque ones, never their hidden colour. */
static void test_transparent_pixels(void **state)
{
	struct sde_inpaint_options options;
	struct sde_inpaint_work work;
	struct sde_inpaint_plan plan;
	struct sde_image canvas;

	assert_int_equal(sde_image_new(128, 128, 4, SDE_PIXEL_U8, &canvas, NULL), 0);
	for (uint32_t y = 0; y < 128; y++)
		for (uint32_t x = 0; x < 128; x++)
			memcpy((uint8_t *)sde_image_row(&canvas, y) + x * 4,
			       x < 64 ? "\x33\x99\x33\xff" : "\xff\x00\xff\x00", 4);
	sde_inpaint_options_init(&options);
	options.context = SDE_CONTEXT_IMAGE;
	options.strength = 0.7;
	plan = plan_rect(&canvas, (struct sde_rect){50, 50, 30, 30}, &options);
	assert_int_equal(sde_inpaint_prepare(&plan, &canvas, &work, NULL), 0);
	for (size_t i = 0; i < (size_t)work.width * work.height; i++) {
		assert_float_equal(work.image[i * 3], -0.6, 0.02);
		assert_float_equal(work.image[i * 3 + 1], 0.2, 0.02);
	}
	sde_inpaint_work_clear(&work);
	memset(canvas.data, 0, canvas.stride * canvas.height);
	options.strength = 1.0;
	plan = plan_rect(&canvas, (struct sde_rect){50, 50, 30, 30}, &options);
	assert_int_equal(sde_inpaint_prepare(&plan, &canvas, &work, NULL), 0);
	for (size_t i = 0; i < (size_t)work.width * work.height * 3; i++)
		assert_float_equal(work.image[i], 0, 1e-5);
	sde_inpaint_work_clear(&work);
	sde_image_clear(&canvas);
}

static void test_prefill(void **state)
{
	enum { W = 96, H = 64 };
	static const enum sde_fill fills[] = {SDE_FILL_BLUR, SDE_FILL_EDGE, SDE_FILL_NEUTRAL,
					      SDE_FILL_ORIGINAL};

	for (size_t f = 0; f < 4; f++) {
		float rgb[W * H * 3], hole[W * H] = {0};

		for (int i = 0; i < W * H; i++) {
			const int x = i % W, y = i / W;

			hole[i] = x >= 40 && x < 60 && y >= 20 && y < 44 ? 1.0f : 0.0f;
			for (int c = 0; c < 3; c++)
				rgb[i * 3 + c] = hole[i] > 0 ? (float)c : (float)x / W;
		}
		assert_int_equal(sde_prefill(fills[f], rgb, hole, W, H, NULL), 0);
		for (int i = 0; i < W * H; i++) {
			const int x = i % W;

			if (hole[i] == 0)
				assert_float_equal(rgb[i * 3], (float)x / W, 1e-6);
			else if (fills[f] ==
				 SDE_FILL_EDGE) /* the plane is its own smoothest continuation */
				assert_float_equal(rgb[i * 3 + 1], (float)x / W, 0.03);
			else if (fills[f] == SDE_FILL_BLUR)
				assert_float_equal(rgb[i * 3 + 1], (float)x / W, 0.12);
			else if (fills[f] == SDE_FILL_NEUTRAL)
				assert_float_equal(rgb[i * 3 + 2], 0.5, 0);
			else
				assert_float_equal(rgb[i * 3 + 1], 1.0, 0);
		}
	}
}

/* A hole at the border takes the nearest edge's colour; a hole that is everything is grey. */
static void test_prefill_without_surroundings(void **state)
{
	float rgb[32 * 32 * 3], hole[32 * 32];

	for (int i = 0; i < 32 * 32; i++) {
		hole[i] = i % 32 >= 2 ? 1.0f : 0.0f;
		for (int c = 0; c < 3; c++)
			rgb[i * 3 + c] = i % 32 >= 2 ? 1.0f : 0.2f;
	}
	assert_int_equal(sde_prefill(SDE_FILL_EDGE, rgb, hole, 32, 32, NULL), 0);
	for (int i = 0; i < 32 * 32 * 3; i++)
		assert_float_equal(rgb[i], 0.2, 1e-3);
	for (int i = 0; i < 32 * 32; i++)
		hole[i] = 1;
	assert_int_equal(sde_prefill(SDE_FILL_BLUR, rgb, hole, 32, 32, NULL), 0);
	for (int i = 0; i < 32 * 32 * 3; i++)
		assert_float_equal(rgb[i], 0.5, 0);
}

static void test_lab(void **state)
{
	static const float red[3] = {1, 0, 0};
	uint32_t random = 2;
	float lab[3], back[3];

	sde_rgb_to_lab(red, lab); /* the published value */
	assert_float_equal(lab[0], 53.24, 0.02);
	assert_float_equal(lab[1], 80.09, 0.02);
	assert_float_equal(lab[2], 67.20, 0.02);
	for (int i = 0; i < 500; i++) {
		const float rgb[3] = {next_random(&random) / 255.0f, next_random(&random) / 255.0f,
				      next_random(&random) / 255.0f};

		sde_rgb_to_lab(rgb, lab);
		sde_lab_to_rgb(lab, back);
		for (int c = 0; c < 3; c++)
			assert_float_equal(back[c], rgb[c], 2e-4);
	}
}

/* A cast over the whole answer is taken off; what was repainted, however dark, does not disturb the measurement. */
/* A shift of colour that differs from place to place, which one mean for the picture cannot mend. */
static void test_seam_match(void **state)
{
	enum { SIDE = 48, FROM = 12, TO = 36 };
	static float original[SIDE * SIDE * 3], answer[SIDE * SIDE * 3], hole[SIDE * SIDE];
	uint32_t random = 5;

	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		const uint32_t x = i % SIDE, y = i / SIDE;
		const bool middle = x > 20 && x < 28 && y > 20 && y < 28;

		hole[i] = x >= FROM && x < TO && y >= FROM && y < TO;
		for (uint32_t c = 0; c < 3; c++) {
			original[i * 3 + c] = 0.4f + (float)random_below(&random, 100) * 1e-3f;
			answer[i * 3 + c] = original[i * 3 + c] + 0.2f * (float)x / SIDE - 0.1f +
					    (middle ? 0.3f : 0);
		}
	}
	assert_int_equal(sde_seam_match(answer, original, hole, SIDE, SIDE, NULL), 0);
	for (uint32_t i = 0; i < SIDE * SIDE * 3; i++) {
		const uint32_t x = i / 3 % SIDE, y = i / 3 / SIDE;
		const bool middle = x > 20 && x < 28 && y > 20 && y < 28;

		assert_float_equal(answer[i] - original[i], middle ? 0.3f : 0.0f, 0.01f);
	}
	/* other content beside the hole is no shift of colour: it is kept out, but for SDE_SEAM_MOST */
	for (uint32_t i = 0; i < SIDE * SIDE * 3; i++)
		answer[i] = original[i] + 0.4f;
	assert_int_equal(sde_seam_match(answer, original, hole, SIDE, SIDE, NULL), 0);
	for (uint32_t i = 0; i < SIDE * SIDE * 3; i++)
		assert_float_equal(answer[i] - original[i], 0.4f - SDE_SEAM_MOST, 1e-4f);
	/* with nothing known nothing is changed */
	for (uint32_t i = 0; i < SIDE * SIDE; i++)
		hole[i] = 1;
	assert_int_equal(sde_seam_match(answer, original, hole, SIDE, SIDE, NULL), 0);
	assert_float_equal(answer[0] - original[0], 0.4f - SDE_SEAM_MOST, 1e-4f);
}

static void test_color_match(void **state)
{
	enum { N = 4000 };
	float *original = calloc(N * 3, sizeof(float)), *generated = calloc(N * 3, sizeof(float));
	float *mask = calloc(N, sizeof(float));
	uint32_t random = 31;

	for (int i = 0; i < N; i++) {
		mask[i] = i < 3000 ? 1.0f : 0.0f;
		for (int c = 0; c < 3; c++) {
			original[i * 3 + c] =
				i < 3000 ? 0.0f : 0.3f + 0.3f * (float)next_random(&random) / 255;
			generated[i * 3 + c] = i < 3000 ? 0.5f : original[i * 3 + c] * 0.9f + 0.06f;
		}
	}
	sde_color_match(generated, original, mask, N);
	for (int i = 3000 * 3; i < N * 3; i++)
		assert_float_equal(generated[i], original[i], 0.02);
	for (int i = 0; i < 3000 * 3; i++)
		assert_float_equal(generated[i], (0.5f - 0.06f) / 0.9f, 0.03);
	/* too little known: hands off */
	for (int i = 0; i < N; i++)
		mask[i] = i < N - 30 ? 1.0f : 0.0f;
	generated[0] = 0.123f;
	sde_color_match(generated, original, mask, N);
	assert_true(generated[0] == 0.123f);
	free(original);
	free(generated);
	free(mask);
}

static void test_second_pass(void **state)
{
	struct sde_image canvas = random_image(5, 600, 500, 3, SDE_PIXEL_U8);
	struct sde_inpaint_options options;
	struct sde_inpaint_work work, fine, none;
	struct sde_inpaint_plan plan;
	struct sde_layer layer;
	float *generated;

	sde_inpaint_options_init(&options);
	plan = plan_rect(&canvas, (struct sde_rect){200, 150, 200, 200}, &options);
	assert_true(plan.refine_width > plan.work_width);
	assert_int_equal(sde_inpaint_prepare(&plan, &canvas, &work, NULL), 0);
	generated = calloc((size_t)work.width * work.height, 3 * sizeof(float));
	assert_int_equal(sde_inpaint_upscale(&plan, &canvas, &work, generated, &fine, NULL), 0);
	assert_int_equal(fine.width, plan.refine_width);
	for (size_t i = 0; i < (size_t)fine.width * fine.height; i++) {
		if (fine.denoise[i] == 0)
			assert_true(fine.image[i * 3] == fine.original[i * 3]);
		if (fine.denoise[i] == 1)
			assert_float_equal(fine.image[i * 3], 0, 1e-5);
	}
	assert_int_equal(sde_inpaint_finish(&plan, &fine, fine.image, &canvas, &layer, NULL), 0);
	sde_image_clear(&layer.image);
	options.two_pass = false;
	plan = plan_rect(&canvas, (struct sde_rect){200, 150, 200, 200}, &options);
	assert_int_equal(sde_inpaint_upscale(&plan, &canvas, &work, generated, &none, NULL),
			 -EINVAL);
	free(generated);
	sde_inpaint_work_clear(&work);
	sde_inpaint_work_clear(&fine);
	sde_image_clear(&canvas);
}

static void test_wrong_canvas_is_refused(void **state)
{
	struct sde_image canvas = random_image(5, 60, 50, 3, SDE_PIXEL_U8);
	struct sde_inpaint_options options;
	struct sde_inpaint_work work;
	struct sde_inpaint_plan plan;
	struct sde_error error = {0};

	sde_inpaint_options_init(&options);
	plan = plan_rect(&canvas, (struct sde_rect){1, 1, 9, 9}, &options);
	canvas.width = 59;
	assert_int_equal(sde_inpaint_prepare(&plan, &canvas, &work, &error), -EINVAL);
	assert_non_null(strstr(error.message, "59 x 50"));
	canvas.width = 60;
	sde_image_clear(&canvas);
}

/* 8000 x 6000 RGBA in a memfd, sealed off but for the context's rows: reading anything else would be a SIGSEGV. */
static void test_huge_canvas_is_hardly_touched(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), stride = 8000 * 4;
	const size_t size = stride * 6000;
	const struct sde_model_range range = small_range();
	const struct sde_selection selection = {NULL, {5000, 3000, 80, 60}};
	struct sde_inpaint_options options;
	struct sde_inpaint_work work;
	struct sde_inpaint_plan plan;
	struct sde_layer layer;
	struct sde_image canvas;
	size_t from, to;
	char *memory;
	int fd;

	fd = memfd_create("canvas", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(memory != MAP_FAILED);
	close(fd);
	assert_int_equal(
		sde_image_view(memory, size, 8000, 6000, 4, SDE_PIXEL_U8, 0, &canvas, NULL), 0);
	sde_inpaint_options_init(&options);
	assert_int_equal(
		sde_inpaint_plan_init(&plan, 8000, 6000, &selection, &options, &range, NULL), 0);
	from = (size_t)plan.context.y * stride / page * page;
	to = ((size_t)(plan.context.y + plan.context.height) * stride / page + 1) * page;
	assert_true(to - from < size / 10);
	assert_int_equal(mprotect(memory, from, PROT_NONE), 0);
	assert_int_equal(mprotect(memory + to, (size - to) / page * page, PROT_NONE), 0);
	assert_int_equal(sde_inpaint_prepare(&plan, &canvas, &work, NULL), 0);
	assert_int_equal(sde_inpaint_finish(&plan, &work, work.image, &canvas, &layer, NULL), 0);
	assert_true((size_t)layer.image.width * layer.image.height < 400 * 400);
	sde_image_clear(&layer.image);
	sde_inpaint_work_clear(&work);
	munmap(memory, size);
}

/* Half known is known and stays; less than half is replaced by its surroundings. */
static void test_membrane_of_partly_known(void **state)
{
	float rgb[16 * 16 * 3], weight[16 * 16];

	for (int i = 0; i < 256; i++) {
		weight[i] = 1;
		for (int c = 0; c < 3; c++)
			rgb[i * 3 + c] = 0.25f;
	}
	weight[5 * 16 + 5] = 0.3f;
	weight[9 * 16 + 9] = 0.5f;
	rgb[(5 * 16 + 5) * 3] = rgb[(9 * 16 + 9) * 3] = 1.0f;
	assert_int_equal(sde_membrane_fill(rgb, weight, 16, 16, NULL), 1);
	assert_float_equal(rgb[(5 * 16 + 5) * 3], 0.25, 1e-4);
	assert_true(rgb[(9 * 16 + 9) * 3] == 1.0f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_outside_stay),
		cmocka_unit_test(test_hidden_color_is_the_canvas),
		cmocka_unit_test(test_identity_is_not_shifted),
		cmocka_unit_test(test_answer_arrives),
		cmocka_unit_test(test_opaque_stays_opaque),
		cmocka_unit_test(test_strength_zero_changes_nothing),
		cmocka_unit_test(test_transparent_pixels),
		cmocka_unit_test(test_prefill),
		cmocka_unit_test(test_prefill_without_surroundings),
		cmocka_unit_test(test_lab),
		cmocka_unit_test(test_color_match),
		cmocka_unit_test(test_seam_match),
		cmocka_unit_test(test_second_pass),
		cmocka_unit_test(test_wrong_canvas_is_refused),
		cmocka_unit_test(test_huge_canvas_is_hardly_touched),
		cmocka_unit_test(test_membrane_of_partly_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
