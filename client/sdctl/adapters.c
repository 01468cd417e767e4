/*
 * Reading --lora, --control, --region, --word and --local-blend; see adapters.h.
 */
#include "client/sdctl/adapters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number behind the last ':' of text, which ends there then. */
static bool take_number(char *text, double *ret_number)
{
	char *colon = strrchr(text, ':'), *end;
	double number;

	if (!colon || !colon[1])
		return false;
	number = strtod(colon + 1, &end);
	if (*end)
		return false;
	*colon = '\0';
	*ret_number = number;
	return true;
}

static int add_lora(sdc_request *request, const char *name, double weight)
{
	sdc_error error = {0};

	return sdc_request_add_lora(request, name, weight, &error) < 0 ? fail(&error) : EXIT_OK;
}

int adapters_add_lora(sdc_request *request, const char *text)
{
	char *name = strdup(text);
	double weight = 1;
	int r;

	if (!name) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	take_number(name, &weight);
	r = add_lora(request, name, weight);
	free(name);
	return r;
}

static int add_region(struct regions *regions, const char *path, const int sides[4],
		      const char *prompt, double weight)
{
	struct region *region = &regions->items[regions->n];

	if (regions->n == REGIONS_MAX) {
		complain("at most %d regions", REGIONS_MAX);
		return EXIT_USAGE;
	}
	*region = (struct region){.path = path ? strdup(path) : NULL,
				  .prompt = strdup(prompt),
				  .sides = {sides[0], sides[1], sides[2], sides[3]},
				  .weight = weight};
	regions->n++;
	if (region->prompt && (region->path || !path))
		return EXIT_OK;
	complain("out of memory");
	return EXIT_FAILED;
}

int adapters_parse_region(const char *text, struct regions *regions)
{
	char *part = strdup(text), *prompt = part ? strchr(part, '=') : NULL;
	int sides[4] = {0}, used = 0, r;
	double weight = 1;

	if (!part) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	if (!prompt || prompt == part) {
		complain("--region %s: write X,Y,W,H=PROMPT or MASK=PROMPT, with :WEIGHT before "
			 "the = to mix it",
			 text);
		free(part);
		return EXIT_USAGE;
	}
	*prompt++ = '\0';
	take_number(part, &weight);
	if (sscanf(part, "%d,%d,%d,%d%n", &sides[0], &sides[1], &sides[2], &sides[3], &used) == 4 &&
	    !part[used])
		r = add_region(regions, NULL, sides, prompt, weight);
	else
		r = add_region(regions, part, sides, prompt, weight);
	free(part);
	return r;
}

static int add_word(sdc_request *request, const char *word, double weight)
{
	sdc_error error = {0};

	return sdc_request_add_word_weight(request, word, weight, &error) < 0 ? fail(&error)
									      : EXIT_OK;
}

int adapters_add_word(sdc_request *request, const char *text)
{
	char *word = strdup(text), *equals = word ? strrchr(word, '=') : NULL, *end = "";
	double weight = 0;
	int r;

	if (!word) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	if (equals && equals[1])
		weight = strtod(equals + 1, &end);
	if (!equals || equals == word || !equals[1] || *end) {
		complain("--word %s: write WORD=WEIGHT, as red=0 or \"red house=1.5\"", text);
		r = EXIT_USAGE;
	} else {
		*equals = '\0';
		r = add_word(request, word, weight);
	}
	free(word);
	return r;
}

int adapters_add_blend(sdc_request *request, struct blend *blend, const char *word)
{
	sdc_error error = {0};

	if (blend->n == BLEND_MAX) {
		complain("at most %d of --local-blend", BLEND_MAX);
		return EXIT_USAGE;
	}
	blend->words[blend->n++] = word;
	return sdc_request_set_strings(request, "local_blend", blend->words, blend->n, &error) < 0
		       ? fail(&error)
		       : EXIT_OK;
}

static int add_guide(struct guides *guides, const char *kind, const char *path,
		     const double numbers[3])
{
	struct guide *guide = &guides->items[guides->n];

	if (guides->n == GUIDES_MAX) {
		complain("at most %d guiding pictures", GUIDES_MAX);
		return EXIT_USAGE;
	}
	*guide = (struct guide){.kind = strdup(kind),
				.path = strdup(path),
				.scale = numbers[0],
				.start = numbers[1],
				.end = numbers[2]};
	guides->n++;
	if (guide->kind && guide->path)
		return EXIT_OK;
	complain("out of memory");
	return EXIT_FAILED;
}

int adapters_parse_control(const char *text, struct guides *guides)
{
	double numbers[3] = {1, 0, 1}, given[3];
	char *copy = strdup(text), *path = copy ? strchr(copy, '=') : NULL;
	size_t n = 0;
	int r;

	if (!copy) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	while (path && n < 3 && take_number(path, &given[n]))
		n++;
	/* they were read from the end */
	for (size_t i = 0; i < n; i++)
		numbers[i] = given[n - 1 - i];
	if (!path || path == copy || !path[1] || n == 2) {
		complain("--control %s: write KIND=IMAGE, KIND=IMAGE:SCALE or "
			 "KIND=IMAGE:SCALE:START:END",
			 text);
		r = EXIT_USAGE;
	} else {
		*path = '\0';
		r = add_guide(guides, copy, path + 1, numbers);
	}
	free(copy);
	return r;
}

static double number_of(const json_t *object, const char *key, double fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static int replay_region(struct regions *regions, const json_t *region, const json_t *source)
{
	const char *path = json_string_value(json_object_get(source, "path"));
	const json_t *rect = json_object_get(region, "rect");
	int sides[4] = {0};

	if (!path && json_array_size(rect) != 4) {
		complain("a region of the picture says neither its rectangle nor its mask");
		return EXIT_FAILED;
	}
	for (size_t i = 0; i < json_array_size(rect) && i < 4; i++)
		sides[i] = (int)json_integer_value(json_array_get(rect, i));
	return add_region(regions, path, sides, text_of(region, "prompt"),
			  number_of(region, "weight", 1));
}

int adapters_replay(sdc_request *request, const json_t *entry, struct guides *guides,
		    struct regions *regions)
{
	const json_t *asked = json_object_get(entry, "request");
	const json_t *loras = json_object_get(asked, "loras");
	const json_t *controls = json_object_get(asked, "controls");
	const json_t *sources = json_object_get(entry, "controls");
	const json_t *parts = json_object_get(asked, "regions");
	const json_t *masks = json_object_get(entry, "regions");
	const json_t *words = json_object_get(asked, "word_weights");
	const json_t *blended = json_object_get(asked, "local_blend");
	struct blend blend = {0};
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < json_array_size(parts); i++)
		r = replay_region(regions, json_array_get(parts, i), json_array_get(masks, i));
	for (size_t i = 0; r == EXIT_OK && i < json_array_size(words); i++) {
		const json_t *word = json_array_get(words, i);

		r = add_word(request, text_of(word, "word"), number_of(word, "weight", 1));
	}
	for (size_t i = 0; r == EXIT_OK && i < json_array_size(blended); i++)
		r = adapters_add_blend(request, &blend,
				       json_string_value(json_array_get(blended, i)));
	for (size_t i = 0; r == EXIT_OK && i < json_array_size(loras); i++) {
		const json_t *lora = json_array_get(loras, i);

		r = add_lora(request, text_of(lora, "name"), number_of(lora, "weight", 1));
	}
	for (size_t i = 0; r == EXIT_OK && i < json_array_size(controls); i++) {
		const json_t *control = json_array_get(controls, i);
		const double numbers[3] = {number_of(control, "scale", 1),
					   number_of(control, "start", 0),
					   number_of(control, "end", 1)};

		r = add_guide(guides, text_of(control, "kind"),
			      text_of(json_array_get(sources, i), "path"), numbers);
	}
	return r;
}

void guides_clear(struct guides *guides)
{
	for (size_t i = 0; i < guides->n; i++) {
		free(guides->items[i].kind);
		free(guides->items[i].path);
		picture_clear(&guides->items[i].picture);
	}
	*guides = (struct guides){0};
}

void regions_clear(struct regions *regions)
{
	for (size_t i = 0; i < regions->n; i++) {
		free(regions->items[i].path);
		free(regions->items[i].prompt);
		picture_clear(&regions->items[i].mask);
	}
	*regions = (struct regions){0};
}
