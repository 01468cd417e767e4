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

/* The shipped decoder for previews is within 23 to 30 dB of what the autoencoder makes; a plain grey is near it by 13. */
#define PREVIEW_PSNR_MIN 22.0

struct watched {
	uint8_t last[SIDE * SIDE * 3];
	int previews;
};

static void add_released(const struct daemon *daemon)
{
	static const char *const names[] = {"sdd-small", "sdd-small-inpaint"};
	char from[4096], to[160];

	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), "%s/%s", getenv("SDD_TEST_RELEASED"), names[i]);
		snprintf(to, sizeof(to), "%s/models/%s", daemon->folder, names[i]);
		assert_int_equal(symlink(from, to), 0);
	}
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

/* In dB, of RGB against the colours of RGBA, both u8 and SIDE x SIDE. */
static double psnr(const uint8_t *rgb, const uint8_t *rgba)
{
	double sum = 0;

	for (int i = 0; i < SIDE * SIDE; i++)
		for (int c = 0; c < 3; c++) {
			const double d = rgb[3 * i + c] - rgba[4 * i + c];

			sum += d * d;
		}
	return 10 * log10(255.0 * 255.0 * SIDE * SIDE * 3 / sum);
}

/* A preview shows what the picture becomes: the tiny decoder was distilled from this very autoencoder. */
static void test_previews_resemble_the_picture(void **state)
{
	static const char *const prompts[] = {"a red house on the grass by day",
					      "a boat on the sea at sunset",
					      "a yellow flower in the snow at night"};
	struct daemon daemon;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	add_released(&daemon);
	client = daemon_connect(&daemon);
	for (size_t i = 0; i < sizeof(prompts) / sizeof(*prompts); i++) {
		struct watched watched = {0};
		const sdc_job_handlers handlers = {.preview = on_preview, .userdata = &watched};
		sdc_request *request = txt2img(STEPS, 1 + i);
		sdc_error error = {0};
		sdc_image image;
		sdc_job *job;
		double got;

		assert_int_equal(sdc_request_set_string(request, "model", "sdd-small", &error), 0);
		assert_int_equal(sdc_request_set_string(request, "prompt", prompts[i], &error), 0);
		assert_int_equal(sdc_request_set_int(request, "preview", PREVIEW_EVERY, &error), 0);
		assert_int_equal(sdc_job_submit(client, request, &handlers, &job, &error), 0);
		sdc_request_free(request);
		if (sdc_job_wait(job, 120000, &error) < 0)
			fail_msg("%s", error.message);
		assert_int_equal(
			sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error), 0);
		assert_int_equal(image.width, SIDE);
		assert_int_equal(image.channels, 4);
		/* some may be replaced by later ones on their way */
		assert_in_range(watched.previews, 1, STEPS / PREVIEW_EVERY);
		got = psnr(watched.last, image.data);
		print_message("%s: the last preview is %.1f dB near the picture\n", prompts[i],
			      got);
		if (got < PREVIEW_PSNR_MIN)
			fail_msg("%.1f dB, not %.1f", got, PREVIEW_PSNR_MIN);
		sdc_job_free(job);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_previews_resemble_the_picture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
