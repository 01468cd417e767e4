/*
 * Models that come, change and go under a running daemon: who subscribed is told without asking, the list has them with their content's
 * hash, memory is given back, and nobody waits for gigabytes to be read.
 */
#include "tests/integration/harness.h"
#include "tests/shell.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static sdc_reply *call(sdc_client *client, const char *method)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new(method, &error);
	sdc_reply *reply = NULL;

	assert_non_null(request);
	if (sdc_call(client, request, 60000, &reply, &error) < 0)
		fail_msg("%s: %s", method, error.message);
	sdc_request_free(request);
	return reply;
}

/* A text of a model in the list; false when there is no such model. "" when it has no such field. */
static bool list_text(sdc_client *client, const char *model, const char *field, char *text,
		      size_t size)
{
	sdc_reply *reply = call(client, "models.list");
	bool found = false;

	text[0] = '\0';
	for (size_t i = 0; i < sdc_reply_count(reply, "models") && !found; i++) {
		const char *name = "", *value = "";
		char path[64];

		snprintf(path, sizeof(path), "models.%zu.name", i);
		sdc_reply_string(reply, path, &name);
		found = strcmp(name, model) == 0;
		snprintf(path, sizeof(path), "models.%zu.%s", i, field);
		sdc_reply_string(reply, path, &value);
		if (found)
			snprintf(text, size, "%s", value);
	}
	sdc_reply_free(reply);
	return found;
}

static bool is_listed(sdc_client *client, const char *model)
{
	char text[8];

	return list_text(client, model, "name", text, sizeof(text));
}

static void count_changes(sdc_client *client, const char *event, const sdc_reply *reply,
			  void *userdata)
{
	if (strcmp(event, "models.changed") == 0)
		(*(int *)userdata)++;
}

static sdc_client *subscribe(const struct daemon *daemon, int *changes)
{
	sdc_client *client = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("events.subscribe", &error);

	*changes = 0;
	sdc_client_on_event(client, count_changes, changes);
	assert_int_equal(sdc_request_set_bool(request, "models", 1, &error), 0);
	assert_int_equal(sdc_call(client, request, 10000, NULL, &error), 0);
	sdc_request_free(request);
	return client;
}

static void hear(sdc_client *client)
{
	struct pollfd pollfd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};
	sdc_error error = {0};

	if (poll(&pollfd, 1, 100) > 0 && sdc_client_dispatch(client, &error) < 0)
		fail_msg("%s", error.message);
}

/* Hear events, which nothing but the daemon itself causes, until there is one more. */
static void await_change(sdc_client *client, int *changes)
{
	const int before = *changes;
	const int64_t until = now_ms() + 20000;

	while (*changes == before && now_ms() < until)
		hear(client);
	assert_true(*changes > before);
}

/* The hash, once it is known and, where other is given, another one. */
static void await_hash(sdc_client *client, const char *model, const char *other, char hash[65])
{
	for (int i = 0; i < 2000; i++) {
		assert_true(list_text(client, model, "hash", hash, 65));
		if (hash[0] && (!other || strcmp(hash, other) != 0))
			return;
		sleep_ms(10);
	}
	fail_msg("no hash of %s", model);
}

static void own_model(const struct daemon *daemon, const char *name)
{
	run("cp -rL %s %s/%s && chmod -R u+w %s/%s && mv %s/%s %s/models/",
	    getenv("SDD_TEST_MODEL"), daemon->folder, name, daemon->folder, name, daemon->folder,
	    name, daemon->folder);
}

static void stop(struct daemon *daemon)
{
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_clear(daemon);
}

static void test_changes_are_told(void **state)
{
	sdc_client *listener, *client;
	char first[65], copy[65], hash[65], said[65] = "", kind[16], path[128];
	struct daemon daemon;
	int changes;
	FILE *file;

	daemon_start(&daemon, NULL);
	listener = subscribe(&daemon, &changes);
	client = daemon_connect(&daemon);
	/* a link to a folder elsewhere; its hash is what sha256sum says */
	await_hash(client, HARNESS_MODEL, NULL, first);
	run("cd %s/models/" HARNESS_MODEL " && find -L * -maxdepth 1 -type f | grep -E "
	    "'\\.(safetensors|gguf|json|txt|model)$' | grep -v sdd.json$ | LC_ALL=C sort | xargs "
	    "sha256sum | sha256sum >%s/said",
	    daemon.folder, daemon.folder);
	snprintf(path, sizeof(path), "%s/said", daemon.folder);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fread(said, 1, 64, file), 64);
	fclose(file);
	assert_string_equal(first, said);
	assert_true(list_text(client, HARNESS_MODEL, "kind", kind, sizeof(kind)));
	assert_string_equal(kind, "folder");

	await_change(listener, &changes); /* that hash */
	assert_false(is_listed(client, "came"));
	own_model(&daemon, "came");
	await_change(listener, &changes);
	assert_true(is_listed(client, "came"));
	await_hash(client, "came", NULL, copy);
	assert_string_equal(copy, first);
	await_change(listener, &changes);
	/* a component's file is another */
	run("cd %s/models/came/unet && sed -i 's/}$/ }/' config.json", daemon.folder);
	await_change(listener, &changes);
	await_hash(client, "came", first, hash);
	/* and is what it was: as many bytes, at another time */
	run("cp -L %s/unet/config.json %s/models/came/unet/config.json", getenv("SDD_TEST_MODEL"),
	    daemon.folder);
	await_hash(client, "came", hash, copy);
	assert_string_equal(copy, first);
	run("rm -r %s/models/came", daemon.folder);
	await_change(listener, &changes);
	for (int i = 0; i < 100 && is_listed(client, "came"); i++)
		await_change(listener, &changes);
	assert_false(is_listed(client, "came"));
	sdc_client_free(client);
	sdc_client_free(listener);
	stop(&daemon);
}

static void test_root_comes_later(void **state)
{
	char option[128];
	struct daemon daemon;
	sdc_client *listener;
	int changes;

	snprintf(option, sizeof(option), "--models=/tmp/sdd-later-%d/a/models", (int)getpid());
	run("mkdir -p /tmp/sdd-later-%d", (int)getpid());
	daemon_start(&daemon, option, NULL);
	listener = subscribe(&daemon, &changes);
	assert_false(is_listed(listener, "late"));
	while (changes < 1)
		await_change(listener, &changes); /* the harness's own model's hash */
	run("mkdir -p /tmp/sdd-later-%d/a/models && cp -rL %s /tmp/sdd-later-%d/a/models/late",
	    (int)getpid(), getenv("SDD_TEST_MODEL"), (int)getpid());
	await_change(listener, &changes);
	assert_true(is_listed(listener, "late"));
	run("rm -r /tmp/sdd-later-%d", (int)getpid());
	sdc_client_free(listener);
	stop(&daemon);
}

/* The folder goes while a job paints with it: the job ends well, then the model leaves memory and the list. */
static void test_files_go_under_a_running_job(void **state)
{
	sdc_client *client, *watcher;
	sdc_error error = {0};
	sdc_request *request;
	struct daemon daemon;
	sdc_job *job = NULL;
	sdc_image image;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	request = txt2img(40, 1);
	own_model(&daemon, "going");
	client = daemon_connect(&daemon);
	watcher = daemon_connect(&daemon);
	assert_true(is_listed(watcher, "going"));
	assert_int_equal(sdc_request_set_string(request, "model", "going", &error), 0);
	assert_int_equal(sdc_job_submit(client, request, NULL, &job, &error), 0);
	while (sdc_job_progress(job).step < 1 && !sdc_job_ended(job))
		hear(client);
	run("rm -r %s/models/going", daemon.folder);
	if (sdc_job_wait(job, 60000, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error),
			 0);
	for (int i = 0; i < 1000 && is_listed(watcher, "going"); i++)
		sleep_ms(10);
	assert_false(is_listed(watcher, "going"));
	assert_int_equal(daemon_count_log(&daemon, "its files are gone"), 1);
	assert_int_equal(daemon_count_log(&daemon, "model unloaded"), 1);
	sdc_job_free(job);
	sdc_request_free(request);
	sdc_client_free(client);
	sdc_client_free(watcher);
	stop(&daemon);
}

/* Somebody downloads into the model's folder all the time: it is checked as it was loaded for that, once. */
static void test_check_beside_a_download(void **state)
{
	sdc_error error = {0};
	sdc_request *request;
	struct daemon daemon;
	sdc_client *client;
	char path[128];
	pid_t pid;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	own_model(&daemon, "growing");
	snprintf(path, sizeof(path), "%s/models/growing/unet/more.part", daemon.folder);
	client = daemon_connect(&daemon);
	request = sdc_request_new("models.check", &error);
	assert_int_equal(sdc_request_set_string(request, "model", "growing", &error), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		FILE *file = fopen(path, "we");

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (file && fputs("more", file) >= 0 && fflush(file) == 0)
			usleep(500);
		_exit(1);
	}
	for (int i = 1; i <= 2; i++) {
		if (sdc_call(client, request, 60000, NULL, &error) < 0)
			fail_msg("%s", error.message);
		assert_in_range(daemon_count_log(&daemon, "model loaded in"), i, 2 * i);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	sdc_request_free(request);
	sdc_client_free(client);
	stop(&daemon);
}

/* Children of sdd beside its worker; of the last one the number. */
static int helpers_of(const struct daemon *daemon, pid_t *ret_pid)
{
	const pid_t worker = (pid_t)daemon_status_int(daemon, "worker.pid");
	char path[64], line[4096] = "";
	int n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)daemon->pid,
		 (int)daemon->pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fgets(line, sizeof(line), file))
		for (char *at = line, *word; (word = strsep(&at, " "));) {
			if (!*word || atoi(word) == worker)
				continue;
			*ret_pid = (pid_t)atoi(word);
			n++;
		}
	fclose(file);
	return n;
}

/* Until the helper reads this file. */
static void await_reading(const struct daemon *daemon, const char *name)
{
	char path[64], target[256];
	pid_t pid = 0;

	for (int i = 0; i < 2000; i++) {
		helpers_of(daemon, &pid);
		for (int fd = 0; fd < 8; fd++) {
			ssize_t n;

			snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
			n = readlink(path, target, sizeof(target) - 1);
			target[n > 0 ? n : 0] = '\0';
			if (strstr(target, name))
				return;
		}
		sleep_ms(10);
	}
	fail_msg("nobody reads %s", name);
}

/* A terabyte of zeros: it is being read all the time, and nothing waits for it. */
static void test_nobody_waits_for_hashes(void **state)
{
	char hash[65], text[16];
	sdc_client *client, *other;
	struct daemon daemon;
	pid_t pid;
	int n;

	daemon_start(&daemon, NULL);
	own_model(&daemon, "zz-vast");
	run("truncate -s 1T %s/models/zz-vast/vae/more.safetensors", daemon.folder);
	client = daemon_connect(&daemon);
	await_hash(client, HARNESS_MODEL, NULL, hash);
	for (int i = 0; i < 500 && (n = helpers_of(&daemon, &pid)) == 0; i++)
		sleep_ms(10);
	assert_int_not_equal(n, 0);
	for (int i = 0; i < 5; i++) {
		assert_true(list_text(client, "zz-vast", "hash", text, sizeof(text)));
		assert_string_equal(text, "");
	}
	/* a connection that is closed is closed, though the helper was forked while it was open */
	other = daemon_connect(&daemon);
	sdc_client_free(other);
	daemon_await_status(&daemon, "connections", 2);
	if (harness_has_worker()) {
		sdc_error error = {0};
		sdc_request *request = txt2img(2, 1);

		assert_int_equal(sdc_call(client, request, 60000, NULL, &error), 0);
		sdc_request_free(request);
	}
	assert_true(list_text(client, "zz-vast", "hash", text, sizeof(text)));
	assert_string_equal(text, "");
	sdc_client_free(client);
	stop(&daemon);
}

/* It goes while it is hashed: the helper does not read on, and the next one's turn comes at once, without anybody asking. */
static void test_model_goes_while_it_is_hashed(void **state)
{
	sdc_client *listener;
	struct daemon daemon;
	char hash[65];
	int changes;

	daemon_start(&daemon, NULL);
	own_model(&daemon, "aa-vast");
	run("truncate -s 1T %s/models/aa-vast/vae/more.safetensors", daemon.folder);
	listener = daemon_connect(&daemon);
	assert_true(is_listed(listener, "aa-vast"));
	sdc_client_free(listener);
	listener = subscribe(&daemon, &changes);
	await_reading(&daemon, "more.safetensors");
	assert_int_equal(daemon_count_log(&daemon, "model hashed"), 0);
	run("rm -r %s/models/aa-vast", daemon.folder);
	/* that it has gone, then the other one's hash */
	await_change(listener, &changes);
	while (daemon_count_log(&daemon, "model hashed") == 0)
		await_change(listener, &changes);
	assert_true(list_text(listener, HARNESS_MODEL, "hash", hash, sizeof(hash)));
	assert_int_equal(strlen(hash), 64);
	daemon_show_log(&daemon);
	assert_false(is_listed(listener, "aa-vast"));
	sdc_client_free(listener);
	stop(&daemon);
}

static void hash_once(const char *cache, char hash[65], const char *reads, const char *says)
{
	struct daemon daemon;
	sdc_client *client;

	daemon_start(&daemon, cache, NULL);
	client = daemon_connect(&daemon);
	await_hash(client, HARNESS_MODEL, NULL, hash);
	if (daemon_count_log(&daemon, reads) != 1 || (says && daemon_count_log(&daemon, says) != 1))
		daemon_show_log(&daemon);
	assert_int_equal(daemon_count_log(&daemon, reads), 1);
	if (says)
		assert_int_equal(daemon_count_log(&daemon, says), 1);
	sdc_client_free(client);
	stop(&daemon);
}

/* The next daemon knows what this one has read; what it cannot believe it reads again, and mends. */
static void test_hashes_outlive_the_daemon(void **state)
{
	char folder[] = "/tmp/sdd-cache-XXXXXX", cache[64], hashes[3][65], read_all[64];
	int n_files;
	FILE *files;

	assert_non_null(mkdtemp(folder));
	snprintf(cache, sizeof(cache), "XDG_CACHE_HOME=%s", folder);
	run("cd %s && find -L * -maxdepth 1 -type f | grep -E "
	    "'\\.(safetensors|gguf|json|txt|model)$' | grep -vc sdd.json$ >%s/n",
	    getenv("SDD_TEST_MODEL"), folder);
	snprintf(read_all, sizeof(read_all), "%s/n", folder);
	files = fopen(read_all, "re");
	assert_non_null(files);
	assert_int_equal(fscanf(files, "%d", &n_files), 1);
	fclose(files);
	snprintf(read_all, sizeof(read_all), "of its files %d were read", n_files);
	hash_once(cache, hashes[0], read_all, NULL);
	hash_once(cache, hashes[1], "of its files 0 were read", NULL);
	assert_string_equal(hashes[0], hashes[1]);
	run("sed -i 's/0/1/' %s/sdd/hashes", folder);
	hash_once(cache, hashes[2], read_all, "it is damaged");
	assert_string_equal(hashes[0], hashes[2]);
	hash_once(cache, hashes[2], "of its files 0 were read", NULL);
	assert_string_equal(hashes[0], hashes[2]);
	run("rm -r %s", folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_told),
		cmocka_unit_test(test_root_comes_later),
		cmocka_unit_test(test_files_go_under_a_running_job),
		cmocka_unit_test(test_check_beside_a_download),
		cmocka_unit_test(test_nobody_waits_for_hashes),
		cmocka_unit_test(test_model_goes_while_it_is_hashed),
		cmocka_unit_test(test_hashes_outlive_the_daemon),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
