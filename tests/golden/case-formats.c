/*
 * Small models in the layouts that people download: kind single_file. Their configurations cannot be inferred (no published model is so
 * narrow), so they come from the case's folder; names, types and layout are the checkpoint loader's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/checkpoint.h"
#include "daemon/engine/formats/json.h"
#include "daemon/engine/formats/model-dir.h"
#include "tests/golden/networks.h"

static const struct kind {
	const char *component;
	const char *ids;    /* text encoders: their ids, if the case has ids for several */
	const char *prefix; /* text encoders: of the outputs, if the case has several */
} kinds[] = {
	{"text_encoder", "input_ids", "te1_"},
	{"text_encoder_2", "input_ids_2", "te2_"},
	{"text_encoder_3", "input_ids_3", "te3_"},
	{"unet", NULL, NULL},
	{"vae", NULL, NULL},
};

/* Below the folder of the case. */
static int open_config(struct golden_case *c, const char *component, json_t **ret_config)
{
	const char *folder = golden_param_string(c, "config", "");
	const char *slash = strrchr(c->path, '/');
	struct sde_error error;
	char path[4096];

	snprintf(path, sizeof(path), "%.*s/%s/%s/config.json", slash ? (int)(slash - c->path) : 1,
		 slash ? c->path : ".", folder, component);
	if (sde_json_load(path, SDE_JSON_CONFIG_MAX, ret_config, &error) < 0)
		return golden_fail_error(c, "config", &error);
	return GOLDEN_PASS;
}

static int run_text_encoder(struct golden_case *c, const struct kind *kind,
			    const struct golden_component *component)
{
	const bool several = golden_find(c, kind->ids) && strcmp(kind->ids, "input_ids") != 0;
	char name[64];

	snprintf(name, sizeof(name), "%slast_hidden_state", kind->prefix);
	return golden_run_clip(c, component, several ? kind->ids : "input_ids",
			       golden_wants(c, name) ? kind->prefix : "");
}

static int run_component(struct golden_case *c, const struct sde_checkpoint *checkpoint,
			 const struct kind *kind, struct sde_runner *runner)
{
	struct golden_component component = {.runner = runner};
	struct sde_error error;
	int r;

	r = open_config(c, kind->component, &component.config);
	if (r != GOLDEN_PASS)
		return r;
	if (sde_checkpoint_weights(checkpoint, kind->component, &component.weights, &error) < 0)
		return golden_fail_error(c, kind->component, &error);
	if (kind->ids)
		return run_text_encoder(c, kind, &component);
	if (!strcmp(kind->component, "unet"))
		return golden_run_unet(c, &component, "unet_out");
	return golden_run_vae(c, &component, "vae_decode",
			      golden_wants(c, "vae_latents") ? "vae_latents" : "vae_moments");
}

static bool has(const struct sde_checkpoint *checkpoint, const char *component)
{
	const char *name;

	for (size_t i = 0; (name = sde_checkpoint_component(checkpoint, i)); i++)
		if (!strcmp(name, component))
			return true;
	return false;
}

int golden_single_file(struct golden_case *c)
{
	struct sde_checkpoint *checkpoint;
	struct sde_runner *runner;
	struct sde_error error;
	int r = GOLDEN_PASS;

	if (!c->model)
		return golden_fail(c, "the case names no file");
	if (golden_param(c, "files"))
		return golden_skip(c, "sets of files are not read yet");
	if (sde_checkpoint_open(c->model, &checkpoint, &error) < 0)
		return golden_fail_error(c, "file", &error);
	if (has(checkpoint, "transformer"))
		return golden_skip(c, "transformers (SD3, FLUX) are not read from one file yet");
	if (sde_runner_new(c->options->backend, c->options->dtype, 1, &runner, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	for (size_t i = 0; r == GOLDEN_PASS && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (has(checkpoint, kinds[i].component))
			r = run_component(c, checkpoint, &kinds[i], runner);
	return r;
}
