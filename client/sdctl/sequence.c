/*
 * From options to waypoints, positions and directions; see sequence.h.
 */
#include "client/sdctl/sequence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/sdctl/layers.h"
#include "client/sdctl/options.h"

#define FRAMES_A_WAYPOINT 8

static int push(const char **list, size_t *n, size_t most, const char *option, const char *value)
{
	if (*n == most) {
		complain("at most %zu of --%s", most, option);
		return EXIT_USAGE;
	}
	list[(*n)++] = value;
	return EXIT_OK;
}

static int take_frames(struct sequence *s, const char *value)
{
	char *end;
	const long frames = strtol(value, &end, 10);

	if (*end || frames < 2 || frames > FRAMES_MAX) {
		complain("--frames %s: 2 to %d", value, FRAMES_MAX);
		return EXIT_USAGE;
	}
	s->frames = (int)frames;
	return EXIT_OK;
}

int sequence_option(struct sequence *s, int option, const char *value)
{
	switch (option) {
	case OPTION_TO:
		return push(s->to, &s->n_to, WAYPOINTS_MAX, "to", value);
	case OPTION_TO_SEED:
		return push(s->seeds, &s->n_seeds, WAYPOINTS_MAX, "to-seed", value);
	case OPTION_TO_IMAGE:
		return push(s->images, &s->n_images, WAYPOINTS_MAX, "to-image", value);
	case OPTION_FRAMES:
		return take_frames(s, value);
	case OPTION_PLUS:
		return push(s->plus, &s->n_plus, DIRECTIONS_MAX, "plus", value);
	case OPTION_MINUS:
		return push(s->minus, &s->n_minus, DIRECTIONS_MAX, "minus", value);
	case OPTION_PLUS_IMAGE:
		return push(s->plus_images, &s->n_plus_images, DIRECTIONS_MAX, "plus-image", value);
	case OPTION_MINUS_IMAGE:
		return push(s->minus_images, &s->n_minus_images, DIRECTIONS_MAX, "minus-image",
			    value);
	case OPTION_WEIGHT:
		return push(s->weights, &s->n_weights, DIRECTIONS_MAX, "weight", value);
	default:
		return -1;
	}
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

size_t sequence_waypoints(const struct sequence *s)
{
	return larger(s->n_to, larger(s->n_seeds, s->n_images));
}

size_t sequence_frames(const struct sequence *s)
{
	return s->frames > 0 ? (size_t)s->frames : FRAMES_A_WAYPOINT * sequence_waypoints(s) + 1;
}

/* *ret_image is NULL without a path. */
static int load(const char *path, struct picture *picture, sdc_image *image,
		const sdc_image **ret_image)
{
	char message[512];

	*ret_image = NULL;
	if (!path)
		return EXIT_OK;
	if (picture_load(path, picture, message, sizeof(message)) < 0) {
		complain("%s", message);
		return EXIT_USAGE;
	}
	*image = layers_view(picture);
	*ret_image = image;
	return EXIT_OK;
}

static int add_waypoint(const struct sequence *s, sdc_request *request, size_t i)
{
	const char *prompt = i < s->n_to ? s->to[i] : NULL;
	const char *seed_text = i < s->n_seeds ? s->seeds[i] : NULL;
	struct picture picture = {0};
	const sdc_image *image;
	sdc_error error = {0};
	sdc_image view;
	uint64_t seed = 0;
	char *end = "";
	int r;

	errno = 0;
	if (seed_text)
		seed = strtoull(seed_text, &end, 10);
	if (*end || errno || (seed_text && (*seed_text < '0' || *seed_text > '9'))) {
		complain("--to-seed %s: a whole number, 0 or more", seed_text);
		return EXIT_USAGE;
	}
	r = load(i < s->n_images ? s->images[i] : NULL, &picture, &view, &image);
	if (r == EXIT_OK &&
	    sdc_request_add_waypoint(request, prompt, seed_text ? &seed : NULL, image, &error) < 0)
		r = fail(&error);
	picture_clear(&picture);
	return r;
}

static int add_direction(const struct sequence *s, sdc_request *request, size_t i)
{
	const char *weight_text = i < s->n_weights ? s->weights[i] : "1";
	struct picture pictures[2] = {0};
	const sdc_image *plus, *minus;
	sdc_error error = {0};
	sdc_image views[2];
	char *end;
	const double weight = strtod(weight_text, &end);
	int r;

	if (*end || end == weight_text) {
		complain("--weight %s: a number", weight_text);
		return EXIT_USAGE;
	}
	r = load(i < s->n_plus_images ? s->plus_images[i] : NULL, &pictures[0], &views[0], &plus);
	if (r == EXIT_OK)
		r = load(i < s->n_minus_images ? s->minus_images[i] : NULL, &pictures[1], &views[1],
			 &minus);
	if (r == EXIT_OK && sdc_request_add_direction(request, i < s->n_plus ? s->plus[i] : NULL,
						      i < s->n_minus ? s->minus[i] : NULL, plus,
						      minus, weight, &error) < 0)
		r = fail(&error);
	picture_clear(&pictures[0]);
	picture_clear(&pictures[1]);
	return r;
}

int sequence_attach(const struct sequence *s, sdc_request *request)
{
	const size_t directions =
		larger(larger(s->n_plus, s->n_minus), larger(s->n_plus_images, s->n_minus_images));
	int r = EXIT_OK;

	if (s->n_weights > directions) {
		complain("--weight is of a --plus or --minus");
		return EXIT_USAGE;
	}
	for (size_t i = 0; r == EXIT_OK && i < sequence_waypoints(s); i++)
		r = add_waypoint(s, request, i);
	for (size_t i = 0; r == EXIT_OK && i < directions; i++)
		r = add_direction(s, request, i);
	return r;
}

int sequence_ask(const struct sequence *s, sdc_request *request, size_t first, size_t *ret_n)
{
	const size_t frames = sequence_frames(s);
	const size_t n = frames - first < POSITIONS_MAX ? frames - first : POSITIONS_MAX;
	double positions[POSITIONS_MAX];
	sdc_error error = {0};

	for (size_t i = 0; i < n; i++)
		positions[i] = (double)(sequence_waypoints(s) * (first + i)) / (double)(frames - 1);
	if (sdc_request_set_doubles(request, "positions", positions, n, &error) < 0)
		return fail(&error);
	*ret_n = n;
	return EXIT_OK;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int replay_waypoint(sdc_request *request, const json_t *waypoint)
{
	const json_t *number = json_object_get(waypoint, "seed");
	/* one beyond 2^63 - 1 was written as a real */
	const uint64_t seed = json_is_integer(number) ? (uint64_t)json_integer_value(number)
						      : (uint64_t)json_real_value(number);
	sdc_error error = {0};

	if (!text_of(waypoint, "prompt") && !number) {
		complain("a sequence of pictures cannot be replayed: they are not in the picture");
		return EXIT_FAILED;
	}
	return sdc_request_add_waypoint(request, text_of(waypoint, "prompt"), number ? &seed : NULL,
					NULL, &error) < 0
		       ? fail(&error)
		       : EXIT_OK;
}

static int replay_direction(sdc_request *request, const json_t *direction)
{
	const json_t *weight = json_object_get(direction, "weight");
	sdc_error error = {0};

	if (!text_of(direction, "plus") && !text_of(direction, "minus")) {
		complain(
			"a difference of pictures cannot be replayed: they are not in the picture");
		return EXIT_FAILED;
	}
	return sdc_request_add_direction(
		       request, text_of(direction, "plus"), text_of(direction, "minus"), NULL, NULL,
		       json_is_number(weight) ? json_number_value(weight) : 1, &error) < 0
		       ? fail(&error)
		       : EXIT_OK;
}

int sequence_replay(sdc_request *request, const json_t *asked)
{
	const json_t *waypoints = json_object_get(asked, "waypoints");
	const json_t *directions = json_object_get(asked, "directions");
	const json_t *wanted = json_object_get(asked, "positions");
	double positions[POSITIONS_MAX];
	sdc_error error = {0};
	size_t n = 0;
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < json_array_size(waypoints); i++)
		r = replay_waypoint(request, json_array_get(waypoints, i));
	for (size_t i = 0; r == EXIT_OK && i < json_array_size(directions); i++)
		r = replay_direction(request, json_array_get(directions, i));
	for (; n < json_array_size(wanted) && n < POSITIONS_MAX; n++)
		positions[n] = json_number_value(json_array_get(wanted, n));
	if (r == EXIT_OK && n > 0 &&
	    sdc_request_set_doubles(request, "positions", positions, n, &error) < 0)
		r = fail(&error);
	return r;
}
