/*
 * The codec's claims: defaults are filled in, each bad value is refused by a sentence that names the field, unknown keys
 * are errors to a server and nothing to a client, and records survive being handed on.
 */
#include "wire.h"

#include "protocol/json.h"
#include "protocol/utf8.h"

static struct sdp_writer submit(const char *kind)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_request(&w, 1, "job.submit");
	sdp_writer_string(&w, "kind", kind);
	return w;
}

/* Decode as job.submit; with a code: it must be refused so, naming field, with text in the message. Frees the message. */
static void refuse(struct sdp_writer *w, int code, const char *field, const char *text)
{
	struct sdp_message *m = message_of(w);
	struct sdp_record *r = NULL;
	struct sdp_error error = {0};

	assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, &error),
			 -EINVAL);
	assert_null(r);
	assert_int_equal(error.code, code);
	assert_string_equal(error.field, field);
	if (!strstr(error.message, text))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
	sdp_message_free(m);
}

static void test_defaults(void **state)
{
	struct sdp_writer w = submit("inpaint");
	struct sdp_record *r;

	sdp_writer_int(&w, "steps", 12);
	sdp_writer_uint(&w, "seed", UINT64_MAX);
	sdp_writer_int(&w, "guidance_scale", 7);
	sdp_writer_rect(&w, "context", (struct sdp_rect){1, 2, 3, 4});
	struct sdp_message *m = message_of(&w);
	assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, NULL), 0);
	assert_int_equal(sdp_record_int(r, SDP_JOB_PARAMETERS_KIND), SDP_JOB_KIND_INPAINT);
	assert_int_equal(sdp_record_int(r, SDP_JOB_PARAMETERS_STEPS), 12);
	assert_true(sdp_record_uint(r, SDP_JOB_PARAMETERS_SEED) == UINT64_MAX);
	assert_true(sdp_record_double(r, SDP_JOB_PARAMETERS_GUIDANCE_SCALE) == 7.0);
	assert_true(sdp_record_double(r, SDP_JOB_PARAMETERS_FEATHER) == -1.0);
	assert_true(sdp_record_bool(r, SDP_JOB_PARAMETERS_COLOR_MATCH));
	assert_false(sdp_record_given(r, SDP_JOB_PARAMETERS_COLOR_MATCH));
	assert_string_equal(sdp_record_string(r, SDP_JOB_PARAMETERS_PROMPT), "");
	assert_string_equal(sdp_record_enum_name(r, SDP_JOB_PARAMETERS_FILL), "auto");
	assert_int_equal(sdp_record_int(r, SDP_JOB_PARAMETERS_CONTEXT), SDP_CONTEXT_COUNT);
	assert_int_equal(sdp_record_rect(r, SDP_JOB_PARAMETERS_CONTEXT).height, 4);
	assert_null(sdp_record_pixels(r, SDP_JOB_SUBMIT_IMAGE));
	sdp_message_free(m);
}

static void test_refusals(void **state)
{
	struct sdp_writer w = submit("txt2img");
	sdp_writer_int(&w, "stesp", 3);
	refuse(&w, SDP_CODE_UNKNOWN_FIELD, "stesp", "stesp");
	w = submit("txt2img");
	sdp_writer_int(&w, "steps", 1000);
	sdp_writer_int(&w, "steps", 3);
	refuse(&w, SDP_CODE_BAD_REQUEST, "steps", "twice");
	w = submit("txt2img");
	sdp_writer_int(&w, "steps", 1001);
	refuse(&w, SDP_CODE_BAD_VALUE, "steps",
	       "steps is 1001; it must be a whole number from 0 to 1000");
	w = submit("txt2img");
	sdp_writer_int(&w, "steps", -1);
	refuse(&w, SDP_CODE_BAD_VALUE, "steps", "-1");
	w = submit("txt2img");
	sdp_writer_double(&w, "steps", 3.0);
	refuse(&w, SDP_CODE_BAD_VALUE, "steps", "whole");
	w = submit("txt2img");
	sdp_writer_int(&w, "width", 12);
	refuse(&w, SDP_CODE_BAD_VALUE, "width", "multiple of 8");
	w = submit("txt2img");
	sdp_writer_double(&w, "strength", 1.01);
	refuse(&w, SDP_CODE_BAD_VALUE, "strength", "0 to 1");
	w = submit("txt2img");
	sdp_writer_double(&w, "strength", 0.0 / 0.0);
	refuse(&w, SDP_CODE_BAD_VALUE, "strength", "nan");
	w = submit("txt2img");
	sdp_writer_int(&w, "prompt", 3);
	refuse(&w, SDP_CODE_BAD_VALUE, "prompt", "string");
	w = submit("txt2img");
	sdp_writer_string(&w, "fill", "blurr");
	refuse(&w, SDP_CODE_BAD_VALUE, "fill", "\"blurr\"; it must be one of auto, blur, neutral");
	w = submit("txt2img");
	sdp_writer_int(&w, "color_match", 1);
	refuse(&w, SDP_CODE_BAD_VALUE, "color_match", "true or false");
	w = submit("txt2img");
	sdp_writer_rect(&w, "select", (struct sdp_rect){0, 0, -1, 1});
	refuse(&w, SDP_CODE_BAD_VALUE, "select", "[x, y, width, height]");
	w = submit("txt2img");
	sdp_writer_int(&w, "seed", -1);
	refuse(&w, SDP_CODE_BAD_VALUE, "seed", "18446744073709551615");
	w = submit("frobnicate");
	refuse(&w, SDP_CODE_BAD_VALUE, "kind", "txt2img");
	w = SDP_WRITER_INIT;
	sdp_writer_request(&w, 1, "job.submit");
	refuse(&w, SDP_CODE_MISSING_FIELD, "kind", "missing");
	w = submit("img2img");
	sdp_writer_map_begin(&w, "image");
	sdp_writer_int(&w, "width", 0);
	sdp_writer_end(&w);
	refuse(&w, SDP_CODE_BAD_VALUE, "image.width", "1 to 65536");
	w = submit("img2img");
	sdp_writer_int(&w, "image", 1);
	refuse(&w, SDP_CODE_BAD_VALUE, "image", "a map");
}

/* A string's limit counts bytes, to the byte. */
static void test_string_limit(void **state)
{
	char text[16386];

	memset(text, 'x', sizeof(text));
	text[16384] = '\0';
	struct sdp_writer w = submit("txt2img");
	struct sdp_record *r;
	sdp_writer_string(&w, "prompt", text);
	struct sdp_message *m = message_of(&w);
	assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, NULL), 0);
	assert_string_equal(sdp_record_string(r, SDP_JOB_PARAMETERS_PROMPT), text);
	sdp_message_free(m);
	text[16384] = 'x';
	text[16385] = '\0';
	w = submit("txt2img");
	sdp_writer_string(&w, "prompt", text);
	refuse(&w, SDP_CODE_BAD_VALUE, "prompt", "at most 16384 bytes");
}

static void test_utf8(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {
		{"", true},
		{"caf\xc3\xa9", true},
		{"\xf0\x9f\x8e\xa8", true},
		{"\xed\x9f\xbf\xee\x80\x80", true},
		{"\xf4\x8f\xbf\xbf", true},
		{"\xc0\x80", false},
		{"\xc1\xbf", false},
		{"\xe0\x9f\xbf", false},
		{"\xed\xa0\x80", false},
		{"\xf0\x8f\xbf\xbf", false},
		{"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false},
		{"\x80", false},
		{"\xe2\x82", false},
		{"a\xc3", false},
	};
	char clean[16];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].text);

		assert_int_equal(sdp_utf8_valid(cases[i].text, n), cases[i].valid);
		sdp_utf8_clean(clean, cases[i].text, n);
		assert_true(sdp_utf8_valid(clean, n));
		assert_int_equal(strlen(clean), n);
	}
	assert_false(sdp_utf8_valid("a\0b", 3));

	/* a prompt with a NUL byte: written by hand, since the writer cannot */
	struct sdp_scanner s;
	struct sdp_message *m;
	struct sdp_record *r;
	struct sdp_error error;
	static const uint8_t bytes[] =
		"\x94\x00\x01\xaajob.submit\x91\x82\xa4kind\xa7txt2img\xa6prompt\xa3x\0y";
	size_t used, n = sizeof(bytes) - 1;
	uint8_t *copy = malloc(n);
	memcpy(copy, bytes, n);
	sdp_scanner_init(&s, 0, false);
	assert_int_equal(sdp_scanner_feed(&s, copy, n, &used, NULL), SDP_SCAN_COMPLETE);
	assert_int_equal(sdp_message_new(&s, copy, n, NULL, 0, &m, NULL), 0);
	assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, &error),
			 -EINVAL);
	assert_string_equal(error.field, "prompt");
	sdp_message_free(m);
}

static void test_lenient(void **state)
{
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_record *r;
	struct sdp_error error;

	sdp_writer_event(&w, "job.progress");
	sdp_writer_int(&w, "job", 4);
	sdp_writer_string(&w, "stage", "steps");
	sdp_writer_int(&w, "tomorrow", 1);
	sdp_writer_string(&w, "step", "no number");
	struct sdp_message *m = message_of(&w);
	assert_ptr_equal(m->method, sdp_event_get(SDP_EVENT_JOB_PROGRESS));
	assert_int_equal(sdp_record_decode(m, m->method->params, SDP_LENIENT, &r, &error), 0);
	assert_int_equal(sdp_record_int(r, SDP_JOB_PROGRESS_JOB), 4);
	assert_false(sdp_record_given(r, SDP_JOB_PROGRESS_STEP));
	assert_int_equal(sdp_record_decode(m, m->method->params, SDP_STRICT, &r, &error), -EINVAL);
	assert_string_equal(error.field, "tomorrow");
	sdp_message_free(m);
	/* a required field is required of servers too */
	sdp_writer_event(&w, "job.progress");
	sdp_writer_int(&w, "job", 4);
	sdp_writer_string(&w, "stage", "dreaming");
	m = message_of(&w);
	assert_int_equal(sdp_record_decode(m, m->method->params, SDP_LENIENT, &r, &error), -EINVAL);
	sdp_message_free(m);
}

static void test_job_rules(void **state)
{
	static const uint8_t grey[64];
	struct sdp_pixels image = {.width = 8,
				   .height = 8,
				   .channels = 1,
				   .fd = -EBADF,
				   .data = grey,
				   .size = 64,
				   .stride = 8};
	static const struct {
		const char *kind;
		bool image, mask, select, left, width;
		const char *field; /* NULL = fine */
	} cases[] = {
		{"txt2img", .field = NULL},
		{"txt2img", .width = true, .field = NULL},
		{"txt2img", .image = true, .field = "image"},
		{"txt2img", .select = true, .field = "select"},
		{"img2img", .field = "image"},
		{"img2img", .image = true, .field = NULL},
		{"img2img", .image = true, .width = true, .field = "width"},
		{"img2img", .image = true, .mask = true, .field = "mask"},
		{"inpaint", .image = true, .field = "select"},
		{"inpaint", .image = true, .select = true, .field = NULL},
		{"inpaint", .image = true, .mask = true, .field = NULL},
		{"inpaint", .image = true, .mask = true, .select = true, .field = "select"},
		{"inpaint", .select = true, .field = "image"},
		{"inpaint", .image = true, .select = true, .left = true, .field = "left"},
		{"outpaint", .image = true, .field = "left"},
		{"outpaint", .image = true, .left = true, .field = NULL},
		{"upscale", .field = "image"},
		{"upscale", .image = true, .field = NULL},
		{"upscale", .image = true, .width = true, .field = "width"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sdp_writer w = submit(cases[i].kind);
		struct sdp_error error = {0};
		struct sdp_record *r;

		if (cases[i].image)
			sdp_writer_pixels(&w, "image", &image);
		if (cases[i].mask)
			sdp_writer_pixels(&w, "mask", &image);
		if (cases[i].select)
			sdp_writer_rect(&w, "select", (struct sdp_rect){0, 0, 4, 4});
		if (cases[i].left)
			sdp_writer_int(&w, "left", 8);
		if (cases[i].width)
			sdp_writer_int(&w, "width", 512);
		struct sdp_message *m = message_of(&w);
		assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, NULL),
				 0);
		assert_int_equal(sdp_job_check(r, &error), cases[i].field ? -EINVAL : 0);
		assert_string_equal(error.field, cases[i].field ? cases[i].field : "");
		if (!cases[i].field && strcmp(cases[i].kind, "txt2img"))
			assert_true(sdp_record_double(r, SDP_JOB_PARAMETERS_STRENGTH) ==
				    (!strcmp(cases[i].kind, "img2img")	 ? 0.8
				     : !strcmp(cases[i].kind, "upscale") ? 0.3
									 : 1.0));
		sdp_message_free(m);
	}
}

/* What sdd does: a client's job goes on to the worker, with its pictures, and comes back as `parameters`. */
static void test_hand_on(void **state)
{
	int before = count_fds();
	struct sdp_buffer buffer;
	struct sdp_pixels image = sealed_pixels(64, 48, 4, SDP_SAMPLE_TYPE_U8, 7, &buffer);
	struct sdp_writer w = submit("inpaint");
	struct sdp_record *r, *run, *again;
	struct sdp_error error = {0};

	sdp_writer_string(&w, "prompt", "caf\xc3\xa9 \"quoted\"\n");
	sdp_writer_rect(&w, "select", (struct sdp_rect){-5, 6, 7, 8});
	sdp_writer_rect(&w, "context", (struct sdp_rect){0, 0, 64, 48});
	sdp_writer_pixels(&w, "image", &image);
	struct sdp_message *m = message_of(&w);
	assert_int_equal(m->n_fds, 1);
	assert_int_equal(sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &r, &error), 0);
	assert_int_equal(sdp_job_check(r, &error), 0);
	sdp_record_set_uint(r, SDP_JOB_PARAMETERS_SEED, 99);
	assert_int_equal(sdp_record_set_string(r, SDP_JOB_PARAMETERS_SAMPLER, "euler"), 0);

	sdp_writer_request(&w, 5, "worker.run");
	sdp_writer_int(&w, "job", 3);
	sdp_writer_record(&w, r, &sdp_struct_worker_run, SDP_WRITE_DEFAULTS);
	struct sdp_message *to_worker = message_of(&w);
	assert_int_equal(
		sdp_record_decode(to_worker, &sdp_struct_worker_run, SDP_STRICT, &run, &error), 0);
	assert_string_equal(sdp_record_string(run, SDP_JOB_PARAMETERS_PROMPT),
			    "caf\xc3\xa9 \"quoted\"\n");
	assert_int_equal(sdp_record_rect(run, SDP_JOB_PARAMETERS_SELECT).x, -5);
	assert_int_equal(sdp_record_pixels(run, SDP_WORKER_RUN_IMAGE)->width, 64);
	assert_int_equal(sdp_record_pixels(run, SDP_WORKER_RUN_IMAGE)->size, 64 * 48 * 4);

	sdp_writer_request(&w, 5, "job.submit");
	sdp_writer_record(&w, r, &sdp_struct_job_parameters, SDP_WRITE_DEFAULTS);
	sdp_writer_pixels(&w, "image", sdp_record_pixels(r, SDP_JOB_SUBMIT_IMAGE));
	struct sdp_message *replay = message_of(&w);
	assert_int_equal(
		sdp_record_decode(replay, &sdp_struct_job_submit, SDP_STRICT, &again, &error), 0);
	assert_int_equal(sdp_job_check(again, &error), 0);
	assert_string_equal(sdp_record_string(again, SDP_JOB_PARAMETERS_SAMPLER), "euler");
	char *json = sdp_json_record(again);
	assert_non_null(strstr(json, "\"prompt\":\"caf\xc3\xa9 \\\"quoted\\\"\\n\""));
	assert_non_null(strstr(json, "\"select\":[-5,6,7,8]"));
	assert_non_null(strstr(json, "\"strength\":1.0"));
	assert_null(strstr(json, "image"));
	free(json);
	sdp_message_free(replay);
	sdp_message_free(to_worker);
	sdp_message_free(m);
	sdp_buffer_clear(&buffer);
	assert_int_equal(count_fds(), before);
}

static void test_errors_travel(void **state)
{
	struct sdp_error error = {.code = SDP_CODE_BUSY, .retry_ms = 1500, .field = "job"};
	struct sdp_writer w = SDP_WRITER_INIT;

	strcpy(error.message, "too many \xff jobs");
	sdp_writer_failure(&w, 8, &error);
	struct sdp_message *m = message_of(&w);
	assert_true(m->failed);
	assert_int_equal(m->msgid, 8);
	assert_int_equal(m->error.code, SDP_CODE_BUSY);
	assert_int_equal(m->error.retry_ms, 1500);
	assert_string_equal(m->error.field, "job");
	assert_string_equal(m->error.message, "too many ? jobs");
	sdp_message_free(m);
}

static void test_writer_limits(void **state)
{
	static char text[SDP_CONTROL_MAX + 2];
	struct sdp_writer w = SDP_WRITER_INIT;

	memset(text, 'x', SDP_CONTROL_MAX + 1);
	sdp_writer_request(&w, 1, "ping");
	sdp_writer_string(&w, "token", text);
	assert_int_equal(sdp_writer_finish(&w), -E2BIG);
	sdp_writer_request(&w, 1, "ping");
	sdp_writer_list_begin(&w, "x");
	for (int i = 0; i < SDP_ITEMS_MAX; i++)
		sdp_writer_bool(&w, NULL, false);
	assert_int_equal(sdp_writer_finish(&w), -E2BIG);
	sdp_writer_request(&w, 1, "ping");
	for (int i = 0; i < 20; i++)
		sdp_writer_map_begin(&w, "x");
	assert_int_equal(sdp_writer_finish(&w), -E2BIG);
	sdp_writer_request(&w, 1, "ping"); /* a fresh message forgets the error */
	assert_int_equal(sdp_writer_finish(&w), 0);
	sdp_writer_clear(&w);
}

static void test_json_numbers(void **state)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_event(&w, "job.started");
	sdp_writer_bin(&w, "h", "xyz", 3);
	assert_int_equal(sdp_writer_finish(&w), -E2BIG); /* bytes are for methods with pictures */
	sdp_writer_event(&w, "job.preview");
	sdp_writer_double(&w, "a", 0.1);
	sdp_writer_double(&w, "b", 1e300);
	sdp_writer_double(&w, "c", 0.0 / 0.0);
	sdp_writer_double(&w, "d", 7);
	sdp_writer_uint(&w, "e", UINT64_MAX);
	sdp_writer_int(&w, "f", INT64_MIN);
	sdp_writer_string(&w, "g", "\x01\t\x7f\\");
	sdp_writer_bin(&w, "h", "xyz", 3);
	sdp_writer_list_begin(&w, "i");
	sdp_writer_end(&w);
	struct sdp_message *m = message_of(&w);
	char *json = sdp_json_object(&m->params);
	assert_string_equal(json,
			    "{\"a\":0.1,\"b\":1e+300,\"c\":null,\"d\":7.0,"
			    "\"e\":18446744073709551615,\"f\":-9223372036854775808,"
			    "\"g\":\"\\u0001\\u0009\\u007f\\\\\",\"h\":{\"bytes\":3},\"i\":[]}");
	free(json);
	sdp_message_free(m);
}

static void test_tables(void **state)
{
	assert_ptr_equal(sdp_method_find("job.submit", 10), sdp_method_get(SDP_METHOD_JOB_SUBMIT));
	assert_null(sdp_method_find("job.submi", 9));
	assert_null(sdp_event_find("job.submit", 10));
	assert_int_equal(SDP_JOB_PARAMETERS_STEPS, SDP_JOB_SUBMIT_STEPS);
	assert_int_equal(SDP_JOB_PARAMETERS_STEPS, SDP_WORKER_RUN_STEPS);
	assert_true(strlen(sdp_api_json()) < 60000);
	assert_string_equal(sdp_code_name(SDP_CODE_WORKER_LOST), "worker_lost");
	assert_string_equal(sdp_code_name(0), "internal");
	assert_string_equal(sdp_code_name(10000), "internal");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),      cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_string_limit),  cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_lenient),	      cmocka_unit_test(test_job_rules),
		cmocka_unit_test(test_hand_on),	      cmocka_unit_test(test_errors_travel),
		cmocka_unit_test(test_writer_limits), cmocka_unit_test(test_json_numbers),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
