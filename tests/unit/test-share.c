/*
 * Parts that several models have are in memory once: autoencoders and text encoders embedded in checkpoint files of another layout, with
 * pictures as if each model were alone; and not once a byte differs or a file was written over.
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
#include <jansson.h>

#include "daemon/engine/model.h"
#include "tests/shell.h"
#include "tests/unit/engine-fixture.h"

static char folder[] = "/tmp/sdd-test-share-XXXXXX";

static const char *at(const char *name)
{
	static char paths[8][128];
	static int turn;

	turn = (turn + 1) % 8;
	snprintf(paths[turn], sizeof(paths[turn]), "%s/%s", folder, name);
	return paths[turn];
}

static const char *golden(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", getenv("SDD_GOLDEN_DATA"), name);
	return path;
}

/* Turn the signs of the first tensor with this prefix, of float32 or (step 2) half numbers. */
static void turn_signs(const json_t *header, const char *prefix, char *data)
{
	const char *key;
	json_t *tensor;

	json_object_foreach ((json_t *)header, key, tensor) {
		const json_t *offsets = json_object_get(tensor, "data_offsets");
		const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
		json_int_t k, end;

		if (strncmp(key, prefix, strlen(prefix)) != 0)
			continue;
		k = json_integer_value(json_array_get(offsets, 0));
		end = json_integer_value(json_array_get(offsets, 1));
		for (const int step = strcmp(dtype, "F16") == 0 ? 2 : 4; k < end; k += step)
			data[k + step - 1] ^= (char)0x80;
		return;
	}
	fail_msg("no tensor %s", prefix);
}

/* The same tensors behind a header that is longer by `pad` bytes; the first tensor with the prefix (NULL: none) is another. */
static void rewrite(const char *from, const char *to, size_t pad, const char *changed)
{
	FILE *in = fopen(from, "re"), *out;
	char *header, *data;
	uint64_t length, longer;
	json_t *object;
	size_t size;

	assert_non_null(in);
	assert_int_equal(fseek(in, 0, SEEK_END), 0);
	size = (size_t)ftell(in);
	rewind(in);
	assert_int_equal(fread(&length, sizeof(length), 1, in), 1);
	size -= sizeof(length) + length;
	header = malloc(length + pad);
	data = malloc(size);
	assert_non_null(header);
	assert_non_null(data);
	assert_int_equal(fread(header, length, 1, in), 1);
	assert_int_equal(fread(data, size, 1, in), 1);
	fclose(in);
	object = json_loadb(header, length, 0, NULL);
	assert_non_null(object);
	if (changed)
		turn_signs(object, changed, data);
	json_decref(object);
	memset(header + length, ' ', pad);
	longer = length + pad;
	out = fopen(to, "we");
	assert_non_null(out);
	assert_int_equal(fwrite(&longer, sizeof(longer), 1, out), 1);
	assert_int_equal(fwrite(header, longer, 1, out), 1);
	assert_int_equal(fwrite(data, size, 1, out), 1);
	assert_int_equal(fclose(out), 0);
	free(header);
	free(data);
}

static int setup(void **state)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};

	assert_non_null(mkdtemp(folder));
	*state = fixture_begin(&options, 61, 47);
	return 0;
}

static int teardown(void **state)
{
	run("rm -r %s", folder);
	return fixture_free(state);
}

/* Whether all tensors of the two lie at the same addresses. */
static bool are_one(const struct sde_weights *a, const struct sde_weights *b)
{
	assert_int_equal(sde_weights_count(a), sde_weights_count(b));
	for (size_t i = 0; i < sde_weights_count(a); i++)
		if (sde_weights_at(a, i)->data != sde_weights_at(b, i)->data)
			return false;
	return true;
}

static void assert_shares(const struct sde_model *model, const struct sde_model *with,
			  bool denoiser, bool vae, bool text)
{
	uint64_t bytes = 0;

	assert_int_equal(are_one(model->denoiser_weights, with->denoiser_weights), denoiser);
	assert_int_equal(are_one(model->vae_weights, with->vae_weights), vae);
	assert_int_equal(are_one(model->towers[0].weights, with->towers[0].weights), text);
	bytes += denoiser ? sde_weights_bytes(model->denoiser_weights) : 0;
	bytes += vae ? sde_weights_bytes(model->vae_weights) : 0;
	bytes += text ? sde_weights_bytes(model->towers[0].weights) : 0;
	assert_int_equal(sde_model_info(model)->shared_bytes, bytes);
}

/* pad 3: halves at odd addresses, which are copied to be aligned; the copies are shared too. */
static void test_embedded_parts(void **state)
{
	static const size_t pads[][2] = {{0, 8}, {0, 3}, {3, 0}, {3, 8}, {5, 3}};
	const char *file = golden("cases/formats/sd1_fp16_mix/model.safetensors");
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(pads) / sizeof(pads[0]); i++) {
		struct sde_model *first, *unet, *vae, *both;

		rewrite(file, at("first.safetensors"), pads[i][0], NULL);
		rewrite(file, at("unet.safetensors"), pads[i][1], "model.diffusion_model.");
		rewrite(file, at("vae.safetensors"), pads[i][1], "first_stage_model.decoder.");
		first = fixture_load_path(f->engine, at("first.safetensors"));
		assert_int_equal(sde_model_info(first)->shared_bytes, 0);
		unet = fixture_load_path(f->engine, at("unet.safetensors"));
		assert_shares(unet, first, false, true, true);
		vae = fixture_load_path(f->engine, at("vae.safetensors"));
		assert_shares(vae, first, true, false, true);
		/* whose it was may go; who comes shares with who is left */
		sde_model_unref(first);
		rewrite(file, at("both.safetensors"), 16, "model.diffusion_model.");
		both = fixture_load_path(f->engine, at("both.safetensors"));
		assert_shares(both, unet, true, true, true);
		sde_model_unref(unet);
		sde_model_unref(both);
		sde_model_unref(vae);
	}
}

static struct sde_result paint(struct fixture *f, struct sde_model *model)
{
	const struct sde_job job = {
		.kind = SDE_IMG2IMG,
		.prompt = "a (cat:1.3) on a sofa",
		.seed = 7,
		.steps = 2,
		.guidance_scale = 5,
		.strength = 0.6,
		.count = 1,
		.image = &f->canvas,
		.feather = -1,
		.grow = -1,
		.padding = -1,
	};
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, &job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

static bool same(const struct sde_result *a, const struct sde_result *b)
{
	const struct sde_image *x = &a->layers[0].image, *y = &b->layers[0].image;

	return memcmp(x->data, y->data, x->stride * x->height) == 0;
}

/* The picture of a model that has an engine for itself. */
static struct sde_result paint_alone(struct fixture *f, const char *path)
{
	const struct sde_engine_options options = {"cpu", "f32", 1};
	struct sde_error error = {0};
	struct sde_engine *engine;
	struct sde_model *model;
	struct sde_result result;

	assert_int_equal(sde_engine_new(&options, &engine, &error), 0);
	model = fixture_load_path(engine, path);
	result = paint(f, model);
	sde_model_unref(model);
	sde_engine_free(engine);
	return result;
}

static void assert_paints(struct fixture *f, struct sde_model *model, const struct sde_result *want)
{
	struct sde_result got = paint(f, model);

	assert_true(same(&got, want));
	sde_result_clear(&got);
}

/* A folder of the tiny model whose files have longer headers; changed: the component of which a tensor is another, and its name. */
static void make_folder(const char *name, size_t pad, const char *changed, const char *tensor)
{
	static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
					    "vae/diffusion_pytorch_model.safetensors",
					    "text_encoder/model.safetensors"};
	char from[4096], to[256];

	run("cp -rL %s %s && chmod -R u+w %s", golden("models/sd15"), at(name), at(name));
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(from, sizeof(from), "%.2000s/%s", golden("models/sd15"), files[i]);
		snprintf(to, sizeof(to), "%s/%s", at(name), files[i]);
		rewrite(from, to, pad,
			changed && strncmp(files[i], changed, strlen(changed)) == 0 ? tensor
										    : NULL);
	}
}

static void test_pictures(void **state)
{
	struct sde_result alone, other_alone;
	struct sde_model *model, *other;
	struct sde_error error = {0};
	struct fixture *f = *state;

	make_folder("one", 0, NULL, NULL);
	make_folder("two", 3, "unet", "conv_out.weight");
	alone = paint_alone(f, at("one"));
	other_alone = paint_alone(f, at("two"));
	assert_false(same(&alone, &other_alone));
	model = fixture_load_path(f->engine, at("one"));
	assert_paints(f, model, &alone);
	other = fixture_load_path(f->engine, at("two"));
	assert_shares(other, model, false, true, true);
	assert_paints(f, other, &other_alone);
	assert_paints(f, model, &alone);
	sde_model_unref(model);
	assert_paints(f, other, &other_alone);
	/* in another form of weights: the data are the same, what is made of them is not */
	assert_int_equal(
		sde_model_load_as(f->engine, at("one"), SDE_WEIGHTS_STORED, &model, &error), 0);
	assert_shares(model, other, false, true, true);
	assert_paints(f, model, &alone);
	assert_paints(f, other, &other_alone);
	sde_model_unref(other);
	assert_paints(f, model, &alone);
	sde_model_unref(model);
	sde_result_clear(&alone);
	sde_result_clear(&other_alone);
}

/*
 * The autoencoder of a loaded model becomes that of another one, in place: what was made ready of it is still what it was, so the
 * bytes may look the same, but nobody shares them.
 */
static void test_written_over(void **state)
{
	struct sde_model *model, *other;
	struct sde_result before, alone;
	struct fixture *f = *state;

	make_folder("over", 0, "vae", "decoder.conv_out.weight");
	make_folder("right", 16, NULL, NULL);
	model = fixture_load_path(f->engine, at("over"));
	before = paint(f, model);
	run("cat %s/vae/diffusion_pytorch_model.safetensors "
	    ">%s/vae/diffusion_pytorch_model.safetensors",
	    golden("models/sd15"), at("over"));
	alone = paint_alone(f, at("right"));
	assert_false(same(&before, &alone));
	other = fixture_load_path(f->engine, at("right"));
	assert_shares(other, model, true, false, true);
	assert_paints(f, other, &alone);
	sde_model_unref(model);
	sde_model_unref(other);
	sde_result_clear(&before);
	sde_result_clear(&alone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_embedded_parts),
		cmocka_unit_test(test_pictures),
		cmocka_unit_test(test_written_over),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
