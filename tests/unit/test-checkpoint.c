/*
 * Models as one checkpoint file: families inferred from the names and shapes of real ones, what overrides them, what is missing or unknown;
 * the built-in vocabulary; and the generator that makes such files for the full-size cases.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/model.h"
#include "tests/golden/synthetic.h"

static char scratch[] = "/tmp/sdd-test-checkpoint-XXXXXX";
static struct sde_engine *engine;

static const char *data(const char *format, const char *name)
{
	static char path[512];
	const int used = snprintf(path, sizeof(path), "%s/", getenv("SDD_GOLDEN_DATA"));

	snprintf(path + used, sizeof(path) - (size_t)used, "%s%s", format, name);
	return path;
}

static int group_setup(void **state)
{
	const struct sde_engine_options options = {"ref", "f32", 1};

	return mkdtemp(scratch) ? sde_engine_new(&options, &engine, NULL) : -1;
}

static int group_teardown(void **state)
{
	char command[128];

	sde_engine_free(engine);
	snprintf(command, sizeof(command), "rm -r '%s'", scratch);
	return system(command);
}

static void test_generator(void **state)
{
	_cleanup_json_ json_t *root = NULL;
	const json_t *tensor;
	struct sde_error error = {0};
	size_t i;

	assert_int_equal(sde_json_load(data("fullsize/", "check_values.json"), SDE_JSON_INDEX_MAX,
				       &root, &error),
			 0);
	assert_true(json_array_size(json_object_get(root, "tensors")) > 30);
	json_array_foreach (json_object_get(root, "tensors"), i, tensor) {
		const char *name = json_string_value(json_object_get(tensor, "name"));
		const json_t *bits = json_object_get(tensor, "first4_f16_bits");
		uint16_t values[4], third;
		char hash[32];

		snprintf(hash, sizeof(hash), "%016llx",
			 (unsigned long long)golden_synthetic_seed(name));
		assert_string_equal(hash, json_string_value(json_object_get(tensor, "fnv1a64")));
		golden_synthetic_values(
			name, (float)json_number_value(json_object_get(tensor, "scale")),
			(float)json_number_value(json_object_get(tensor, "offset")), 0, 4, values);
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(values[k], json_integer_value(json_array_get(bits, k)));
		golden_synthetic_values(
			name, (float)json_number_value(json_object_get(tensor, "scale")),
			(float)json_number_value(json_object_get(tensor, "offset")), 2, 1, &third);
		assert_int_equal(third, values[2]);
	}
}

/* Every tensor of the published architectures is found, and nothing is left over: sde_model_load would say so. */
static void test_families(void **state)
{
	static const struct {
		const char *manifest, *family;
		int in_channels, native_size, heads, towers;
	} want[] = {
		{"sd15", "sd1", 4, 512, 8, 1},
		{"sd15_inpaint", "sd1", 9, 512, 8, 1},
		{"sd21v", "sd2", 4, 512, 5, 1},
		{"sdxl", "sdxl", 4, 1024, 5, 2},
		{"sdxl_refiner", "sdxl-refiner", 4, 1024, 6, 1},
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct sde_model *model = NULL;
		struct sde_error error = {0};
		const char *path;
		char manifest[64];

		snprintf(manifest, sizeof(manifest), "%s.json.gz", want[i].manifest);
		if (golden_synthetic_open(data("fullsize/manifests/", manifest), "", false, &path,
					  &error) < 0 ||
		    sde_model_load(engine, path, &model, &error) < 0)
			fail_msg("%s: %s", want[i].manifest, error.message);
		assert_string_equal(sde_model_info(model)->family, want[i].family);
		assert_int_equal(sde_model_info(model)->in_channels, want[i].in_channels);
		assert_int_equal(sde_model_info(model)->native_size, want[i].native_size);
		assert_int_equal(model->denoiser.unet.config.heads[0], want[i].heads);
		assert_int_equal(model->n_towers, want[i].towers);
		assert_string_equal(json_string_value(json_object_get(model->scheduler_config,
								      "prediction_type")),
				    "epsilon");
		for (int t = 0; t < model->n_towers; t++) {
			const struct sde_text_tower *tower = &model->towers[t];
			const bool l = tower->clip.config.hidden_size == 768;

			assert_int_equal(sde_clip_tokenizer_pad(tower->tokenizer), l ? 49407 : 0);
			assert_int_equal(tower->clip.config.hidden_act,
					 l ? SDK_QUICK_GELU : SDK_GELU);
		}
		sde_model_unref(model);
	}
}

static char *copy(const char *from, const char *to)
{
	char command[1200], *path;

	assert_true(asprintf(&path, "%s/%s", scratch, to) > 0);
	snprintf(command, sizeof(command), "cp '%s' '%s'", from, path);
	assert_int_equal(system(command), 0);
	return path;
}

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* Narrow models follow no rule of the field; a file beside them says what their shapes do not. The name's ending does not matter. */
static void test_settings(void **state)
{
	_cleanup_free_ char *path =
		copy(data("cases/formats/sd1_fp16_mix/", "model.safetensors"), "tiny.v1.ckpt");
	struct sde_model *model = NULL;
	struct sde_error error = {0};

	assert_int_equal(sde_model_load(engine, path, &model, &error), 0);
	assert_int_equal(model->denoiser.unet.config.heads[0], 8);
	sde_model_unref(model);
	put("tiny.v1.sdd.json",
	    "{\"steps\": 7, \"components\": {\"unet\": {\"attention_head_dim\": 4},"
	    " \"scheduler\": {\"prediction_type\": \"v_prediction\"}}}");
	assert_int_equal(sde_model_load(engine, path, &model, &error), 0);
	assert_int_equal(model->denoiser.unet.config.heads[0], 4);
	assert_int_equal(sde_model_info(model)->default_steps, 7);
	assert_string_equal(
		json_string_value(json_object_get(model->scheduler_config, "prediction_type")),
		"v_prediction");
	sde_model_unref(model);
	put("tiny.v1.sdd.json", "{");
	assert_int_equal(sde_model_load(engine, path, &model, &error), -EBADMSG);
	assert_non_null(strstr(error.message, "tiny.v1.sdd.json"));
}

static void test_refusals(void **state)
{
	struct sde_model *model = NULL;
	struct sde_error error = {0};

	assert_int_equal(
		sde_model_load(engine, data("malformed/", "ok_basic.safetensors"), &model, &error),
		-EBADMSG);
	assert_non_null(strstr(error.message, "none of its 2 tensors (the first is 'a')"));
	assert_int_equal(
		sde_model_load(engine,
			       data("cases/formats/sd1_clip_no_text_model/", "model.safetensors"),
			       &model, &error),
		-ENOENT);
	assert_non_null(strstr(error.message, "the file has no component 'unet'"));
	assert_int_equal(
		sde_model_load(engine, data("malformed/", "bad_hole.safetensors"), &model, &error),
		-EBADMSG);
	assert_int_equal(sde_model_load(engine, "/dev/null", &model, &error), -ENOTDIR);
}

static void test_builtin_vocabulary(void **state)
{
	static const char *const texts[] = {
		"a photo of an astronaut riding a horse on mars, 8k (detailed:1.2)",
		"Ünïcödé \xe2\x82\xac 12345 don't !!! #hash ~~ \xf0\x9f\x8e\xa8",
	};
	struct sde_clip_tokenizer *builtin = NULL, *folder = NULL;
	struct sde_error error = {0};

	assert_int_equal(sde_clip_tokenizer_builtin(&builtin, &error), 0);
	assert_int_equal(
		sde_clip_tokenizer_load(data("models/sd15_f16/", "tokenizer"), &folder, &error), 0);
	assert_int_equal(sde_clip_tokenizer_vocab_size(builtin), 49408);
	assert_int_equal(sde_clip_tokenizer_bos(builtin), 49406);
	assert_int_equal(sde_clip_tokenizer_eos(builtin), 49407);
	assert_int_equal(sde_clip_tokenizer_pad(builtin), 49407);
	assert_int_equal(sde_clip_tokenizer_comma(builtin), sde_clip_tokenizer_comma(folder));
	for (size_t i = 0; i < 2; i++) {
		struct sde_ids got = {0}, want = {0};

		assert_int_equal(sde_clip_tokenizer_encode(builtin, texts[i], strlen(texts[i]),
							   &got, &error),
				 0);
		assert_int_equal(sde_clip_tokenizer_encode(folder, texts[i], strlen(texts[i]),
							   &want, &error),
				 0);
		assert_int_equal(got.count, want.count);
		assert_memory_equal(got.ids, want.ids, want.count * sizeof(*want.ids));
		sde_ids_clear(&got);
		sde_ids_clear(&want);
	}
	sde_clip_tokenizer_free(builtin);
	sde_clip_tokenizer_free(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_generator),	   cmocka_unit_test(test_families),
		cmocka_unit_test(test_settings),	   cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_builtin_vocabulary),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
