/*
 * Tokenizer and prompts beyond the golden cases: hostile vocabularies, very long words, chunks that lose nothing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/prompt/prompt.h"
#include "daemon/engine/prompt/schedule.h"

static struct sde_clip_tokenizer *tokenizer;
static char *vocab, *merges;
static size_t vocab_size, merges_size;

static int group_setup(void **state)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/models/tokenizers/clip_tiny", getenv("SDD_GOLDEN_DATA"));
	if (sde_clip_tokenizer_load(path, &tokenizer, NULL) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/models/tokenizers/clip_tiny/vocab.json",
		 getenv("SDD_GOLDEN_DATA"));
	if (sde_file_read(path, 1 << 20, &vocab, &vocab_size, NULL) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/models/tokenizers/clip_tiny/merges.txt",
		 getenv("SDD_GOLDEN_DATA"));
	return sde_file_read(path, 1 << 20, &merges, &merges_size, NULL);
}

static int group_teardown(void **state)
{
	sde_clip_tokenizer_free(tokenizer);
	free(vocab);
	free(merges);
	return 0;
}

static int load(const char *v, size_t v_size, const char *m, struct sde_error *error)
{
	struct sde_clip_tokenizer *loaded;
	int r = sde_clip_tokenizer_new(v, v_size, "vocab.json", m, strlen(m), "merges.txt", &loaded,
				       error);

	if (r >= 0)
		sde_clip_tokenizer_free(loaded);
	return r;
}

static void test_hostile_files(void **state)
{
	struct sde_error error;

	assert_int_equal(load(vocab, vocab_size, "#version: 0.2\nq \xc3\xa9x\n", &error), -EBADMSG);
	assert_non_null(strstr(error.message, "merges.txt:2"));
	assert_int_equal(load(vocab, vocab_size, "#version\ni n\ni n\n", &error), -EBADMSG);
	assert_non_null(strstr(error.message, "merges.txt:3: this pair is listed twice"));
	assert_int_equal(load(vocab, vocab_size, "i n x\n", &error), -EBADMSG);
	assert_non_null(strstr(error.message, "merges.txt:1"));
	assert_int_equal(load("{}", 2, "", &error), -EBADMSG);
	assert_non_null(strstr(error.message, "vocab.json"));
	assert_int_equal(load("{\"a\": -1}", 9, "", &error), -EBADMSG);
	assert_int_equal(load("{\"a\": 1e9}", 10, "", &error), -EBADMSG);
	assert_int_equal(load("[", 1, "", &error), -EBADMSG);
	assert_int_equal(load(vocab, vocab_size, "", &error), 0);
}

static void test_bad_text(void **state)
{
	struct sde_ids ids = {0};
	struct sde_error error;

	assert_int_equal(sde_clip_tokenizer_encode(tokenizer, "ab\xff", 3, &ids, &error), -EILSEQ);
	assert_non_null(strstr(error.message, "byte 2"));
	assert_int_equal(
		sde_clip_tokenizer_encode(tokenizer, "", SDE_CLIP_TEXT_MAX + 1, &ids, &error),
		-E2BIG);
	sde_ids_clear(&ids);
}

static void expect_ids(const struct sde_clip_tokenizer *with, const char *text, const int32_t *want,
		       size_t n)
{
	struct sde_ids ids = {0};

	assert_int_equal(sde_clip_tokenizer_encode(with, text, strlen(text), &ids, NULL), 0);
	assert_int_equal(ids.count, n);
	assert_memory_equal(ids.ids, want, n * sizeof(*want));
	sde_ids_clear(&ids);
}

#define EXPECT(with, text, ...)                                                                    \
	expect_ids(with, text, (const int32_t[]){__VA_ARGS__},                                     \
		   sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* Ids of transformers 5.23: an end token that also pads is one only as it is written, others in any case. */
static void test_typed_end_tokens(void **state)
{
	struct sde_clip_tokenizer *builtin;

	assert_int_equal(sde_clip_tokenizer_builtin(&builtin, NULL), 0);
	EXPECT(builtin, "a<|endoftext|>b", 320, 49407, 321);
	EXPECT(builtin, "a<|EndOfText|>b", 320, 27, 347, 40786, 4160, 91, 285, 321);
	EXPECT(builtin, "<|EndOfText|>>", 27, 347, 40786, 4160, 91, 285, 285);
	EXPECT(builtin, "a<|StartOfText|>b", 320, 49406, 321);
	assert_int_equal(sde_clip_tokenizer_set_pad(builtin, 0), 0);
	EXPECT(builtin, "a<|EndOfText|>b!", 320, 49407, 321, 0);
	sde_clip_tokenizer_free(builtin);
}

/* A quadratic merge would need minutes for this word. */
static void test_long_word(void **state)
{
	const size_t size = 300000;
	_cleanup_free_ char *word = malloc(size);
	struct sde_ids ids = {0};
	clock_t start = clock();

	for (size_t i = 0; i < size; i++)
		word[i] = "in the an"[i % 9 == 2 || i % 9 == 6 ? 0 : i % 9];
	assert_int_equal(sde_clip_tokenizer_encode(tokenizer, word, size, &ids, NULL), 0);
	assert_in_range(ids.count, size / 16, size);
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
	sde_ids_clear(&ids);
}

static void test_nothing_is_cut(void **state)
{
	_cleanup_free_ char *text = calloc(1, 1 << 16);
	struct sde_prompt prompt = {0};
	struct sde_ids ids = {0};
	size_t seen = 0, length;

	for (int i = 0; i < 900; i++)
		strcat(text, i % 17 == 3 ? "a cat, " : "a red house ");
	length = strlen(text);
	assert_int_equal(sde_clip_tokenizer_encode(tokenizer, text, length, &ids, NULL), 0);
	assert_int_equal(sde_prompt_weighted(tokenizer, 7, NULL, text, length, &prompt, NULL), 0);
	assert_int_equal(prompt.tokens, ids.count);
	for (size_t c = 0; c < prompt.count; c++) {
		const struct sde_prompt_chunk *chunk = &prompt.chunks[c];

		assert_int_equal(chunk->ids[0], sde_clip_tokenizer_bos(tokenizer));
		assert_int_equal(chunk->ids[chunk->tokens + 1], sde_clip_tokenizer_eos(tokenizer));
		for (int i = chunk->tokens + 2; i < SDE_PROMPT_LENGTH; i++)
			assert_int_equal(chunk->ids[i], 7);
		for (int i = 1; i <= chunk->tokens; i++)
			assert_int_equal(chunk->ids[i], ids.ids[seen++]);
	}
	assert_int_equal(seen, ids.count);
	assert_int_equal(sde_prompt_extend(&prompt, tokenizer, 7, prompt.count + 2, NULL), 0);
	assert_int_equal(prompt.chunks[prompt.count - 1].tokens, 0);
	sde_prompt_clear(&prompt);
	sde_ids_clear(&ids);
}

static void test_break_and_comma(void **state)
{
	struct sde_prompt prompt = {0};
	char text[512] = "";

	assert_int_equal(
		sde_prompt_weighted(tokenizer, 0, NULL, "a BREAK (b:1.5)", 15, &prompt, NULL), 0);
	assert_int_equal(prompt.count, 2);
	assert_int_equal(prompt.tokens, 2);
	assert_true(prompt.chunks[1].weights[1] == 1.5f && prompt.chunks[1].weights[2] == 1.0f);
	sde_prompt_clear(&prompt);
	for (int i = 0; i < 80; i++)
		strcat(text, i == 70 ? "a," : "a ");
	assert_int_equal(sde_prompt_weighted(tokenizer, 0, NULL, text, strlen(text), &prompt, NULL),
			 0);
	assert_int_equal(prompt.chunks[0].tokens, 72);
	sde_prompt_clear(&prompt);
	assert_int_equal(sde_prompt_plain(tokenizer, 0, text, strlen(text), &prompt, NULL), 0);
	assert_int_equal(prompt.chunks[0].tokens, 75);
	sde_prompt_clear(&prompt);
}

static void test_bad_weight(void **state)
{
	struct sde_prompt_segments segments;
	struct sde_error error;

	assert_int_equal(sde_prompt_parse("(a:1.1.1)", 9, &segments, &error), -EINVAL);
	assert_non_null(strstr(error.message, "1.1.1"));
	assert_int_equal(sde_prompt_parse("a\xc3", 2, &segments, &error), -EILSEQ);
	assert_int_equal(sde_prompt_parse("a:1.1.1) \\", 10, &segments, &error), 0);
	assert_string_equal(segments.items[0].text, "a:1.1.1) ");
	sde_prompt_segments_clear(&segments);
}

/* The examples that AUTOMATIC1111's prompt_parser.py gives for 10 steps: the prompt of step 1, 2, ...; the last one goes on. */
static void test_schedules_as_in_a1111(void **state)
{
	static const struct {
		const char *prompt;
		const char *steps[12];
	} cases[] = {
		{"test", {"test"}},
		{"a [b:3]", {"a ", "a ", "a ", "a b"}},
		{"a [b: 3]", {"a ", "a ", "a ", "a b"}},
		{"a [[[b]]:2]", {"a ", "a ", "a [[b]]"}},
		{"[(a:2):3]", {"", "", "", "(a:2)"}},
		{"a [b : c : 1] d", {"a b  d", "a  c  d"}},
		{"a[b:[c:d:2]:1]e", {"abe", "ace", "ade"}},
		{"a [unbalanced", {"a [unbalanced"}},
		{"a [b:.5] c", {"a  c", "a  c", "a  c", "a  c", "a  c", "a b c"}},
		{"((a][:b:c [d:3]", {"((a][:b:c ", "((a][:b:c ", "((a][:b:c ", "((a][:b:c d"}},
		{"[a|(b:1.1)]", {"a", "(b:1.1)", "a", "(b:1.1)", "a"}},
		{"[fe|]male", {"female", "male", "female", "male", "female"}},
		{"[fe|||]male", {"female", "male", "male", "male", "female"}},
		/* of its documentation */
		{"a [cat::0.25] x", {"a cat x", "a cat x", "a  x"}},
		{"[[red|blue]:green:2]", {"red", "blue", "green"}},
		{"\\[a:b:3\\] [c] (d:1.2)", {"\\[a:b:3\\] [c] (d:1.2)"}},
		{"[a:b:-1] [a:b:99] [x:1:y:3]", {"b a [x:1:y:3]"}},
		{"", {""}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sde_prompt_schedule schedule;
		const char *wanted = NULL;
		bool alternates = strchr(cases[i].prompt, '|') != NULL;

		assert_int_equal(sde_prompt_schedule_init(&schedule, cases[i].prompt, NULL), 0);
		for (int step = 1; step <= 10; step++) {
			_cleanup_free_ char *text = NULL;

			if (cases[i].steps[step - 1])
				wanted = cases[i].steps[step - 1];
			else if (alternates)
				break;
			text = sde_prompt_schedule_at(&schedule, step, 10);
			assert_string_equal(text, wanted);
		}
		sde_prompt_schedule_clear(&schedule);
	}
}

/* Calls 0 and 1 are both step 1, as A1111's sampler counts from 0 against steps from 1. */
static void test_schedule_steps(void **state)
{
	struct sde_prompt_schedule schedule;
	char deep[200];

	assert_int_equal(sde_prompt_schedule_init(&schedule, "[a|b]", NULL), 0);
	assert_true(schedule.changes);
	for (int i = 0; i < 4; i++) {
		_cleanup_free_ char *text = sde_prompt_schedule_at(&schedule, i, 4);

		assert_string_equal(text, i == 2 ? "b" : "a");
	}
	sde_prompt_schedule_clear(&schedule);
	assert_int_equal(sde_prompt_schedule_init(&schedule, "[word] (other:1.2)", NULL), 0);
	assert_false(schedule.changes);
	sde_prompt_schedule_clear(&schedule);
	memset(deep, '[', sizeof(deep));
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(sde_prompt_schedule_init(&schedule, deep, NULL), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_typed_end_tokens),
		cmocka_unit_test(test_long_word),
		cmocka_unit_test(test_nothing_is_cut),
		cmocka_unit_test(test_break_and_comma),
		cmocka_unit_test(test_bad_weight),
		cmocka_unit_test(test_schedules_as_in_a1111),
		cmocka_unit_test(test_schedule_steps),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
