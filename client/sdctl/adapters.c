/*
 * Reading --lora, --control and --region; see adapters.h.
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

static int add_region(sdc_request *request, const char *prompt, const int sides[4], double weight)
{
	sdc_error error = {0};

	return sdc_request_add_region(request, prompt, NULL, sides[0], sides[1], sides[2], sides[3],
				      weight, &error) < 0
		       ? fail(&error)
		       : EXIT_OK;
}

int adapters_add_region(sdc_request *request, const char *text)
{
	int sides[4], used = 0;
	char *rest = NULL;
	double weight = 1;

	if (sscanf(text, "%d,%d,%d,%d%n", &sides[0], &sides[1], &sides[2], &sides[3], &used) == 4)
		rest = (char *)text + used;
	if (rest && *rest == ':')
		weight = strtod(rest + 1, &rest);
	if (!rest || *rest != '=') {
		complain("--region %s: write X,Y,W,H=PROMPT or X,Y,W,H:WEIGHT=PROMPT", text);
		return EXIT_USAGE;
	}
	return add_region(request, rest + 1, sides, weight);
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

static int replay_region(sdc_request *request, const json_t *region)
{
	const json_t *rect = json_object_get(region, "rect");
	int sides[4];

	if (json_array_size(rect) != 4) {
		complain("a region by a mask cannot be replayed: the mask is not in the picture");
		return EXIT_FAILED;
	}
	for (size_t i = 0; i < 4; i++)
		sides[i] = (int)json_integer_value(json_array_get(rect, i));
	return add_region(request, text_of(region, "prompt"), sides,
			  number_of(region, "weight", 1));
}

int adapters_replay(sdc_request *request, const json_t *entry, struct guides *guides)
{
	const json_t *asked = json_object_get(entry, "request");
	const json_t *loras = json_object_get(asked, "loras");
	const json_t *controls = json_object_get(asked, "controls");
	const json_t *sources = json_object_get(entry, "controls");
	const json_t *regions = json_object_get(asked, "regions");
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < json_array_size(regions); i++)
		r = replay_region(request, json_array_get(regions, i));

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
