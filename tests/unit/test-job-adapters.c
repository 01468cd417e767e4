/*
 * Adapters through the engine's boundary: LoRAs by list and by the prompt's tags, learnt words, guiding pictures of every kind; the
 * model is as before when the job has ended; what is missing or does not fit is named. Edges are OpenCV's.
 */
#include <errno.h>
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

#include "daemon/engine/adapters/preprocess.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/prompt/tags.h"
#include "tests/unit/model-files.h"

#define SIDE 32

static char root[] = "/tmp/sdd-test-job-adapters-XXXXXX";
static const char *const roots[] = {root};
static struct sde_engine *engine;
static struct sde_model *model;
static struct sde_image canvas;

/* An entry of the root that leads to a file of the golden data; NULL target: a folder. */
static const struct {
	const char *name, *target;
} entries[] = {
	{"loras", NULL},
	{"loras/linear.safetensors", "lora/kohya_linear.safetensors"},
	{"loras/hadamard.safetensors", "lora/lyco_loha.safetensors"},
	{"loras/sdxl.safetensors", "lora/sdxl_kohya_sgm.safetensors"},
	{"embeddings", NULL},
	{"embeddings/word.safetensors", "embeddings/a1111_multi.safetensors"},
	{"embeddings/old.pt", "embeddings/a1111_legacy.pt"},
	{"controlnets", NULL},
	{"controlnets/tiny_canny", "controlnet_sd15_a"},
	{"controlnets/tiny_scribble.safetensors", "control_sd15_a.safetensors"},
	{"controlnets/sketch", "t2i_adapter_sd15"},
	{"controlnets/picture.safetensors", "ip_adapter_sd15/ip-adapter_sd15.safetensors"},
	{"controlnets/image_encoder", "ip_adapter_sd15/image_encoder"},
	{"controlnets/for_sdxl", "controlnet_sdxl"},
	{"controlnets/no_net.safetensors", "lora/kohya_linear.safetensors"},
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};
	const char *data = getenv("SDD_GOLDEN_DATA");
	struct sde_error error = {0};
	char path[4096], target[4096];

	if (!mkdtemp(root))
		return -1;
	for (size_t i = 0; i < ENTRIES; i++) {
		snprintf(path, sizeof(path), "%s/%s", root, entries[i].name);
		snprintf(target, sizeof(target), "%s/cases/adapters/%s", data,
			 entries[i].target ? entries[i].target : "");
		assert_int_equal(entries[i].target ? symlink(target, path) : mkdir(path, 0700), 0);
	}
	assert_int_equal(sde_engine_new(&options, &engine, &error), 0);
	snprintf(path, sizeof(path), "%s/cases/adapters/base_sd15", data);
	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(sde_image_new(SIDE, SIDE, 3, SDE_PIXEL_U8, &canvas, &error), 0);
	for (uint32_t y = 0; y < SIDE; y++)
		for (uint32_t x = 0; x < SIDE * 3; x++)
			((uint8_t *)sde_image_row(&canvas, y))[x] =
				(uint8_t)((x / 24 + y / 8) % 2 ? 220 : 30);
	return 0;
}

static int teardown(void **state)
{
	char path[4096];

	sde_image_clear(&canvas);
	sde_model_unref(model);
	sde_engine_free(engine);
	for (size_t i = ENTRIES; i-- > 0;) {
		snprintf(path, sizeof(path), "%s/%s", root, entries[i].name);
		if (remove(path) != 0)
			return -1;
	}
	return rmdir(root);
}

static struct sde_job job_of(const char *prompt)
{
	return (struct sde_job){
		.kind = SDE_TXT2IMG,
		.prompt = prompt,
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
}

struct picture {
	uint8_t rgba[SIDE * SIDE * 4];
	int tokens;
};

static struct picture made_by(const struct sde_job *job)
{
	struct sde_error error = {0};
	struct sde_result result;
	struct picture picture;

	if (sde_job_run(model, job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(result.layers[0].image.width, SIDE);
	for (uint32_t y = 0; y < SIDE; y++)
		memcpy(picture.rgba + y * SIDE * 4, sde_image_row(&result.layers[0].image, y),
		       SIDE * 4);
	picture.tokens = result.prompt_tokens;
	sde_result_clear(&result);
	return picture;
}

static bool same(const struct picture *a, const struct picture *b)
{
	return memcmp(a->rgba, b->rgba, sizeof(a->rgba)) == 0;
}

static void refused(const struct sde_job *job, int code, const char *message)
{
	struct sde_error error = {0};
	struct sde_result result;

	assert_int_equal(sde_job_run(model, job, NULL, &result, &error), code);
	if (strncmp(error.message, message, strlen(message)) != 0)
		fail_msg("'%s' instead of '%s'", error.message, message);
}

static void test_loras_by_list_and_by_tag(void **state)
{
	const struct sde_lora list[] = {{"linear", 0.7}, {"hadamard", -0.5}},
			      off[] = {{"linear", 0}};
	struct sde_job job = job_of("a cat");
	const struct picture plain = made_by(&job);
	struct picture listed, tagged, picture;

	job.loras = list;
	job.n_loras = 1;
	listed = made_by(&job);
	assert_false(same(&plain, &listed));
	job.n_loras = 0;
	job.prompt = "a <lora:linear:0.7>cat";
	tagged = made_by(&job);
	assert_true(same(&tagged, &listed));
	assert_int_equal(tagged.tokens, plain.tokens);
	job.n_loras = 2;
	picture = made_by(&job);
	assert_false(same(&picture, &listed));
	job = job_of("a cat");
	job.loras = off;
	job.n_loras = 1;
	picture = made_by(&job);
	assert_true(same(&picture, &plain));
	job.n_loras = 0;
	picture = made_by(&job);
	assert_true(same(&picture, &plain));
}

static void test_loras_that_are_not_there(void **state)
{
	const struct sde_lora outside = {"../loras/linear", 1}, sdxl = {"sdxl", 1};
	struct sde_job job = job_of("a cat <lora:nothing>");

	refused(&job, -ENOENT, "no LoRA is called 'nothing'; loras/ of the model folders has ");
	job.prompt = "a cat <lora:linear:much>";
	refused(&job, -EINVAL, "prompt: 'much' is no weight of LoRA linear; write <lora:name:0.7>");
	job.prompt = "a cat <lora:linear";
	refused(&job, -EINVAL, "prompt: '<lora:linear' has no end");
	job.prompt = "<lora::1>";
	refused(&job, -EINVAL, "prompt: '<lora::1>' has no name");
	job.prompt = "a cat";
	job.loras = &outside;
	job.n_loras = 1;
	refused(&job, -EINVAL, "'../loras/linear' is no name of a LoRA");
	job.loras = &sdxl;
	refused(&job, -EINVAL, "LoRA sdxl is for SDXL, the model is SD 1.x");
	job.loras = NULL;
	job.n_loras = 0;
	made_by(&job);
}

static void test_words(void **state)
{
	struct sde_job job = job_of("a photo of cat");
	const struct picture plain = made_by(&job);
	struct picture picture;

	job.prompt = "a photo of cat word";
	picture = made_by(&job);
	assert_int_equal(picture.tokens, plain.tokens + 3);
	assert_false(same(&picture, &plain));
	job.prompt = "an old photo";
	refused(&job, -EBADMSG, "embedding old: ");
}

static void test_guiding_pictures(void **state)
{
	static const char *const kinds[] = {"canny", "scribble", "sketch", "picture", "tiny_canny"};
	struct sde_job job = job_of("a cat");
	const struct picture plain = made_by(&job);
	struct picture pictures[5], picture;

	for (size_t i = 0; i < 5; i++) {
		struct sde_control control = {kinds[i], &canvas, 1, 0, 1};

		job.controls = &control;
		job.n_controls = 1;
		pictures[i] = made_by(&job);
		if (same(&pictures[i], &plain))
			fail_msg("%s changes nothing", kinds[i]);
		for (size_t k = 0; k < i; k++)
			assert_false(same(&pictures[i], &pictures[k]));
		control.scale = 0;
		picture = made_by(&job);
		if (!same(&picture, &plain))
			fail_msg("%s at scale 0 changes the picture", kinds[i]);
	}
	job.n_controls = 0;
	picture = made_by(&job);
	assert_true(same(&picture, &plain));
}

static void test_several_guides_and_parts_of_the_steps(void **state)
{
	const struct sde_control both[] = {{"canny", &canvas, 0.5, 0, 1},
					   {"sketch", &canvas, 0.5, 0, 1}};
	struct sde_control early = {"canny", &canvas, 1, 0, 0.5};
	struct sde_job job = job_of("a cat");
	struct picture one, two, late, guess;

	job.controls = both;
	job.n_controls = 1;
	one = made_by(&job);
	job.n_controls = 2;
	two = made_by(&job);
	assert_false(same(&one, &two));
	job.controls = &early;
	job.n_controls = 1;
	one = made_by(&job);
	early.start = 0.5;
	early.end = 1;
	late = made_by(&job);
	assert_false(same(&one, &late));
	job.guess_mode = true;
	guess = made_by(&job);
	assert_false(same(&guess, &late));
}

static void test_guides_on_a_canvas(void **state)
{
	const struct sde_control control = {"canny", &canvas, 1, 0, 1};
	struct sde_job job = job_of("a cat");
	struct picture plain, guided;

	job.kind = SDE_IMG2IMG;
	job.image = &canvas;
	plain = made_by(&job);
	job.controls = &control;
	job.n_controls = 1;
	guided = made_by(&job);
	assert_false(same(&plain, &guided));
}

static void test_guides_that_do_not_fit(void **state)
{
	static const struct {
		const char *tensor, *message;
	} forms[] = {
		{"image_proj.proj.3.weight", "IP-Adapter form: it is a full-face IP-Adapter"},
		{"image_proj.proj.2.weight", "IP-Adapter form: it is a FaceID, which needs a face"},
		{"image_proj.perceiver_resampler.proj_in.weight",
		 "IP-Adapter form: it is a FaceID plus"},
	};
	struct sde_control control = {"depth", &canvas, 1, 0, 1};
	struct sde_image larger = canvas;
	struct sde_job job = job_of("a cat");

	job.controls = &control;
	job.n_controls = 1;
	refused(&job, -ENOENT,
		"no ControlNet is called 'depth'; controlnets/ of the model folders has ");
	control.kind = "for_sdxl";
	refused(&job, -EINVAL,
		"ControlNet for_sdxl: it attends to 80 channels and pooled text, the "
		"model gives 32");
	control.kind = "no_net";
	refused(&job, -EBADMSG,
		"no_net is neither a ControlNet nor a T2I-Adapter nor an IP-Adapter");
	/* forms of IP-Adapter that are not read say which they are, whether an image encoder is there or not */
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		const struct file_tensor tensors[] = {
			{forms[i].tensor, "F16", 2, 2, {4, 4}},
			{"image_proj.norm.weight", "F16", 2, 1, {4}},
			{"ip_adapter.1.to_k_ip.weight", "F16", 2, 2, {4, 4}},
		};
		char path[256];

		snprintf(path, sizeof(path), "%s/controlnets/form.safetensors", root);
		write_safetensors(path, tensors, 3, 0);
		control.kind = "form";
		refused(&job, -ENOTSUP, forms[i].message);
		unlink(path);
	}
	control.kind = "canny";
	control.start = 0.7;
	control.end = 0.2;
	refused(&job, -EINVAL, "control canny: start and end must be fractions of the steps");
	control.start = 0;
	control.scale = 11;
	refused(&job, -EINVAL, "control canny: scale must be -10 to 10, not 11");
	control.scale = 1;
	larger.height = SIDE / 2;
	control.image = &larger;
	job.kind = SDE_IMG2IMG;
	job.image = &canvas;
	refused(&job, -EINVAL, "control canny: its image is 32 x 16, the canvas 32 x 32");
}

/* cv2.Canny(picture, 100, 200) */
static void test_edges(void **state)
{
	static const char *const rows[] = {
		"............................", "............................",
		"............................", ".........##.................",
		"......###..####.............", "......#.....................",
		"....##.........##...........", "....#..........#.#.........#",
		".....#.........#..........##", "....#...........#........##.",
		"....#...........#.......##..", "...#.#.........#.......##...",
		"....###........##.....##....", "..............#......##.....",
		"......#########.....##......", "...................##.......",
		"..................##........", ".................##.........",
		"................##..........", "................#...........",
	};
	enum { W = 28, H = 20 };
	uint8_t rgb[W * H * 3], edges[W * H];

	for (int i = 0; i < W * H * 3; i++) {
		const int c = i % 3, x = i / 3 % W, y = i / 3 / W;
		const bool inside = (x - 9 - c) * (x - 9 - c) + (y - 9) * (y - 9) < 36;
		const int value =
			(inside ? 180 : 40) + (x * 7 + y * 3 + c * 11) % 23 + (x + y > 34 ? 60 : 0);

		rgb[i] = (uint8_t)(value > 255 ? 255 : value);
	}
	assert_int_equal(sde_canny(rgb, W, H, SDE_CANNY_LOW, SDE_CANNY_HIGH, edges), 0);
	for (int i = 0; i < W * H; i++)
		assert_int_equal(edges[i], rows[i / W][i % W] == '#' ? 255 : 0);
}

/* Dark on light or light on dark: the same lines. */
static void test_lines(void **state)
{
	struct sde_error error = {0};
	struct sde_image drawing;
	float a[3 * 8 * 8], b[3 * 8 * 8];

	assert_int_equal(sde_image_new(8, 8, 4, SDE_PIXEL_U8, &drawing, &error), 0);
	/* transparent is paper */
	for (uint32_t i = 0; i < 8; i++)
		((uint8_t *)sde_image_row(&drawing, i))[4 * i + 3] = 255;
	assert_int_equal(sde_preprocess(&drawing, NULL, SDE_PREPROCESS_SCRIBBLE, 8, 8, a, &error),
			 0);
	for (uint32_t i = 0; i < 64; i++) {
		uint8_t *pixel = (uint8_t *)sde_image_row(&drawing, i / 8) + 4 * (i % 8);

		memset(pixel, i / 8 == i % 8 ? 255 : 0, 3);
		pixel[3] = 255;
	}
	assert_int_equal(sde_preprocess(&drawing, NULL, SDE_PREPROCESS_SCRIBBLE, 8, 8, b, &error),
			 0);
	for (int i = 0; i < 3 * 64; i++) {
		assert_true(a[i] == (i % 64 / 8 == i % 8 ? 1.0f : 0.0f));
		assert_true(a[i] == b[i]);
	}
	sde_image_clear(&drawing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loras_by_list_and_by_tag),
		cmocka_unit_test(test_loras_that_are_not_there),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_guiding_pictures),
		cmocka_unit_test(test_several_guides_and_parts_of_the_steps),
		cmocka_unit_test(test_guides_on_a_canvas),
		cmocka_unit_test(test_guides_that_do_not_fit),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
