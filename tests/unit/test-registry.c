/*
 * Which model a job gets, and what a model's folder says before anybody loads it. Real folders, no weights.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/model-stamp.h"
#include "daemon/registry.h"
#include "tests/shell.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	char root[64];
	char *roots[1];
	struct sdd_registry registry;
};

static void put(const struct fixture *fixture, const char *path, const char *text)
{
	char full[256], *slash;
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s", fixture->root, path);
	for (slash = full + strlen(fixture->root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void put_model(const struct fixture *fixture, const char *name, int channels,
		      const char *defaults)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "%s/model_index.json", name);
	put(fixture, path, "{}");
	snprintf(path, sizeof(path), "%s/unet/config.json", name);
	snprintf(text, sizeof(text), "{\"in_channels\": %d}", channels);
	put(fixture, path, text);
	snprintf(path, sizeof(path), "%s/sdd.json", name);
	put(fixture, path, defaults);
}

static int setup(void **state)
{
	static struct fixture fixture;

	strcpy(fixture.root, "/tmp/sdd-registry-XXXXXX");
	assert_non_null(mkdtemp(fixture.root));
	fixture.roots[0] = fixture.root;
	sdd_registry_init(&fixture.registry, fixture.roots, 1, NULL);
	*state = &fixture;
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	sdd_registry_clear(&fixture->registry);
	return nftw(fixture->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *chosen(struct fixture *fixture, const char *name, enum sdp_job_kind kind)
{
	const struct sdd_model *model = sdd_registry_choose(&fixture->registry, name, kind);

	return model ? model->name : "none";
}

static void test_repainting_goes_to_the_companion(void **state)
{
	struct fixture *fixture = *state;

	put_model(fixture, "a-masks", 9, "{}");
	put_model(fixture, "b-whole", 4, "{\"inpaint\": \"a-masks\"}");
	put_model(fixture, "c-alone", 4, "{\"inpaint\": \"not-here\"}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	/* the first by name repaints only, so the default is the next */
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "b-whole");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_IMG2IMG), "b-whole");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_INPAINT), "a-masks");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_OUTPAINT), "a-masks");
	assert_string_equal(chosen(fixture, "b-whole", SDP_JOB_KIND_INPAINT), "a-masks");
	assert_string_equal(chosen(fixture, "b-whole", SDP_JOB_KIND_IMG2IMG), "b-whole");
	assert_string_equal(chosen(fixture, "a-masks", SDP_JOB_KIND_TXT2IMG), "a-masks");
	/* a companion that is not installed is no reason to fail */
	assert_string_equal(chosen(fixture, "c-alone", SDP_JOB_KIND_INPAINT), "c-alone");
	assert_string_equal(chosen(fixture, "nobody", SDP_JOB_KIND_INPAINT), "none");
}

/* Between two scans: who asks gets what is there. */
static void test_gone_and_come(void **state)
{
	struct fixture *fixture = *state;
	char from[128], to[128];

	put_model(fixture, "a", 4, "{}");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "a");
	snprintf(from, sizeof(from), "%s/a", fixture->root);
	snprintf(to, sizeof(to), "%s/b", fixture->root);
	assert_int_equal(rename(from, to), 0);
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "b");
	assert_string_equal(chosen(fixture, "a", SDP_JOB_KIND_TXT2IMG), "none");
}

/* The list counts its changes: models that came, went or are another. */
static void test_changes_are_counted(void **state)
{
	struct fixture *fixture = *state;
	struct sdd_registry *registry = &fixture->registry;
	uint64_t changes;

	put_model(fixture, "a", 4, "{}");
	assert_int_equal(sdd_registry_scan(registry), 0);
	changes = registry->changes;
	assert_int_not_equal(changes, 0);
	assert_int_equal(sdd_registry_scan(registry), 0);
	assert_int_equal(registry->changes, changes);
	put_model(fixture, "a", 9, "{}");
	assert_int_equal(sdd_registry_scan(registry), 0);
	assert_int_equal(registry->changes, changes + 1);
	put_model(fixture, "b", 4, "{}");
	assert_int_equal(sdd_registry_scan(registry), 0);
	assert_int_equal(registry->changes, changes + 2);
}

static void test_masks_model_alone_is_the_default(void **state)
{
	struct fixture *fixture = *state;

	put_model(fixture, "masks", 9, "{}");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "masks");
}

static void test_configured_default_has_its_companion(void **state)
{
	struct fixture *fixture = *state;

	put_model(fixture, "a", 4, "{}");
	put_model(fixture, "b", 4, "{\"inpaint\": \"b-masks\"}");
	put_model(fixture, "b-masks", 9, "{}");
	fixture->registry.default_name = "b";
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "b");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_INPAINT), "b-masks");
}

static void test_facts_come_from_small_files(void **state)
{
	struct fixture *fixture = *state;
	const struct sdd_model *model;

	put_model(fixture, "m", 4,
		  "{\"steps\": 12, \"guidance_scale\": 3.5, \"sampler\": \"Euler\", "
		  "\"native_size\": 256}");
	model = sdd_registry_find(&fixture->registry, "m");
	assert_non_null(model);
	assert_int_equal(model->facts.in_channels, 4);
	assert_int_equal(model->facts.default_steps, 12);
	assert_int_equal(model->facts.native_size, 256);
	assert_true(model->facts.default_guidance == 3.5);
	assert_string_equal(model->facts.sampler, "Euler");
	assert_string_equal(model->facts.inpaint, "");
	put(fixture, "flux/model_index.json", "{}");
	put(fixture, "flux/transformer/config.json",
	    "{\"_class_name\": \"FluxTransformer2DModel\", \"in_channels\": 384}");
	model = sdd_registry_find(&fixture->registry, "flux");
	assert_non_null(model);
	assert_int_equal(model->facts.in_channels, 96);
	/* the default is a model that makes whole pictures, which flux, first by name, does not */
	assert_string_equal(sdd_registry_find(&fixture->registry, "")->name, "m");
	model = sdd_registry_find(&fixture->registry, "m");
	/* a changed file is noticed as long as nobody has loaded the model */
	put(fixture, "m/sdd.json", "{\"steps\": 7}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	assert_int_equal(model->facts.default_steps, 7);
}

/* What makes no sense is not known; the worker says what is wrong when it loads the model. */
static void test_nonsense_is_not_known(void **state)
{
	static const char *const nonsense[] = {
		"",
		"[]",
		"{\"steps\": 12",
		"{\"steps\": 0}",
		"{\"steps\": 1001}",
		"{\"steps\": \"9\"}",
		"{\"native_size\": 1e99, \"guidance_scale\": -1, \"sampler\": 3, \"inpaint\": []}",
		"{\"sampler\": \"a name that is far longer than that of any real sampler\"}",
	};
	struct fixture *fixture = *state;
	const struct sdd_model *model;

	put_model(fixture, "m", 4, "");
	model = sdd_registry_find(&fixture->registry, "m");
	assert_non_null(model);
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		put(fixture, "m/sdd.json", nonsense[i]);
		assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
		assert_int_equal(model->facts.default_steps, 0);
		assert_int_equal(model->facts.native_size, 0);
		assert_true(model->facts.default_guidance < 0);
		assert_string_equal(model->facts.sampler, "");
		assert_string_equal(model->facts.inpaint, "");
		assert_int_equal(model->facts.in_channels, 4);
	}
}

/* A .safetensors as far as its header. */
static void put_file(const struct fixture *fixture, const char *name, const char *header)
{
	const uint64_t length = strlen(header);
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", fixture->root, name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(&length, 1, 8, file), 8); /* little-endian, as all we run on */
	fputs(header, file);
	fclose(file);
}

#define UNET(channels)                                                                             \
	"\"model.diffusion_model.input_blocks.0.0.weight\": {\"dtype\": \"F16\", \"shape\": "      \
	"[320, " #channels ", 3, 3]}"
#define VAE  "\"first_stage_model.decoder.conv_in.weight\": {}"
#define TEXT "\"cond_stage_model.transformer.text_model.final_layer_norm.bias\": {}"

static void test_checkpoint_files_are_models(void **state)
{
	struct fixture *fixture = *state;
	const struct sdd_model *model;
	char root[128];

	put_file(fixture, "one.safetensors", "{" UNET(4) ", " VAE ", " TEXT "}");
	put_file(fixture, "repaints.bin", "{" UNET(9) ", " VAE ", " TEXT "}");
	put_file(fixture, "vae.safetensors", "{" VAE "}");
	put_file(fixture, "aside.safetensors", "{" UNET(4) ", \"control_model.zero\": {}}");
	put_file(fixture, "part.safetensors", "{" UNET(4) ", " VAE "}");
	put(fixture, "text.safetensors", "{" UNET(4) ", " VAE ", " TEXT "}");
	put(fixture, "one.sdd.json", "{\"steps\": 9, \"inpaint\": \"repaints.bin\"}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	assert_int_equal(fixture->registry.n_models, 3);
	/* what lacks a part is there, so that loading it can say which, but is no default */
	assert_string_equal(chosen(fixture, "part", SDP_JOB_KIND_TXT2IMG), "part");
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "one");
	model = sdd_registry_find(&fixture->registry, "one");
	assert_non_null(model);
	assert_int_equal(model->facts.in_channels, 4);
	assert_int_equal(model->facts.default_steps, 9);
	assert_true(model->weight_bytes > 100);
	assert_string_equal(chosen(fixture, "one", SDP_JOB_KIND_INPAINT), "repaints.bin");
	/* a root may be the file */
	snprintf(root, sizeof(root), "%s/repaints.bin", fixture->root);
	sdd_registry_clear(&fixture->registry);
	fixture->roots[0] = root;
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "repaints.bin");
	fixture->roots[0] = fixture->root;
}

#define FLUX(channels)                                                                             \
	"\"double_blocks.0.img_attn.qkv.weight\": {}, "                                            \
	"\"img_in.weight\": {\"dtype\": \"F16\", \"shape\": [32, " #channels "]}"
#define SD3                                                                                        \
	"\"joint_blocks.0.x_block.attn.qkv.weight\": {}, "                                         \
	"\"x_embedder.proj.weight\": {\"dtype\": \"F16\", \"shape\": [32, 16, 2, 2]}"

/* ComfyUI's folders; folders and files whose settings name parts. */
static void test_split_files_are_models(void **state)
{
	struct fixture *fixture = *state;
	const struct sdd_model *model;
	uint64_t stamps[2];

	put(fixture, "diffusion_models/x", "");
	put(fixture, "unet/x", "");
	put(fixture, "vae/x", "");
	put_file(fixture, "diffusion_models/dev.safetensors", "{" FLUX(64) "}");
	put_file(fixture, "unet/fill.safetensors", "{" FLUX(384) "}");
	put_file(fixture, "vae/ae.safetensors", "{" VAE "}");
	put_file(fixture, "alone.safetensors", "{" SD3 "}");
	put_file(fixture, "lora.safetensors",
		 "{\"double_blocks.0.img_attn.qkv.lora_A.weight\": {}}");
	put(fixture, "joined/sdd.json", "{\"parts\": [\"a\"]}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	assert_int_equal(fixture->registry.n_models, 4);
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "dev");
	model = sdd_registry_find(&fixture->registry, "dev");
	assert_int_equal(model->facts.in_channels, 16);
	assert_int_equal(sdd_registry_find(&fixture->registry, "fill")->facts.in_channels, 96);
	assert_int_equal(sdd_registry_find(&fixture->registry, "alone")->facts.in_channels, 16);
	assert_non_null(sdd_registry_find(&fixture->registry, "joined"));
	/* another autoencoder is another state of the model beside it, and none of a model elsewhere */
	stamps[0] = sdd_model_stamp(model->path);
	stamps[1] = sdd_model_stamp(sdd_registry_find(&fixture->registry, "alone")->path);
	put_file(fixture, "vae/ae.safetensors", "{" VAE ", \"more\": {}}");
	assert_true(stamps[0] != sdd_model_stamp(model->path));
	assert_true(stamps[1] ==
		    sdd_model_stamp(sdd_registry_find(&fixture->registry, "alone")->path));
	/* with its parts named it is a model like others, the first by name */
	put(fixture, "alone.sdd.json", "{\"parts\": [\"vae/ae.safetensors\"]}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	assert_string_equal(chosen(fixture, "", SDP_JOB_KIND_TXT2IMG), "alone");
}

static void put_large(const struct fixture *fixture, int channels)
{
	const size_t size = 2 << 20;
	char *header = malloc(size + 256);
	int n;

	assert_non_null(header);
	n = snprintf(header, 256,
		     "{\"model.diffusion_model.input_blocks.0.0.weight\": {\"dtype\": \"F16\", "
		     "\"shape\": [320, %d, 3, 3]}",
		     channels);
	memset(header + n, ' ', size);
	strcpy(header + size, "}");
	put_file(fixture, "large.safetensors", header);
	free(header);
}

/* Looking at the folders again reads no header of a file that is as it was, and that of one that is not. */
static void test_headers_are_read_once(void **state)
{
	struct fixture *fixture = *state;
	const struct sdd_model *model;
	long before, took = 0;

	put_large(fixture, 4);
	/* from when its times are sure to tell it from the next */
	for (int i = 0; i < 500; i++) {
		before = bytes_read(getpid());
		assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
		took = bytes_read(getpid()) - before;
		if (took < 1 << 16)
			break;
		usleep(10000);
	}
	assert_in_range(took, 0, 1 << 16);
	model = sdd_registry_find(&fixture->registry, "large");
	assert_non_null(model);
	assert_int_equal(model->facts.in_channels, 4);
	/* its settings are looked at all the same */
	put(fixture, "large.sdd.json", "{\"steps\": 3}");
	for (int channels = 5; channels < 8; channels++) {
		put_large(fixture, channels);
		assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
		assert_int_equal(model->facts.in_channels, channels);
		assert_int_equal(model->facts.default_steps, 3);
	}
}

/* Sorted into a folder or two below ComfyUI's, no deeper; the parts that such a model needs are its state, too. */
static void test_parts_in_deeper_folders(void **state)
{
	struct fixture *fixture = *state;
	const struct sdd_model *model;
	uint64_t stamp;

	put(fixture, "unet/sdxl/x", "");
	put(fixture, "diffusion_models/a/b/x", "");
	put(fixture, "checkpoints/a/x", "");
	put(fixture, "unet/a/b/c/x", "");
	put(fixture, "elsewhere/a/x", "");
	put(fixture, "vae/a/b/x", "");
	put_file(fixture, "unet/sdxl/one.safetensors", "{" SD3 "}");
	put_file(fixture, "diffusion_models/a/b/two.safetensors", "{" FLUX(64) "}");
	put_file(fixture, "checkpoints/a/three.safetensors", "{" SD3 "}");
	put_file(fixture, "unet/a/b/c/deep.safetensors", "{" SD3 "}");
	put_file(fixture, "elsewhere/a/other.safetensors", "{" SD3 "}");
	put_file(fixture, "vae/a/b/ae.safetensors", "{" VAE "}");
	assert_int_equal(sdd_registry_scan(&fixture->registry), 0);
	assert_int_equal(fixture->registry.n_models, 3);
	model = sdd_registry_find(&fixture->registry, "two");
	assert_non_null(model);
	assert_non_null(sdd_registry_find(&fixture->registry, "one"));
	assert_non_null(sdd_registry_find(&fixture->registry, "three"));
	stamp = sdd_model_stamp(model->path);
	assert_true(stamp == sdd_model_stamp(model->path));
	put_file(fixture, "vae/a/b/ae.safetensors", "{" VAE ", \"more\": {}}");
	assert_true(stamp != sdd_model_stamp(model->path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_repainting_goes_to_the_companion, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_gone_and_come, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masks_model_alone_is_the_default, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_configured_default_has_its_companion, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_facts_come_from_small_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense_is_not_known, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checkpoint_files_are_models, setup, teardown),
		cmocka_unit_test_setup_teardown(test_split_files_are_models, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_are_read_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts_in_deeper_folders, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
