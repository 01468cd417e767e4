/*
 * Latent arithmetic and DDIM inversion on the small model that ships: a - b + c is nearer to what it should be than c, an inverted
 * picture comes back, and another prompt changes the object and little else.
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

#include "tests/unit/latent-pictures.h"

#define SIDE	      128
#define MARGIN	      6	   /* pixels around an object */
#define BACK_PSNR_MIN 21.0 /* 10 steps; the autoencoder alone: about 29 */
#define SDXL_PSNR_MIN 18.0

static int setup(void **state)
{
	*state = fixture_with_small();
	return 0;
}

/* Of the samples inside a rectangle, or with outside those around it. */
static double psnr(const struct sde_image *a, const struct sde_image *b, const int box[4],
		   bool outside)
{
	double sum = 0, n = 0;

	for (uint32_t y = 0; y < a->height; y++)
		for (uint32_t x = 0; x < a->width; x++) {
			const bool in = (int)x >= box[0] && (int)x < box[2] && (int)y >= box[1] &&
					(int)y < box[3];
			const uint8_t *p = sde_image_row(a, y), *q = sde_image_row(b, y);

			for (uint32_t c = 0; in != outside && c < 3; c++, n++)
				sum += pow(p[x * a->channels + c] - q[x * b->channels + c], 2);
		}
	return 10 * log10(255.0 * 255 * n / sum);
}

/* Red less blue, mean of a rectangle. */
static double redness(const struct sde_image *image, const int box[4])
{
	double sum = 0;

	for (int y = box[1]; y < box[3]; y++)
		for (int x = box[0]; x < box[2]; x++) {
			const uint8_t *p = (uint8_t *)sde_image_row(image, (uint32_t)y) +
					   (size_t)x * image->channels;

			sum += p[0] - p[2];
		}
	return sum / ((box[2] - box[0]) * (double)(box[3] - box[1]));
}

/* The bounds of what is dark red, a few pixels wider. */
static void find_object(const struct sde_image *image, int box[4])
{
	const int side = (int)image->width;

	box[0] = box[1] = side;
	box[2] = box[3] = 0;
	for (int y = 0; y < side; y++)
		for (int x = 0; x < side; x++) {
			const uint8_t *p = (uint8_t *)sde_image_row(image, (uint32_t)y) +
					   (size_t)x * image->channels;

			if (p[0] < 100 || p[1] > 80 || p[2] > 80)
				continue;
			box[0] = x - MARGIN < box[0] ? x - MARGIN : box[0];
			box[1] = y - MARGIN < box[1] ? y - MARGIN : box[1];
			box[2] = x + MARGIN > box[2] ? x + MARGIN : box[2];
			box[3] = y + MARGIN > box[3] ? y + MARGIN : box[3];
		}
	for (int i = 0; i < 4; i++)
		box[i] = box[i] < 0 ? 0 : box[i] > side ? side : box[i];
	assert_true(box[2] - box[0] > side / 4 && box[3] - box[1] > side / 4);
}

/* A red house less a blue house, and a blue car: a red car, the very one that its own prompt paints, nearly. */
static void test_arithmetic_of_prompts(void **state)
{
	const struct sde_direction direction = {
		.plus = "a red house", .minus = "a blue house", .weight = 1};
	const struct fixture *f = *state;

	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct sde_job job = latent_job("a blue car on the grass by day");
		struct sde_result plain, sum, wanted;
		double before, after;

		job.seed = seed;
		plain = run(f->small, &job);
		job.directions = &direction;
		job.n_directions = 1;
		sum = run(f->small, &job);
		job.n_directions = 0;
		job.prompt = "a red car on the grass by day";
		wanted = run(f->small, &job);
		before = distance(&plain.layers[0].image, &wanted.layers[0].image);
		after = distance(&sum.layers[0].image, &wanted.layers[0].image);
		print_message("blue car %.1f of 255 from red car, plus red less blue house %.1f\n",
			      before, after);
		assert_true(after < before / 2);
		sde_result_clear(&plain);
		sde_result_clear(&sum);
		sde_result_clear(&wanted);
	}
}

static struct sde_image flat(uint8_t r, uint8_t g, uint8_t b)
{
	struct sde_error error;
	struct sde_image image;

	assert_int_equal(sde_image_new(SIDE, SIDE, 3, SDE_PIXEL_U8, &image, &error), 0);
	for (uint32_t y = 0; y < SIDE; y++)
		for (uint32_t x = 0; x < SIDE; x++)
			memcpy((uint8_t *)sde_image_row(&image, y) + 3 * x, (uint8_t[]){r, g, b},
			       3);
	return image;
}

/* Orange less blue, as pictures: the more of it, the redder; none of it changes no byte. */
static void test_arithmetic_of_pictures(void **state)
{
	static const double weights[] = {-0.5, 0, 0.5};
	static const int all[] = {0, 0, SIDE, SIDE};
	const struct fixture *f = *state;
	struct sde_image source = paint(f->small, "a white house in the snow by day", 1);
	struct sde_image plus = flat(255, 160, 60), minus = flat(60, 160, 255);
	struct sde_job job = latent_job("a white house in the snow by day");
	double before = -INFINITY;
	struct sde_result plain;

	job.kind = SDE_IMG2IMG;
	job.image = &source;
	job.strength = 0.2;
	plain = run(f->small, &job);
	for (size_t i = 0; i < 3; i++) {
		const struct sde_direction direction = {
			.plus_image = &plus, .minus_image = &minus, .weight = weights[i]};
		struct sde_result sum;
		double found;

		job.directions = &direction;
		job.n_directions = 1;
		sum = run(f->small, &job);
		found = redness(&sum.layers[0].image, all);
		print_message("orange less blue, %.1f of it: red less blue %.1f of 255\n",
			      weights[i], found);
		assert_true(found > before + 20);
		assert_int_equal(same(&sum.layers[0].image, &plain.layers[0].image), i == 1);
		before = found;
		sde_result_clear(&sum);
	}
	sde_result_clear(&plain);
	sde_image_clear(&source);
	sde_image_clear(&plus);
	sde_image_clear(&minus);
}

static struct sde_job inversion_of(const struct sde_image *source, const char *source_prompt)
{
	struct sde_job job = latent_job(source_prompt);

	job.kind = SDE_IMG2IMG;
	job.image = source;
	job.strength = 1;
	job.steps = 10;
	job.noising = SDE_NOISING_INVERT;
	job.source_prompt = source_prompt;
	return job;
}

/*
 * The same prompt gives the picture back, at any guidance; drawn noise does not, at any. Another colour in the prompt changes the object
 * and keeps what is around it.
 */
static void test_inversion(void **state)
{
	static const int all[] = {0, 0, SIDE, SIDE};
	static const char was[] = "a red house on the grass by day";
	const struct fixture *f = *state;

	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct sde_image source = paint(f->small, was, seed);
		struct sde_job job = inversion_of(&source, was);
		struct sde_result back, guided, drawn, edited;
		int box[4];

		job.guidance_scale = 1;
		back = run(f->small, &job);
		assert_string_equal(back.sampler, "DDIM");
		assert_int_equal(back.steps_run, 2 * job.steps);
		job.guidance_scale = 4;
		guided = run(f->small, &job);
		job.prompt = "a blue house on the grass by day";
		edited = run(f->small, &job);
		job.prompt = was;
		job.noising = SDE_NOISING_DRAW;
		job.source_prompt = NULL;
		job.sampler = "DDIM";
		drawn = run(f->small, &job);
		find_object(&source, box);
		print_message("the picture comes back at %.1f dB, with guidance at %.1f, from "
			      "drawn noise at %.1f\n",
			      psnr(&back.layers[0].image, &source, all, false),
			      psnr(&guided.layers[0].image, &source, all, false),
			      psnr(&drawn.layers[0].image, &source, all, false));
		print_message("blue: %.1f dB where the house is (red less blue %.1f, was %.1f), "
			      "%.1f dB around it\n",
			      psnr(&edited.layers[0].image, &source, box, false),
			      redness(&edited.layers[0].image, box), redness(&source, box),
			      psnr(&edited.layers[0].image, &source, box, true));
		assert_true(psnr(&back.layers[0].image, &source, all, false) > BACK_PSNR_MIN);
		assert_true(psnr(&guided.layers[0].image, &source, all, false) > BACK_PSNR_MIN);
		assert_true(psnr(&drawn.layers[0].image, &source, all, false) < 18);
		assert_true(psnr(&edited.layers[0].image, &source, box, true) >
			    psnr(&edited.layers[0].image, &source, box, false) + 6);
		assert_true(redness(&edited.layers[0].image, box) < redness(&source, box) - 60);
		sde_result_clear(&back);
		sde_result_clear(&guided);
		sde_result_clear(&drawn);
		sde_result_clear(&edited);
		sde_image_clear(&source);
	}
}

/* The smallest way there and back that a job can go: what the autoencoder alone makes of a picture. */
static struct sde_result nearly_nothing(struct sde_model *model, struct sde_job job)
{
	job.strength = 1.0 / job.steps;
	return run(model, &job);
}

/*
 * SDXL is told the prompt's pooled row and the picture's size beside its words, on the way to noise as on the way back. The network here
 * is one of random weights, so that a short way is far, and what it is told counts: without the pooled row the picture comes back at
 * 15.2 dB, without the size at 16.9.
 */
static void test_inversion_with_sdxl(void **state)
{
	static const int all[] = {0, 0, 64, 64};
	const struct fixture *f = *state;
	struct sde_model *sdxl = fixture_load(f->engine, "sdxl");
	struct sde_job job = inversion_of(&f->canvas, "a red house");
	struct sde_result source, results[4];
	double back[4];

	job.steps = 100;
	job.strength = 0.2;
	job.guidance_scale = 1;
	source = nearly_nothing(sdxl, job);
	results[0] = run(sdxl, &job);
	job.guidance_scale = 4;
	results[1] = run(sdxl, &job);
	job.prompt = "a boat";
	results[2] = run(sdxl, &job);
	job.prompt = job.source_prompt;
	job.noising = SDE_NOISING_DRAW;
	job.source_prompt = NULL;
	job.sampler = "DDIM";
	results[3] = run(sdxl, &job);
	for (int i = 0; i < 4; i++) {
		back[i] = psnr(&results[i].layers[0].image, &source.layers[0].image, all, false);
		sde_result_clear(&results[i]);
	}
	print_message("SDXL: the picture comes back at %.1f dB, with guidance at %.1f, under "
		      "another prompt at %.1f, from drawn noise at %.1f\n",
		      back[0], back[1], back[2], back[3]);
	assert_true(back[0] > SDXL_PSNR_MIN && back[1] > SDXL_PSNR_MIN);
	assert_true(back[2] < SDXL_PSNR_MIN - 4 && back[3] < SDXL_PSNR_MIN - 4);
	sde_result_clear(&source);
	sde_model_unref(sdxl);
}

/* Interrupted behind each step of either way, it ends in the same bytes. */
static void test_inversion_resumes(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = inversion_of(&f->canvas, "stripes");

	job.prompt = "a house";
	job.steps = 3;
	resumes_everywhere(f->model, &job, 6);
}

static void test_bad_values(void **state)
{
	const struct fixture *f = *state;
	struct sde_image other = flat(0, 0, 0);
	const struct sde_waypoint to_other = {.image = &other};
	const double far = 1.5, next = 1;
	const struct sde_direction much = {.plus = "a", .weight = 11};
	struct sde_job jobs[7];
	static const char *const messages[] = {"needs source_prompt",	   "needs the sampler DDIM",
					       "only img2img jobs invert", "must be of one size",
					       "positions.0 must be",	   "weight must be",
					       "strength must be above 0"};

	for (size_t i = 0; i < 7; i++) {
		struct sde_error error = {0};
		struct sde_result result;

		jobs[i] = i < 3 ? inversion_of(&f->canvas, "a") : latent_job("a");
		if (i == 0)
			jobs[i].source_prompt = NULL;
		if (i == 1)
			jobs[i].sampler = "Euler a";
		if (i == 2)
			jobs[i].kind = SDE_TXT2IMG;
		if (i == 3 || i == 4 || i == 6) {
			jobs[i].kind = SDE_IMG2IMG;
			jobs[i].image = i == 3 ? &f->canvas : &other;
			jobs[i].strength = i == 6 ? 0 : 1;
			jobs[i].waypoints = &to_other;
			jobs[i].n_waypoints = 1;
			jobs[i].positions = i == 4 ? &far : &next;
			jobs[i].n_positions = 1;
		}
		if (i == 5) {
			jobs[i].directions = &much;
			jobs[i].n_directions = 1;
		}
		assert_int_equal(sde_job_run(f->model, &jobs[i], NULL, &result, &error), -EINVAL);
		if (!strstr(error.message, messages[i]))
			fail_msg("\"%s\" does not say \"%s\"", error.message, messages[i]);
	}
	sde_image_clear(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arithmetic_of_prompts),
		cmocka_unit_test(test_arithmetic_of_pictures),
		cmocka_unit_test(test_inversion_with_sdxl),
		cmocka_unit_test(test_inversion),
		cmocka_unit_test(test_inversion_resumes),
		cmocka_unit_test(test_bad_values),
	};

	return cmocka_run_group_tests_name("inversion", tests, setup, fixture_free);
}
