/*
 * The table of options: see options.h. Ranges and defaults are the protocol's (sdd-protocol(7)); what is said here is what
 * a person at a shell needs to choose.
 */
#include "client/sdctl/options.h"

#include <stdio.h>
#include <string.h>

enum {
	TXT2IMG = 1,
	IMG2IMG = 2,
	INPAINT = 4,
	OUTPAINT = 8,
	REPLAY = 16,
	UPSCALE = 32,
	EXPLAIN = 64,
	EDIT = 128,
	INTERPOLATE = 256,
	INVERT = 512
};
#define TEXT	 (TXT2IMG | INTERPOLATE)
#define PICTURE	 (IMG2IMG | INTERPOLATE | INVERT)
#define WATCHED	 (EXPLAIN | EDIT)
#define GENERATE (TEXT | PICTURE | INPAINT | OUTPAINT | UPSCALE | WATCHED)
#define SOURCE	 (PICTURE | INPAINT | OUTPAINT | UPSCALE)
#define HOLE	 (INPAINT | OUTPAINT)

static const char *const verbs[] = {"txt2img", "img2img", "inpaint", "outpaint",    "replay",
				    "upscale", "explain", "edit",    "interpolate", "invert"};

struct entry {
	const char *name;
	int code;	   /* a letter, or OPTION_... */
	const char *value; /* how the help calls it; NULL: takes none */
	unsigned int takers;
	const char *help;
};

static const struct entry table[] = {
	{"image", 'i', "FILE", SOURCE | REPLAY, "the picture to start from; - is standard input"},
	{"mask", 'm', "FILE", INPAINT | REPLAY, "white is repainted, greys are soft"},
	{"select", OPTION_FIELD, "X,Y,W,H", INPAINT, "the rectangle to repaint, pixels"},
	{"left", OPTION_FIELD, "N", OUTPAINT, "pixels to grow on this side"},
	{"right", OPTION_FIELD, "N", OUTPAINT, "pixels to grow on this side"},
	{"top", OPTION_FIELD, "N", OUTPAINT, "pixels to grow on this side"},
	{"bottom", OPTION_FIELD, "N", OUTPAINT, "pixels to grow on this side"},
	{"output", 'o', "FILE", GENERATE | REPLAY, "the PNG to write; - is standard output"},
	{"source", OPTION_FIELD, "PROMPT", INVERT, "what the picture shows"},
	{"source", OPTION_FIELD, "PROMPT", WATCHED,
	 "the prompt of the picture that this one is an edit of"},
	{"edit", OPTION_FIELD, "HOW", WATCHED,
	 "new words: auto; replace, word by word; or refine (auto)"},
	{"cross-replace", OPTION_FIELD, "X", WATCHED,
	 "share of the steps that keep the source's shapes (0.8)"},
	{"self-replace", OPTION_FIELD, "X", WATCHED,
	 "share of the steps that keep its layout (0.4)"},
	{"word", OPTION_WORD, "WORD=X", WATCHED,
	 "how much a word counts, 0: not at all (1); may be repeated"},
	{"local-blend", OPTION_BLEND, "WORD", WATCHED,
	 "change nothing but what this word is looked at for; may be repeated"},
	{"blend-threshold", OPTION_FIELD, "X", WATCHED,
	 "local blend: how much it must be looked at, of the most (0.3)"},
	{"blend-start", OPTION_FIELD, "X", WATCHED,
	 "local blend: share of the steps before it begins (0.2)"},
	{"sheet", OPTION_SHEET, "FILE", GENERATE & ~WATCHED, "also write a before/after sheet"},
	{"layer", OPTION_LAYER, NULL, SOURCE, "write the new RGBA layer alone"},
	{"preview", OPTION_PREVIEW, "FILE", GENERATE, "a PNG rewritten while the job runs"},
	{"preview-every", OPTION_FIELD, "N", GENERATE, "steps between previews (1)"},
	{"model", OPTION_FIELD, "NAME", GENERATE, "one of sdctl models"},
	{"negative", OPTION_FIELD, "PROMPT", GENERATE, "what it should not show"},
	{"seed", OPTION_FIELD, "N", GENERATE, "same seed, same picture; else one is drawn"},
	{"count", OPTION_FIELD, "N", GENERATE & ~(EXPLAIN | INTERPOLATE),
	 "pictures to make, of seed, seed + 1, ... (1)"},
	{"steps", OPTION_FIELD, "N", GENERATE, "denoising steps"},
	{"guidance", OPTION_FIELD, "X", GENERATE, "how closely to follow the prompt; up to 1: off"},
	{"guidance-rescale", OPTION_FIELD, "X", GENERATE,
	 "scale guidance back to the prompt's contrast, 0 to 1 (0)"},
	{"guider", OPTION_FIELD, "HOW", GENERATE, "cfg, or apg against burnt colours (cfg)"},
	{"apg-eta", OPTION_FIELD, "X", GENERATE, "apg: the saturating part that stays, 0 to 1 (0)"},
	{"apg-momentum", OPTION_FIELD, "X", GENERATE, "apg: of the updates' running sum (-0.5)"},
	{"apg-norm", OPTION_FIELD, "X", GENERATE, "apg: an update's length at most (15)"},
	{"rng", OPTION_FIELD, "WHICH", GENERATE,
	 "whose seeds: torch-cpu, or philox as A1111 on NVIDIA (torch-cpu)"},
	{"tiles", OPTION_FIELD, "WHEN", TEXT | PICTURE | INPAINT | UPSCALE,
	 "paint in blended tiles of native size: auto, on or off (auto)"},
	{"tiling", OPTION_FIELD, "SIDES", TEXT | PICTURE | WATCHED,
	 "seamless: x, y or both sides meet (none)"},
	{"hires-scale", OPTION_FIELD, "X", TEXT, "enlarge it by a second pass, 1 to 4 (1)"},
	{"hires-strength", OPTION_FIELD, "X", TEXT, "how much that pass repaints (0.4)"},
	{"sampler", OPTION_FIELD, "NAME", GENERATE, "such as \"DPM++ 2M Karras\" or \"Euler a\""},
	{"strength", OPTION_FIELD, "X", SOURCE, "how much to change: 0 nothing, 1 everything"},
	{"scale", OPTION_FIELD, "X", UPSCALE,
	 "how many times larger each side becomes, 1 to 4 (2)"},
	{"lora", OPTION_LORA, "NAME[:WEIGHT]", GENERATE,
	 "a LoRA of sdctl adapters (1); may be repeated"},
	{"control", OPTION_CONTROL, "KIND=IMAGE[:SCALE]", TEXT | PICTURE | INPAINT | EXPLAIN,
	 "guide it by a picture: canny, scribble or a ControlNet's name"},
	{"to", OPTION_TO, "PROMPT", INTERPOLATE, "a prompt on the way; may be repeated"},
	{"to-seed", OPTION_TO_SEED, "N", INTERPOLATE, "a seed on the way; may be repeated"},
	{"to-image", OPTION_TO_IMAGE, "FILE", INTERPOLATE, "a picture on the way; may be repeated"},
	{"frames", OPTION_FRAMES, "N", INTERPOLATE,
	 "pictures from the first to the last (8 a way, and the first)"},
	{"interpolation", OPTION_FIELD, "HOW", INTERPOLATE,
	 "between seeds: slerp, on the sphere, or lerp (slerp)"},
	{"plus", OPTION_PLUS, "PROMPT", TEXT | PICTURE, "add what it says; may be repeated"},
	{"minus", OPTION_MINUS, "PROMPT", TEXT | PICTURE, "and take away what it says"},
	{"plus-image", OPTION_PLUS_IMAGE, "FILE", PICTURE, "add its latents; may be repeated"},
	{"minus-image", OPTION_MINUS_IMAGE, "FILE", PICTURE, "and take away its latents"},
	{"weight", OPTION_WEIGHT, "X", TEXT | PICTURE, "how much of plus less minus (1)"},
	{"region", OPTION_REGION, "X,Y,W,H|MASK=PROMPT", TEXT | PICTURE | INPAINT | UPSCALE,
	 "another prompt for a part; :WEIGHT before = mixes it; may be repeated"},
	{"guess-mode", OPTION_FIELD, "true|false", TEXT | PICTURE | INPAINT | EXPLAIN,
	 "let ControlNets guide without the negative prompt (false)"},
	{"vae-tiling", OPTION_FIELD, "true|false", GENERATE,
	 "run the autoencoder in tiles, which takes less memory (false)"},
	{"clip-skip", OPTION_FIELD, "N", GENERATE, "text encoder layers to skip (0)"},
	{"width", OPTION_FIELD, "N", TEXT | WATCHED, "pixels, a multiple of 8"},
	{"height", OPTION_FIELD, "N", TEXT | WATCHED, "pixels, a multiple of 8"},
	{"feather", OPTION_FIELD, "X", HOLE, "soft edge, of the diagonal (0.1); 0: exact"},
	{"grow", OPTION_FIELD, "N", HOLE, "pixels to grow the selection by (4)"},
	{"padding", OPTION_FIELD, "X", HOLE, "surroundings that come back (0.06)"},
	{"context", OPTION_FIELD, "WHAT", HOLE, "what the model sees: a word or X,Y,W,H (auto)"},
	{"fill", OPTION_FIELD, "HOW", HOLE, "what stands in the hole before the first step (auto)"},
	{"color-match", OPTION_FIELD, "true|false", HOLE,
	 "match colours to the surroundings (true)"},
	{"priority", OPTION_FIELD, "CLASS", GENERATE, "interactive, normal or batch (normal)"},
	{"detach", OPTION_DETACH, NULL, GENERATE & ~(EXPLAIN | INTERPOLATE),
	 "print the job's number and leave"},
	{"help", 'h', NULL, GENERATE | REPLAY, "print this"},
};

#define ENTRIES (sizeof(table) / sizeof(table[0]))
_Static_assert(ENTRIES <= OPTIONS_MAX, "OPTIONS_MAX is too small");

static unsigned int bit_of(const struct verb *verb)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verb->name, verbs[i]) == 0)
			return 1u << i;
	return 0;
}

void options_of(const struct verb *verb, struct option options[OPTIONS_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < ENTRIES; i++)
		if (table[i].takers & bit_of(verb))
			options[n++] = (struct option){
				table[i].name, table[i].value ? required_argument : no_argument,
				NULL, table[i].code};
	options[n] = (struct option){0};
}

void options_field(const char *option, char *field, size_t size)
{
	if (strcmp(option, "negative") == 0)
		option = "negative_prompt";
	else if (strcmp(option, "guidance") == 0)
		option = "guidance_scale";
	else if (strcmp(option, "preview-every") == 0)
		option = "preview";
	else if (strcmp(option, "source") == 0)
		option = "source_prompt";
	snprintf(field, size, "%s", option);
	for (char *c = field; *c; c++) {
		if (*c == '-')
			*c = '_';
	}
}

int options_print(const struct verb *verb)
{
	printf("usage: sdctl %s %s\n%s\n\noptions:\n", verb->name, verb->arguments, verb->help);
	for (size_t i = 0; i < ENTRIES; i++) {
		const struct entry *entry = &table[i];
		char left[40];

		if (!(entry->takers & bit_of(verb)))
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", entry->name, entry->value ? " " : "",
			 entry->value ? entry->value : "");
		if (entry->code < OPTION_FIELD)
			printf("  -%c, %-26s  %s\n", entry->code, left, entry->help);
		else
			printf("      %-26s  %s\n", left, entry->help);
	}
	printf("\nWhat is left out is the model's choice. sdctl(1) and sdd-protocol(7) tell "
	       "more.\n");
	return EXIT_OK;
}
