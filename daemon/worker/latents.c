/*
 * What a request says of latent space: waypoints and positions of a sequence, directions, inversion. Its pictures are mapped, not
 * copied; what does not fit the arrays was refused by the schema.
 */
#include "daemon/worker/worker.h"

static int map_image(struct sdd_worker_latents *latents, const struct sdp_record *item, int index,
		     const char *what, const struct sde_image **ret_image,
		     struct sdp_error *ret_error)
{
	const struct sdp_pixels *pixels = sdp_record_pixels(item, index);
	const size_t i = latents->n_images;
	int r;

	if (!pixels)
		return 0;
	latents->n_images++; /* also of a failure: what it mapped has to be cleared */
	r = sdd_worker_map_picture(pixels, what, &latents->mappings[i], &latents->images[i],
				   ret_error);
	if (r >= 0)
		*ret_image = &latents->images[i];
	return r;
}

static const char *text_if_given(const struct sdp_record *record, int index)
{
	return sdp_record_given(record, index) ? sdp_record_string(record, index) : NULL;
}

static int fill_waypoints(const struct sdp_record *record, struct sde_job *job,
			  struct sdd_worker_latents *latents, struct sdp_error *ret_error)
{
	const size_t n = sdp_record_count(record, SDP_JOB_PARAMETERS_WAYPOINTS);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n && i < SDE_WAYPOINTS_MAX; i++) {
		const struct sdp_record *item =
			sdp_record_item(record, SDP_JOB_PARAMETERS_WAYPOINTS, i)->record;
		struct sde_waypoint *waypoint = &latents->waypoints[job->n_waypoints++];

		waypoint->prompt = text_if_given(item, SDP_WAYPOINT_PROMPT);
		waypoint->has_seed = sdp_record_given(item, SDP_WAYPOINT_SEED);
		waypoint->seed = sdp_record_uint(item, SDP_WAYPOINT_SEED);
		r = map_image(latents, item, SDP_WAYPOINT_IMAGE, "waypoints", &waypoint->image,
			      ret_error);
	}
	for (size_t i = 0;
	     i < sdp_record_count(record, SDP_JOB_PARAMETERS_POSITIONS) && i < SDE_POSITIONS_MAX;
	     i++)
		latents->positions[job->n_positions++] =
			sdp_record_item(record, SDP_JOB_PARAMETERS_POSITIONS, i)->real;
	job->waypoints = latents->waypoints;
	job->positions = latents->positions;
	return r;
}

static int fill_directions(const struct sdp_record *record, struct sde_job *job,
			   struct sdd_worker_latents *latents, struct sdp_error *ret_error)
{
	const size_t n = sdp_record_count(record, SDP_JOB_PARAMETERS_DIRECTIONS);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n && i < SDE_DIRECTIONS_MAX; i++) {
		const struct sdp_record *item =
			sdp_record_item(record, SDP_JOB_PARAMETERS_DIRECTIONS, i)->record;
		struct sde_direction *direction = &latents->directions[job->n_directions++];

		direction->plus = text_if_given(item, SDP_DIRECTION_PLUS);
		direction->minus = text_if_given(item, SDP_DIRECTION_MINUS);
		direction->weight = sdp_record_double(item, SDP_DIRECTION_WEIGHT);
		r = map_image(latents, item, SDP_DIRECTION_PLUS_IMAGE, "directions",
			      &direction->plus_image, ret_error);
		if (r >= 0)
			r = map_image(latents, item, SDP_DIRECTION_MINUS_IMAGE, "directions",
				      &direction->minus_image, ret_error);
	}
	job->directions = latents->directions;
	return r;
}

int sdd_worker_fill_latents(const struct sdp_record *record, struct sde_job *job,
			    struct sdd_worker_latents *latents, struct sdp_error *ret_error)
{
	int r;

	job->interpolation =
		(enum sde_interpolation)sdp_record_int(record, SDP_JOB_PARAMETERS_INTERPOLATION);
	job->noising = (enum sde_noising)sdp_record_int(record, SDP_JOB_PARAMETERS_NOISING);
	/* an empty one says what a picture shows, too */
	if (job->noising == SDE_NOISING_INVERT)
		job->source_prompt = text_if_given(record, SDP_JOB_PARAMETERS_SOURCE_PROMPT);
	r = fill_waypoints(record, job, latents, ret_error);
	return r < 0 ? r : fill_directions(record, job, latents, ret_error);
}

void sdd_worker_latents_clear(struct sdd_worker_latents *latents)
{
	for (size_t i = 0; i < latents->n_images; i++)
		sdp_mapping_clear(&latents->mappings[i]);
	latents->n_images = 0;
}
