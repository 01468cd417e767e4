/*
 * Opening one component of the case's model folder.
 */
#include "tests/golden/component.h"

#include <errno.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/formats/model-dir.h"

int golden_open_component(struct golden_case *c, const char *class_prefix,
			  struct golden_component *ret)
{
	const char *name = golden_param_string(c, "component", "");
	const struct sde_component *component;
	struct sde_model_dir *dir;
	struct sde_error error;

	if (!c->model)
		return golden_fail(c, "the case names no model");
	if (sde_model_dir_open(c->model, &dir, &error) < 0)
		return golden_fail_error(c, c->model, &error);
	if (sde_model_dir_require(dir, name, &component, &error) < 0)
		return golden_fail_error(c, name, &error);
	if (component->class_name &&
	    strncmp(component->class_name, class_prefix, strlen(class_prefix)) != 0)
		return golden_skip(c, "architecture %s not supported yet", component->class_name);
	if (sde_component_config(component, &ret->config, &error) < 0 ||
	    sde_component_weights(component, &ret->weights, &error) < 0)
		return golden_fail_error(c, name, &error);
	if (sde_runner_new(c->options->backend, c->options->dtype, 1, &ret->runner, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	return GOLDEN_PASS;
}

int golden_load_model(struct golden_case *c, struct sde_model **ret_model)
{
	const struct sde_engine_options options = {c->options->backend, c->options->dtype, 1};
	struct sde_engine *engine;
	struct sde_error error = {0};

	if (!c->model)
		return golden_fail(c, "the case names no model");
	if (sde_engine_new(&options, &engine, &error) < 0)
		return golden_fail_error(c, c->options->backend, &error);
	if (sde_model_load(engine, c->model, ret_model, &error) < 0)
		return error.code == -ENOTSUP ? golden_skip(c, "%s", error.message)
					      : golden_fail_error(c, c->model, &error);
	return GOLDEN_PASS;
}
