/*
 * Checkpoints of torch: read where a person allows it, in both formats and with or without a state_dict level; refused otherwise, and always when the
 * pickle names what could run, is cut off, compressed or points out of its archive. Payloads must never run: they would leave a file.
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
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/gguf.h"
#include "daemon/engine/formats/tensor-file.h"
#include "daemon/engine/formats/torch-file.h"

#define MUTATIONS 3000
#define MARKER	  "/tmp/PWNED_BY_CKPT"

static const char *data(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/ckpt/%s", getenv("SDD_GOLDEN_DATA"), name);
	return path;
}

static void test_verdicts(void **state)
{
	static const struct {
		const char *file;
		int code; /* 0: read */
		const char *message;
	} want[] = {
		{"small_zip.ckpt", 0, ""},
		{"small_legacy.ckpt", 0, ""},
		{"small_flat.pt", 0, ""},
		{"evil_reduce.ckpt", -EPERM, "could run a program"},
		{"evil_eval.ckpt", -EPERM, "could run a program"},
		{"evil_bare.pkl", -EPERM, "could run a program"},
		{"truncated.ckpt", -EBADMSG, "without its directory"},
		{"deflated.ckpt", -ENOTSUP, "compressed"},
		{"traversal.ckpt", -EBADMSG, "reaches out of its folder"},
	};

	unlink(MARKER);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct sde_tensor_file *file = NULL;
		struct sde_error error = {0};

		if (sde_tensor_file_open_pickled(data(want[i].file), &file, &error) != want[i].code)
			fail_msg("%s: %d, %s", want[i].file, error.code, error.message);
		if (want[i].code < 0 && !strstr(error.message, want[i].message))
			fail_msg("%s: %s", want[i].file, error.message);
		sde_tensor_file_unref(file);
		file = NULL;
		/* without permission none of them is */
		assert_int_equal(sde_tensor_file_open(data(want[i].file), &file, &error), -EBADMSG);
		assert_non_null(strstr(error.message, "sdctl convert"));
	}
	assert_int_equal(access(MARKER, F_OK), -1);
}

static float first_value(const struct sde_tensor *tensor)
{
	_cleanup_free_ float *values = calloc(tensor->count + 1, sizeof(*values));

	assert_int_equal(sde_tensor_to_f32(tensor, values, NULL), 0);
	return values[tensor->count - 1];
}

/* The same state dict, written three ways. */
static void test_values(void **state)
{
	struct sde_tensor_file *zip = NULL, *old = NULL, *flat = NULL;
	size_t compared = 0;

	assert_int_equal(sde_tensor_file_open_pickled(data("small_zip.ckpt"), &zip, NULL), 0);
	assert_int_equal(sde_tensor_file_open_pickled(data("small_legacy.ckpt"), &old, NULL), 0);
	assert_int_equal(sde_tensor_file_open_pickled(data("small_flat.pt"), &flat, NULL), 0);
	assert_true(sde_tensor_file_count(zip) > 1);
	assert_int_equal(sde_tensor_file_count(zip), sde_tensor_file_count(old));
	assert_int_equal(sde_tensor_file_count(zip), sde_tensor_file_count(flat));
	for (size_t i = 0; i < sde_tensor_file_count(zip); i++) {
		const struct sde_tensor *a = sde_tensor_file_at(zip, i);
		const struct sde_tensor *b = sde_tensor_file_at(old, i);
		const struct sde_tensor *c = sde_tensor_file_at(flat, i);

		assert_string_equal(a->name, b->name);
		assert_string_equal(a->name, c->name);
		assert_int_equal(a->bytes, b->bytes);
		assert_memory_equal(a->data, b->data, a->bytes);
		assert_memory_equal(a->data, c->data, a->bytes);
		compared += a->count > 0 && first_value(a) != 0;
	}
	assert_true(compared > 0);
	sde_tensor_file_unref(zip);
	sde_tensor_file_unref(old);
	sde_tensor_file_unref(flat);
}

/* Bytes changed in the pickle and the directories: opened or refused, nothing read outside (a sanitizer would say). */
static void mutate(const char *name, bool at_end)
{
	char scratch[] = "/tmp/sdd-test-torch-XXXXXX";
	_cleanup_free_ char *good = NULL;
	_cleanup_close_ int fd = mkstemp(scratch);
	volatile unsigned int sum = 0;
	uint64_t random = 20261125;
	size_t size;

	assert_true(fd >= 0);
	assert_int_equal(sde_file_read(data(name), 1 << 20, &good, &size, NULL), 0);
	for (int i = 0; i < MUTATIONS; i++) {
		struct sde_tensor_file *file = NULL;
		size_t at[3];
		char old[3];

		for (int k = 0; k <= i % 3; k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			at[k] = (random >> 33) % 1500;
			at[k] = at_end && random >> 63 ? size - 1 - at[k] : at[k];
			old[k] = good[at[k]];
			good[at[k]] = (char)(random >> 24);
		}
		assert_int_equal(pwrite(fd, good, size, 0), size);
		for (int k = i % 3; k >= 0; k--)
			good[at[k]] = old[k];
		if (sde_tensor_file_open_pickled(scratch, &file, NULL) < 0)
			continue;
		for (size_t t = 0; t < sde_tensor_file_count(file); t++) {
			const struct sde_tensor *tensor = sde_tensor_file_at(file, t);

			for (size_t b = 0; b < tensor->bytes; b += 7)
				sum += ((const unsigned char *)tensor->data)[b];
		}
		sde_tensor_file_unref(file);
	}
	(void)sum;
	unlink(scratch);
}

static void test_convert(void **state)
{
	struct sde_tensor_file *before = NULL, *after = NULL;
	char folder[] = "/tmp/sdd-test-torch-XXXXXX", path[64];
	struct sde_error error = {0};

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/out.safetensors", folder);
	assert_int_equal(sde_convert_to_safetensors(data("evil_reduce.ckpt"), path, &error),
			 -EPERM);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(sde_convert_to_safetensors(data("small_zip.ckpt"), path, &error), 0);
	assert_int_equal(sde_tensor_file_open_pickled(data("small_zip.ckpt"), &before, NULL), 0);
	assert_int_equal(sde_tensor_file_open(path, &after, &error), 0);
	assert_int_equal(sde_tensor_file_count(before), sde_tensor_file_count(after));
	for (size_t i = 0; i < sde_tensor_file_count(before); i++) {
		const struct sde_tensor *a = sde_tensor_file_at(before, i);
		const struct sde_tensor *b = sde_tensor_file_at(after, i);

		assert_string_equal(a->name, b->name);
		assert_int_equal(a->dtype, b->dtype);
		assert_int_equal(a->rank, b->rank);
		assert_memory_equal(a->shape, b->shape, sizeof(a->shape));
		assert_memory_equal(a->data, b->data, a->bytes);
	}
	sde_tensor_file_unref(before);
	sde_tensor_file_unref(after);
	assert_int_equal(sde_convert_to_safetensors(data("small_zip.ckpt"), path, &error), -EEXIST);
	unlink(path);
	assert_int_equal(rmdir(folder), 0); /* nothing half-written is left */
}

static void test_mutations(void **state)
{
	mutate("small_zip.ckpt", true);
	mutate("small_legacy.ckpt", false);
}

/* Nothing to map. */
static void test_empty(void **state)
{
	char path[] = "/tmp/sdd-test-empty-XXXXXX";
	struct sde_torch_file *torch = NULL;
	struct sde_gguf *gguf = NULL;
	struct sde_error error = {0};
	const int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sde_torch_file_open(path, &torch, &error), -EBADMSG);
	assert_non_null(strstr(error.message, path));
	assert_int_equal(sde_gguf_open(path, &gguf, &error), -EBADMSG);
	unlink(path);
	assert_int_equal(sde_torch_file_open(path, &torch, &error), -ENOENT);
	assert_int_equal(sde_gguf_open(path, &gguf, &error), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts), cmocka_unit_test(test_values),
		cmocka_unit_test(test_convert),	 cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
