/*
 * Content hashes: known digests, what sha256sum says of a folder, what they depend on and what not, and that a known file is not read
 * again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/model-hash.h"
#include "daemon/model-stamp.h"
#include "daemon/util/cleanup.h"
#include "tests/shell.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static struct sdd_memo known;
static int n_read;

static void found(void *userdata, const struct sdd_digest *digest)
{
	n_read++;
	sdd_memo_add(&known, digest);
}

static const char *hash_of(const char *name)
{
	static char texts[4][SDD_DIGEST_TEXT_SIZE];
	static int turn;
	const struct sdd_hash_hooks hooks = {.found = found};
	uint8_t digest[SDD_DIGEST_SIZE];
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	turn = (turn + 1) % 4;
	n_read = 0;
	assert_int_equal(sdd_model_hash(path, &known, &hooks, digest), 0);
	sdd_digest_text(digest, texts[turn]);
	return texts[turn];
}

static int setup(void **state)
{
	known = sdd_digests_new();
	strcpy(root, "/tmp/sdd-hash-XXXXXX");
	assert_non_null(mkdtemp(root));
	run("cd %s && mkdir -p m/unet m/b m/.cache && echo '{}' >m/model_index.json && "
	    "echo weights >m/unet/model.safetensors && echo x >m/b/merges.txt && echo q "
	    ">m/b/part.gguf && "
	    "echo '{\"steps\": 2}' >m/sdd.json && echo y >m/README.md && echo z >m/.cache/a.json",
	    root);
	return 0;
}

static int teardown(void **state)
{
	run("rm -rf %s", root);
	sdd_memo_clear(&known);
	return 0;
}

static void test_file(void **state)
{
	run("printf abc >%s/abc.safetensors", root);
	assert_string_equal(hash_of("abc.safetensors"),
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	/* longer than a piece */
	run("head -c 3000001 /dev/zero >%s/zero.safetensors", root);
	assert_string_equal(hash_of("zero.safetensors"),
			    "4f3c36cc4ec3bc4ac4c40dfc33a9c5505a31fd01c106a5277fdcc63239a8f34d");
}

static void test_folder_is_what_sha256sum_says(void **state)
{
	SDD_CLEANUP(sdd_fclosep) FILE *file = NULL;
	char path[96], said[65] = "";

	run("cd %s/m && find -L * -maxdepth 1 -type f | grep -E "
	    "'\\.(safetensors|gguf|json|txt|model)$' | grep -v sdd.json$ | LC_ALL=C sort | xargs "
	    "sha256sum | sha256sum >../said",
	    root);
	snprintf(path, sizeof(path), "%s/said", root);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fread(said, 1, 64, file), 64);
	assert_string_equal(hash_of("m"), said);
}

static void test_depends_on_content_alone(void **state)
{
	const char *before = hash_of("m");
	char first[SDD_DIGEST_TEXT_SIZE];

	strcpy(first, before);
	assert_int_equal(n_read, 4);
	/* what is known is not read */
	assert_string_equal(hash_of("m"), first);
	assert_int_equal(n_read, 0);
	run("cp -r %s/m %s/copy && mv %s/m %s/renamed && touch %s/renamed/model_index.json", root,
	    root, root, root, root);
	assert_string_equal(hash_of("copy"), first);
	assert_int_equal(n_read, 4);
	assert_string_equal(hash_of("renamed"), first);
	assert_int_equal(n_read, 1);
	/* a person's wishes, notes and hidden files do not count */
	run("cd %s/copy && echo '{}' >sdd.json && echo new >README.md && rm -r .cache", root);
	assert_string_equal(hash_of("copy"), first);
	/* one byte does, and so does a name */
	run("cd %s/copy && echo Weights >unet/model.safetensors", root);
	assert_string_not_equal(hash_of("copy"), first);
	assert_int_equal(n_read, 1);
	run("cd %s/renamed && mv b c", root);
	assert_string_not_equal(hash_of("renamed"), first);
}

static void test_nothing_to_hash(void **state)
{
	uint8_t digest[SDD_DIGEST_SIZE];
	const struct sdd_hash_hooks hooks = {0};
	char path[96];

	snprintf(path, sizeof(path), "%s/none", root);
	assert_int_equal(sdd_model_hash(path, &known, &hooks, digest), -ENOENT);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(sdd_model_hash(path, &known, &hooks, digest), -ENOENT);
}

static void test_stamps_see_files_and_settings(void **state)
{
	uint64_t stamp, before;
	char path[96];

	snprintf(path, sizeof(path), "%s/one.v2.safetensors", root);
	assert_int_equal(sdd_model_stamp(path), 0);
	run("echo x >%s", path);
	before = sdd_model_stamp(path);
	assert_int_not_equal(before, 0);
	assert_int_equal(sdd_model_stamp(path), before);
	run("echo '{}' >%s/one.v2.sdd.json", root);
	stamp = sdd_model_stamp(path);
	assert_int_not_equal(stamp, before);
	/* the same size and time, another content: only ctime tells */
	run("touch -r %s %s/time && echo y >%s && touch -r %s/time %s", path, root, path, root,
	    path);
	assert_int_not_equal(sdd_model_stamp(path), stamp);
	snprintf(path, sizeof(path), "%s/m", root);
	stamp = sdd_model_stamp(path);
	run("touch %s/m/unet/model.safetensors", root);
	assert_int_not_equal(sdd_model_stamp(path), stamp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folder_is_what_sha256sum_says, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_depends_on_content_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_hash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stamps_see_files_and_settings, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
