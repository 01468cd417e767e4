/*
 * The options of the verbs that make pictures: one table for the command line, for `sdctl VERB --help` and, through that,
 * for shell completion. Most are fields of job.submit; the library checks their values by the protocol's own tables.
 */
#pragma once

#include <getopt.h>
#include <stddef.h>

#include "client/sdctl/sdctl.h"

/* What getopt_long returns for an option without a letter. */
enum {
	OPTION_FIELD = 256,
	OPTION_CONTROL,
	OPTION_DETACH,
	OPTION_LAYER,
	OPTION_LORA,
	OPTION_PREVIEW,
	OPTION_SHEET,
	OPTION_REGION,
	OPTION_WORD,
	OPTION_BLEND,
	OPTION_TO,
	OPTION_TO_SEED,
	OPTION_TO_IMAGE,
	OPTION_FRAMES,
	OPTION_PLUS,
	OPTION_MINUS,
	OPTION_PLUS_IMAGE,
	OPTION_MINUS_IMAGE,
	OPTION_WEIGHT,
};

#define OPTIONS_MAX    80
#define OPTION_LETTERS "i:m:o:h"

/* Those that verb takes, ended by an empty entry. */
void options_of(const struct verb *verb, struct option options[OPTIONS_MAX + 1]);

/* The field of job.submit that an option sets: "clip-skip" -> "clip_skip", and the forms people type. */
void options_field(const char *option, char *field, size_t size);

/* Usage line and options of the verb, a line each. Returns EXIT_OK. */
int options_print(const struct verb *verb);
