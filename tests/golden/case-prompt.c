/*
 * kind "prompt_parse": the weight syntax. Expected segments stand in the parameters, their weights in a tensor.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/prompt/prompt.h"
#include "tests/golden/golden.h"

struct lists {
	float *weights;
	int32_t *offsets;
	int64_t weight_count, offset_count;
};

static int add_text(struct golden_case *c, struct lists *lists, const char *text, size_t length,
		    const json_t *expected)
{
	struct sde_prompt_segments segments;
	struct sde_error error = {0};

	if (sde_prompt_parse(text, length, &segments, &error) < 0)
		return golden_fail_error(c, text, &error);
	if (json_array_size(expected) != segments.count)
		golden_fail(c, "'%s': %zu segments, expected %zu", text, segments.count,
			    json_array_size(expected));
	lists->weights = reallocarray(lists->weights, (size_t)lists->weight_count + segments.count,
				      sizeof(float));
	lists->offsets =
		reallocarray(lists->offsets, (size_t)lists->offset_count + 1, sizeof(int32_t));
	if (!lists->weights || !lists->offsets)
		abort();
	for (size_t i = 0; i < segments.count; i++) {
		const char *want = json_string_value(json_array_get(expected, i));

		if (!want || strcmp(want, segments.items[i].text))
			golden_fail(c, "'%s': segment %zu is '%s', expected '%s'", text, i,
				    segments.items[i].text, want ? want : "none");
		lists->weights[lists->weight_count++] = (float)segments.items[i].weight;
	}
	lists->offsets[lists->offset_count++] = (int32_t)lists->weight_count;
	sde_prompt_segments_clear(&segments);
	return GOLDEN_PASS;
}

int golden_prompt_parse(struct golden_case *c)
{
	struct lists lists = {.offsets = calloc(1, sizeof(int32_t)), .offset_count = 1};
	json_t *text;
	size_t i;

	json_array_foreach (golden_param(c, "texts"), i, text) {
		if (!json_is_string(text))
			golden_fail(c, "malformed case: a text is no string");
		else
			add_text(c, &lists, json_string_value(text), json_string_length(text),
				 json_array_get(golden_param(c, "segments"), i));
	}
	golden_expect_f32(c, "weights", lists.weights, GOLDEN_SHAPE(lists.weight_count));
	golden_expect_i32(c, "offsets", lists.offsets, GOLDEN_SHAPE(lists.offset_count));
	free(lists.weights);
	free(lists.offsets);
	return GOLDEN_PASS;
}
