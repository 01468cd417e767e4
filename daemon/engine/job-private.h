/*
 * One job while it runs: what sde_job_run (job.c: checks, prompts, kinds) and the pictures' code (job-picture.c: one
 * sampling run, geometry around it) share.
 */
#pragma once

#include "daemon/engine/adapters/guides.h"
#include "daemon/engine/adapters/words.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/geometry/outpaint.h"
#include "daemon/engine/resume.h"
#include "daemon/engine/rng.h"
#include "daemon/engine/scheduler.h"

struct sde_sd_request;
struct sde_sd_result;
struct sde_text;

#define SDE_JOB_PIXELS_MOST 2.0 /* of the native size's: more, and what is painted repeats itself */

/* Next waypoint and both sides of the directions; regions' prompts are not among them. */
#define SDE_TERMS_MAX (1 + 2 * SDE_DIRECTIONS_MAX)

/* What is added to the prompt's embedding or to the picture's latents. */
struct sde_term {
	const char *prompt;	       /* or NULL */
	const struct sde_image *image; /* or NULL */
	double weight;
};

/* What the picture being made is made of: its own prompt, picture and seed, and what is added to them. Borrowed. */
struct sde_place {
	const char *prompt; /* NULL: the job's */
	const struct sde_image *image;
	double prompt_share, image_share; /* of its own in the sums */
	struct sde_term terms[SDE_TERMS_MAX];
	int n_terms;
	bool two_seeds;
	double share; /* of the second */
};

/* Pictures ready for the autoencoder, (3, h, w) each. */
struct sde_added {
	float *pictures[SDE_TERMS_MAX]; /* owned */
	double weights[SDE_TERMS_MAX];
	int n;
};

struct sde_job_run {
	struct sde_model *model;
	const struct sde_job *job;
	const struct sde_hooks *hooks;
	struct sde_error *error;
	struct sde_scheduler_config scheduler;
	int steps; /* effective */
	double guidance_scale;
	float *prompt_embeds; /* [negative,] positive */
	float *pooled;	      /* the same for the pooled text of SDXL */
	int tokens;	      /* per row, specials included */
	int *variants;	      /* of n_variants calls: which block of rows it reads */
	int n_variants;
	struct sde_place place;	   /* of the picture being made */
	bool other_prompts;	   /* than those that are encoded */
	struct sde_rng rng;	   /* of the picture being made */
	struct sde_rng other;	   /* of the seed its sequence goes to */
	int runs_done, runs_total; /* sampling runs, for progress */
	struct sde_resume
		resume; /* what is known of the runs: of an earlier process, then of this */
	int runs_known; /* ended in an earlier process */
	bool stepping;	/* the run has told of its beginning */
	int latent_width, latent_height; /* of the sampling run */
	int tile; /* of the sampling run: > 0: in tiles of this many pixels a side */
	bool told_of_tiles, told_of_tiling;
	double canvas_width, canvas_height; /* what regions are given on, pixels */
	double canvas_scale;		    /* of the picture that a run shows a part of, to that */
	bool whole_size; /* the picture in work is beyond the model's range: auto means tiles */
	enum sde_stage stage;
	uint64_t stage_begin_us;
	struct sde_job_adapters *adapters;   /* owned; job-adapters.c */
	struct sde_job_attention *attention; /* owned; job-attention.c; NULL: none is watched */
	struct sde_result result;	     /* being filled */
};

/* It repaints pictures as a whole, none in part. */
static inline bool sde_job_is_whole(const struct sde_job *job)
{
	return job->kind != SDE_INPAINT && job->kind != SDE_OUTPAINT;
}

/* Close the running stage's time and begin the next. */
void sde_job_stage(struct sde_job_run *run, enum sde_stage stage);

/* Set the model up with the job's adapters; sde_job_adapters_clear sets it back, also after a failure. */
int sde_job_adapt(struct sde_job_run *run);
void sde_job_adapters_clear(struct sde_job_run *run);
/* The prompt without its tags, and the learnt words of both prompts; borrowed. */
const char *sde_job_prompt_text(const struct sde_job_run *run);
const struct sde_words *sde_job_words(const struct sde_job_run *run);
/* Guiding pictures for a run at width x height that shows this part of the canvas (NULL: all of them). Borrowed until the next. */
int sde_job_guides(struct sde_job_run *run, const struct sde_rect *context, int width, int height,
		   struct sde_guides_options *ret_options);

/* Fill prompt_embeds, pooled, tokens and the result's counts. */
int sde_job_encode_prompts(struct sde_job_run *run);
/* Again for a run of so many calls, where the prompts change with them. */
int sde_job_schedule_prompts(struct sde_job_run *run, int calls);
/* job-sequence.c: numbers of waypoints, positions and directions. */
int sde_job_sequence_check(const struct sde_job_run *run);
/* Pictures of a job. */
int sde_job_count(const struct sde_job *job);
/* Begin with picture i: its place and its generators. */
void sde_job_begin(struct sde_job_run *run, int i);
/* Picture i stands in the result. */
void sde_job_end(struct sde_job_run *run, int i);
/* The pictures of the place's terms as a plan shows them; sde_job_added_clear, also after a failure. */
int sde_job_added(struct sde_job_run *run, const struct sde_inpaint_plan *plan,
		  struct sde_added *ret_added);
void sde_job_added_clear(struct sde_added *added);
/* job-picture.c: the sampling loop, as far as it has not been run already. */
int sde_job_run_loop(struct sde_job_run *run, struct sde_sd_request *request,
		     struct sde_sd_result *ret_result);
/* job-invert.c: its numbers; and the latents that request, of img2img, begins with: they are put into it, in place of its picture. */
int sde_job_invert_check(const struct sde_job_run *run);
int sde_job_invert(struct sde_job_run *run, struct sde_sd_request *request,
		   struct sde_sd_result *ret_inverted);
static inline bool sde_job_inverts(const struct sde_job *job)
{
	return job->kind == SDE_IMG2IMG && job->noising == SDE_NOISING_INVERT;
}
/* job-prompt.c: the source prompt alone, *ret_tokens rows; owned by the caller, also after a failure. */
int sde_job_embed_source(struct sde_job_run *run, float **ret_embeds, float **ret_pooled,
			 int *ret_tokens);
/* job-regions.c: weights for the latents of a run that shows this part (NULL: all): (1 + n_regions, h, w), summing to 1. */
int sde_job_regions_check(const struct sde_job_run *run);
int sde_job_regions(struct sde_job_run *run, const struct sde_rect *context, int h, int w,
		    float *ret_weights);
/*
 * job-attention.c: edits and explanations. The check names the field; prompts: the words of both as they were cut (source: only of
 * edits), before they are encoded; words that are to have no attention are taken out of the first.
 */
static inline bool sde_job_is_edit(const struct sde_job *job)
{
	return job->kind == SDE_TXT2IMG && (job->source_prompt || job->n_word_weights > 0);
}
const char *sde_job_source_text(const struct sde_job_run *run);
int sde_job_attention_check(const struct sde_job_run *run);
int sde_job_attention_prompts(struct sde_job_run *run, const char *text, struct sde_text *cut,
			      const char *source_text, const struct sde_text *source);
/* Turn a request for one picture, prompts and all, into one that is watched: with edits, of the source and its twin, in this order. */
int sde_job_attention_begin(struct sde_job_run *run, struct sde_sd_request *request);
/* Behind the run: the maps into the result. */
int sde_job_attention_end(struct sde_job_run *run);
void sde_job_attention_clear(struct sde_job_run *run);
/* job-warnings.c: note what is off the model's range, and what of a prompt is not read. */
void sde_job_warn(struct sde_job_run *run);
void sde_job_warn_of_tiling(struct sde_job_run *run, const char *why);
void sde_job_warn_of_tiles(struct sde_job_run *run, int width, int height);
void sde_job_warn_of_prompt(struct sde_job_run *run, const char *name, const struct sde_text *text);
/* What tiles of so many latents a side share with the next. */
int sde_job_tile_overlap(int tile);
/* txt2img: a new layer. */
int sde_job_text_picture(struct sde_job_run *run, struct sde_layer *ret_layer);
/* A planned part of canvas repainted: a new layer. */
int sde_job_repaint(struct sde_job_run *run, const struct sde_inpaint_plan *plan,
		    const struct sde_image *canvas, struct sde_layer *ret_layer);
/* job-upscale.c: one upscaled picture; a second pass over one made from text, in its place. The checks name the field. */
int sde_job_upscale_check(const struct sde_job_run *run);
int sde_job_upscale(struct sde_job_run *run, struct sde_layer *ret_layer);
int sde_job_hires_check(const struct sde_job_run *run);
int sde_job_hires(struct sde_job_run *run, struct sde_layer *layer);
/* Whether that takes a sampling run. */
static inline bool sde_job_is_hires(const struct sde_job *job)
{
	return job->kind == SDE_TXT2IMG && job->hires_scale > 1 && job->hires_strength > 0;
}
/* The work resolutions of tiles: every size from the model's least on. */
struct sde_model_range sde_job_any_range(const struct sde_model *model);

/* job-plan.c: a request's numbers for the geometry engine. */
struct sde_inpaint_options sde_job_options(const struct sde_model *model,
					   const struct sde_job *job);
struct sde_model_range sde_job_range(const struct sde_model *model);
/* img2img and inpaint: a plan for the job's pictures, counted from their corner. */
int sde_job_plan_repaint(const struct sde_model *model, const struct sde_job *job,
			 struct sde_inpaint_plan *ret_plan, struct sde_error *error);
/* Outpaint: how the canvas grows, and a view of what is needed of the job's picture; sde_outpaint_clear the first. */
int sde_job_plan_outpaint(const struct sde_model *model, const struct sde_job *job,
			  struct sde_outpaint *ret_outpaint, struct sde_image *ret_source,
			  struct sde_error *error);
