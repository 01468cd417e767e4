/*
 * The plug-ins' settings: named values as scripts write them, checks by the protocol's tables, JSON and back, memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/common/settings.h"

static void test_parse(void **state)
{
	struct sdh_settings *settings = sdh_settings_new();
	sdc_error error = {0};

	assert_int_equal(sdh_settings_parse(settings,
					    " strength=0.6\tprompt=\"a \\\"b\\\" c\" "
					    "negative='x, y' seed=18446744073709551615 exact=yes",
					    &error),
			 0);
	assert_string_equal(sdh_settings_get(settings, "strength"), "0.6");
	assert_string_equal(sdh_settings_get(settings, "prompt"), "a \"b\" c");
	assert_string_equal(sdh_settings_get(settings, "negative"), "x, y");
	assert_string_equal(sdh_settings_get(settings, "negative_prompt"), "x, y");
	assert_string_equal(sdh_settings_get(settings, "seed"), "18446744073709551615");
	assert_string_equal(sdh_settings_get(settings, "steps"), "");
	assert_string_equal(sdh_settings_get(settings, "no-such"), "");
	assert_int_equal(sdh_settings_set(settings, "seed", "", &error), 0);
	assert_string_equal(sdh_settings_get(settings, "seed"), "");
	sdh_settings_free(settings);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text, *words;
		int code;
	} rows[] = {
		{"strengh=0.6", "strength", SDC_E_UNKNOWN_FIELD},
		{"strength=1.5", "strength", SDC_E_BAD_VALUE},
		{"steps=many", "steps", SDC_E_BAD_VALUE},
		{"exact=maybe", "yes or no", SDC_E_BAD_VALUE},
		{"action=paint", "generate", SDC_E_BAD_VALUE},
		{"context=1,2,3", "x,y,width,height", SDC_E_BAD_VALUE},
		{"left=-1", "left", SDC_E_BAD_VALUE},
		{"scale=5", "scale", SDC_E_BAD_VALUE},
		{"a fox", "name=value", SDC_E_BAD_VALUE},
		{"prompt=\"a fox", "quote", SDC_E_BAD_VALUE},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sdh_settings *settings = sdh_settings_new();
		sdc_error error = {0};
		const int r = sdh_settings_parse(settings, rows[i].text, &error);

		if (r != rows[i].code || !strstr(error.message, rows[i].words))
			fail_msg("%s: %d, “%s”", rows[i].text, r, error.message);
		assert_string_equal(sdh_settings_get(settings, "prompt"), "");
		sdh_settings_free(settings);
	}
}

static void test_json(void **state)
{
	struct sdh_settings *settings = sdh_settings_new(), *back = sdh_settings_new();
	sdc_error error = {0};
	char *json;

	sdh_settings_set(settings, "prompt", "Füchse \"im\"\nWald", NULL);
	sdh_settings_set(settings, "seed", "18446744073709551615", NULL);
	json = sdh_settings_json(settings);
	assert_int_equal(sdh_settings_from_json(back, json, &error), 0);
	assert_string_equal(sdh_settings_get(back, "prompt"), "Füchse \"im\"\nWald");
	assert_string_equal(sdh_settings_get(back, "seed"), "18446744073709551615");
	free(json);

	assert_int_equal(
		sdh_settings_from_json(back, "{\"settings\":{\"prompt\":\"b\",\"of-later\":\"1\"}}",
				       &error),
		0);
	assert_string_equal(sdh_settings_get(back, "prompt"), "b");
	assert_int_equal(sdh_settings_from_json(back, "{\"prompt\"", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdh_settings_from_json(back, "{\"steps\":\"x\"}", &error),
			 SDC_E_BAD_VALUE);
	sdh_settings_free(settings);
	sdh_settings_free(back);
}

static void test_memory(void **state)
{
	char folder[] = "/tmp/sdd-settings-XXXXXX", path[64];
	struct sdh_settings *settings = sdh_settings_new(), *back = sdh_settings_new();
	FILE *file;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/a/b", folder);
	setenv("XDG_CONFIG_HOME", path, 1);
	sdh_settings_recall(back);
	sdh_settings_set(settings, "prompt", "fox", NULL);
	sdh_settings_remember(settings);
	sdh_settings_recall(back);
	assert_string_equal(sdh_settings_get(back, "prompt"), "fox");

	snprintf(path, sizeof(path), "%s/a/b/sdd/plugins.json", folder);
	file = fopen(path, "we");
	fputs("{broken", file);
	fclose(file);
	sdh_settings_recall(back); /* what was there stays */
	assert_string_equal(sdh_settings_get(back, "prompt"), "fox");
	unlink(path);
	for (size_t i = 0; i < 4; i++) {
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
	assert_int_not_equal(access(folder, F_OK), 0);
	sdh_settings_free(settings);
	sdh_settings_free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_memory),
	};

	setenv("LC_ALL", "C.UTF-8", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
