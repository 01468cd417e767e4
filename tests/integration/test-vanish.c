/*
 * A model's files go at the worst moments of a job's way, each time that sdd looks for them until it is handed to the worker: the job
 * ends once, the daemon stays and serves others. Runs sdd-vanishing (vanish.c); freed memory is overwritten there, so that who uses it
 * is seen.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int paint(sdc_client *client, const char *model, sdc_error *ret_error)
{
	sdc_request *request = txt2img(1, 1);
	int r;

	assert_int_equal(sdc_request_set_string(request, "model", model, ret_error), 0);
	r = sdc_call(client, request, 60000, NULL, ret_error);
	sdc_request_free(request);
	return r;
}

/* False when sdd no longer looked so often. */
static bool vanish_at(int look)
{
	char folder[64], gone[64], vanish[128], to[128], at[64], command[512], root[80];
	struct daemon daemon;
	sdc_error error = {0};
	sdc_client *client;
	bool went;
	int r;

	strcpy(folder, "/tmp/sdd-vanish-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(gone, sizeof(gone), "%s/.gone", folder);
	snprintf(vanish, sizeof(vanish), "SDD_TEST_VANISH=%s/going", folder);
	snprintf(to, sizeof(to), "SDD_TEST_VANISH_TO=%s", gone);
	snprintf(at, sizeof(at), "SDD_TEST_VANISH_AT=%d", look);
	snprintf(root, sizeof(root), "--models=%s", folder);
	snprintf(command, sizeof(command), "cp -rL %s %s/going && ln -s %s %s/stays",
		 getenv("SDD_TEST_MODEL"), folder, getenv("SDD_TEST_MODEL"), folder);
	assert_int_equal(system(command), 0);
	daemon_start(&daemon, "--backend=ref", "--threads=1", "--default-model=stays", root, vanish,
		     to, at, "MALLOC_PERTURB_=90", NULL);
	client = daemon_connect(&daemon);
	r = paint(client, "going", &error);
	went = access(gone, F_OK) == 0;
	if (r != 0 && r != SDC_E_NOT_FOUND && r != SDC_E_MODEL_ERROR) {
		daemon_show_log(&daemon);
		fail_msg("look %d: %d, %s", look, r, error.message);
	}
	assert_true(r == 0 || went);
	if (paint(client, "stays", &error) < 0)
		fail_msg("look %d: %s", look, error.message);
	daemon_await_status(&daemon, "jobs.running", 0);
	assert_int_equal(daemon_status_int(&daemon, "jobs.done"), r == 0 ? 2 : 1);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	return went;
}

static void test_files_go_at_any_look(void **state)
{
	int look = 1;

	while (vanish_at(look))
		look++;
	/* chosen and started, at the least; from then on it counts as loading, and nobody looks */
	assert_in_range(look, 3, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_files_go_at_any_look)};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
