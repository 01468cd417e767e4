/* Pictures in memory: sizes from a peer, every type there and back, linear light, scaling of floats. */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/pixels/resample.h"

static void test_sizes_are_checked(void **state)
{
	_Alignas(8) char memory[64] = {0};
	struct sde_image image = {.width = 77};
	struct sde_error error = {0};

	assert_int_equal(sde_image_new(0, 4, 3, SDE_PIXEL_U8, &image, &error), -EINVAL);
	assert_int_equal(sde_image_new(4, SDE_IMAGE_MAX_SIDE + 1, 3, SDE_PIXEL_U8, &image, &error),
			 -EINVAL);
	assert_int_equal(sde_image_new(4, 4, 5, SDE_PIXEL_U8, &image, &error), -EINVAL);
	assert_int_equal(sde_image_new(4, 4, 0, SDE_PIXEL_U8, &image, &error), -EINVAL);
	assert_int_equal(sde_image_new(4, 4, 3, (enum sde_pixel_type)9, &image, &error), -EINVAL);
	assert_non_null(strstr(error.message, "pixel type"));
	assert_int_equal(image.width, 77);

	assert_int_equal(sde_image_view(memory, 47, 4, 4, 3, SDE_PIXEL_U8, 0, &image, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "48"));
	assert_int_equal(sde_image_view(memory, 64, 4, 4, 3, SDE_PIXEL_U8, 11, &image, &error),
			 -EINVAL);
	assert_int_equal(sde_image_view(memory, 64, 4, 4, 1, SDE_PIXEL_U16, 9, &image, &error),
			 -EINVAL);
	assert_int_equal(sde_image_view(memory + 1, 63, 4, 4, 1, SDE_PIXEL_U16, 0, &image, &error),
			 -EINVAL);
	assert_int_equal(
		sde_image_view(memory, 64, 4, 4, 3, SDE_PIXEL_U8, SIZE_MAX / 2, &image, &error),
		-EOVERFLOW);
	/* the last row need not fill its stride */
	assert_int_equal(sde_image_view(memory, 60, 4, 4, 3, SDE_PIXEL_U8, 16, &image, &error), 0);
	assert_null(image.owned);
}

static void test_subview_is_a_window(void **state)
{
	struct sde_image image = random_image(3, 10, 8, 3, SDE_PIXEL_U16), part, copy;

	assert_int_equal(sde_image_subview(&image, (struct sde_rect){2, 3, 5, 4}, &part, NULL), 0);
	assert_ptr_equal(part.data, (char *)image.data + 3 * image.stride + 2 * 6);
	assert_int_equal(sde_image_copy(&part, &copy, NULL), 0);
	assert_memory_equal(sde_image_row(&copy, 3), sde_image_row(&part, 3), 5 * 6);
	sde_image_clear(&copy);
	assert_int_equal(sde_image_subview(&image, (struct sde_rect){6, 3, 5, 4}, &part, NULL),
			 -EINVAL);
	assert_int_equal(sde_image_subview(&image, (struct sde_rect){-1, 3, 5, 4}, &part, NULL),
			 -EINVAL);
	assert_int_equal(
		sde_image_subview(&image, (struct sde_rect){INT32_MAX, 3, 5, 4}, &part, NULL),
		-EINVAL);
	sde_image_clear(&image);
}

/* Every value of u8, u16 and f16 survives the trip through floats. */
static void test_round_trips(void **state)
{
	static const enum sde_pixel_type types[] = {SDE_PIXEL_U8, SDE_PIXEL_U16, SDE_PIXEL_F16};

	for (size_t t = 0; t < 3; t++) {
		const uint32_t count = types[t] == SDE_PIXEL_U8 ? 256 : 65536;
		float *values = calloc(count, sizeof(*values));
		struct sde_image image, back;

		assert_int_equal(sde_image_new(count, 1, 1, types[t], &image, NULL), 0);
		assert_int_equal(sde_image_new(count, 1, 1, types[t], &back, NULL), 0);
		for (uint32_t i = 0; i < count; i++) {
			if (types[t] == SDE_PIXEL_U8)
				((uint8_t *)image.data)[i] = (uint8_t)i;
			else
				((uint16_t *)image.data)[i] = (uint16_t)i;
		}
		sde_row_to_float(&image, 0, 0, count, values);
		sde_row_from_float(&back, 0, 0, count, values);
		for (uint32_t i = 0; i < count; i++) {
			if (types[t] == SDE_PIXEL_F16 && (i & 0x7c00) == 0x7c00 && (i & 0x3ff))
				assert_true(values[i] == 0.0f); /* NaN reads as 0 */
			else if (types[t] == SDE_PIXEL_U8)
				assert_int_equal(((uint8_t *)back.data)[i], i);
			else
				assert_int_equal(((uint16_t *)back.data)[i], i);
		}
		sde_image_clear(&image);
		sde_image_clear(&back);
		free(values);
	}
}

static void test_rounding_and_clamping(void **state)
{
	static const float values[] = {0.5f / 255, 1.5f / 255, 2.5f / 255, -3.0f, 7.0f, NAN};
	static const uint8_t want[] = {0, 2, 2, 0, 255, 0};
	struct sde_image image;

	assert_int_equal(sde_image_new(6, 1, 1, SDE_PIXEL_U8, &image, NULL), 0);
	sde_row_from_float(&image, 0, 0, 6, values);
	assert_memory_equal(image.data, want, 6);
	sde_image_clear(&image);

	assert_int_equal(sde_image_new(1, 1, 1, SDE_PIXEL_U16, &image, NULL), 0);
	sde_row_from_float(&image, 0, 0, 1, &(const float){1.7f / 65535});
	assert_int_equal(*(uint16_t *)image.data, 2);
	sde_image_clear(&image);

	assert_int_equal(sde_half_from_float(1.0f), 0x3c00);
	assert_int_equal(sde_half_from_float(65504.0f), 0x7bff);
	assert_int_equal(sde_half_from_float(65519.0f), 0x7bff);
	assert_int_equal(sde_half_from_float(65520.0f), 0x7c00);
	assert_int_equal(sde_half_from_float(1.0f + 0x1p-11f), 0x3c00); /* tie to even */
	assert_int_equal(sde_half_from_float(1.0f + 0x3p-11f), 0x3c02);
	assert_int_equal(sde_half_from_float(-0x1p-25f), 0x8000);
	assert_int_equal(sde_half_from_float(0x1.8p-24f), 0x0002);
}

static void test_rgba_rows(void **state)
{
	struct sde_image image;
	float rgba[8];

	assert_int_equal(sde_image_new(2, 1, 2, SDE_PIXEL_U8, &image, NULL), 0);
	memcpy(image.data, "\x33\xff\x66\x00", 4);
	sde_row_to_rgba(&image, 0, 0, 2, rgba);
	assert_float_equal(rgba[0], 0.2, 1e-6);
	assert_float_equal(rgba[2], 0.2, 1e-6);
	assert_float_equal(rgba[3], 1.0, 0);
	assert_float_equal(rgba[4], 0.4, 1e-6);
	assert_float_equal(rgba[7], 0.0, 0);
	image.linear = true;
	sde_row_to_rgba(&image, 1, 0, 1, rgba);
	assert_float_equal(rgba[0], 0.665185, 1e-5); /* sRGB of linear 0.4 */
	assert_float_equal(rgba[3], 0.0, 0);
	sde_image_clear(&image);
	for (float v = 0; v <= 1.0f; v += 1.0f / 64)
		assert_float_equal(sde_srgb_decode(sde_srgb_encode(v)), v, 2e-6);
}

static void test_layouts(void **state)
{
	struct sde_image image = random_image(9, 5, 3, 3, SDE_PIXEL_U8), back;
	float planar[45], interleaved[45];

	sde_image_to_float(&image, SDE_PLANAR, 2, -1, planar);
	sde_image_to_float(&image, SDE_INTERLEAVED, 2, -1, interleaved);
	for (int i = 0; i < 15; i++)
		for (int c = 0; c < 3; c++)
			assert_true(planar[c * 15 + i] == interleaved[i * 3 + c]);
	assert_int_equal(sde_image_new(5, 3, 3, SDE_PIXEL_U8, &back, NULL), 0);
	sde_image_from_float(planar, SDE_PLANAR, 0.5f, 0.5f, &back);
	assert_memory_equal(back.data, image.data, 45);
	sde_image_clear(&back);
	sde_image_clear(&image);
}

/* Floats and bytes must agree within the bytes' rounding; pictures of one colour stay that colour. */
static void test_float_scaling(void **state)
{
	uint32_t random = 5;

	for (int i = 0; i < 24; i++) {
		const uint32_t w = 1 + random_below(&random, 40), h = 1 + random_below(&random, 40);
		const uint32_t ow = 1 + random_below(&random, 60),
			       oh = 1 + random_below(&random, 60);
		const enum sde_filter filter = (enum sde_filter)(i % 4);
		struct sde_image image = random_image(i + 1, w, h, 3, SDE_PIXEL_U8), out;
		float *values = calloc((size_t)w * h * 3, sizeof(float));
		float *scaled = calloc((size_t)ow * oh * 3, sizeof(float));

		sde_image_to_float(&image, SDE_INTERLEAVED, 1, 0, values);
		assert_int_equal(sde_resize_u8(&image, ow, oh, filter, NULL, &out, NULL), 0);
		assert_int_equal(
			sde_resize_float(values, w, h, 3, NULL, ow, oh, filter, scaled, NULL), 0);
		for (size_t k = 0; k < (size_t)ow * oh * 3; k++) {
			const float clamped = fminf(fmaxf(scaled[k] * 255, 0), 255);

			/* the horizontal pass of the bytes also clamps, which Lanczos on noise meets */
			assert_true(fabsf(clamped - ((uint8_t *)out.data)[k]) <=
				    (filter >= SDE_FILTER_BICUBIC ? 40.0f : 1.1f));
		}
		for (size_t k = 0; k < (size_t)w * h * 3; k++)
			values[k] = 0.25f;
		assert_int_equal(
			sde_resize_float(values, w, h, 3, NULL, ow, oh, filter, scaled, NULL), 0);
		for (size_t k = 0; k < (size_t)ow * oh * 3; k++)
			assert_float_equal(scaled[k], 0.25, 1e-5);
		sde_image_clear(&out);
		sde_image_clear(&image);
		free(values);
		free(scaled);
	}
}

/* A band of a scaled picture is the same as that part of the whole. */
static void test_boxes_make_bands(void **state)
{
	struct sde_image image = random_image(4, 24, 16, 1, SDE_PIXEL_U8);
	float values[24 * 16], whole[60 * 40], band[60 * 10];
	const struct sde_box box = {0, 16.0 * 20 / 40, 24, 16.0 * 30 / 40};

	sde_image_to_float(&image, SDE_INTERLEAVED, 1, 0, values);
	assert_int_equal(
		sde_resize_float(values, 24, 16, 1, NULL, 60, 40, SDE_FILTER_LANCZOS, whole, NULL),
		0);
	assert_int_equal(
		sde_resize_float(values, 24, 16, 1, &box, 60, 10, SDE_FILTER_LANCZOS, band, NULL),
		0);
	for (int i = 0; i < 600; i++)
		assert_float_equal(band[i], whole[20 * 60 + i], 1e-5);
	assert_int_equal(sde_resize_float(values, 24, 16, 1, &(struct sde_box){0, 0, 25, 16}, 4, 4,
					  SDE_FILTER_BOX, band, NULL),
			 -EINVAL);
	assert_int_equal(sde_resize_float(values, 24, 16, 1, &(struct sde_box){NAN, 0, 4, 4}, 4, 4,
					  SDE_FILTER_BOX, band, NULL),
			 -EINVAL);
	sde_image_clear(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_checked),
		cmocka_unit_test(test_subview_is_a_window),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_rounding_and_clamping),
		cmocka_unit_test(test_rgba_rows),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_float_scaling),
		cmocka_unit_test(test_boxes_make_bands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
