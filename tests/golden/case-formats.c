/*
 * Small models in the layouts that people download: kinds single_file, gguf, single_file_ckpt and gguf_dequant. Their configurations cannot be
 * inferred (no published model is so narrow), so they come from the case's folder; names, types and layout are the checkpoint loader's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/checkpoint.h"
#include "daemon/engine/formats/json.h"
#include "tests/golden/networks.h"

static const struct kind {
	const char *component;
	const char *ids;    /* text encoders: their ids, if the case has ids for several */
	const char *prefix; /* text encoders: of the outputs, if the case has several */
} kinds[] = {
	{"text_encoder_3", "input_ids_3", "te3"},
	{"text_encoder_2", "input_ids_2", "te2"},
	{"text_encoder", "input_ids", "te1"},
	{"unet", NULL, NULL},
	{"transformer", NULL, NULL},
	{"vae", NULL, NULL},
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* A path below the folder of the case. */
static const char *beside(struct golden_case *c, const char *name)
{
	const char *slash = strrchr(c->path, '/');
	static char path[8192];

	snprintf(path, sizeof(path), "%.*s/%s", slash ? (int)(slash - c->path) : 1,
		 slash ? c->path : ".", name);
	return path;
}

static int open_config(struct golden_case *c, const char *component, json_t **ret_config)
{
	char name[512];

	snprintf(name, sizeof(name), "%s/%s/config.json", golden_param_string(c, "config", ""),
		 component);
	return sde_json_load(beside(c, name), SDE_JSON_CONFIG_MAX, ret_config, NULL) < 0
		       ? golden_fail(c, "no %s", name)
		       : GOLDEN_PASS;
}

/* prefix: of the outputs, "" or with a final "_". */
static int run_text_encoder(struct golden_case *c, const struct kind *kind, const char *prefix,
			    const struct golden_component *component)
{
	const char *ids = golden_find(c, kind->ids) ? kind->ids : "input_ids";
	char name[96];

	snprintf(name, sizeof(name), "%slast_hidden_state", prefix);
	if (!golden_wants(c, name))
		prefix = "";
	if (!json_object_get(component->config, "d_kv"))
		return golden_run_clip(c, component, ids, prefix);
	snprintf(name, sizeof(name), "%slast_hidden_state", prefix);
	return golden_run_t5(c, component, ids, name);
}

/* name: the component's in the checkpoint; kind: what the case calls it. */
static int run_component(struct golden_case *c, const struct sde_checkpoint *checkpoint,
			 const char *name, const struct kind *kind, const char *suffix,
			 struct sde_runner *runner)
{
	struct golden_component component = {.runner = runner};
	struct sde_error error;
	char prefix[64];
	int r;

	r = open_config(c, kind->component, &component.config);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_checkpoint_weights(checkpoint, name, &component.weights, &error) < 0)
		return golden_fail_error(c, name, &error);
	snprintf(prefix, sizeof(prefix), "%s%s_", kind->prefix ? kind->prefix : "", suffix);
	if (kind->ids)
		return run_text_encoder(c, kind, prefix, &component);
	if (!strcmp(kind->component, "unet"))
		return golden_run_unet(c, &component, NULL, "unet_out");
	if (!strcmp(kind->component, "transformer"))
		return golden_run_transformer(c, &component, "transformer_out");
	return golden_run_vae(c, &component, "vae_decode",
			      golden_wants(c, "vae_latents") ? "vae_latents" : "vae_moments");
}

/* A narrow encoder alone in a file does not say which of a model's it is; the case's configuration does. */
static const struct kind *kind_of(struct golden_case *c, const char *name)
{
	const struct kind *kind = NULL;
	json_t *config = NULL;

	for (size_t i = 0; i < N_KINDS; i++)
		if (!strcmp(kinds[i].component, name))
			kind = &kinds[i];
	if (!kind || !kind->ids || open_config(c, kind->component, &config) == GOLDEN_PASS)
		return kind;
	for (size_t i = 0; i < N_KINDS; i++)
		if (kinds[i].ids && open_config(c, kinds[i].component, &config) == GOLDEN_PASS) {
			c->note[0] = '\0';
			c->failed = false;
			return &kinds[i];
		}
	return kind;
}

static int run_all(struct golden_case *c, const struct sde_checkpoint *checkpoint,
		   struct sde_runner *runner)
{
	int r = GOLDEN_PASS;
	const char *name;

	for (size_t i = 0; r == GOLDEN_PASS && (name = sde_checkpoint_component(checkpoint, i));
	     i++) {
		const struct kind *kind = kind_of(c, name);

		if (kind)
			r = run_component(c, checkpoint, name, kind, "", runner);
	}
	return r;
}

/* A file of a set: key is a component of the case, perhaps with a suffix ("text_encoder_2_fp8"). */
static int run_file(struct golden_case *c, const char *key, const struct sde_checkpoint *checkpoint,
		    struct sde_runner *runner)
{
	const char *name = sde_checkpoint_component(checkpoint, 0);

	for (size_t i = 0; i < N_KINDS; i++) {
		const size_t length = strlen(kinds[i].component);

		if (!strncmp(key, kinds[i].component, length))
			return run_component(c, checkpoint, name, &kinds[i], key + length, runner);
	}
	return golden_fail(c, "no network for file '%s'", key);
}

static const char *file_path(struct golden_case *c, const json_t *files, const char *key)
{
	char name[4096];

	snprintf(name, sizeof(name), "%s/%s", json_string_value(json_object_get(c->root, "model")),
		 json_string_value(json_object_get(files, key)));
	return strdup(beside(c, name));
}

/* Two halves in the original numbering, and diffusers' file: both must give the same. */
static int run_taesd(struct golden_case *c, json_t *files, struct sde_runner *runner)
{
	const char *const halves[] = {file_path(c, files, "encoder"),
				      file_path(c, files, "decoder")};
	struct sde_checkpoint *checkpoint;
	struct sde_error error;
	int r;

	if (sde_checkpoint_open_set(halves, 2, false, &checkpoint, &error) < 0)
		return golden_fail_error(c, "halves", &error);
	r = run_all(c, checkpoint, runner);
	if (r != GOLDEN_PASS || c->failed)
		return r;
	if (sde_checkpoint_open(file_path(c, files, "diffusers"), &checkpoint, &error) < 0)
		return golden_fail_error(c, "diffusers", &error);
	return run_all(c, checkpoint, runner);
}

static int run_set(struct golden_case *c, json_t *files, struct sde_runner *runner)
{
	struct sde_checkpoint *checkpoint;
	struct sde_error error;
	int r = GOLDEN_PASS;
	const char *key;
	json_t *value;

	if (json_object_get(files, "decoder"))
		return run_taesd(c, files, runner);
	json_object_foreach (files, key, value) {
		if (sde_checkpoint_open(file_path(c, files, key), &checkpoint, &error) < 0)
			return golden_fail_error(c, key, &error);
		if (r == GOLDEN_PASS)
			r = run_file(c, key, checkpoint, runner);
	}
	return r;
}

/* Output `name` is the tensor that the parameter of that name names, widened. */
static int run_widen(struct golden_case *c, const char *name)
{
	const char *wanted = golden_param_string(c, name, NULL);
	struct sde_tensor_file *file;
	const struct sde_tensor *tensor;
	struct sde_error error;
	float *values;

	if (!wanted)
		return GOLDEN_PASS;
	if (sde_tensor_file_open(c->model, &file, &error) < 0)
		return golden_fail_error(c, "file", &error);
	tensor = sde_tensor_file_find(file, wanted);
	if (!tensor)
		return golden_fail(c, "no tensor '%s'", wanted);
	values = golden_floats(tensor->count);
	if (sde_tensor_to_f32(tensor, values, &error) < 0)
		return golden_fail_error(c, wanted, &error);
	golden_expect_f32(c, name, values, tensor->rank, tensor->shape);
	free(values);
	sde_tensor_file_unref(file);
	return GOLDEN_PASS;
}

int golden_single_file(struct golden_case *c)
{
	json_t *files = golden_param(c, "files");
	struct sde_checkpoint *checkpoint;
	struct sde_runner *runner;
	struct sde_error error;

	if (!c->model)
		return golden_fail(c, "the case names no file");
	if (run_widen(c, "deq_matrix") != GOLDEN_PASS || run_widen(c, "deq_norm") != GOLDEN_PASS)
		return GOLDEN_FAIL;
	if (sde_runner_new(c->options->backend, c->options->dtype, 1, &runner, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	if (files)
		return run_set(c, files, runner);
	if (sde_checkpoint_open_set((const char *const[]){c->model}, 1,
				    !strcmp(c->kind, "single_file_ckpt"), &checkpoint, &error) < 0)
		return golden_fail_error(c, "file", &error);
	return run_all(c, checkpoint, runner);
}

/* Every tensor of a file, widened, is the output of its name. */
int golden_gguf_dequant(struct golden_case *c)
{
	const struct sde_tensor *tensor;
	struct sde_tensor_file *file;
	struct sde_error error;

	if (!c->model)
		return golden_fail(c, "the case names no file");
	if (sde_tensor_file_open(c->model, &file, &error) < 0)
		return golden_fail_error(c, "file", &error);
	for (size_t i = 0; (tensor = sde_tensor_file_at(file, i)); i++) {
		float *values = golden_floats(tensor->count);

		if (sde_tensor_to_f32(tensor, values, &error) < 0)
			return golden_fail_error(c, tensor->name, &error);
		golden_expect_f32(c, tensor->name, values, tensor->rank, tensor->shape);
		free(values);
	}
	return GOLDEN_PASS;
}
