/*
 * The parts behind edits and explanations by themselves: maps out of a plan against the attention that the plan computes, gathering at
 * another size, words and their rows, and how two prompts are aligned.
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

#include "daemon/engine/attention/align.h"
#include "daemon/engine/attention/blend.h"
#include "daemon/engine/attention/edit.h"
#include "daemon/engine/attention/maps.h"
#include "kernels/plan.h"
#include "kernels/watch.h"

#define ROWS	 3
#define QUERIES	 35
#define KEYS	 77
#define HEADS	 4
#define CHANNELS 40

/* ---------------------------------------------------------------- kernels */

struct onlooker {
	double furthest_sum; /* of a map's row from 1 */
	double furthest_out; /* of map v from what the backend computed */
	int calls;
	bool stop;
};

/* What the attention's result must be: the maps times the values, added to nothing. */
static int judge(void *userdata, const struct sdk_attention_site *site)
{
	static float work[(KEYS + 1) * CHANNELS], map[QUERIES * KEYS];
	struct onlooker *onlooker = userdata;
	const size_t n = (size_t)ROWS * QUERIES * CHANNELS;
	float *out = calloc(n, sizeof(*out));
	void *computed = malloc(n * sizeof(float));
	struct sdk_attention_site mine = *site;

	assert_int_equal(site->site, 7);
	assert_int_equal(site->rows, ROWS);
	assert_true(sdk_attention_work(site) <= sizeof(work) / sizeof(*work));
	memcpy(computed, site->out, n * sdk_type_size(site->type));
	mine.out = computed;
	sdk_narrow(site->type, out, computed, n);
	for (int row = 0; row < ROWS; row++)
		for (int head = 0; head < HEADS; head++) {
			sdk_attention_map(&mine, row, head, work, map);
			for (int i = 0; i < QUERIES; i++) {
				double sum = 0;

				for (int j = 0; j < KEYS; j++)
					sum += map[i * KEYS + j];
				onlooker->furthest_sum =
					fmax(onlooker->furthest_sum, fabs(sum - 1));
			}
			sdk_attention_add(&mine, row, head, map, work);
		}
	for (size_t i = 0; i < n; i++) {
		const size_t at = i * sdk_type_size(site->type);
		float a, b;

		sdk_widen(site->type, (char *)site->out + at, &a, 1);
		sdk_widen(site->type, (char *)computed + at, &b, 1);
		onlooker->furthest_out = fmax(onlooker->furthest_out, fabs(a - b));
	}
	free(out);
	free(computed);
	onlooker->calls++;
	return onlooker->stop ? -EIO : 0;
}

static float noise(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (float)(int32_t)(*state >> 32) / 1e9f;
}

static void watch_on(const char *name, const char *dtype, double tolerance)
{
	const struct sdk_backend_options options = {.name = name, .dtype = dtype, .threads = 1};
	const size_t n_out = (size_t)ROWS * QUERIES * CHANNELS;
	struct onlooker onlooker = {0};
	const struct sdk_attention_watch watch = {.after = judge, .userdata = &onlooker};
	static float q[ROWS * QUERIES * CHANNELS], k[ROWS * KEYS * CHANNELS],
		v[ROWS * KEYS * CHANNELS];
	float *seen = calloc(n_out, sizeof(*seen)), *plain = calloc(n_out, sizeof(*plain));
	struct sdk_backend *backend;
	uint64_t state = 3;
	char text[256];

	assert_int_equal(sdk_backend_open(&options, &backend, text, sizeof(text)), 0);
	for (size_t i = 0; i < sizeof(q) / sizeof(*q); i++)
		q[i] = noise(&state);
	for (size_t i = 0; i < sizeof(k) / sizeof(*k); i++) {
		k[i] = noise(&state);
		v[i] = noise(&state);
	}
	for (int watched = 0; watched < 2; watched++) {
		struct sdk_plan *plan = sdk_plan_new(backend);
		const sdk_value in[] = {sdk_input(plan, ROWS, 1, QUERIES, CHANNELS),
					sdk_input(plan, ROWS, 1, KEYS, CHANNELS),
					sdk_input(plan, ROWS, 1, KEYS, CHANNELS)};
		const sdk_value out = sdk_output(
			plan,
			watched ? sdk_attention_watched(plan, in[0], in[1], in[2], HEADS, 0.7f, 7)
				: sdk_attention(plan, in[0], in[1], in[2], HEADS, 0.7f, false));

		assert_int_equal(sdk_plan_compile(plan), 0);
		assert_int_equal(sdk_plan_set(plan, in[0], q), 0);
		assert_int_equal(sdk_plan_set(plan, in[1], k), 0);
		assert_int_equal(sdk_plan_set(plan, in[2], v), 0);
		sdk_plan_watch(plan, &watch);
		assert_int_equal(sdk_plan_run(plan, NULL), 0);
		assert_int_equal(onlooker.calls, watched);
		assert_int_equal(sdk_plan_get(plan, out, watched ? seen : plain), 0);
		onlooker.stop = watched;
		if (watched)
			assert_int_equal(sdk_plan_run(plan, NULL), -EIO);
		sdk_plan_free(plan);
	}
	assert_memory_equal(seen, plain, n_out * sizeof(*seen));
	print_message("%s, %s: rows of maps sum to 1 within %.1e; map v is within %.1e of what the "
		      "backend computed\n",
		      name, dtype, onlooker.furthest_sum, onlooker.furthest_out);
	assert_true(onlooker.furthest_sum < 1e-5);
	assert_true(onlooker.furthest_out < tolerance);
	free(seen);
	free(plain);
	sdk_backend_close(backend);
}

static void test_maps_are_those_of_the_op(void **state)
{
	watch_on("ref", "f32", 1e-5);
	watch_on("cpu", "f32", 1e-5);
	watch_on("cpu", "auto", 4e-2);
}

/* ---------------------------------------------------------------- gathering */

/* Layers of odd sizes come to the size of the latents; shares still sum to one, and a corner stays in its corner. */
static void test_gathering(void **state)
{
	static const int sizes[][2] = {{9, 7}, {5, 4}, {3, 2}};
	struct sde_maps maps = {.height = 9, .width = 7};
	float first[63], second[63], most = 0;

	for (size_t s = 0; s < 3; s++) {
		const int n = sizes[s][0] * sizes[s][1];
		float layer[63 * 2];

		for (int i = 0; i < n; i++) {
			layer[2 * i] = i == 0 ? 0.9f : 0.2f;
			layer[2 * i + 1] = 1 - layer[2 * i];
		}
		assert_int_equal(sde_maps_add(&maps, (size_t)n, 2, layer), 0);
		assert_int_equal(sde_maps_add(&maps, (size_t)n + 100, 2, layer), -EINVAL);
		assert_int_equal(sde_maps_add(&maps, (size_t)n, 3, layer), -EINVAL);
	}
	sde_maps_token(&maps, 0, first);
	sde_maps_token(&maps, 1, second);
	for (int i = 0; i < 63; i++) {
		assert_true(fabsf(first[i] + second[i] - 1) < 1e-6f);
		most = fmaxf(most, first[i]);
	}
	assert_true(first[0] == most && fabsf(first[0] - 0.9f) < 1e-6f);
	assert_true(fabsf(first[62] - 0.2f) < 1e-6f);
	sde_maps_clear(&maps);
}

/* ---------------------------------------------------------------- words */

struct read {
	struct sde_prompt prompt;
	struct sde_prompt_pieces pieces;
};

static struct sde_clip_tokenizer *tokenizer;

static void read_prompt(const char *text, struct read *ret)
{
	struct sde_error error = {0};

	assert_int_equal(sde_prompt_weighted(tokenizer, 49407, NULL, text, strlen(text),
					     &ret->prompt, &error),
			 0);
	if (sde_prompt_pieces_init(&ret->pieces, tokenizer, NULL, text, &ret->prompt, &error) < 0)
		fail_msg("%s: %s", text, error.message);
	assert_int_equal(ret->pieces.n_tokens, ret->prompt.tokens);
}

static void read_clear(struct read *read)
{
	sde_prompt_pieces_clear(&read->pieces);
	sde_prompt_clear(&read->prompt);
}

static void expect(const char *text, const char *const *pieces, const char *kinds)
{
	struct read read;

	read_prompt(text, &read);
	for (size_t i = 0; i < read.pieces.count; i++) {
		const struct sde_prompt_piece *piece = &read.pieces.items[i];

		assert_non_null(pieces[i]);
		assert_string_equal(piece->text, pieces[i]);
		/* a digit: a word of so many tokens; a dot: a mark */
		assert_int_equal(piece->word, kinds[i] != '.');
		if (piece->word)
			assert_int_equal(piece->count, kinds[i] - '0');
		for (size_t t = piece->first; t < piece->first + piece->count; t++) {
			const int row = read.pieces.rows[t];

			assert_int_equal(read.prompt.chunks[row / SDE_PROMPT_LENGTH]
						 .ids[row % SDE_PROMPT_LENGTH],
					 read.pieces.ids[t]);
		}
	}
	assert_null(pieces[read.pieces.count]);
	read_clear(&read);
}

static void test_words_and_their_rows(void **state)
{
	expect("a red house", (const char *const[]){"a", "red", "house", NULL}, "111");
	expect("((a) (red:1.3) house), [small]",
	       (const char *const[]){"a", "red", "house", ",", "small", NULL}, "111.1");
	expect("the cathedral's Rhododendron, half-timbered; 1950s!",
	       (const char *const[]){"the", "cathedral's", "Rhododendron", ",", "half-timbered",
				     ";", "1950s", "!", NULL},
	       "124.4.5.");
	expect("don't (stop\\)", (const char *const[]){"don't", "stop", ")", NULL}, "21.");
	expect("one BREAK two", (const char *const[]){"one", "two", NULL}, "11");
	expect("ein Häuschen 家", (const char *const[]){"ein", "Häuschen", "家", NULL}, "152");
	expect("", (const char *const[]){NULL}, "");
}

/* Across a chunk's end a word's tokens go on in the next. */
static void test_words_of_long_prompts(void **state)
{
	char text[1024] = "";
	struct read read;

	for (int i = 0; i < 74; i++)
		strcat(text, "house ");
	strcat(text, "rhododendron tree");
	read_prompt(text, &read);
	assert_int_equal(read.prompt.count, 2);
	assert_int_equal(read.pieces.count, 76);
	assert_int_equal(read.pieces.items[74].count, 4);
	assert_int_equal(read.pieces.rows[74], 75);
	assert_int_equal(read.pieces.rows[75], SDE_PROMPT_LENGTH + 1);
	assert_int_equal(read.pieces.rows[78], SDE_PROMPT_LENGTH + 4);
	read_clear(&read);
}

/* Taken out, a prompt is the one without the word. */
static void test_words_taken_out(void **state)
{
	struct read read, without;

	read_prompt("a (rhododendron red:1.2) house", &read);
	read_prompt("a (red:1.2) house", &without);
	sde_prompt_take_out(&read.prompt, &read.pieces, 1, 49407);
	sde_prompt_pieces_take_out(&read.pieces, 1);
	assert_memory_equal(read.prompt.chunks, without.prompt.chunks, sizeof(*read.prompt.chunks));
	assert_int_equal(read.prompt.tokens, without.prompt.tokens);
	assert_int_equal(read.pieces.count, without.pieces.count);
	assert_int_equal(read.pieces.n_tokens, without.pieces.n_tokens);
	for (size_t i = 0; i < without.pieces.count; i++) {
		assert_string_equal(read.pieces.items[i].text, without.pieces.items[i].text);
		assert_int_equal(read.pieces.items[i].first, without.pieces.items[i].first);
	}
	for (size_t i = 0; i < without.pieces.n_tokens; i++)
		assert_int_equal(read.pieces.rows[i], without.pieces.rows[i]);
	read_clear(&read);
	read_clear(&without);
}

/* ---------------------------------------------------------------- alignment */

/* The weight that a row of the edited prompt gives one of the source's; -1: it has its own map. */
static float weight_of(const struct sde_alignment *alignment, int row, int source)
{
	if (alignment->own[row])
		return -1;
	for (size_t e = alignment->first[row]; e < alignment->first[row + 1]; e++)
		if (alignment->sources[e] == source)
			return alignment->weights[e];
	return 0;
}

static struct sde_alignment align(const char *source, const char *edited, enum sde_edit_kind kind)
{
	struct sde_alignment alignment;
	struct sde_error error = {0};
	struct read a, b;

	read_prompt(source, &a);
	read_prompt(edited, &b);
	if (sde_alignment_init(&alignment, kind, &a.prompt, &a.pieces, &b.prompt, &b.pieces,
			       &error) < 0)
		fail_msg("%s", error.message);
	read_clear(&a);
	read_clear(&b);
	return alignment;
}

/* Where nothing has its own map, every share of the source goes somewhere: shares still sum to one. */
static void check_sums(const struct sde_alignment *alignment)
{
	static float sums[SDE_PROMPT_LENGTH];

	memset(sums, 0, sizeof(sums));
	for (size_t e = 0; e < alignment->first[alignment->rows]; e++)
		sums[alignment->sources[e]] += alignment->weights[e];
	for (int i = 0; i < SDE_PROMPT_LENGTH; i++)
		assert_true(fabsf(sums[i] - 1) < 1e-6f);
}

static void test_replacement(void **state)
{
	/* red -> rhododendron, one token -> four: all behind moves on by three */
	struct sde_alignment a = align("a red house", "a rhododendron house", SDE_EDIT_AUTO);

	check_sums(&a);
	assert_true(weight_of(&a, 0, 0) == 1 && weight_of(&a, 1, 1) == 1);
	for (int row = 2; row < 6; row++)
		assert_true(weight_of(&a, row, 2) == 0.25f);
	assert_true(weight_of(&a, 6, 3) == 1 && weight_of(&a, 7, 4) == 1);
	/* of padding there is less now: the last has what is left */
	assert_true(weight_of(&a, 76, 73) == 1 && weight_of(&a, 76, 76) == 1);
	sde_alignment_clear(&a);

	a = align("a rhododendron house", "a red house", SDE_EDIT_REPLACE);
	check_sums(&a);
	for (int source = 2; source < 6; source++)
		assert_true(weight_of(&a, 2, source) == 1);
	assert_true(weight_of(&a, 3, 6) == 1 && weight_of(&a, 4, 7) == 1);
	sde_alignment_clear(&a);

	a = align("a house and a tree", "a house and a tree", SDE_EDIT_AUTO);
	for (int row = 0; row < SDE_PROMPT_LENGTH; row++)
		for (int source = 0; source < SDE_PROMPT_LENGTH; source++)
			assert_true(weight_of(&a, row, source) == (row == source));
	sde_alignment_clear(&a);
}

static void test_refinement(void **state)
{
	/* rows: a 1, red 2, house 3, with 4, a 5, tree 6, by 7, day 8 */
	struct sde_alignment a =
		align("a red house by day", "a red house with a tree by day", SDE_EDIT_AUTO);

	for (int row = 1; row < 4; row++)
		assert_true(weight_of(&a, row, row) == 1);
	for (int row = 4; row < 7; row++)
		assert_true(weight_of(&a, row, row) == -1);
	assert_true(weight_of(&a, 7, 4) == 1 && weight_of(&a, 8, 5) == 1 &&
		    weight_of(&a, 9, 6) == 1);
	sde_alignment_clear(&a);

	/* the same words put in place of others keep their own maps when that is asked for */
	a = align("a red house", "a blue house", SDE_EDIT_REFINE);
	assert_true(weight_of(&a, 1, 1) == 1 && weight_of(&a, 2, 2) == -1 &&
		    weight_of(&a, 3, 3) == 1);
	sde_alignment_clear(&a);
}

static void test_replace_needs_equally_many_words(void **state)
{
	struct sde_alignment alignment;
	struct sde_error error = {0};
	struct read a, b;

	read_prompt("a house", &a);
	read_prompt("a red house", &b);
	assert_int_equal(sde_alignment_init(&alignment, SDE_EDIT_REPLACE, &a.prompt, &a.pieces,
					    &b.prompt, &b.pieces, &error),
			 -EINVAL);
	assert_non_null(strstr(error.message, "has 2 and prompt 3"));
	read_clear(&a);
	read_clear(&b);
}

/* Steps are counted as in the paper's code, int(fraction * steps) of them, whatever 0.8 * 5 is in binary. */
static void test_spans(void **state)
{
	const struct sde_edit edit = {.cross_replace = 0.8, .self_replace = 0.3};

	for (size_t step = 0; step < 5; step++) {
		assert_int_equal(sde_edit_cross_at(&edit, step, 5), step < 4);
		assert_int_equal(sde_edit_self_at(&edit, step, 5), step < 1);
	}
	for (size_t step = 0; step < 10; step++)
		assert_int_equal(sde_edit_self_at(&edit, step, 10), step < 3);
}

#define PLACES	16
#define LATENTS 64
#define TOKENS	3

/* As the paper's code: the largest of 3 x 3 places of 16 x 16, enlarged to the nearest, against a part of the highest. */
static bool paper_marks(const float *map, int y, int x, double threshold)
{
	const int row = y * PLACES / LATENTS, column = x * PLACES / LATENTS;
	float most = 0, here = 0;

	for (int i = 0; i < PLACES * PLACES; i++) {
		most = fmaxf(most, map[i]);
		if (abs(i / PLACES - row) <= 1 && abs(i % PLACES - column) <= 1)
			here = fmaxf(here, map[i]);
	}
	return here > threshold * most;
}

static float some(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return (float)(*state >> 8) / (1 << 24);
}

/* One token of each side is the word's: sums[side] is its map, the others are noise that must not count. */
static void look(struct sde_blend *blend, enum sde_blend_side side, size_t queries, float *word,
		 uint32_t *state)
{
	float *map = calloc(queries * TOKENS, sizeof(*map));

	assert_non_null(map);
	for (size_t i = 0; i < queries; i++)
		for (size_t t = 0; t < TOKENS; t++) {
			/* few high places */
			map[i * TOKENS + t] = powf(some(state), 60);
			if (word && blend->marks[side][t])
				word[i] += map[i * TOKENS + t];
		}
	assert_true(sde_blend_wants(blend, side, queries));
	assert_int_equal(sde_blend_add(blend, side, queries, TOKENS, map), 0);
	free(map);
}

/*
 * Latents of 64 x 64: layers of 16 x 16 count, whatever larger ones came before and smaller ones come behind; outside of both sides' words
 * the edit's latents are the source's, inside its own.
 */
static void test_local_blend(void **state)
{
	const size_t places = PLACES * PLACES, n = LATENTS * LATENTS;
	static float words[2][PLACES * PLACES], latents[2 * 2 * LATENTS * LATENTS];
	struct sde_blend blend = {.threshold = 0.3, .start = 0.2, .tokens = TOKENS};
	uint32_t seed = 5;
	size_t inside = 0;

	for (int side = 0; side < 2; side++) {
		blend.marks[side] = calloc(TOKENS, sizeof(bool));
		blend.marks[side][side + 1] = true;
	}
	assert_int_equal(sde_blend_restart(&blend, LATENTS, LATENTS), 0);
	look(&blend, SDE_BLEND_SOURCE, 4 * places, NULL, &seed);
	look(&blend, SDE_BLEND_EDIT, 4 * places, NULL, &seed);
	for (int layer = 0; layer < 2; layer++)
		for (int side = 0; side < 2; side++)
			look(&blend, side, places, words[side], &seed);
	assert_false(sde_blend_wants(&blend, SDE_BLEND_SOURCE, 4 * places));
	assert_false(sde_blend_wants(&blend, SDE_BLEND_EDIT, places / 4));
	for (size_t i = 0; i < 4 * n; i++)
		latents[i] = (float)i;
	sde_blend_apply(&blend, 2, latents);
	for (size_t i = 0; i < 2 * n; i++) {
		const int y = (int)(i % n) / LATENTS, x = (int)(i % n) % LATENTS;
		const bool marked =
			paper_marks(words[0], y, x, 0.3) || paper_marks(words[1], y, x, 0.3);

		inside += marked;
		assert_true(latents[i] == (float)i);
		assert_true(latents[2 * n + i] == (float)(marked ? 2 * n + i : i));
	}
	assert_true(inside > n / 4 && inside < 7 * n / 4);
	assert_int_equal(sde_blend_add(&blend, SDE_BLEND_EDIT, places + 1, TOKENS, words[0]),
			 -EINVAL);
	sde_blend_clear(&blend);
}

/* A side with no word says nothing; where layers are too small, the largest counts; blends begin behind the first fifth of the steps. */
static void test_local_blend_of_few_places(void **state)
{
	struct sde_blend blend = {.threshold = 0.3, .start = 0.2, .tokens = TOKENS};
	float small[4 * TOKENS] = {0}, large[16 * TOKENS] = {0}, latents[2 * 64];

	blend.marks[SDE_BLEND_EDIT] = calloc(TOKENS, sizeof(bool));
	blend.marks[SDE_BLEND_EDIT][1] = true;
	assert_int_equal(sde_blend_restart(&blend, 8, 8), 0);
	assert_false(sde_blend_at(&blend, 4, 5));
	assert_false(sde_blend_wants(&blend, SDE_BLEND_SOURCE, 16));
	large[1] = 1;
	assert_true(sde_blend_wants(&blend, SDE_BLEND_EDIT, 4));
	assert_int_equal(sde_blend_add(&blend, SDE_BLEND_EDIT, 4, TOKENS, small), 0);
	assert_true(sde_blend_wants(&blend, SDE_BLEND_EDIT, 16));
	assert_int_equal(sde_blend_add(&blend, SDE_BLEND_EDIT, 16, TOKENS, large), 0);
	assert_false(sde_blend_wants(&blend, SDE_BLEND_EDIT, 4));
	for (int i = 0; i < 128; i++)
		latents[i] = (float)(i / 64);
	sde_blend_apply(&blend, 1, latents);
	/* the upper left of 4 x 4 places, and a latent around it */
	for (int i = 0; i < 64; i++)
		assert_true(latents[64 + i] == (i / 8 < 3 && i % 8 < 3));
	for (size_t step = 0; step < 5; step++)
		assert_int_equal(sde_blend_at(&blend, step, 5), step >= 1);
	sde_blend_clear(&blend);
}

static int setup(void **state)
{
	struct sde_error error;

	return sde_clip_tokenizer_builtin(&tokenizer, &error);
}

static int teardown(void **state)
{
	sde_clip_tokenizer_free(tokenizer);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps_are_those_of_the_op),
		cmocka_unit_test(test_gathering),
		cmocka_unit_test(test_words_and_their_rows),
		cmocka_unit_test(test_words_of_long_prompts),
		cmocka_unit_test(test_words_taken_out),
		cmocka_unit_test(test_replacement),
		cmocka_unit_test(test_refinement),
		cmocka_unit_test(test_replace_needs_equally_many_words),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_local_blend),
		cmocka_unit_test(test_local_blend_of_few_places),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
