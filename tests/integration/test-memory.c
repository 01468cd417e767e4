/*
 * Memory before it is taken: the estimate against what the worker took, jobs that run in stages because the budget asks for it and give
 * the same bytes, refusals that say what would fit, and a model whose files change under a running daemon.
 */
#include "daemon/footprint.h"
#include "protocol/codec.h"
#include "tests/integration/harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How far above what is taken the estimate may be; below it is never. */
#define FACTOR 1.5

#define MODEL getenv("SDD_TEST_MODEL")

static struct sdd_footprint footprint_of(const char *path)
{
	struct sdd_footprint footprint;

	sdd_footprint_read(path, &footprint);
	assert_true(footprint.known);
	return footprint;
}

static struct sdd_work work_of(int side)
{
	return (struct sdd_work){.width = side, .height = side};
}

static void start(struct daemon *daemon, uint64_t budget)
{
	char option[64];

	snprintf(option, sizeof(option), "--memory-budget=%" PRIu64, budget);
	daemon_start(daemon, option, NULL);
}

static void stop(struct daemon *daemon)
{
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_clear(daemon);
}

static int paint(const struct daemon *daemon, int side, bool tiling, sdc_reply **ret_reply,
		 sdc_error *ret_error)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_request *request = txt2img(2, 7);
	sdc_error error = {0};
	int r;

	assert_int_equal(sdc_request_set_int(request, "width", side, &error), 0);
	assert_int_equal(sdc_request_set_int(request, "height", side, &error), 0);
	if (tiling)
		assert_int_equal(sdc_request_set_bool(request, "vae_tiling", 1, &error), 0);
	r = sdc_call(client, request, 120000, ret_reply, ret_error);
	sdc_request_free(request);
	sdc_client_free(client);
	return r;
}

static sdc_reply *painted(const struct daemon *daemon, int side)
{
	sdc_reply *reply = NULL;
	sdc_error error = {0};

	if (paint(daemon, side, false, &reply, &error) < 0)
		fail_msg("%s", error.message);
	return reply;
}

static bool is_staged(const sdc_reply *reply)
{
	int staged = 0;

	sdc_reply_bool(reply, "staged", &staged);
	return staged;
}

static void assert_same_picture(const sdc_reply *a, const sdc_reply *b, bool same)
{
	sdc_error error = {0};
	sdc_image left, right;

	assert_int_equal(sdc_reply_image(a, "images.0.pixels", &left, &error), 0);
	assert_int_equal(sdc_reply_image(b, "images.0.pixels", &right, &error), 0);
	assert_int_equal(left.stride * (size_t)left.height, right.stride * (size_t)right.height);
	assert_int_equal(memcmp(left.data, right.data, left.stride * (size_t)left.height) == 0,
			 same);
}

static void load(const struct daemon *daemon)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.load", &error);

	if (sdc_call(client, request, 60000, NULL, &error) < 0)
		fail_msg("%s", error.message);
	sdc_request_free(request);
	sdc_client_free(client);
}

/* The model that ships in place of the tiny one, which takes less than can be measured. */
static int use_small(void **state)
{
	*state = getenv("SDD_TEST_MODEL") ? strdup(getenv("SDD_TEST_MODEL")) : NULL;
	if (*state)
		setenv("SDD_TEST_MODEL", getenv("SDD_TEST_SMALL_MODEL"), 1);
	return 0;
}

static int use_tiny(void **state)
{
	if (*state)
		setenv("SDD_TEST_MODEL", *state, 1);
	free(*state);
	return 0;
}

/* The model that ships with its ControlNet and LoRA, and made ones that are large beside it (make-adapters.py). */
static void add_models(const struct daemon *daemon)
{
	char command[2048];

	snprintf(command, sizeof(command),
		 "cd %s/models && mkdir loras controlnets && ln -s %s/controlnets/* controlnets/ "
		 "&& ln -s %s/loras/* loras/ && python3 %s %s .",
		 daemon->folder, getenv("SDD_TEST_RELEASED"), getenv("SDD_TEST_RELEASED"),
		 getenv("SDD_TEST_MAKE_ADAPTERS"), getenv("SDD_TEST_SMALL_MODEL"));
	assert_int_equal(system(command), 0);
}

static sdc_request *with_adapters(int side, const char *lora, const char *control)
{
	const size_t n = (size_t)side * (size_t)side;
	sdc_request *request = txt2img(2, 7);
	uint8_t *grey = calloc(n, 3);
	const sdc_image image = {
		.width = side, .height = side, .channels = 3, .type = SDC_U8, .data = grey};
	sdc_error error = {0};

	assert_non_null(grey);
	assert_int_equal(sdc_request_set_int(request, "width", side, &error), 0);
	assert_int_equal(sdc_request_set_int(request, "height", side, &error), 0);
	if (lora)
		assert_int_equal(sdc_request_add_lora(request, lora, 0.5, &error), 0);
	if (control)
		assert_int_equal(sdc_request_add_control(request, control, &image, 1, 0, 1, &error),
				 0);
	free(grey);
	return request;
}

static struct sdd_footprint adapted_footprint(const struct daemon *daemon, const char *lora,
					      const char *control)
{
	struct sdd_footprint footprint = footprint_of(MODEL);
	char folder[300], *roots[] = {folder};
	struct sdd_memo headers = sdd_footprint_headers_new();
	const struct sdd_footprint_roots where = {roots, 1, &headers};
	struct sdp_record *job = NULL, *item;

	snprintf(folder, sizeof(folder), "%s/models", daemon->folder);
	assert_int_equal(sdp_record_new(&sdp_struct_job_parameters, &job), 0);
	if (lora) {
		assert_int_equal(sdp_record_append(job, SDP_JOB_PARAMETERS_LORAS, &item), 0);
		assert_int_equal(sdp_record_set_string(item, SDP_LORA_NAME, lora), 0);
	}
	if (control) {
		assert_int_equal(sdp_record_append(job, SDP_JOB_PARAMETERS_CONTROLS, &item), 0);
		assert_int_equal(sdp_record_set_string(item, SDP_CONTROL_KIND, control), 0);
	}
	sdd_footprint_add_adapters(&footprint, &where, job);
	sdd_memo_clear(&headers);
	sdp_message_free(job->message);
	return footprint;
}

/* Never less than what the worker took, and not much more. */
static void test_estimate_is_near_the_peak(void **state)
{
	static const struct {
		int side;
		const char *lora, *control;
	} rows[] = {
		{128, NULL, NULL},
		{512, NULL, NULL},
		{128, "sdd-small-chalk", "scribble"},
		{128, "made-lora", NULL},
		{128, "made-loha", NULL},
		{128, NULL, "scribble"},
		{128, NULL, "made_ip"},
		{512, "made-lora", "scribble"},
	};
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	bool good = true;

	SKIP_WITHOUT_WORKER();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && MEMORY_IS_MEASURED; i++) {
		const struct sdd_work work = work_of(rows[i].side);
		struct sdd_footprint footprint;
		struct daemon daemon;
		sdc_client *client;
		sdc_request *request;
		sdc_error error = {0};
		uint64_t before, took, told;
		pid_t worker;
		bool fits;

		start(&daemon, 1 << 30);
		add_models(&daemon);
		footprint = adapted_footprint(&daemon, rows[i].lora, rows[i].control);
		told = sdd_footprint_whole(&footprint, types, &work) + SDD_FOOTPRINT_PROGRAM_BYTES;
		load(&daemon);
		worker = (pid_t)daemon_status_int(&daemon, "worker.pid");
		before = (uint64_t)resident_kib(worker) * 1024;
		client = daemon_connect(&daemon);
		request = with_adapters(rows[i].side, rows[i].lora, rows[i].control);
		if (sdc_call(client, request, 120000, NULL, &error) < 0)
			fail_msg("%s, %s: %s", rows[i].lora, rows[i].control, error.message);
		took = (uint64_t)peak_kib(worker) * 1024 - before;
		fits = told >= took && (double)told <= (double)took * FACTOR;
		print_message("%d x %d, %s, %s: told %.1f MB, took %.1f MB%s\n", rows[i].side,
			      rows[i].side, rows[i].lora ? rows[i].lora : "no LoRA",
			      rows[i].control ? rows[i].control : "no control", (double)told / 1e6,
			      (double)took / 1e6, fits ? "" : ": wrong");
		good &= fits;
		sdc_request_free(request);
		sdc_client_free(client);
		stop(&daemon);
	}
	assert_true(good);
}

/* What does not fit for its adapters alone is refused before anything was started. */
static void test_adapters_count(void **state)
{
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	const struct sdd_work work = work_of(128);
	sdc_error error = {0};
	sdc_shortage shortage;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	for (int i = 0; i < 2; i++) {
		struct sdd_footprint bare;
		sdc_request *request =
			with_adapters(128, i ? NULL : "made-lora", i ? "scribble" : NULL);
		struct sdd_footprint adapted;
		sdc_client *client;

		bare = footprint_of(MODEL);
		start(&daemon, sdd_footprint_staged(&bare, types, &work) + 1000);
		add_models(&daemon);
		adapted = adapted_footprint(&daemon, i ? NULL : "made-lora", i ? "scribble" : NULL);
		client = daemon_connect(&daemon);
		assert_int_equal(sdc_call(client, request, 60000, NULL, &error), SDC_E_NO_MEMORY);
		assert_int_equal(sdc_client_shortage(client, &shortage), 0);
		assert_true(shortage.needed_bytes == sdd_footprint_staged(&adapted, types, &work));
		assert_true(shortage.needed_bytes > shortage.free_bytes + 1000000);
		assert_int_equal(daemon_status_int(&daemon, "worker.pid"), 0);
		sdc_request_free(request);
		sdc_client_free(client);
		stop(&daemon);
	}
}

/* An edit paints two pictures: what fits one does not fit it. */
static void test_edits_count_twice(void **state)
{
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	struct sdd_work work = work_of(512);
	struct sdd_footprint footprint;
	sdc_error error = {0};
	sdc_shortage shortage;
	struct daemon daemon;
	sdc_request *request;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	footprint = footprint_of(MODEL);
	start(&daemon, sdd_footprint_staged(&footprint, types, &work));
	client = daemon_connect(&daemon);
	request = with_adapters(512, NULL, NULL);
	assert_int_equal(sdc_request_set_string(request, "source_prompt", "a red house", &error),
			 0);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), SDC_E_NO_MEMORY);
	assert_int_equal(sdc_client_shortage(client, &shortage), 0);
	work.batch = 2;
	assert_true(shortage.needed_bytes == sdd_footprint_staged(&footprint, types, &work));
	sdc_request_free(request);
	sdc_client_free(client);
	stop(&daemon);
}

/* Headers are what a file says of itself: tensors without a side are counted, and nobody divides by what they lack. */
static void test_scalars_where_matrices_belong(void **state)
{
	static const char *const headers[] = {
		"{\"u.hada_w1_b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
		"{\"u.lokr_w1\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
		"\"u.lokr_w1_b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]},"
		"\"u.lokr_w2_b\":{\"dtype\":\"F32\",\"data_offsets\":[20,24]}}",
	};
	struct daemon daemon = {0};
	char folder[] = "/tmp/sdd-test-scalars-XXXXXX", path[128];

	assert_non_null(mkdtemp(folder));
	snprintf(daemon.folder, sizeof(daemon.folder), "%s", folder);
	snprintf(path, sizeof(path), "%s/models", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/models/loras", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/models/loras/odd.safetensors", folder);
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		const uint64_t length = strlen(headers[i]);
		const char data[24] = {0};
		FILE *file = fopen(path, "we");

		assert_non_null(file);
		assert_int_equal(fwrite(&length, sizeof(length), 1, file), 1);
		assert_int_equal(fwrite(headers[i], length, 1, file), 1);
		assert_int_equal(fwrite(data, sizeof(data), 1, file), 1);
		assert_int_equal(fclose(file), 0);
		adapted_footprint(&daemon, "odd", NULL);
	}
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	rmdir(folder);
}

static void test_staged_when_the_budget_asks_for_it(void **state)
{
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	const struct sdd_work work = work_of(128);
	struct sdd_footprint footprint;
	sdc_reply *whole, *staged;
	struct daemon daemon;
	uint64_t most, least;

	SKIP_WITHOUT_WORKER();
	footprint = footprint_of(MODEL);
	most = sdd_footprint_whole(&footprint, types, &work);
	least = sdd_footprint_staged(&footprint, types, &work);
	assert_true(least < most);
	start(&daemon, most);
	whole = painted(&daemon, 128);
	assert_false(is_staged(whole));
	stop(&daemon);
	start(&daemon, (least + most) / 2);
	staged = painted(&daemon, 128);
	assert_true(is_staged(staged));
	assert_same_picture(whole, staged, true);
	sdc_reply_free(whole);
	sdc_reply_free(staged);
	stop(&daemon);
}

static void assert_refused(const struct daemon *daemon, int side, const char *remedy)
{
	sdc_error error = {0};

	assert_int_equal(paint(daemon, side, false, NULL, &error), SDC_E_NO_MEMORY);
	if (!strstr(error.message, " MB free: ") || !strstr(error.message, remedy))
		fail_msg("'%s' does not say: %s", error.message, remedy);
}

/* sdctl names the option of its own that fits. */
static void assert_sdctl_advises(const struct daemon *daemon, int side, const char *advice)
{
	char command[1024];

	snprintf(command, sizeof(command),
		 "%s --socket %s txt2img --width %d --height %d -o %s/never.png fox 2>%s/said; "
		 "test $? -eq 1 && grep -qF -e '%s' %s/said",
		 getenv("SDD_TEST_SDCTL"), daemon->socket, side, side, daemon->folder,
		 daemon->folder, advice, daemon->folder);
	assert_int_equal(system(command), 0);
}

static void test_refusals_say_what_fits(void **state)
{
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	struct sdd_work work = work_of(1024);
	struct sdd_footprint footprint;
	struct daemon daemon;
	uint64_t tiled;

	SKIP_WITHOUT_WORKER();
	footprint = footprint_of(MODEL);
	work.tiled = true;
	tiled = sdd_footprint_staged(&footprint, types, &work);
	start(&daemon, tiled);
	assert_refused(&daemon, 1024, "tiled VAE fits (vae_tiling)");
	assert_sdctl_advises(&daemon, 1024, "this fits with --vae-tiling true");
	/* refused before anything was started */
	assert_int_equal(daemon_status_int(&daemon, "worker.pid"), 0);
	stop(&daemon);

	work = work_of(256);
	start(&daemon, sdd_footprint_staged(&footprint, types, &work));
	work = work_of(512);
	assert_refused(&daemon, 512, " fits");
	sdc_reply_free(painted(&daemon, 256));
	stop(&daemon);
	start(&daemon, 1000);
	assert_refused(&daemon, 128, "raise memory-budget");
	assert_sdctl_advises(&daemon, 128, "memory-budget in sdd.conf(5)");
	stop(&daemon);
}

/* The model as links to its files, for tests that change it. */
static void own_model(const struct daemon *daemon)
{
	char command[1024];

	snprintf(command, sizeof(command),
		 "rm -rf %s/models/" HARNESS_MODEL " && cp -rs %s %s/models/" HARNESS_MODEL,
		 daemon->folder, MODEL, daemon->folder);
	assert_int_equal(system(command), 0);
}

static void write_settings(const struct daemon *daemon, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/models/" HARNESS_MODEL "/sdd.json", daemon->folder);
	unlink(path);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* A folder of links may be turned to another file at any time. */
static void test_changed_files_are_loaded_anew(void **state)
{
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	start(&daemon, 1 << 30);
	own_model(&daemon);
	sdc_reply_free(painted(&daemon, 128));
	sdc_reply_free(painted(&daemon, 128));
	assert_int_equal(daemon_count_log(&daemon, "its files have changed"), 0);
	write_settings(&daemon, "{\"weights\": \"q8_0\"}");
	sdc_reply_free(painted(&daemon, 128));
	assert_int_equal(daemon_count_log(&daemon, "its files have changed"), 1);
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 2);
	write_settings(&daemon, "{}");
	load(&daemon);
	assert_int_equal(daemon_count_log(&daemon, "its files have changed"), 2);
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 3);
	stop(&daemon);
}

static const char *weights_of(const sdc_reply *reply, const char *path)
{
	const char *weights = "";

	sdc_reply_string(reply, path, &weights);
	return weights;
}

/* NULL = the request does not say. The form in effect is in the answer and in status. */
static void assert_loads(const struct daemon *daemon, const char *asked, const char *expected)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.load", &error);
	sdc_reply *reply = NULL;
	char weights[16];

	if (asked)
		assert_int_equal(sdc_request_set_string(request, "weights", asked, &error), 0);
	if (sdc_call(client, request, 60000, &reply, &error) < 0)
		fail_msg("%s", error.message);
	assert_string_equal(weights_of(reply, "weights"), expected);
	daemon_status_text(daemon, "models.0.weights", weights, sizeof(weights));
	assert_string_equal(weights, expected);
	sdc_reply_free(reply);
	sdc_request_free(request);
	sdc_client_free(client);
}

static void call_unload(const struct daemon *daemon)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.unload", &error);

	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	sdc_request_free(request);
	sdc_client_free(client);
}

/* sdd.conf, before it the model's sdd.json, before it models.load. */
static void test_form_of_weights_is_chosen(void **state)
{
	sdc_error error = {0};
	sdc_request *request;
	sdc_reply *reply[3] = {0};
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--weights=f16", NULL);
	assert_loads(&daemon, NULL, "f16");
	assert_loads(&daemon, "f16", "f16");
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 1);
	assert_loads(&daemon, "q8_0", "q8_0");
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 2);
	/* jobs, and who does not say, take it as it is */
	reply[0] = painted(&daemon, 128);
	assert_loads(&daemon, NULL, "q8_0");
	assert_int_equal(daemon_count_log(&daemon, "model loaded in"), 2);
	/* what the answer says is what the pictures are made of */
	assert_loads(&daemon, "stored", "stored");
	reply[1] = painted(&daemon, 128);
	assert_loads(&daemon, "q8_0", "q8_0");
	reply[2] = painted(&daemon, 128);
	assert_same_picture(reply[0], reply[2], true);
	assert_same_picture(reply[0], reply[1], false);
	for (int i = 0; i < 3; i++)
		sdc_reply_free(reply[i]);
	/* it is forgotten with models.unload */
	call_unload(&daemon);
	assert_loads(&daemon, NULL, "f16");
	call_unload(&daemon);
	own_model(&daemon);
	write_settings(&daemon, "{\"weights\": \"stored\"}");
	assert_loads(&daemon, NULL, "stored");
	assert_loads(&daemon, "bf16", "bf16");
	request = sdc_request_new("models.load", &error);
	assert_int_equal(sdc_request_set_string(request, "weights", "q4_0", &error),
			 SDC_E_BAD_VALUE);
	assert_non_null(strstr(error.message, "q8_0"));
	sdc_request_free(request);
	stop(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_estimate_is_near_the_peak, use_small,
						use_tiny),
		cmocka_unit_test_setup_teardown(test_adapters_count, use_small, use_tiny),
		cmocka_unit_test(test_edits_count_twice),
		cmocka_unit_test(test_scalars_where_matrices_belong),
		cmocka_unit_test(test_staged_when_the_budget_asks_for_it),
		cmocka_unit_test(test_refusals_say_what_fits),
		cmocka_unit_test(test_form_of_weights_is_chosen),
		cmocka_unit_test(test_changed_files_are_loaded_anew),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
