/*
 * sdctl's pictures: what is written comes back, damaged files are named errors, and laying a layer over a picture
 * leaves every byte under alpha 0 alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>

#include <cmocka.h>

#include "client/sdctl/compose.h"
#include "client/sdctl/picture.h"

static uint32_t random_state = 1;

static uint32_t next_random(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

static struct picture noise(int width, int height, int channels, enum picture_type type)
{
	const size_t n = (size_t)width * (size_t)height * (size_t)channels;
	struct picture picture;

	assert_int_equal(picture_new(width, height, channels, type, &picture), 0);
	for (size_t i = 0; i < n; i++) {
		if (type == PICTURE_U8)
			picture.data[i] = (uint8_t)next_random();
		else if (type == PICTURE_U16)
			((uint16_t *)picture.data)[i] = (uint16_t)next_random();
		else
			((float *)picture.data)[i] = (float)(next_random() & 0xffff) / 65535.0f;
	}
	return picture;
}

static size_t bytes_of(const struct picture *picture)
{
	return (size_t)picture->width * (size_t)picture->height * (size_t)picture->channels *
	       picture_type_size(picture->type);
}

static void scratch(char *path, size_t size)
{
	int fd;

	snprintf(path, size, "/tmp/sdctl-picture-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
}

static void test_png_round_trip(void **state)
{
	const struct picture_text texts[] = {{"parameters", "a red house\nSteps: 20"},
					     {"sdd", "{\"prompt\":\"caf\xc3\xa9\"}"}};
	char path[64], err[256], *text;

	scratch(path, sizeof(path));
	for (int channels = 1; channels <= 4; channels++) {
		for (enum picture_type type = PICTURE_U8; type <= PICTURE_U16; type++) {
			struct picture in = noise(37, 11, channels, type), out;

			assert_int_equal(picture_save_png(path, &in, texts, 2, err, sizeof(err)),
					 0);
			assert_int_equal(picture_load(path, &out, err, sizeof(err)), 0);
			assert_int_equal(out.width, 37);
			assert_int_equal(out.channels, channels);
			assert_int_equal(out.type, type);
			assert_memory_equal(in.data, out.data, bytes_of(&in));
			picture_clear(&in);
			picture_clear(&out);
		}
	}
	assert_int_equal(picture_png_text(path, "sdd", &text, err, sizeof(err)), 0);
	assert_string_equal(text, texts[1].value);
	free(text);
	assert_int_equal(picture_png_text(path, "nothing", &text, err, sizeof(err)), -ENOENT);
	unlink(path);
}

static void test_save_failure_leaves_no_file(void **state)
{
	struct picture picture = noise(4, 4, 3, PICTURE_U8);
	char err[256] = "";

	assert_true(picture_save_png("/nonexistent-folder/x.png", &picture, NULL, 0, err,
				     sizeof(err)) < 0);
	assert_non_null(strstr(err, "/nonexistent-folder/x.png"));
	picture_clear(&picture);
}

/* Cut and mutated files: an error with a sentence or a picture, never a crash (the sanitizers watch). */
static void test_damaged_files(void **state)
{
	struct picture in = noise(33, 21, 4, PICTURE_U8), out;
	char path[64], err[256];
	uint8_t *bytes, *copy;
	size_t size;

	scratch(path, sizeof(path));
	assert_int_equal(picture_save_png(path, &in, NULL, 0, err, sizeof(err)), 0);
	assert_int_equal(picture_slurp(path, 1 << 20, &bytes, &size, err, sizeof(err)), 0);
	for (size_t cut = 0; cut + 12 < size; cut += 7) {
		err[0] = '\0';
		assert_true(picture_decode(bytes, cut, &out, err, sizeof(err)) < 0);
		assert_true(err[0] != '\0');
	}
	copy = malloc(size);
	assert_non_null(copy);
	for (int round = 0; round < 500; round++) {
		memcpy(copy, bytes, size);
		copy[next_random() % size] ^= (uint8_t)(1u << (next_random() % 8));
		if (picture_decode(copy, size, &out, err, sizeof(err)) == 0)
			picture_clear(&out);
	}
	assert_int_equal(picture_decode((const uint8_t *)"GIF89a", 6, &out, err, sizeof(err)),
			 -EBADMSG);
	assert_non_null(strstr(err, "PNG, JPEG, WebP or TIFF"));
	free(copy);
	free(bytes);
	picture_clear(&in);
	unlink(path);
}

static void test_layer_leaves_the_rest_alone(void **state)
{
	for (enum picture_type type = PICTURE_U8; type <= PICTURE_F32; type++) {
		struct picture base = noise(31, 17, 3, type), layer = noise(8, 6, 4, type), out;
		const size_t pixel = 3 * picture_type_size(type);

		/* left half of the layer transparent, right half opaque */
		for (int i = 0; i < 8 * 6; i++) {
			const size_t alpha = (size_t)i * 4 + 3;
			const bool opaque = i % 8 >= 4;

			if (type == PICTURE_U8)
				layer.data[alpha] = opaque ? 255 : 0;
			else if (type == PICTURE_U16)
				((uint16_t *)layer.data)[alpha] = opaque ? 65535 : 0;
			else
				((float *)layer.data)[alpha] = opaque ? 1.0f : 0.0f;
		}
		assert_int_equal(compose_layer(&base, &layer, 10, 5, &out), 0);
		for (int y = 0; y < 17; y++) {
			for (int x = 0; x < 31; x++) {
				const bool covered = x >= 14 && x < 18 && y >= 5 && y < 11;
				const size_t at = (size_t)(y * 31 + x) * pixel;
				const size_t from = (size_t)((y - 5) * 8 + x - 10) * 4 *
						    picture_type_size(type);

				assert_memory_equal(out.data + at,
						    covered ? layer.data + from : base.data + at,
						    pixel);
			}
		}
		picture_clear(&base);
		picture_clear(&layer);
		picture_clear(&out);
	}
}

/* Transparent pixels keep their hidden colours under a transparent layer; half alpha mixes, rounded to nearest. */
static void test_alpha_arithmetic(void **state)
{
	const uint8_t under[8] = {10, 200, 30, 0, 100, 50, 255, 255},
		      over[8] = {7, 8, 9, 0, 200, 100, 0, 51};
	const uint8_t wanted[8] = {10, 200, 30, 0, 120, 60, 204, 255};
	struct picture base, layer, out;

	assert_int_equal(picture_new(2, 1, 4, PICTURE_U8, &base), 0);
	assert_int_equal(picture_new(2, 1, 4, PICTURE_U8, &layer), 0);
	memcpy(base.data, under, sizeof(under));
	memcpy(layer.data, over, sizeof(over));
	assert_int_equal(compose_layer(&base, &layer, 0, 0, &out), 0);
	assert_memory_equal(out.data, wanted, sizeof(wanted));
	picture_clear(&base);
	picture_clear(&layer);
	picture_clear(&out);
}

static void test_layer_beyond_the_canvas_grows_it(void **state)
{
	struct picture base = noise(10, 10, 4, PICTURE_U8), layer = noise(14, 10, 4, PICTURE_U8),
		       out;

	assert_int_equal(compose_layer(&base, &layer, -4, 0, &out), 0);
	assert_int_equal(out.width, 14);
	assert_int_equal(out.height, 10);
	assert_memory_equal(out.data, layer.data, 16); /* the four new pixels of the first row */
	picture_clear(&out);
	layer.type = PICTURE_F32;
	assert_int_equal(compose_layer(&base, &layer, 0, 0, &out), -EINVAL);
	layer.type = PICTURE_U8;
	picture_clear(&base);
	picture_clear(&layer);
}

static void test_sizes_are_checked(void **state)
{
	struct picture out;

	assert_int_equal(picture_new(0, 4, 3, PICTURE_U8, &out), -EINVAL);
	assert_int_equal(picture_new(4, PICTURE_MAX_SIDE + 1, 3, PICTURE_U8, &out), -EINVAL);
	assert_int_equal(picture_new(4, 4, 5, PICTURE_U8, &out), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_png_round_trip),
		cmocka_unit_test(test_save_failure_leaves_no_file),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_layer_leaves_the_rest_alone),
		cmocka_unit_test(test_alpha_arithmetic),
		cmocka_unit_test(test_layer_beyond_the_canvas_grows_it),
		cmocka_unit_test(test_sizes_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
