/*
 * Looking into cross-attention and editing by it (Prompt-to-Prompt), on the model that ships: each promise by a figure of the picture or of
 * its maps. How words become rows of the context is in test-attention-parts.
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

#include "tests/unit/engine-fixture.h"

#define STEPS 20
#define SEEDS 3
#define SIDE  128
#define CELL  8 /* pixels of a latent */
#define CELLS (SIDE / CELL)

/* Correlation of the map of "house" with redness, cell by cell: 0.55 to 0.75. */
#define HOUSE_CORRELATION_MIN 0.4
/* How much nearer the background stays in an edit than in another picture of the same seed, dB. */
#define BACKGROUND_GAIN_MIN 3.0
/* Of a red house painted blue, samples 0..255: how far its colour goes over from red to blue. */
#define COLOUR_CHANGE_MIN 60.0
/* Red and blue paint lean so far to their channel, skies of the day and of sunsets less. */
#define OF_THE_HOUSE 125
/* Cells count as a word's where they are looked at by so much of its map's peak. */
#define FAR_FROM_WORD 0.2
/* How much nearer what is far from a local blend's word stays with it than without, dB. */
#define BLEND_GAIN_MIN 20.0
/* How much less blue a blue house may be with it, 0..255. */
#define BLUENESS_LOST_MAX 15.0
/* Houses fill half of these pictures. */
#define BACKGROUND_PART 5.0
/* What is left of redness when the word goes. */
#define REDNESS_LEFT_MAX 0.6

static const char red[] = "a red house on the grass by day";
static const char blue[] = "a blue house on the grass by day";

static int setup(void **state)
{
	*state = fixture_with_small();
	return 0;
}

static struct sde_job job_of(const char *prompt, uint64_t seed)
{
	return (struct sde_job){
		.kind = SDE_TXT2IMG,
		.prompt = prompt,
		.seed = seed,
		.steps = STEPS,
		.guidance_scale = -1,
		.count = 1,
		.hires_scale = 1,
		.cross_replace = 0.8,
		.self_replace = 0.4,
		.blend_threshold = 0.3,
		.blend_start = 0.2,
	};
}

static struct sde_result run(struct sde_model *model, const struct sde_job *job)
{
	struct sde_error error = {0};
	struct sde_result result;

	if (sde_job_run(model, job, NULL, &result, &error) < 0)
		fail_msg("%s", error.message);
	return result;
}

static void refuse(struct sde_model *model, const struct sde_job *job, int code, const char *words)
{
	struct sde_error error = {0};
	struct sde_result result;

	assert_int_equal(sde_job_run(model, job, NULL, &result, &error), code);
	if (!strstr(error.message, words))
		fail_msg("'%s' does not say '%s'", error.message, words);
}

static const uint8_t *pixel(const struct sde_result *result, int x, int y)
{
	return (const uint8_t *)sde_image_row(&result->layers[0].image, (uint32_t)y) + 4 * x;
}

static int difference(const struct sde_result *a, const struct sde_result *b)
{
	int most = 0;

	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			for (int c = 0; c < 3; c++) {
				const int d = abs(pixel(a, x, y)[c] - pixel(b, x, y)[c]);

				most = d > most ? d : most;
			}
	return most;
}

/* How much more of one channel than of the mean of the others. */
static double leaning(const uint8_t *rgb, int channel)
{
	return rgb[channel] - (rgb[(channel + 1) % 3] + rgb[(channel + 2) % 3]) / 2.0;
}

static const float *map_of(const struct sde_result *result, const char *word)
{
	for (int i = 0; i < result->n_words; i++)
		if (strcmp(result->words[i].word, word) == 0)
			return (const float *)sde_image_row(&result->maps, (uint32_t)(i * CELLS));
	fail_msg("there is no word %s", word);
	return NULL;
}

static void test_explained_picture_is_the_same(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(red, 1);
	struct sde_result plain = run(f->small, &job), explained;

	job.explain = true;
	explained = run(f->small, &job);
	assert_int_equal(difference(&plain, &explained), 0);
	assert_int_equal(plain.n_words, 0);
	assert_int_equal(explained.n_words, 8);
	assert_string_equal(explained.words[1].word, "red");
	assert_int_equal(explained.maps.width, CELLS);
	assert_int_equal(explained.maps.height, 8 * CELLS);
	sde_result_clear(&plain);
	sde_result_clear(&explained);
}

/* The house is what is red: its word is looked at where the picture is. */
static void test_a_word_is_looked_at_where_its_thing_is(void **state)
{
	const struct fixture *f = *state;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sde_job job = job_of(red, seed);
		double sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0, n = CELLS * CELLS, correlation;
		struct sde_result result;
		const float *map;

		job.explain = true;
		result = run(f->small, &job);
		map = map_of(&result, "house");
		for (int i = 0; i < CELLS * CELLS; i++) {
			double redness = 0;

			for (int k = 0; k < CELL * CELL; k++)
				redness += leaning(pixel(&result, i % CELLS * CELL + k % CELL,
							 i / CELLS * CELL + k / CELL),
						   0) /
					   (CELL * CELL);
			sx += map[i];
			sy += redness;
			sxx += (double)map[i] * map[i];
			syy += redness * redness;
			sxy += map[i] * redness;
		}
		correlation = (n * sxy - sx * sy) / sqrt((n * sxx - sx * sx) * (n * syy - sy * sy));
		print_message("seed %d: map of house and redness correlate by %.2f\n", (int)seed,
			      correlation);
		assert_true(correlation > HOUSE_CORRELATION_MIN);
		sde_result_clear(&result);
	}
}

/* A word that means the same weighted, in brackets and with punctuation behind it, is one word still; a weighted one of many tokens too. */
static void test_words_of_weighted_prompts(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of("((red:1.2) house), on [the] grass", 1);
	static const char *const words[] = {"red", "house", "on", "the", "grass"};
	struct sde_result result;

	job.steps = 1;
	job.explain = true;
	result = run(f->small, &job);
	assert_int_equal(result.n_words, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(result.words[i].word, words[i]);
	sde_result_clear(&result);
}

/* Equal prompts: the edit is the picture itself. */
static void edit_to_itself(struct sde_model *model, const char *prompt, int tolerance)
{
	struct sde_job job = job_of(prompt, 5);
	struct sde_result plain, edited;

	job.steps = 3;
	plain = run(model, &job);
	job.source_prompt = prompt;
	edited = run(model, &job);
	if (plain.layers[0].image.width == SIDE)
		assert_in_range(difference(&plain, &edited), 0, tolerance);
	else
		assert_memory_equal(plain.layers[0].image.data, edited.layers[0].image.data,
				    plain.layers[0].image.stride * plain.layers[0].image.height);
	sde_result_clear(&plain);
	sde_result_clear(&edited);
}

static void test_an_edit_to_itself_changes_nothing(void **state)
{
	struct fixture *f = *state, *oracle = fixture_new("ref", false, 64, 64);
	void *ref = oracle;

	/* rows of a batch need not be those of a call alone, to the last bit, on every machine */
	edit_to_itself(f->small, "a (red:1.3) house, on the grass", 1);
	edit_to_itself(oracle->model, "a (red:1.3) house", 0);
	fixture_free(&ref);
}

/* One cell around it counts for nobody. */
static void mark_around(int y, int x, bool marks[CELLS][CELLS])
{
	for (int v = y - 1; v <= y + 1; v++)
		for (int u = x - 1; u <= x + 1; u++)
			if (v >= 0 && v < CELLS && u >= 0 && u < CELLS)
				marks[v][u] = true;
}

/* A cell is the thing's when it leans to the channel in one of the pictures. */
static void mark(const struct sde_result *result, int channel, bool marks[CELLS][CELLS])
{
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			if (leaning(pixel(result, x, y), channel) > OF_THE_HOUSE)
				mark_around(y / CELL, x / CELL, marks);
}

static double background_psnr(const struct sde_result *a, const struct sde_result *b,
			      bool marks[CELLS][CELLS])
{
	double sum = 0, n = 0;

	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			for (int c = 0; c < 3 && !marks[y / CELL][x / CELL]; c++, n++) {
				const double d = pixel(a, x, y)[c] - pixel(b, x, y)[c];

				sum += d * d;
			}
	assert_true(n > SIDE * SIDE / BACKGROUND_PART);
	return 10 * log10(255.0 * 255.0 * n / fmax(sum, 1e-9));
}

/* Of what is red in the first picture, how far the second leans to a channel. */
static double colour(const struct sde_result *where, const struct sde_result *of, int channel)
{
	double sum = 0, n = 0;

	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			if (leaning(pixel(where, x, y), 0) > OF_THE_HOUSE) {
				sum += leaning(pixel(of, x, y), channel);
				n++;
			}
	assert_true(n > 200);
	return sum / n;
}

/* Another colour of the house: the house changes, all else stays nearer than in a picture of its own. */
static void test_a_replaced_colour(void **state)
{
	const struct fixture *f = *state;
	double near = 0, far = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sde_job job = job_of(red, seed);
		struct sde_result source = run(f->small, &job), other, edited;
		bool marks[CELLS][CELLS] = {0};
		double change;

		job.prompt = blue;
		other = run(f->small, &job);
		job.source_prompt = red;
		edited = run(f->small, &job);
		mark(&source, 0, marks);
		mark(&other, 2, marks);
		mark(&edited, 2, marks);
		near += background_psnr(&source, &edited, marks) / SEEDS;
		far += background_psnr(&source, &other, marks) / SEEDS;
		change = colour(&source, &edited, 2) - colour(&source, &source, 2);
		print_message("seed %d: the house is %.0f of 255 bluer\n", (int)seed, change);
		assert_true(change > COLOUR_CHANGE_MIN);
		sde_result_clear(&source);
		sde_result_clear(&other);
		sde_result_clear(&edited);
	}
	print_message("backgrounds are %.1f dB near the source's, new pictures' %.1f\n", near, far);
	assert_true(near > far + BACKGROUND_GAIN_MIN);
}

/* Cells that a word is looked at by at least this part of its map's peak, and those around them. */
static void mark_word(const struct sde_result *explained, const char *word, double part,
		      bool marks[CELLS][CELLS])
{
	const float *map = map_of(explained, word);
	float peak = 0;

	for (int i = 0; i < CELLS * CELLS; i++)
		peak = fmaxf(peak, map[i]);
	for (int i = 0; i < CELLS * CELLS; i++)
		if (map[i] >= part * peak)
			mark_around(i / CELLS, i % CELLS, marks);
}

/*
 * Local blend. With "house" as its word, day becoming night leaves what is far from the house nearly as it was, where without everything
 * becomes dark; and a blue house becomes as blue as without.
 */
static void test_local_blend(void **state)
{
	static const char *const words[] = {"house"};
	const struct fixture *f = *state;
	double far[2] = {0}, blueness[2] = {0};

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sde_job job = job_of(red, seed);
		bool marks[CELLS][CELLS] = {0};
		struct sde_result source;

		job.explain = true;
		source = run(f->small, &job);
		mark_word(&source, words[0], FAR_FROM_WORD, marks);
		job.explain = false;
		job.source_prompt = red;
		job.local_blend = words;
		for (int i = 0; i < 2; i++) {
			struct sde_result dark, edited;

			job.n_local_blend = (size_t)i;
			job.prompt = "a red house on the grass at night";
			dark = run(f->small, &job);
			job.prompt = blue;
			edited = run(f->small, &job);
			far[i] += background_psnr(&source, &dark, marks) / SEEDS;
			blueness[i] += colour(&source, &edited, 2) / SEEDS;
			sde_result_clear(&dark);
			sde_result_clear(&edited);
		}
		sde_result_clear(&source);
	}
	print_message("by night, far from the house: %.1f dB with local blend, %.1f without; a "
		      "blue one leans to blue by %.0f and %.0f\n",
		      far[1], far[0], blueness[1], blueness[0]);
	assert_true(far[1] > far[0] + BLEND_GAIN_MIN);
	assert_true(blueness[1] > blueness[0] - BLUENESS_LOST_MAX);
}

/* A word without weight is gone, and one of half its weight is there in part. */
static void test_weights_of_words(void **state)
{
	static const double weights[] = {0, 0.5};
	const struct fixture *f = *state;
	double found[2] = {0}, plain = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sde_job job = job_of(red, seed);
		const struct sde_result source = run(f->small, &job);

		plain += colour(&source, &source, 0) / SEEDS;
		for (int i = 0; i < 2; i++) {
			const struct sde_word_weight weight = {"RED", weights[i]};
			struct sde_result result;

			job.word_weights = &weight;
			job.n_word_weights = 1;
			result = run(f->small, &job);
			found[i] += colour(&source, &result, 0) / SEEDS;
			sde_result_clear(&result);
		}
		sde_result_clear((struct sde_result *)&source);
	}
	print_message("redness of the house is %.0f, with weight 0 %.0f, with a half %.0f\n", plain,
		      found[0], found[1]);
	assert_true(found[0] < REDNESS_LEFT_MAX * plain);
	assert_true(found[1] > found[0] && found[1] < plain);
}

/* Shorter spans of the source's attention leave more to the new prompt; none at all leaves everything. */
static void test_fractions(void **state)
{
	const struct fixture *f = *state;
	struct sde_job job = job_of(blue, 1);
	struct sde_result plain = run(f->small, &job), edited;

	job.source_prompt = red;
	job.cross_replace = job.self_replace = 0;
	edited = run(f->small, &job);
	assert_in_range(difference(&plain, &edited), 0, 1);
	sde_result_clear(&edited);
	job.self_replace = 0.1;
	edited = run(f->small, &job);
	assert_true(difference(&plain, &edited) > 1);
	sde_result_clear(&edited);
	sde_result_clear(&plain);
}

/* A part that nothing reaches leaves the source, whatever word of either prompt is named; one that everything reaches leaves the edit. */
static void test_ends_of_local_blend(void **state)
{
	static const char *const words[] = {"BLUE", "red house"};
	const struct fixture *f = *state;
	struct sde_job job = job_of(red, 1);
	struct sde_result source, edit, ends[2];

	job.steps = 4;
	source = run(f->small, &job);
	job.source_prompt = red;
	job.prompt = blue;
	edit = run(f->small, &job);
	job.local_blend = words;
	job.n_local_blend = 2;
	for (int i = 0; i < 2; i++) {
		job.blend_threshold = i;
		ends[i] = run(f->small, &job);
	}
	assert_in_range(difference(&edit, &ends[0]), 0, 1);
	assert_in_range(difference(&source, &ends[1]), 0, 1);
	assert_true(difference(&source, &edit) > 20);
	for (int i = 0; i < 2; i++)
		sde_result_clear(&ends[i]);
	sde_result_clear(&edit);
	sde_result_clear(&source);
}

/* A file of which the U-Net's numbers are none: what is told of words is finite, as the protocol takes nothing else. */
static void test_words_of_a_broken_model(void **state)
{
	struct fixture *f = *state;
	struct sde_job job = job_of(red, 1);
	char folder[] = "/tmp/sdd-test-attention-XXXXXX", command[4400], path[128];
	unsigned char *bytes;
	uint64_t header;
	struct sde_model *model;
	struct sde_result result;
	FILE *file;
	size_t size;

	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command), "cp -r '%s/models/sd15/.' '%s'",
		 getenv("SDD_GOLDEN_DATA"), folder);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof(path), "%s/unet/diffusion_pytorch_model.safetensors", folder);
	file = fopen(path, "r+e");
	assert_non_null(file);
	assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	size = (size_t)ftell(file) - 8 - header;
	bytes = malloc(size);
	assert_non_null(bytes);
	memset(bytes, 0xff, size);
	assert_int_equal(fseek(file, (long)(8 + header), SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, size, 1, file), 1);
	assert_int_equal(fclose(file), 0);
	free(bytes);
	model = fixture_load_path(f->engine, folder);
	job.explain = true;
	job.width = job.height = 64;
	job.steps = 2;
	result = run(model, &job);
	assert_int_equal(result.n_words, 8);
	for (int i = 0; i < result.n_words; i++)
		assert_true(isfinite(result.words[i].share) && isfinite(result.words[i].peak));
	sde_result_clear(&result);
	sde_model_unref(model);
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	assert_int_equal(system(command), 0);
}

static void test_refusals(void **state)
{
	static const struct sde_word_weight absent = {"green", 2}, huge = {"red", 11};
	const struct sde_region region = {.prompt = "sky", .width = 64, .height = 64, .weight = 1};
	struct fixture *f = *state;
	struct sde_model *sd3 = fixture_load(f->engine, "sd3");
	struct sde_job job = job_of(red, 1);
	char longest[64 * sizeof("a BREAK ")] = "";

	job.explain = true;
	refuse(sd3, &job, -ENOTSUP, "SD3Transformer2DModel");
	job.count = 2;
	refuse(f->small, &job, -EINVAL, "one picture, not 2");
	job.count = 1;
	job.prompt = "a [red:blue:0.5] house";
	refuse(f->small, &job, -EINVAL, "change with the steps");
	job.prompt = red;
	job.hires_scale = 1.5;
	refuse(f->small, &job, -EINVAL, "hires_scale");
	job.hires_scale = 1;
	job.regions = &region;
	job.n_regions = 1;
	refuse(f->small, &job, -EINVAL, "regions");
	job.n_regions = 0;
	job.width = 2 * SIDE;
	job.tiles = SDE_TILES_ON;
	refuse(f->small, &job, -EINVAL, "tiles");
	job = job_of(red, 1);
	job.source_prompt = "a house";
	job.edit = SDE_EDIT_REPLACE;
	refuse(f->small, &job, -EINVAL, "equally many words");
	job.cross_replace = 1.5;
	refuse(f->small, &job, -EINVAL, "cross_replace");
	job = job_of(red, 1);
	job.n_local_blend = 1;
	job.local_blend = (const char *[]){"house"};
	refuse(f->small, &job, -EINVAL, "local_blend is for edits");
	job.source_prompt = blue;
	job.local_blend = (const char *[]){"green"};
	refuse(f->small, &job, -EINVAL, "neither prompt has a word 'green'");
	job.blend_threshold = -0.1;
	refuse(f->small, &job, -EINVAL, "blend_threshold must be 0 to 1, not -0.1");
	job = job_of(red, 1);
	job.n_word_weights = 1;
	job.word_weights = &absent;
	refuse(f->small, &job, -EINVAL, "no word 'green'");
	job.word_weights = &huge;
	refuse(f->small, &job, -EINVAL, "not 11");
	for (int i = 0; i < 64; i++)
		strcat(longest, "a BREAK ");
	job = job_of(longest, 1);
	job.width = job.height = 1024;
	job.tiles = SDE_TILES_OFF;
	job.explain = true;
	refuse(f->small, &job, -EINVAL, "1024 x 1024 with prompts of 4928 tokens is too large");
	sde_model_unref(sd3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_explained_picture_is_the_same),
		cmocka_unit_test(test_a_word_is_looked_at_where_its_thing_is),
		cmocka_unit_test(test_words_of_weighted_prompts),
		cmocka_unit_test(test_an_edit_to_itself_changes_nothing),
		cmocka_unit_test(test_a_replaced_colour),
		cmocka_unit_test(test_local_blend),
		cmocka_unit_test(test_weights_of_words),
		cmocka_unit_test(test_fractions),
		cmocka_unit_test(test_ends_of_local_blend),
		cmocka_unit_test(test_words_of_a_broken_model),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, setup, fixture_free);
}
