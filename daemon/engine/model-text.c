/*
 * The text encoders of a model: which there are, each with its tokenizer. SD has one CLIP, SDXL two (its refiner the second
 * alone), SD3 two and a T5 that may be left out, FLUX one and a T5.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/model.h"
#include "daemon/engine/runner.h"

/* A checkpoint file brings no vocabulary. OpenCLIP's encoders were trained with padding by token 0, which is "!". */
static int load_tokenizer(struct sde_text_tower *tower, const struct sde_component *component,
			  struct sde_error *error)
{
	int r;

	if (!component->checkpoint)
		return sde_clip_tokenizer_load(component->path, &tower->tokenizer, error);
	r = sde_clip_tokenizer_builtin(&tower->tokenizer, error);
	if (r >= 0 && tower->clip.config.hidden_act != SDK_QUICK_GELU)
		r = sde_clip_tokenizer_set_pad(tower->tokenizer, 0);
	return r;
}

static int load_tower(struct sde_model *model, const char *encoder, const char *tokenizer,
		      bool weights, struct sde_error *error)
{
	struct sde_text_tower *tower = &model->towers[model->n_towers];
	_cleanup_json_ json_t *config = NULL;
	const struct sde_component *component;
	struct sde_clip_config clip;
	char what[64];
	int r;

	snprintf(what, sizeof(what), "%s/config.json", encoder);
	model->n_towers++;
	r = sde_model_dir_require(model->dir, encoder, &component, error);
	if (r < 0)
		return r;
	if (component->class_name && strncmp(component->class_name, "CLIPTextModel", 13) != 0)
		return sde_error_set(error, -ENOTSUP,
				     "%s: '%s' is a %.60s; this engine paints with CLIPTextModel "
				     "and CLIPTextModelWithProjection",
				     model->dir->path, encoder, component->class_name);
	r = sde_component_config(component, &config, error);
	if (r >= 0)
		r = sde_clip_config_parse(config, what, &clip, error);
	if (r < 0)
		return r;
	tower->clip.config = clip;
	tower->config_content = sde_json_content(config);
	if (weights)
		r = sde_component_weights(component, &tower->weights, error);
	if (r >= 0 && weights) {
		sde_model_adopt(model, encoder, NULL, tower->weights);
		r = sde_clip_bind(&tower->clip, &clip, tower->weights, error);
	}
	if (r >= 0)
		r = sde_model_dir_require(model->dir, tokenizer, &component, error);
	if (r >= 0)
		r = load_tokenizer(tower, component, error);
	return r;
}

static int bind_t5(struct sde_model *model, const char *encoder, struct sde_error *error)
{
	_cleanup_json_ json_t *config = NULL;
	struct sde_t5_config t5;
	char what[64];
	int r;

	snprintf(what, sizeof(what), "%s/config.json", encoder);
	r = sde_model_open_component(model, encoder, "T5EncoderModel", &config, &model->t5.weights,
				     error);
	if (r >= 0)
		r = sde_t5_config_parse(config, what, &t5, error);
	model->t5.config_content = sde_json_content(config);
	if (r >= 0)
		r = sde_t5_bind(&model->t5.t5, &t5, model->t5.weights, error);
	return r;
}

/* A checkpoint file brings no vocabulary: the file that its settings name, else the one that SD3 and FLUX share. */
static int load_t5_tokenizer(struct sde_model *model, const struct sde_component *component,
			     bool weights, struct sde_error *error)
{
	const struct sde_checkpoint *checkpoint = component->checkpoint;
	const char *name = json_string_value(
		json_object_get(sde_checkpoint_settings(checkpoint), "t5_tokenizer"));
	_cleanup_free_ char *path = name ? sde_checkpoint_resolve(checkpoint, name) : NULL;
	int r, pieces;

	if (name && !path)
		return sde_error_set(error, -ENOMEM, "%s: no memory", model->dir->path);
	r = path ? sde_t5_tokenizer_open(path, &model->t5.tokenizer, error)
		 : sde_t5_tokenizer_builtin(&model->t5.tokenizer, error);
	if (r < 0 || !weights)
		return r;
	pieces = sde_t5_tokenizer_vocab_size(model->t5.tokenizer);
	if (pieces > model->t5.t5.config.vocab_size)
		return sde_error_set(error, -EINVAL,
				     "%s: its T5 knows %d tokens, %s has %d; name its own "
				     "spiece.model or tokenizer.json in its %s: {\"t5_tokenizer\": "
				     "\"FILE\"}",
				     model->dir->path, model->t5.t5.config.vocab_size,
				     name ? name : "the built-in vocabulary", pieces,
				     sde_checkpoint_is_folder(checkpoint) ? "sdd.json"
									  : ".sdd.json");
	return 0;
}

static int load_t5(struct sde_model *model, const char *encoder, bool weights,
		   struct sde_error *error)
{
	const struct sde_component *component;
	char tokenizer[64];
	int r = 0;

	snprintf(tokenizer, sizeof(tokenizer), "tokenizer%s", encoder + strlen("text_encoder"));
	if (weights)
		r = bind_t5(model, encoder, error);
	if (r >= 0)
		r = sde_model_dir_require(model->dir, tokenizer, &component, error);
	if (r >= 0)
		r = component->checkpoint
			    ? load_t5_tokenizer(model, component, weights, error)
			    : sde_t5_tokenizer_load(component->path, &model->t5.tokenizer, error);
	return r;
}

static const char *const clips[SDE_TOWERS_MAX][2] = {{"text_encoder", "tokenizer"},
						     {"text_encoder_2", "tokenizer_2"}};

/* Whether the model must have CLIP encoder i. What it must have and has not is an error of loading it. */
static bool has_tower(const struct sde_model *model, int i)
{
	const bool second = sde_model_dir_find(model->dir, clips[1][0]);

	if (model->family->t5)
		return strcmp(model->family->t5, clips[i][0]) != 0;
	/* SD has the first, SDXL both, its refiner the second alone */
	return sde_model_dir_find(model->dir, clips[i][0]) || (i == 0 && !second);
}

int sde_model_load_text(struct sde_model *model, bool weights, struct sde_error *error)
{
	const struct sde_family *family = model->family;
	int r = 0;

	for (int i = 0; r >= 0 && i < SDE_TOWERS_MAX; i++)
		if (has_tower(model, i))
			r = load_tower(model, clips[i][0], clips[i][1], weights, error);
	if (r >= 0 && family->t5 &&
	    (!family->t5_optional || sde_model_dir_find(model->dir, family->t5)))
		r = load_t5(model, family->t5, weights, error);
	return r;
}

void sde_model_clear_text(struct sde_model *model)
{
	for (int i = 0; i < model->n_towers; i++) {
		struct sde_text_tower *tower = &model->towers[i];

		if (model->runner)
			sde_runner_forget(model->runner, &tower->clip);
		sde_clip_clear(&tower->clip);
		sde_clip_tokenizer_free(tower->tokenizer);
		sde_weights_free(tower->weights);
	}
	if (model->runner)
		sde_runner_forget(model->runner, &model->t5.t5);
	sde_t5_clear(&model->t5.t5);
	sde_t5_tokenizer_free(model->t5.tokenizer);
	sde_weights_free(model->t5.weights);
}
