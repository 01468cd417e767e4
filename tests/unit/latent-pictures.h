/*
 * What the tests of latent space share: a job for the small model, its pictures and how far they are from each other. Include it after
 * cmocka.h.
 */
#pragma once

#include <math.h>
#include <string.h>

#include "tests/unit/engine-fixture.h"

static inline struct sde_job latent_job(const char *prompt)
{
	return (struct sde_job){
		.kind = SDE_TXT2IMG,
		.prompt = prompt,
		.seed = 7,
		.steps = 6,
		.guidance_scale = 4,
		.count = 1,
		.hires_scale = 1,
	};
}

static inline struct sde_result run_with(struct sde_model *model, const struct sde_job *job,
					 const struct sde_hooks *hooks)
{
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, job, hooks, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

static inline struct sde_result run(struct sde_model *model, const struct sde_job *job)
{
	return run_with(model, job, NULL);
}

/* Mean difference of the samples of two pictures, of 255. */
static inline double distance(const struct sde_image *a, const struct sde_image *b)
{
	double sum = 0;

	assert_int_equal(a->width, b->width);
	assert_int_equal(a->height, b->height);
	for (uint32_t y = 0; y < a->height; y++) {
		const uint8_t *l = sde_image_row(a, y), *r = sde_image_row(b, y);

		for (uint32_t i = 0; i < a->width * 4; i++)
			sum += abs(l[i] - r[i]);
	}
	return sum / (3.0 * a->width * a->height);
}

static inline bool same(const struct sde_image *a, const struct sde_image *b)
{
	return a->width == b->width && a->height == b->height &&
	       memcmp(a->data, b->data, a->stride * a->height) == 0;
}

/* A picture of four channels without its alpha. */
static inline struct sde_image opaque(const struct sde_image *image)
{
	struct sde_error error;
	struct sde_image copy;

	assert_int_equal(sde_image_new(image->width, image->height, 3, SDE_PIXEL_U8, &copy, &error),
			 0);
	for (uint32_t y = 0; y < image->height; y++)
		for (uint32_t x = 0; x < image->width; x++)
			memcpy((uint8_t *)sde_image_row(&copy, y) + 3 * x,
			       (uint8_t *)sde_image_row(image, y) + 4 * x, 3);
	return copy;
}

static inline struct sde_image paint(struct sde_model *model, const char *prompt, uint64_t seed)
{
	struct sde_job job = latent_job(prompt);
	struct sde_result result;
	struct sde_image image;

	job.seed = seed;
	result = run(model, &job);
	image = opaque(&result.layers[0].image);
	sde_result_clear(&result);
	return image;
}

struct kept {
	int step, stop;
	void *data;
	size_t size;
	atomic_int yield;
};

static inline void keep(void *userdata, const void *data, size_t size)
{
	struct kept *kept = userdata;

	if (++kept->step != kept->stop)
		return;
	kept->data = malloc(size);
	memcpy(kept->data, data, size);
	kept->size = size;
	atomic_store(&kept->yield, 1);
}

/* A job of so many steps that is interrupted behind any of them goes on to the same bytes. */
static inline void resumes_everywhere(struct sde_model *model, const struct sde_job *job, int steps)
{
	struct sde_result whole = run(model, job), rest;
	struct sde_error error = {0};

	assert_int_equal(whole.steps_run, steps);
	for (int stop = 1; stop < steps; stop++) {
		struct kept kept = {.stop = stop};
		const struct sde_hooks hooks = {
			.checkpoint = keep, .yield = &kept.yield, .userdata = &kept};
		struct sde_job resumed = *job;

		assert_int_equal(sde_job_run(model, job, &hooks, &rest, &error), -EINTR);
		resumed.resume = kept.data;
		resumed.resume_size = kept.size;
		rest = run(model, &resumed);
		assert_int_equal(rest.steps_run, steps - stop);
		for (int i = 0; i < whole.count; i++)
			assert_true(same(&rest.layers[i].image, &whole.layers[i].image));
		sde_result_clear(&rest);
		free(kept.data);
	}
	sde_result_clear(&whole);
}
