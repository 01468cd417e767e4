/*
 * Loaders against hostile files: the malformed corpus with its verdicts, random mutations of a good file, shards that point
 * elsewhere, Python's literals in JSON, and model folders as people have them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/model-dir.h"

#define MUTATIONS 1000
/* Files this large have 16,384 pages; telling two apart touches a few of headers and beginnings. */
#define LARGE	   (64 << 20)
#define FAULTS_MAX 200

static char scratch[] = "/tmp/sdd-test-formats-XXXXXX";

static const char *data(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", getenv("SDD_GOLDEN_DATA"), name);
	return path;
}

static const char *in_scratch(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	return path;
}

static void put(const char *name, const void *bytes, size_t size)
{
	FILE *file = fopen(in_scratch(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

static int group_setup(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

/* A model with the schema of the corpus: a [3, 4] and b [5]. */
static int build_model(const char *path, struct sde_error *error)
{
	struct sde_weights *weights __attribute__((cleanup(sde_weights_freep))) = NULL;
	const struct sde_tensor *tensor;
	int r;

	r = sde_weights_open(path, &weights, error);
	if (r >= 0)
		r = sde_weights_take(weights, &tensor, error, 2, (int64_t[]){3, 4}, "%s", "a");
	if (r >= 0)
		r = sde_weights_take(weights, &tensor, error, 1, (int64_t[]){5}, "%s", "b");
	return r;
}

static void test_malformed_corpus(void **state)
{
	_cleanup_json_ json_t *manifest = NULL;
	struct sde_error error = {0};
	json_t *entry;
	size_t i;

	assert_int_equal(sde_json_load(data("malformed/manifest.json"), SDE_JSON_INDEX_MAX,
				       &manifest, &error),
			 0);
	assert_true(json_array_size(json_object_get(manifest, "files")) > 100);
	json_array_foreach (json_object_get(manifest, "files"), i, entry) {
		const char *file = json_string_value(json_object_get(entry, "file"));
		const char *verdict = json_string_value(json_object_get(entry, "verdict"));
		struct sde_weights *weights = NULL;
		char path[600];
		int r;

		snprintf(path, sizeof(path), "%s/%s", data("malformed"), file);
		error = (struct sde_error){0};
		r = sde_weights_open(path, &weights, &error);
		if (r >= 0)
			sde_weights_free(weights);
		if (!strcmp(verdict, "ok") && r < 0)
			fail_msg("%s: refused, but it is good: %s", file, error.message);
		if (!strcmp(verdict, "reject") && r >= 0)
			fail_msg("%s: accepted, but: %s", file,
				 json_string_value(json_object_get(entry, "note")));
		if (r < 0)
			assert_non_null(strstr(error.message, file));
		if (!strcmp(verdict, "model_reject") && (r < 0 || build_model(path, &error) >= 0))
			fail_msg("%s: must load, and no model must be built of it", file);
	}
	assert_int_equal(build_model(data("malformed/ok_basic.safetensors"), &error), 0);
	assert_int_equal(build_model(data("malformed/model_extra_tensor.safetensors"), &error), 0);
}

static void test_malformed_gguf(void **state)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *manifest = NULL;
	struct sde_error error = {0};
	json_t *entry;
	size_t i, size;

	assert_int_equal(
		sde_file_read(data("malformed-gguf/manifest.json"), 1 << 20, &text, &size, &error),
		0);
	assert_int_equal(sde_json_parse(text, size, "manifest", &manifest, &error), 0);
	assert_true(json_array_size(manifest) > 15);
	json_array_foreach (manifest, i, entry) {
		const char *file = json_string_value(json_object_get(entry, "file"));
		const bool good =
			!strcmp(json_string_value(json_object_get(entry, "verdict")), "ok");
		struct sde_weights *weights = NULL;
		char path[600];
		int r;

		snprintf(path, sizeof(path), "%s/%s", data("malformed-gguf"), file);
		error = (struct sde_error){0};
		r = sde_weights_open(path, &weights, &error);
		if (good != (r >= 0))
			fail_msg("%s: %s (%s)", file, good ? "refused" : "accepted", error.message);
		if (r < 0)
			assert_non_null(strstr(error.message, file));
		sde_weights_free(weights);
	}
}

/* Read whatever bytes and touch every tensor's data; returns whether it opened. */
static bool open_and_touch(const char *name)
{
	struct sde_weights *weights = NULL;
	volatile unsigned int sum = 0;

	if (sde_weights_open(in_scratch(name), &weights, NULL) < 0)
		return false;
	for (size_t t = 0; t < sde_weights_count(weights); t++) {
		const struct sde_tensor *tensor = sde_weights_at(weights, t);

		for (size_t b = 0; b < tensor->bytes; b++)
			sum += ((const unsigned char *)tensor->data)[b];
	}
	(void)sum;
	sde_weights_free(weights);
	return true;
}

static void test_mutated_gguf(void **state)
{
	FILE *source = fopen(data("malformed-gguf/ok.gguf"), "r");
	uint64_t random = 20261125;
	char good[4096];
	size_t size, opened = 0;

	assert_non_null(source);
	size = fread(good, 1, sizeof(good), source);
	fclose(source);
	for (int i = 0; i < MUTATIONS; i++) {
		char bytes[4096];

		memcpy(bytes, good, size);
		for (int change = 0; change <= i % 3; change++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[(random >> 33) % (size / 2)] = (char)(random >> 24);
		}
		put("mutated.gguf", bytes, i % 7 ? size : (random >> 40) % size);
		opened += open_and_touch("mutated.gguf");
	}
	assert_in_range(opened, 1, MUTATIONS - 1);
}

static void test_messages_help(void **state)
{
	static const struct {
		const char *file, *word;
	} cases[] = {
		{"bad_zip", "never executed"},	     {"bad_pickle", "never executed"},
		{"bad_lfs_pointer", "git-lfs"},	     {"bad_html", "web page"},
		{"bad_overlap", "overlap"},	     {"bad_data_cut_1", "truncated"},
		{"model_missing_tensor", "'b' [5]"}, {"model_wrong_shape", "needs [3, 4]"},
		{"bad_duplicate_key", "duplicate"},
	};
	struct sde_error error;
	char name[128];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(name, sizeof(name), "malformed/%s.safetensors", cases[i].file);
		assert_true(build_model(data(name), &error) < 0);
		if (!strstr(error.message, cases[i].word))
			fail_msg("%s: '%s' does not say '%s'", cases[i].file, error.message,
				 cases[i].word);
	}
}

static void test_values(void **state)
{
	struct sde_safetensors *file __attribute__((cleanup(sde_safetensors_freep))) = NULL;
	_cleanup_json_ json_t *manifest = NULL;
	const json_t *good;
	float values[12];

	assert_int_equal(
		sde_json_load(data("malformed/manifest.json"), SDE_JSON_INDEX_MAX, &manifest, NULL),
		0);
	assert_int_equal(sde_safetensors_open(data("malformed/ok_basic.safetensors"), &file, NULL),
			 0);
	assert_int_equal(sde_safetensors_count(file), 2);
	for (size_t t = 0; t < 2; t++) {
		const struct sde_tensor *tensor = sde_safetensors_at(file, t);

		good = json_object_get(json_object_get(manifest, "good_values"), tensor->name);
		assert_int_equal(tensor->count, json_array_size(good));
		assert_int_equal(sde_tensor_to_f32(tensor, values, NULL), 0);
		for (size_t i = 0; i < tensor->count; i++)
			assert_true(values[i] == (float)json_number_value(json_array_get(good, i)));
	}
}

/* Under ASan this reads every byte a mutated file lets us reach. */
static void test_mutations(void **state)
{
	_cleanup_free_ char *good = NULL;
	size_t size, opened = 0;
	uint64_t random = 20261123;

	assert_int_equal(sde_weights_open("/nonexistent", NULL, NULL), -ENOENT);
	FILE *source = fopen(data("malformed/ok_basic.safetensors"), "r");
	good = malloc(4096);
	size = fread(good, 1, 4096, source);
	fclose(source);
	for (int i = 0; i < MUTATIONS; i++) {
		char bytes[4096];
		size_t length = size;

		memcpy(bytes, good, size);
		for (int change = 0; change <= i % 3; change++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[(random >> 33) % size] = (char)(random >> 24);
		}
		if (i % 7 == 0)
			length = (random >> 40) % size;
		put("mutated.safetensors", bytes, length);
		opened += open_and_touch("mutated.safetensors");
	}
	assert_in_range(opened, 1, MUTATIONS - 1); /* data bytes may change, the header hardly */
}

static void test_shards(void **state)
{
	struct sde_weights *weights = NULL, *linked = NULL;
	struct sde_error error;
	char source[600];

	snprintf(source, sizeof(source), "%s", data("malformed/ok_basic.safetensors"));
	assert_int_equal(symlink(source, in_scratch("s.safetensors")), 0);
	put_text("m.index.json",
		 "{\"weight_map\": {\"a\": \"s.safetensors\", \"b\": \"s.safetensors\"}}");
	assert_int_equal(sde_weights_open(in_scratch("m.index.json"), &weights, &error), 0);
	assert_int_equal(sde_weights_count(weights), 2);
	assert_true(sde_weights_has_prefix(weights, "a") && !sde_weights_has_prefix(weights, "c"));
	/* the file open already, under another name and in a folder of another length */
	assert_int_equal(mkdir(in_scratch("other"), 0700), 0);
	assert_int_equal(symlink(source, in_scratch("other/t.safetensors")), 0);
	put_text("other/m.index.json",
		 "{\"weight_map\": {\"a\": \"t.safetensors\", \"b\": \"t.safetensors\"}}");
	assert_int_equal(sde_weights_open(in_scratch("other/m.index.json"), &linked, &error), 0);
	assert_int_equal(sde_weights_count(linked), 2);
	sde_weights_free(linked);
	sde_weights_free(weights);
	put_text("m.index.json", "{\"weight_map\": {\"a\": \"../s.safetensors\"}}");
	assert_int_equal(sde_weights_open(in_scratch("m.index.json"), &weights, &error), -EBADMSG);
	assert_non_null(strstr(error.message, "same folder"));
	put_text("m.index.json", "{\"weight_map\": {\"z\": \"s.safetensors\"}}");
	assert_int_equal(sde_weights_open(in_scratch("m.index.json"), &weights, &error), -EBADMSG);
	assert_non_null(strstr(error.message, "'z'"));
	put_text("m.index.json", "{\"weight_map\": {\"a\": \"none.safetensors\"}}");
	assert_int_equal(sde_weights_open(in_scratch("m.index.json"), &weights, &error), -ENOENT);
}

static void test_json(void **state)
{
	const char text[] = "{\"low\": -Infinity, \"high\": [Infinity], \"none\": NaN, \"s\": "
			    "\"NaN \\\" Infinity\"}";
	_cleanup_json_ json_t *object = NULL;
	struct sde_error error;
	char deep[200];
	json_t *none = NULL;

	assert_int_equal(sde_json_parse(text, sizeof(text) - 1, "t", &object, &error), 0);
	assert_true(json_number_value(json_object_get(object, "low")) < -1e308);
	assert_true(json_number_value(json_array_get(json_object_get(object, "high"), 0)) > 1e308);
	assert_true(json_is_null(json_object_get(object, "none")));
	assert_string_equal(json_string_value(json_object_get(object, "s")), "NaN \" Infinity");
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	assert_int_equal(sde_json_parse(deep, 200, "t", &none, &error), -EBADMSG);
	assert_int_equal(sde_json_parse("{\"a\":1,\"a\":2}", 13, "t", &none, &error), -EBADMSG);
	assert_int_equal(sde_json_parse("{\n]", 3, "file", &none, &error), -EBADMSG);
	assert_non_null(strstr(error.message, "file:2"));
}

static void test_model_dir(void **state)
{
	struct sde_model_dir *dir __attribute__((cleanup(sde_model_dir_freep))) = NULL;
	const struct sde_component *component;
	_cleanup_free_ char *path = NULL;
	struct sde_error error;

	assert_int_equal(sde_model_dir_open(data("models/sd15/"), &dir, &error), 0);
	assert_null(sde_model_dir_find(dir, "safety_checker")); /* [null, null] */
	component = sde_model_dir_find(dir, "unet");
	assert_string_equal(component->class_name, "UNet2DConditionModel");
	assert_int_equal(sde_component_weights_path(component, &path, &error), 0);
	assert_non_null(strstr(path, "unet/diffusion_pytorch_model.safetensors"));
	assert_int_equal(sde_model_dir_require(dir, "transformer", &component, &error), -ENOENT);
	assert_int_equal(sde_model_dir_open(scratch, &dir, &error), -EBADMSG);
}

static void test_model_dir_variants(void **state)
{
	struct sde_model_dir *dir __attribute__((cleanup(sde_model_dir_freep))) = NULL;
	struct sde_error error;
	char *path = NULL;

	assert_int_equal(mkdir(in_scratch("m"), 0700), 0);
	assert_int_equal(mkdir(in_scratch("m/unet"), 0700), 0);
	assert_int_equal(sde_model_dir_open(in_scratch("m"), &dir, &error), 0);
	put_text("m/unet/diffusion_pytorch_model.bin", "x");
	assert_int_equal(sde_component_weights_path(&dir->components[0], &path, &error), -ENOENT);
	assert_non_null(strstr(error.message, "never executed"));
	put_text("m/unet/diffusion_pytorch_model.fp16.safetensors", "x");
	assert_int_equal(sde_component_weights_path(&dir->components[0], &path, &error), 0);
	assert_non_null(strstr(path, ".fp16."));
	free(path);
	put_text("m/unet/diffusion_pytorch_model.safetensors.index.json", "{}");
	assert_int_equal(sde_component_weights_path(&dir->components[0], &path, &error), 0);
	assert_non_null(strstr(path, ".index.json"));
	free(path);
	put_text("m/model_index.json", "{\"../unet\": [\"diffusers\", \"X\"]}");
	dir = sde_model_dir_free(dir);
	assert_int_equal(sde_model_dir_open(in_scratch("m"), &dir, &error), -EBADMSG);
}

static int group_teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", scratch);
	return system(command);
}

/* One tensor of so many bytes, all of them zero but the first. */
static void put_large(const char *name, char first)
{
	char header[128];
	uint64_t length;
	FILE *file;

	length = (uint64_t)snprintf(
		header, sizeof(header),
		"{\"w\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", LARGE, LARGE);
	put(name, &length, sizeof(length));
	file = fopen(in_scratch(name), "a");
	assert_non_null(file);
	fputs(header, file);
	fputc(first, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(truncate(in_scratch(name), (off_t)(8 + length + LARGE)), 0);
}

static long faults(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Checkpoints of one architecture are all of one size: which is another is told without reading them. A copy is one with its original. */
static void test_copies(void **state)
{
	struct sde_tensor_file *first, *other, *copy;
	long before;

	put_large("first", 1);
	put_large("other", 2);
	put_large("copy", 1);
	assert_int_equal(sde_tensor_file_open(in_scratch("first"), &first, NULL), 0);
	before = faults();
	assert_int_equal(sde_tensor_file_open(in_scratch("other"), &other, NULL), 0);
	assert_ptr_not_equal(first, other);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they touch shadows */
	assert_in_range(faults() - before, 0, FAULTS_MAX);
#else
	(void)before;
#endif
	assert_int_equal(sde_tensor_file_open(in_scratch("copy"), &copy, NULL), 0);
	assert_ptr_equal(first, copy);
	sde_tensor_file_unref(first);
	sde_tensor_file_unref(copy);
	sde_tensor_file_unref(other);
	unlink(in_scratch("first"));
	unlink(in_scratch("other"));
	unlink(in_scratch("copy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malformed_gguf),
		cmocka_unit_test(test_mutated_gguf),
		cmocka_unit_test(test_malformed_corpus),
		cmocka_unit_test(test_messages_help),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_model_dir),
		cmocka_unit_test(test_model_dir_variants),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
