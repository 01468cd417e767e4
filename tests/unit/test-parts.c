/*
 * Models in ComfyUI's split files: joined by what is in the files, whatever they are called; what is said when one is missing or several fit;
 * and the vocabulary that such files do not bring. The files are narrow ones with every tensor of the real layouts.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/model.h"
#include "daemon/engine/tokenizer/t5.h"
#include "tests/golden/synthetic.h"

/* What no shape tells of networks this narrow. */
#define FLUX_HEADS                                                                                 \
	"\"components\": {\"transformer\": {\"num_attention_heads\": 2, \"attention_head_dim\": "  \
	"16, \"axes_dims_rope\": [4, 6, 6]}}"
#define SD3_HEADS                                                                                  \
	"\"components\": {\"transformer\": {\"num_attention_heads\": 2, \"attention_head_dim\": "  \
	"16}}"

static char scratch[] = "/tmp/sdd-test-parts-XXXXXX";
static struct sde_engine *engine;

static void at(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", scratch, name);
}

/* Write the part called that of the manifest to a file below the scratch folder; without values it has its shapes and takes no room. */
static void put(const char *part, const char *name, bool values)
{
	char path[256], manifest[512], prefix[32];
	struct sde_error error = {0};
	int fd;

	at(path, sizeof(path), name);
	snprintf(manifest, sizeof(manifest), "%s/parts/split.json.gz", getenv("SDD_GOLDEN_DATA"));
	snprintf(prefix, sizeof(prefix), "%s|", part);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	if (golden_synthetic_write(manifest, prefix, values, fd, &error) < 0)
		fail_msg("%s", error.message);
	close(fd);
}

static void put_part(const char *part, const char *name)
{
	put(part, name, true);
}

static void put_text(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	at(path, sizeof(path), name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void put_folder(const char *name)
{
	char path[256];

	at(path, sizeof(path), name);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* Other weights: two bytes that far in a file become zero. */
static void change(const char *name, off_t where)
{
	char path[256];
	int fd;

	at(path, sizeof(path), name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && pwrite(fd, "\0\0", 2, where) == 2);
	close(fd);
}

static void move(const char *from, const char *to)
{
	char paths[2][256];

	at(paths[0], sizeof(paths[0]), from);
	at(paths[1], sizeof(paths[1]), to);
	assert_int_equal(rename(paths[0], paths[1]), 0);
}

static int group_setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};

	if (!mkdtemp(scratch) || sde_engine_new(&options, &engine, NULL) < 0)
		return -1;
	put_folder("unet");
	put_folder("diffusion_models");
	put_folder("text_encoders");
	put_folder("clip");
	put_folder("vae");
	put_folder("elsewhere");
	put_part("flux", "diffusion_models/dev.safetensors");
	put_part("sd1", "unet/old.safetensors");
	put_part("sd3", "diffusion_models/three.safetensors");
	put_part("t5", "text_encoders/one");
	put_part("clip_l", "clip/two.bin");
	put_part("clip_g", "text_encoders/t5xxl.safetensors"); /* a name that lies */
	put_part("ae", "vae/x");
	put_part("vae4", "vae/y");
	put_text("vae/put_vae_here", "");
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS "}");
	put_text("diffusion_models/three.sdd.json", "{" SD3_HEADS "}");
	return 0;
}

static int group_teardown(void **state)
{
	char command[128];

	sde_engine_free(engine);
	snprintf(command, sizeof(command), "rm -r '%s'", scratch);
	return system(command);
}

static struct sde_model *load(const char *name)
{
	struct sde_model *model = NULL;
	struct sde_error error = {0};
	char path[256];

	at(path, sizeof(path), name);
	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

static void refused(const char *name, int code, const char *const *words)
{
	struct sde_model *model = NULL;
	struct sde_error error = {0};
	char path[256];

	at(path, sizeof(path), name);
	assert_int_equal(sde_model_load(engine, path, &model, &error), code);
	for (; *words; words++)
		if (!strstr(error.message, *words))
			fail_msg("no '%s' in: %s", *words, error.message);
}
#define REFUSED(name, code, ...) refused(name, code, (const char *const[]){__VA_ARGS__, NULL})

static void test_joined_by_content(void **state)
{
	struct sde_model *model = load("diffusion_models/dev.safetensors");

	assert_string_equal(sde_model_info(model)->family, "flux");
	assert_int_equal(model->vae.latent_channels, 16);
	assert_int_equal(model->n_towers, 1);
	assert_int_equal(model->towers[0].clip.config.hidden_size, 32);
	assert_int_equal(model->t5.t5.config.d_model, 32);
	assert_int_equal(sde_t5_tokenizer_vocab_size(model->t5.tokenizer), 32100);
	sde_model_unref(model);
	model = load("unet/old.safetensors");
	assert_string_equal(sde_model_info(model)->family, "sd1");
	assert_int_equal(model->vae.latent_channels, 4);
	sde_model_unref(model);
	/* of two encoders the sum is known; no T5 here is as wide as this one attends to, and it does without */
	model = load("diffusion_models/three.safetensors");
	assert_string_equal(sde_model_info(model)->family, "sd3");
	assert_int_equal(model->n_towers, 2);
	assert_int_equal(model->towers[0].clip.config.hidden_size, 32);
	assert_int_equal(model->towers[1].clip.config.hidden_size, 48);
	assert_null(model->t5.tokenizer);
	sde_model_unref(model);
}

static void test_missing_and_ambiguous(void **state)
{
	struct sde_model *model;

	move("vae/x", "elsewhere/vae");
	move("text_encoders/one", "elsewhere/t5");
	REFUSED("diffusion_models/dev.safetensors", -ENOENT,
		"dev.safetensors: needs an autoencoder of 16 latent channels, a T5 of width 32;",
		"text_encoders/", "vae/", "{\"parts\": [\"FILE\", ...]}");
	move("elsewhere/t5", "text_encoders/one");
	put_text("diffusion_models/dev.sdd.json",
		 "{" FLUX_HEADS ", \"parts\": [\"../elsewhere/vae\"]}");
	sde_model_unref(load("diffusion_models/dev.safetensors"));
	put_text("diffusion_models/dev.sdd.json",
		 "{" FLUX_HEADS ", \"parts\": \"../elsewhere/vae\"}");
	REFUSED("diffusion_models/dev.safetensors", -EINVAL, "'parts'", "no list of files");
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS ", \"parts\": [\"../nothing\"]}");
	REFUSED("diffusion_models/dev.safetensors", -ENOENT, "nothing");
	put_text("diffusion_models/dev.sdd.json",
		 "{\"components\": {\"transformer\": {\"_class_name\": 5}}}");
	REFUSED("diffusion_models/dev.safetensors", -EBADMSG, "'_class_name'", "must be a string");
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS "}");
	move("elsewhere/vae", "vae/x");
	/* a second one with other weights; a copy is no second one */
	put_part("ae", "vae/copy");
	sde_model_unref(load("diffusion_models/dev.safetensors"));
	change("vae/copy", 400000);
	REFUSED("diffusion_models/dev.safetensors", -EBADMSG, "both copy and x are an autoencoder",
		"\"parts\"", ".sdd.json");
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS ", \"parts\": [\"../vae/x\"]}");
	model = load("diffusion_models/dev.safetensors");
	assert_non_null(strstr(sde_weights_path(model->vae_weights), "/vae/x"));
	sde_model_unref(model);
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS "}");
	move("vae/copy", "elsewhere/copy");
}

/* A folder of one's own, with names or without. */
static void test_folder(void **state)
{
	put_folder("mine");
	REFUSED("mine", -EBADMSG, "neither model_index.json", "a denoiser in mine/");
	put_part("flux", "mine/a");
	put_part("clip_l", "mine/b");
	put_text("mine/sdd.json", "{" FLUX_HEADS ", \"parts\": [\"../vae/x\"]}");
	REFUSED("mine", -ENOENT, "needs a T5 of width 32", "sdd.json");
	put_part("t5", "mine/c");
	sde_model_unref(load("mine"));
	put_part("sd1", "mine/d");
	REFUSED("mine", -EBADMSG, "both a and d are denoisers");
	put_text("mine/sdd.json", "{" FLUX_HEADS ", \"parts\": [\"a\", \"../vae/x\"]}");
	sde_model_unref(load("mine"));
	/* the root: several denoisers, none named */
	REFUSED(".", -EBADMSG, "are denoisers");
}

/* Owned by the caller. */
static struct sde_image paint(struct sde_model *model, const char *prompt)
{
	const struct sde_job job = {.kind = SDE_TXT2IMG,
				    .prompt = prompt,
				    .steps = 1,
				    .guidance_scale = 4,
				    .width = 64,
				    .height = 64,
				    .count = 1,
				    .hires_scale = 1};
	struct sde_error error = {0};
	struct sde_result result;
	struct sde_image image;

	if (sde_job_run(model, &job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	image = result.layers[0].image;
	result.layers[0].image = (struct sde_image){0};
	sde_result_clear(&result);
	return image;
}

/*
 * SDXL as people sort it: each part a folder or two deeper. Both text encoders are told apart by their widths, the autoencoder is SDXL's
 * by the network beside it, and of several the one that is sorted as the denoiser is.
 */
static void test_sdxl_in_deeper_folders(void **state)
{
	struct sde_image house, boat;
	struct sde_model *model;

	put_folder("xl");
	put_folder("xl/unet");
	put_folder("xl/unet/sdxl");
	put_folder("xl/clip");
	put_folder("xl/text_encoders");
	put_folder("xl/text_encoders/deep");
	put_folder("xl/text_encoders/deep/er");
	put_folder("xl/vae");
	put_folder("xl/vae/sdxl");
	put_folder("xl/vae/a");
	put_folder("xl/vae/a/b");
	put_folder("xl/vae/a/b/c");
	put_part("sdxl", "xl/unet/sdxl/base.safetensors");
	put_part("clip_l", "xl/clip/l.safetensors");
	put_part("clip_g", "xl/text_encoders/deep/er/g.safetensors");
	put_part("vae4", "xl/vae/a/b/c/v.safetensors");
	REFUSED("xl/unet/sdxl/base.safetensors", -ENOENT, "needs an autoencoder of 4 latent");
	move("xl/vae/a/b/c/v.safetensors", "xl/vae/a/b/v.safetensors");
	model = load("xl/unet/sdxl/base.safetensors");
	assert_string_equal(sde_model_info(model)->family, "sdxl");
	assert_int_equal(model->n_towers, 2);
	assert_int_equal(model->towers[0].clip.config.hidden_size, 32);
	assert_int_equal(model->towers[1].clip.config.hidden_size, 48);
	assert_true(fabs(model->vae.scaling_factor - 0.13025) < 1e-6);
	house = paint(model, "a house");
	boat = paint(model, "a boat");
	assert_memory_not_equal(house.data, boat.data, house.stride * house.height);
	sde_image_clear(&house);
	sde_image_clear(&boat);
	sde_model_unref(model);
	/* a second autoencoder */
	put_part("vae4", "xl/vae/sdxl/w.safetensors");
	change("xl/vae/sdxl/w.safetensors", 40000);
	model = load("xl/unet/sdxl/base.safetensors");
	assert_non_null(strstr(sde_weights_path(model->vae_weights), "/vae/sdxl/w"));
	sde_model_unref(model);
	move("xl/unet/sdxl/base.safetensors", "xl/unet/base.safetensors");
	REFUSED("xl/unet/base.safetensors", -EBADMSG, "both v.safetensors and w.safetensors are");
	move("xl/vae/sdxl/w.safetensors", "xl/vae/w.safetensors");
	model = load("xl/unet/base.safetensors");
	assert_non_null(strstr(sde_weights_path(model->vae_weights), "/vae/w"));
	sde_model_unref(model);
}

/* SDXL's refiner has the wider text encoder alone, as wide as it is, whatever else lies there. */
static void test_sdxl_refiner(void **state)
{
	struct sde_image house;
	struct sde_model *model;

	put_folder("xl/diffusion_models");
	put_part("refiner", "xl/diffusion_models/refiner.safetensors");
	REFUSED("xl/diffusion_models/refiner.safetensors", -ENOENT,
		"needs a CLIP text encoder of width 1280;");
	put("clip_bigg", "xl/clip/big.safetensors", false);
	model = load("xl/diffusion_models/refiner.safetensors");
	assert_string_equal(sde_model_info(model)->family, "sdxl-refiner");
	assert_int_equal(model->n_towers, 1);
	assert_int_equal(model->towers[0].clip.config.hidden_size, 1280);
	assert_true(fabs(model->vae.scaling_factor - 0.13025) < 1e-6);
	house = paint(model, "a house");
	sde_image_clear(&house);
	sde_model_unref(model);
	/* the base model beside it takes the narrower two still */
	model = load("xl/unet/base.safetensors");
	assert_int_equal(model->towers[1].clip.config.hidden_size, 48);
	sde_model_unref(model);
}

/* Ids as the tokenizers library gives them with T5's own tokenizer.json. */
static void test_builtin_vocabulary(void **state)
{
	static const struct {
		const char *text;
		int32_t ids[20];
	} cases[] = {
		{"a red house by the sea", {3, 9, 1131, 629, 57, 8, 2805, 1}},
		{"A Größe of 3.5 mm — naïve café ﬁn ① Ｆ",
		 {71, 12622, 13, 3, 9285, 3, 635, 3, 318, 3, 29, 9, 2, 162, 11949, 2202, 209, 377,
		  1}},
		{"photo of and\n\n  two   blanks", {1202, 13, 11, 192, 11460, 7, 1}},
		{"日本語 🙂 ok", {3, 2, 3, 2, 3, 1825, 1}},
	};
	struct sde_t5_tokenizer *tokenizer = NULL;
	struct sde_error error = {0};

	assert_int_equal(sde_t5_tokenizer_builtin(&tokenizer, &error), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int32_t row[20];

		assert_int_equal(sde_t5_tokenizer_row(tokenizer, cases[i].text,
						      strlen(cases[i].text), 20, row, NULL, &error),
				 0);
		assert_memory_equal(row, cases[i].ids, sizeof(row)); /* padded with 0 */
	}
	sde_t5_tokenizer_free(tokenizer);
}

/* Another vocabulary is named in the settings; one that the encoder has no rows for is no riddle later. */
static void test_named_vocabulary(void **state)
{
	struct sde_model *model;
	char text[512];

	snprintf(text, sizeof(text),
		 "{" FLUX_HEADS
		 ", \"t5_tokenizer\": \"%s/models/tokenizers/t5_tiny/spiece.model\"}",
		 getenv("SDD_GOLDEN_DATA"));
	put_text("diffusion_models/dev.sdd.json", text);
	model = load("diffusion_models/dev.safetensors");
	assert_true(sde_t5_tokenizer_vocab_size(model->t5.tokenizer) < 32100);
	sde_model_unref(model);
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS ", \"t5_tokenizer\": \"none\"}");
	REFUSED("diffusion_models/dev.safetensors", -ENOENT, "diffusion_models/none");
	put_text("diffusion_models/dev.sdd.json", "{" FLUX_HEADS "}");
	move("text_encoders/one", "elsewhere/one");
	{
		char command[1024];

		snprintf(command, sizeof(command),
			 "cp '%s/cases/formats/gguf/t5_llamacpp.gguf' '%s/text_encoders/tiny'",
			 getenv("SDD_GOLDEN_DATA"), scratch);
		assert_int_equal(system(command), 0);
	}
	put_text("diffusion_models/dev.sdd.json",
		 "{" FLUX_HEADS ", \"parts\": [\"../text_encoders/tiny\"]}");
	REFUSED("diffusion_models/dev.safetensors", -EINVAL, "the built-in vocabulary has 32100",
		"\"t5_tokenizer\"");
	move("elsewhere/one", "text_encoders/one");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_joined_by_content),
		cmocka_unit_test(test_missing_and_ambiguous),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_sdxl_in_deeper_folders),
		cmocka_unit_test(test_sdxl_refiner),
		cmocka_unit_test(test_builtin_vocabulary),
		cmocka_unit_test(test_named_vocabulary),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
