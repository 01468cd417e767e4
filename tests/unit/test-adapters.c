/*
 * LoRAs on a tiny model: what does not fit is named together with what it is for; what is the same content with the same weight is
 * bound once, under whatever name, and a file that changed under its name is seen; pickles are refused; learnt words of prompts are
 * found.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/adapters/words.h"
#include "daemon/engine/forward.h"
#include "daemon/engine/model.h"
#include "tests/unit/model-files.h"

#define CACHE_BYTES 200000 /* a few sets of these LoRAs */
#define Q	    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

static char scratch[] = "/tmp/sdd-test-adapters-XXXXXX";
static char path[64];
static struct sde_engine *engine;
static struct sde_model *model;

static const char *data_path(const char *name)
{
	static char paths[4][4096];
	static int next;
	char *to = paths[next++ % 4];

	snprintf(to, sizeof(paths[0]), "%s/cases/adapters/%s", getenv("SDD_GOLDEN_DATA"), name);
	return to;
}

static int setup(void **state)
{
	const struct sde_engine_options options = {
		.backend = "ref", .dtype = "f32", .threads = 1, .cache_bytes = CACHE_BYTES};
	struct sde_error error = {0};

	if (!mkdtemp(scratch))
		return -1;
	snprintf(path, sizeof(path), "%s/a.safetensors", scratch);
	assert_int_equal(sde_engine_new(&options, &engine, &error), 0);
	if (sde_model_load(engine, data_path("base_sd15"), &model, &error) < 0)
		fail_msg("%s", error.message);
	return 0;
}

static int teardown(void **state)
{
	sde_model_unref(model);
	sde_engine_free(engine);
	unlink(path);
	return rmdir(scratch);
}

static void refused(const struct file_tensor *tensors, size_t n, int code, const char *message)
{
	const struct sde_lora_use use = {"x", path, 1};
	struct sde_error error = {0};

	write_safetensors(path, tensors, n, 0);
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), code);
	assert_string_equal(error.message, message);
	assert_null(model->adapted);
}

static void test_wrong_family(void **state)
{
	const struct file_tensor sdxl[] = {
		{"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down."
		 "weight",
		 "F32",
		 4,
		 2,
		 {1, 2048}},
	};
	const struct file_tensor sd2[] = {
		{"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight",
		 "F32",
		 4,
		 2,
		 {1, 1024}},
	};
	const struct file_tensor two_encoders[] = {
		{"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
		 "F32",
		 4,
		 2,
		 {1, 3}},
	};

	refused(sdxl, 1, -EINVAL, "LoRA x is for SDXL, the model is SD 1.x");
	refused(sd2, 1, -EINVAL, "LoRA x is for SD 2.x, the model is SD 1.x");
	refused(two_encoders, 1, -EINVAL, "LoRA x is for SDXL, the model is SD 1.x");
}

static void test_unfitting_tensors(void **state)
{
	const struct file_tensor extra[] = {
		{"lora_unet_nowhere.lora_down.weight", "F32", 4, 2, {1, 32}}};
	const struct file_tensor alone[] = {{Q ".lora_down.weight", "F32", 4, 2, {1, 32}}};
	const struct file_tensor wide[] = {{Q ".lora_down.weight", "F32", 4, 2, {1, 33}},
					   {Q ".lora_up.weight", "F32", 4, 2, {32, 1}}};
	const struct file_tensor integers[] = {{Q ".lora_down.weight", "I32", 4, 2, {1, 32}},
					       {Q ".lora_up.weight", "F32", 4, 2, {32, 1}}};
	const struct file_tensor kronecker[] = {{Q ".lokr_w1", "F32", 4, 2, {4, 4}},
						{Q ".lokr_w2", "F32", 4, 2, {8, 7}}};

	refused(extra, 1, -EINVAL,
		"LoRA x: tensor 'lora_unet_nowhere.lora_down.weight' belongs to no layer of this "
		"model");
	refused(alone, 1, -EBADMSG,
		"LoRA x: mid_block.attentions.0.transformer_blocks.0.attn1.to_q: tensor '" Q
		".lora_down.weight' stands alone: its up part is missing");
	refused(wide, 2, -EBADMSG,
		"LoRA x: mid_block.attentions.0.transformer_blocks.0.attn1.to_q: tensor '" Q
		".lora_down.weight' has shape [1, 33], which does not fit a layer of 32 inputs, 32 "
		"outputs and kernel 1");
	refused(integers, 2, -ENOTSUP,
		"LoRA x: mid_block.attentions.0.transformer_blocks.0.attn1.to_q: tensor '" Q
		".lora_down.weight' is I32; adapters must be F32, F16, BF16 or F64");
	refused(kronecker, 2, -EBADMSG,
		"LoRA x: mid_block.attentions.0.transformer_blocks.0.attn1.to_q: LoKr factors of 4 "
		"x 4 and 8 x 7 do not make a layer of 32 outputs and 32 inputs");
}

static void test_pickles_and_numbers(void **state)
{
	struct sde_lora_use use = {"old", data_path("embeddings/a1111_legacy.pt"), 1};
	struct sde_error error = {0};

	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), -EBADMSG);
	assert_non_null(strstr(error.message, "pickle"));
	assert_int_equal(strncmp(error.message, "LoRA old: ", 10), 0);
	use.weight = (double)INFINITY;
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), -EINVAL);
	assert_string_equal(error.message, "LoRA old: its weight must be a finite number");
}

static void test_bound_once(void **state)
{
	const struct file_tensor one[] = {{Q ".lora_down.weight", "F32", 4, 2, {1, 32}},
					  {Q ".lora_up.weight", "F32", 4, 2, {32, 1}}};
	const struct file_tensor two[] = {{Q ".lora_down.weight", "F32", 4, 2, {2, 32}},
					  {Q ".lora_up.weight", "F32", 4, 2, {32, 2}}};
	const struct sde_adapted *first, *other;
	struct sde_lora_use use = {"x", path, 1};
	struct sde_error error = {0};
	char copy[80];

	write_safetensors(path, one, 2, 0);
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	first = model->adapted;
	assert_non_null(first);
	assert_ptr_not_equal(sde_model_denoiser(model), &model->denoiser);
	assert_ptr_equal(sde_model_clip(model, 0), &model->towers[0].clip);

	snprintf(copy, sizeof(copy), "%s/b.safetensors", scratch);
	write_safetensors(copy, one, 2, 4);
	use = (struct sde_lora_use){"y", copy, 1};
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	assert_ptr_equal(model->adapted, first);
	unlink(copy);
	/* another user's is another's */
	use = (struct sde_lora_use){"x", path, 1};
	model->partition = 1;
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	assert_ptr_not_equal(model->adapted, first);
	model->partition = 0;
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	assert_ptr_equal(model->adapted, first);

	use = (struct sde_lora_use){"x", path, 0.5};
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	other = model->adapted;
	assert_ptr_not_equal(other, first);
	write_safetensors(path, two, 2, 0);
	assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
	assert_ptr_not_equal(model->adapted, other);

	assert_int_equal(sde_model_adapt(model, NULL, 0, NULL, &error), 0);
	assert_ptr_equal(sde_model_denoiser(model), &model->denoiser);
}

/* The oldest goes when there is no room; what comes back is bound anew. */
static void test_few_are_kept(void **state)
{
	struct sde_cache_stats stats;
	struct sde_lora_use use = {"x", data_path("lora/kohya_linear.safetensors"), 1};
	struct sde_error error = {0};

	for (int i = 0; i < 40; i++) {
		use.weight = i % 8 + 1;
		assert_int_equal(sde_model_adapt(model, &use, 1, NULL, &error), 0);
		assert_ptr_not_equal(sde_model_clip(model, 0), &model->towers[0].clip);
		sde_engine_cache_stats(engine, SDE_CACHE_ADAPTERS, &stats);
		assert_in_range(stats.bytes, 1, CACHE_BYTES);
	}
	assert_in_range(stats.entries, 2, 7);
	/* what is in use stays; without a user it goes */
	assert_int_equal(sde_model_adapt(model, NULL, 0, NULL, &error), 0);
}

static void not_an_embedding(const char *file, const char *part_of_message)
{
	struct sde_error error = {0};
	struct sde_words words = {0};

	assert_true(sde_words_add(&words, model, data_path(file), "e", &error) < 0);
	assert_int_equal(strncmp(error.message, "embedding e: ", 13), 0);
	if (!strstr(error.message, part_of_message))
		fail_msg("%s: '%s' is not in it", error.message, part_of_message);
	sde_words_clear(&words);
}

static void test_embeddings_that_do_not_fit(void **state)
{
	not_an_embedding("embeddings/a1111_legacy.pt", "pickle");
	not_an_embedding("embeddings/diffusers_legacy.bin", "pickle");
	not_an_embedding("embeddings/sdxl_clip_l_g.safetensors", "neither \"emb_params\" nor");
	not_an_embedding("lora/kohya_linear.safetensors", "neither \"emb_params\" nor");
}

static void test_embeddings_in_prompts(void **state)
{
	const char *const root = data_path("");
	const struct sde_adapter_roots roots = {&root, 1};
	const char *const texts[] = {"a (<TOK2>:1.2), diffusers_singles, Diffusers_Single", "b"};
	const int32_t first = model->towers[0].clip.config.vocab_size;
	struct sde_words words = {0};
	struct sde_error error = {0};
	struct sde_prompt prompt;
	struct sde_prompt_words of;
	int found = 0;

	assert_int_equal(sde_words_find(&words, model, &roots, texts, 2, &error), 0);
	assert_int_equal(words.n_embeddings, 2);
	assert_int_equal(words.n_rows, 4);
	of = sde_words_of(&words, 0);
	assert_int_equal(sde_prompt_weighted(model->towers[0].tokenizer, 0, &of, texts[0],
					     strlen(texts[0]), &prompt, &error),
			 0);
	for (int i = 0; i < SDE_PROMPT_LENGTH; i++)
		if (prompt.chunks[0].ids[i] >= first) {
			found++;
			/* the weight is that of the bracket; the longer word is another one */
			assert_true(prompt.chunks[0].weights[i] == (found <= 3 ? 1.2f : 1.0f));
		}
	assert_int_equal(found, 4);
	sde_prompt_clear(&prompt);
	sde_words_clear(&words);
}

static void test_finding_by_name(void **state)
{
	const char *const root = data_path("");
	const struct sde_adapter_roots roots = {&root, 1};
	struct sde_error error = {0};
	char *found = NULL;

	assert_int_equal(sde_adapter_find(&roots, "lora", "LoRA", "dora", &found, &error), 0);
	assert_string_equal(strrchr(found, '/'), "/dora.safetensors");
	free(found);
	assert_int_equal(sde_adapter_find(&roots, "lora", "LoRA", "../lora/dora", &found, &error),
			 -EINVAL);
	assert_int_equal(
		sde_adapter_find(&roots, "embeddings", "embedding", "none", &found, &error),
		-ENOENT);
	assert_non_null(strstr(error.message, "no embedding is called 'none'; embeddings/ of the "
					      "model folders has "));
	assert_non_null(strstr(error.message, "sdxl_clip_l_g"));
}

/* A text encoder whose table is stored in some form gives the same with learnt words beside it as without. */
static void test_words_beside_any_table(void **state)
{
	static const struct sde_clip_wanted last = {1, true};
	struct sde_clip clip = model->towers[0].clip;
	const size_t width = (size_t)clip.config.hidden_size, n = SDE_PROMPT_LENGTH * width;
	float *plain = calloc(n, sizeof(float)), *beside = calloc(n, sizeof(float));
	float *row = calloc(width, sizeof(float));
	const struct sde_clip_added added = {row, 1};
	int32_t ids[SDE_PROMPT_LENGTH];
	struct sde_error error = {0};

	assert_true(plain && beside && row);
	clip.token_embedding.weight.scale = 2;
	for (int i = 0; i < SDE_PROMPT_LENGTH; i++)
		ids[i] = i * 13 % clip.config.vocab_size;
	assert_int_equal(sde_clip_forward(model->runner, &clip, ids, NULL, 1, SDE_PROMPT_LENGTH,
					  &last, 1, &plain, &error),
			 0);
	assert_int_equal(sde_clip_forward(model->runner, &clip, ids, &added, 1, SDE_PROMPT_LENGTH,
					  &last, 1, &beside, &error),
			 0);
	assert_memory_equal(plain, beside, n * sizeof(float));
	sde_runner_forget(model->runner, &clip);
	free(plain);
	free(beside);
	free(row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_family),
		cmocka_unit_test(test_unfitting_tensors),
		cmocka_unit_test(test_pickles_and_numbers),
		cmocka_unit_test(test_bound_once),
		cmocka_unit_test(test_few_are_kept),
		cmocka_unit_test(test_embeddings_that_do_not_fit),
		cmocka_unit_test(test_embeddings_in_prompts),
		cmocka_unit_test(test_finding_by_name),
		cmocka_unit_test(test_words_beside_any_table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
