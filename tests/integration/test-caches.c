/*
 * What status and metrics say of the engine's caches while jobs repeat each other: hits of the same user, also with a
 * copy of the model, none of another, counts that outlive the worker, and nothing kept where sdd.conf says so.
 */
#include "tests/integration/harness.h"
#include "tests/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <signal.h>

enum { STRANGER = 65534 };

static sdc_request *request_of(const char *prompt)
{
	sdc_request *request = txt2img(2, 1);
	sdc_error error = {0};

	assert_int_equal(sdc_request_set_string(request, "prompt", prompt, &error), 0);
	return request;
}

static struct result paint_model(const struct daemon *daemon, const char *model, const char *prompt)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_request *request = request_of(prompt);
	struct result picture;
	sdc_error error = {0};
	sdc_reply *reply;

	assert_int_equal(sdc_request_set_string(request, "model", model, &error), 0);
	reply = call_request(client, request);
	picture = result_of(reply);
	sdc_reply_free(reply);
	sdc_client_free(client);
	return picture;
}

static struct result paint(const struct daemon *daemon, const char *prompt)
{
	return paint_model(daemon, HARNESS_MODEL, prompt);
}

static void drop(struct result picture)
{
	free(picture.bytes);
}

/* By the order of the kinds: text is the first. */
static void assert_texts(const struct daemon *daemon, int64_t hits, int64_t misses)
{
	char kind[16];

	daemon_status_text(daemon, "caches.0.kind", kind, sizeof(kind));
	assert_string_equal(kind, "text");
	assert_int_equal(daemon_status_int(daemon, "caches.0.hits"), hits);
	assert_int_equal(daemon_status_int(daemon, "caches.0.misses"), misses);
}

static void test_repeats_hit(void **state)
{
	struct result first, again;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	first = paint(&daemon, "a red boat");
	assert_texts(&daemon, 0, 2); /* the prompt and the empty one */
	again = paint(&daemon, "a red boat");
	assert_int_equal(first.size, again.size);
	assert_memory_equal(first.bytes, again.bytes, first.size);
	assert_texts(&daemon, 2, 2);
	drop(again);
	drop(paint(&daemon, "a blue boat"));
	assert_texts(&daemon, 3, 3);
	assert_int_equal(daemon_status_int(&daemon, "caches.0.entries"), 3);
	assert_in_range(daemon_status_int(&daemon, "caches.0.bytes"), 3 * 77 * 24 * 4, 1 << 20);
	assert_int_equal(daemon_status_int(&daemon, "cache_budget"), 512 << 20);
	/* another worker knows nothing, but the counts go on */
	kill((pid_t)daemon_status_int(&daemon, "worker.pid"), SIGKILL);
	daemon_await_status(&daemon, "caches.0.entries", 0);
	assert_texts(&daemon, 3, 3);
	again = paint(&daemon, "a red boat");
	assert_memory_equal(first.bytes, again.bytes, first.size);
	assert_texts(&daemon, 3, 5);
	drop(again);
	drop(first);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void unload(const struct daemon *daemon, const char *model)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.unload", &error);

	assert_int_equal(sdc_request_set_string(request, "model", model, &error), 0);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	sdc_request_free(request);
	sdc_client_free(client);
}

/* Whatever the model is called and whenever its files were written; but another byte is another model. */
static void test_content_hits(void **state)
{
	struct result first, again;
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	run("cd %s/models && rm " HARNESS_MODEL " && cp -rL %s a && chmod -R u+w .", daemon.folder,
	    getenv("SDD_TEST_MODEL"));
	first = paint_model(&daemon, "a", "a red boat");
	assert_texts(&daemon, 0, 2);
	unload(&daemon, "a");
	run("cd %s/models && cp -r a b && rm -r a && touch b/text_encoder/model.safetensors",
	    daemon.folder);
	again = paint_model(&daemon, "b", "a red boat");
	assert_memory_equal(first.bytes, again.bytes, first.size);
	assert_texts(&daemon, 2, 2);
	drop(again);
	/* in place and with its old times, while it is in memory */
	run("cd %s/models/b/text_encoder && touch -r model.safetensors t && printf '>>>>>>>>' | dd "
	    "of=model.safetensors bs=1 conv=notrunc status=none seek=$(($(stat -c %%s "
	    "model.safetensors) - 64)) && touch -r t model.safetensors && rm t",
	    daemon.folder);
	again = paint_model(&daemon, "b", "a red boat");
	assert_texts(&daemon, 2, 4);
	drop(again);
	drop(first);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* Needs root, to be somebody else. */
static void test_users_do_not_share(void **state)
{
	struct daemon daemon;
	int status;
	pid_t pid;

	SKIP_WITHOUT_WORKER();
	if (geteuid() != 0)
		skip();
	daemon_start(&daemon, "--allow-user=65534", NULL);
	assert_int_equal(chmod(daemon.folder, 0755), 0);
	drop(paint(&daemon, "a red boat"));
	assert_texts(&daemon, 0, 2);
	for (int i = 0; i < 2; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			sdc_request *request = request_of("a red boat");
			sdc_client *stranger = NULL;
			sdc_reply *reply = NULL;
			sdc_error error = {0};

			if (setuid(STRANGER) < 0 ||
			    sdc_connect(daemon.socket, "other", 0, 5000, &stranger, &error) < 0)
				_exit(1);
			_exit(sdc_call(stranger, request, 120000, &reply, &error) < 0 ? 2 : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_texts(&daemon, i == 0 ? 0 : 2, 4);
	}
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_nothing_is_kept(void **state)
{
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--cache-bytes=0", NULL);
	for (int i = 0; i < 2; i++)
		drop(paint(&daemon, "a red boat"));
	assert_texts(&daemon, 0, 4);
	assert_int_equal(daemon_status_int(&daemon, "caches.0.entries"), 0);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_repeats_hit),
		cmocka_unit_test(test_content_hits),
		cmocka_unit_test(test_users_do_not_share),
		cmocka_unit_test(test_nothing_is_kept),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
