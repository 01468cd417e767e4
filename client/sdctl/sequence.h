/*
 * What the command line says of latent space: where a sequence leads (--to, --to-seed, --to-image, --frames) and what is added to the
 * prompt or the picture (--plus, --minus, --plus-image, --minus-image, --weight). The n-th of each option belong together.
 */
#pragma once

#include <stddef.h>

#include <jansson.h>

#include "client/sdctl/picture.h"
#include "client/sdctl/sdctl.h"

#define WAYPOINTS_MAX  8
#define DIRECTIONS_MAX 4
#define FRAMES_MAX     1000
#define POSITIONS_MAX  16 /* of a job */

/* A number or a text, and a picture; borrowed, NULL = not given. */
struct sequence {
	const char *to[WAYPOINTS_MAX], *seeds[WAYPOINTS_MAX], *images[WAYPOINTS_MAX];
	size_t n_to, n_seeds, n_images;
	const char *plus[DIRECTIONS_MAX], *minus[DIRECTIONS_MAX], *weights[DIRECTIONS_MAX];
	const char *plus_images[DIRECTIONS_MAX], *minus_images[DIRECTIONS_MAX];
	size_t n_plus, n_minus, n_weights, n_plus_images, n_minus_images;
	int frames; /* 0 = not given */
};

/* Remember an option. EXIT_OK, EXIT_USAGE with a complaint, or -1: it is none of these. */
int sequence_option(struct sequence *sequence, int option, const char *value);
/* Waypoints and directions into the request; pictures are loaded for it. An exit code. */
int sequence_attach(const struct sequence *sequence, sdc_request *request);
size_t sequence_waypoints(const struct sequence *sequence);
/* How many pictures: --frames, or nine a waypoint with its begin. */
size_t sequence_frames(const struct sequence *sequence);
/* Ask for frames first, first + 1, ... as many as a job makes; *ret_n: how many. An exit code. */
int sequence_ask(const struct sequence *sequence, sdc_request *request, size_t first,
		 size_t *ret_n);
/* The same from a picture's own entry. */
int sequence_replay(sdc_request *request, const json_t *asked);
