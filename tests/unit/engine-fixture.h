/*
 * What tests of whole jobs share: an engine, the tiny models of the golden data and a canvas with a pattern on it. Include it
 * after cmocka.h.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/engine.h"

struct fixture {
	struct sde_engine *engine;
	struct sde_model *model, *inpaint, *small; /* or NULL */
	struct sde_image canvas;
};

/* The model at path; fails the test with the engine's words. */
static inline struct sde_model *fixture_load_path(struct sde_engine *engine, const char *path)
{
	struct sde_error error = {0};
	struct sde_model *model;

	if (sde_model_load(engine, path, &model, &error) < 0)
		fail_msg("%s", error.message);
	return model;
}

/* A model of the golden data by its folder's name. */
static inline struct sde_model *fixture_load(struct sde_engine *engine, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/models/%s", getenv("SDD_GOLDEN_DATA"), name);
	return fixture_load_path(engine, path);
}

/* An engine and a canvas, no model yet. Ended by fixture_free. */
static inline struct fixture *fixture_begin(const struct sde_engine_options *options,
					    uint32_t width, uint32_t height)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sde_error error = {0};

	assert_non_null(f);
	assert_int_equal(sde_engine_new(options, &f->engine, &error), 0);
	assert_int_equal(sde_image_new(width, height, 3, SDE_PIXEL_U8, &f->canvas, &error), 0);
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width * 3; x++)
			((uint8_t *)sde_image_row(&f->canvas, y))[x] = (uint8_t)(x * 5 + y * 3);
	return f;
}

/* On this backend, in f32, with one thread, the tiny model; inpaint: with the model made for it too. */
static inline struct fixture *fixture_new(const char *backend, bool inpaint, uint32_t width,
					  uint32_t height)
{
	const struct sde_engine_options options = {
		.backend = backend, .dtype = "f32", .threads = 1};
	struct fixture *f = fixture_begin(&options, width, height);

	f->model = fixture_load(f->engine, "sd15");
	if (inpaint)
		f->inpaint = fixture_load(f->engine, "sd15_inpaint");
	return f;
}

/* The tiny model and the small one that ships, for figures of pictures. */
static inline struct fixture *fixture_with_small(void)
{
	struct fixture *f = fixture_new("cpu", false, 64, 64);

	f->small = fixture_load_path(f->engine, getenv("SDD_SMALL_MODEL"));
	return f;
}

/* cmocka's teardown. */
static inline int fixture_free(void **state)
{
	struct fixture *f = *state;

	sde_image_clear(&f->canvas);
	sde_model_unref(f->model);
	sde_model_unref(f->inpaint);
	sde_model_unref(f->small);
	sde_engine_free(f->engine);
	free(f);
	return 0;
}
