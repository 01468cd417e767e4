/*
 * prompt.count: the number a job would report, without a model in memory, beside a running job, for CLIP's chunks and T5's
 * limit; and the same as plug-ins show it while somebody types.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/common/count.h"

static struct daemon server;

static int setup(void **state)
{
	daemon_start(&server, NULL);
	daemon_add_model(&server, "sdxl");
	daemon_add_model(&server, "sd3");
	daemon_add_model(&server, "flux_schnell");
	return 0;
}

static int teardown(void **state)
{
	daemon_clear(&server);
	return 0;
}

static sdc_request *count_request(const char *model, const char *prompt, const char *negative)
{
	sdc_request *request = sdc_request_new("prompt.count", NULL);

	assert_non_null(request);
	assert_int_equal(sdc_request_set_string(request, "model", model, NULL), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt", prompt, NULL), 0);
	assert_int_equal(sdc_request_set_string(request, "negative_prompt", negative, NULL), 0);
	return request;
}

static sdc_reply *count(sdc_client *client, const char *model, const char *prompt,
			const char *negative)
{
	sdc_request *request = count_request(model, prompt, negative);
	sdc_reply *reply = NULL;
	sdc_error error = {0};

	if (sdc_call(client, request, 30000, &reply, &error) < 0) {
		daemon_show_log(&server);
		fail_msg("%s: %s", model, error.message);
	}
	sdc_request_free(request);
	return reply;
}

static int64_t number(const sdc_reply *reply, const char *path)
{
	int64_t value = -1;

	sdc_reply_int(reply, path, &value);
	return value;
}

/* "word word ... word", n of them, in a static buffer. */
static const char *words(size_t n)
{
	static char text[16384];

	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		strcat(text, i ? " cat" : "cat");
	return text;
}

static void compare_with_job(sdc_client *client, const char *model, const char *prompt)
{
	sdc_reply *counted = count(client, model, prompt, "blurry, dark"), *made = NULL;
	sdc_request *request = txt2img(1, 1);
	sdc_error error = {0};

	sdc_request_set_string(request, "model", model, NULL);
	sdc_request_set_string(request, "prompt", prompt, NULL);
	sdc_request_set_string(request, "negative_prompt", "blurry, dark", NULL);
	if (sdc_call(client, request, 60000, &made, &error) < 0)
		fail_msg("%s, “%s”: %s", model, prompt, error.message);
	assert_int_equal(number(counted, "prompt.tokens"), number(made, "prompt_tokens"));
	assert_int_equal(number(counted, "negative_prompt.tokens"),
			 number(made, "negative_tokens"));
	/* a job tells of CLIP's; where T5 alone makes the context there is one row, cut at its limit */
	if (number(counted, "prompt.limit") == 75)
		assert_int_equal(number(counted, "prompt.chunks"), number(made, "chunks"));
	else
		assert_int_equal(number(counted, "prompt.chunks"), 1);
	sdc_request_free(request);
	sdc_reply_free(made);
	sdc_reply_free(counted);
}

static void test_says_what_a_job_says(void **state)
{
	static const char *const models[] = {HARNESS_MODEL, "sdxl", "sd3", "flux_schnell"};
	sdc_client *client;
	sdc_reply *reply, *tagless;

	SKIP_WITHOUT_WORKER();
	client = daemon_connect(&server);
	/* nothing is loaded for a count */
	reply = count(client, HARNESS_MODEL, "a red boat <lora:none:1>", "");
	tagless = count(client, HARNESS_MODEL, "a red boat ", "");
	assert_int_equal(number(reply, "prompt.tokens"), number(tagless, "prompt.tokens"));
	assert_true(number(reply, "prompt.tokens") >= 3);
	sdc_reply_free(tagless);
	assert_int_equal(number(reply, "prompt.limit"), 75);
	assert_int_equal(number(reply, "negative_prompt.tokens"), 0);
	assert_int_equal(daemon_count_log(&server, "model loaded"), 0);
	assert_int_equal(daemon_status_int(&server, "worker.restarts"), 0);
	sdc_reply_free(reply);
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		compare_with_job(client, models[i], "a red fox");
		compare_with_job(client, models[i], "(a fox:1.3), [snow] and \\(so\\) on");
		compare_with_job(client, models[i], words(90));
	}
	compare_with_job(client, HARNESS_MODEL, "");
	compare_with_job(client, HARNESS_MODEL, "one BREAK two");
	sdc_client_free(client);
}

static const char *text(const sdc_reply *reply, const char *path)
{
	const char *value = NULL;

	assert_int_equal(sdc_reply_string(reply, path, &value), 0);
	return value;
}

/* T5 reads so many tokens: the words behind them are named, and what is before them just fits. */
static void test_names_what_is_not_read(void **state)
{
	char prompt[4096] = "";
	sdc_client *client;
	sdc_reply *reply;
	int64_t limit;
	size_t kept;

	SKIP_WITHOUT_WORKER();
	client = daemon_connect(&server);
	for (int i = 0; i < 400; i++)
		sprintf(prompt + strlen(prompt), "%sw%d", i ? " " : "", i);
	reply = count(client, "flux_schnell", prompt, "");
	limit = number(reply, "prompt.limit");
	assert_true(limit > 0 && number(reply, "prompt.tokens") > limit);
	assert_true(strlen(text(reply, "prompt.lost")) > 0);
	kept = strlen(prompt) - strlen(text(reply, "prompt.lost"));
	assert_string_equal(prompt + kept, text(reply, "prompt.lost"));
	assert_int_equal(prompt[kept - 1], ' ');
	sdc_reply_free(reply);
	/* one word more and it would not be read whole */
	*strchr(prompt + kept, ' ') = '\0';
	reply = count(client, "flux_schnell", prompt, "");
	assert_string_equal(text(reply, "prompt.lost"), prompt + kept);
	sdc_reply_free(reply);
	prompt[kept - 1] = '\0';
	reply = count(client, "flux_schnell", prompt, "");
	assert_true(number(reply, "prompt.tokens") <= limit);
	assert_string_equal(text(reply, "prompt.lost"), "");
	sdc_reply_free(reply);
	sdc_client_free(client);
}

/* A job that takes minutes runs on while prompts are counted, and keeps its worker. */
static void test_beside_a_job(void **state)
{
	sdc_client *client;
	sdc_request *request;
	sdc_job *job = NULL;
	sdc_error error = {0};
	int64_t pid;

	SKIP_WITHOUT_WORKER();
	client = daemon_connect(&server);
	request = txt2img(1000, 1);
	assert_int_equal(sdc_job_submit(client, request, NULL, &job, &error), 0);
	sdc_request_free(request);
	assert_true(sdc_client_dispatch(client, &error) >= 0);
	daemon_await_status(&server, "jobs.running", 1);
	pid = daemon_status_int(&server, "worker.pid");
	for (int i = 0; i < 5; i++) {
		sdc_reply *reply = count(client, i % 2 ? HARNESS_MODEL : "sd3", words(80), "");

		assert_true(number(reply, "prompt.chunks") >= 2);
		sdc_reply_free(reply);
	}
	assert_int_equal(daemon_status_int(&server, "jobs.running"), 1);
	assert_int_equal(daemon_status_int(&server, "worker.pid"), pid);
	assert_int_equal(sdc_job_ended(job), 0);
	sdc_job_cancel(job, NULL);
	assert_int_equal(sdc_job_wait(job, 20000, &error), SDC_E_CANCELLED);
	sdc_job_free(job);
	sdc_client_free(client);
}

static int fails(sdc_client *client, const char *model, const char *prompt, sdc_error *error)
{
	sdc_request *request = count_request(model, prompt, "");
	const int r = sdc_call(client, request, 30000, NULL, error);

	sdc_request_free(request);
	return r;
}

static void test_errors(void **state)
{
	sdc_client *client = daemon_connect(&server);
	sdc_error error = {0};
	char folder[160];

	assert_int_equal(fails(client, "none-such", "a fox", &error), SDC_E_NOT_FOUND);
	if (harness_has_worker()) {
		assert_int_equal(fails(client, HARNESS_MODEL, "(a:1.1.1)", &error),
				 SDC_E_BAD_VALUE);
		assert_non_null(strstr(error.message, "1.1.1"));
		/* a folder that is no model */
		snprintf(folder, sizeof(folder), "%s/models/broken", server.folder);
		assert_int_equal(mkdir(folder, 0700), 0);
		strcat(folder, "/model_index.json");
		fclose(fopen(folder, "w"));
		assert_int_equal(fails(client, "broken", "a fox", &error), SDC_E_MODEL_ERROR);
		assert_int_equal(fails(client, HARNESS_MODEL, "a fox", &error), 0);
	}
	sdc_client_free(client);
}

struct answers {
	int counted, busy, lost;
};

static void on_count(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		     void *userdata)
{
	struct answers *answers = userdata;

	answers->counted += reply != NULL;
	answers->busy += error && error->code == SDC_E_BUSY && error->retry_ms > 0;
	answers->lost += error && error->code == SDC_E_WORKER_LOST;
}

static void await_answers(sdc_client *client, const struct answers *answers, int n)
{
	const int64_t end = now_ms() + 30000;

	while (answers->counted + answers->busy + answers->lost < n) {
		struct pollfd fd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

		assert_true(now_ms() < end);
		poll(&fd, 1, 1000);
		assert_true(sdc_client_dispatch(client, NULL) >= 0);
	}
}

/* Each is answered once: those over the limit at once, those that a worker took with it when it is found to be gone. */
static void test_limit_and_lost_worker(void **state)
{
	sdc_request *request = count_request(HARNESS_MODEL, "a fox", "");
	struct answers answers = {0};
	sdc_error error = {0};
	sdc_client *client;
	pid_t worker;

	if (!harness_has_worker()) {
		sdc_request_free(request);
		skip();
	}
	client = daemon_connect(&server);
	assert_int_equal(fails(client, HARNESS_MODEL, "a fox", &error), 0);
	worker = (pid_t)daemon_status_int(&server, "worker.pid");
	kill(worker, SIGSTOP);
	for (int i = 0; i < 6; i++)
		assert_true(sdc_call_async(client, request, on_count, &answers, NULL) > 0);
	await_answers(client, &answers, 2);
	assert_int_equal(answers.busy, 2);
	kill(worker, SIGKILL);
	await_answers(client, &answers, 6);
	assert_int_equal(answers.lost, 4);
	assert_int_equal(fails(client, HARNESS_MODEL, "a fox", &error), 0);
	sdc_request_free(request);
	sdc_client_free(client);
}

struct shown {
	int times;
	char prompt[640], negative[640];
};

static void on_shown(void *watcher, const char *prompt, const char *negative)
{
	struct shown *shown = watcher;

	shown->times++;
	snprintf(shown->prompt, sizeof(shown->prompt), "%s", prompt);
	snprintf(shown->negative, sizeof(shown->negative), "%s", negative);
}

static void await_shown(struct sdh_counter *counter)
{
	do {
		/* for reading alone, as Krita waits: what there is to write leaves at once */
		struct pollfd fd = {sdh_counter_fd(counter), POLLIN, 0};

		assert_int_equal(poll(&fd, 1, 20000), 1);
	} while (sdh_counter_dispatch(counter) == 0);
	assert_int_equal(sdh_counter_fd(counter), -1);
}

/* Of many changes typed while an answer is awaited only the last is counted. */
static void test_plugin_shows_the_latest(void **state)
{
	struct sdh_settings *settings = sdh_settings_new();
	struct shown shown = {0};
	struct sdh_counter *counter = sdh_counter_new(server.socket, on_shown, &shown);
	const size_t length = strlen("a red boat");
	sdc_client *client = daemon_connect(&server);
	char expected[64];
	sdc_reply *reply;
	sdc_error error;

	assert_non_null(settings);
	assert_non_null(counter);
	if (harness_has_worker()) {
		sdh_settings_set(settings, "model", HARNESS_MODEL, NULL);
		for (size_t n = 1; n <= length; n++) {
			char typed[16];

			snprintf(typed, n + 1, "a red boat");
			assert_int_equal(sdh_settings_set(settings, "prompt", typed, &error), 0);
			sdh_counter_ask(counter, settings);
		}
		await_shown(counter);
		assert_int_equal(shown.times, 2); /* the first letter, and the whole */
		reply = count(client, HARNESS_MODEL, "a red boat", "");
		snprintf(expected, sizeof(expected), "%d of 75 tokens",
			 (int)number(reply, "prompt.tokens"));
		sdc_reply_free(reply);
		assert_string_equal(shown.prompt, expected);
		assert_string_equal(shown.negative, "");
		/* the style's words count too */
		sdh_settings_set(settings, "style", "ink", NULL);
		sdh_settings_set(settings, "model", "flux_schnell", NULL);
		sdh_settings_set(settings, "prompt", words(400), NULL);
		sdh_counter_ask(counter, settings);
		await_shown(counter);
		assert_non_null(strstr(shown.prompt, " tokens; not read: “"));
		assert_true(strlen(shown.negative) > 0);
		sdh_settings_set(settings, "prompt", "(a:1.1.1)", NULL);
		sdh_counter_ask(counter, settings);
		await_shown(counter);
		assert_non_null(strstr(shown.prompt, "1.1.1"));
	}
	sdh_counter_free(counter);
	/* no daemon: nothing to show, nothing to wait for */
	snprintf(shown.prompt, sizeof(shown.prompt), "old");
	counter = sdh_counter_new("/none/such", on_shown, &shown);
	sdh_counter_ask(counter, settings);
	assert_string_equal(shown.prompt, "");
	assert_int_equal(sdh_counter_fd(counter), -1);
	sdh_counter_free(counter);
	sdh_settings_free(settings);
	sdc_client_free(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_says_what_a_job_says),
		cmocka_unit_test(test_names_what_is_not_read),
		cmocka_unit_test(test_beside_a_job),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_limit_and_lost_worker),
		cmocka_unit_test(test_plugin_shows_the_latest),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
