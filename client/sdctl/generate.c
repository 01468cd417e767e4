/*
 * The verbs that make pictures: txt2img, img2img, inpaint, outpaint, upscale, edit and explain, sequences, inverted pictures, and
 * replay of a picture made before.
 */
#include "client/sdctl/sdctl.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/sdctl/adapters.h"
#include "client/sdctl/explain.h"
#include "client/sdctl/layers.h"
#include "client/sdctl/metadata.h"
#include "client/sdctl/options.h"
#include "client/sdctl/progress.h"
#include "client/sdctl/sequence.h"

#define OUTPAINT_STEP "128"

struct generation {
	sdc_request *request;
	const char *image_path, *mask_path, *output, *sheet, *preview;
	const char *prompt, *source_prompt; /* as given */
	bool as_layer, detach, any_side, preview_every;
	size_t count;		/* as given, 0: not */
	bool explains, edits;	/* a source or weighted words were given */
	const json_t *replayed; /* the entry a replay follows, or NULL */
	struct picture image, mask;
	struct guides guides;
	struct blend blend;
	struct regions regions;
	struct sequence sequence;
	size_t frame, frames; /* of a sequence: the first of this job, and all of them */
};

static void generation_clear(struct generation *generation)
{
	sdc_request_free(generation->request);
	picture_clear(&generation->image);
	picture_clear(&generation->mask);
	guides_clear(&generation->guides);
	regions_clear(&generation->regions);
}

static int set_field(struct generation *generation, const char *option, const char *value)
{
	sdc_error error = {0};
	char field[32];

	options_field(option, field, sizeof(field));
	if (strcmp(field, "preview") == 0)
		generation->preview_every = true;
	if (strcmp(field, "prompt") == 0)
		generation->prompt = value;
	if (strcmp(field, "count") == 0)
		generation->count = strtoul(value, NULL, 10);
	if (strcmp(field, "source_prompt") == 0) {
		generation->edits = true;
		generation->source_prompt = value;
	}
	if (strcmp(field, "left") == 0 || strcmp(field, "right") == 0 ||
	    strcmp(field, "top") == 0 || strcmp(field, "bottom") == 0)
		generation->any_side = true;
	return sdc_request_set_text(generation->request, field, value, &error) < 0 ? fail(&error)
										   : EXIT_OK;
}

static int attach(struct generation *generation, const char *field, const struct picture *picture)
{
	const sdc_image image = layers_view(picture);
	sdc_error error = {0};

	return sdc_request_set_image(generation->request, field, &image, &error) < 0 ? fail(&error)
										     : EXIT_OK;
}

static int load_one(struct generation *generation, const char *field, const char *path,
		    struct picture *picture)
{
	char message[512];
	int r;

	if (!path)
		return EXIT_OK;
	if (picture_load(path, picture, message, sizeof(message)) < 0) {
		complain("%s%s%s", message, generation->replayed ? "; say where it is with --" : "",
			 generation->replayed ? field : "");
		return generation->replayed ? EXIT_FAILED : EXIT_USAGE;
	}
	r = strcmp(field, "mask") == 0 ? layers_make_mask(picture) : EXIT_OK;
	if (r == EXIT_OK)
		r = layers_check_unchanged(json_object_get(generation->replayed, field), field,
					   picture, path);
	return r == EXIT_OK ? attach(generation, field, picture) : r;
}

static int load_guides(struct generation *generation)
{
	const json_t *sources = json_object_get(generation->replayed, "controls");
	char message[512];
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < generation->guides.n; i++) {
		struct guide *guide = &generation->guides.items[i];
		sdc_error error = {0};
		sdc_image image;

		if (picture_load(guide->path, &guide->picture, message, sizeof(message)) < 0) {
			complain("%s", message);
			return generation->replayed ? EXIT_FAILED : EXIT_USAGE;
		}
		r = layers_check_unchanged(json_array_get(sources, i), "control", &guide->picture,
					   guide->path);
		if (r != EXIT_OK)
			break;
		image = layers_view(&guide->picture);
		if (sdc_request_add_control(generation->request, guide->kind, &image, guide->scale,
					    guide->start, guide->end, &error) < 0)
			r = fail(&error);
	}
	return r;
}

static int load_regions(struct generation *generation)
{
	const json_t *sources = json_object_get(generation->replayed, "regions");
	char message[512];
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < generation->regions.n; i++) {
		struct region *region = &generation->regions.items[i];
		const int *sides = region->sides;
		sdc_error error = {0};
		sdc_image image;

		if (region->path &&
		    picture_load(region->path, &region->mask, message, sizeof(message)) < 0) {
			complain("%s", message);
			return generation->replayed ? EXIT_FAILED : EXIT_USAGE;
		}
		r = region->path ? layers_make_mask(&region->mask) : EXIT_OK;
		if (r == EXIT_OK && region->path)
			r = layers_check_unchanged(json_array_get(sources, i), "region's mask",
						   &region->mask, region->path);
		if (r != EXIT_OK)
			break;
		image = layers_view(&region->mask);
		if (sdc_request_add_region(generation->request, region->prompt,
					   region->path ? &image : NULL, sides[0], sides[1],
					   sides[2], sides[3], region->weight, &error) < 0)
			r = fail(&error);
	}
	return r;
}

static int load_pictures(struct generation *generation)
{
	int r = load_one(generation, "image", generation->image_path, &generation->image);

	if (r == EXIT_OK)
		r = load_one(generation, "mask", generation->mask_path, &generation->mask);
	if (r == EXIT_OK)
		r = sequence_attach(&generation->sequence, generation->request);
	if (r == EXIT_OK)
		r = load_guides(generation);
	return r == EXIT_OK ? load_regions(generation) : r;
}

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
	interrupts = interrupts + 1;
}

/* What a running job shows of itself. */
struct display {
	struct progress progress;
	const char *preview; /* file to rewrite, or NULL */
	const struct layers_target *target;
};

static void on_progress(sdc_job *job, const sdc_progress *now, void *userdata)
{
	static const char *const stages[] = {"loading", "encoding", "steps", "decoding"};
	struct display *display = userdata;

	if (now->position >= 0)
		progress_queued(&display->progress, now->position);
	else if (now->stage >= 0 && now->stage <= SDC_STAGE_DECODE)
		progress_step(&display->progress, stages[now->stage], now->step, now->total,
			      now->eta_ms);
}

/* A preview that cannot be written is told once; the job is worth more. */
static void on_preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	struct display *display = userdata;
	struct picture picture;
	char message[512];

	if (!display->preview || layers_copy_picture(image, &picture) != EXIT_OK)
		return;
	if (picture_save_png(display->preview, &picture, NULL, 0, message, sizeof(message)) < 0) {
		progress_clear(&display->progress);
		complain("%s", message);
		display->preview = NULL;
	}
	picture_clear(&picture);
}

/* A sequence's pictures are there to look at before its end. */
static void on_picture(sdc_job *job, const sdc_image *image, const sdc_reply *picture,
		       void *userdata)
{
	struct display *display = userdata;
	int64_t i = 0;

	sdc_reply_int(picture, "index", &i);
	progress_clear(&display->progress);
	layers_save_early(display->target, (size_t)i, image);
}

/* Until the job ends; the first ^C asks the daemon to cancel and waits for its word, the second leaves. */
static int follow(sdc_client *client, sdc_job *job, struct progress *progress, sdc_error *error)
{
	bool asked = false;
	int r;

	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);
	while ((r = sdc_job_wait(job, 100, error)) == SDC_E_TIMEOUT && !sdc_job_ended(job)) {
		if (interrupts > 0 && !asked)
			asked = sdc_job_cancel(job, NULL) == 0;
		if (interrupts > 1) {
			progress_clear(progress);
			return SDC_E_CANCELLED;
		}
	}
	progress_clear(progress);
	return r;
}

static int submit_detached(const struct context *context, sdc_client *client,
			   struct generation *generation)
{
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	int64_t job = 0;

	sdc_request_set_bool(generation->request, "detach", 1, NULL);
	if (sdc_call(client, generation->request, -1, &reply, &error) < 0)
		return fail(&error);
	sdc_reply_int(reply, "job", &job);
	printf(context->json ? "{\"job\":%lld}\n" : "%lld\n", (long long)job);
	sdc_reply_free(reply);
	return EXIT_OK;
}

/* The path to write down for a source: what a replayed picture says, so that its bytes come back wherever the source lies now. */
static const char *path_to_record(const struct generation *generation, const char *field,
				  const char *path)
{
	const char *recorded = json_string_value(
		json_object_get(json_object_get(generation->replayed, field), "path"));

	return recorded ? recorded : path;
}

/* How to ask for what would fit, in sdctl's own words; the error has said how much is missing. */
static void advise(const sdc_client *client, int code)
{
	static const struct {
		const char *remedy, *advice;
	} rows[] = {
		{"vae_tiling", "this fits with --vae-tiling true"},
		{"weights", "`sdctl load MODEL --weights q8_0` makes the model smaller"},
		{"size", "a smaller --width and --height, or a smaller selection, fits"},
		{"memory_budget", "memory-budget in sdd.conf(5) is how much sdd may use"},
	};
	sdc_shortage shortage;

	if (code != SDC_E_NO_MEMORY || sdc_client_shortage(client, &shortage) < 0)
		return;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].remedy, shortage.remedy) == 0)
			complain("%s", rows[i].advice);
}

static int submit(const struct context *context, sdc_client *client, struct generation *generation)
{
	struct display display = {.preview = generation->preview};
	const sdc_job_handlers handlers = {
		.progress = on_progress, .preview = on_preview, .userdata = &display};
	const struct layers_target target = {
		.output = generation->output,
		.sheet = generation->sheet,
		.as_layer = generation->as_layer,
		.base = generation->image.data ? &generation->image : NULL,
		.base_path = path_to_record(generation, "image", generation->image_path),
		.mask = generation->mask.data ? &generation->mask : NULL,
		.mask_path = path_to_record(generation, "mask", generation->mask_path),
		.guides = &generation->guides,
		.regions = &generation->regions,
		.first = generation->frame,
		.total = generation->frames};
	sdc_error error = {0};
	uint64_t seed;
	sdc_job *job;
	int r;

	display.target = &target;

	progress_init(&display.progress, context->quiet || context->json);
	if (sdc_job_submit(client, generation->request, &handlers, &job, &error) < 0)
		return fail(&error);
	if (generation->frames > 0)
		sdc_job_on_picture(job, on_picture, &display);
	r = follow(client, job, &display.progress, &error);
	if (r == 0) {
		progress_warnings(sdc_job_result(job));
		if (context->verbose)
			progress_timings(sdc_job_result(job));
		r = generation->explains
			    ? explain_save(context, sdc_job_result(job), generation->output)
			    : layers_save(context, sdc_job_result(job), &target);
		/* a sequence's next job goes on with the seed that the daemon drew */
		if (generation->frames > 0 &&
		    sdc_reply_uint(sdc_job_result(job), "images.0.seed", &seed) == 0)
			sdc_request_set_uint(generation->request, "seed", seed, NULL);
	} else {
		error.code = r;
		r = fail(&error);
		advise(client, error.code);
	}
	sdc_job_free(job);
	return r;
}

/* As many jobs as it takes. */
static int submit_sequence(const struct context *context, sdc_client *client,
			   struct generation *generation)
{
	size_t n = 0;
	int r = EXIT_OK;

	sdc_request_set_bool(generation->request, "stream", 1, NULL);
	generation->frames = sequence_frames(&generation->sequence);
	for (; r == EXIT_OK && generation->frame < generation->frames; generation->frame += n) {
		r = sequence_ask(&generation->sequence, generation->request, generation->frame, &n);
		if (r == EXIT_OK)
			r = submit(context, client, generation);
	}
	return r;
}

static size_t pictures_of(const struct generation *generation)
{
	return sequence_waypoints(&generation->sequence) > 0
		       ? sequence_frames(&generation->sequence)
		       : generation->count;
}

static int run(const struct context *context, struct generation *generation)
{
	sdc_client *client;
	int r;

	if (!generation->output && !generation->detach) {
		if (isatty(STDOUT_FILENO)) {
			complain("give -o FILE, or pipe the picture somewhere");
			return EXIT_USAGE;
		}
		generation->output = "-";
	}
	r = generation->detach ? EXIT_OK
			       : layers_check_output(generation->output, pictures_of(generation));
	if (r == EXIT_OK)
		r = load_pictures(generation);
	if (r == EXIT_OK && generation->preview && !generation->preview_every)
		r = set_field(generation, "preview-every", "1");
	if (r == EXIT_OK)
		r = reach_daemon(context, &client);
	if (r != EXIT_OK)
		return r;
	if (generation->detach)
		r = submit_detached(context, client, generation);
	else
		r = (sequence_waypoints(&generation->sequence) > 0 ? submit_sequence : submit)(
			context, client, generation);
	sdc_client_free(client);
	return r;
}

static int parse(struct generation *generation, const struct verb *verb, int argc, char **argv)
{
	struct option options[OPTIONS_MAX + 1];
	int option, index, r = EXIT_OK;

	options_of(verb, options);
	while (r == EXIT_OK &&
	       (option = getopt_long(argc, argv, OPTION_LETTERS, options, &index)) >= 0) {
		switch (option) {
		case OPTION_FIELD:
			r = set_field(generation, options[index].name, optarg);
			break;
		case OPTION_CONTROL:
			r = adapters_parse_control(optarg, &generation->guides);
			break;
		case OPTION_LORA:
			r = adapters_add_lora(generation->request, optarg);
			break;
		case OPTION_REGION:
			r = adapters_parse_region(optarg, &generation->regions);
			break;
		case OPTION_WORD:
			generation->edits = true;
			r = adapters_add_word(generation->request, optarg);
			break;
		case OPTION_BLEND:
			r = adapters_add_blend(generation->request, &generation->blend, optarg);
			break;
		case OPTION_DETACH:
			generation->detach = true;
			break;
		case OPTION_LAYER:
			generation->as_layer = true;
			break;
		case OPTION_SHEET:
			generation->sheet = optarg;
			break;
		case OPTION_PREVIEW:
			generation->preview = optarg;
			break;
		case 'i':
			generation->image_path = optarg;
			break;
		case 'm':
			generation->mask_path = optarg;
			break;
		case 'o':
			generation->output = optarg;
			break;
		case 'h':
			exit(options_print(verb));
		default:
			r = sequence_option(&generation->sequence, option, optarg);
			if (r < 0)
				r = usage(verb);
		}
	}
	if (r == EXIT_OK && optind + 1 < argc) {
		complain("one prompt, please; put it in quotes");
		r = usage(verb);
	}
	if (r == EXIT_OK && optind < argc)
		r = set_field(generation, "prompt", argv[optind]);
	return r;
}

/* Two verbs are txt2img jobs that do more. */
static int run_text(const struct context *context, int argc, char **argv)
{
	struct generation generation = {.explains = strcmp(argv[0], "explain") == 0};
	sdc_error error = {0};
	int r;

	generation.request = sdc_job_request_new("txt2img", &error);
	if (!generation.request)
		return fail(&error);
	r = parse(&generation, find_verb(generate_verbs, argv[0]), argc, argv);
	if (r == EXIT_OK && !generation.explains && !generation.edits) {
		complain("edit needs --source PROMPT, what the picture was made from, or --word");
		r = EXIT_USAGE;
	}
	if (r == EXIT_OK && generation.explains)
		r = set_field(&generation, "explain", "true");
	if (r == EXIT_OK)
		r = run(context, &generation);
	generation_clear(&generation);
	return r;
}

static int run_generate(const struct context *context, int argc, char **argv)
{
	static const char *const sides[] = {"left", "right", "top", "bottom"};
	const bool needs_image = strcmp(argv[0], "txt2img") != 0;
	struct generation generation = {0};
	sdc_error error = {0};
	int r;

	generation.request = sdc_job_request_new(argv[0], &error);
	if (!generation.request)
		return fail(&error);
	r = parse(&generation, find_verb(generate_verbs, argv[0]), argc, argv);
	if (r == EXIT_OK && needs_image && !generation.image_path) {
		if (isatty(STDIN_FILENO)) {
			complain("%s needs a picture: give -i FILE, or pipe one in", argv[0]);
			r = EXIT_USAGE;
		}
		generation.image_path = "-";
	}
	if (strcmp(argv[0], "outpaint") == 0 && !generation.any_side) {
		for (size_t i = 0; i < 4 && r == EXIT_OK; i++)
			r = set_field(&generation, sides[i], OUTPAINT_STEP);
	}
	if (r == EXIT_OK)
		r = run(context, &generation);
	generation_clear(&generation);
	return r;
}

static int run_interpolate(const struct context *context, int argc, char **argv)
{
	struct generation generation = {0};
	sdc_error error = {0};
	int r;

	generation.request = sdc_job_request_new("txt2img", &error);
	if (!generation.request)
		return fail(&error);
	r = parse(&generation, find_verb(generate_verbs, argv[0]), argc, argv);
	if (r == EXIT_OK && sequence_waypoints(&generation.sequence) == 0) {
		complain("interpolate needs where to go: --to PROMPT, --to-seed N or --to-image "
			 "FILE");
		r = EXIT_USAGE;
	}
	if (r == EXIT_OK && !generation.image_path && generation.sequence.n_images > 0) {
		complain("--to-image needs a picture to begin with: -i FILE");
		r = EXIT_USAGE;
	}
	if (r == EXIT_OK && generation.image_path)
		r = set_field(&generation, "kind", "img2img");
	if (r == EXIT_OK)
		r = run(context, &generation);
	generation_clear(&generation);
	return r;
}

static int run_invert(const struct context *context, int argc, char **argv)
{
	struct generation generation = {0};
	sdc_error error = {0};
	int r;

	generation.request = sdc_job_request_new("img2img", &error);
	if (!generation.request)
		return fail(&error);
	r = parse(&generation, find_verb(generate_verbs, argv[0]), argc, argv);
	if (r == EXIT_OK && !(generation.image_path && generation.source_prompt)) {
		complain("invert needs a picture, -i FILE, and what it shows, --source TEXT");
		r = EXIT_USAGE;
	}
	if (r == EXIT_OK)
		r = set_field(&generation, "noising", "invert");
	if (r == EXIT_OK && !generation.prompt)
		r = set_field(&generation, "prompt", generation.source_prompt);
	if (r == EXIT_OK)
		r = run(context, &generation);
	generation_clear(&generation);
	return r;
}

static int replay_fields(struct generation *generation, const json_t *entry)
{
	const json_t *request = json_object_get(entry, "request");
	char text[16385];
	const char *key;
	json_t *value;
	int r = EXIT_OK;

	json_object_foreach ((json_t *)request, key, value) {
		metadata_spell(key, value, text, sizeof(text));
		if (r == EXIT_OK && text[0])
			r = set_field(generation, key, text);
	}
	if (r == EXIT_OK)
		r = set_field(generation, "seed",
			      json_string_value(json_object_get(entry, "seed")));
	return r;
}

static int replay_entry(const struct context *context, struct generation *generation,
			const json_t *entry)
{
	const char *kind =
		json_string_value(json_object_get(json_object_get(entry, "request"), "kind"));
	const char *image =
		json_string_value(json_object_get(json_object_get(entry, "image"), "path"));
	const char *mask =
		json_string_value(json_object_get(json_object_get(entry, "mask"), "path"));
	const char *output = json_string_value(json_object_get(entry, "output"));
	sdc_error error = {0};
	int r;

	generation->request = sdc_job_request_new(kind ? kind : "", &error);
	if (!generation->request)
		return fail(&error);
	generation->replayed = entry;
	generation->as_layer = output && strcmp(output, "layer") == 0;
	if (!generation->image_path)
		generation->image_path = image;
	if (!generation->mask_path)
		generation->mask_path = mask;
	r = replay_fields(generation, entry);
	if (r == EXIT_OK)
		r = adapters_replay(generation->request, entry, &generation->guides,
				    &generation->regions);
	if (r == EXIT_OK)
		r = sequence_replay(generation->request, json_object_get(entry, "request"));
	return r == EXIT_OK ? run(context, generation) : r;
}

static int run_replay(const struct context *context, int argc, char **argv)
{
	const struct verb *verb = find_verb(generate_verbs, argv[0]);
	struct generation generation = {0};
	struct option options[OPTIONS_MAX + 1];
	char message[512], *text;
	int option, r;
	json_t *entry;

	options_of(verb, options);
	while ((option = getopt_long(argc, argv, OPTION_LETTERS, options, NULL)) >= 0) {
		if (option == 'i')
			generation.image_path = optarg;
		else if (option == 'm')
			generation.mask_path = optarg;
		else if (option == 'o')
			generation.output = optarg;
		else if (option == 'h')
			return options_print(verb);
		else
			return usage(verb);
	}
	if (optind + 1 != argc)
		return usage(verb);
	if (picture_png_text(argv[optind], METADATA_KEY, &text, message, sizeof(message)) < 0) {
		complain("%s", message);
		return EXIT_USAGE;
	}
	entry = metadata_parse(text);
	free(text);
	if (!entry || !json_is_string(json_object_get(entry, "seed"))) {
		complain("%s: its \"%s\" entry is damaged", argv[optind], METADATA_KEY);
		json_decref(entry);
		return EXIT_USAGE;
	}
	r = replay_entry(context, &generation, entry);
	generation_clear(&generation);
	json_decref(entry);
	return r;
}

const struct verb generate_verbs[] = {
	{"txt2img", run_generate, "[options] [-o FILE] PROMPT", "make a picture from words"},
	{"img2img", run_generate, "[options] -i FILE [-o FILE] PROMPT", "restyle a picture"},
	{"inpaint", run_generate,
	 "[options] -i FILE (--select X,Y,W,H | --mask FILE) [-o FILE] PROMPT",
	 "repaint a selection, leave the rest alone"},
	{"outpaint", run_generate,
	 "[options] -i FILE [--left N] [--right N] [--top N] [--bottom N] [-o FILE] PROMPT",
	 "grow a picture beyond its edges"},
	{"upscale", run_generate, "[options] -i FILE [--scale X] [-o FILE] PROMPT",
	 "make a picture larger, with detail"},
	{"edit", run_text, "(--source PROMPT | --word WORD=X) [options] [-o FILE] PROMPT",
	 "make a picture's twin for another prompt"},
	{"explain", run_text, "[options] -o SHEET PROMPT",
	 "show where a picture looked at each word"},
	{"interpolate", run_interpolate,
	 "[options] [-i FILE] [--to PROMPT] [--to-seed N] [--to-image FILE] -o FILE PROMPT",
	 "make pictures between prompts, seeds or pictures"},
	{"invert", run_invert, "[options] -i FILE --source PROMPT [-o FILE] [PROMPT]",
	 "find a picture's noise, and paint it again or otherwise"},
	{"replay", run_replay, "FILE.png -o FILE",
	 "make a picture again from what it says about itself"},
	{0},
};
