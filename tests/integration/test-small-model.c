/*
 * The model that ships, through the real sdd and worker: what its parts promise, by figures. The models' folder comes from
 * SDD_TEST_RELEASED.
 */
#include "tests/integration/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIDE	      128
#define STEPS	      20
#define PREVIEW_EVERY 5
#define SEEDS	      4

/* The shipped decoder for previews is within 23 to 30 dB of what the autoencoder makes; a plain grey is near it by 13. */
#define PREVIEW_PSNR_MIN 22.0
/* The VQ twin decodes the same latents by way of its codebook. */
#define VQ_PSNR_MIN 24.0
/* Chalk on a blackboard: this much of a day's brightness is left. */
#define CHALK_LIGHT_MAX 0.8
/* How much steeper the picture is along a scribble's lines than elsewhere, times what it is without the scribble. */
#define SCRIBBLE_GAIN_MIN 2.0

#define LORA	"sdd-small-chalk"
#define CONTROL "sdd-small-scribble"

struct watched {
	uint8_t last[SIDE * SIDE * 3];
	int previews;
};

static struct daemon server;

static int start(void **state)
{
	static const char *const names[] = {"sdd-small", "sdd-small-inpaint", "sdd-small-vq",
					    "loras", "controlnets"};
	char from[4096], to[160];

	daemon_start(&server, NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(from, sizeof(from), "%s/%s", getenv("SDD_TEST_RELEASED"), names[i]);
		snprintf(to, sizeof(to), "%s/models/%s", server.folder, names[i]);
		assert_int_equal(symlink(from, to), 0);
	}
	return 0;
}

static int stop(void **state)
{
	assert_int_equal(daemon_stop(&server), 0);
	daemon_clear(&server);
	return 0;
}

static void on_preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	struct watched *watched = userdata;

	assert_int_equal(image->width, SIDE);
	assert_int_equal(image->height, SIDE);
	assert_int_equal(image->channels, 3);
	watched->previews++;
	memcpy(watched->last, image->data, sizeof(watched->last));
}

static sdc_request *request_of(const char *prompt, uint64_t seed)
{
	sdc_request *request = txt2img(STEPS, seed);
	sdc_error error = {0};

	assert_int_equal(sdc_request_set_string(request, "model", "sdd-small", &error), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt", prompt, &error), 0);
	return request;
}

/* The colours of the picture that a request gives; frees the request. */
static void paint(sdc_request *request, const sdc_job_handlers *handlers,
		  uint8_t ret_rgb[SIDE * SIDE * 3])
{
	sdc_client *client = daemon_connect(&server);
	sdc_error error = {0};
	sdc_image image;
	sdc_job *job;

	if (sdc_job_submit(client, request, handlers, &job, &error) < 0 ||
	    sdc_job_wait(job, 120000, &error) < 0)
		fail_msg("%s", error.message);
	sdc_request_free(request);
	assert_int_equal(sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error),
			 0);
	assert_int_equal(image.width, SIDE);
	assert_int_equal(image.height, SIDE);
	assert_int_equal(image.channels, 4);
	for (int i = 0; i < SIDE * SIDE; i++)
		memcpy(ret_rgb + 3 * i, (const uint8_t *)image.data + 4 * i, 3);
	sdc_job_free(job);
	sdc_client_free(client);
}

static double psnr(const uint8_t *a, const uint8_t *b)
{
	double sum = 0;

	for (int i = 0; i < SIDE * SIDE * 3; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	return 10 * log10(255.0 * 255.0 * SIDE * SIDE * 3 / sum);
}

/* A preview shows what the picture becomes: the tiny decoder was distilled from this very autoencoder. */
static void test_previews_resemble_the_picture(void **state)
{
	static const char *const prompts[] = {"a red house on the grass by day",
					      "a boat on the sea at sunset",
					      "a yellow flower in the snow at night"};

	SKIP_WITHOUT_WORKER();
	for (size_t i = 0; i < sizeof(prompts) / sizeof(*prompts); i++) {
		struct watched watched = {0};
		const sdc_job_handlers handlers = {.preview = on_preview, .userdata = &watched};
		sdc_request *request = request_of(prompts[i], 1 + i);
		uint8_t picture[SIDE * SIDE * 3];
		sdc_error error = {0};
		double got;

		assert_int_equal(sdc_request_set_int(request, "preview", PREVIEW_EVERY, &error), 0);
		paint(request, &handlers, picture);
		/* some may be replaced by later ones on their way */
		assert_in_range(watched.previews, 1, STEPS / PREVIEW_EVERY);
		got = psnr(watched.last, picture);
		print_message("%s: the last preview is %.1f dB near the picture\n", prompts[i],
			      got);
		if (got < PREVIEW_PSNR_MIN)
			fail_msg("%.1f dB, not %.1f", got, PREVIEW_PSNR_MIN);
	}
}

/* The twin with a codebook paints nearly the same picture. */
static void test_vq_twin_resembles_the_model(void **state)
{
	uint8_t pictures[2][SIDE * SIDE * 3];
	double least = INFINITY;

	SKIP_WITHOUT_WORKER();
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		sdc_request *request = request_of("a red boat on the sea by day", seed);
		sdc_error error = {0};

		paint(request_of("a red boat on the sea by day", seed), NULL, pictures[0]);
		assert_int_equal(sdc_request_set_string(request, "model", "sdd-small-vq", &error),
				 0);
		paint(request, NULL, pictures[1]);
		assert_memory_not_equal(pictures[0], pictures[1], sizeof(pictures[0]));
		least = fmin(least, psnr(pictures[0], pictures[1]));
	}
	print_message("the VQ twin's pictures are at least %.1f dB near the model's\n", least);
	assert_true(least > VQ_PSNR_MIN);
}

/* Mean of all samples. */
static double light(const uint8_t *rgb)
{
	double sum = 0;

	for (int i = 0; i < SIDE * SIDE * 3; i++)
		sum += rgb[i];
	return sum / (SIDE * SIDE * 3);
}

/* The LoRA draws with chalk on a blackboard, half of it half as much, nothing of it nothing. */
static void test_lora_changes_the_style(void **state)
{
	static const double weights[] = {0, 0.5, 1};
	double lights[3] = {0};
	uint8_t plain[SIDE * SIDE * 3], picture[SIDE * SIDE * 3];

	SKIP_WITHOUT_WORKER();
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		paint(request_of("a red house on the grass by day", seed), NULL, plain);
		for (int i = 0; i < 3; i++) {
			sdc_request *request = request_of("a red house on the grass by day", seed);
			sdc_error error = {0};

			assert_int_equal(sdc_request_add_lora(request, LORA, weights[i], &error),
					 0);
			paint(request, NULL, picture);
			lights[i] += light(picture) / SEEDS;
			if (i == 0)
				assert_memory_equal(picture, plain, sizeof(plain));
		}
	}
	print_message("light with chalk at 0, 0.5 and 1: %.0f, %.0f, %.0f\n", lights[0], lights[1],
		      lights[2]);
	assert_true(lights[2] < lights[1] && lights[1] < lights[0]);
	assert_true(lights[2] < CHALK_LIGHT_MAX * lights[0]);
}

/* A line of two pixels. */
static void stroke(uint8_t *rgb, int x0, int y0, int x1, int y1)
{
	const int n = 2 * (abs(x1 - x0) > abs(y1 - y0) ? abs(x1 - x0) : abs(y1 - y0)) + 1;

	for (int i = 0; i < n; i++) {
		const int x = x0 + (x1 - x0) * i / n, y = y0 + (y1 - y0) * i / n;

		for (int k = 0; k < 4; k++)
			memset(rgb + 3 * ((y + k / 2) * SIDE + x + k % 2), 255, 3);
	}
}

/* A house left of the middle before a horizon. */
static void draw_house(uint8_t *rgb)
{
	static const int lines[][4] = {
		{0, 70, 24, 70},   {82, 70, 126, 70}, {24, 62, 24, 100}, {24, 100, 82, 100},
		{82, 100, 82, 62}, {18, 62, 88, 62},  {18, 62, 53, 30},	 {53, 30, 88, 62},
		{48, 100, 48, 80}, {48, 80, 58, 80},  {58, 80, 58, 100},
	};

	memset(rgb, 0, SIDE * SIDE * 3);
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		stroke(rgb, lines[i][0], lines[i][1], lines[i][2], lines[i][3]);
}

/* The largest step of brightness within two pixels' distance of each of the lines' pixels, over that of all pixels. */
static double steepness(const uint8_t *rgb, const uint8_t *lines)
{
	double sums[2] = {0}, counts[2] = {0};

	for (int y = 2; y < SIDE - 2; y++)
		for (int x = 2; x < SIDE - 2; x++) {
			const bool line = lines[3 * (y * SIDE + x)] > 0;
			double steepest = 0;

			for (int c = 0; c < 3; c++) {
				const uint8_t *p = rgb + 3 * (y * SIDE + x) + c;
				const double dx = p[6] - p[-6], dy = p[6 * SIDE] - p[-6 * SIDE];

				steepest = fmax(steepest, hypot(dx, dy));
			}
			sums[line] += steepest;
			counts[line]++;
		}
	return sums[1] / counts[1] / (sums[0] / counts[0]);
}

/* Edges of the picture lie where the scribble has lines, much more than without it. */
static void test_controlnet_follows_the_scribble(void **state)
{
	uint8_t lines[SIDE * SIDE * 3], picture[SIDE * SIDE * 3];
	const sdc_image image = {
		.width = SIDE, .height = SIDE, .channels = 3, .type = SDC_U8, .data = lines};
	double with = 0, without = 0;

	SKIP_WITHOUT_WORKER();
	draw_house(lines);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		sdc_request *request = request_of("a red house on the grass by day", seed);
		sdc_error error = {0};

		paint(request_of("a red house on the grass by day", seed), NULL, picture);
		without += steepness(picture, lines) / SEEDS;
		assert_int_equal(sdc_request_add_control(request, CONTROL, &image, 1, 0, 1, &error),
				 0);
		paint(request, NULL, picture);
		with += steepness(picture, lines) / SEEDS;
	}
	print_message("along the scribble the picture is %.2f times as steep as elsewhere; without "
		      "it %.2f times\n",
		      with, without);
	assert_true(with > SCRIBBLE_GAIN_MIN * without);
}

/* Through the daemon: maps as pictures, the same picture, shares that stay below one; an edit that keeps more than a new picture. */
static void test_explanations_and_edits(void **state)
{
	static uint8_t plain[SIDE * SIDE * 3], picture[SIDE * SIDE * 3], other[SIDE * SIDE * 3];
	double edited = 0, painted = 0;
	sdc_error error = {0};
	sdc_request *request;
	sdc_client *client;
	sdc_reply *reply;
	sdc_image image;

	SKIP_WITHOUT_WORKER();
	request = request_of("a boat on the sea at sunset", 3);
	client = daemon_connect(&server);
	paint(request_of("a boat on the sea at sunset", 3), NULL, plain);
	assert_int_equal(sdc_request_set_bool(request, "explain", 1, &error), 0);
	if (sdc_call(client, request, 120000, &reply, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sdc_reply_image(reply, "images.0.pixels", &image, &error), 0);
	for (int i = 0; i < SIDE * SIDE; i++)
		assert_memory_equal((const uint8_t *)image.data + 4 * i, plain + 3 * i, 3);
	assert_int_equal(sdc_reply_count(reply, "words"), 7);
	assert_int_equal(sdc_reply_image(reply, "maps", &image, &error), 0);
	assert_int_equal(image.type, SDC_F32);
	assert_int_equal(image.channels, 1);
	assert_int_equal(image.width, SIDE / 8);
	assert_int_equal(image.height, 7 * SIDE / 8);
	for (int i = 0; i < SIDE / 8 * SIDE / 8; i++) {
		float sum = 0;

		for (int word = 0; word < 7; word++)
			sum += ((const float *)image.data)[word * SIDE / 8 * SIDE / 8 + i];
		assert_true(sum > 0 && sum < 1);
	}
	sdc_reply_free(reply);
	sdc_request_free(request);
	sdc_client_free(client);

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		paint(request_of("a red house on the grass by day", seed), NULL, plain);
		paint(request_of("a blue house on the grass by day", seed), NULL, other);
		request = request_of("a blue house on the grass by day", seed);
		assert_int_equal(sdc_request_set_string(request, "source_prompt",
							"a red house on the grass by day", &error),
				 0);
		assert_int_equal(sdc_request_add_word_weight(request, "BLUE", 1.2, &error), 0);
		paint(request, NULL, picture);
		assert_memory_not_equal(picture, plain, sizeof(plain));
		edited += psnr(picture, plain) / SEEDS;
		painted += psnr(other, plain) / SEEDS;
	}
	print_message("an edit is %.1f dB near its source, a new picture of its seed %.1f\n",
		      edited, painted);
	assert_true(edited > painted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_previews_resemble_the_picture),
		cmocka_unit_test(test_vq_twin_resembles_the_model),
		cmocka_unit_test(test_lora_changes_the_style),
		cmocka_unit_test(test_controlnet_follows_the_scribble),
		cmocka_unit_test(test_explanations_and_edits),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
