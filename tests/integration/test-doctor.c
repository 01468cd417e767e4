/*
 * models.check and `sdctl doctor`: a wrong scaling factor is named with the right one, damaged weights are seen, a batch gives
 * way and loses nothing, and a report says all that is needed and nothing private. On the model that ships, which is trained.
 */
#include "tests/integration/harness.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define VAE_WEIGHTS "diffusion_pytorch_model.safetensors"

__attribute__((format(printf, 2, 3))) static int shell(const struct daemon *daemon,
						       const char *format, ...)
{
	char command[1500];
	va_list ap;
	int status, n;

	n = snprintf(command, sizeof(command), "cd %s; sdctl() { %s --socket %s \"$@\"; }; ",
		     daemon->folder, getenv("SDD_TEST_SDCTL"), daemon->socket);
	va_start(ap, format);
	vsnprintf(command + n, sizeof(command) - (size_t)n, format, ap);
	va_end(ap);
	status = system(command);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A model `name`: links to the small one's files, but for a vae of its own, whose config went through sed. */
static void copy_model(const struct daemon *daemon, const char *name, const char *edit)
{
	const char *small = getenv("SDD_TEST_SMALL_MODEL");

	assert_int_equal(
		shell(daemon,
		      "mkdir -p models/%s/vae && for i in %s/*; do [ $(basename $i) = vae ] || "
		      "ln -s $i models/%s/; done && cp %s/vae/* models/%s/vae/ && "
		      "sed -i '%s' models/%s/vae/config.json",
		      name, small, name, small, name, edit, name),
		0);
}

static int check(sdc_client *client, const char *model, sdc_reply **ret_reply, sdc_error *ret_error)
{
	sdc_request *request = sdc_request_new("models.check", ret_error);
	int r;

	assert_non_null(request);
	assert_int_equal(sdc_request_set_string(request, "model", model, ret_error), 0);
	r = sdc_call(client, request, 60000, ret_reply, ret_error);
	sdc_request_free(request);
	return r;
}

struct health {
	double raw_std, scaled_std, factor, fitting, psnr;
	int healthy;
	char finding[512];
};

static struct health health_of(const struct daemon *daemon, const char *model)
{
	sdc_client *client = daemon_connect(daemon);
	struct health health = {0};
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	const char *text = "";

	if (check(client, model, &reply, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sdc_reply_double(reply, "raw_std", &health.raw_std), 0);
	assert_int_equal(sdc_reply_double(reply, "scaled_std", &health.scaled_std), 0);
	assert_int_equal(sdc_reply_double(reply, "scaling_factor", &health.factor), 0);
	assert_int_equal(sdc_reply_double(reply, "fitting_factor", &health.fitting), 0);
	assert_int_equal(sdc_reply_double(reply, "psnr", &health.psnr), 0);
	assert_int_equal(sdc_reply_bool(reply, "healthy", &health.healthy), 0);
	sdc_reply_string(reply, "findings.0", &text);
	snprintf(health.finding, sizeof(health.finding), "%s", text);
	sdc_reply_free(reply);
	sdc_client_free(client);
	return health;
}

static void assert_near(double value, double expected, double share)
{
	if (!(fabs(value - expected) <= share * fabs(expected)))
		fail_msg("%g is not within %g %% of %g", value, 100 * share, expected);
}

static void test_scaling_factor(void **state)
{
	/* as if it had SD 1's factor; and others that people's files have had */
	static const double wrong[] = {0.47, 2.6, 4};
	struct health right, health;
	struct daemon daemon;
	char edit[80], name[16];

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	copy_model(&daemon, "right", "");
	right = health_of(&daemon, "right");
	assert_string_equal(right.finding, "");
	assert_true(right.healthy);
	assert_near(right.scaled_std, 1, 0.1);
	assert_near(right.raw_std * right.factor, right.scaled_std, 1e-6);
	assert_true(right.psnr > 15);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(edit, sizeof(edit),
			 "s/\"scaling_factor\": [0-9.]*/\"scaling_factor\": %.5f/",
			 wrong[i] * right.factor);
		snprintf(name, sizeof(name), "wrong%zu", i);
		copy_model(&daemon, name, edit);
		health = health_of(&daemon, name);
		print_message("%s\n", health.finding);
		assert_false(health.healthy);
		assert_non_null(strstr(health.finding, "the scaling factor"));
		assert_non_null(strstr(health.finding, "right would be about"));
		assert_near(health.fitting, right.factor, 0.1);
		/* the pictures and the autoencoder are the same; rounding of bfloat16 apart */
		assert_near(health.raw_std, right.raw_std, 0.02);
		assert_near(health.psnr, right.psnr, 0.02);
	}
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* Where in the file the tensor's bytes begin. */
static long tensor_offset(FILE *file, const char *name)
{
	static char header[1 << 20];
	uint64_t length;
	const char *at;

	assert_int_equal(fread(&length, 8, 1, file), 1);
	assert_in_range(length, 1, sizeof(header) - 1);
	assert_int_equal(fread(header, 1, length, file), length);
	at = strstr(header, name);
	assert_non_null(at);
	at = strstr(at, "\"data_offsets\":[");
	assert_non_null(at);
	return (long)(8 + length) + strtol(at + strlen("\"data_offsets\":["), NULL, 10);
}

static void test_damaged_weights(void **state)
{
	/* no number in all of 16 and 32 bit floats */
	static const uint8_t damage[] = {0xff, 0xff, 0xff, 0x7f};
	struct daemon daemon;
	struct health health;
	char path[200];
	FILE *file;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	copy_model(&daemon, "damaged", "");
	snprintf(path, sizeof(path), "%s/models/damaged/vae/" VAE_WEIGHTS, daemon.folder);
	file = fopen(path, "r+e");
	assert_non_null(file);
	assert_int_equal(fseek(file, tensor_offset(file, "\"decoder.conv_out.bias\""), SEEK_SET),
			 0);
	assert_int_equal(fwrite(damage, 1, sizeof(damage), file), sizeof(damage));
	fclose(file);
	health = health_of(&daemon, "damaged");
	assert_false(health.healthy);
	assert_non_null(strstr(health.finding, "are no numbers"));
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	*(int *)userdata = error ? error->code : 1;
}

static void turn(sdc_client *client)
{
	struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

	poll(&fd, 1, 10);
	assert_true(sdc_client_dispatch(client, NULL) >= 0);
}

/* A check does not wait for the end of a batch, and costs the batch no step; a second one meanwhile is refused. */
static void test_batch_gives_way(void **state)
{
	int64_t restarts, queued;
	sdc_client *painter, *doctor;
	sdc_error error = {0};
	struct daemon daemon;
	sdc_request *request;
	int done = 0;
	sdc_job *job;
	const sdc_job_handlers handlers = {.done = on_done, .userdata = &done};

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	painter = daemon_connect(&daemon);
	doctor = daemon_connect(&daemon);
	request = txt2img(1000, 1);
	assert_int_equal(sdc_request_set_string(request, "priority", "batch", &error), 0);
	assert_int_equal(sdc_job_submit(painter, request, &handlers, &job, &error), 0);
	sdc_request_free(request);
	while (sdc_job_id(job) == 0)
		turn(painter);
	daemon_await_status(&daemon, "jobs.running", 1);
	assert_int_equal(check(doctor, HARNESS_MODEL, NULL, &error), 0);
	assert_int_equal(done, 0);
	assert_int_equal(daemon_count_log(&daemon, "job waits to go on behind step"), 1);
	daemon_await_status(&daemon, "jobs.running", 1);
	restarts = daemon_status_int(&daemon, "worker.restarts");
	queued = daemon_status_int(&daemon, "jobs.queued");
	assert_int_equal(restarts, 0);
	assert_int_equal(queued, 0);
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	while (!done)
		turn(painter);
	assert_int_equal(done, SDC_E_CANCELLED);
	assert_int_equal(check(doctor, "no such model", NULL, &error), SDC_E_NOT_FOUND);
	sdc_job_free(job);
	sdc_client_free(painter);
	sdc_client_free(doctor);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_one_check_at_a_time(void **state)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_connection *connection;
	struct sdp_message *message;
	struct daemon daemon;
	int busy = 0, good = 0;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	connection = raw_open(&daemon);
	raw_hello(connection);
	for (uint32_t i = 0; i < 2; i++) {
		sdp_writer_request(&writer, 10 + i, "models.check");
		sdp_writer_string(&writer, "model", HARNESS_MODEL);
		raw_send(connection, &writer);
	}
	for (int i = 0; i < 2; i++) {
		message = raw_read(connection, 60000);
		assert_non_null(message);
		if (message->failed) {
			assert_int_equal(message->error.code, SDP_CODE_BUSY);
			assert_int_equal(message->msgid, 11);
		}
		busy += message->failed;
		good += !message->failed;
		sdp_message_free(message);
	}
	assert_int_equal(busy, 1);
	assert_int_equal(good, 1);
	sdp_connection_free(connection);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A model that kills the engine when it is checked: one error, and the next worker serves. */
static void test_engine_dies_in_check(void **state)
{
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "SDD_FAULT=check:kill", NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(check(client, HARNESS_MODEL, NULL, &error), SDC_E_WORKER_LOST);
	sdc_client_free(client);
	assert_int_equal(shell(&daemon, "sdctl txt2img --model " HARNESS_MODEL
					" --steps 1 -o out.png x >/dev/null"),
			 0);
	/* the report is written all the same, and says so */
	assert_int_equal(shell(&daemon, "sdctl doctor report " HARNESS_MODEL
					" && grep -A1 '== models.check' report | "
					"grep -q 'no answer: the engine process was lost'"),
			 0);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* Everything is in it, and nothing that is nobody's business: the folder of this test is HOME. */
static void test_report(void **state)
{
	static const char *const sections[] = {
		"== machine",  "== devices", "== config",  "== models.list", "== adapters.list",
		"== job.list", "== status",  "== metrics", "== models.check"};
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	copy_model(&daemon, "wrong", "s/\"scaling_factor\": [0-9.]*/\"scaling_factor\": 0.05/");
	assert_int_equal(shell(&daemon, "sdctl txt2img --model wrong --steps 200 --detach "
					"--negative 'other words' 'secret words' >/dev/null"),
			 0);
	/* one whose error quotes its prompt */
	assert_int_equal(
		shell(&daemon,
		      "sdctl txt2img --model wrong --steps 1 --detach --priority interactive "
		      "'a <lora:secret words \"b\" c' >/dev/null"),
		0);
	assert_int_equal(shell(&daemon,
			       "for i in $(seq 300); do sdctl jobs | grep -q failed && exit 0; "
			       "sleep 0.1; done; exit 1"),
			 0);
	assert_int_equal(shell(&daemon, "sdctl --json jobs | grep -q 'secret words'"), 0);
	assert_int_equal(shell(&daemon, "export HOME=$PWD; SDD_SOCKET=/home/alice/s "
					"sdctl doctor report wrong"),
			 0);
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		assert_int_equal(shell(&daemon, "grep -qx '%s' report", sections[i]), 0);
	assert_int_equal(
		shell(&daemon, "grep -q '^sdctl [0-9.]*, protocol library [0-9.]*$' report"), 0);
	assert_int_equal(shell(&daemon, "grep -q '^processors: [0-9]*$' report"), 0);
	assert_int_equal(shell(&daemon, "grep -q '^backend = ' report"), 0);
	/* the engine's devices: it runs by the time of the last section */
	assert_int_equal(shell(&daemon, "tail -n 1 report | grep -q '\"engine\":\"[a-z]* ('"), 0);
	assert_int_equal(
		shell(&daemon, "grep -q '\"name\":\"wrong\".*\"weight_bytes\":[1-9]' report"), 0);
	assert_int_equal(shell(&daemon, "grep -q 'the scaling factor 0.05 is wrong.*right would "
					"be about [0-9.]* ' report"),
			 0);
	assert_int_equal(
		shell(&daemon,
		      "grep -q '\"raw_std\":[1-9].*\"scaled_std\":0.*\"psnr\":[1-9]' report"),
		0);
	assert_int_equal(shell(&daemon, "grep -qx 'models = ~/models' report"), 0);
	assert_int_equal(shell(&daemon, "grep -qx 'SDD_SOCKET=~/s' report"), 0);
	assert_int_equal(shell(&daemon, "grep -q -e 'secret words' -e 'other words' -e \"$PWD\" "
					"-e alice report"),
			 1);
	assert_int_equal(shell(&daemon, "grep -q '\"error\":\"prompt: (not shown)\"' report"), 0);
	/* without a check nothing is loaded for it */
	assert_int_equal(shell(&daemon, "sdctl doctor - - | grep -q '== models.check'"), 1);
	assert_int_equal(shell(&daemon, "sdctl check wrong >/dev/null"), 1);
	assert_int_equal(shell(&daemon, "sdctl doctor /nowhere/report 2>/dev/null"), 1);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scaling_factor),
		cmocka_unit_test(test_damaged_weights),
		cmocka_unit_test(test_batch_gives_way),
		cmocka_unit_test(test_one_check_at_a_time),
		cmocka_unit_test(test_engine_dies_in_check),
		cmocka_unit_test(test_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
