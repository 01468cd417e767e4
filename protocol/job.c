/*
 * The rules of a job that span fields. They stand beside the schema and not in the daemon so that a client library can
 * say them before anything is sent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "protocol/codec.h"

#define STRENGTH_IMG2IMG 0.8
#define STRENGTH_UPSCALE 0.3
#define STRENGTH_OTHERS	 1.0

static void name_kinds(uint8_t mask, char *buffer, size_t size)
{
	buffer[0] = '\0';
	for (unsigned i = 0; i < SDP_JOB_KIND_COUNT; i++)
		if (mask & 1U << i) {
			size_t n = strlen(buffer);

			snprintf(buffer + n, size - n, "%s%s", n ? ", " : "",
				 sdp_enum_job_kind.values[i]);
		}
}

static bool given(const struct sdp_record *record, const char *name)
{
	return sdp_record_given(record, sdp_struct_index(record->type, name, strlen(name)));
}

static int check_inpaint(struct sdp_record *r, struct sdp_error *error)
{
	bool mask = given(r, "mask");

	if (!mask && !sdp_record_given(r, SDP_JOB_PARAMETERS_SELECT))
		return sdp_error_field(error, SDP_CODE_MISSING_FIELD, "select",
				       "inpaint needs what to repaint: select as [x, y, width, "
				       "height], or a mask");
	if (mask && sdp_record_given(r, SDP_JOB_PARAMETERS_SELECT))
		return sdp_error_field(error, SDP_CODE_BAD_REQUEST, "select",
				       "inpaint takes either select or mask, not both");
	return 0;
}

static int check_canvas(const struct sdp_record *r, struct sdp_error *error)
{
	const struct sdp_rect canvas = sdp_record_rect(r, SDP_JOB_PARAMETERS_CANVAS);
	const int at = sdp_struct_index(r->type, "image", strlen("image"));
	const struct sdp_pixels *image = at < 0 ? NULL : sdp_record_pixels(r, at);

	if (!sdp_record_given(r, SDP_JOB_PARAMETERS_CANVAS))
		return 0;
	if (canvas.width == 0 || canvas.height == 0)
		return sdp_error_field(error, SDP_CODE_BAD_VALUE, "canvas",
				       "canvas is [x, y, width, height] with both sides at least "
				       "1, not %d x %d",
				       canvas.width, canvas.height);
	if (image &&
	    (canvas.x > canvas.width - image->width || canvas.y > canvas.height - image->height))
		return sdp_error_field(error, SDP_CODE_BAD_VALUE, "canvas",
				       "an image of %d x %d pixels at %d,%d does not lie on a "
				       "canvas of %d x %d",
				       image->width, image->height, canvas.x, canvas.y,
				       canvas.width, canvas.height);
	return 0;
}

static int check_controls(const struct sdp_record *r, struct sdp_error *error)
{
	for (size_t i = 0; i < sdp_record_count(r, SDP_JOB_PARAMETERS_CONTROLS); i++) {
		const struct sdp_record *control =
			sdp_record_item(r, SDP_JOB_PARAMETERS_CONTROLS, i)->record;
		char field[48];

		snprintf(field, sizeof(field), "controls.%zu.image", i);
		if (!sdp_record_pixels(control, SDP_CONTROL_IMAGE))
			return sdp_error_field(error, SDP_CODE_MISSING_FIELD, field,
					       "%s is missing: a control is a picture", field);
		snprintf(field, sizeof(field), "controls.%zu.end", i);
		if (sdp_record_double(control, SDP_CONTROL_START) >=
		    sdp_record_double(control, SDP_CONTROL_END))
			return sdp_error_field(error, SDP_CODE_BAD_VALUE, field,
					       "%s must lie behind start", field);
	}
	return 0;
}

static int check_regions(const struct sdp_record *r, struct sdp_error *error)
{
	for (size_t i = 0; i < sdp_record_count(r, SDP_JOB_PARAMETERS_REGIONS); i++) {
		const struct sdp_record *region =
			sdp_record_item(r, SDP_JOB_PARAMETERS_REGIONS, i)->record;
		const bool mask = sdp_record_pixels(region, SDP_REGION_MASK) != NULL;
		const bool rect = sdp_record_given(region, SDP_REGION_RECT);
		char field[48];

		snprintf(field, sizeof(field), "regions.%zu.%s", i, mask ? "mask" : "rect");
		if (mask == rect)
			return sdp_error_field(
				error, mask ? SDP_CODE_BAD_REQUEST : SDP_CODE_MISSING_FIELD, field,
				mask ? "%s: a region has a mask or a rect, not both"
				     : "%s is missing: a region needs it, or a mask",
				field);
	}
	return 0;
}

/* Prompts, seeds and pictures on the way, and where on it a picture is wanted. */
static int check_sequence(const struct sdp_record *r, bool pictures, struct sdp_error *error)
{
	const size_t n = sdp_record_count(r, SDP_JOB_PARAMETERS_WAYPOINTS);
	const size_t wanted = sdp_record_count(r, SDP_JOB_PARAMETERS_POSITIONS);
	char field[48];

	if ((n > 0) != (wanted > 0))
		return sdp_error_field(error, SDP_CODE_MISSING_FIELD,
				       n > 0 ? "positions" : "waypoints",
				       "a sequence needs waypoints, where it leads, and positions, "
				       "which pictures of it to make");
	if (wanted > 0 && sdp_record_int(r, SDP_JOB_PARAMETERS_COUNT) != 1)
		return sdp_error_field(error, SDP_CODE_BAD_REQUEST, "count",
				       "a sequence has a picture for each of positions; count must "
				       "be left out");
	for (size_t i = 0; i < wanted; i++) {
		const double at = sdp_record_item(r, SDP_JOB_PARAMETERS_POSITIONS, i)->real;

		snprintf(field, sizeof(field), "positions.%zu", i);
		if (at > (double)n)
			return sdp_error_field(error, SDP_CODE_BAD_VALUE, field,
					       "%s is %g, and the last waypoint lies at %zu", field,
					       at, n);
	}
	for (size_t i = 0; i < n; i++) {
		const struct sdp_record *waypoint =
			sdp_record_item(r, SDP_JOB_PARAMETERS_WAYPOINTS, i)->record;
		const bool image = sdp_record_pixels(waypoint, SDP_WAYPOINT_IMAGE) != NULL;

		snprintf(field, sizeof(field), "waypoints.%zu.%s", i, image ? "image" : "prompt");
		if (image && !pictures)
			return sdp_error_field(error, SDP_CODE_BAD_REQUEST, field,
					       "%s: only img2img jobs lead to pictures", field);
		if (!image && !sdp_record_given(waypoint, SDP_WAYPOINT_PROMPT) &&
		    !sdp_record_given(waypoint, SDP_WAYPOINT_SEED))
			return sdp_error_field(error, SDP_CODE_MISSING_FIELD, field,
					       "%s is missing: a waypoint needs it, a seed or an "
					       "image",
					       field);
	}
	return 0;
}

static int check_directions(const struct sdp_record *r, bool pictures, struct sdp_error *error)
{
	for (size_t i = 0; i < sdp_record_count(r, SDP_JOB_PARAMETERS_DIRECTIONS); i++) {
		const struct sdp_record *direction =
			sdp_record_item(r, SDP_JOB_PARAMETERS_DIRECTIONS, i)->record;
		const bool plus = sdp_record_pixels(direction, SDP_DIRECTION_PLUS_IMAGE) != NULL;
		const bool minus = sdp_record_pixels(direction, SDP_DIRECTION_MINUS_IMAGE) != NULL;
		char field[48];

		snprintf(field, sizeof(field), "directions.%zu.%s", i,
			 plus	 ? "plus_image"
			 : minus ? "minus_image"
				 : "plus");
		if ((plus || minus) && !pictures)
			return sdp_error_field(error, SDP_CODE_BAD_REQUEST, field,
					       "%s: only img2img jobs add pictures", field);
		if (!plus && !minus && !sdp_record_given(direction, SDP_DIRECTION_PLUS) &&
		    !sdp_record_given(direction, SDP_DIRECTION_MINUS))
			return sdp_error_field(error, SDP_CODE_MISSING_FIELD, field,
					       "%s is missing: a direction needs plus or minus, or "
					       "their pictures",
					       field);
	}
	return 0;
}

static bool inverts(const struct sdp_record *r)
{
	return sdp_record_int(r, SDP_JOB_PARAMETERS_NOISING) == SDP_NOISING_INVERT;
}

static int check_noising(const struct sdp_record *r, bool pictures, struct sdp_error *error)
{
	if (pictures && inverts(r) != sdp_record_given(r, SDP_JOB_PARAMETERS_SOURCE_PROMPT))
		return sdp_error_field(
			error, inverts(r) ? SDP_CODE_MISSING_FIELD : SDP_CODE_BAD_REQUEST,
			"source_prompt",
			inverts(r) ? "noising invert needs source_prompt: what the source shows"
				   : "source_prompt is for noising invert");
	return 0;
}

static int check_outpaint(struct sdp_record *r, struct sdp_error *error)
{
	if (sdp_record_int(r, SDP_JOB_PARAMETERS_LEFT) == 0 &&
	    sdp_record_int(r, SDP_JOB_PARAMETERS_RIGHT) == 0 &&
	    sdp_record_int(r, SDP_JOB_PARAMETERS_TOP) == 0 &&
	    sdp_record_int(r, SDP_JOB_PARAMETERS_BOTTOM) == 0)
		return sdp_error_field(
			error, SDP_CODE_MISSING_FIELD, "left",
			"outpaint needs a side to grow: left, right, top or bottom above 0");
	return 0;
}

int sdp_job_check(struct sdp_record *r, struct sdp_error *error)
{
	int kind = sdp_record_int(r, SDP_JOB_PARAMETERS_KIND);
	char kinds[64];
	int k = 0;

	for (size_t i = 0; i < r->type->n_fields; i++) {
		const struct sdp_field *f = &r->type->fields[i];

		if (r->values[i].given && f->only && !(f->only & 1U << kind)) {
			name_kinds(f->only, kinds, sizeof(kinds));
			return sdp_error_field(error, SDP_CODE_BAD_REQUEST, f->name,
					       "%s is no field of %s jobs, only of: %s", f->name,
					       sdp_enum_job_kind.values[kind], kinds);
		}
		if (!r->values[i].given && f->needs & 1U << kind)
			return sdp_error_field(error, SDP_CODE_MISSING_FIELD, f->name,
					       "%s jobs need %s", sdp_enum_job_kind.values[kind],
					       f->name);
	}
	if (kind == SDP_JOB_KIND_INPAINT)
		k = check_inpaint(r, error);
	else if (kind == SDP_JOB_KIND_OUTPAINT)
		k = check_outpaint(r, error);
	if (k >= 0)
		k = check_canvas(r, error);
	if (k >= 0)
		k = check_controls(r, error);
	if (k >= 0)
		k = check_regions(r, error);
	if (k >= 0)
		k = check_sequence(r, kind == SDP_JOB_KIND_IMG2IMG, error);
	if (k >= 0)
		k = check_directions(r, kind == SDP_JOB_KIND_IMG2IMG, error);
	if (k >= 0)
		k = check_noising(r, kind == SDP_JOB_KIND_IMG2IMG, error);
	if (k < 0)
		return k;
	if (kind != SDP_JOB_KIND_TXT2IMG && !sdp_record_given(r, SDP_JOB_PARAMETERS_STRENGTH))
		sdp_record_set_double(r, SDP_JOB_PARAMETERS_STRENGTH,
				      inverts(r)		     ? STRENGTH_OTHERS
				      : kind == SDP_JOB_KIND_IMG2IMG ? STRENGTH_IMG2IMG
				      : kind == SDP_JOB_KIND_UPSCALE ? STRENGTH_UPSCALE
								     : STRENGTH_OTHERS);
	return 0;
}
