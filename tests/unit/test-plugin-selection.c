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

static void assert_same(const uint8_t *mask, const char *beginning)
{
	char *text = sdh_selection_text(mask, WIDTH, HEIGHT, SDC_U8);
	uint8_t back[N];
	float floats[N];
	struct sdh_rect bounds;

	assert_non_null(text);
	assert_true(sdh_selection_bounds(text, &bounds));
	if (strncmp(text, beginning, strlen(beginning)) != 0)
		fail_msg("%s instead of %s", text, beginning);
	sdh_selection_paint(text, WIDTH, HEIGHT, SDC_U8, back);
	assert_memory_equal(back, mask, N);
	sdh_selection_paint(text, WIDTH, HEIGHT, SDC_F32, floats);
	for (int i = 0; i < N; i++)
		assert_int_equal((int)(floats[i] * 255 + 0.5f), mask[i]);
	free(text);
}

static void test_there_and_back(void **state)
{
	uint8_t mask[N] = {0};

	assert_null(sdh_selection_text(mask, WIDTH, HEIGHT, SDC_U8));
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
		sdh_selection_paint(taken[i], WIDTH, HEIGHT, SDC_U8, mask);
	}
	assert_int_equal(mask[WIDTH + 2], 0x80);
	assert_int_equal(mask[WIDTH + 3], 0);
}

static void test_too_intricate(void **state)
{
	const int side = 512;
	uint8_t *noise = malloc((size_t)side * (size_t)side);

	for (int i = 0; i < side * side; i++)
		noise[i] = (uint8_t)(i * 7 + 1);
	assert_null(sdh_selection_text(noise, side, side, SDC_U8));
	free(noise);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_strange_texts),
		cmocka_unit_test(test_too_intricate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
