/*
 * From choices to a request; see request.h.
 */
#include "plugins/common/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/style.h"
#include "plugins/common/text.h"

#define TXT2IMG_SIDE_MAX                                                                           \
	1024 /* a larger canvas is painted through inpaint, which works in two passes */
#define OUTPAINT_STEP 128
#define SIDE_MAX      16384

/* Fields that only some kinds carry; the others go with every kind. */
static bool kind_takes(const char *kind, const char *field)
{
	static const char *const repaint[] = {"feather", "grow", "padding", "color_match"};
	static const char *const sides[] = {"left", "right", "top", "bottom"};
	const bool outpaint = !strcmp(kind, "outpaint");

	if (!strcmp(field, "scale"))
		return !strcmp(kind, "upscale");

	for (size_t i = 0; i < sizeof(repaint) / sizeof(repaint[0]); i++)
		if (!strcmp(field, repaint[i]))
			return outpaint || !strcmp(kind, "inpaint");
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
		if (!strcmp(field, sides[i]))
			return false; /* the plan has them */
	return strcmp(field, "strength") != 0 || strcmp(kind, "txt2img") != 0;
}

static int outside(int beyond)
{
	return beyond > 0 ? (beyond + OUTPAINT_STEP - 1) / OUTPAINT_STEP * OUTPAINT_STEP : 0;
}

static int side(const struct sdh_settings *settings, const char *name)
{
	return atoi(sdh_settings_get(settings, name));
}

/* Amounts as given; else what the selection reaches beyond the canvas, in steps; else one step on each side. */
static int plan_outpaint(struct sdh_plan *plan, const struct sdh_settings *settings,
			 const struct sdh_document *document, sdc_error *error)
{
	const struct sdh_rect s = document->selection;

	*plan = (struct sdh_plan){.kind = "outpaint",
				  .sends_canvas = true,
				  .left = side(settings, "left"),
				  .right = side(settings, "right"),
				  .top = side(settings, "top"),
				  .bottom = side(settings, "bottom")};
	if (plan->left + plan->right + plan->top + plan->bottom == 0 && s.width > 0) {
		plan->left = outside(-s.x);
		plan->top = outside(-s.y);
		plan->right = outside(s.x + s.width - document->width);
		plan->bottom = outside(s.y + s.height - document->height);
	}
	if (plan->left + plan->right + plan->top + plan->bottom == 0)
		plan->left = plan->right = plan->top = plan->bottom = OUTPAINT_STEP;
	if (plan->left > SIDE_MAX || plan->right > SIDE_MAX || plan->top > SIDE_MAX ||
	    plan->bottom > SIDE_MAX)
		return sdh_fail(error, SDC_E_BAD_REQUEST,
				_("A side may grow by at most %d pixels."), SIDE_MAX);
	return 0;
}

static bool touches_canvas(const struct sdh_document *document)
{
	const struct sdh_rect s = document->selection;

	return s.x < document->width && s.y < document->height && s.x + s.width > 0 &&
	       s.y + s.height > 0;
}

int sdh_plan_init(struct sdh_plan *ret_plan, const struct sdh_settings *settings,
		  const struct sdh_document *document, sdc_error *error)
{
	const enum sdh_action action = sdh_settings_action(settings);
	const bool selected = document->selection.width > 0;
	struct sdh_plan plan = {.kind = "inpaint", .sends_canvas = true, .sends_selection = true};

	if (action == SDH_OUTPAINT)
		return plan_outpaint(ret_plan, settings, document, error);
	if (action == SDH_UPSCALE) {
		*ret_plan =
			(struct sdh_plan){.kind = "upscale", .sends_canvas = true, .scales = true};
		return 0;
	}
	if (!selected && sdh_actions[action].needs_selection)
		return sdh_fail(error, SDC_E_BAD_REQUEST,
				_("Nothing is selected: select the part to repaint first."));
	if (selected && !touches_canvas(document))
		return sdh_fail(error, SDC_E_BAD_REQUEST,
				_("The selection lies outside the canvas: select a part of the "
				  "picture, or use Outpaint."));
	plan.inverted = action == SDH_BACKGROUND;
	if (!selected) {
		plan.sends_selection = false;
		if (action == SDH_REFINE) {
			plan.kind = "img2img";
		} else if (document->width <= TXT2IMG_SIDE_MAX &&
			   document->height <= TXT2IMG_SIDE_MAX) {
			plan.kind = "txt2img";
			plan.sends_canvas = false;
			plan.clips = true;
		} else {
			plan.everything = true;
		}
	}
	*ret_plan = plan;
	return 0;
}

struct sdh_rect sdh_plan_canvas(const struct sdh_plan *plan, const struct sdh_document *document)
{
	return (struct sdh_rect){-plan->left, -plan->top,
				 document->width + plan->left + plan->right,
				 document->height + plan->top + plan->bottom};
}

int sdh_canvas_after(const struct sdh_host *host, const struct sdh_settings *settings,
		     struct sdh_rect *ret_canvas, sdc_error *error)
{
	struct sdh_document document = {0};
	struct sdh_plan plan;
	int r;

	r = host->describe(host->userdata, &document, error);
	if (r >= 0)
		r = sdh_plan_init(&plan, settings, &document, error);
	if (r >= 0)
		*ret_canvas = sdh_plan_canvas(&plan, &document);
	return r;
}

static int set_context(sdc_request *request, const struct sdh_settings *settings,
		       const struct sdh_document *document, const char *usual, sdc_error *error)
{
	const char *context = sdh_settings_get(settings, "context");
	const struct sdh_rect layer = document->layer;

	if (!strcmp(context, "layer"))
		return sdc_request_set_rect(request, "context", layer.x, layer.y, layer.width,
					    layer.height, error);
	return sdc_request_set_text(request, "context", *context ? context : usual, error);
}

/* What the action says of an inpaint job beyond the artist's own choices. */
static int set_action(sdc_request *request, const struct sdh_settings *settings,
		      const struct sdh_document *document, sdc_error *error)
{
	static const struct {
		const char *fill, *context;
	} of[SDH_N_ACTIONS] = {
		[SDH_GENERATE] = {"neutral", "selection"},
		[SDH_REFINE] = {"original", "auto"},
		[SDH_FILL] = {"blur", "auto"},
		[SDH_EXPAND] = {"edge", "auto"},
		[SDH_ADD] = {"neutral", "auto"},
		[SDH_REMOVE] = {"blur", "auto"},
		[SDH_BACKGROUND] = {"blur", "image"},
	};
	const enum sdh_action action = sdh_settings_action(settings);
	int r;

	r = sdc_request_set_string(request, "fill", of[action].fill, error);
	if (r >= 0)
		r = set_context(request, settings, document, of[action].context, error);
	if (r >= 0 && action == SDH_GENERATE) {
		r = sdc_request_set_double(request, "strength", 1.0, error);
		if (r >= 0 && !*sdh_settings_get(settings, "color-match"))
			r = sdc_request_set_bool(request, "color_match", 0, error);
	}
	if (r >= 0 && action == SDH_REFINE && !*sdh_settings_get(settings, "strength"))
		r = sdc_request_set_double(request, "strength", 0.6, error);
	return r;
}

static int set_fields(sdc_request *request, const struct sdh_plan *plan,
		      const struct sdh_settings *settings, sdc_error *error)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && sdh_settings_name(i); i++) {
		const char *field = sdh_settings_field(i);
		const char *value = sdh_settings_get(settings, sdh_settings_name(i));

		if (field && *value && kind_takes(plan->kind, field))
			r = sdc_request_set_text(request, field, value, error);
	}
	return r;
}

static int set_size(sdc_request *request, const struct sdh_document *document, sdc_error *error)
{
	const int r = sdc_request_set_int(request, "width", (document->width + 7) / 8 * 8, error);

	return r < 0 ? r
		     : sdc_request_set_int(request, "height", (document->height + 7) / 8 * 8,
					   error);
}

static int set_sides(sdc_request *request, const struct sdh_plan *plan, sdc_error *error)
{
	int r = sdc_request_set_int(request, "left", plan->left, error);

	if (r >= 0)
		r = sdc_request_set_int(request, "right", plan->right, error);
	if (r >= 0)
		r = sdc_request_set_int(request, "top", plan->top, error);
	return r < 0 ? r : sdc_request_set_int(request, "bottom", plan->bottom, error);
}

static int fill(sdc_request *request, const struct sdh_plan *plan,
		const struct sdh_settings *settings, const struct sdh_document *document,
		sdc_error *error)
{
	int r;

	r = set_fields(request, plan, settings, error);
	if (r >= 0)
		r = sdh_style_apply(request, settings, error);
	if (r >= 0 && plan->clips)
		r = set_size(request, document, error);
	if (r >= 0 && !strcmp(plan->kind, "outpaint"))
		r = set_sides(request, plan, error);
	if (r >= 0 && !strcmp(plan->kind, "inpaint"))
		r = set_action(request, settings, document, error);
	if (r >= 0 && !strcmp(plan->kind, "inpaint") && sdh_settings_flag(settings, "exact"))
		r = sdc_request_set_double(request, "feather", 0, error);
	return r;
}

sdc_request *sdh_request_new(const struct sdh_plan *plan, const struct sdh_settings *settings,
			     const struct sdh_document *document, sdc_error *error)
{
	sdc_request *request = sdc_job_request_new(plan->kind, error);
	int r;

	if (!request)
		return NULL;
	r = fill(request, plan, settings, document, error);
	if (r >= 0)
		r = sdc_request_set_int(request, "preview", 1, error);
	return r < 0 ? sdc_request_free(request) : request;
}

sdc_request *sdh_request_plan(const struct sdh_plan *plan, const struct sdh_settings *settings,
			      const struct sdh_document *document, struct sdh_rect selected,
			      sdc_error *error)
{
	sdc_request *request = sdc_request_new("job.plan", error);
	int r;

	if (!request)
		return NULL;
	r = sdc_request_set_string(request, "kind", plan->kind, error);
	if (r >= 0)
		r = fill(request, plan, settings, document, error);
	if (r >= 0)
		r = sdc_request_set_rect(request, "canvas", 0, 0, document->width, document->height,
					 error);
	if (r >= 0 && !strcmp(plan->kind, "inpaint"))
		r = sdc_request_set_rect(request, "select", selected.x, selected.y, selected.width,
					 selected.height, error);
	return r < 0 ? sdc_request_free(request) : request;
}
