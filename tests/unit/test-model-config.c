/*
 * config.json of every component: absent keys get the library's defaults; a key of the wrong type, absurd, negative or beyond
 * an int is refused by name with what would be right. The same through whole folders with one file broken.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/autoencoders/kl-config.h"
#include "daemon/engine/denoisers/flux.h"
#include "daemon/engine/denoisers/sd3.h"
#include "daemon/engine/denoisers/unet-config.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/error.h"
#include "daemon/engine/text_encoders/clip-config.h"

enum component { UNET, KL, CLIP, SD3, FLUX };

struct parsed {
	struct sde_unet_config unet;
	struct sde_kl_config kl;
	struct sde_clip_config clip;
	struct sde_sd3_config sd3;
	struct sde_flux_config flux;
};

static int parse(enum component component, const char *text, struct parsed *ret,
		 struct sde_error *error)
{
	json_t *object = json_loads(text, 0, NULL);
	int r;

	assert_non_null(object);
	if (component == UNET)
		r = sde_unet_config_parse(object, "c.json", &ret->unet, error);
	else if (component == KL)
		r = sde_kl_config_parse(object, "c.json", &ret->kl, error);
	else if (component == CLIP)
		r = sde_clip_config_parse(object, "c.json", &ret->clip, error);
	else if (component == SD3)
		r = sde_sd3_config_parse(object, "c.json", &ret->sd3, error);
	else
		r = sde_flux_config_parse(object, "c.json", &ret->flux, error);
	json_decref(object);
	return r;
}

static void test_absent_keys_get_the_defaults(void **state)
{
	static const int channels[] = {320, 640, 1280, 1280};
	struct parsed c;

	assert_int_equal(parse(UNET, "{\"norm_eps\": null}", &c, NULL), 0);
	assert_int_equal(c.unet.n_levels, 4);
	assert_memory_equal(c.unet.block_out_channels, channels, sizeof(channels));
	assert_true(c.unet.down_attention[0] && !c.unet.down_attention[3]);
	assert_true(c.unet.up_attention[3] && !c.unet.up_attention[0]);
	assert_int_equal(c.unet.heads[3], 8);
	assert_int_equal(c.unet.time_embed_dim, 1280);
	assert_float_equal(c.unet.norm_eps, 1e-5, 0);
	assert_int_equal(parse(KL, "{}", &c, NULL), 0);
	assert_float_equal(c.kl.scaling_factor, 0.18215, 0);
	assert_true(c.kl.use_quant_conv && c.kl.mid_block_add_attention);
	assert_int_equal(parse(CLIP, "{}", &c, NULL), 0);
	assert_int_equal(c.clip.vocab_size, 49408);
	assert_int_equal(c.clip.hidden_act, SDK_QUICK_GELU);
	assert_int_equal(parse(SD3, "{}", &c, NULL), 0);
	assert_int_equal(c.sd3.pos_embed_max_size, 96);
	assert_false(c.sd3.qk_norm || c.sd3.dual_attention_layers);
	assert_int_equal(parse(SD3,
			       "{\"qk_norm\": \"rms_norm\", \"dual_attention_layers\": [0, 12]}",
			       &c, NULL),
			 0);
	assert_true(c.sd3.qk_norm && c.sd3.dual_attention_layers == 0x1001);
	assert_int_equal(parse(FLUX, "{\"out_channels\": null}", &c, NULL), 0);
	assert_int_equal(c.flux.out_channels, 64);
	assert_int_equal(c.flux.num_single_layers, 38);
	assert_false(c.flux.guidance_embeds);
	/* a whole real number is an integer; a list of one entry a level is taken apart */
	assert_int_equal(parse(UNET,
			       "{\"in_channels\": 9.0, \"attention_head_dim\": [5, 10, 20, 20]}",
			       &c, NULL),
			 0);
	assert_int_equal(c.unet.in_channels, 9);
	assert_int_equal(c.unet.heads[2], 20);
}

static const struct {
	enum component component;
	const char *text, *message;
} bad[] = {
	/* type */
	{UNET, "{\"in_channels\": \"4\"}", "'in_channels' must be a whole number from 1 to 1024"},
	{UNET, "{\"in_channels\": 4.5}", "'in_channels' must be a whole number from 1 to 1024"},
	{UNET, "{\"in_channels\": true}", "'in_channels' must be a whole number from 1 to 1024"},
	{UNET, "{\"block_out_channels\": 320}",
	 "'block_out_channels' must be a list of 1 to 8 numbers"},
	{UNET, "{\"block_out_channels\": [320, \"x\", 1, 1]}",
	 "'block_out_channels' must be a whole number from 1 to 16384"},
	{UNET, "{\"use_linear_projection\": 1}", "'use_linear_projection' must be true or false"},
	{UNET, "{\"norm_eps\": \"small\"}", "'norm_eps' must be a number from 0 to 1"},
	{UNET, "{\"addition_embed_type\": 3}", "'addition_embed_type' must be a string"},
	{UNET, "{\"down_block_types\": \"DownBlock2D\"}",
	 "'down_block_types' must be a list of 4 names"},
	{UNET, "{\"down_block_types\": [1, 2, 3, 4]}",
	 "'down_block_types' must be a list of 4 names"},
	{KL, "{\"scaling_factor\": []}", "'scaling_factor' must be a number from 1e-06 to 1e+06"},
	{CLIP, "{\"hidden_act\": 1}", "'hidden_act' must be a string"},
	{SD3, "{\"dual_attention_layers\": 3}",
	 "'dual_attention_layers' must be a list of 1 to 64 numbers"},
	{FLUX, "{\"axes_dims_rope\": [16, \"x\", 56]}",
	 "'axes_dims_rope' must be a whole number from 2 to 1024"},
	/* negative, nothing, absurd, beyond an int or a double's whole numbers */
	{UNET, "{\"in_channels\": -4}", "'in_channels' must be a whole number from 1 to 1024"},
	{UNET, "{\"in_channels\": 0}", "'in_channels' must be a whole number from 1 to 1024"},
	{UNET, "{\"block_out_channels\": []}",
	 "'block_out_channels' must be a list of 1 to 8 numbers"},
	{UNET, "{\"block_out_channels\": [1, 1, 1, 1, 1, 1, 1, 1, 1]}",
	 "'block_out_channels' must be a list of 1 to 8 numbers"},
	{UNET, "{\"block_out_channels\": [32, 64, 128, 4294967616]}",
	 "'block_out_channels' must be a whole number from 1 to 16384"},
	{UNET, "{\"sample_size\": 9223372036854775807}",
	 "'sample_size' must be a whole number from 1 to 65536"},
	{UNET, "{\"cross_attention_dim\": 1e300}",
	 "'cross_attention_dim' must be a whole number from 1 to 16384"},
	{UNET, "{\"layers_per_block\": [2, 2, 2, 1000000]}",
	 "'layers_per_block' must be a whole number from 1 to 8"},
	{UNET, "{\"transformer_layers_per_block\": -1}",
	 "'transformer_layers_per_block' must be a whole number from 0 to 32"},
	{UNET, "{\"transformer_layers_per_block\": [1, 1, [2], 1]}",
	 "'transformer_layers_per_block' has 1 entries for block 2, which has 2"},
	{UNET, "{\"transformer_layers_per_block\": [1, 1, [2, 1], 1]}",
	 "'transformer_layers_per_block' has lists, so 'reverse_transformer_layers_per_block' is "
	 "needed"},
	{UNET, "{\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"}",
	 "'mid_block_type' is 'UNetMidBlock2DSimpleCrossAttn'; only UNetMidBlock2DCrossAttn, "
	 "UNetMidBlock2D and null are supported"},
	{KL, "{\"scaling_factor\": 0}", "'scaling_factor' must be a number from 1e-06 to 1e+06"},
	{KL, "{\"block_out_channels\": [32, 32, 32, 32, 32, 32, 32, 32, 32, 32]}",
	 "'block_out_channels' must be a list of 1 to 8 numbers"},
	{CLIP, "{\"num_hidden_layers\": 100000000}",
	 "'num_hidden_layers' must be a whole number from 1 to 256"},
	{CLIP, "{\"vocab_size\": -1}", "'vocab_size' must be a whole number from 1 to 16777216"},
	/* numbers that do not go together */
	{UNET, "{\"attention_head_dim\": [8, 8, 8]}",
	 "'attention_head_dim' has 3 entries, there are 4 blocks"},
	{UNET, "{\"block_out_channels\": [33, 64, 64, 64], \"norm_num_groups\": 32}",
	 "'block_out_channels' has 33, not a multiple of the 32 groups"},
	{UNET, "{\"attention_head_dim\": 7}",
	 "'block_out_channels' has 320, not a multiple of the 7 heads"},
	{UNET, "{\"block_out_channels\": [5], \"norm_num_groups\": 1, \"attention_head_dim\": 1}",
	 "'block_out_channels' begins with an odd number; the time embedding needs an even one"},
	{UNET, "{\"addition_embed_type\": \"text_time\"}",
	 "'projection_class_embeddings_input_dim' is missing; text_time conditioning needs it"},
	{KL, "{\"block_out_channels\": [48]}",
	 "'block_out_channels' has 48, not a multiple of the 32 groups"},
	{SD3, "{\"dual_attention_layers\": [18]}",
	 "'dual_attention_layers' must be a whole number from 0 to 17"},
	{SD3, "{\"caption_projection_dim\": 4096}",
	 "'caption_projection_dim' must be 'num_attention_heads' x 'attention_head_dim', 1152"},
	{FLUX, "{\"axes_dims_rope\": [16, 56]}",
	 "'axes_dims_rope' must be 3 numbers that sum up to 'attention_head_dim', 128"},
	{FLUX, "{\"axes_dims_rope\": [17, 55, 56]}", "'axes_dims_rope' has 17, must be even"},
	{FLUX, "{\"in_channels\": 66}",
	 "'in_channels' and 'out_channels' are 66 and 66, must be multiples of 4: tokens are 2 x "
	 "2 latents"},
	{CLIP, "{\"hidden_size\": 100}", "'hidden_size' 100 is not a multiple of the 8 heads"},
	/* what would be computed wrongly */
	{UNET, "{\"act_fn\": \"gelu\"}", "'act_fn' is \"gelu\"; only \"silu\" is supported"},
	{UNET, "{\"class_embed_type\": \"timestep\"}",
	 "'class_embed_type' is \"timestep\"; only null is supported"},
	{UNET,
	 "{\"down_block_types\": [\"KDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\", "
	 "\"DownBlock2D\"]}",
	 "'down_block_types' has 'KDownBlock2D'; only CrossAttnDownBlock2D and DownBlock2D are "
	 "supported"},
	{SD3, "{\"qk_norm\": \"layer_norm\"}",
	 "'qk_norm' is \"layer_norm\"; only \"rms_norm\" is supported"},
	{FLUX, "{\"patch_size\": 2}", "'patch_size' is 2; only 1 is supported"},
	{KL, "{\"latents_mean\": [0.5]}", "'latents_mean' is [0.5]; only null is supported"},
	{CLIP, "{\"hidden_act\": \"mish\"}",
	 "'hidden_act' has 'mish'; quick_gelu, gelu, gelu_new, relu and silu are supported"},
	{UNET, "{\"only_cross_attention\": [true]}",
	 "'only_cross_attention' has 1 values; 4 blocks need as many"},
	{UNET, "{\"resnet_time_scale_shift\": \"ada_group\"}",
	 "'resnet_time_scale_shift' is 'ada_group'; default and scale_shift are supported"},
};

static void test_bad_values_are_named(void **state)
{
	struct parsed before, c;

	memset(&before, 0x5a, sizeof(before));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sde_error error = {0};
		char expected[256];

		c = before;
		assert_int_equal(parse(bad[i].component, bad[i].text, &c, &error), -EINVAL);
		snprintf(expected, sizeof(expected), "c.json: %s", bad[i].message);
		assert_string_equal(error.message, expected);
		assert_memory_equal(&c, &before, sizeof(c));
	}
}

/* Whole folders: a copy of the tiny model in which one file says something else. */
static char scratch[] = "/tmp/sdd-test-model-config-XXXXXX";

static int setup(void **state)
{
	const struct sde_engine_options options = {"ref", "f32", 1};
	struct sde_engine *engine = NULL;
	char command[1024];

	if (!mkdtemp(scratch) || sde_engine_new(&options, &engine, NULL) < 0)
		return -1;
	*state = engine;
	snprintf(command, sizeof(command), "cp -r '%s/models/sd15' '%s/m' && chmod -R u+w '%s/m'",
		 getenv("SDD_GOLDEN_DATA"), scratch, scratch);
	return system(command);
}

static int teardown(void **state)
{
	char command[128];

	sde_engine_free(*state);
	snprintf(command, sizeof(command), "rm -r '%s'", scratch);
	return system(command);
}

/* Lets a model load with keys of one of its files set, puts the file back, and checks the message ("" = it loads). */
static void load_with(struct sde_engine *engine, const char *file, const char *changes,
		      const char *message)
{
	struct sde_model *model = NULL;
	struct sde_error error = {0};
	json_t *object, *change = json_loads(changes, 0, NULL), *old;
	char path[256], folder[128];

	snprintf(folder, sizeof(folder), "%s/m", scratch);
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	old = json_load_file(path, 0, NULL);
	object = old ? json_deep_copy(old) : json_object();
	assert_int_equal(json_object_update(object, change), 0);
	assert_int_equal(json_dump_file(object, path, 0), 0);
	if (sde_model_load(engine, folder, &model, &error) < 0)
		assert_null(model);
	if (!strstr(error.message, message) || !*message != !*error.message)
		fail_msg("%s with %s: '%s' does not say '%s'", file, changes, error.message,
			 message);
	sde_model_unref(model);
	if (old)
		json_dump_file(old, path, 0);
	else
		remove(path);
	json_decref(old);
	json_decref(object);
	json_decref(change);
}

static void test_folders_with_a_broken_file(void **state)
{
	struct sde_engine *engine = *state;

	load_with(engine, "unet/config.json", "{}", "");
	load_with(engine, "unet/config.json", "{\"in_channels\": -1}",
		  "unet/config.json: 'in_channels' must be");
	/* a description that is sound, of other weights */
	load_with(engine, "unet/config.json", "{\"in_channels\": 7}",
		  "unet/diffusion_pytorch_model.safetensors: tensor 'conv_in.weight' has shape");
	load_with(engine, "vae/config.json", "{\"latent_channels\": 5}",
		  "vae/diffusion_pytorch_model.safetensors: tensor '");
	load_with(engine, "text_encoder/config.json", "{\"num_hidden_layers\": 200}",
		  "text_encoder/model.safetensors: tensor 'text_model.encoder.layers.");
	load_with(engine, "text_encoder/config.json", "{\"num_hidden_layers\": 1}",
		  "does not belong to this architecture");
	load_with(engine, "tokenizer/tokenizer_config.json", "{\"pad_token\": \"no such token\"}",
		  "tokenizer/tokenizer_config.json: pad_token 'no such token'");
	load_with(engine, "model_index.json",
		  "{\"unet\": [\"diffusers\", \"FluxTransformer2DModel\"]}",
		  "'unet' is a FluxTransformer2DModel");
	load_with(engine, "scheduler/scheduler_config.json", "{\"beta_start\": \"low\"}",
		  "scheduler/scheduler_config.json: scheduler configuration: beta_start");
	load_with(engine, "scheduler/scheduler_config.json", "{\"num_train_timesteps\": -5}",
		  "scheduler/scheduler_config.json: num_train_timesteps is -5");
	load_with(engine, "sdd.json", "{\"steps\": 100000}", "sdd.json: 'steps' must be");
	load_with(engine, "sdd.json", "{\"native_size\": 13}", "sdd.json: 'native_size' is 13");
	load_with(engine, "sdd.json", "{\"sampler\": \"Eular\"}", "sdd.json: ");
	load_with(engine, "sdd.json", "{\"sampler\": 3}", "sdd.json: 'sampler' must be a string");
	load_with(engine, "unet/config.json", "{\"sample_size\": 65536}",
		  "unet/config.json: 'sample_size'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_absent_keys_get_the_defaults),
		cmocka_unit_test(test_bad_values_are_named),
		cmocka_unit_test_setup_teardown(test_folders_with_a_broken_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
