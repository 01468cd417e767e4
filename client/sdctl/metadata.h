/*
 * What a written PNG says about its making: "parameters" in the line format that A1111 began and other tools read,
 * and "sdd", a JSON object complete enough for `sdctl replay` to ask for the same bytes again.
 *
 * The JSON object: {"sdd": 1, "request": {the effective job.submit fields, pixels left out}, "layer": n,
 * "image": {"path", "fnv1a64"}, "mask": {...}, "output": "layer" | "picture"}.
 */
#pragma once

#include <jansson.h>

#include "client/sdctl/picture.h"

#define METADATA_KEY	 "sdd"
#define METADATA_VERSION 1

/*
 * request: the effective parameters of the job; picture: the one they are written into. Returns malloc'ed text, or NULL
 * when out of memory.
 */
char *metadata_a1111(const json_t *request, uint64_t seed, const struct picture *picture);

/* JSON written by the daemon or by us; a seed beyond 2^63 - 1 becomes a real. NULL when it is none. */
json_t *metadata_parse(const char *text);

/* FNV-1a 64 over size, type and pixels: tells whether a source picture is still the one a job was made from. */
uint64_t metadata_fingerprint(const struct picture *picture);

/* A field of a request as a command line would spell its value. Empty for null, and for what is no option's value: kind, seed, lists. */
void metadata_spell(const char *field, const json_t *value, char *text, size_t size);
