/*
 * Selections as text: back to the same values, limits, and texts from a file somebody else wrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/selection.h"

enum { WIDTH = 37, HEIGHT = 23, N = WIDTH * HEIGHT };

static const struct sdh_rect all = {0, 0, WIDTH, HEIGHT};

static void assert_same(const uint8_t *mask, const char *beginning)
{
	char *text = sdh_selection_text(mask, all, SDC_U8);
	uint8_t back[N];
	float floats[N];
	struct sdh_rect bounds;

	assert_non_null(text);
	assert_true(sdh_selection_bounds(text, &bounds));
	if (strncmp(text, beginning, strlen(beginning)) != 0)
		fail_msg("%s instead of %s", text, beginning);
	sdh_selection_paint(text, all, SDC_U8, back);
	assert_memory_equal(back, mask, N);
	sdh_selection_paint(text, all, SDC_F32, floats);
	for (int i = 0; i < N; i++)
		assert_int_equal((int)(floats[i] * 255 + 0.5f), mask[i]);
	free(text);
}

static void test_there_and_back(void **state)
{
	uint8_t mask[N] = {0};

	assert_null(sdh_selection_text(mask, all, SDC_U8));
	for (int y = 3; y < 9; y++)
		memset(mask + y * WIDTH + 5, 255, 11);
	assert_same(mask, "5,3,11,6");
	mask[4 * WIDTH + 7] = 3;
	assert_same(mask, "5,3,11,6:d*ff,1*3,");
	srand(5);
	for (int i = 0; i < N; i++)
		mask[i] = (uint8_t)(rand() % 3 ? rand() : 0);
	assert_same(mask, "0,0,37,23:");
}

/* Nothing written outside, whatever the text says: sanitizers watch. */
static void test_strange_texts(void **state)
{
	static const char *const refused[] = {"",	  "1,2,3",    "1,2,0,4",
					      "1,2,3,-4", "1,2,3,4x", "1,2,3,4:zz"};
	static const char *const taken[] = {"-5,-5,10,10",	 "30,20,99999,99999",
					    "0,0,5,5:",		 "0,0,5,5:ffffffffffffffffff*ff",
					    "0,0,5,5:3*ff,**,1", "0,0,5,5:3*fff,0*1,9*1",
					    "1,1,5,5:2*80"};
	struct sdh_rect bounds;
	uint8_t mask[N];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_false(sdh_selection_bounds(refused[i], &bounds));
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		assert_true(sdh_selection_bounds(taken[i], &bounds));
		sdh_selection_paint(taken[i], all, SDC_U8, mask);
	}
	assert_int_equal(mask[WIDTH + 2], 0x80);
	assert_int_equal(mask[WIDTH + 3], 0);
}

/* Of a part of the canvas: the same text as of all of it, and painted into any part only what lies there. */
static void test_parts(void **state)
{
	const struct sdh_rect part = {4, 2, 12, 9};
	uint8_t mask[N] = {0}, small[12 * 9], back[12 * 9];
	float faint[4] = {0, 0.0019f, 0.002f, 0};
	char *whole, *of_part;
	struct sdh_rect found;

	for (int y = 3; y < 9; y++)
		for (int x = 5; x < 14; x++)
			mask[y * WIDTH + x] = (uint8_t)(x * y);
	for (int y = 0; y < 9; y++)
		memcpy(small + y * 12, mask + (y + 2) * WIDTH + 4, 12);
	whole = sdh_selection_text(mask, all, SDC_U8);
	of_part = sdh_selection_text(small, part, SDC_U8);
	assert_string_equal(whole, of_part);
	sdh_selection_paint(whole, part, SDC_U8, back);
	assert_memory_equal(back, small, sizeof(small));
	found = sdh_selection_find(faint, (struct sdh_rect){10, 20, 4, 1}, SDC_F32);
	assert_int_equal(found.x, 12);
	assert_int_equal(found.width, 1);
	free(whole);
	free(of_part);
}

static void test_too_intricate(void **state)
{
	const int side = 512;
	uint8_t *noise = malloc((size_t)side * (size_t)side);

	for (int i = 0; i < side * side; i++)
		noise[i] = (uint8_t)(i * 7 + 1);
	assert_null(sdh_selection_text(noise, (struct sdh_rect){0, 0, side, side}, SDC_U8));
	free(noise);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_strange_texts),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_too_intricate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
