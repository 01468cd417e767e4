/*
 * What jobs have in common is computed once: the cache's bounds and partitions by themselves, then jobs on tiny models, whose
 * pictures are the same to the bit with a hit, without one and without a cache; another user never hits, copied and touched files
 * do, and what changed misses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/cache.h"
#include "daemon/engine/engine.h"
#include "tests/shell.h"

enum { LIMIT = 1000 };

static int dropped;

static void count_drop(void *value, void *owner)
{
	dropped++;
}

static struct sde_cache_key key_of(uint64_t partition, uint64_t hash)
{
	return (struct sde_cache_key){SDE_CACHE_TEXT, partition, hash};
}

static bool has(struct sde_cache *cache, uint64_t partition, uint64_t hash)
{
	const struct sde_cache_key key = key_of(partition, hash);

	return sde_cache_find(cache, &key) != NULL;
}

static void put(struct sde_cache *cache, uint64_t partition, uint64_t hash, uint64_t bytes)
{
	static char values[100];
	static int next;
	const struct sde_cache_key key = key_of(partition, hash);

	assert_int_equal(sde_cache_put(cache, &key, bytes, &values[next++ % 100], count_drop,
				       &values[partition]),
			 0);
}

static void test_oldest_goes(void **state)
{
	struct sde_cache *cache = sde_cache_new(LIMIT);
	struct sde_cache_stats stats;

	dropped = 0;
	for (uint64_t i = 0; i < 4; i++)
		put(cache, 1, i, 250);
	assert_true(has(cache, 1, 0)); /* now the latest */
	put(cache, 1, 4, 250);
	assert_true(has(cache, 1, 0));
	assert_false(has(cache, 1, 1));
	put(cache, 1, 5, LIMIT + 1); /* never kept */
	assert_false(has(cache, 1, 5));
	assert_int_equal(dropped, 6);
	sde_cache_stats(cache, SDE_CACHE_TEXT, &stats);
	assert_int_equal(stats.entries, 0);
	assert_int_equal(stats.bytes, 0);
	assert_int_equal(stats.hits, 2);
	assert_int_equal(stats.misses, 2);
	sde_cache_free(cache);
}

/* Who fills it pushes out what is his. */
static void test_partitions(void **state)
{
	struct sde_cache *cache = sde_cache_new(LIMIT);

	put(cache, 1, 7, 300);
	assert_false(has(cache, 2, 7));
	for (uint64_t i = 0; i < 50; i++)
		put(cache, 2, i, 100);
	assert_true(has(cache, 1, 7));
	assert_true(has(cache, 2, 49));
	assert_false(has(cache, 2, 42));
	dropped = 0;
	sde_cache_free(cache);
	assert_int_equal(dropped, 8);
}

static void test_held_stays(void **state)
{
	struct sde_cache *cache = sde_cache_new(LIMIT);
	const struct sde_cache_key key = key_of(1, 1);
	int owner;
	char value;

	dropped = 0;
	assert_int_equal(sde_cache_put_held(cache, &key, 5000, &value, count_drop, &owner), 0);
	put(cache, 1, 2, 10);
	assert_int_equal(dropped, 1); /* no room beside it */
	assert_true(has(cache, 1, 1));
	sde_cache_release(cache, &value);
	assert_int_equal(dropped, 2);
	put(cache, 3, 3, 10);
	assert_int_equal(sde_cache_put_held(cache, &key, 10, &value, count_drop, &owner), 0);
	sde_cache_forget(cache, &owner);
	assert_int_equal(dropped, 3);
	assert_true(has(cache, 3, 3));
	sde_cache_free(cache);
}

struct studio {
	struct sde_engine *engine;
	struct sde_model *model;
};

static struct sde_model *load(struct sde_engine *engine, const char *path)
{
	struct sde_error error = {0};
	struct sde_model *model;

	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

static struct studio open_studio(const char *path, uint64_t cache_bytes)
{
	const struct sde_engine_options options = {
		.backend = "cpu", .dtype = "f32", .threads = 1, .cache_bytes = cache_bytes};
	struct sde_error error = {0};
	struct studio studio;

	assert_int_equal(sde_engine_new(&options, &studio.engine, &error), 0);
	studio.model = load(studio.engine, path);
	return studio;
}

static void close_studio(struct studio *studio)
{
	sde_model_unref(studio->model);
	sde_engine_free(studio->engine);
}

static const char *model_path(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), name);
	return path;
}

/* A job with a source picture: the same canvas, another place with every seed. */
static struct sde_result paint(struct studio *studio, enum sde_job_kind kind, uint64_t partition)
{
	const struct sde_job job = {
		.kind = kind,
		.prompt = "a (red:1.2) boat, at sea",
		.negative_prompt = "grey",
		.sampler = "Euler",
		.seed = 5,
		.steps = 2,
		.guidance_scale = 5,
		.strength = 0.7,
		.count = 2,
		.has_select = true,
		.select_x = 10,
		.select_y = 8,
		.select_width = 30,
		.select_height = 20,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.partition = partition,
	};
	struct sde_error error = {0};
	struct sde_result result;
	struct sde_image canvas;
	struct sde_job own = job;

	assert_int_equal(sde_image_new(64, 64, 3, SDE_PIXEL_U8, &canvas, &error), 0);
	for (uint32_t y = 0; y < 64; y++)
		for (uint32_t x = 0; x < 64 * 3; x++)
			((uint8_t *)sde_image_row(&canvas, y))[x] = (uint8_t)(x * 5 + y * 3);
	own.image = kind == SDE_TXT2IMG ? NULL : &canvas;
	if (sde_job_run(studio->model, &own, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	sde_image_clear(&canvas);
	return result;
}

static bool same(struct sde_result *a, struct sde_result *b)
{
	bool equal = a->count == b->count;

	for (int i = 0; equal && i < a->count; i++)
		equal = memcmp(a->layers[i].image.data, b->layers[i].image.data,
			       a->layers[i].image.stride * a->layers[i].image.height) == 0;
	sde_result_clear(b);
	return equal;
}

static struct sde_cache_stats stats_of(const struct studio *studio, enum sde_cache_kind kind)
{
	struct sde_cache_stats stats;

	sde_engine_cache_stats(studio->engine, kind, &stats);
	return stats;
}

/* Models with an autoencoder that draws, one that does not, T5 and pooled text, a mask. */
static void test_hits_change_nothing(void **state)
{
	static const struct {
		const char *model;
		enum sde_job_kind kind;
	} cases[] = {{"sd15", SDE_IMG2IMG},	    {"sd15", SDE_INPAINT},
		     {"sd15_inpaint", SDE_INPAINT}, {"sd15_taesd", SDE_IMG2IMG},
		     {"sdxl", SDE_IMG2IMG},	    {"sd3", SDE_IMG2IMG},
		     {"flux_fill", SDE_INPAINT},    {"sd15", SDE_TXT2IMG}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct studio plain = open_studio(model_path(cases[i].model), 0);
		struct studio cached = open_studio(model_path(cases[i].model), 64 << 20);
		struct sde_result right = paint(&plain, cases[i].kind, 0), again;
		struct sde_cache_stats text, source;
		const bool pictures = cases[i].kind != SDE_TXT2IMG;

		assert_int_equal(stats_of(&plain, SDE_CACHE_TEXT).entries, 0);
		assert_int_equal(stats_of(&plain, SDE_CACHE_SOURCE).hits, 0);
		again = paint(&cached, cases[i].kind, 1);
		assert_true(same(&right, &again));
		text = stats_of(&cached, SDE_CACHE_TEXT);
		source = stats_of(&cached, SDE_CACHE_SOURCE);
		assert_int_equal(text.hits, 0);
		assert_int_equal(source.hits > 0,
				 pictures); /* the second picture of the first job */
		/* another user computes all of it once more */
		again = paint(&cached, cases[i].kind, 2);
		assert_true(same(&right, &again));
		assert_int_equal(stats_of(&cached, SDE_CACHE_TEXT).hits, 0);
		assert_int_equal(stats_of(&cached, SDE_CACHE_TEXT).misses, 2 * text.misses);
		assert_int_equal(stats_of(&cached, SDE_CACHE_SOURCE).misses, 2 * source.misses);
		/* the first one does not */
		again = paint(&cached, cases[i].kind, 1);
		assert_true(same(&right, &again));
		assert_int_equal(stats_of(&cached, SDE_CACHE_TEXT).hits, text.misses);
		assert_int_equal(stats_of(&cached, SDE_CACHE_TEXT).misses, 2 * text.misses);
		assert_int_equal(stats_of(&cached, SDE_CACHE_SOURCE).misses, 2 * source.misses);
		sde_result_clear(&right);
		close_studio(&plain);
		close_studio(&cached);
	}
}

static void copy(const char *from, const char *to)
{
	char command[9000];

	snprintf(command, sizeof(command), "cp -rL %s %s && chmod -R u+w %s", from, to, to);
	assert_int_equal(system(command), 0);
}

/* Some bytes of a text encoder, then of the autoencoder, in place and with its old time: what was known of it is not used. */
static void test_changed_files_miss(void **state)
{
	static const char *const files[] = {"text_encoder/model.safetensors",
					    "vae/diffusion_pytorch_model.safetensors"};
	char folder[] = "/tmp/sdd-test-cache-XXXXXX", model[64], path[128], command[1000];
	struct sde_result before, after, right;

	assert_non_null(mkdtemp(folder));
	snprintf(model, sizeof(model), "%s/model", folder);
	copy(model_path("sd15"), model);
	for (size_t i = 0; i < 2; i++) {
		struct studio cached = open_studio(model, 64 << 20), plain;

		before = paint(&cached, SDE_IMG2IMG, 1);
		sde_model_unref(cached.model);
		snprintf(path, sizeof(path), "%s/%s", model, files[i]);
		snprintf(command, sizeof(command),
			 "touch -r %s %s/t && yes '>>>>' | tr -d '\\n' | dd of=%s bs=1 count=4096 "
			 "conv=notrunc seek=$(($(stat -c %%s %s) - 4096)) status=none 2>/dev/null "
			 "&& "
			 "touch -r %s/t %s",
			 path, folder, path, path, folder, path);
		assert_int_equal(system(command), 0);
		cached.model = load(cached.engine, model);
		after = paint(&cached, SDE_IMG2IMG, 1);
		plain = open_studio(model, 0);
		right = paint(&plain, SDE_IMG2IMG, 1);
		assert_true(same(&after, &right));
		assert_false(same(&after, &before));
		sde_result_clear(&after);
		close_studio(&plain);
		/* unloaded and loaded without a change it hits */
		sde_model_unref(cached.model);
		cached.model = load(cached.engine, model);
		before = paint(&cached, SDE_IMG2IMG, 1);
		assert_true(stats_of(&cached, SDE_CACHE_TEXT).hits > 0);
		sde_result_clear(&before);
		close_studio(&cached);
	}
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

/* What the model at path paints after the studio's own: all of it known, or (miss) not; as without a cache in any case. */
static void assert_known(struct studio *studio, const char *path, bool known)
{
	const struct sde_cache_stats text = stats_of(studio, SDE_CACHE_TEXT);
	const struct sde_cache_stats source = stats_of(studio, SDE_CACHE_SOURCE);
	struct studio plain = open_studio(path, 0);
	struct studio other = {studio->engine, load(studio->engine, path)};
	struct sde_result right = paint(&plain, SDE_IMG2IMG, 1), got;

	got = paint(&other, SDE_IMG2IMG, 1);
	assert_true(same(&right, &got));
	if (known) {
		assert_int_equal(stats_of(studio, SDE_CACHE_TEXT).misses, text.misses);
		assert_int_equal(stats_of(studio, SDE_CACHE_SOURCE).misses, source.misses);
	} else {
		assert_true(stats_of(studio, SDE_CACHE_TEXT).misses +
				    stats_of(studio, SDE_CACHE_SOURCE).misses >
			    text.misses + source.misses);
	}
	sde_result_clear(&right);
	sde_model_unref(other.model);
	close_studio(&plain);
}

/* The same bytes elsewhere or at another time are the same; the same weights under another configuration are not. */
static void test_content_counts(void **state)
{
	char folder[] = "/tmp/sdd-test-cache-XXXXXX", model[64], copied[64];
	struct studio studio;
	struct sde_result result;

	assert_non_null(mkdtemp(folder));
	snprintf(model, sizeof(model), "%s/model", folder);
	snprintf(copied, sizeof(copied), "%s/copied", folder);
	copy(model_path("sd15"), model);
	copy(model, copied);
	studio = open_studio(model, 64 << 20);
	result = paint(&studio, SDE_IMG2IMG, 1);
	sde_result_clear(&result);
	/* else a copy of a file that is open is that file (tensor-file.h) */
	studio.model = sde_model_unref(studio.model);
	assert_known(&studio, model, true);
	assert_known(&studio, copied, true);
	run("cd %s && touch */*.safetensors && sed -i 's/{/{ /' */config.json", copied);
	assert_known(&studio, copied, true);
	/* whose autoencoder it was does not matter */
	run("rm -r %s/unet && cp -rL %s/../sd15_taesd/unet %s/", copied, model_path("sd15"),
	    copied);
	assert_known(&studio, copied, true);
	run("cd %s/text_encoder && sed -i 's/\"quick_gelu\"/\"gelu\"/' config.json && grep -q "
	    "'\"gelu\"' config.json",
	    copied);
	assert_known(&studio, copied, false);
	run("cp %s/text_encoder/config.json %s/text_encoder/", model, copied);
	assert_known(&studio, copied, true);
	run("cd %s/vae && sed -i 's/\"norm_num_groups\": [0-9]*/\"norm_num_groups\": 1/' "
	    "config.json && ! cmp -s config.json %s/vae/config.json",
	    copied, model);
	assert_known(&studio, copied, false);
	close_studio(&studio);
	run("rm -r %s", folder);
}

static struct sde_result paint_with_lora(struct studio *studio, const char *root, const char *lora,
					 int side)
{
	const struct sde_lora loras[] = {{lora, 1}};
	const struct sde_job job = {
		.kind = SDE_TXT2IMG,
		.prompt = "a boat",
		.seed = 5,
		.steps = 2,
		.guidance_scale = 5,
		.count = 1,
		.width = side,
		.height = side,
		.feather = -1,
		.grow = -1,
		.padding = -1,
		.loras = loras,
		.n_loras = 1,
		.adapter_roots = &root,
		.n_adapter_roots = 1,
		.partition = 1,
		.staged = true, /* weights are made ready anew, from what the files hold then */
	};
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(studio->model, &job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

/* As without a cache, and with so many sets of adapters made and texts computed so far. */
static void assert_lora(struct studio *studio, const char *model, const char *root,
			const char *lora, int side, uint64_t sets, uint64_t texts)
{
	struct studio plain = open_studio(model, 0);
	struct sde_result right = paint_with_lora(&plain, root, lora, side), got;

	got = paint_with_lora(studio, root, lora, side);
	assert_true(same(&right, &got));
	assert_int_equal(stats_of(studio, SDE_CACHE_ADAPTERS).misses, sets);
	assert_int_equal(stats_of(studio, SDE_CACHE_TEXT).misses, texts);
	sde_result_clear(&right);
	close_studio(&plain);
}

static void test_content_of_adapters_counts(void **state)
{
	char root[] = "/tmp/sdd-test-cache-XXXXXX", model[4096];
	const char *data = getenv("SDD_GOLDEN_DATA");
	struct studio studio;

	assert_non_null(mkdtemp(root));
	snprintf(model, sizeof(model), "%s/cases/adapters/base_sd15", data);
	run("mkdir %s/loras && cp -L %s/cases/adapters/lora/kohya_linear.safetensors "
	    "%s/loras/a.safetensors && cp %s/loras/a.safetensors %s/loras/b.safetensors",
	    root, data, root, root, root);
	studio = open_studio(model, 64 << 20);
	assert_lora(&studio, model, root, "a", 32, 1, 2);
	assert_lora(&studio, model, root, "a", 32, 1, 2);
	assert_lora(&studio, model, root, "b", 32, 1, 2);
	run("touch %s/loras/a.safetensors %s/loras/b.safetensors", root, root);
	assert_lora(&studio, model, root, "a", 32, 1, 2);
	assert_lora(&studio, model, root, "b", 32, 1, 2);
	/* another model of the same files makes a set of its own, but its texts are known */
	sde_model_unref(studio.model);
	studio.model = load(studio.engine, model);
	assert_lora(&studio, model, root, "b", 32, 2, 2);
	/* written over in place, under the set that is kept */
	run("cp %s/loras/b.safetensors %s/loras/c.safetensors && printf '<<<<<<<<' | dd "
	    "of=%s/loras/b.safetensors bs=1 conv=notrunc status=none "
	    "seek=$(($(stat -c %%s %s/loras/b.safetensors) - 16))",
	    root, root, root, root);
	assert_lora(&studio, model, root, "b", 32, 3, 4);
	/* what it held before, under another name: what is still mapped of it is not that */
	sde_model_unref(studio.model);
	studio.model = load(studio.engine, model);
	assert_lora(&studio, model, root, "a", 32, 4, 4);
	run("printf '<<<<<<<<' | dd of=%s/loras/a.safetensors bs=1 conv=notrunc status=none "
	    "seek=$(($(stat -c %%s %s/loras/a.safetensors) - 16))",
	    root, root);
	assert_lora(&studio, model, root, "c", 64, 4, 4);
	close_studio(&studio);
	run("rm -r %s", root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oldest_goes),
		cmocka_unit_test(test_partitions),
		cmocka_unit_test(test_held_stays),
		cmocka_unit_test(test_hits_change_nothing),
		cmocka_unit_test(test_changed_files_miss),
		cmocka_unit_test(test_content_counts),
		cmocka_unit_test(test_content_of_adapters_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
