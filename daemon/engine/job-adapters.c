/*
 * The adapters of a job: LoRAs named in its list and in its prompt's tags, learnt words of its prompts, guiding pictures. Names are
 * looked up below the job's roots; the model is set up once and back to itself at the end.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/adapters/controls.h"
#include "daemon/engine/adapters/ip-adapter.h"
#include "daemon/engine/adapters/preprocess.h"
#include "daemon/engine/adapters/words.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/prompt/tags.h"

#define CONTROL_SCALE_MAX 10.0

/* A job's prompts: its own two, the source's, and those of its lists. */
enum {
	TEXTS_MAX = 3 + SDE_REGIONS_MAX + SDE_WAYPOINTS_MAX + 2 * SDE_DIRECTIONS_MAX,
};

/* Owned by the run. */
struct sde_job_adapters {
	struct sde_adapter_roots roots;
	char *prompt; /* without tags */
	struct sde_lora_tag *tags;
	size_t n_tags;
	struct sde_words words;
	struct sde_guide guides[SDE_GUIDES_MAX]; /* without pictures */
	const struct sde_control *sources[SDE_GUIDES_MAX];
	size_t n_guides;
	float *image_tokens; /* of an IP-Adapter: no picture's, then the picture's */
	float *pictures[SDE_GUIDES_MAX];
};

struct lora_list {
	struct sde_lora_use uses[SDE_LORAS_MAX];
	char *paths[SDE_LORAS_MAX];
	size_t n;
};

static int add_lora(struct sde_job_run *run, struct lora_list *list, const char *name,
		    double weight)
{
	char *path;
	int r;

	if (list->n == SDE_LORAS_MAX)
		return sde_error_set(run->error, -EINVAL, "at most %d LoRAs at once",
				     SDE_LORAS_MAX);
	r = sde_adapter_find(&run->adapters->roots, "loras", "LoRA", name, &path, run->error);
	if (r < 0)
		return r;
	list->paths[list->n] = path;
	list->uses[list->n++] = (struct sde_lora_use){name, path, weight};
	return 0;
}

/* The IP-Adapter's own image encoder lies beside it. */
static char *encoder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *encoder;

	return asprintf(&encoder, "%.*s/image_encoder", slash ? (int)(slash - path) : 1,
			slash ? path : ".") < 0
		       ? NULL
		       : encoder;
}

struct name_search {
	const char *word;
	char name[SDE_ADAPTER_NAME_MAX + 1];
};

static int look_for_word(void *userdata, const char *name, const char *path)
{
	struct name_search *search = userdata;

	if (strcasestr(name, search->word) && (!search->name[0] || strcmp(name, search->name) < 0))
		snprintf(search->name, sizeof(search->name), "%s", name);
	return strcmp(name, search->word) == 0 ? 1 : 0;
}

/* An entry of controlnets/ by name, else the first whose name holds the kind: "canny" finds control_v11p_sd15_canny. */
static int find_control(struct sde_job_run *run, const char *kind, char **ret_path)
{
	const struct sde_adapter_roots *roots = &run->adapters->roots;
	struct name_search search = {.word = kind};

	if (sde_adapter_each(roots, "controlnets", look_for_word, &search) == 1)
		snprintf(search.name, sizeof(search.name), "%s", kind);
	return sde_adapter_find(roots, "controlnets", "ControlNet",
				search.name[0] ? search.name : kind, ret_path, run->error);
}

static int check_control(struct sde_job_run *run, const struct sde_control *control)
{
	if (!control->kind || !control->kind[0] || !control->image)
		return sde_error_set(run->error, -EINVAL,
				     "a control needs its kind (canny, scribble or the name of a "
				     "ControlNet) and an image");
	if (!(fabs(control->scale) <= CONTROL_SCALE_MAX))
		return sde_error_set(run->error, -EINVAL,
				     "control %s: scale must be %g to %g, not %g", control->kind,
				     -CONTROL_SCALE_MAX, CONTROL_SCALE_MAX, control->scale);
	if (!(control->start >= 0 && control->start < control->end && control->end <= 1))
		return sde_error_set(run->error, -EINVAL,
				     "control %s: start and end must be fractions of the steps, "
				     "start before end, not %g and %g",
				     control->kind, control->start, control->end);
	if (run->job->kind == SDE_OUTPAINT)
		return sde_error_set(run->error, -EINVAL,
				     "outpaint jobs take no guiding pictures: the canvas grows in "
				     "steps of its own");
	if (run->job->image && (control->image->width != run->job->image->width ||
				control->image->height != run->job->image->height))
		return sde_error_set(
			run->error, -EINVAL,
			"control %s: its image is %u x %u, the canvas %u x %u; they must "
			"be of one size",
			control->kind, control->image->width, control->image->height,
			run->job->image->width, run->job->image->height);
	return 0;
}

/* Guides in *adapters; an IP-Adapter goes to *ret_ip, whose strings the caller frees. */
static int add_control(struct sde_job_run *run, const struct sde_control *control,
		       struct sde_ip_use *ret_ip, const struct sde_control **ret_ip_control)
{
	struct sde_job_adapters *adapters = run->adapters;
	struct sde_guide *guide = &adapters->guides[adapters->n_guides];
	_cleanup_free_ char *path = NULL;
	enum sde_control_kind kind;
	int r;

	r = check_control(run, control);
	if (r >= 0)
		r = find_control(run, control->kind, &path);
	if (r >= 0)
		r = sde_control_kind(path, control->kind, &kind, run->error);
	if (r < 0)
		return r;
	if (kind != SDE_CONTROL_IP) {
		*guide = (struct sde_guide){
			.scale = control->scale, .start = control->start, .end = control->end};
		adapters->sources[adapters->n_guides++] = control;
		return sde_controls_get(run->model, kind, path, control->kind, guide, run->error);
	}
	if (ret_ip->path)
		return sde_error_set(run->error, -EINVAL, "one IP-Adapter a job, not two");
	*ret_ip = (struct sde_ip_use){.name = control->kind,
				      .path = path,
				      .encoder = encoder_of(path),
				      .scale = control->scale};
	path = NULL;
	*ret_ip_control = control;
	return ret_ip->encoder ? 0 : sde_error_set(run->error, -ENOMEM, "no memory");
}

/* Tokens of no picture and of the job's, for both halves of a batch. */
static int make_image_tokens(struct sde_job_run *run, const struct sde_control *control)
{
	const struct sde_ip_adapter *ip = sde_model_ip_adapter(run->model);
	const size_t n = (size_t)ip->tokens * (size_t)ip->width;
	const size_t side = (size_t)ip->encoder.image_size;
	_cleanup_free_ float *pixels = malloc(3 * side * side * sizeof(*pixels));
	_cleanup_free_ float *features =
		malloc(sde_ip_adapter_features_size(ip) * sizeof(*features));
	float *tokens = run->adapters->image_tokens = malloc(2 * n * sizeof(*tokens));
	int r;

	if (!pixels || !features || !tokens)
		return sde_error_set(run->error, -ENOMEM, "no memory for an IP-Adapter");
	r = sde_ip_adapter_pixels(ip, control->image, pixels, run->error);
	for (int i = 0; r >= 0 && i < 2; i++) {
		r = sde_ip_adapter_features(run->model->runner, ip, i ? pixels : NULL, features,
					    run->error);
		if (r >= 0)
			r = sde_ip_adapter_tokens(run->model->runner, ip, features,
						  tokens + (size_t)i * n, run->error);
	}
	return r;
}

static int set_up(struct sde_job_run *run, struct lora_list *list, struct sde_ip_use *ip)
{
	const struct sde_job *job = run->job;
	struct sde_job_adapters *adapters = run->adapters;
	const char *texts[TEXTS_MAX] = {adapters->prompt,
					job->negative_prompt ? job->negative_prompt : ""};
	size_t n = 2;
	const struct sde_control *ip_control = NULL;
	int r = 0;

	if (job->n_controls > SDE_GUIDES_MAX)
		return sde_error_set(run->error, -EINVAL, "at most %d guiding pictures, not %zu",
				     SDE_GUIDES_MAX, job->n_controls);
	for (size_t i = 0; r >= 0 && i < job->n_loras; i++)
		r = add_lora(run, list, job->loras[i].name, job->loras[i].weight);
	for (size_t i = 0; r >= 0 && i < adapters->n_tags; i++)
		r = add_lora(run, list, adapters->tags[i].name, adapters->tags[i].weight);
	sde_controls_begin(run->model);
	for (size_t i = 0; r >= 0 && i < job->n_controls; i++)
		r = add_control(run, &job->controls[i], ip, &ip_control);
	if (r >= 0)
		r = sde_model_adapt(run->model, list->uses, list->n, ip->path ? ip : NULL,
				    run->error);
	for (size_t i = 0; i < job->n_regions; i++)
		texts[n++] = job->regions[i].prompt;
	for (size_t i = 0; i < job->n_waypoints; i++)
		if (job->waypoints[i].prompt)
			texts[n++] = job->waypoints[i].prompt;
	for (size_t i = 0; i < job->n_directions; i++) {
		if (job->directions[i].plus)
			texts[n++] = job->directions[i].plus;
		if (job->directions[i].minus)
			texts[n++] = job->directions[i].minus;
	}
	if (job->source_prompt)
		texts[n++] = job->source_prompt;
	if (r >= 0)
		r = sde_words_find(&adapters->words, run->model, &adapters->roots, texts, n,
				   run->error);
	return r >= 0 && ip_control ? make_image_tokens(run, ip_control) : r;
}

int sde_job_adapt(struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	struct sde_job_adapters *adapters = calloc(1, sizeof(*adapters));
	struct lora_list list = {.n = 0};
	struct sde_ip_use ip = {0};
	int r;

	if (!adapters)
		return sde_error_set(run->error, -ENOMEM, "no memory for adapters");
	run->adapters = adapters;
	adapters->roots = (struct sde_adapter_roots){job->adapter_roots, job->n_adapter_roots};
	r = sde_prompt_tags(job->prompt, &adapters->prompt, &adapters->tags, &adapters->n_tags,
			    run->error);
	if (r >= 0)
		r = set_up(run, &list, &ip);
	for (size_t i = 0; i < list.n; i++)
		free(list.paths[i]);
	free((char *)ip.path);
	free((char *)ip.encoder);
	return r;
}

const char *sde_job_prompt_text(const struct sde_job_run *run)
{
	return run->adapters->prompt;
}

const struct sde_words *sde_job_words(const struct sde_job_run *run)
{
	return &run->adapters->words;
}

int sde_job_guides(struct sde_job_run *run, const struct sde_rect *context, int width, int height,
		   struct sde_guides_options *ret_options)
{
	struct sde_job_adapters *adapters = run->adapters;
	const struct sde_ip_adapter *ip = sde_model_ip_adapter(run->model);
	const int f = sde_model_factor(run->model);
	const int w = width / f * SDE_CONTROLNET_FACTOR, h = height / f * SDE_CONTROLNET_FACTOR;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < adapters->n_guides; i++) {
		const char *kind = adapters->sources[i]->kind;
		const enum sde_preprocess how = strcmp(kind, "canny") == 0 ? SDE_PREPROCESS_CANNY
						: strcmp(kind, "scribble") == 0
							? SDE_PREPROCESS_SCRIBBLE
							: SDE_PREPROCESS_NONE;

		free(adapters->pictures[i]);
		adapters->pictures[i] = malloc(3 * (size_t)w * (size_t)h * sizeof(float));
		if (!adapters->pictures[i])
			return sde_error_set(run->error, -ENOMEM,
					     "no memory for a guiding picture");
		r = sde_preprocess(adapters->sources[i]->image, context, how, w, h,
				   adapters->pictures[i], run->error);
		adapters->guides[i].picture = adapters->pictures[i];
	}
	*ret_options = (struct sde_guides_options){
		.guides = adapters->guides,
		.count = adapters->n_guides,
		.guess = run->job->guess_mode,
		.image_tokens = adapters->image_tokens,
		.n_image_tokens = ip ? ip->tokens : 0,
	};
	return r;
}

void sde_job_adapters_clear(struct sde_job_run *run)
{
	struct sde_job_adapters *adapters = run->adapters;

	sde_model_adapt(run->model, NULL, 0, NULL, NULL);
	if (!adapters)
		return;
	sde_words_clear(&adapters->words);
	for (size_t i = 0; i < SDE_GUIDES_MAX; i++)
		free(adapters->pictures[i]);
	free(adapters->image_tokens);
	free(adapters->prompt);
	free(adapters->tags);
	free(adapters);
	run->adapters = NULL;
}
