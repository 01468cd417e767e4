/*
 * Jobs of all kinds that are interrupted, by jobs that go first and by the death of worker after worker: they go on behind the last step
 * that was made, a kill costs at most the step in work, and they end with the bytes of an undisturbed run. What they must carry over:
 * the history of multistep samplers, the random numbers of stochastic ones, the second call of two-call ones, several pictures, a second
 * pass, the source, mask and noise of inpainting, guides, LoRAs. Jobs that run as one batch are test-batch.c's.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STEPS = 20,
	CANVAS_WIDTH = 90,
	CANVAS_HEIGHT = 70,
	INTERRUPTIONS = 2,
	/* the report of steps that a worker does not survive: one at a job's begin, then one a call of the network */
	LAST_REPORT = 9,
};

enum extra { PLAIN = 0, MASK = 1, GUIDED = 2, SEVERAL = 4, SECOND_PASS = 8, TWO_CALLS = 16 };

static const struct work {
	const char *kind, *model, *sampler;
	unsigned int extras;
} works[] = {
	{"txt2img", HARNESS_MODEL, "DPM++ 2M Karras", PLAIN},
	{"txt2img", HARNESS_MODEL, "DPM++ 3M", PLAIN},
	{"txt2img", HARNESS_MODEL, "PNDM", PLAIN},
	{"txt2img", HARNESS_MODEL, "LMS", PLAIN},
	{"txt2img", HARNESS_MODEL, "DEIS", PLAIN},
	{"txt2img", HARNESS_MODEL, "UniPC", PLAIN},
	{"txt2img", HARNESS_MODEL, "IPNDM", PLAIN},
	{"txt2img", HARNESS_MODEL, "Euler a", SEVERAL},
	{"txt2img", HARNESS_MODEL, "DDPM", PLAIN},
	{"txt2img", HARNESS_MODEL, "LCM", PLAIN},
	{"txt2img", HARNESS_MODEL, "DPM++ SDE", TWO_CALLS},
	{"txt2img", HARNESS_MODEL, "DPM++ 2M SDE", SECOND_PASS},
	{"txt2img", HARNESS_MODEL, "Heun", TWO_CALLS},
	{"txt2img", HARNESS_MODEL, "DPM2 a", TWO_CALLS},
	{"img2img", HARNESS_MODEL, "DPM++ 2M", PLAIN},
	{"inpaint", HARNESS_MODEL, "Euler a", MASK},
	{"inpaint", "sd15_inpaint", "DPM++ 2M SDE", MASK},
	{"inpaint", "adapted", "Euler a", GUIDED},
	{"inpaint", "adapted", "DPM++ 2M", MASK | GUIDED},
	{"txt2img", "sdxl", "UniPC", PLAIN},
	{"txt2img", "sd3", "DPM++ 2M", PLAIN},
	{"inpaint", "sd3", "Euler", PLAIN},
	{"txt2img", "flux_schnell", "Euler", PLAIN},
	{"inpaint", "flux_fill", "Euler", PLAIN},
};
enum { WORKS = sizeof(works) / sizeof(works[0]) };

static struct result right[WORKS];

static void add_models(const struct daemon *daemon)
{
	static const char *const models[] = {"sd15_inpaint", "sdxl", "sd3", "flux_schnell",
					     "flux_fill"};

	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		daemon_add_model(daemon, models[i]);
	daemon_add_adapter(daemon, "adapted", "base_sd15");
	daemon_add_adapter(daemon, "loras/linear.safetensors", "lora/kohya_linear.safetensors");
	daemon_add_adapter(daemon, "loras/hadamard.safetensors", "lora/lyco_loha.safetensors");
	daemon_add_adapter(daemon, "controlnets/tiny_canny", "controlnet_sd15_a");
}

/* A grey rectangle of the canvas. */
static sdc_image rectangle(uint8_t pixels[CANVAS_HEIGHT][CANVAS_WIDTH])
{
	for (int y = 20; y < 50; y++)
		memset(&pixels[y][25], 255, 40);
	return (sdc_image){.width = CANVAS_WIDTH,
			   .height = CANVAS_HEIGHT,
			   .channels = 1,
			   .type = SDC_U8,
			   .data = pixels};
}

static void set_canvas(sdc_request *request, const struct work *work)
{
	static uint8_t pixels[CANVAS_HEIGHT][CANVAS_WIDTH][3], mask[CANVAS_HEIGHT][CANVAS_WIDTH];
	const sdc_image image = {.width = CANVAS_WIDTH,
				 .height = CANVAS_HEIGHT,
				 .channels = 3,
				 .type = SDC_U8,
				 .data = pixels},
			selection = rectangle(mask);
	sdc_error error = {0};

	for (int y = 0; y < CANVAS_HEIGHT; y++)
		for (int x = 0; x < CANVAS_WIDTH * 3; x++)
			pixels[y][x / 3][x % 3] = (uint8_t)(x + 2 * y);
	assert_int_equal(sdc_request_set_image(request, "image", &image, &error), 0);
	if (strcmp(work->kind, "inpaint") != 0)
		return;
	if (work->extras & MASK)
		assert_int_equal(sdc_request_set_image(request, "mask", &selection, &error), 0);
	else
		assert_int_equal(sdc_request_set_rect(request, "select", 30, 25, 21, 17, &error),
				 0);
}

static void set_guides(sdc_request *request)
{
	static uint8_t lines[CANVAS_HEIGHT][CANVAS_WIDTH];
	const sdc_image guide = rectangle(lines);
	sdc_error error = {0};

	assert_int_equal(sdc_request_add_control(request, "canny", &guide, 1, 0, 1, &error), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt",
						"a boat <lora:linear:0.7> <lora:hadamard:0.4>",
						&error),
			 0);
}

static sdc_request *request_of(const struct work *work)
{
	sdc_error error = {0};
	sdc_request *request = sdc_job_request_new(work->kind, &error);

	assert_non_null(request);
	assert_int_equal(sdc_request_set_string(request, "model", work->model, &error), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt", "a red boat", &error), 0);
	assert_int_equal(sdc_request_set_string(request, "sampler", work->sampler, &error), 0);
	assert_int_equal(sdc_request_set_int(request, "steps", STEPS, &error), 0);
	assert_int_equal(sdc_request_set_uint(request, "seed", 3, &error), 0);
	if (strcmp(work->kind, "txt2img") != 0)
		set_canvas(request, work);
	if (work->extras & GUIDED)
		set_guides(request);
	if (work->extras & SEVERAL)
		assert_int_equal(sdc_request_set_int(request, "count", 2, &error), 0);
	if (work->extras & SECOND_PASS)
		assert_int_equal(sdc_request_set_double(request, "hires_scale", 1.5, &error), 0);
	return request;
}

static int paint_right(void **state)
{
	struct daemon daemon;
	sdc_client *client;

	if (!harness_has_worker())
		return 0;
	daemon_start(&daemon, NULL);
	add_models(&daemon);
	client = daemon_connect(&daemon);
	for (int i = 0; i < WORKS; i++) {
		sdc_reply *reply = call_request(client, request_of(&works[i]));

		right[i] = result_of(reply);
		sdc_reply_free(reply);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
	return 0;
}

static int drop_right(void **state)
{
	for (int i = 0; i < WORKS; i++)
		free(right[i].bytes);
	return 0;
}

/* The steps behind which jobs were put back, from the log but for the first ones; -1 ends them. Returns of how many steps the last one is. */
static int kept_steps(const struct daemon *daemon, int skip, int *steps, int size)
{
	FILE *file = fopen(daemon->log, "re");
	char line[2048], *at;
	int n = 0, total = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) && n < size - 1) {
		at = strstr(line, "go on behind step ");
		if (at && skip-- <= 0)
			assert_int_equal(
				sscanf(at, "go on behind step %d of %d", &steps[n++], &total), 2);
	}
	fclose(file);
	steps[n] = -1;
	return total;
}

/* An interactive job of another model comes in between, so its own model may even leave and come back. */
static int interrupt(sdc_client *client, const struct daemon *daemon, int i)
{
	const int before = daemon_count_log(daemon, "job waits to go on behind step");
	struct watch slow, quick;
	sdc_job *job = submit_watched(client, request_of(&works[i]), "batch", &slow), *other;

	for (int round = 0; round < INTERRUPTIONS && !slow.done; round++) {
		const int from = slow.step;

		while (slow.step < from + 2 && !slow.done)
			turn_client(client, 10);
		other = submit_watched(client, txt2img(1, 1), "interactive", &quick);
		while (!quick.done)
			turn_client(client, 10);
		assert_int_equal(quick.code, 0);
		sdc_job_free(other);
	}
	while (!slow.done)
		turn_client(client, 10);
	assert_int_equal(slow.code, 0);
	assert_result(&right[i], sdc_job_result(job));
	sdc_job_free(job);
	return daemon_count_log(daemon, "job waits to go on behind step") - before;
}

static void test_interactive_interrupts_batch(void **state)
{
	struct daemon daemon;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	add_models(&daemon);
	client = daemon_connect(&daemon);
	for (int i = 0; i < WORKS; i++) {
		int times = 0;

		/* on a busy machine a short job may have ended before the other one came */
		for (int tries = 0; times < INTERRUPTIONS; tries++) {
			assert_in_range(tries, 0, 20);
			times += interrupt(client, &daemon, i);
		}
		print_message("%s, %s%s%s%s%s, %s: interrupted %d times, same bytes\n",
			      works[i].kind, works[i].model, works[i].extras & MASK ? ", mask" : "",
			      works[i].extras & GUIDED ? ", ControlNet and LoRAs" : "",
			      works[i].extras & SEVERAL ? ", two pictures" : "",
			      works[i].extras & SECOND_PASS ? ", second pass" : "",
			      works[i].sampler, times);
	}
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), 0);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* kill -9 at a step of twenty, in worker after worker: each begins where the one before it had come to, at most the step in work is lost. */
static void test_worker_dies_on_the_way(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	char fault[64];
	int lives = 0;

	SKIP_WITHOUT_WORKER();
	snprintf(fault, sizeof(fault), "SDD_FAULT=steps@%d:kill", LAST_REPORT);
	daemon_start(&daemon, fault, NULL);
	add_models(&daemon);
	client = daemon_connect(&daemon);
	for (int i = 0; i < WORKS; i++) {
		const int skip = daemon_count_log(&daemon, "go on behind step");
		sdc_reply *reply = call_request(client, request_of(&works[i]));
		int steps[64], total, made;

		assert_result(&right[i], reply);
		sdc_reply_free(reply);
		total = kept_steps(&daemon, skip, steps, 64);
		assert_true(steps[0] >= 0); /* -1: nobody died */
		/* the first of a life's reports is none of a call, nor is that of a second picture or pass: an inpainted selection may have one, too */
		made = LAST_REPORT - (total > STEPS ? 2 : 1);
		made /= works[i].extras & TWO_CALLS ? 2 : 1;
		/* the first of these workers has worked for the job before, too */
		for (int k = 1; steps[k] >= 0; k++) {
			if (steps[k] < steps[k - 1] + made - 1)
				fail_msg("%s, %s: went on behind step %d, then behind step %d",
					 works[i].model, works[i].sampler, steps[k - 1], steps[k]);
			lives++;
		}
		lives++;
	}
	assert_int_equal(daemon_status_int(&daemon, "worker.restarts"), lives);
	assert_int_equal(daemon_status_int(&daemon, "jobs.failed"), 0);
	print_message(
		"%d workers killed on the way of %d jobs: at most a step lost, the same bytes\n",
		lives, WORKS);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interactive_interrupts_batch),
		cmocka_unit_test(test_worker_dies_on_the_way),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, paint_right, drop_right);
}
