/*
 * Pictures between pictures, and latent arithmetic: of each picture of a job, which prompt, picture and seed are its own, and what
 * is added to them. A sequence's picture between two waypoints is the sum of both, as is a - b + c: so one list of weighted terms
 * says both. At a waypoint nothing is added and the job is the plain one of that prompt, picture and seed.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/job-private.h"
#include "daemon/engine/model.h"
#include "daemon/engine/pixels/convert.h"

#define WEIGHT_MAX 10.0

int sde_job_count(const struct sde_job *job)
{
	return job->n_positions > 0 ? (int)job->n_positions : job->count;
}

static int check_image(const struct sde_job_run *run, const char *list, size_t i,
		       const struct sde_image *image)
{
	const struct sde_image *own = run->job->image;

	if (!image)
		return 0;
	if (run->job->kind != SDE_IMG2IMG || !own)
		return sde_error_set(run->error, -EINVAL,
				     "%s.%zu: only img2img jobs take pictures there", list, i);
	if (sde_model_fills(run->model))
		return sde_error_set(run->error, -EINVAL,
				     "%s.%zu: this model fills in masked pictures and mixes none",
				     list, i);
	if (image->width != own->width || image->height != own->height)
		return sde_error_set(
			run->error, -EINVAL,
			"%s.%zu: its picture is %u x %u, the job's image %u x %u; they "
			"must be of one size",
			list, i, image->width, image->height, own->width, own->height);
	return 0;
}

static int check_positions(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;

	if (job->n_positions > SDE_POSITIONS_MAX || job->n_waypoints > SDE_WAYPOINTS_MAX)
		return sde_error_set(run->error, -EINVAL,
				     "at most %d positions and %d waypoints, not %zu and %zu",
				     SDE_POSITIONS_MAX, SDE_WAYPOINTS_MAX, job->n_positions,
				     job->n_waypoints);
	if ((job->n_positions > 0) != (job->n_waypoints > 0) ||
	    (job->n_positions > 0 && job->count != 1))
		return sde_error_set(run->error, -EINVAL,
				     "a sequence needs waypoints and positions, and no count");
	if (job->n_positions > 0 && job->kind == SDE_IMG2IMG && job->strength <= 0)
		return sde_error_set(run->error, -EINVAL,
				     "strength must be above 0 in a sequence: it paints pictures "
				     "between pictures");
	for (size_t i = 0; i < job->n_positions; i++)
		if (!(job->positions[i] >= 0 && job->positions[i] <= (double)job->n_waypoints))
			return sde_error_set(run->error, -EINVAL,
					     "positions.%zu must be 0 to %zu, not %g", i,
					     job->n_waypoints, job->positions[i]);
	return 0;
}

int sde_job_sequence_check(const struct sde_job_run *run)
{
	const struct sde_job *job = run->job;
	int r;

	if ((job->n_positions > 0 || job->n_directions > 0) && job->kind != SDE_TXT2IMG &&
	    job->kind != SDE_IMG2IMG)
		return sde_error_set(run->error, -EINVAL,
				     "only txt2img and img2img jobs take waypoints and directions");
	r = check_positions(run);
	for (size_t i = 0; r >= 0 && i < job->n_waypoints; i++)
		r = check_image(run, "waypoints", i, job->waypoints[i].image);
	if (r >= 0 && job->n_directions > SDE_DIRECTIONS_MAX)
		return sde_error_set(run->error, -EINVAL, "at most %d directions, not %zu",
				     SDE_DIRECTIONS_MAX, job->n_directions);
	for (size_t i = 0; r >= 0 && i < job->n_directions; i++) {
		const struct sde_direction *direction = &job->directions[i];

		if (!(fabs(direction->weight) <= WEIGHT_MAX))
			return sde_error_set(run->error, -EINVAL,
					     "directions.%zu: weight must be -%g to %g, not %g", i,
					     WEIGHT_MAX, WEIGHT_MAX, direction->weight);
		r = check_image(run, "directions", i, direction->plus_image);
		if (r >= 0)
			r = check_image(run, "directions", i, direction->minus_image);
	}
	return r;
}

static void add_term(struct sde_place *place, const char *prompt, const struct sde_image *image,
		     double weight)
{
	if ((prompt || image) && weight != 0)
		place->terms[place->n_terms++] = (struct sde_term){prompt, image, weight};
}

static void add_directions(const struct sde_job *job, struct sde_place *place)
{
	for (size_t i = 0; i < job->n_directions; i++) {
		const struct sde_direction *d = &job->directions[i];
		const bool words = d->plus || d->minus;

		add_term(place, words && !d->plus ? "" : d->plus, d->plus_image, d->weight);
		add_term(place, words && !d->minus ? "" : d->minus, d->minus_image, -d->weight);
	}
}

/* What stands at waypoint n, 0 being the job itself. */
static struct sde_waypoint waypoint_at(const struct sde_job *job, size_t n)
{
	struct sde_waypoint at = {.seed = job->seed, .image = job->image};

	for (size_t i = 0; i < n; i++) {
		const struct sde_waypoint *next = &job->waypoints[i];

		if (next->prompt)
			at.prompt = next->prompt;
		if (next->has_seed)
			at.seed = next->seed;
		if (next->image)
			at.image = next->image;
	}
	return at;
}

static void find_place(const struct sde_job *job, double position, struct sde_place *place,
		       uint64_t seeds[2])
{
	const size_t n = (size_t)position;
	const double t = position - (double)n;
	const struct sde_waypoint here = waypoint_at(job, n);
	struct sde_waypoint next = here;

	place->prompt = here.prompt;
	place->image = here.image;
	seeds[0] = here.seed;
	if (t <= 0)
		return;
	next = waypoint_at(job, n + 1);
	seeds[1] = next.seed;
	place->two_seeds = next.seed != here.seed;
	place->share = t;
	if (next.prompt != here.prompt)
		place->prompt_share = 1 - t;
	if (next.image != here.image)
		place->image_share = 1 - t;
	add_term(place, next.prompt != here.prompt ? next.prompt : NULL,
		 next.image != here.image ? next.image : NULL, t);
}

void sde_job_begin(struct sde_job_run *run, int i)
{
	const struct sde_job *job = run->job;
	uint64_t seeds[2] = {job->seed + (uint64_t)i, job->seed};

	run->place = (struct sde_place){.image = job->image, .prompt_share = 1, .image_share = 1};
	if (job->n_positions > 0)
		find_place(job, job->positions[i], &run->place, seeds);
	add_directions(job, &run->place);
	run->other_prompts = job->n_positions > 0;
	sde_rng_seed(&run->rng, job->rng, seeds[0]);
	sde_rng_seed(&run->other, job->rng, seeds[1]);
}

void sde_job_end(struct sde_job_run *run, int i)
{
	const struct sde_job *job = run->job;
	struct sde_layer *layer = &run->result.layers[i];

	/* a picture of a sequence comes again by the job's seed and its position */
	layer->seed = job->seed + (job->n_positions > 0 ? 0 : (uint64_t)i);
	if (run->hooks && run->hooks->picture)
		run->hooks->picture(run->hooks->userdata, i, layer);
}

int sde_job_added(struct sde_job_run *run, const struct sde_inpaint_plan *plan,
		  struct sde_added *ret_added)
{
	const struct sde_place *place = &run->place;
	int r = 0;

	for (int i = 0; r >= 0 && i < place->n_terms; i++) {
		struct sde_inpaint_work work = {0};
		float *picture;

		if (!place->terms[i].image)
			continue;
		r = sde_inpaint_prepare(plan, place->terms[i].image, &work, run->error);
		if (r < 0)
			return r;
		picture = malloc((size_t)work.width * work.height * 3 * sizeof(*picture));
		if (picture)
			sdk_nhwc_to_nchw(work.image, picture, 1, (int)work.height, (int)work.width,
					 3);
		else
			r = sde_error_set(run->error, -ENOMEM, "no memory for a picture");
		sde_inpaint_work_clear(&work);
		ret_added->pictures[ret_added->n] = picture;
		ret_added->weights[ret_added->n++] = place->terms[i].weight;
	}
	return r;
}

void sde_job_added_clear(struct sde_added *added)
{
	for (int i = 0; i < added->n; i++)
		free(added->pictures[i]);
	*added = (struct sde_added){0};
}
