/*
 * A model's component as a case names it: opened for a case function that runs one network alone.
 */
#pragma once

#include "daemon/engine/runner.h"
#include "tests/golden/golden.h"

struct golden_component {
	json_t *config;
	struct sde_weights *weights;
	struct sde_runner *runner;
};

/*
 * GOLDEN_PASS with the component that params.component names (never closed: the case is a process of its own); a class that
 * does not begin with class_prefix is a SKIP that names it.
 */
int golden_open_component(struct golden_case *c, const char *class_prefix,
			  struct golden_component *ret);

/*
 * GOLDEN_PASS with the first component of names (up to NULL) that the tensors behind prefix make, of the case's synthetic checkpoint
 * (case-fullsize.c).
 */
int golden_open_synthetic(struct golden_case *c, const char *prefix, const char *const *names,
			  struct golden_component *ret);

/* GOLDEN_PASS with the case's whole model; one that the engine does not support is a SKIP that says why. */
struct sde_model;
int golden_load_model(struct golden_case *c, struct sde_model **ret_model);
