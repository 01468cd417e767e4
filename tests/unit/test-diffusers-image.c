/*
 * Scaling, resize modes and apply_overlay against Pillow 12 run by Python on the same random pictures: checksums of its
 * bytes. (Pillow 13 may do the vertical pass first, which changes last bits; the golden data are horizontal first.) The
 * picture of width w and height h is seeded w * 1000 + h.
 */
#include "tests/unit/pixels-util.h"

#include <errno.h>
#include <string.h>

#include "daemon/engine/geometry/diffusers.h"
#include "daemon/engine/pixels/resample.h"

static void test_resize_is_pillows(void **state)
{
	static const struct {
		uint32_t width, height, channels, out_width, out_height;
		enum sde_filter filter;
		struct sde_box box;
		uint64_t hash;
	} cases[] = {
		{37, 23, 3, 64, 64, SDE_FILTER_LANCZOS, {0, 0, 37, 23}, 0x7edaec6d3e837b5cull},
		{37, 23, 3, 9, 5, SDE_FILTER_LANCZOS, {0, 0, 37, 23}, 0xe1a375171fd72152ull},
		{37, 23, 1, 37, 50, SDE_FILTER_BICUBIC, {0, 0, 37, 23}, 0xf8a6c2f402d223bbull},
		{40, 30, 3, 13, 30, SDE_FILTER_BILINEAR, {0, 0, 40, 30}, 0xd41264f22220c2c5ull},
		{40, 30, 3, 21, 17, SDE_FILTER_BOX, {0, 0, 40, 30}, 0x355764826c3790f6ull},
		{37,
		 23,
		 3,
		 20,
		 20,
		 SDE_FILTER_LANCZOS,
		 {3.5, 2.25, 30.0, 20.75},
		 0x18a73612f1bf3c1dull},
		{1, 1, 3, 8, 8, SDE_FILTER_LANCZOS, {0, 0, 1, 1}, 0x145f5a3f6d59b365ull},
		{64, 48, 4, 1, 1, SDE_FILTER_LANCZOS, {0, 0, 64, 48}, 0x044b8336f7b0f19aull},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_image image =
			random_image(cases[i].width * 1000 + cases[i].height, cases[i].width,
				     cases[i].height, cases[i].channels, SDE_PIXEL_U8);
		struct sde_image out;

		assert_int_equal(sde_resize_u8(&image, cases[i].out_width, cases[i].out_height,
					       cases[i].filter, &cases[i].box, &out, NULL),
				 0);
		assert_int_equal(fnv1a(out.data, out.stride * out.height), cases[i].hash);
		sde_image_clear(&out);
		sde_image_clear(&image);
	}
}

static void test_fill_and_crop_modes(void **state)
{
	static const struct {
		uint32_t width, height, out_width, out_height;
		uint64_t fill, crop;
	} cases[] = {
		{37, 23, 64, 64, 0xf3b8c26e9705ce6full, 0xff6b82466a9dc639ull},
		{23, 37, 64, 64, 0x5cccef937ffc8624ull, 0x6962033793b3a2d1ull},
		{64, 64, 40, 72, 0xf12a739dd4baf2cdull, 0x950ded470c6cced8ull},
		{50, 20, 33, 61, 0xa37a6369cdf597ddull, 0xb308cbbc9b99bbdaull},
		{20, 50, 61, 33, 0x46b2c58562bf9bd8ull, 0x4343ab38c1f546f7ull},
		{32, 32, 32, 32, 0x8a9a05e20f6dc66bull, 0x8a9a05e20f6dc66bull},
		{33, 17, 8, 9, 0x8cb4e89352d9f66dull, 0x0a92e622c590d677ull},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_image image =
			random_image(cases[i].width * 1000 + cases[i].height, cases[i].width,
				     cases[i].height, 3, SDE_PIXEL_U8);
		struct sde_image out;

		assert_int_equal(sde_diffusers_resize(&image, cases[i].out_width,
						      cases[i].out_height, SDE_RESIZE_FILL, &out,
						      NULL),
				 0);
		assert_int_equal(fnv1a(out.data, out.stride * out.height), cases[i].fill);
		sde_image_clear(&out);
		assert_int_equal(sde_diffusers_resize(&image, cases[i].out_width,
						      cases[i].out_height, SDE_RESIZE_CROP, &out,
						      NULL),
				 0);
		assert_int_equal(fnv1a(out.data, out.stride * out.height), cases[i].crop);
		sde_image_clear(&out);
		sde_image_clear(&image);
	}
}

static void test_overlay(void **state)
{
	static const struct {
		uint32_t width, height, made_width, made_height;
		struct sde_rect region;
		uint64_t hash;
	} cases[] = {
		{40, 30, 40, 30, {0, 0, 0, 0}, 0x0756be29d6997016ull},
		{40, 30, 64, 64, {5, 4, 24, 24}, 0x6c584191854c6089ull},
		{31, 45, 64, 64, {0, 7, 31, 38}, 0x6ffd9121c46442b2ull},
		{64, 48, 32, 24, {0, 0, 64, 48}, 0x7555e07d03196f84ull},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const uint32_t w = cases[i].width, h = cases[i].height;
		struct sde_image mask = random_image(w * 7 + h, w, h, 1, SDE_PIXEL_U8);
		struct sde_image original = random_image(w * 1000 + h, w, h, 3, SDE_PIXEL_U8);
		struct sde_image made =
			random_image(cases[i].made_width * 1000 + cases[i].made_height,
				     cases[i].made_width, cases[i].made_height, 3, SDE_PIXEL_U8);
		struct sde_image out;

		memset(mask.data, 0, (size_t)w * (h / 3));
		for (uint32_t y = 0; y < h; y++)
			memset(sde_image_row(&mask, y), 255, w / 4);
		assert_int_equal(sde_apply_overlay(&mask, &original, &made,
						   cases[i].region.width ? &cases[i].region : NULL,
						   &out, NULL),
				 0);
		assert_int_equal(fnv1a(out.data, out.stride * out.height), cases[i].hash);
		sde_image_clear(&out);
		sde_image_clear(&made);
		sde_image_clear(&original);
		sde_image_clear(&mask);
	}
}

static void test_bad_input_is_named(void **state)
{
	struct sde_image mask = grey_image(20, 10), deep, out;
	struct sde_rect region = {1, 2, 3, 4};
	struct sde_error error = {0};

	assert_int_equal(sde_crop_region(&mask, 64, 64, 8, &region, &error), -EINVAL);
	assert_non_null(strstr(error.message, "nothing is selected"));
	assert_int_equal(region.width, 3);
	assert_int_equal(sde_crop_region(&mask, 64, 0, 8, &region, &error), -EINVAL);
	assert_int_equal(sde_diffusers_resize(&mask, 0, 5, SDE_RESIZE_FILL, &out, &error), -EINVAL);
	assert_int_equal(sde_diffusers_resize(&mask, 1, 5000, SDE_RESIZE_CROP, &out, &error), 0);
	sde_image_clear(&out);
	deep = random_image(1, 4, 4, 3, SDE_PIXEL_U16);
	assert_int_equal(sde_resize_u8(&deep, 2, 2, SDE_FILTER_BOX, NULL, &out, &error), -EINVAL);
	sde_image_clear(&deep);
	sde_image_clear(&mask);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resize_is_pillows),
		cmocka_unit_test(test_fill_and_crop_modes),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_bad_input_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
