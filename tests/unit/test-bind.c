/*
 * From a weight file to a model's structs: what is missing, misshapen, of another type or left over is named together with the
 * file and with what would be right; data that the file does not align is taken all the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/bind.h"
#include "daemon/engine/formats/weights.h"
#include "tests/unit/model-files.h"

enum { DIM_IN, DIM_OUT };

struct block {
	struct sde_conv conv;
	struct sde_linear proj, key;
	struct sde_norm norm;
	struct sde_table table;
};

static const struct sde_field fields[] = {
	SDE_FIELD(block, conv, "conv", CONV3, DIM_IN, DIM_OUT),
	SDE_FIELD(block, proj, "proj|old_proj", POINTWISE, DIM_IN, DIM_OUT),
	SDE_FIELD(block, key, "key", LINEAR_NO_BIAS, DIM_IN, DIM_OUT),
	SDE_FIELD(block, norm, "norm", NORM, DIM_OUT, DIM_OUT),
	SDE_FIELD(block, table, "table", TABLE, DIM_IN, DIM_OUT),
};

/* What fits the fields for 3 channels in and 5 out. */
static const struct file_tensor good[] = {
	{"b.conv.weight", "F32", 4, 4, {5, 3, 3, 3}},
	{"b.conv.bias", "F32", 4, 1, {5}},
	{"b.proj.weight", "F16", 2, 2, {5, 3}},
	{"b.proj.bias", "F16", 2, 1, {5}},
	{"b.key.weight", "BF16", 2, 2, {5, 3}},
	{"b.norm.weight", "F32", 4, 1, {5}},
	{"b.norm.bias", "F32", 4, 1, {5}},
	{"b.table.weight", "F32", 4, 2, {5, 3}},
};
#define N (sizeof(good) / sizeof(good[0]))

static char scratch[] = "/tmp/sdd-test-bind-XXXXXX";
static char path[64];

static int setup(void **state)
{
	if (!mkdtemp(scratch))
		return -1;
	snprintf(path, sizeof(path), "%s/m.safetensors", scratch);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(scratch);
}

static int bind_file(struct sde_weights **ret_weights, struct block *block, struct sde_error *error)
{
	const int dims[] = {[DIM_IN] = 3, [DIM_OUT] = 5};
	struct sde_binder binder = {.error = error};

	assert_int_equal(sde_weights_open(path, ret_weights, error), 0);
	binder.weights = *ret_weights;
	SDE_BIND(&binder, fields, dims, block, "%s.", "b");
	return sde_bind_finish(&binder);
}

static void refused(const struct file_tensor *tensors, size_t n, int code, const char *message)
{
	struct sde_weights *weights = NULL;
	struct sde_error error = {0};
	struct block block;
	char expected[512];

	write_safetensors(path, tensors, n, 0);
	assert_int_equal(bind_file(&weights, &block, &error), code);
	snprintf(expected, sizeof(expected), "%s: %s", path, message);
	assert_string_equal(error.message, expected);
	sde_weights_free(weights);
}

/* The good file with one tensor replaced. */
static void refused_with(size_t i, struct file_tensor tensor, int code, const char *message)
{
	struct file_tensor tensors[N];

	memcpy(tensors, good, sizeof(good));
	tensors[i] = tensor;
	refused(tensors, N, code, message);
}

static void test_good_file_binds(void **state)
{
	struct file_tensor tensors[N];
	struct sde_weights *weights = NULL;
	struct sde_error error = {0};
	struct block block;

	memcpy(tensors, good, sizeof(good));
	/* as LDM stores it, and under its old name */
	tensors[2] = (struct file_tensor){"b.old_proj.weight", "F16", 2, 4, {5, 3, 1, 1}};
	tensors[3].name = "b.old_proj.bias";
	write_safetensors(path, tensors, N, 0);
	assert_int_equal(bind_file(&weights, &block, &error), 0);
	assert_int_equal(block.conv.kernel, 3);
	assert_int_equal(block.conv.weight.type, SDK_F32);
	assert_int_equal(block.proj.weight.type, SDK_F16);
	assert_int_equal(block.proj.weight.rank, 4);
	assert_int_equal(block.key.weight.type, SDK_BF16);
	assert_null(block.key.bias.data);
	assert_int_equal(block.table.rows, 5);
	assert_int_equal(block.table.weight.shape[1], 3);
	sde_weights_free(weights);
}

static void test_missing(void **state)
{
	refused(good, N - 1, -ENOENT, "tensor 'b.table.weight' [5, 3] is missing");
	/* of two spellings the new one is asked for */
	refused_with(2, (struct file_tensor){"b.older.weight", "F16", 2, 2, {5, 3}}, -ENOENT,
		     "tensor 'b.proj.weight' [5, 3] is missing");
	refused_with(1, (struct file_tensor){"b.conv.bais", "F32", 4, 1, {5}}, -ENOENT,
		     "tensor 'b.conv.bias' [5] is missing");
}

static void test_wrong_shape(void **state)
{
	refused_with(
		0, (struct file_tensor){"b.conv.weight", "F32", 4, 4, {5, 4, 3, 3}}, -EBADMSG,
		"tensor 'b.conv.weight' has shape [5, 4, 3, 3]; this model needs [5, 3, 3, 3]");
	refused_with(0, (struct file_tensor){"b.conv.weight", "F32", 4, 2, {5, 27}}, -EBADMSG,
		     "tensor 'b.conv.weight' has shape [5, 27]; this model needs [5, 3, 3, 3]");
	refused_with(5, (struct file_tensor){"b.norm.weight", "F32", 4, 1, {0}}, -EBADMSG,
		     "tensor 'b.norm.weight' has shape [0]; this model needs [5]");
	/* a linear layer without a kernel is not one with a kernel of 1x1 */
	refused_with(4, (struct file_tensor){"b.key.weight", "BF16", 2, 4, {5, 3, 1, 1}}, -EBADMSG,
		     "tensor 'b.key.weight' has shape [5, 3, 1, 1]; this model needs [5, 3]");
}

static void test_wrong_type(void **state)
{
	refused_with(0, (struct file_tensor){"b.conv.weight", "I64", 8, 4, {5, 3, 3, 3}}, -ENOTSUP,
		     "tensor 'b.conv.weight' is I64; weights must be floats or quantised");
	refused_with(4, (struct file_tensor){"b.key.weight", "U8", 1, 2, {5, 3}}, -ENOTSUP,
		     "tensor 'b.key.weight' is U8; weights must be floats or quantised");
}

static void test_left_over(void **state)
{
	struct file_tensor tensors[N + 1];

	memcpy(tensors, good, sizeof(good));
	tensors[N] = (struct file_tensor){"b.extra", "F32", 4, 2, {2, 2}};
	refused(tensors, N + 1, -EBADMSG,
		"tensor 'b.extra' [2, 2] does not belong to this architecture as its config.json "
		"describes it");
}

/* The same values, whatever the data's distance from a multiple of 8. */
static void test_unaligned_data(void **state)
{
	struct sde_weights *straight = NULL, *skewed = NULL;
	struct block one, two;

	write_safetensors(path, good, N, 0);
	assert_int_equal(bind_file(&straight, &one, NULL), 0);
	for (size_t skew = 1; skew < 8; skew++) {
		write_safetensors(path, good, N, skew);
		assert_int_equal(bind_file(&skewed, &two, NULL), 0);
		assert_int_equal((uintptr_t)two.conv.weight.data % sizeof(float), 0);
		assert_int_equal((uintptr_t)two.proj.weight.data % 2, 0);
		assert_memory_equal(one.conv.weight.data, two.conv.weight.data, 5 * 27 * 4);
		assert_memory_equal(one.proj.weight.data, two.proj.weight.data, 15 * 2);
		assert_memory_equal(one.table.weight.data, two.table.weight.data, 15 * 4);
		skewed = sde_weights_free(skewed);
	}
	sde_weights_free(straight);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_file_binds), cmocka_unit_test(test_missing),
		cmocka_unit_test(test_wrong_shape),	cmocka_unit_test(test_wrong_type),
		cmocka_unit_test(test_left_over),	cmocka_unit_test(test_unaligned_data),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
