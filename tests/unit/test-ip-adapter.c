/*
 * The plus form of IP-Adapters: tokens as diffusers' IPAdapterPlusImageProjection makes them on transformers' image encoder (the numbers below, from
 * the same weights), and a job whose picture they change. The weights are made from their names.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/adapters/ip-adapter.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/model.h"
#include "tests/golden/synthetic.h"

#define SIDE   32
#define TOKENS 4
#define WIDTH  32

static char root[] = "/tmp/sdd-test-ip-adapter-XXXXXX";
static const char *const roots[] = {root};
static char file[128], encoder[4096];
static struct sde_engine *engine;
static struct sde_model *model;

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};
	const char *data = getenv("SDD_GOLDEN_DATA");
	struct sde_error error = {0};
	char path[4096], link[128];
	int fd;

	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/controlnets", root);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(file, sizeof(file), "%s/controlnets/plus.safetensors", root);
	snprintf(link, sizeof(link), "%s/controlnets/image_encoder", root);
	snprintf(encoder, sizeof(encoder), "%s/cases/adapters/ip_adapter_sd15/image_encoder", data);
	assert_int_equal(symlink(encoder, link), 0);
	fd = open(file, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "%s/parts/ip_plus.json.gz", data);
	if (golden_synthetic_write(path, "", true, fd, &error) < 0)
		fail_msg("%s", error.message);
	close(fd);
	assert_int_equal(sde_engine_new(&options, &engine, &error), 0);
	snprintf(path, sizeof(path), "%s/cases/adapters/base_sd15", data);
	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	sde_model_unref(model);
	sde_engine_free(engine);
	snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command);
}

struct wanted {
	float first[6], last[6]; /* of the first token and of the last one */
	double sum, squares;
};

static void check_tokens(const float *tokens, const struct wanted *want)
{
	const float limit = 2e-5f; /* sums of some hundred numbers of about 1, in another order */
	double sum = 0, squares = 0;

	for (int i = 0; i < TOKENS * WIDTH; i++) {
		sum += (double)tokens[i];
		squares += (double)tokens[i] * (double)tokens[i];
	}
	for (int i = 0; i < 6; i++) {
		assert_true(fabsf(tokens[i] - want->first[i]) < limit);
		assert_true(fabsf(tokens[TOKENS * WIDTH - 6 + i] - want->last[i]) < limit);
	}
	assert_true(fabs(sum - want->sum) < 1e-3 && fabs(squares - want->squares) < 2e-3);
}

static void test_tokens(void **state)
{
	static const struct wanted picture = {
		{-0.171453f, -0.062338f, -0.958429f, -0.214986f, -0.042659f, -0.162877f},
		{-0.503075f, -0.092998f, -1.103316f, -0.574496f, 1.091708f, -0.664618f},
		2.352541446685791,
		124.48123168945312};
	static const struct wanted none = {
		{-0.136372f, -0.242552f, -0.605004f, -0.605406f, 0.71352f, -0.357497f},
		{-0.780534f, -0.722981f, -0.944072f, 0.032383f, -0.017198f, -0.367464f},
		2.3748490810394287,
		129.7268524169922};
	struct sde_ip_adapter *adapter = NULL;
	float pixels[3 * SIDE * SIDE], tokens[TOKENS * WIDTH], *features;
	struct sde_error error = {0};

	if (sde_ip_adapter_load(file, encoder, "plus", 1, &model->denoiser.unet, &adapter, &error) <
	    0)
		fail_msg("%s", error.message);
	assert_int_equal(adapter->tokens, TOKENS);
	for (int c = 0; c < 3; c++)
		for (int y = 0; y < SIDE; y++)
			for (int x = 0; x < SIDE; x++)
				pixels[(c * SIDE + y) * SIDE + x] =
					(float)((c * 7 + y * 3 + x * 5) % 11) / 5 - 1;
	features = malloc(sde_ip_adapter_features_size(adapter) * sizeof(*features));
	assert_non_null(features);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sde_ip_adapter_features(model->runner, adapter, i ? pixels : NULL,
							 features, &error),
				 0);
		assert_int_equal(
			sde_ip_adapter_tokens(model->runner, adapter, features, tokens, &error), 0);
		check_tokens(tokens, i ? &picture : &none);
	}
	free(features);
	sde_ip_adapter_free(adapter, model->runner);
}

static void paint(struct sde_job *job, uint8_t *pixels)
{
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	for (uint32_t y = 0; y < SIDE; y++)
		memcpy(pixels + y * SIDE * 4, sde_image_row(&result.layers[0].image, y), SIDE * 4);
	sde_result_clear(&result);
}

static void test_job(void **state)
{
	struct sde_job job = {
		.kind = SDE_TXT2IMG,
		.prompt = "a cat",
		.seed = 3,
		.steps = 2,
		.guidance_scale = 4,
		.strength = 0.8,
		.count = 1,
		.width = SIDE,
		.height = SIDE,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.adapter_roots = roots,
		.n_adapter_roots = 1,
	};
	struct sde_control control = {"plus", NULL, 1, 0, 1};
	static uint8_t plain[SIDE * SIDE * 4], guided[2][SIDE * SIDE * 4];
	struct sde_error error = {0};
	struct sde_image image;

	assert_int_equal(sde_image_new(SIDE, SIDE, 3, SDE_PIXEL_U8, &image, &error), 0);
	for (uint32_t y = 0; y < SIDE; y++)
		memset(sde_image_row(&image, y), (int)y * 7, SIDE * 3);
	paint(&job, plain);
	job.controls = &control;
	job.n_controls = 1;
	control.image = &image;
	paint(&job, guided[0]);
	for (uint32_t y = 0; y < SIDE; y++)
		memset(sde_image_row(&image, y), y < SIDE / 2 ? 255 : 0, SIDE * 3);
	paint(&job, guided[1]);
	assert_true(memcmp(plain, guided[0], sizeof(plain)) != 0);
	assert_true(memcmp(guided[0], guided[1], sizeof(plain)) != 0);
	sde_image_clear(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_job),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
