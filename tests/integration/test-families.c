/*
 * SD3 and FLUX through the real sdd and worker: text to image and inpainting by a client that knows nothing of families, what the
 * reply says of words that were not heard, and models that come as split files.
 */
#include "daemon/footprint.h"
#include "tests/golden/synthetic.h"
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANVAS_WIDTH  90
#define CANVAS_HEIGHT 70

static sdc_request *request_of(const char *kind, const char *model)
{
	sdc_error error = {0};
	sdc_request *request = sdc_job_request_new(kind, &error);

	assert_non_null(request);
	assert_int_equal(sdc_request_set_string(request, "model", model, &error), 0);
	assert_int_equal(sdc_request_set_string(request, "prompt", "a red boat", &error), 0);
	assert_int_equal(sdc_request_set_int(request, "steps", 2, &error), 0);
	assert_int_equal(sdc_request_set_uint(request, "seed", 3, &error), 0);
	return request;
}

static void set_canvas(sdc_request *request)
{
	static uint8_t pixels[CANVAS_HEIGHT][CANVAS_WIDTH][3];
	const sdc_image image = {.width = CANVAS_WIDTH,
				 .height = CANVAS_HEIGHT,
				 .channels = 3,
				 .type = SDC_U8,
				 .data = pixels};
	sdc_error error = {0};

	for (int y = 0; y < CANVAS_HEIGHT; y++)
		for (int x = 0; x < CANVAS_WIDTH * 3; x++)
			pixels[y][x / 3][x % 3] = (uint8_t)(x + 2 * y);
	assert_int_equal(sdc_request_set_image(request, "image", &image, &error), 0);
	assert_int_equal(sdc_request_set_rect(request, "select", 30, 25, 21, 17, &error), 0);
}

/* One picture's reply, owned by the caller. */
static sdc_reply *paint(sdc_client *client, sdc_request *request)
{
	sdc_reply *reply = call_request(client, request);

	assert_int_equal(sdc_reply_count(reply, "images"), 1);
	return reply;
}

static void test_paint_and_fill(void **state)
{
	static const struct {
		const char *model;
		int64_t side;
	} models[] = {{"sd3", 128}, {"flux_schnell", 64}, {"flux_fill", 64}};
	struct daemon daemon;
	sdc_client *client;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		sdc_request *request = request_of("inpaint", models[i].model);
		int64_t width = 0;
		sdc_image image;
		sdc_error error;
		sdc_reply *reply;

		daemon_add_model(&daemon, models[i].model);
		set_canvas(request);
		reply = paint(client, request);
		assert_int_equal(sdc_reply_image(reply, "images.0.pixels", &image, &error), 0);
		assert_int_equal(image.channels, 4);
		sdc_reply_free(reply);
		reply = paint(client, request_of("txt2img", models[i].model));
		assert_int_equal(sdc_reply_int(reply, "work_width", &width), 0);
		assert_int_equal(width, models[i].side);
		assert_int_equal(sdc_reply_count(reply, "warnings"), 0);
		sdc_reply_free(reply);
	}
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void test_reply_says_what_was_not_heard(void **state)
{
	struct daemon daemon;
	sdc_client *client;
	sdc_request *request;
	sdc_reply *reply;
	sdc_error error = {0};
	const char *text = "";

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	daemon_add_model(&daemon, "flux_schnell");
	client = daemon_connect(&daemon);
	request = request_of("txt2img", "flux_schnell");
	assert_int_equal(sdc_request_set_string(request, "negative_prompt", "blurry", &error), 0);
	reply = paint(client, request);
	assert_int_equal(sdc_reply_count(reply, "warnings"), 1);
	assert_int_equal(sdc_reply_string(reply, "warnings.0", &text), 0);
	assert_non_null(strstr(text, "negative_prompt"));
	sdc_reply_free(reply);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

static void put_part(const struct daemon *daemon, const char *part, const char *name)
{
	char path[256], manifest[4096], prefix[32];
	struct sde_error error = {0};
	int fd;

	snprintf(path, sizeof(path), "%s/models/%s", daemon->folder, name);
	snprintf(manifest, sizeof(manifest), "%s/../parts/split.json.gz",
		 getenv("SDD_TEST_MODELS"));
	snprintf(prefix, sizeof(prefix), "%s|", part);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	if (golden_synthetic_write(manifest, prefix, true, fd, &error) < 0)
		fail_msg("%s", error.message);
	close(fd);
}

static void put_folder(const struct daemon *daemon, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/models/%s", daemon->folder, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void put_text(const struct daemon *daemon, const char *name, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/models/%s", daemon->folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* ComfyUI's split files of a FLUX: what is missing is said, then it paints, and tokens are T5's own. */
static void test_split_files(void **state)
{
	static const char settings[] =
		"{\"native_size\": 64, \"components\": {\"transformer\": {\"num_attention_heads\": "
		"2, "
		"\"attention_head_dim\": 16, \"axes_dims_rope\": [4, 6, 6]}}}";
	struct daemon daemon;
	sdc_client *client;
	sdc_request *request;
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	struct sdd_footprint footprint;
	int64_t tokens = 0;
	char path[160];

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	put_folder(&daemon, "diffusion_models");
	put_folder(&daemon, "text_encoders");
	put_folder(&daemon, "vae");
	put_part(&daemon, "flux", "diffusion_models/dev.safetensors");
	put_part(&daemon, "clip_l", "text_encoders/a.safetensors");
	put_part(&daemon, "t5", "text_encoders/b.safetensors");
	put_text(&daemon, "diffusion_models/dev.sdd.json", settings);
	request = request_of("txt2img", "dev");
	assert_true(sdc_call(client, request, 60000, &reply, &error) < 0);
	sdc_request_free(request);
	if (!strstr(error.message, "needs an autoencoder of 16 latent channels"))
		fail_msg("%s", error.message);
	put_part(&daemon, "ae", "vae/c.safetensors");
	/* admission knows of the parts that lie elsewhere */
	snprintf(path, sizeof(path), "%s/models/diffusion_models/dev.safetensors", daemon.folder);
	sdd_footprint_read(path, &footprint);
	assert_true(footprint.transformer && footprint.channels == 32);
	assert_true(footprint.denoiser.numbers > 100000 && footprint.text.numbers > 10000);
	assert_true(footprint.t5.numbers > 10000 && footprint.vae_decoder.numbers > 10000 &&
		    footprint.vae_encoder.numbers > 10000);
	reply = paint(client, request_of("txt2img", "dev"));
	/* pieces of "a red boat": blank, a, red, boat */
	assert_int_equal(sdc_reply_int(reply, "prompt_tokens", &tokens), 0);
	assert_int_equal(tokens, 4);
	sdc_reply_free(reply);
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

/* A split SDXL whose parts are sorted into folders of their own: found when they come, counted, and painted with. */
static void test_sorted_split_files(void **state)
{
	static const char *const folders[] = {"unet",		"unet/sdxl", "clip",	"clip/sdxl",
					      "clip/sdxl/wide", "vae",	     "vae/sdxl"};
	struct sdd_footprint footprint;
	struct daemon daemon;
	sdc_client *client;
	char path[160];

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, NULL);
	client = daemon_connect(&daemon);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		put_folder(&daemon, folders[i]);
	put_part(&daemon, "clip_l", "clip/sdxl/l.safetensors");
	put_part(&daemon, "clip_g", "clip/sdxl/wide/g.safetensors");
	put_part(&daemon, "vae4", "vae/sdxl/v.safetensors");
	put_part(&daemon, "sdxl", "unet/sdxl/base.safetensors");
	put_text(&daemon, "unet/sdxl/base.sdd.json", "{\"native_size\": 64}");
	snprintf(path, sizeof(path), "%s/models/unet/sdxl/base.safetensors", daemon.folder);
	sdd_footprint_read(path, &footprint);
	assert_true(footprint.known && footprint.denoiser.numbers > 100000);
	assert_true(footprint.text.numbers > 30000 && footprint.vae_decoder.numbers > 10000);
	sdc_reply_free(paint(client, request_of("txt2img", "base")));
	sdc_client_free(client);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paint_and_fill),
		cmocka_unit_test(test_reply_says_what_was_not_heard),
		cmocka_unit_test(test_split_files),
		cmocka_unit_test(test_sorted_split_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
