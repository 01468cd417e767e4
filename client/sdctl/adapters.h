/*
 * What --lora, --control, --region, --word and --local-blend say, for the verbs that make pictures and for their replay.
 */
#pragma once

#include <stddef.h>

#include <jansson.h>

#include "client/sdctl/picture.h"
#include "client/sdctl/sdctl.h"

#define GUIDES_MAX  8
#define REGIONS_MAX 8

/* A guiding picture as asked for. */
struct guide {
	char *kind, *path; /* owned */
	double scale, start, end;
	struct picture picture; /* once loaded */
};

struct guides {
	struct guide items[GUIDES_MAX];
	size_t n;
};

/* A prompt for a part of the picture, as asked for. */
struct region {
	char *path, *prompt; /* owned; path NULL: the part is a rectangle */
	int sides[4];
	double weight;
	struct picture mask; /* once loaded */
};

struct regions {
	struct region items[REGIONS_MAX];
	size_t n;
};

#define BLEND_MAX 8

/* Words of a local blend. */
struct blend {
	const char *words[BLEND_MAX];
	size_t n;
};

/* --lora NAME[:WEIGHT] into the request. EXIT_OK or EXIT_USAGE, told. */
int adapters_add_lora(sdc_request *request, const char *text);
/* --control KIND=IMAGE[:SCALE[:START:END]]: remembered, not loaded yet. */
int adapters_parse_control(const char *text, struct guides *guides);
/* --region X,Y,W,H[:WEIGHT]=PROMPT or MASK[:WEIGHT]=PROMPT: remembered, not loaded yet. */
int adapters_parse_region(const char *text, struct regions *regions);
/* --word WORD=WEIGHT into the request. */
int adapters_add_word(sdc_request *request, const char *text);
/* --local-blend WORD into the request, behind those of before; borrowed. */
int adapters_add_blend(sdc_request *request, struct blend *blend, const char *word);
/*
 * The loras, controls, regions, weighted and blended words of a request that is replayed; entry: what the picture carries (paths of the guides and
 * the masks). LoRAs and words go into the request, the rest is remembered.
 */
int adapters_replay(sdc_request *request, const json_t *entry, struct guides *guides,
		    struct regions *regions);
void guides_clear(struct guides *guides);
void regions_clear(struct regions *regions);
