/*
 * Which models stay: two small ones under budgets and clocks, with clients that come, hold, pin and go.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void add_model(const struct daemon *daemon, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/models/%s", daemon->folder, name);
	assert_int_equal(symlink(getenv("SDD_TEST_MODEL"), path), 0);
}

static int load(sdc_client *client, const char *model, bool pin, int keep_alive_ms,
		sdc_error *ret_error)
{
	sdc_request *request = sdc_request_new("models.load", ret_error);
	int r;

	assert_int_equal(sdc_request_set_string(request, "model", model, ret_error), 0);
	assert_int_equal(sdc_request_set_bool(request, "pin", pin, ret_error), 0);
	if (keep_alive_ms >= -1)
		assert_int_equal(
			sdc_request_set_int(request, "keep_alive_ms", keep_alive_ms, ret_error), 0);
	r = sdc_call(client, request, 60000, NULL, ret_error);
	sdc_request_free(request);
	return r;
}

/* The names of the models in memory, one behind the other. */
static void loaded(const struct daemon *daemon, char *names, size_t size)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("status", &error);
	sdc_reply *reply = NULL;

	assert_int_equal(sdc_call(client, request, 10000, &reply, &error), 0);
	names[0] = '\0';
	for (size_t i = 0; i < sdc_reply_count(reply, "models"); i++) {
		const char *name = "";
		char path[40];

		snprintf(path, sizeof(path), "models.%zu.name", i);
		sdc_reply_string(reply, path, &name);
		snprintf(names + strlen(names), size - strlen(names), "%s ", name);
	}
	sdc_reply_free(reply);
	sdc_request_free(request);
	sdc_client_free(client);
}

static void assert_loaded(const struct daemon *daemon, const char *expected)
{
	char names[256];

	loaded(daemon, names, sizeof(names));
	assert_string_equal(names, expected);
}

static void await_loaded(const struct daemon *daemon, const char *expected)
{
	char names[256];

	for (int i = 0; i < 1000; i++) {
		loaded(daemon, names, sizeof(names));
		if (strcmp(names, expected) == 0)
			return;
		sleep_ms(10);
	}
	assert_string_equal(names, expected);
}

static int64_t weight_bytes(void)
{
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	int64_t bytes;

	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	assert_int_equal(load(client, HARNESS_MODEL, false, -2, &error), 0);
	bytes = daemon_status_int(&daemon, "models.0.weight_bytes");
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	return bytes;
}

/* Room for two of four. */
static void test_least_recently_used_leaves(void **state)
{
	sdc_client *client, *holder;
	sdc_request *request;
	sdc_error error = {0};
	struct daemon daemon;
	char budget[64];

	SKIP_WITHOUT_WORKER();
	snprintf(budget, sizeof(budget), "--memory-budget=%lld",
		 (long long)(weight_bytes() * 11 / 5));
	daemon_start(&daemon, budget, NULL);
	add_model(&daemon, "a");
	add_model(&daemon, "b");
	add_model(&daemon, "c");
	client = daemon_connect(&daemon);
	assert_int_equal(load(client, "a", false, -2, &error), 0);
	assert_int_equal(load(client, "b", false, -2, &error), 0);
	assert_loaded(&daemon, "a b ");
	/* a is used again, so b goes */
	request = txt2img(1, 1);
	assert_int_equal(sdc_request_set_string(request, "model", "a", &error), 0);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	assert_int_equal(load(client, "c", false, -2, &error), 0);
	assert_loaded(&daemon, "a c ");
	/* what another client holds goes after what only this one held and let go */
	holder = daemon_connect(&daemon);
	assert_int_equal(load(holder, "a", false, -2, &error), 0);
	sdc_client_free(client);
	client = daemon_connect(&daemon);
	assert_int_equal(load(holder, "a", false, -2, &error), 0);
	sleep_ms(50);
	assert_int_equal(load(client, "b", false, -2, &error), 0);
	assert_loaded(&daemon, "a b ");
	/* pinned ones stay, and who cannot have room is told */
	assert_int_equal(load(holder, "a", true, -2, &error), 0);
	assert_int_equal(load(client, "b", true, -2, &error), 0);
	assert_int_equal(load(client, "c", false, -2, &error), SDC_E_NO_MEMORY);
	assert_non_null(strstr(error.message, "pin"));
	assert_int_equal(sdc_request_set_string(request, "model", "c", &error), 0);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), SDC_E_NO_MEMORY);
	assert_loaded(&daemon, "a b ");
	/* the pin ends with its connection */
	sdc_client_free(holder);
	sleep_ms(50);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	assert_loaded(&daemon, "b c ");
	sdc_request_free(request);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A model whose unet is another, and whose other files have longer headers, so that no file is the same. */
static void add_variant(const struct daemon *daemon, const char *name)
{
	static const char script[] =
		"import glob,struct\n"
		"for path in glob.glob('*/*.safetensors'):\n"
		"    data = open(path, 'rb').read()\n"
		"    n = struct.unpack('<Q', data[:8])[0]\n"
		"    tail = data[8 + n:]\n"
		"    if path.startswith('unet'): tail = bytes([tail[0] ^ 1]) + tail[1:]\n"
		"    open(path, 'wb').write(struct.pack('<Q', n + 8) + data[8:8 + n] + b' ' * 8 + "
		"tail)\n";
	char command[2048];

	snprintf(command, sizeof(command),
		 "cp -rL %s %s/models/%s && cd %s/models/%s && chmod -R u+w . && python3 -c \"%s\"",
		 getenv("SDD_TEST_MODEL"), daemon->folder, name, daemon->folder, name, script);
	assert_int_equal(system(command), 0);
}

static int64_t bytes_in(const char *component)
{
	char command[512], line[32] = "";
	FILE *pipe;

	snprintf(command, sizeof(command), "stat -Lc %%s %s/%s/*.safetensors",
		 getenv("SDD_TEST_MODEL"), component);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_non_null(fgets(line, sizeof(line), pipe));
	pclose(pipe);
	return atoll(line);
}

/* Autoencoder and text encoder of the same bytes are there once; the answer and status say how much that is. */
static void test_shared_parts_are_told(void **state)
{
	sdc_client *client;
	sdc_error error = {0};
	struct daemon daemon;
	int64_t shared, files;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	add_model(&daemon, "a");
	add_variant(&daemon, "b");
	client = daemon_connect(&daemon);
	assert_int_equal(load(client, "a", false, -2, &error), 0);
	assert_int_equal(daemon_status_int(&daemon, "models.0.shared_bytes"), 0);
	assert_int_equal(load(client, "b", false, -2, &error), 0);
	shared = daemon_status_int(&daemon, "models.1.shared_bytes");
	/* but for the headers of the files */
	files = bytes_in("vae") + bytes_in("text_encoder");
	assert_in_range(shared, files * 9 / 10 - (64 << 10), files);
	assert_true(shared + bytes_in("unet") >
		    daemon_status_int(&daemon, "models.1.weight_bytes"));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_unused_models_leave(void **state)
{
	sdc_client *client;
	sdc_request *request;
	sdc_error error = {0};
	struct daemon daemon;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--keep-alive=500ms", NULL);
	add_model(&daemon, "a");
	add_model(&daemon, "b");
	client = daemon_connect(&daemon);
	assert_int_equal(load(client, "a", false, -2, &error), 0);
	assert_int_equal(load(client, "b", false, -1, &error), 0);
	/* the client is there: nothing leaves */
	sleep_ms(1200);
	assert_loaded(&daemon, "a b ");
	sdc_client_free(client);
	/* b was to stay */
	await_loaded(&daemon, "b ");
	assert_int_equal(daemon_count_log(&daemon, "no client has used it"), 1);
	/* a job may say so too: away with it as soon as its client is */
	client = daemon_connect(&daemon);
	request = txt2img(1, 1);
	assert_int_equal(sdc_request_set_string(request, "model", "a", &error), 0);
	assert_int_equal(sdc_request_set_int(request, "keep_alive_ms", 0, &error), 0);
	assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
	assert_loaded(&daemon, "a b ");
	sdc_client_free(client);
	await_loaded(&daemon, "b ");
	sdc_request_free(request);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_least_recently_used_leaves),
		cmocka_unit_test(test_shared_parts_are_told),
		cmocka_unit_test(test_unused_models_leave),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
