/*
 * The plug-ins' common part with the headless host against a real daemon and worker: every action, several document
 * types, what is left alone, stored parameters, failures.
 */
#include "daemon/footprint.h"
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugins/common/daemon.h"
#include "plugins/common/pictures.h"
#include "plugins/common/results.h"
#include "plugins/common/task.h"
#include "plugins/none/none.h"

#define WIDTH  96
#define HEIGHT 80

static struct daemon server;

static int setup(void **state)
{
	daemon_start(&server, NULL);
	return 0;
}

static int teardown(void **state)
{
	daemon_clear(&server);
	return 0;
}

static struct sdh_settings *settings_of(const char *text)
{
	struct sdh_settings *settings = sdh_settings_new();
	sdc_error error = {0};

	assert_non_null(settings);
	if (sdh_settings_parse(settings, text, &error) < 0)
		fail_msg("%s", error.message);
	return settings;
}

/* Run to the end; the code. The error is none->failure or *error. */
static int generate(struct none *none, const char *text, sdc_error *error)
{
	const struct sdh_host host = none_host(none);
	struct sdh_settings *settings = settings_of(text);
	struct sdh_task *task;
	int r;

	r = sdh_task_new(&host, settings, server.socket, &task, error);
	sdh_settings_free(settings);
	if (r < 0)
		return r;
	r = sdh_task_run(task, error);
	assert_int_equal(none->n_done, 1);
	none->n_done = 0;
	sdh_task_free(task);
	return r;
}

static void must_generate(struct none *none, const char *text)
{
	sdc_error error = {0};

	if (generate(none, text, &error) < 0) {
		daemon_show_log(&server);
		fail_msg("%s: %s", text, error.message);
	}
}

static size_t pixel_size(int type)
{
	return type == SDC_U8 ? 4 : type == SDC_U16 ? 8 : 16;
}

/* How many pixels differ from the canvas inside and outside a rectangle. */
static void count_changes(const struct none *none, struct sdh_rect r, int *inside, int *outside)
{
	const size_t size = pixel_size(none->document.type);
	char *now = none_flatten(none);

	*inside = *outside = 0;
	for (int y = 0; y < none->document.height; y++)
		for (int x = 0; x < none->document.width; x++) {
			const size_t at =
				((size_t)y * (size_t)none->document.width + (size_t)x) * size;
			const bool in =
				x >= r.x && y >= r.y && x < r.x + r.width && y < r.y + r.height;

			if (memcmp(now + at, (const char *)none->pixels + at, size) != 0)
				*(in ? inside : outside) += 1;
		}
	free(now);
}

#define QUICK " steps=2 seed=7 guidance=1"

static void test_actions(void **state)
{
	static const struct {
		const char *text;
		bool select, inside, outside;
	} rows[] = {
		{"action=generate prompt=fox", false, true, true},
		{"action=generate prompt=fox exact=yes", true, true, false},
		{"action=refine prompt=fox strength=0.6", false, true, true},
		{"action=refine prompt=fox exact=yes", true, true, false},
		{"action=fill prompt=fox exact=yes", true, true, false},
		{"action=expand prompt=fox exact=yes", true, true, false},
		{"action=add prompt=fox exact=yes", true, true, false},
		{"action=remove exact=yes", true, true, false},
		{"action=background prompt=sea exact=yes", true, false, true},
	};
	static const int types[] = {SDC_U8, SDC_U16, SDC_F32};
	const struct sdh_rect select = {32, 24, 28, 24};

	SKIP_WITHOUT_WORKER();
	for (size_t t = 0; t < 3; t++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct none none;
			char text[256];
			int inside, outside;

			if (t > 0 && i % 4 != 0) /* the type matters to the pixels alone */
				continue;
			none_init(&none, WIDTH, HEIGHT, types[t]);
			if (rows[i].select)
				none_select(&none, select.x, select.y, select.width, select.height);
			snprintf(text, sizeof(text), "%s" QUICK, rows[i].text);
			must_generate(&none, text);
			assert_int_equal(none.n_layers, 1);
			assert_int_equal(none.n_undo, 1);
			count_changes(&none, select, &inside, &outside);
			if ((inside > 0) != rows[i].inside || (outside > 0) != rows[i].outside)
				fail_msg("%s, type %d: %d pixels changed inside, %d outside", text,
					 types[t], inside, outside);
			none_clear(&none);
		}
}

static void test_outpaint(void **state)
{
	struct none none;

	SKIP_WITHOUT_WORKER();
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	must_generate(&none, "action=outpaint left=16 bottom=24 prompt=field" QUICK);
	assert_int_equal(none.n_layers, 1);
	assert_int_equal(none.layers[0].place.x, -16);
	assert_int_equal(none.layers[0].place.y, 0);
	assert_int_equal(none.layers[0].place.height, HEIGHT + 24);
	none_clear(&none);
}

/* The picture in another size comes back as one layer, with the canvas's alpha, whatever is selected. */
static void test_upscale(void **state)
{
	static const int types[] = {SDC_U8, SDC_U16, SDC_F32};
	struct none none;
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	for (size_t i = 0; i < 3; i++) {
		none_init(&none, WIDTH, HEIGHT, types[i]);
		none_select(&none, 32, 24, 28, 24);
		must_generate(&none, "action=upscale scale=1.5 prompt=field" QUICK);
		assert_int_equal(none.n_layers, 1);
		assert_int_equal(none.n_undo, 1);
		assert_int_equal(none.scaled_width, WIDTH * 3 / 2);
		assert_int_equal(none.scaled_height, HEIGHT * 3 / 2);
		assert_int_equal(none.layers[0].place.x, 0);
		assert_int_equal(none.layers[0].place.width, none.scaled_width);
		assert_int_equal(none.layers[0].place.height, none.scaled_height);
		assert_int_equal(none.layers[0].type, types[i]);
		assert_non_null(strstr(none.layers[0].parameters, "\"scale\":\"1.5\""));
		none_clear(&none);
	}
	/* twice as large when nothing is said; other jobs leave the size alone, also when a scale is remembered */
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	must_generate(&none, "action=upscale" QUICK);
	assert_int_equal(none.scaled_width, 2 * WIDTH);
	none_clear(&none);
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	must_generate(&none, "action=generate prompt=fox scale=3" QUICK);
	assert_int_equal(none.scaled_width, 0);
	none_clear(&none);
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	assert_int_equal(generate(&none, "action=upscale strength=0 scale=2", &error), 0);
	none_clear(&none);
}

/* The same seed again gives the same bytes; parameters of a layer are enough to ask for it. */
static void test_again(void **state)
{
	struct sdh_settings *settings;
	struct none none;
	sdc_error error = {0};
	struct sdh_host host;
	struct sdh_task *task;

	SKIP_WITHOUT_WORKER();
	settings = sdh_settings_new();
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	none_select(&none, 32, 24, 28, 24);
	must_generate(&none, "action=fill prompt=\"a \\\"red\\\" fox\" steps=2 count=3");
	assert_int_equal(none.n_layers, 3);
	assert_int_equal(none.n_groups, 1);
	assert_int_equal(none.n_undo, 1);
	assert_true(none.layers[0].visible);
	assert_false(none.layers[1].visible);
	assert_non_null(strstr(none.layers[1].name, "a \"red\" fox ("));

	assert_int_equal(sdh_settings_from_json(settings, none.layers[1].parameters, &error), 0);
	assert_string_equal(sdh_settings_get(settings, "prompt"), "a \"red\" fox");
	free(none.selection); /* it is stored with the layer */
	none.selection = NULL;
	none.document.selection = (struct sdh_rect){0};
	host = none_host(&none);
	assert_int_equal(sdh_task_new(&host, settings, server.socket, &task, &error), 0);
	assert_int_equal(sdh_task_run(task, &error), 0);
	sdh_task_free(task);
	assert_int_equal(none.n_layers, 4);
	assert_string_equal(none.layers[3].name, none.layers[1].name);
	assert_memory_equal(none.layers[3].pixels, none.layers[1].pixels,
			    (size_t)none.layers[1].place.width *
				    (size_t)none.layers[1].place.height * 4);
	sdh_settings_free(settings);
	none_clear(&none);
}

static void test_canvas_of_odd_size(void **state)
{
	struct none none;

	SKIP_WITHOUT_WORKER();
	none_init(&none, 61, 43, SDC_U8);
	must_generate(&none, "action=generate prompt=fox" QUICK);
	assert_int_equal(none.layers[0].place.width, 61);
	assert_int_equal(none.layers[0].place.height, 43);
	none_clear(&none);
}

/* Dispatch until the engine is at work. */
static void await_steps(struct sdh_task *task, const struct none *none)
{
	while (strncmp(none->last_progress, "Step", 4) != 0) {
		struct pollfd fd = {sdh_task_fd(task), (short)sdh_task_events(task), 0};

		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(sdh_task_dispatch(task), 0);
	}
}

static struct sdh_task *start_long(struct none *none)
{
	const struct sdh_host host = none_host(none);
	struct sdh_settings *settings = settings_of("action=generate prompt=fox steps=1000");
	struct sdh_task *task = NULL;
	sdc_error error = {0};

	assert_int_equal(sdh_task_new(&host, settings, server.socket, &task, &error), 0);
	sdh_settings_free(settings);
	await_steps(task, none);
	return task;
}

/* The same job with the whole canvas, sent by hand; its layer ends up in none. */
static void generate_whole(struct none *none, const char *text)
{
	const struct sdh_host host = none_host(none);
	const struct sdh_rect all = {0, 0, none->document.width, none->document.height};
	struct sdh_settings *settings = settings_of(text);
	sdc_request *request;
	struct sdh_plan plan;
	struct sdh_mask mask;
	sdc_error error = {0};
	sdc_client *client;
	sdc_job *job;
	size_t bytes;

	assert_int_equal(sdh_plan_init(&plan, settings, &none->document, &error), 0);
	assert_int_equal(sdh_mask_read(&plan, &host, &none->document, settings, &mask, &error), 0);
	request = sdh_request_new(&plan, settings, &none->document, &error);
	assert_int_equal(sdh_pictures_attach(request, &plan, &host, &none->document, &mask, all,
					     &bytes, &error),
			 0);
	assert_true(bytes >= (size_t)all.width * (size_t)all.height * 4);
	assert_int_equal(sdh_connect(server.socket, &client, &error), 0);
	assert_int_equal(sdc_job_submit(client, request, NULL, &job, &error), 0);
	if (sdc_job_wait(job, -1, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sdh_results_deliver(sdc_job_result(job), &host, settings, &plan,
					     &none->document, &error),
			 0);
	sdc_job_free(job);
	sdc_client_free(client);
	sdc_request_free(request);
	sdh_mask_clear(&mask);
	sdh_settings_free(settings);
}

/* A selection on a canvas of 12 megapixels: what travels is bounded by the context, and the layer is the same to the byte. */
static void test_only_the_context_travels(void **state)
{
	static const struct {
		const char *text;
		int type, most; /* pixels that may travel */
	} rows[] = {
		{"action=fill prompt=fox", SDC_U8, 300 * 300},
		{"action=fill prompt=fox", SDC_F32, 300 * 300},
		{"action=refine prompt=fox strength=0.5", SDC_U8, 300 * 300},
		{"action=outpaint right=32 prompt=fox", SDC_U8, 128 * 300},
	};

	SKIP_WITHOUT_WORKER();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const bool outpaint = strstr(rows[i].text, "outpaint") != NULL;
		const int sample = rows[i].type == SDC_U8 ? 1 : 4;
		const struct sdh_host *host;
		struct sdh_settings *settings;
		struct sdh_timings timings;
		struct sdh_host table;
		struct sdh_task *task;
		struct none none;
		sdc_error error = {0};
		char text[128];

		snprintf(text, sizeof(text), "%s" QUICK, rows[i].text);
		none_init(&none, outpaint ? 4000 : 4096, outpaint ? 300 : 3000, rows[i].type);
		if (!outpaint)
			none_select(&none, 3001, 1777, 41, 37);
		table = none_host(&none);
		host = &table;
		settings = settings_of(text);
		if (sdh_task_new(host, settings, server.socket, &task, &error) < 0 ||
		    sdh_task_run(task, &error) < 0)
			fail_msg("%s", error.message);
		sdh_task_timings(task, &timings);
		sdh_task_free(task);
		sdh_settings_free(settings);
		print_message("%s: %zu bytes of a canvas of %zu\n", text, timings.sent_bytes,
			      (size_t)none.document.width * (size_t)none.document.height * 4 *
				      (size_t)sample);
		assert_true(timings.sent_bytes <= (size_t)rows[i].most * 5 * (size_t)sample);
		generate_whole(&none, text);
		assert_int_equal(none.n_layers, 2);
		assert_memory_equal(&none.layers[0].place, &none.layers[1].place,
				    sizeof(none.layers[0].place));
		assert_memory_equal(none.layers[0].pixels, none.layers[1].pixels,
				    (size_t)none.layers[0].place.width *
					    (size_t)none.layers[0].place.height * 4 *
					    (size_t)sample);
		none_clear(&none);
	}
}

/* job.plan says what is wrong, and is answered while another job runs. */
static void test_plan(void **state)
{
	static const struct {
		const char *kind, *select, *canvas, *words;
	} rows[] = {
		{"txt2img", NULL, "0,0,10,10", "txt2img"},
		{"inpaint", "1,1,5,5", NULL, "canvas"},
		{"inpaint", NULL, "0,0,100,100", "select"},
		{"inpaint", "1,1,5,5", "4,0,100,100", "4,0"},
		{"inpaint", "200,1,5,5", "0,0,100,100", "outside the canvas"},
		{"inpaint", "1,1,5,5", "0,0,0,100", "at least 1"},
		{"outpaint", NULL, "0,0,100,100", "side to grow"},
	};
	struct sdh_task *busy;
	struct none none;
	sdc_error error = {0};
	sdc_client *client;
	sdc_reply *reply;
	int64_t x = 0;

	SKIP_WITHOUT_WORKER();
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	busy = start_long(&none);
	assert_int_equal(sdh_connect(server.socket, &client, &error), 0);
	for (size_t i = 0; i <= sizeof(rows) / sizeof(rows[0]); i++) {
		const bool good = i == sizeof(rows) / sizeof(rows[0]);
		sdc_request *request = sdc_request_new("job.plan", &error);

		sdc_request_set_text(request, "kind", good ? "inpaint" : rows[i].kind, &error);
		if (good || rows[i].select)
			sdc_request_set_text(request, "select",
					     good ? "900,700,40,30" : rows[i].select, &error);
		if (good || rows[i].canvas)
			sdc_request_set_text(request, "canvas",
					     good ? "0,0,1000,800" : rows[i].canvas, &error);
		error = (sdc_error){0};
		if (good) {
			assert_int_equal(sdc_call(client, request, 20000, &reply, &error), 0);
			assert_int_equal(sdc_reply_int(reply, "needed.0", &x), 0);
			assert_true(x > 500 && x < 900);
			sdc_reply_free(reply);
		} else if (sdc_call(client, request, 20000, NULL, &error) >= 0 ||
			   !strstr(error.message, rows[i].words)) {
			fail_msg("%s: “%s”", rows[i].words, error.message);
		}
		sdc_request_free(request);
	}
	assert_string_not_equal(none.last_progress, "");
	sdh_task_free(busy);
	sdc_client_free(client);
	none_clear(&none);
}

static void assert_error(const char *text, bool select, int code, const char *words)
{
	struct none none;
	sdc_error error = {0};
	int r;

	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	if (select)
		none_select(&none, WIDTH + 5, 3, 10, 10);
	r = generate(&none, text, &error);
	if (r != code || !strstr(error.message, words))
		fail_msg("%s: code %d, “%s”", text, r, error.message);
	assert_int_equal(none.n_layers, 0);
	none_clear(&none);
}

static void test_errors(void **state)
{
	struct daemon absent = server;

	SKIP_WITHOUT_WORKER();
	assert_error("action=fill", false, SDC_E_BAD_REQUEST, "select the part");
	assert_error("action=fill", true, SDC_E_BAD_REQUEST, "outside the canvas");
	assert_error("action=generate model=none-such", false, SDC_E_NOT_FOUND, "none-such");
	assert_error("action=generate style=none-such", false, SDC_E_BAD_VALUE, "photograph");
	strcat(server.socket, "x");
	assert_error("action=generate", false, SDC_E_CONNECT, "systemctl --user start sdd.socket");
	server = absent;
}

/* Memory for the picture in tiles alone: the plug-in asks for those by itself; for less, it says what would help. */
static void test_tiles_where_memory_asks(void **state)
{
	const struct sdd_types types = sdd_types_expected(NULL, NULL);
	const struct sdd_work work = {.width = 768, .height = 768, .tiled = true};
	const struct daemon others = server;
	struct sdd_footprint footprint;
	struct none none;
	sdc_error error = {0};
	char option[64];

	SKIP_WITHOUT_WORKER();
	sdd_footprint_read(getenv("SDD_TEST_MODEL"), &footprint);
	snprintf(option, sizeof(option), "--memory-budget=%llu",
		 (unsigned long long)sdd_footprint_staged(&footprint, types, &work));
	daemon_start(&server, option, NULL);
	none_init(&none, 768, 768, SDC_U8);
	must_generate(&none, "action=generate prompt=fox" QUICK);
	assert_int_equal(none.n_layers, 1);
	none_clear(&none);
	daemon_clear(&server);
	daemon_start(&server, "--memory-budget=1000", NULL);
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	assert_int_equal(generate(&none, "action=generate prompt=fox" QUICK, &error),
			 SDC_E_NO_MEMORY);
	if (!strstr(error.message, "Not enough memory") || !strstr(error.message, "memory-budget"))
		fail_msg("“%s”", error.message);
	none_clear(&none);
	daemon_clear(&server);
	server = others;
}

/* Somebody else's job is first: the artist sees how many are. */
static void test_place_in_queue(void **state)
{
	struct sdh_settings *settings;
	struct none first, second;
	struct sdh_task *running, *waiting;
	struct sdh_host host;
	sdc_error error = {0};

	SKIP_WITHOUT_WORKER();
	settings = settings_of("action=generate prompt=fox steps=2");
	none_init(&first, WIDTH, HEIGHT, SDC_U8);
	none_init(&second, WIDTH, HEIGHT, SDC_U8);
	running = start_long(&first);
	host = none_host(&second);
	assert_int_equal(sdh_task_new(&host, settings, server.socket, &waiting, &error), 0);
	while (strncmp(second.last_progress, "Waiting: 1 job", 14) != 0) {
		struct pollfd fd = {sdh_task_fd(waiting), (short)sdh_task_events(waiting), 0};

		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(sdh_task_dispatch(waiting), 0);
	}
	sdh_task_free(running);
	assert_int_equal(sdh_task_run(waiting, &error), 0);
	assert_int_equal(second.n_layers, 1);
	sdh_task_free(waiting);
	sdh_settings_free(settings);
	none_clear(&first);
	none_clear(&second);
}

static void test_cancel_and_loss(void **state)
{
	struct sdh_task *task;
	struct none none;
	sdc_error error;

	SKIP_WITHOUT_WORKER();
	none_init(&none, WIDTH, HEIGHT, SDC_U8);
	task = start_long(&none);
	sdh_task_cancel(task);
	assert_int_equal(sdh_task_run(task, &error), SDC_E_CANCELLED);
	sdh_task_free(task);

	none.last_progress[0] = '\0';
	task = start_long(&none);
	sdh_task_free(task); /* hanging up is cancelling */
	daemon_await_status(&server, "jobs.running", 0);
	daemon_await_status(&server, "jobs.cancelled", 3);

	none.last_progress[0] = '\0';
	task = start_long(&none);
	kill((pid_t)daemon_status_int(&server, "worker.pid"), SIGKILL);
	assert_int_equal(sdh_task_run(task, &error), 0); /* the job goes on in the next worker */
	assert_int_equal(none.n_layers, 1);
	sdh_task_free(task);

	none.last_progress[0] = '\0';
	task = start_long(&none);
	kill(server.pid, SIGKILL);
	assert_int_equal(sdh_task_run(task, &error), SDC_E_DISCONNECTED);
	assert_non_null(strstr(error.message, "try again"));
	sdh_task_free(task);
	assert_int_equal(none.n_layers, 1);
	none_clear(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_outpaint),
		cmocka_unit_test(test_upscale),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_canvas_of_odd_size),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_tiles_where_memory_asks),
		cmocka_unit_test(test_place_in_queue),
		cmocka_unit_test(test_cancel_and_loss), /* ends the daemon: last */
	};

	setenv("LC_ALL", "C", 1);
	/* with a daemon of their own, since the last of the others ended theirs */
	const struct CMUnitTest parts[] = {
		cmocka_unit_test(test_only_the_context_travels),
		cmocka_unit_test(test_plan),
	};

	return cmocka_run_group_tests(tests, setup, teardown) +
	       cmocka_run_group_tests(parts, setup, teardown);
}
