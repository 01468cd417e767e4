/*
 * What headers say of themselves, where it is not true: sums stick at the top instead of wrapping to something that fits. And what a
 * job's adapters cost the front process: each header once, no more tags than a job may name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/footprint.h"
#include "protocol/codec.h"
#include "tests/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static struct sdd_memo headers;

static int setup(void **state)
{
	char path[96];

	strcpy(root, "/tmp/sdd-footprint-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/loras", root);
	assert_int_equal(mkdir(path, 0700), 0);
	headers = sdd_footprint_headers_new();
	return 0;
}

static int teardown(void **state)
{
	char command[96];

	sdd_memo_clear(&headers);
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

/* A .safetensors as far as its header. */
static void put(const char *name, const char *header)
{
	const uint64_t length = strlen(header);
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.safetensors", root, name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(&length, sizeof(length), 1, file), 1);
	assert_int_equal(fwrite(header, length, 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static uint64_t bytes_of(const struct sdd_footprint *footprint)
{
	const struct sdd_work work = {.width = 64, .height = 64};
	const struct sdd_types types = {4, 4};
	const uint64_t whole = sdd_footprint_whole(footprint, types, &work);

	/* part after part is no way round */
	assert_true(whole < 1 << 30 || sdd_footprint_staged(footprint, types, &work) > 1 << 30);
	return whole;
}

static struct sdd_footprint with_prompt(const char *prompt)
{
	struct sdd_footprint footprint = {.known = true, .channels = 320};
	char *roots[] = {root};
	const struct sdd_footprint_roots where = {roots, 1, &headers};
	struct sdp_record *job = NULL;

	assert_int_equal(sdp_record_new(&sdp_struct_job_parameters, &job), 0);
	assert_int_equal(sdp_record_set_string(job, SDP_JOB_PARAMETERS_PROMPT, prompt), 0);
	sdd_footprint_add_adapters(&footprint, &where, job);
	sdp_message_free(job->message);
	return footprint;
}

#define TENSOR(name, shape, end)                                                                   \
	"\"" name "\": {\"dtype\": \"F16\", \"shape\": " shape ", \"data_offsets\": [0, " end "]}"
/* the largest number of tensors' numbers, and of JSON */
#define VAST  "[1048576, 1048576]"
#define FIRST "9223372036854775807"

static void test_no_sum_of_an_adapter_wraps(void **state)
{
	static const char *const vast[] = {
		/* three files' bytes beyond the largest number */
		TENSOR("a", "[2, 2]", FIRST) "," TENSOR("b", "[2, 2]", FIRST) "," TENSOR(
			"c", "[4194304, 4]", FIRST),
		/* 2^40 by 2^40 in a LoHa, a LoKr, a DoRA */
		TENSOR("u.hada_w1_a", VAST, "8") "," TENSOR("u.hada_w1_b", "[1, 1099511627776]",
							    "8"),
		TENSOR("u.lokr_w1", VAST, "8") "," TENSOR("u.lokr_w2", VAST, "8"),
		TENSOR("u.dora_scale", "[1, 2]", "8") "," TENSOR(
			"u.lora_up.weight", "[1099511627776, 1]",
			"8") "," TENSOR("u.lora_down.weight", "[1, 1099511627776]", "8"),
		/* 2^62 numbers, of which four bytes each are none */
		TENSOR("u.hada_w1_a", "[2147483648, 1]", "8") "," TENSOR("u.hada_w1_b",
									 "[1, 2147483648]", "8"),
		TENSOR("lora_te_u.hada_w1_a", "[2147483648, 1]",
		       "8") "," TENSOR("lora_te_u.hada_w1_b", "[1, 2147483648]", "8"),
	};

	for (size_t i = 0; i < sizeof(vast) / sizeof(vast[0]); i++) {
		struct sdd_footprint footprint;
		char header[1024], name[32], prompt[64];

		snprintf(header, sizeof(header), "{%s}", vast[i]);
		snprintf(name, sizeof(name), "loras/vast%zu", i);
		put(name, header);
		snprintf(prompt, sizeof(prompt), "<lora:vast%zu:1>", i);
		footprint = with_prompt(prompt);
		if (bytes_of(&footprint) < UINT64_C(1) << 62)
			fail_msg("%s: %llu bytes", vast[i],
				 (unsigned long long)bytes_of(&footprint));
	}
}

static void test_no_sum_of_a_model_wraps(void **state)
{
	struct sdd_footprint footprint;
	char header[8192] = "{", path[128];

	/* more bytes than there are numbers for, stored in a form that is kept as it is */
	for (int i = 0; i < 20; i++)
		snprintf(header + strlen(header), sizeof(header) - strlen(header),
			 "%s\"model.diffusion_model.%d\": {\"dtype\": \"F8_E4M3\", \"shape\": " VAST
			 ", \"data_offsets\": [0, " FIRST "]}, \"first_stage_model.decoder.%d\": "
			 "{\"dtype\": \"F32\", \"shape\": " VAST ", \"data_offsets\": [0, " FIRST
			 "]}",
			 i > 0 ? "," : "", i, i);
	strcat(header, "}");
	put("model", header);
	snprintf(path, sizeof(path), "%s/model.safetensors", root);
	sdd_footprint_read(path, &footprint);
	assert_true(footprint.known);
	assert_true(bytes_of(&footprint) > UINT64_C(20) << 40);
	/* what the file says it stores; and in each form */
	assert_true(footprint.denoiser.stored_bytes == UINT64_MAX);
	footprint.denoiser.numbers = footprint.vae_decoder.numbers = footprint.text.numbers =
		UINT64_MAX / 3;
	footprint.vae_decoder.stored_bytes = footprint.text.stored_bytes = UINT64_MAX;
	for (int form = 0; form < SDP_WEIGHTS_FORM_COUNT; form++) {
		footprint.form = (enum sdp_weights_form)form;
		assert_true(bytes_of(&footprint) > UINT64_MAX / 4);
	}
}

/* As many as a job may name (SDE_LORAS_MAX); the worker refuses a job of more. */
static void test_tags_are_limited(void **state)
{
	struct sdd_footprint footprint;
	char prompt[1024] = "";

	put("loras/one", "{" TENSOR("a", "[10, 10]", "200") "}");
	for (int i = 1; i <= 20; i++) {
		strcat(prompt, "<lora:one:0.1> ");
		footprint = with_prompt(prompt);
		assert_int_equal(footprint.adapter_numbers, 100 * (i < 16 ? i : 16));
	}
}

static void put_large(const char *side)
{
	const size_t size = 2 << 20;
	char *header = malloc(size + 256);
	int n;

	assert_non_null(header);
	n = snprintf(header, 256, "{" TENSOR("a", "[10, %s]", "200"), side);
	memset(header + n, ' ', size);
	strcpy(header + size, "}");
	put("loras/large", header);
	free(header);
}

static void test_headers_are_read_once(void **state)
{
	struct sdd_footprint footprint;
	long before, took = 0;

	put_large("10");
	/* from when its times are sure to tell it from the next */
	for (int i = 0; i < 500; i++) {
		before = bytes_read(getpid());
		footprint = with_prompt("<lora:large:1>");
		took = bytes_read(getpid()) - before;
		assert_int_equal(footprint.adapter_numbers, 100);
		if (took < 1 << 16)
			break;
		usleep(10000);
	}
	assert_in_range(took, 0, 1 << 16);
	put_large("11");
	footprint = with_prompt("<lora:large:1>");
	assert_int_equal(footprint.adapter_numbers, 110);
	/* and at once again, as large as before */
	put_large("12");
	footprint = with_prompt("<lora:large:1>");
	assert_int_equal(footprint.adapter_numbers, 120);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_sum_of_an_adapter_wraps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_sum_of_a_model_wraps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tags_are_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_are_read_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
