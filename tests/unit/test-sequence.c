/*
 * Pictures between pictures and latent arithmetic, on the small model that ships: what interpolation keeps of the noise, where a
 * sequence begins and ends, how far its pictures lie from both ends, and that a - b + c is what it should be.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/pipelines/noise.h"
#include "tests/unit/latent-pictures.h"

#define FRAMES	5
#define PAIRS	6
#define LATENTS (4 * 64 * 64)

static const double positions[FRAMES] = {0, 0.25, 0.5, 0.75, 1};

static int setup(void **state)
{
	*state = fixture_with_small();
	return 0;
}

/* Noise half way between two seeds: unit variance by slerp, half of it by lerp; whatever generator it is. */
static void test_noise_between_seeds(void **state)
{
	static float values[LATENTS];

	for (int kind = SDE_RNG_TORCH_CPU; kind <= SDE_RNG_PHILOX; kind++)
		for (int straight = 0; straight < 2; straight++)
			for (int i = 0; i < FRAMES; i++) {
				const double t = positions[i];
				struct sde_rng rng, other;
				struct sde_noise noise = {.rngs = &rng,
							  .n_rngs = 1,
							  .other = &other,
							  .share = t,
							  .straight = straight};
				const double wanted = straight ? t * t + (1 - t) * (1 - t) : 1;
				struct sde_error error;
				double sum = 0;

				sde_rng_seed(&rng, (enum sde_rng_kind)kind, 1);
				sde_rng_seed(&other, (enum sde_rng_kind)kind, 2);
				assert_int_equal(sde_noise_draw(&noise, values, 1, LATENTS, &error),
						 0);
				for (size_t k = 0; k < LATENTS; k++)
					sum += (double)values[k] * values[k];
				print_message("%s at %.2f: variance %.3f\n",
					      straight ? "lerp" : "slerp", t, sum / LATENTS);
				/* four standard errors of a variance of so many draws */
				assert_true(fabs(sum / LATENTS - wanted) <
					    4 * sqrt(2.0 / LATENTS) + 1e-6);
			}
}

/* Distances of a sequence's pictures from its first and last, summed over several sequences. */
struct way {
	double from_first[FRAMES], to_last[FRAMES];
};

/* A sequence from one job to another: its ends are these jobs' bytes. */
static void go(struct sde_model *model, struct sde_job *job, const struct sde_waypoint *waypoint,
	       const struct sde_job *to, struct way *way)
{
	struct sde_result first = run(model, job), last = run(model, to), found;

	job->waypoints = waypoint;
	job->n_waypoints = 1;
	job->positions = positions;
	job->n_positions = FRAMES;
	found = run(model, job);
	assert_int_equal(found.count, FRAMES);
	assert_true(same(&found.layers[0].image, &first.layers[0].image));
	assert_true(same(&found.layers[FRAMES - 1].image, &last.layers[0].image));
	for (int i = 0; i < FRAMES; i++) {
		assert_int_equal(found.layers[i].seed, job->seed);
		way->from_first[i] += distance(&found.layers[i].image, &first.layers[0].image);
		way->to_last[i] += distance(&found.layers[i].image, &last.layers[0].image);
	}
	sde_result_clear(&found);
	sde_result_clear(&first);
	sde_result_clear(&last);
}

/* Each picture is farther from the first than the one before, less what it is nearer to the last. */
static void assert_one_way(const struct way *way, const char *what)
{
	for (int i = 0; i < FRAMES; i++) {
		print_message("%s %.2f: %.1f from the first, %.1f from the last\n", what,
			      positions[i], way->from_first[i], way->to_last[i]);
		if (i > 0)
			assert_true(way->from_first[i] - way->to_last[i] >
				    way->from_first[i - 1] - way->to_last[i - 1]);
	}
}

static void test_prompts(void **state)
{
	const struct fixture *f = *state;
	const struct sde_waypoint waypoint = {.prompt = "a blue boat at sea"};
	struct sde_job job = latent_job("a red house on the grass"), to = job;
	struct way way = {0};

	to.prompt = waypoint.prompt;
	go(f->small, &job, &waypoint, &to, &way);
	assert_one_way(&way, "prompts");
}

/* What a seed's noise becomes is chaotic: one way in the mean of some. An ancestral sampler's own noise is interpolated, too. */
static void test_seeds(void **state)
{
	const struct fixture *f = *state;
	struct way way = {0};

	for (uint64_t seed = 1; seed <= PAIRS; seed++) {
		const struct sde_waypoint waypoint = {.has_seed = true, .seed = 100 + seed};
		struct sde_job job = latent_job("a red house on the grass"), to;

		job.seed = seed;
		job.sampler = seed % 2 ? NULL : "Euler a";
		to = job;
		to.seed = 100 + seed;
		go(f->small, &job, &waypoint, &to, &way);
	}
	assert_one_way(&way, "seeds, sum");
}

static void test_pictures(void **state)
{
	const struct fixture *f = *state;
	struct sde_image from = paint(f->small, "a red house on the grass", 1);
	struct sde_image to = paint(f->small, "a red house on the snow at night", 2);
	const struct sde_waypoint waypoint = {.image = &to};
	struct sde_job job = latent_job("a red house"), last;
	struct way way = {0};

	job.kind = SDE_IMG2IMG;
	job.image = &from;
	job.strength = 0.3;
	last = job;
	last.image = &to;
	go(f->small, &job, &waypoint, &last, &way);
	assert_one_way(&way, "pictures");
	sde_image_clear(&from);
	sde_image_clear(&to);
}

struct told {
	int n;
	struct sde_image last; /* copy */
};

static void on_picture(void *userdata, int i, const struct sde_layer *layer)
{
	struct told *told = userdata;

	assert_int_equal(i, told->n++);
	sde_image_clear(&told->last);
	told->last = opaque(&layer->image);
}

/* Each picture is told of once, in order, before the end; all of it goes on behind any step, noise of the sampler's own included. */
static void test_pictures_are_told_and_it_resumes(void **state)
{
	static const double three[] = {0.5, 1, 1.25};
	const struct sde_waypoint waypoints[] = {{.prompt = "a boat", .has_seed = true, .seed = 3},
						 {.prompt = "a bird", .has_seed = true, .seed = 4}};
	const struct fixture *f = *state;
	struct sde_job job = latent_job("a house");
	struct told told = {0};
	const struct sde_hooks hooks = {.picture = on_picture, .userdata = &told};
	struct sde_result result;
	struct sde_image last;

	job.sampler = "Euler a";
	job.steps = 3; /* the last draws for nothing */
	job.waypoints = waypoints;
	job.n_waypoints = 2;
	job.positions = three;
	job.n_positions = 3;
	result = run_with(f->model, &job, &hooks);
	assert_int_equal(told.n, 3);
	last = opaque(&result.layers[2].image);
	assert_true(same(&told.last, &last));
	sde_image_clear(&last);
	sde_image_clear(&told.last);
	sde_result_clear(&result);
	resumes_everywhere(f->model, &job, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_noise_between_seeds),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_seeds),
		cmocka_unit_test(test_pictures),
		cmocka_unit_test(test_pictures_are_told_and_it_resumes),
	};

	return cmocka_run_group_tests_name("sequence", tests, setup, fixture_free);
}
